//! Event logs from files: who took which item, and when.

mod cell;
mod compression;
mod csv;
mod jsonl;
mod pairs;
pub(crate) mod parquet;
pub mod time;

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use cloze_spec::data::{Columns, Csv, Format, Interactions};

pub(crate) use cell::Cell;
pub(crate) use compression::{Text, open as open_text};
pub(crate) use jsonl::{JsonCell, JsonText, not_an_object, scan_text as scan_json_lines};

use crate::Error;
use crate::error::{BadRow, Place, nearest};

/// One interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Index into [`Log::users`].
    pub user: u32,
    /// Index into [`Log::items`].
    pub item: u32,
    /// When, in the unit that [`time::Kind`] says; 0 when untimed.
    pub time: i64,
}

/// An event log in memory: ids are interned, in order of first sight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// User ids.
    pub users: Vec<String>,
    /// Item ids.
    pub items: Vec<String>,
    /// Interactions, in the order of the files.
    pub events: Vec<Event>,
    /// Whether the source has times.
    pub timed: bool,
}

impl Log {
    /// The order of events by user, then time if there is any, then place in the log; and where each user's events
    /// start in it, with one last entry: where the last user's end.
    pub(crate) fn by_user(&self) -> (Vec<usize>, Vec<usize>) {
        let mut offsets = vec![0_usize; self.users.len() + 1];
        for event in &self.events {
            offsets[event.user as usize + 1] += 1;
        }
        for user in 0..self.users.len() {
            offsets[user + 1] += offsets[user];
        }
        let mut next = offsets.clone();
        let mut order = vec![0_usize; self.events.len()];
        for (index, event) in self.events.iter().enumerate() {
            let slot = &mut next[event.user as usize];
            order[*slot] = index;
            *slot += 1;
        }
        if self.timed {
            for user in 0..self.users.len() {
                order[offsets[user]..offsets[user + 1]].sort_by_key(|&i| self.events[i].time);
            }
        }
        (order, offsets)
    }
}

/// What to do about a row that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRows {
    /// Stop with an error.
    Fail,
    /// Leave it out and count it.
    Skip,
}

impl BadRows {
    /// Leaves them out if asked to.
    pub fn skip_if(skip: bool) -> Self {
        if skip { Self::Skip } else { Self::Fail }
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Rows seen, bad ones included.
    pub rows: u64,
    /// Bad rows left out.
    pub skipped: u64,
    /// The first of them, five at most, in words.
    pub first_skipped: Vec<String>,
}

impl ReadReport {
    /// Counts a bad row, or stops at it.
    pub(crate) fn bad_row(&mut self, bad: BadRow, bad_rows: BadRows) -> Result<(), Error> {
        const SHOWN: usize = 5;
        if bad_rows == BadRows::Fail {
            return Err(Error::Row(bad));
        }
        self.skipped += 1;
        if self.first_skipped.len() < SHOWN {
            self.first_skipped.push(bad.to_string());
        }
        Ok(())
    }
}

/// Reads the events of all `files`, in their order, as one log.
///
/// Each file is read once, front to back, through gzip or zstd; memory grows with the events kept, not with the
/// size of the files. `progress` is told how many bytes have been read, and how many there are (0 if unknown).
///
/// # Errors
/// A file that cannot be read, is damaged or lacks a column; a bad row, unless they are to be skipped.
pub fn read(
    files: &[PathBuf],
    settings: &Interactions,
    bad_rows: BadRows,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Log, ReadReport), Error> {
    read_log(
        files,
        &settings.format,
        &settings.columns,
        bad_rows,
        progress,
    )
}

/// As [`read`], of the settings only those that matter.
pub(crate) fn read_log(
    files: &[PathBuf],
    format: &Format,
    names: &Columns,
    bad_rows: BadRows,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Log, ReadReport), Error> {
    let mut columns = vec![names.user.as_str(), names.item.as_str()];
    columns.extend(names.time.as_deref());
    let sizes: Vec<u64> = files
        .iter()
        .map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len()))
        .collect();
    let total_bytes = sizes.iter().sum();
    let mut collector = Collector {
        path: Path::new(""),
        columns: &columns,
        bad_rows,
        users: Interner::default(),
        items: Interner::default(),
        events: Vec::new(),
        time_kind: None,
        buffer: String::new(),
        report: ReadReport::default(),
        progress: Progress {
            done_bytes: 0,
            shown_bytes: 0,
            total_bytes,
            tell: progress,
        },
    };
    let mut timed = names.time.is_some();
    for (path, size) in files.iter().zip(sizes) {
        collector.path = path;
        let format = resolve(path, format)?;
        timed &= format != Format::Pairs;
        scan(path, &format, &columns, &mut collector)?;
        collector.progress.finish_file(size);
    }
    let log = Log {
        users: collector.users.ids,
        items: collector.items.ids,
        events: collector.events,
        timed,
    };
    Ok((log, collector.report))
}

