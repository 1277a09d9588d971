//! Texts from files and pipes.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cloze_spec::data::{self, Csv};

use super::Value;
use crate::Error;
use crate::error::Place;
use crate::source::{self, BadCell, BadRows, Cell, ReadReport, Scan};

/// How a file of texts is written. Compression by gzip or zstd is noticed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// By extension, after `.gz` or `.zst`: `.parquet`, `.csv`, `.tsv`, `.jsonl` or `.ndjson`, and `.txt` for lines.
    /// A pipe that starts with `{` holds JSON Lines, any other lines.
    #[default]
    Auto,
    /// Apache Parquet.
    Parquet,
    /// Delimited text.
    Csv(Csv),
    /// One JSON object per line.
    Jsonl,
    /// One text per line. Blank lines are no texts; blanks at the end of a line are cut off.
    Lines,
}

impl Format {
    /// The same, where delimited text has a header and quotes or not; [`Format::Auto`] asks the extension of `path`.
    ///
    /// # Errors
    ///
    /// If the extension says nothing.
    pub fn delimited(self, path: &Path, header: bool, quotes: bool) -> Result<Self, Error> {
        // A pipe is never taken for delimited text.
        if (header && quotes) || (self == Self::Auto && path.as_os_str() == "-") {
            return Ok(self);
        }
        let known = match self {
            Self::Auto => source::resolve(path, &data::Format::Auto)?,
            Self::Csv(csv) => data::Format::Csv(csv),
            other => return Ok(other),
        };
        Ok(match known {
            data::Format::Csv(csv) => Self::Csv(Csv {
                header,
                quotes,
                ..csv
            }),
            _ => Self::Auto,
        })
    }
}

/// Which texts to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
    /// The columns of a record's texts: one, or two for pairs. Plain lines have one text, whatever its name.
    pub columns: Vec<String>,
    /// Whether several texts in one cell are one, of [sections](crate::text::SECTION).
    pub sections: bool,
    /// Columns of values beside the texts, which may be missing.
    pub beside: Vec<String>,
    /// The column of ids. Plain lines have none.
    pub id: Option<String>,
    /// What to do about records that cannot be used.
    pub bad_rows: BadRows,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id, as text.
    pub id: Option<String>,
    /// The texts, in the order of [`Input::columns`].
    pub texts: Vec<String>,
    /// The values beside the texts, in the order of [`Input::beside`]; empty where they are missing.
    pub beside: Vec<String>,
}

