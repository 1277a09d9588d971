//! Whole columns of a file in memory: predictions, and what they are judged by.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloze_spec::data;

use super::Format;
use crate::Error;
use crate::error::{BadRow, Place, quoted};
use crate::source::{self, BadCell, Cell, Scan};
use crate::text::SECTION;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Several values.
    List(Vec<Value>),
    /// Nothing, or nothing of use; in words.
    Other(String),
}

impl Value {
    /// The value as text; numbers as they are written.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Other(word) if word == "true" || word == "false" => Some(word.clone()),
            Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The value as text, empty where there is none.
    pub fn or_missing(&self) -> Option<String> {
        match self {
            Self::Other(_) => Some(self.text().unwrap_or_default()),
            value => value.text(),
        }
    }

    /// The value as text, several as its [sections](SECTION).
    pub fn sections(&self) -> Option<String> {
        let Self::List(values) = self else {
            return self.text();
        };
        let sections: Option<Vec<String>> = values.iter().map(Self::text).collect();
        Some(sections?.join(&SECTION.to_string()))
    }

    /// The value as the name of a class or label: text that is not empty.
    pub fn label(&self) -> Option<String> {
        self.text().filter(|text| !text.trim().is_empty())
    }

    /// The value as a number, which may be written as text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::List(_) | Self::Other(_) => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    /// The values of a list; text is parted at `separator`, or at blanks.
    pub fn list(&self, separator: Option<char>) -> Option<Vec<Value>> {
        let texts = |parts: &mut dyn Iterator<Item = &str>| {
            parts.map(|part| Self::Text(part.to_owned())).collect()
        };
        match (self, separator) {
            (Self::List(values), _) => Some(values.clone()),
            (Self::Text(text), None) => Some(texts(&mut text.split_whitespace())),
            (Self::Text(text), Some(separator)) => {
                let parts = text.split(separator).map(str::trim);
                Some(texts(&mut parts.filter(|part| !part.is_empty())))
            }
            (Self::Integer(_) | Self::Float(_), _) => Some(vec![self.clone()]),
            (Self::Other(_), _) => None,
        }
    }

    /// The value in words, for a message.
    pub fn describe(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "nothing".into(),
            Self::Text(text) => quoted(text),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::List(values) => format!("a list of {}", values.len()),
            Self::Other(what) => what.clone(),
        }
    }
}

impl From<&Cell<'_>> for Value {
    fn from(cell: &Cell) -> Self {
        match cell {
            Cell::Text(text) => Self::Text(text.clone().into_owned()),
            Cell::Integer(number) => {
                i64::try_from(*number).map_or(Self::Float(*number as f64), Self::Integer)
            }
            Cell::Float(number) => Self::Float(*number),
            Cell::List(cells) => Self::List(cells.iter().map(Self::from).collect()),
            Cell::Null | Cell::Moment(_) | Cell::Other(_) => Self::Other(cell.describe()),
        }
    }
}

/// A column of a file.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The file.
    pub path: PathBuf,
    /// The column; none of plain lines.
    pub column: Option<String>,
    /// Its values.
    pub values: Vec<Value>,
    places: Arc<Vec<Place>>,
}

impl Cells {
    /// Reads the `columns` of a file, in their order. Plain lines have one column, whatever its name; blank lines count.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged or lacks a column; a row that is none.
    pub fn read(path: &Path, format: &Format, columns: &[&str]) -> Result<Vec<Self>, Error> {
        let mut places = Vec::new();
        let mut all = vec![Vec::new(); columns.len()];
        let is_lines = Self::scan(path, format, columns, &mut |place, _, cells| {
            places.push(place);
            for (column, cell) in all.iter_mut().zip(cells) {
                column.push(Value::from(cell));
            }
            Ok(())
        })?;
        let places = Arc::new(places);
        let cells = columns.iter().zip(all);
        Ok(cells
            .map(|(name, values)| Self {
                path: path.to_owned(),
                column: (!is_lines).then(|| (*name).to_owned()),
                values,
                places: Arc::clone(&places),
            })
            .collect())
    }

