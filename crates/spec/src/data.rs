//! What to learn from: the `[data]` table of a recipe.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where examples come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Data {
    /// A log of users and the items they took.
    Interactions(Interactions),
}

/// A log of users and the items they took, and what is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interactions {
    /// Files to read, in this order; relative to the working folder. None: the caller names them.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Names of the items, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub titles: Option<Titles>,
    /// How the files are written.
    #[serde(default)]
    pub format: Format,
    /// Which columns to read; without meaning for [`Format::Pairs`].
    #[serde(default)]
    pub columns: Columns,
    /// Users with fewer events are dropped, and items and users again until none is left to drop; 1 keeps all.
    pub min_user_events: u32,
    /// Items with fewer events are dropped, likewise.
    pub min_item_events: u32,
    /// What becomes of a user's repeated items, before rare users and items are dropped.
    pub duplicates: Duplicates,
    /// What is held out to measure on.
    pub split: Split,
}

impl Interactions {
    /// What is wrong with values whose types are right, each fault with its key under `path`.
    pub fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [
            ("min_user_events", self.min_user_events),
            ("min_item_events", self.min_item_events),
        ] {
            if value == 0 {
                faults.push(format!(
                    "{path}.{key}: expected at least 1, found 0; 1 keeps all"
                ));
            }
        }
        if let Format::Csv(Csv { delimiter, .. }) = self.format
            && (!delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r'))
        {
            faults.push(format!(
                "{path}.format.delimiter: expected one ASCII character other than a quote or a line end, found {delimiter:?}"
            ));
        }
        self.column_faults(path, &mut faults);
        if let Split::Time(split) = &self.split {
            split.faults(path, &mut faults);
            if self.format == Format::Pairs {
                faults.push(format!(
                    "{path}.split: a split by time needs times, which files of pairs have not; split by leave-one-out"
                ));
            } else if self.columns.time.is_none() {
                faults.push(format!(
                    "{path}.split: a split by time needs times; name their column in {path}.columns.time, or split by leave-one-out"
                ));
            }
        }
        faults
    }

    fn column_faults(&self, path: &str, faults: &mut Vec<String>) {
        let Columns { user, item, time } = &self.columns;
        let mut columns = vec![("user", user), ("item", item)];
        columns.extend(time.iter().map(|time| ("time", time)));
        for (key, name) in columns {
            if name.is_empty() {
                faults.push(format!(
                    "{path}.columns.{key}: expected a column's name, found an empty string"
                ));
            } else if matches!(self.format, Format::Csv(Csv { header: false, .. }))
                && name.parse::<usize>().is_err()
            {
                faults.push(format!(
                    "{path}.columns.{key}: expected a column's number, counted from 0, as the file has no header; found {name:?}"
                ));
            }
        }
        if user == item {
            faults.push(format!(
                "{path}.columns: user and item are both {user:?}; expected two columns"
            ));
        }
    }
}

/// A table with a name for each item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Titles {
    /// Parquet, CSV, TSV or JSON Lines, told by its extension.
    pub file: PathBuf,
    /// The column of item ids.
    pub item: String,
    /// The column of names.
    pub title: String,
}

/// How event files are written. Compression by gzip or zstd is noticed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Format {
    /// By extension, after `.gz` or `.zst`: `.parquet`, `.csv`, `.tsv`, `.jsonl` or `.ndjson`, and `.txt` for pairs.
    #[default]
    Auto,
    /// Apache Parquet.
    Parquet,
    /// Delimited text.
    Csv(Csv),
    /// One JSON object per line.
    Jsonl,
    /// A user and an item per line, separated by blanks, in order of time.
    Pairs,
}

/// Delimited text, quoted as in RFC 4180 unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// One ASCII character.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether the first line names the columns; if not, columns are named by number, counted from 0.
    #[serde(default = "yes")]
    pub header: bool,
    /// Whether quotes around a value belong to the format; if not, they are characters like others.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub quotes: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            delimiter: comma(),
            header: yes(),
            quotes: yes(),
        }
    }
}

