//! What can go wrong between a file and a batch.

use std::fmt;
use std::path::PathBuf;

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file broke off or could not be decompressed in the middle.
    #[error("{}: {place}: {source}; the file is damaged or was cut short", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The last place that was reached.
        place: Place,
        /// What the system said.
        source: std::io::Error,
    },
    /// A Parquet file could not be read.
    #[error("{}: not a readable Parquet file: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        source: parquet::errors::ParquetError,
    },
    /// A file is not in the format it was taken for.
    #[error("{}: expected {expected}, found {found}; {advice}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What would have been read.
        expected: String,
        /// What is there.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A column is missing.
    #[error("{}: no column {column:?}{}; the file has {}", path.display(), did_you_mean(nearest.as_deref()), list(found))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns of the file.
        found: Vec<String>,
        /// The one with the most similar name, if any is similar.
        nearest: Option<String>,
    },
    /// A row cannot be used.
    #[error("{0}; fix the row or pass --skip-bad-rows")]
    Row(BadRow),
    /// A row cannot be used, where every row is needed.
    #[error("{0}")]
    Value(BadRow),
    /// No file was named.
    #[error("no data: expected files in the recipe's data.files, found none; pass --data FILE")]
    NoFiles,
    /// Reading or filtering left nothing.
    #[error(
        "no events left of {rows} rows read ({skipped} of them skipped as bad); lower data.min_user_events or data.min_item_events, now {min_user_events} and {min_item_events}"
    )]
    NothingLeft {
        /// Rows read.
        rows: u64,
        /// Bad rows among them.
        skipped: u64,
        /// Events a user needs.
        min_user_events: u32,
        /// Events an item needs.
        min_item_events: u32,
    },
    /// A split left nothing to train on or needs times that are not there.
    #[error("split: {0}")]
    Split(String),
    /// A tokenizer cannot be made of a model folder's files.
    #[error("{}: {message}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A text does not fit into the model.
    #[error("text of {tokens} tokens, {max_len} fit; shorten it, or ask for truncation or chunks")]
    TooLong {
        /// Its tokens, special ones included.
        tokens: usize,
        /// What fits.
        max_len: usize,
    },
    /// A text cannot be turned into tokens.
    #[error("text: {0}")]
    Text(String),
    /// A tokenizer cannot be trained so.
    #[error("tokenizer: {0}")]
    Training(String),
    /// Results cannot be written, or not where they were asked for.
    #[error("{}: {message}", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        message: String,
    },
    /// A vocabulary is not one that was written here.
    #[error("{}: row {row}: expected {expected}, found {found}; write the model folder anew", path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// Row, counted from 0: the token id.
        row: usize,
        /// What would have done.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl Error {
    /// The same where no row may be left out.
    pub(crate) fn every_row(self) -> Self {
        match self {
            Self::Row(bad) => Self::Value(bad),
            other => other,
        }
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, counted from 1.
    Line(u64),
    /// A row, counted from 1.
    Row(u64),
    /// A question, counted from 1.
    Question(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Row(row) => write!(f, "row {row}"),
            Place::Question(question) => write!(f, "question {question}"),
        }
    }
}

/// A row that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub place: Place,
    /// The column at fault, if it is one.
    pub column: Option<String>,
    /// What would have done.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.place)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column:?}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

/// The most similar of `names`, if any is similar enough to be meant.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    names
        .map(|candidate| {
            (
                strsim::jaro_winkler(&wanted, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A value for a message: quoted, and cut if long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean {name:?}?"))
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none, it is empty".into();
    }
    let mut shown: Vec<_> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    if names.len() > SHOWN {
        shown.push(format!("and {} more", names.len() - SHOWN));
    }
    shown.join(", ")
}
