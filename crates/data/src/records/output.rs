//! Files of results: one, or shards that an interrupted job goes on with.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use cloze_spec::folder::{sync_folder, write_atomically};
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::table::{Column, Field, FileFormat, Table};
use crate::Error;

const MANIFEST: &str = "manifest.json";
const VERSION: u32 = 1;

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file, under its name only when it is whole.
    File {
        /// The file.
        path: PathBuf,
        /// How it is written.
        format: FileFormat,
    },
    /// A folder of `part-00000.parquet` and so on, with a manifest.
    Shards {
        /// The folder.
        folder: PathBuf,
        /// How the shards are written.
        format: FileFormat,
        /// Rows of each shard but the last. A shard ends between records: where a record has several rows, with the one that
        /// fills it.
        rows: u64,
    },
}

impl Target {
    /// Rows of a shard where nothing else is said.
    pub const SHARD_ROWS: u64 = 100_000;

    /// What a path means: shards if it ends in a slash, is a folder, or `shard_rows` are given; else a file. Without a
    /// `format`, files have that of their extension, and shards are Parquet.
    ///
    /// # Errors
    /// An extension that says no format; shards without rows.
    pub fn new(
        path: &Path,
        format: Option<FileFormat>,
        shard_rows: Option<u64>,
    ) -> Result<Self, Error> {
        let slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if shard_rows.is_some() || slash || path.is_dir() {
            let rows = shard_rows.unwrap_or(Self::SHARD_ROWS);
            if rows == 0 {
                return Err(refused(path, "expected at least 1 row a shard, found 0"));
            }
            return Ok(Self::Shards {
                folder: path.to_owned(),
                format: format.unwrap_or(FileFormat::Parquet),
                rows,
            });
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        let format = match (format, extension) {
            (Some(format), _) => format,
            (None, Some("parquet")) => FileFormat::Parquet,
            (None, Some("jsonl" | "ndjson")) => FileFormat::Jsonl,
            (None, Some("csv")) => FileFormat::Csv,
            (None, Some("npy")) => FileFormat::Npy,
            (None, _) => {
                let message = "expected a name that ends in .parquet, .csv, .jsonl or .npy, or in / for a folder of shards; rename it or say the format";
                return Err(refused(path, message));
            }
        };
        Ok(Self::File {
            path: path.to_owned(),
            format,
        })
    }
}

/// What a job computes, so that another one does not go on with its shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The input's path.
    input: PathBuf,
    /// Its length; none for a pipe.
    input_bytes: Option<u64>,
    /// When it was changed, in nanoseconds since 1970.
    input_modified_nanos: Option<u64>,
    /// Which of its records are read, and how.
    reading: String,
    /// Everything else that results depend on.
    settings: String,
}

impl Job {
    /// The job that reads `input`; `settings` tells of everything else that results depend on, such as the model and
    /// its revision, prompts, and the encoding.
    ///
    /// # Errors
    /// An input that cannot be looked at.
    pub fn new(input: &Input, settings: impl Into<String>) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: input.path.clone(),
            source,
        };
        let metadata = if input.path.as_os_str() == "-" {
            None
        } else {
            Some(fs::metadata(&input.path).map_err(io)?)
        };
        // Named pipes have neither a length nor anything to read twice.
        let metadata = metadata.filter(fs::Metadata::is_file);
        let modified = metadata.as_ref().and_then(|metadata| {
            let time = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(time.as_nanos() as u64)
        });
        Ok(Self {
            input: input.path.clone(),
            input_bytes: metadata.map(|metadata| metadata.len()),
            input_modified_nanos: modified,
            reading: format!(
                "columns {:?}, id {:?}, {:?}, bad rows: {:?}",
                input.columns, input.id, input.format, input.bad_rows
            ),
            settings: settings.into(),
        })
    }

    /// What differs between two jobs, in words.
    fn difference(&self, other: &Self) -> Option<String> {
        let differ = |what: &str, ours: &str, theirs: &str| {
            (ours != theirs).then(|| format!("expected the {what} {ours}, found {theirs}"))
        };
        let content = |job: &Self| {
            let shown = |number: Option<u64>| number.map_or("unknown".into(), |n| n.to_string());
            format!(
                "of {} bytes, changed at {} ns",
                shown(job.input_bytes),
                shown(job.input_modified_nanos)
            )
        };
        let path = |job: &Self| job.input.display().to_string();
        differ("input", &path(self), &path(other))
            .or_else(|| differ("input", &content(self), &content(other)))
            .or_else(|| differ("reading", &self.reading, &other.reading))
            .or_else(|| differ("settings", &self.settings, &other.settings))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    job: Job,
    format: String,
    fields: Vec<String>,
    shard_rows: u64,
    shards: Vec<Shard>,
    /// Whether these shards are all there will be.
    complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    /// How many of the input's records it holds, all of each.
    records: u64,
    rows: u64,
    bytes: u64,
}

/// Results being written. Nothing appears under its final name before it is whole and on the disk; what was begun when
/// the writer was dropped or killed stays under a name that ends in `.tmp`, and is written over the next time.
pub struct Output {
    fields: Vec<Field>,
    place: Place,
    open: Option<Begun>,
}

