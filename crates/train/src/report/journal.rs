//! `metrics.jsonl`: what a run measured, one JSON object a line, for people's own plots and for the report.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Row {
    /// Some steps of training.
    Step(StepRow),
    /// A look at the validation cases.
    Validation(ValidationRow),
}

/// Some steps of training, up to and with `step`.
///
/// JSON has no numbers that are infinite or none; they are written as `null` and read as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRow {
    /// Steps taken.
    pub step: u64,
    /// Epochs done, with the share of the one under way.
    pub epoch: f64,
    /// Seconds of training so far, validation not counted.
    pub seconds: f64,
    /// Mean loss since the row before.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Norm of the gradient of this step, before clipping.
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Tokens learned from in a second of training, since the row before.
    #[serde(deserialize_with = "number")]
    pub tokens_per_second: f64,
}

/// A look at the validation cases after `step`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationRow {
    /// Steps taken.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Seconds of training so far, validation not counted.
    pub seconds: f64,
    /// Values by name, such as `ndcg@10`.
    pub metrics: BTreeMap<String, f64>,
}

impl Row {
    fn step(&self) -> u64 {
        match self {
            Self::Step(row) => row.step,
            Self::Validation(row) => row.step,
        }
    }
}

/// A `metrics.jsonl` that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// An empty file in place of what was there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| io(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Goes on with a file after `step`, and returns the rows up to there. What was written later goes: a crash came
    /// after it and before the next checkpoint, so it will be measured again. A file that is missing is made.
    ///
    /// # Errors
    /// If it cannot be read or written, or has a line that is no row before its last one.
    pub fn resume(path: &Path, step: u64) -> Result<(Self, Vec<Row>), Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| io(path, source))?;
        let (rows, end) = parse(path, step)?;
        file.set_len(end as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|source| io(path, source))?;
        let journal = Self {
            path: path.to_owned(),
            file,
        };
        Ok((journal, rows))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, row: &Row) -> Result<(), Error> {
        let mut line = serde_json::to_string(row).expect("a row holds only what JSON can say");
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| io(&self.path, source))
    }
}

/// All rows of a file, but for a last line that a crash tore off.
///
/// # Errors
/// If it cannot be read, or has a line that is no row before its last one.
pub fn read(path: &Path) -> Result<Vec<Row>, Error> {
    Ok(parse(path, u64::MAX)?.0)
}

/// Rows up to `last_step`, and where in the file they end.
fn parse(path: &Path, last_step: u64) -> Result<(Vec<Row>, usize), Error> {
    let bytes = std::fs::read(path).map_err(|source| io(path, source))?;
    let mut rows = Vec::new();
    let mut end = 0;
    for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        let row: Row = match serde_json::from_slice(line) {
            // A line that was written whole ends with its line break.
            Ok(row) if line.ends_with(b"\n") => row,
            _ if end + line.len() == bytes.len() => break,
            Ok(_) => unreachable!("only a last line lacks its line break"),
            Err(error) => {
                return Err(Error::Resume {
                    path: path.to_owned(),
                    message: format!(
                        "line {number}: expected a row of metrics, found something else ({error}); repair or remove the file"
                    ),
                });
            }
        };
        if row.step() > last_step {
            break;
        }
        rows.push(row);
        end += line.len();
    }
    Ok((rows, end))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Spec(cloze_spec::Error::Io {
        path: path.to_owned(),
        source,
    })
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Row {
        Row::Step(StepRow {
            step,
            epoch: step as f64 / 7.0,
            seconds: 0.1,
            loss: 8.125 - 0.1 * step as f64,
            gradient_norm: 1.5,
            lr: 1e-4,
            tokens_per_second: 51_234.5,
        })
    }

    fn validation(step: u64) -> Row {
        let metrics = [("ndcg@10".to_owned(), 0.1 + 0.2), ("mrr".to_owned(), 0.25)];
        Row::Validation(ValidationRow {
            step,
            epoch: 1.0,
            seconds: 3.25,
            metrics: metrics.into(),
        })
    }

    /// A file with these rows.
    fn written(folder: &Path, rows: &[Row]) -> PathBuf {
        let path = folder.join("metrics.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for row in rows {
            journal.append(row).unwrap();
        }
        path
    }

    #[test]
    fn rows_are_read_as_they_were_written_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [step(10), validation(10), step(20)];
        let path = written(folder.path(), &rows);
        assert_eq!(read(&path).unwrap(), rows);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(r#"{"kind":"step","step":10,"#), "{text}");
    }

    #[test]
    fn going_on_forgets_what_came_after_the_step_and_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(
            folder.path(),
            &[step(10), step(20), validation(20), step(30), step(40)],
        );
        let (mut journal, rows) = Journal::resume(&path, 20).unwrap();
        assert_eq!(rows, [step(10), step(20), validation(20)]);
        journal.append(&step(25)).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [step(10), step(20), validation(20), step(25)]
        );
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[step(10), step(20)]);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path).unwrap(), [step(10)], "cut at {cut}");
            let (mut journal, _) = Journal::resume(&path, 100).unwrap();
            journal.append(&step(20)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[step(10), step(20), step(30)]);
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace(r#""step":20"#, r#""step":"x""#);
        std::fs::write(&path, text).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(
            message.contains("metrics.jsonl: line 2: expected a row"),
            "{message}"
        );
    }

    #[test]
    fn going_on_without_a_file_begins_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let (mut journal, rows) = Journal::resume(&path, 5).unwrap();
        assert!(rows.is_empty());
        journal.append(&step(6)).unwrap();
        assert_eq!(read(&path).unwrap(), [step(6)]);
        let missing = read(&folder.path().join("none.jsonl")).unwrap_err();
        assert!(missing.to_string().contains("none.jsonl"));
    }

    #[test]
    fn numbers_that_json_cannot_say_do_not_spoil_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let Row::Step(mut row) = step(10) else {
            unreachable!()
        };
        row.gradient_norm = f64::INFINITY;
        let path = written(folder.path(), &[Row::Step(row), step(20)]);
        let rows = read(&path).unwrap();
        assert!(matches!(&rows[0], Row::Step(row) if row.gradient_norm.is_nan() && row.step == 10));
        assert_eq!(rows[1], step(20));
    }
}
