//! A user and an item per line, separated by blanks.

use std::path::Path;

use super::cell::Cell;
use super::{BadCell, Scan, compression, lines};
use crate::Error;
use crate::error::quoted;

pub(super) fn scan(path: &Path, scan: &mut dyn Scan) -> Result<(), Error> {
    let text = compression::open(path)?;
    if text.is_parquet {
        return Err(super::parquet_as_text(path));
    }
    lines(path, text, |place, line, bytes| {
        scan.bytes(bytes);
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        match (words.next(), words.next(), words.next()) {
            (Some(user), Some(item), None) => {
                scan.row(place, Ok(&[Cell::from(user), Cell::from(item)]))
            }
            _ => scan.row(
                place,
                Err(BadCell {
                    column: None,
                    expected: "a user and an item separated by a blank".into(),
                    found: quoted(&String::from_utf8_lossy(line)),
                }),
            ),
        }
    })
}