impl Input {
    /// Texts of the column `text` without ids, in a format told from the extension.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: Format::Auto,
            columns: vec!["text".to_owned()],
            sections: false,
            beside: Vec::new(),
            id: None,
            bad_rows: BadRows::Fail,
        }
    }

    /// Starts to read, on a thread of its own that keeps a few chunks ahead, leaving out the first `skip` good
    /// records. Faults of the file come out of the iterator, after the records before them.
    pub fn read(&self, skip: u64) -> Records {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        let read_bytes = Arc::new(AtomicU64::new(0));
        let (input, counter) = (self.clone(), Arc::clone(&read_bytes));
        std::thread::spawn(move || {
            let mut collector = Collector {
                input: &input,
                skip,
                chunk: Vec::new(),
                chunk_bytes: 0,
                report: ReadReport::default(),
                read_bytes: counter,
                sender: &sender,
            };
            let result = input.scan(&mut collector);
            let sent = collector.send_chunk();
            let end = result.and(sent).map(|()| collector.report);
            // Nobody listens any more if the records were dropped.
            let _ = sender.send(Message::End(end));
        });
        Records {
            chunks,
            report: None,
            failed: false,
            read_bytes,
        }
    }

    fn scan(&self, to: &mut Collector) -> Result<(), Error> {
        if self.columns.is_empty() {
            return Err(Error::Format {
                path: self.path.clone(),
                expected: "at least one column of texts".into(),
                found: "none".into(),
                advice: "name it".into(),
            });
        }
        let mut columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        columns.extend(self.beside.iter().map(String::as_str));
        columns.extend(self.id.as_deref());
        let mut names: Vec<&str> = Vec::new();
        for column in &columns {
            if !names.contains(column) {
                names.push(column);
            }
        }
        let picks = columns
            .iter()
            .map(|column| names.iter().position(|name| name == column))
            .collect::<Option<Vec<_>>>()
            .expect("every column was put among the names");
        let mut rows = Rows { columns, picks, to };
        let format = match &self.format {
            Format::Auto if self.path.as_os_str() == "-" => {
                return self.scan_pipe(&names, &mut rows);
            }
            Format::Auto => match source::resolve(&self.path, &data::Format::Auto)? {
                data::Format::Pairs => return self.scan_lines(open(&self.path)?, &mut rows),
                known => known,
            },
            Format::Lines => return self.scan_lines(open(&self.path)?, &mut rows),
            Format::Parquet => data::Format::Parquet,
            Format::Csv(csv) => data::Format::Csv(csv.clone()),
            Format::Jsonl => data::Format::Jsonl,
        };
        if format == data::Format::Parquet && self.path.as_os_str() == "-" {
            return Err(Error::Format {
                path: self.path.clone(),
                expected: "text from a pipe".into(),
                found: "the format Parquet, which is read from its end".into(),
                advice: "name a file".into(),
            });
        }
        source::scan(&self.path, &format, &names, &mut rows)
    }

    fn scan_pipe(&self, names: &[&str], rows: &mut Rows) -> Result<(), Error> {
        let mut text = open(&self.path)?;
        let is_json = starts_object(&mut text.stream).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })?;
        if is_json {
            source::scan_json_lines(&self.path, text, names, rows)
        } else {
            self.scan_lines(text, rows)
        }
    }

    fn scan_lines(&self, text: source::Text, rows: &mut Rows) -> Result<(), Error> {
        if self.columns.len() > 1 || !self.beside.is_empty() || self.id.is_some() {
            return Err(Error::Format {
                path: self.path.clone(),
                expected: format!("the columns {}", rows.columns.join(", ")),
                found: "plain lines, which have one text each".into(),
                advice: "name no columns, or give the texts as JSON Lines or CSV".into(),
            });
        }
        source::lines(&self.path, text, |place, line, bytes| {
            rows.bytes(bytes);
            rows.row(place, Ok(&[Cell::from(line)]))
        })
    }
}

fn open(path: &Path) -> Result<source::Text, Error> {
    let text = source::open_text(path)?;
    if text.is_parquet {
        return Err(source::parquet_as_text(path));
    }
    Ok(text)
}

/// Whether the first character that is not blank opens a JSON object; empty lines before it are consumed.
fn starts_object(stream: &mut dyn BufRead) -> std::io::Result<bool> {
    loop {
        let buffer = stream.fill_buf()?;
        let blank = buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        if let Some(first) = buffer.get(blank) {
            return Ok(*first == b'{');
        }
        if buffer.is_empty() {
            return Ok(false);
        }
        stream.consume(blank);
    }
}

const CHUNKS_AHEAD: usize = 2;
const CHUNK_RECORDS: usize = 1024;
const CHUNK_BYTES: usize = 1 << 20;

enum Message {
    Chunk(Vec<Record>),
    End(Result<ReadReport, Error>),
}

/// Records of an [`Input`], a chunk at a time. Memory is bounded whatever the size of the file: a chunk ends after
/// 1024 records or 1 MiB of text, and two wait.
pub struct Records {
    chunks: Receiver<Message>,
    report: Option<ReadReport>,
    failed: bool,
    read_bytes: Arc<AtomicU64>,
}

impl Records {
    /// What was read; nothing before the last chunk has been taken.
    pub fn report(&self) -> Option<&ReadReport> {
        self.report.as_ref()
    }