fn comma() -> char {
    ','
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_yes(value: &bool) -> bool {
    *value
}

/// Names of the columns to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// Who.
    pub user: String,
    /// Took what.
    pub item: String,
    /// When; without it the order of the file counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            user: "user".into(),
            item: "item".into(),
            time: None,
        }
    }
}

/// What becomes of an item that a user takes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// Every event counts.
    Keep,
    /// The first one counts.
    Merge,
    /// The first of each unbroken run counts.
    MergeConsecutive,
}

/// What is held out to measure on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Split {
    /// Each user's last item is for testing, the one before it for validation.
    ///
    /// Leaks the future: a model learns from what other users did after a case's moment.
    LeaveOneOut(LeaveOneOut),
    /// The log is cut at two moments: all that is later than a cut is held out.
    Time(TimeSplit),
}

/// Who gives an item away for validation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveOneOut {
    /// How many users, spread evenly over all, validate; of everybody else the item before the last is trained on.
    /// Everybody validates where this is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_users: Option<NonZeroUsize>,
}

/// Shares of the events, latest last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSplit {
    /// Share of events between the cuts.
    pub validation_share: f64,
    /// Share of events after the second cut.
    pub test_share: f64,
}

impl TimeSplit {
    fn faults(&self, path: &str, faults: &mut Vec<String>) {
        let shares = [
            ("validation_share", self.validation_share),
            ("test_share", self.test_share),
        ];
        for (key, share) in shares {
            if !(share > 0.0 && share < 1.0) {
                faults.push(format!(
                    "{path}.split.{key}: expected a share between 0 and 1, found {share}"
                ));
            }
        }
        if self.validation_share + self.test_share >= 1.0 {
            let [(_, validation), (_, test)] = shares;
            faults.push(format!(
                "{path}.split: validation_share {validation} and test_share {test} leave nothing to train on; expected a sum below 1"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        kind = "interactions"
        files = ["orders.parquet"]
        titles = { file = "items.parquet", item = "item", title = "description" }
        format = { kind = "csv", delimiter = "\t" }
        columns = { user = "customer", item = "item", time = "time" }
        min_user_events = 5
        min_item_events = 5
        duplicates = "merge-consecutive"
        split = { kind = "time", validation_share = 0.1, test_share = 0.2 }
    "#;

    #[test]
    fn a_table_is_read_and_written_back() {
        let data: Data = toml::from_str(FULL).unwrap();
        let Data::Interactions(settings) = &data;
        assert_eq!(settings.faults("data"), [""; 0]);
        assert_eq!(
            settings.format,
            Format::Csv(Csv {
                delimiter: '\t',
                ..Csv::default()
            })
        );
        assert_eq!(settings.columns.time.as_deref(), Some("time"));
        let again: Data = toml::from_str(&toml::to_string(&data).unwrap()).unwrap();
        assert_eq!(again, data);
    }

    #[test]
    fn misspelt_keys_are_refused_at_every_depth() {
        for (right, wrong) in [
            ("files =", "file ="),
            ("title =", "name ="),
            ("delimiter =", "separator ="),
            ("customer\", item =", "customer\", product ="),
            ("test_share =", "tests_share ="),
        ] {
            let text = FULL.replace(right, wrong);
            assert_ne!(text, FULL);
            assert!(toml::from_str::<Data>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_faults_are_reported_together() {
        let text = FULL
            .replace("min_user_events = 5", "min_user_events = 0")
            .replace("test_share = 0.2", "test_share = 0.95")
            .replace(r#"delimiter = "\t""#, r#"delimiter = "é", header = false"#);
        let Data::Interactions(settings) = toml::from_str(&text).unwrap();
        let faults = settings.faults("data");
        assert_eq!(faults.len(), 6, "{faults:#?}");
        assert!(faults[0].starts_with("data.min_user_events: "));
        assert!(faults[1].starts_with("data.format.delimiter: "));
        assert!(faults[2].contains("\"customer\""));
        assert!(faults[5].contains("sum below 1"));
    }

    #[test]
    fn a_split_by_time_needs_times() {
        let text = FULL.replace(r#", time = "time" }"#, " }");
        let Data::Interactions(settings) = toml::from_str(&text).unwrap();
        assert!(settings.faults("data")[0].contains("data.columns.time"));
    }
}
