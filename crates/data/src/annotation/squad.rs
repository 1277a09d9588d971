//! Questions with answers in a text, as `SQuAD` 1.1 and 2.0 write them.

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::error::{BadRow, Place, quoted};
use crate::source::{self, BadRows, ReadReport};

/// Largest file that is read, without compression.
const MAX_BYTES: usize = 1 << 30;
const STEP_BYTES: usize = 64 << 10;

/// Which questions to read. Compression by gzip or zstd is noticed.
///
/// # Source
/// Rajpurkar et al., arXiv:1606.05250 and arXiv:1806.03822, and their files.
/// # Departures
/// White space around an answer is taken off where the answer stands without it, as in some files that others made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squad {
    /// The file.
    pub path: PathBuf,
    /// What to do about questions that cannot be used.
    pub bad_rows: BadRows,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its id; a number as it is written.
    pub id: String,
    /// Title of the article, if it has one.
    pub title: Option<Arc<str>>,
    /// The text that the answers are in, which other questions may share.
    pub context: Arc<str>,
    /// What is asked.
    pub question: String,
    /// What people answered; none where the text has no answer.
    pub answers: Vec<Stretch>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its text, which stands in the context.
    pub text: String,
    /// Where, in characters (Unicode scalar values).
    pub chars: Range<u32>,
}

impl Squad {
    /// Stops at questions that cannot be used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            bad_rows: BadRows::Fail,
        }
    }

    /// Reads the file whole, which its format asks for: the questions in order, and how many of them were left out.
    ///
    /// # Errors
    /// If the file cannot be read, or is not of this format; of [`BadRows::Fail`], the first question whose answers do not
    /// stand where it says, or that has none and does not say so.
    pub fn read(&self) -> Result<(Vec<Question>, ReadReport), Error> {
        let bytes = self.bytes()?;
        let file: File = serde_json::from_slice(&bytes).map_err(|error| Error::Format {
            path: self.path.clone(),
            expected: "questions as SQuAD has them (data, paragraphs, qas, answers)".to_owned(),
            found: error.to_string(),
            advice: "is it the right file?".to_owned(),
        })?;
        let mut questions = Vec::new();
        let mut report = ReadReport::default();
        for article in file.data {
            let title: Option<Arc<str>> = article.title.map(Into::into);
            for paragraph in article.paragraphs {
                let context: Arc<str> = paragraph.context.into();
                let text = Context::new(&context);
                for asked in paragraph.qas {
                    report.rows += 1;
                    let made = asked.question(&text, title.as_ref(), &context);
                    match made {
                        Ok(question) => questions.push(question),
                        Err((column, expected, found)) => {
                            let bad = BadRow {
                                path: self.path.clone(),
                                place: Place::Question(report.rows),
                                column: Some(column.to_owned()),
                                expected,
                                found,
                            };
                            report.bad_row(bad, self.bad_rows)?;
                        }
                    }
                }
            }
        }
        Ok((questions, report))
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let mut text = source::open_text(&self.path)?;
        let mut bytes = Vec::new();
        loop {
            let mut step = text.stream.by_ref().take(STEP_BYTES as u64);
            let count = step.read_to_end(&mut bytes).map_err(|source| Error::Io {
                path: self.path.clone(),
                source,
            })?;
            text.meter.record_read();
            if count == 0 {
                return Ok(bytes);
            }
            if bytes.len() > MAX_BYTES {
                return Err(Error::Format {
                    path: self.path.clone(),
                    expected: format!("at most {MAX_BYTES} bytes"),
                    found: "more".to_owned(),
                    advice: "split it by articles".to_owned(),
                });
            }
        }
    }
}

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: Option<String>,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    id: Value,
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
    #[serde(default)]
    is_impossible: bool,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    /// A number; some files write it as text.
    answer_start: Value,
}

/// The part at fault, what was expected and what was found.
type Fault = (&'static str, String, String);

impl Asked {
    fn question(
        self,
        text: &Context,
        title: Option<&Arc<str>>,
        context: &Arc<str>,
    ) -> Result<Question, Fault> {
        let id = match self.id {
            Value::String(id) => id,
            Value::Number(number) => number.to_string(),
            other => {
                let expected = "a text or a number".to_owned();
                return Err(("id", expected, quoted(&other.to_string())));
            }
        };
        if self.is_impossible != self.answers.is_empty() {
            let expected = if self.is_impossible {
                format!("no answer to question {}, which is_impossible", quoted(&id))
            } else {
                format!("an answer to question {}, or is_impossible", quoted(&id))
            };
            let found = self.answers.first();
            let found = found.map_or("none".to_owned(), |answer| quoted(&answer.text));
            return Err(("answers", expected, found));
        }
        let mut answers = Vec::with_capacity(self.answers.len());
        for answer in &self.answers {
            answers.push(text.stretch(answer, &id)?);
        }
        Ok(Question {
            id,
            title: title.cloned(),
            context: context.clone(),
            question: self.question,
            answers,
        })
    }
}

/// A text and where its characters begin.
struct Context<'a> {
    text: &'a str,
    /// Bytes before each character, and of all.
    starts: Vec<usize>,
}

impl<'a> Context<'a> {
    fn new(text: &'a str) -> Self {
        let starts = text.char_indices().map(|(start, _)| start);
        Self {
            text,
            starts: starts.chain([text.len()]).collect(),
        }
    }

    fn stretch(&self, answer: &Answer, id: &str) -> Result<Stretch, Fault> {
        let start = match &answer.answer_start {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let start = start.and_then(|start| u32::try_from(start).ok());
        let Some(start) = start else {
            let found = quoted(&answer.answer_start.to_string());
            return Err(("answer_start", "a place in the context".to_owned(), found));
        };
        if answer.text.trim().is_empty() {
            let expected = format!("an answer to question {}", quoted(id));
            return Err(("answers", expected, quoted(&answer.text)));
        }
        let rest = self
            .starts
            .get(start as usize)
            .map(|&byte| &self.text[byte..]);
        let stands = |text: &&str| rest.is_some_and(|rest| rest.starts_with(*text));
        if let Some(text) = [answer.text.as_str(), answer.text.trim()]
            .iter()
            .find(|text| stands(text))
        {
            return Ok(Stretch {
                text: (*text).to_owned(),
                chars: start..start + text.chars().count() as u32,
            });
        }
        let expected = format!(
            "answer {} to question {} at character {start} of its context",
            quoted(&answer.text),
            quoted(id)
        );
        let found = rest.map_or_else(
            || format!("a context of {} characters", self.starts.len() - 1),
            |rest| {
                let there = rest.chars().take(answer.text.chars().count());
                let there = quoted(&there.collect::<String>());
                match self.nearest(&answer.text, start as usize) {
                    Some(place) => format!("{there}, and the answer at {place}"),
                    None => format!("{there}, and the answer nowhere"),
                }
            },
        );
        Err(("answer_start", expected, found))
    }

    /// The character nearest to `start` at which `wanted` stands.
    fn nearest(&self, wanted: &str, start: usize) -> Option<usize> {
        let places = self.text.match_indices(wanted);
        let places = places.map(|(byte, _)| self.starts.partition_point(|&start| start < byte));
        places.min_by_key(|place| place.abs_diff(start))
    }
}