    /// The same row by row: `each` is told where a row is, whether it is a plain line, and its values. Whether all are.
    pub(crate) fn scan(
        path: &Path,
        format: &Format,
        columns: &[&str],
        each: &mut EachRow<'_>,
    ) -> Result<bool, Error> {
        let format = match format {
            Format::Auto if path.as_os_str() == "-" => Format::Jsonl,
            Format::Auto => match source::resolve(path, &data::Format::Auto)? {
                data::Format::Parquet => Format::Parquet,
                data::Format::Csv(csv) => Format::Csv(csv),
                data::Format::Jsonl => Format::Jsonl,
                data::Format::Auto | data::Format::Pairs => Format::Lines,
            },
            known => known.clone(),
        };
        let mut rows = Rows {
            path,
            names: columns,
            is_lines: format == Format::Lines,
            each,
        };
        let known = match format {
            Format::Lines => {
                rows.lines()?;
                None
            }
            Format::Parquet => Some(data::Format::Parquet),
            Format::Csv(csv) => Some(data::Format::Csv(csv)),
            Format::Auto | Format::Jsonl => Some(data::Format::Jsonl),
        };
        if let Some(format) = &known {
            source::scan(path, format, columns, &mut rows)?;
        }
        Ok(rows.is_lines)
    }

    /// Takes those rows out that are `wanted`.
    pub(crate) fn part(&mut self, wanted: &[bool]) -> Self {
        let split = |is_wanted: bool| {
            let rows = self.values.iter().zip(self.places.iter()).zip(wanted);
            let rows = rows.filter(|&(_, &wanted)| wanted == is_wanted);
            let (values, places): (Vec<Value>, Vec<Place>) = rows
                .map(|((value, place), _)| (value.clone(), *place))
                .unzip();
            Self {
                path: self.path.clone(),
                column: self.column.clone(),
                values,
                places: Arc::new(places),
            }
        };
        let (taken, rest) = (split(true), split(false));
        *self = rest;
        taken
    }

    /// The fault of a row: what was expected there. What is found is its value, or `found`.
    pub fn fault(&self, row: usize, expected: impl Into<String>, found: Option<String>) -> Error {
        Error::Value(BadRow {
            path: self.path.clone(),
            place: self.places[row],
            column: self.column.clone(),
            expected: expected.into(),
            found: found.unwrap_or_else(|| self.values[row].describe()),
        })
    }

    /// Every value as `of` takes it.
    ///
    /// # Errors
    /// The first that `of` does not take: the row, and what was `expected`.
    pub fn each<T>(
        &self,
        expected: &str,
        of: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.values.iter().enumerate();
        rows.map(|(row, value)| of(value).ok_or_else(|| self.fault(row, expected, None)))
            .collect()
    }
}

/// Told of a row.
type EachRow<'a> = dyn FnMut(Place, bool, &[Cell<'_>]) -> Result<(), Error> + 'a;

struct Rows<'a, 'b> {
    path: &'a Path,
    names: &'a [&'a str],
    is_lines: bool,
    each: &'a mut EachRow<'b>,
}

impl Rows<'_, '_> {
    fn lines(&mut self) -> Result<(), Error> {
        let mut text = source::open_text(self.path)?;
        if text.is_parquet {
            return Err(source::parquet_as_text(self.path));
        }
        if self.names.len() > 1 {
            return Err(Error::Format {
                path: self.path.to_owned(),
                expected: format!("the columns {}", self.names.join(", ")),
                found: "plain lines, which have one".into(),
                advice: "give them as JSON Lines, CSV, TSV or Parquet, or in a file for each"
                    .into(),
            });
        }
        let mut line = Vec::new();
        for number in 1.. {
            let place = Place::Line(number);
            line.clear();
            let read = text.stream.read_until(b'\n', &mut line);
            let count = read.map_err(|source| Error::Broken {
                path: self.path.to_owned(),
                place,
                source,
            })?;
            text.meter.record_read();
            if count == 0 {
                break;
            }
            for end in [b'\n', b'\r'] {
                if line.last() == Some(&end) {
                    line.pop();
                }
            }
            self.row(place, Ok(&[Cell::from(line.as_slice())]))?;
        }
        Ok(())
    }
}

impl Scan for Rows<'_, '_> {
    fn row(&mut self, place: Place, cells: Result<&[Cell], BadCell>) -> Result<(), Error> {
        let cells = cells.map_err(|bad| Error::Value(bad.at(self.path, place, self.names)))?;
        (self.each)(place, self.is_lines, cells)
    }

    fn takes_lists(&self) -> bool {
        true
    }
}