/// A file that is being written, and what is in it so far.
struct Begun {
    table: Table,
    records: u64,
    rows: u64,
}

enum Place {
    Stream,
    File {
        path: PathBuf,
        format: FileFormat,
    },
    Shards {
        folder: PathBuf,
        format: FileFormat,
        manifest: Manifest,
    },
}

impl Output {
    /// Opens a place for results; if it holds shards of the same job, to go on with them.
    ///
    /// # Errors
    /// Columns that the format cannot hold; a folder of another job, of something else, or with shards missing; what
    /// the system said.
    pub fn open(target: &Target, fields: Vec<Field>, job: &Job) -> Result<Self, Error> {
        let (path, format) = match target {
            Target::File { path, format } => (path, *format),
            Target::Shards { folder, format, .. } => (folder, *format),
        };
        if let Some(objection) = format.objection(&fields) {
            return Err(refused(path, objection));
        }
        match target {
            Target::File { path, format } => {
                let open = Some(Begun::new(create(path, *format, &fields)?));
                let (path, format) = (path.clone(), *format);
                Ok(Self {
                    fields,
                    place: Place::File { path, format },
                    open,
                })
            }
            Target::Shards {
                folder,
                format,
                rows,
            } => {
                let begun = Manifest {
                    version: VERSION,
                    job: job.clone(),
                    format: format.extension().to_owned(),
                    fields: fields.iter().map(Field::describe).collect(),
                    shard_rows: *rows,
                    shards: Vec::new(),
                    complete: false,
                };
                let manifest = begin(folder, begun)?;
                let (folder, format) = (folder.clone(), *format);
                Ok(Self {
                    fields,
                    place: Place::Shards {
                        folder,
                        format,
                        manifest,
                    },
                    open: None,
                })
            }
        }
    }

    /// JSON Lines to a stream, such as standard output.
    ///
    /// # Errors
    /// Columns that cannot be told apart.
    pub fn stream(out: Box<dyn Write + Send>, fields: Vec<Field>) -> Result<Self, Error> {
        if let Some(objection) = FileFormat::Jsonl.objection(&fields) {
            return Err(refused(Path::new("-"), objection));
        }
        Ok(Self {
            fields,
            place: Place::Stream,
            open: Some(Begun::new(Table::stream(out))),
        })
    }

    /// Records in finished shards: as many are to be skipped ([`Input::read`]).
    pub fn done_records(&self) -> u64 {
        match &self.place {
            Place::Shards { manifest, .. } => manifest.shards.iter().map(|s| s.records).sum(),
            Place::Stream | Place::File { .. } => 0,
        }
    }

    /// Whether an earlier run did all of the job.
    pub fn is_complete(&self) -> bool {
        matches!(&self.place, Place::Shards { manifest, .. } if manifest.complete)
    }

    /// Appends records of one row each, one column for each field.
    ///
    /// # Errors
    /// What the system said.
    /// # Panics
    /// If columns are not of the fields' kinds or not equally long, or the job was complete.
    pub fn write(&mut self, columns: &[Column]) -> Result<(), Error> {
        let rows = columns.first().map_or(0, |c| c.rows(&self.fields[0]));
        self.write_records(columns, &vec![1; rows])
    }

    /// Appends records of as many rows as `rows_of` says of each, one column for each field.
    ///
    /// # Errors
    /// What the system said.
    /// # Panics
    /// As [`Self::write`], and if the records have other rows altogether than the columns.
    pub fn write_records(&mut self, columns: &[Column], rows_of: &[usize]) -> Result<(), Error> {
        assert!(!self.is_complete(), "a complete job has no more rows");
        assert_eq!(columns.len(), self.fields.len(), "one column a field");
        let rows: usize = rows_of.iter().sum();
        for (column, field) in columns.iter().zip(&self.fields) {
            assert_eq!(column.rows(field), rows, "rows of column {}", field.name);
        }
        let Place::Shards { manifest, .. } = &self.place else {
            return self.append(columns, rows_of.len(), rows);
        };
        let shard_rows = manifest.shard_rows;
        let (mut first, mut start) = (0, 0);
        while first < rows_of.len() {
            let mut in_shard = self.open.as_ref().map_or(0, |begun| begun.rows);
            let (mut last, mut end) = (first, start);
            while last < rows_of.len() && in_shard < shard_rows {
                in_shard += rows_of[last] as u64;
                end += rows_of[last];
                last += 1;
            }
            let part: Vec<Column> = columns
                .iter()
                .zip(&self.fields)
                .map(|(column, field)| column.slice(field, start, end))
                .collect();
            self.append(&part, last - first, end - start)?;
            if in_shard >= shard_rows {
                self.finish_shard(false)?;
            }
            (first, start) = (last, end);
        }
        Ok(())
    }