/// What a reader of rows hands them to.
pub(crate) trait Scan {
    /// Takes one row: the cells asked for in the order asked, or what is wrong with the row as a whole.
    fn row(&mut self, place: Place, cells: Result<&[Cell], BadCell>) -> Result<(), Error>;

    /// Takes note of how many bytes of the file have been read.
    fn bytes(&mut self, _read: u64) {}

    /// Whether columns of lists and of truth values are of use, where a format has types of columns.
    fn takes_lists(&self) -> bool {
        false
    }
}

/// What is wrong with a row.
pub(crate) struct BadCell {
    /// Index of the column at fault among those asked for.
    pub column: Option<usize>,
    pub expected: String,
    pub found: String,
}

impl BadCell {
    /// The complaint with its place.
    pub fn at(self, path: &Path, place: Place, columns: &[&str]) -> BadRow {
        BadRow {
            path: path.to_owned(),
            place,
            column: self.column.map(|index| columns[index].to_owned()),
            expected: self.expected,
            found: self.found,
        }
    }
}

/// Hands the `columns` of every row of `path` to `to`; `format` is not [`Format::Auto`].
pub(crate) fn scan(
    path: &Path,
    format: &Format,
    columns: &[&str],
    to: &mut dyn Scan,
) -> Result<(), Error> {
    match format {
        Format::Auto => unreachable!("formats are resolved before files are scanned"),
        Format::Parquet => parquet::scan(path, columns, to),
        Format::Csv(settings) => csv::scan(path, settings, columns, to),
        Format::Jsonl => jsonl::scan(path, columns, to),
        Format::Pairs => pairs::scan(path, to),
    }
}

/// The format of `path`: by its extension if `format` leaves it open.
pub(crate) fn resolve(path: &Path, format: &Format) -> Result<Format, Error> {
    if *format != Format::Auto {
        return Ok(format.clone());
    }
    let lower = PathBuf::from(path.to_string_lossy().to_lowercase());
    let inner = match lower.extension().and_then(|extension| extension.to_str()) {
        Some("gz" | "zst") => lower.with_extension(""),
        _ => lower,
    };
    match inner.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Ok(Format::Parquet),
        Some("csv") => Ok(Format::Csv(Csv::default())),
        Some("tsv") => Ok(Format::Csv(Csv {
            delimiter: '\t',
            ..Csv::default()
        })),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        Some("txt") => Ok(Format::Pairs),
        other => Err(Error::Format {
            path: path.to_owned(),
            expected: "a name that ends in .parquet, .csv, .tsv, .jsonl or .txt, or one of these and .gz or .zst".into(),
            found: other.map_or_else(|| "no extension".into(), |extension| format!(".{extension}")),
            advice: "rename the file, or say what it is in data.format".into(),
        }),
    }
}

/// Where the `columns` are among the `names` of a file.
fn find_columns(path: &Path, names: &[String], columns: &[&str]) -> Result<Vec<usize>, Error> {
    columns
        .iter()
        .map(|column| {
            names
                .iter()
                .position(|name| name == column)
                .ok_or_else(|| Error::NoColumn {
                    path: path.to_owned(),
                    column: (*column).to_owned(),
                    found: names.to_vec(),
                    nearest: nearest(column, names.iter().map(String::as_str)).map(str::to_owned),
                })
        })
        .collect()
}

pub(crate) fn parquet_as_text(path: &Path) -> Error {
    Error::Format {
        path: path.to_owned(),
        expected: "text".into(),
        found: "a Parquet file".into(),
        advice: "name it .parquet, set data.format to parquet, and do not compress it again".into(),
    }
}

