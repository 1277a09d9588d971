//! One JSON object per line.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cell::Cell;
use super::{BadCell, Scan, Text, compression, find_columns, lines};
use crate::Error;

pub(super) fn scan(path: &Path, columns: &[&str], to: &mut dyn Scan) -> Result<(), Error> {
    scan_text(path, compression::open(path)?, columns, to)
}

/// As [`scan`], of a file that is open.
pub(crate) fn scan_text(
    path: &Path,
    text: Text,
    columns: &[&str],
    scan: &mut dyn Scan,
) -> Result<(), Error> {
    if text.is_parquet {
        return Err(super::parquet_as_text(path));
    }
    let mut first = true;
    lines(path, text, |place, line, bytes| {
        scan.bytes(bytes);
        let mut json = serde_json::Deserializer::from_slice(line);
        let cells = Picks(columns)
            .deserialize(&mut json)
            .and_then(|cells| json.end().map(|()| cells));
        match cells {
            Ok(cells) => {
                // Keys may be left out of single rows, but a first row without them means other names.
                if std::mem::take(&mut first) && cells.iter().any(Option::is_none) {
                    find_columns(path, &keys(line), columns)?;
                }
                let cells: Vec<Cell> = cells.into_iter().map(|c| c.unwrap_or(Cell::Null)).collect();
                scan.row(place, Ok(&cells))
            }
            Err(error) => scan.row(place, Err(not_an_object(&error, line))),
        }
    })
}

/// The complaint about a line that is no JSON object.
pub(crate) fn not_an_object(error: &serde_json::Error, line: &[u8]) -> BadCell {
    BadCell {
        column: None,
        expected: "a JSON object".into(),
        found: format!(
            "{} ({error})",
            crate::error::quoted(&String::from_utf8_lossy(line))
        ),
    }
}

fn keys(object: &[u8]) -> Vec<String> {
    serde_json::from_slice::<serde_json::Map<_, _>>(object).map_or_else(
        |_| Vec::new(),
        |map| map.into_iter().map(|(key, _)| key).collect(),
    )
}

/// Reads the named values of an object, and nothing else of it; of a repeated key the last one.
struct Picks<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Picks<'_> {
    type Value = Vec<Option<Cell<'de>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Picks<'_> {
    type Value = Vec<Option<Cell<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = vec![None; self.0.len()];
        while let Some(JsonText(key)) = map.next_key()? {
            match self.0.iter().position(|column| *column == key) {
                Some(pick) => {
                    let JsonCell(cell) = map.next_value()?;
                    cells[pick] = Some(cell);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(cells)
    }
}

/// A string, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
pub(crate) struct JsonText<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Any JSON value as a cell.
pub(crate) struct JsonCell<'a>(pub Cell<'a>);

impl<'de> serde::Deserialize<'de> for JsonCell<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor).map(JsonCell)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Cell::Other(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Cell::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cell::Text(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cell::Text(value.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::new();
        while let Some(JsonCell(cell)) = list.next_element()? {
            cells.push(cell);
        }
        Ok(Cell::List(cells))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("an object"))
    }
}