    /// Puts everything under its final name.
    ///
    /// # Errors
    /// What the system said.
    pub fn finish(mut self) -> Result<(), Error> {
        match &self.place {
            Place::Shards { manifest, .. } if manifest.complete => Ok(()),
            Place::Shards { .. } => self.finish_shard(true),
            Place::Stream | Place::File { .. } => {
                let path = self.path();
                let begun = self.open.take().expect("a file stays open to its end");
                begun.table.finish().map_err(io_error(&path))?;
                match self.place {
                    Place::File { path, .. } => publish(&path),
                    Place::Stream | Place::Shards { .. } => Ok(()),
                }
            }
        }
    }

    /// The file that is being written.
    fn path(&self) -> PathBuf {
        match &self.place {
            Place::Stream => PathBuf::from("-"),
            Place::File { path, .. } => path.clone(),
            Place::Shards {
                folder,
                format,
                manifest,
            } => part(folder, manifest.shards.len(), format.extension()),
        }
    }

    fn append(&mut self, columns: &[Column], records: usize, rows: usize) -> Result<(), Error> {
        let path = self.path();
        if self.open.is_none()
            && let Place::File { format, .. } | Place::Shards { format, .. } = &self.place
        {
            self.open = Some(Begun::new(create(&path, *format, &self.fields)?));
        }
        let begun = self.open.as_mut().expect("opened above, or a stream");
        begun
            .table
            .write(&self.fields, columns, rows)
            .map_err(io_error(&path))?;
        begun.records += records as u64;
        begun.rows += rows as u64;
        Ok(())
    }

    /// First the shard, then the manifest that counts it: a shard that a kill left uncounted is written over.
    fn finish_shard(&mut self, last: bool) -> Result<(), Error> {
        let path = self.path();
        let open = self.open.take();
        let Place::Shards {
            folder, manifest, ..
        } = &mut self.place
        else {
            unreachable!("only shards are finished one by one")
        };
        if let Some(begun) = open {
            begun.table.finish().map_err(io_error(&path))?;
            publish(&path)?;
            manifest.shards.push(Shard {
                records: begun.records,
                rows: begun.rows,
                bytes: fs::metadata(&path).map_err(io_error(&path))?.len(),
            });
        }
        manifest.complete = last;
        save(folder, manifest)
    }
}

impl Begun {
    fn new(table: Table) -> Self {
        Self {
            table,
            records: 0,
            rows: 0,
        }
    }
}

/// Makes the folder of a job, or finds what is there to go on with.
fn begin(folder: &Path, begun: Manifest) -> Result<Manifest, Error> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let temporary = temporary(&path);
            for entry in fs::read_dir(folder).map_err(io_error(folder))? {
                let entry = entry.map_err(io_error(folder))?;
                if entry.path() != temporary {
                    return Err(refused(
                        folder,
                        format!(
                            "expected an empty folder or one with a {MANIFEST}, found {}; name another folder",
                            entry.file_name().display()
                        ),
                    ));
                }
            }
            save(folder, &begun)?;
            return Ok(begun);
        }
        Err(error) => return Err(io_error(&path)(error)),
    };
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| refused(&path, error.to_string()))?;
    let table = |manifest: &Manifest| {
        format!(
            "version {}, {} with {} rows a shard and the columns {}",
            manifest.version,
            manifest.format,
            manifest.shard_rows,
            manifest.fields.join(", ")
        )
    };
    let (was, is) = (table(&manifest), table(&begun));
    let difference = manifest
        .job
        .difference(&begun.job)
        .or_else(|| (was != is).then(|| format!("expected {was}, found {is}")));
    if let Some(difference) = difference {
        let message = format!("the folder holds another job: {difference}; name another folder");
        return Err(refused(folder, message));
    }
    if begun.job.input_bytes.is_none() && !manifest.shards.is_empty() && !manifest.complete {
        let message = "a job that reads a pipe cannot be gone on with; name another folder, or a file to read";
        return Err(refused(folder, message));
    }
    for (number, shard) in manifest.shards.iter().enumerate() {
        let path = part(folder, number, &manifest.format);
        let found = fs::metadata(&path).map_err(io_error(&path))?.len();
        if found != shard.bytes {
            let message = format!(
                "expected the {} bytes that were written, found {found}; name another folder",
                shard.bytes
            );
            return Err(refused(&path, message));
        }
    }
    Ok(manifest)
}

fn part(folder: &Path, number: usize, extension: &str) -> PathBuf {
    folder.join(format!("part-{number:05}.{extension}"))
}

fn save(folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    let path = folder.join(MANIFEST);
    let json = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    write_atomically(&path, |file| file.write_all(&json)).map_err(|error| match error {
        cloze_spec::Error::Io { path, source } => Error::Io { path, source },
        other => refused(&path, other.to_string()),
    })
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn create(path: &Path, format: FileFormat, fields: &[Field]) -> Result<Table, Error> {
    File::create(temporary(path))
        .and_then(|file| Table::new(file, format, fields))
        .map_err(io_error(path))
}

/// Gives a file that is whole and on the disk its name.
fn publish(path: &Path) -> Result<(), Error> {
    fs::rename(temporary(path), path).map_err(io_error(path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")));
    Ok(())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

fn refused(path: &Path, message: impl Into<String>) -> Error {
    Error::Output {
        path: path.to_owned(),
        message: message.into(),
    }
}