/// Calls `each` with every line that is not blank, without its end, and the bytes of the file read so far.
pub(crate) fn lines(
    path: &Path,
    mut text: Text,
    mut each: impl FnMut(Place, &[u8], u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut line = Vec::new();
    let mut number = 0;
    while next_line(path, &mut text, &mut line, &mut number)? {
        each(Place::Line(number), &line, text.meter.raw_bytes())?;
    }
    Ok(())
}

/// Reads the next line that is not blank into `line`; false at the end.
pub(crate) fn next_line(
    path: &Path,
    text: &mut Text,
    line: &mut Vec<u8>,
    number: &mut u64,
) -> Result<bool, Error> {
    loop {
        line.clear();
        *number += 1;
        let count = text
            .stream
            .read_until(b'\n', line)
            .map_err(|source| Error::Broken {
                path: path.to_owned(),
                place: Place::Line(*number),
                source,
            })?;
        text.meter.record_read();
        if count == 0 {
            return Ok(false);
        }
        while line.last().is_some_and(u8::is_ascii_whitespace) {
            line.pop();
        }
        if !line.is_empty() {
            return Ok(true);
        }
    }
}

/// Ids to numbers, in order of first sight.
#[derive(Default)]
struct Interner {
    ids: Vec<String>,
    index: HashMap<String, u32>,
    /// The last one seen: logs are often sorted by user.
    last: u32,
}

impl Interner {
    fn intern(&mut self, id: &str) -> u32 {
        if self
            .ids
            .get(self.last as usize)
            .is_some_and(|last| last == id)
        {
            return self.last;
        }
        self.last = if let Some(&known) = self.index.get(id) {
            known
        } else {
            let new = u32::try_from(self.ids.len()).expect("fewer than 2^32 ids fit into memory");
            self.ids.push(id.to_owned());
            self.index.insert(id.to_owned(), new);
            new
        };
        self.last
    }
}

struct Progress<'a> {
    /// Bytes of the files finished.
    done_bytes: u64,
    shown_bytes: u64,
    total_bytes: u64,
    tell: &'a mut dyn FnMut(u64, u64),
}

impl Progress<'_> {
    fn update(&mut self, file_bytes: u64) {
        const STEP_BYTES: u64 = 1 << 18;
        let bytes = self.done_bytes + file_bytes;
        if bytes >= self.shown_bytes + STEP_BYTES {
            self.shown_bytes = bytes;
            (self.tell)(bytes, self.total_bytes);
        }
    }

    fn finish_file(&mut self, file_bytes: u64) {
        self.done_bytes += file_bytes;
        self.shown_bytes = self.done_bytes;
        (self.tell)(self.done_bytes, self.total_bytes);
    }
}

/// Rows to a log.
struct Collector<'a> {
    path: &'a Path,
    columns: &'a [&'a str],
    bad_rows: BadRows,
    users: Interner,
    items: Interner,
    events: Vec<Event>,
    /// The kind of the first time, which all others must have.
    time_kind: Option<time::Kind>,
    buffer: String,
    report: ReadReport,
    progress: Progress<'a>,
}

impl Collector<'_> {
    fn event(&mut self, cells: &[Cell]) -> Result<Event, BadCell> {
        let bad = |column, expected: &str| {
            let expected = expected.to_owned();
            move |found| BadCell {
                column: Some(column),
                expected,
                found,
            }
        };
        // The time comes first, so that a row with a bad one leaves no ids behind; so does checking both ids.
        let time = match cells.get(2) {
            None => 0,
            Some(cell) => {
                let (kind, time) = cell
                    .time()
                    .map_err(bad(2, "an integer, a float or ISO 8601"))?;
                let first = *self.time_kind.get_or_insert(kind);
                if kind != first {
                    let expected = format!("{} like the times before it", first.name());
                    return Err(bad(2, &expected)(cell.describe()));
                }
                time
            }
        };
        cells[1].id(&mut self.buffer).map_err(bad(1, "an id"))?;
        let user = cells[0].id(&mut self.buffer).map_err(bad(0, "an id"))?;
        let user = self.users.intern(user);
        let item = cells[1].id(&mut self.buffer).map_err(bad(1, "an id"))?;
        let item = self.items.intern(item);
        Ok(Event { user, item, time })
    }
}

impl Scan for Collector<'_> {
    fn row(&mut self, place: Place, cells: Result<&[Cell], BadCell>) -> Result<(), Error> {
        self.report.rows += 1;
        match cells.and_then(|cells| self.event(cells)) {
            Ok(event) => self.events.push(event),
            Err(bad) => {
                let bad = bad.at(self.path, place, self.columns);
                self.report.bad_row(bad, self.bad_rows)?;
            }
        }
        Ok(())
    }

    fn bytes(&mut self, read: u64) {
        self.progress.update(read);
    }
}