    /// Bytes read so far of the file as it lies on the disk.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

impl Iterator for Records {
    type Item = Result<Vec<Record>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.report.is_some() {
            return None;
        }
        match self.chunks.recv().expect("a reader ends with a message") {
            Message::Chunk(records) => Some(Ok(records)),
            Message::End(Ok(report)) => {
                self.report = Some(report);
                None
            }
            Message::End(Err(error)) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

struct Collector<'a> {
    input: &'a Input,
    skip: u64,
    chunk: Vec<Record>,
    chunk_bytes: usize,
    report: ReadReport,
    read_bytes: Arc<AtomicU64>,
    sender: &'a SyncSender<Message>,
}

impl Collector<'_> {
    fn add(&mut self, record: Record) -> Result<(), Error> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        self.chunk_bytes += record.texts.iter().map(String::len).sum::<usize>();
        self.chunk.push(record);
        if self.chunk.len() == CHUNK_RECORDS || self.chunk_bytes >= CHUNK_BYTES {
            return self.send_chunk();
        }
        Ok(())
    }

    fn send_chunk(&mut self) -> Result<(), Error> {
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk_bytes = 0;
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender
            .send(Message::Chunk(chunk))
            .map_err(|_| Error::Io {
                path: self.input.path.clone(),
                source: std::io::Error::other("the records are not wanted any more"),
            })
    }
}

/// Takes rows of cells apart into records.
struct Rows<'a, 'b> {
    /// Columns of texts, those beside them, then that of ids.
    columns: Vec<&'a str>,
    /// Where each of them is in a row.
    picks: Vec<usize>,
    to: &'a mut Collector<'b>,
}

impl Rows<'_, '_> {
    fn record(&self, cells: &[Cell]) -> Result<Record, BadCell> {
        let mut buffer = String::new();
        let mut texts = Vec::with_capacity(self.columns.len());
        let (mut beside, mut id) = (Vec::new(), None);
        let (columns, others) = (&self.to.input.columns, &self.to.input.beside);
        for (column, &pick) in self.picks.iter().enumerate() {
            let is_id = column == columns.len() + others.len();
            if !is_id && column >= columns.len() {
                let value = Value::from(&cells[pick]);
                beside.push(value.or_missing().ok_or_else(|| BadCell {
                    column: Some(column),
                    expected: "a number or the name of a class".into(),
                    found: value.describe(),
                })?);
                continue;
            }
            let text = match &cells[pick] {
                Cell::Text(text) if !is_id => text.clone().into_owned(),
                cell if !is_id && self.to.input.sections => {
                    let value = Value::from(cell);
                    value.sections().ok_or_else(|| BadCell {
                        column: Some(column),
                        expected: "a text, or a list of texts".into(),
                        found: value.describe(),
                    })?
                }
                cell => cell
                    .id(&mut buffer)
                    .map_err(|found| BadCell {
                        column: Some(column),
                        expected: if is_id { "an id" } else { "a text" }.into(),
                        found,
                    })?
                    .to_owned(),
            };
            if is_id {
                id = Some(text);
            } else {
                texts.push(text);
            }
        }
        Ok(Record { id, texts, beside })
    }
}

impl Scan for Rows<'_, '_> {
    fn row(&mut self, place: Place, cells: Result<&[Cell], BadCell>) -> Result<(), Error> {
        self.to.report.rows += 1;
        match cells.and_then(|cells| self.record(cells)) {
            Ok(record) => self.to.add(record),
            Err(bad) => {
                let input = self.to.input;
                let bad = bad.at(&input.path, place, &self.columns);
                self.to.report.bad_row(bad, input.bad_rows)
            }
        }
    }

    fn bytes(&mut self, read: u64) {
        self.to.read_bytes.store(read, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_of_objects_is_told_from_one_of_lines() {
        for (text, expected) in [
            ("{\"text\": 1}", true),
            ("\r\n\n  {\"text\": 1}", true),
            ("a {", false),
            ("", false),
            ("\n\n", false),
        ] {
            // One byte at a time, as a slow pipe gives them.
            let mut slow = std::io::BufReader::with_capacity(1, text.as_bytes());
            assert_eq!(starts_object(&mut slow).ok(), Some(expected), "{text:?}");
        }
    }
}
