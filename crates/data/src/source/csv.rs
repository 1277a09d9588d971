//! Delimited text, quoted as in RFC 4180.

use std::path::Path;

use cloze_spec::data::Csv;

use super::cell::Cell;
use super::{BadCell, Scan, compression, find_columns};
use crate::Error;
use crate::error::Place;

pub(super) fn scan(
    path: &Path,
    settings: &Csv,
    columns: &[&str],
    scan: &mut dyn Scan,
) -> Result<(), Error> {
    let text = compression::open(path)?;
    if text.is_parquet {
        return Err(super::parquet_as_text(path));
    }
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(settings.delimiter as u8)
        .quoting(settings.quotes)
        .has_headers(false)
        // Rows of the wrong length are told apart below, where they can be skipped.
        .flexible(true)
        .from_reader(text.stream);
    let mut record = csv::ByteRecord::new();
    let mut next = |record: &mut csv::ByteRecord, place: &mut Place| {
        let line = reader.position().line();
        let found = reader
            .read_byte_record(record)
            .map_err(|error| Error::Broken {
                path: path.to_owned(),
                place: Place::Line(line),
                source: error.into(),
            })?;
        *place = Place::Line(record.position().map_or(line, csv::Position::line));
        text.meter.record_read();
        Ok::<_, Error>(found)
    };
    let mut place = Place::Line(1);
    let mut more = next(&mut record, &mut place)?;
    let width = record.len();
    let names: Vec<String> = if settings.header {
        record
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect()
    } else {
        (0..width).map(|number| number.to_string()).collect()
    };
    let picks = find_columns(path, &names, columns)?;
    if settings.header {
        more = next(&mut record, &mut place)?;
    }
    while more {
        if record.len() == width {
            let cells: Vec<Cell> = picks.iter().map(|&pick| record[pick].into()).collect();
            scan.row(place, Ok(&cells))?;
        } else {
            let is_open = record.iter().any(|cell| cell.contains(&b'\n'));
            let hint = if is_open { " (a quote left open?)" } else { "" };
            let bad = BadCell {
                column: None,
                expected: format!("{width} columns as in the first row"),
                found: format!("{}{hint}", record.len()),
            };
            scan.row(place, Err(bad))?;
        }
        scan.bytes(text.meter.raw_bytes());
        more = next(&mut record, &mut place)?;
    }
    Ok(())
}
