//! Histories to predict from.

use std::fmt;
use std::path::{Path, PathBuf};

use cloze_spec::data::{Columns, Format};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{BadRow, Place, nearest};
use crate::source::{self, BadCell, BadRows, Cell, JsonCell, JsonText, Log, ReadReport, Text};
use crate::{Error, ItemVocabulary, Sequences};

/// What one user has taken so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The user, or the number of the line where none is named.
    pub key: String,
    /// Tokens of the items that the model knows, oldest first.
    pub items: Vec<u32>,
    /// Ids of the others, in their order.
    pub unknown: Vec<String>,
}

impl History {
    fn add(&mut self, id: &str, vocabulary: &ItemVocabulary) {
        match vocabulary.index(id) {
            Some(token) => self.items.push(token),
            None => self.unknown.push(id.to_owned()),
        }
    }
}

/// Opens histories for reading; `-` is standard input.
///
/// JSON Lines (and standard input, unless `format` says otherwise) are read one by one: each line is an object with
/// `items`, a list of ids from oldest to newest, and optionally `user`; other keys are left alone. All else is an
/// event log with `columns`, which is read whole first, as its users may be in any order.
///
/// # Errors
/// A file that cannot be read; of an event log, all that [`source::read`] may meet.
pub fn read_histories<'a>(
    path: &Path,
    vocabulary: &'a ItemVocabulary,
    format: &Format,
    columns: &Columns,
    bad_rows: BadRows,
) -> Result<Histories<'a>, Error> {
    let format = if path.as_os_str() == "-" && *format == Format::Auto {
        Format::Jsonl
    } else {
        source::resolve(path, format)?
    };
    let (source, report) = if format == Format::Jsonl {
        let text = source::open_text(path)?;
        let lines = Lines {
            path: path.to_owned(),
            text,
            line: Vec::new(),
            number: 0,
        };
        (Source::Lines(lines), ReadReport::default())
    } else {
        let files = [path.to_owned()];
        let (log, report) = source::read_log(&files, &format, columns, bad_rows, &mut |_, _| {})?;
        let sequences = Sequences::from_log(&log);
        (
            Source::Log {
                log,
                sequences,
                next: 0,
            },
            report,
        )
    };
    Ok(Histories {
        source: Some(source),
        vocabulary,
        bad_rows,
        report,
    })
}

/// Histories, one after the other. After an error there are no more.
pub struct Histories<'a> {
    /// None after the end or an error.
    source: Option<Source>,
    vocabulary: &'a ItemVocabulary,
    bad_rows: BadRows,
    report: ReadReport,
}

impl Histories<'_> {
    /// What has been read so far.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }
}

impl Iterator for Histories<'_> {
    type Item = Result<History, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.source.as_mut()? {
            Source::Lines(lines) => lines.next(self.vocabulary, self.bad_rows, &mut self.report),
            Source::Log {
                log,
                sequences,
                next,
            } => {
                let user = *next;
                *next += 1;
                Ok(
                    (user < sequences.len())
                        .then(|| of_user(log, sequences, user, self.vocabulary)),
                )
            }
        };
        if !matches!(next, Ok(Some(_))) {
            self.source = None;
        }
        next.transpose()
    }
}

enum Source {
    Lines(Lines),
    Log {
        log: Log,
        sequences: Sequences,
        next: usize,
    },
}

fn of_user(log: &Log, sequences: &Sequences, user: usize, vocabulary: &ItemVocabulary) -> History {
    let mut history = History {
        key: log.users[user].clone(),
        ..History::default()
    };
    for &item in sequences.get(user) {
        history.add(&log.items[item as usize], vocabulary);
    }
    history
}

struct Lines {
    path: PathBuf,
    text: Text,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn next(
        &mut self,
        vocabulary: &ItemVocabulary,
        bad_rows: BadRows,
        report: &mut ReadReport,
    ) -> Result<Option<History>, Error> {
        while source::next_line(&self.path, &mut self.text, &mut self.line, &mut self.number)? {
            report.rows += 1;
            match history(&self.line, self.number, vocabulary) {
                Ok(history) => return Ok(Some(history)),
                Err(bad) => report.bad_row(
                    BadRow {
                        path: self.path.clone(),
                        place: Place::Line(self.number),
                        column: bad.column.map(|_| ITEMS.to_owned()),
                        expected: bad.expected,
                        found: bad.found,
                    },
                    bad_rows,
                )?,
            }
        }
        Ok(None)
    }
}

const USER: &str = "user";
const ITEMS: &str = "items";

