//! Names of items, from a table.

use std::collections::HashMap;
use std::path::Path;

use cloze_spec::data::{Format, Titles};

use crate::Error;
use crate::error::Place;
use crate::source::{self, BadCell, BadRows, Cell, ReadReport, Scan};

/// Reads a table of titles by item id. Items without a title are left out; of several titles the first one counts.
///
/// # Errors
/// A file that cannot be read, is damaged or lacks a column; a bad row, unless they are to be skipped.
pub fn read(
    settings: &Titles,
    bad_rows: BadRows,
) -> Result<(HashMap<String, String>, ReadReport), Error> {
    let path = &settings.file;
    let format = source::resolve(path, &Format::Auto)?;
    if format == Format::Pairs {
        return Err(Error::Format {
            path: path.clone(),
            expected: "titles in a .parquet, .csv, .tsv or .jsonl file".into(),
            found: "a .txt file".into(),
            advice: "convert it or rename it".into(),
        });
    }
    let columns = [settings.item.as_str(), settings.title.as_str()];
    let mut collector = Collector {
        path,
        columns: &columns,
        bad_rows,
        titles: HashMap::new(),
        buffer: String::new(),
        report: ReadReport::default(),
    };
    source::scan(path, &format, &columns, &mut collector)?;
    Ok((collector.titles, collector.report))
}

struct Collector<'a> {
    path: &'a Path,
    columns: &'a [&'a str],
    bad_rows: BadRows,
    titles: HashMap<String, String>,
    buffer: String,
    report: ReadReport,
}

impl Collector<'_> {
    fn add(&mut self, cells: &[Cell]) -> Result<(), BadCell> {
        let bad = |column, expected: &'static str| {
            move |found| BadCell {
                column: Some(column),
                expected: expected.into(),
                found,
            }
        };
        let title = match &cells[1] {
            Cell::Null => return Ok(()),
            Cell::Text(title) => title.trim().to_owned(),
            other => other
                .id(&mut self.buffer)
                .map_err(bad(1, "a title"))?
                .to_owned(),
        };
        let item = cells[0].id(&mut self.buffer).map_err(bad(0, "an id"))?;
        if !title.is_empty() && !self.titles.contains_key(item) {
            self.titles.insert(item.to_owned(), title);
        }
        Ok(())
    }
}

impl Scan for Collector<'_> {
    fn row(&mut self, place: Place, cells: Result<&[Cell], BadCell>) -> Result<(), Error> {
        self.report.rows += 1;
        match cells.and_then(|cells| self.add(cells)) {
            Ok(()) => Ok(()),
            Err(bad) => {
                let bad = bad.at(self.path, place, self.columns);
                self.report.bad_row(bad, self.bad_rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(name: &str, text: &str) -> Result<HashMap<String, String>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let settings = Titles {
            file,
            item: "item".into(),
            title: "name".into(),
        };
        Ok(read(&settings, BadRows::Fail)?.0)
    }

    #[test]
    fn the_first_title_that_is_not_empty_counts() {
        let csv = "name,item\n\"Lamp, red\",7\n,8\n  ,7\nVase,7\n Vase ,9\n";
        let json = "{\"item\": 7, \"name\": \"Lamp, red\"}\n{\"item\": \"8\", \"name\": null}\n{\"item\": 9, \"name\": \"Vase\"}\n";
        for titles in [titles("t.csv", csv), titles("t.jsonl", json)] {
            let titles = titles.unwrap();
            assert_eq!(titles.len(), 2);
            assert_eq!((&*titles["7"], &*titles["9"]), ("Lamp, red", "Vase"));
        }
    }

    #[test]
    fn a_table_of_another_shape_is_refused() {
        let error = titles("t.csv", "item,nam\n1,a\n").unwrap_err().to_string();
        assert!(
            error.contains(r#"no column "name", did you mean "nam"?"#),
            "{error}"
        );
        assert!(titles("t.txt", "1 a\n").is_err());
        assert!(titles("t.jsonl", "{\"item\": 1, \"name\": [2]}\n").is_err());
    }
}
