//! Both sides of a comparison, from one file or two.

use std::path::Path;

use anyhow::bail;
use cloze_data::Error;
use cloze_data::records::label::listed;
use cloze_data::records::{Cells, Format};
use cloze_spec::data::Csv;

use super::arguments::{Common, FileFormat};

/// What is true and what was predicted, row by row.
pub struct Sides {
    /// A column, or one for each file of references.
    pub truth: Vec<Cells>,
    /// The columns asked for.
    pub own: Vec<Cells>,
}

impl Sides {
    /// Reads the column `truth` and the columns `own` of the predictions in `path`, which are those of the command line or
    /// the ones they are compared with.
    pub fn read(common: &Common, path: &Path, truth: &str, own: &[&str]) -> anyhow::Result<Self> {
        if !common.references.is_empty() {
            let own = cells(common, path, own)?;
            let mut columns = Vec::new();
            for file in &common.references {
                columns.extend(cells(common, file, &[truth])?);
            }
            let sides = Self {
                truth: columns,
                own,
            };
            return sides.checked();
        }
        let all: Vec<&str> = [&[truth], own].concat();
        let is_other = common.against.as_deref() == Some(path);
        let mut sides = match cells(common, path, &all) {
            Ok(mut cells) => Self {
                own: cells.split_off(1),
                truth: cells,
            },
            // What is true need not be said twice.
            Err(Error::NoColumn { column, .. }) if is_other && column == truth => Self {
                own: cells(common, path, own)?,
                truth: Vec::new(),
            },
            Err(error) => return Err(error.into()),
        };
        if is_other {
            let first = cells(common, &common.predictions, &[truth])?;
            for (other, first) in sides.truth.iter().zip(&first) {
                let rows = other.values.iter().zip(&first.values);
                for (row, (found, expected)) in rows.enumerate() {
                    if found != expected {
                        let expected = format!(
                            "{} as in {}",
                            expected.describe(),
                            common.predictions.display()
                        );
                        return Err(other.fault(row, expected, None).into());
                    }
                }
            }
            sides.truth = first;
        }
        sides.checked()
    }

    fn checked(self) -> anyhow::Result<Self> {
        let first = &self.own[0];
        for other in &self.truth {
            if other.values.len() != first.values.len() {
                bail!(
                    "{}: expected {} rows, as many as {} has, found {}; row by row both must be about the same examples",
                    other.path.display(),
                    first.values.len(),
                    first.path.display(),
                    other.values.len()
                );
            }
        }
        anyhow::ensure!(
            !first.values.is_empty(),
            "{}: expected predictions, found none",
            first.path.display()
        );
        Ok(self)
    }

    /// The column of what is true, where there can be but one.
    pub fn only_truth(&self) -> anyhow::Result<&Cells> {
        anyhow::ensure!(
            self.truth.len() == 1,
            "--references: expected one file, found {}",
            self.truth.len()
        );
        Ok(&self.truth[0])
    }
}

/// Reads columns of one file, in the format that the command line names.
pub fn cells(common: &Common, path: &Path, columns: &[&str]) -> Result<Vec<Cells>, Error> {
    let format = match common.format {
        None => Format::Auto,
        Some(FileFormat::Parquet) => Format::Parquet,
        Some(FileFormat::Csv) => Format::Csv(Csv::default()),
        Some(FileFormat::Tsv) => Format::Csv(Csv {
            delimiter: '\t',
            ..Csv::default()
        }),
        Some(FileFormat::Jsonl) => Format::Jsonl,
        Some(FileFormat::Lines) => Format::Lines,
    };
    let format = format.delimited(path, true, !common.no_quotes)?;
    Cells::read(path, &format, columns)
}

/// The place of a label among the known ones, or what is expected.
pub fn place(labels: &[String], label: &str) -> Result<usize, String> {
    let place = labels.iter().position(|known| known == label);
    place.ok_or_else(|| format!("a class of --classes, {}", listed(labels)))
}