fn history(line: &[u8], number: u64, vocabulary: &ItemVocabulary) -> Result<History, BadCell> {
    let object: Object =
        serde_json::from_slice(line).map_err(|error| source::not_an_object(&error, line))?;
    let bad = |column, expected: &str, found| BadCell {
        column,
        expected: expected.to_owned(),
        found,
    };
    let Some(items) = object.items else {
        let near = nearest(ITEMS, object.others.iter().map(String::as_str));
        let hint = near.map_or_else(String::new, |near| format!(" but {near:?}"));
        return Err(bad(None, "the key \"items\"", format!("none{hint}")));
    };
    let Cell::List(items) = items else {
        return Err(bad(Some(0), "a list of item ids", items.describe()));
    };
    let mut buffer = String::new();
    let key = match object.user {
        Cell::Null => number.to_string(),
        user => user
            .id(&mut buffer)
            .map_err(|found| bad(None, "an id in the key \"user\"", found))?
            .to_owned(),
    };
    let mut history = History {
        key,
        ..History::default()
    };
    for item in &items {
        let id = item
            .id(&mut buffer)
            .map_err(|found| bad(Some(0), "item ids", found))?;
        history.add(id, vocabulary);
    }
    Ok(history)
}

/// What a line holds.
struct Object<'a> {
    user: Cell<'a>,
    items: Option<Cell<'a>>,
    /// Other keys, to look for a misspelt one among.
    others: Vec<String>,
}

impl<'de> serde::Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const MAX_OTHERS: usize = 32;
        let mut object = Object {
            user: Cell::Null,
            items: None,
            others: Vec::new(),
        };
        while let Some(JsonText(key)) = map.next_key()? {
            match &*key {
                USER => object.user = map.next_value::<JsonCell>()?.0,
                ITEMS => object.items = Some(map.next_value::<JsonCell>()?.0),
                other => {
                    if object.others.len() < MAX_OTHERS {
                        object.others.push(other.to_owned());
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> ItemVocabulary {
        let ids = ["7", "85123A", "ü"].map(str::to_owned).to_vec();
        ItemVocabulary::new(ids, vec![None; 3], vec![1; 3])
    }

    fn read(
        name: &str,
        text: &str,
        bad_rows: BadRows,
    ) -> (Vec<Result<History, String>>, ReadReport) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let vocabulary = vocabulary();
        let columns = Columns {
            time: Some("time".into()),
            ..Columns::default()
        };
        let mut histories =
            read_histories(&path, &vocabulary, &Format::Auto, &columns, bad_rows).unwrap();
        let all = histories
            .by_ref()
            .map(|h| h.map_err(|e| e.to_string()))
            .collect();
        (all, histories.report().clone())
    }

    fn known(key: &str, items: &[u32]) -> History {
        History {
            key: key.into(),
            items: items.to_vec(),
            unknown: Vec::new(),
        }
    }

    #[test]
    fn lines_of_json_are_read_in_order() {
        let text = concat!(
            "{\"user\": 17850, \"items\": [\"85123A\", 7, \"85123A\", \"\\u00fc\"]}\n",
            "\n",
            "{\"items\": [], \"page\": {\"items\": 3}}\r\n",
            "{\"items\": [\"8\", 7], \"user\": \"bob\"}",
        );
        let (all, report) = read("h.jsonl", text, BadRows::Fail);
        let bob = History {
            key: "bob".into(),
            items: vec![0],
            unknown: vec!["8".into()],
        };
        assert_eq!(
            all,
            [
                Ok(known("17850", &[1, 0, 1, 2])),
                Ok(known("3", &[])),
                Ok(bob)
            ]
        );
        assert_eq!((report.rows, report.skipped), (3, 0));
    }

    #[test]
    fn a_bad_line_ends_the_reading_or_is_skipped() {
        for (line, message) in [
            (
                "{\"item\": [7]}",
                "line 2: expected the key \"items\", found none but \"item\"",
            ),
            (
                "{\"items\": \"7\"}",
                "column \"items\": expected a list of item ids, found \"7\"",
            ),
            (
                "{\"items\": [7, null]}",
                "column \"items\": expected item ids, found nothing",
            ),
            (
                "{\"items\": [[7]]}",
                "column \"items\": expected item ids, found a list",
            ),
            (
                "{\"items\": [7]",
                "line 2: expected a JSON object, found \"{\\\"items\\\": [7]\"",
            ),
            (
                "{\"user\": {}, \"items\": [7]}",
                "expected an id in the key \"user\", found an object",
            ),
            ("[7]", "expected a JSON object"),
        ] {
            let text = format!("{{\"items\": [7]}}\n{line}\n{{\"items\": [7]}}\n");
            let (all, _) = read("h.jsonl", &text, BadRows::Fail);
            assert_eq!(all.len(), 2);
            let error = all[1].clone().unwrap_err();
            assert!(error.contains(message), "{error}");
            let (all, report) = read("h.jsonl", &text, BadRows::Skip);
            assert_eq!(all, [Ok(known("1", &[0])), Ok(known("3", &[0]))]);
            assert_eq!((report.rows, report.skipped), (3, 1));
        }
    }

    #[test]
    fn an_event_log_becomes_one_history_per_user() {
        let text = "time,user,item\n3,bob,7\n2,ann,x\n1,bob,85123A\n1,ann,7\n";
        let (all, report) = read("h.csv", text, BadRows::Fail);
        let ann = History {
            key: "ann".into(),
            items: vec![0],
            unknown: vec!["x".into()],
        };
        assert_eq!(all, [Ok(known("bob", &[1, 0])), Ok(ann)]);
        assert_eq!(report.rows, 4);
    }
}
