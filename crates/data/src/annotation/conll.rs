//! Files of the shared tasks of `CoNLL` and what is written like them: a word a line, its columns apart by tabs or
//! blanks, a blank line after each sentence.

use std::path::{Path, PathBuf};

use super::scheme::{Scheme, Span};
use crate::Error;
use crate::error::{BadRow, Place, quoted};
use crate::source::{self, BadRows, ReadReport, Text};

/// Words of a sentence at most; more is a file without blank lines.
const MAX_WORDS: usize = 1 << 20;
const DOCUMENT: &str = "-DOCSTART-";

/// Which sentences to read.
///
/// Columns are apart by tabs if the first word's line has one, else by white space, and every line has as many as that
/// one. A line that begins with `-DOCSTART-` begins a document. A line that begins with `#` before a sentence's first word is
/// a comment, unless it has as many columns as words have. Compression by gzip or zstd is noticed.
///
/// Of `CoNLL-U`, lines of ranges of words (`1-2`) and of words that are not in the text (`1.1`) are left out: what is read
/// are syntactic words (<https://universaldependencies.org/format.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conll {
    /// The file.
    pub path: PathBuf,
    /// Column of the words, from 0.
    pub word: usize,
    /// Column of the tags; the last one if none. A file of one column has no tags.
    pub tag: Option<usize>,
    /// Column of numbers as of `CoNLL-U`, by which lines that are no words are told; none: each line is a word.
    pub number: Option<usize>,
    /// How tags write stretches; told from the whole file if none: where more than half of the tags are not those of stretches,
    /// [`Scheme::Words`].
    pub scheme: Option<Scheme>,
    /// What to do about sentences that cannot be used.
    pub bad_rows: BadRows,
}

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Its words.
    pub words: Vec<String>,
    /// Its labelled stretches, first to last.
    pub spans: Vec<Span>,
    /// How many documents began before it, or with it.
    pub document: u64,
    /// Line of its first word, from 1.
    pub line: u64,
}

impl Conll {
    /// Words of the first column, tags of the last, in a scheme told from the file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            word: 0,
            tag: None,
            number: None,
            scheme: None,
            bad_rows: BadRows::Fail,
        }
    }

    /// Words and tags of `CoNLL-U`, the tags from column `tag` of [`Self::COLUMNS`].
    pub fn universal(path: impl Into<PathBuf>, tag: usize) -> Self {
        Self {
            word: 1,
            tag: Some(tag),
            number: Some(0),
            ..Self::new(path)
        }
    }

    /// The columns of `CoNLL-U`.
    pub const COLUMNS: [&str; 10] = [
        "id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc",
    ];

    /// Opens the file; sentences are read when they are asked for. Without a scheme it is read to its end before.
    ///
    /// # Errors
    /// If the file cannot be read, is a pipe, has no word, or lacks a column.
    pub fn read(&self) -> Result<Sentences, Error> {
        if self.path.as_os_str() == "-" {
            return Err(self.fault(
                "a file, which is read more than once",
                "standard input",
                "write it to a file first",
            ));
        }
        let layout = self.layout()?;
        let mut sentences = Sentences {
            blocks: Some(Blocks::open(&self.path, layout)?),
            settings: self.clone(),
            layout,
            scheme: self.scheme,
            report: ReadReport::default(),
        };
        if layout.tag.is_some() && self.scheme.is_none() {
            sentences.scheme = Some(self.detect(layout)?);
        }
        Ok(sentences)
    }

    /// Of the first line with a word.
    fn layout(&self) -> Result<Layout, Error> {
        let mut text = source::open_text(&self.path)?;
        let (mut line, mut number) = (Vec::new(), 0);
        let mut found: Option<Vec<u8>> = None;
        while source::next_line(&self.path, &mut text, &mut line, &mut number)? {
            if line.starts_with(DOCUMENT.as_bytes()) {
                continue;
            }
            let is_comment = line.starts_with(b"#");
            if !is_comment || found.is_none() {
                found = Some(line.clone());
            }
            if !is_comment {
                break;
            }
        }
        let Some(line) = found else {
            return Err(self.fault("a word a line", "no words", "is it the right file?"));
        };
        let has_tabs = line.contains(&b'\t');
        let layout = Layout {
            has_tabs,
            columns: 1,
            tag: None,
            number: self.number,
        };
        let columns = layout.split(&String::from_utf8_lossy(&line)).len();
        let tag = self.tag.or((columns > 1).then_some(columns - 1));
        let last = tag.max(self.number).unwrap_or(0).max(self.word);
        if last >= columns {
            return Err(self.fault(
                &format!("at least {} columns", last + 1),
                &format!("{columns} in {}", quoted(&String::from_utf8_lossy(&line))),
                "name other columns; they count from 0",
            ));
        }
        Ok(Layout {
            columns,
            tag,
            ..layout
        })
    }

    fn detect(&self, layout: Layout) -> Result<Scheme, Error> {
        let mut blocks = Blocks::open(&self.path, layout)?;
        let mut faulty = [0; 3];
        let (mut words, mut stretches) = (0_u64, 0);
        while let Some(block) = blocks.next()? {
            // Other faults are told when the sentence is read.
            let Ok(rows) = layout.rows(&block) else {
                continue;
            };
            let tags = layout.tags(&rows);
            words += tags.len() as u64;
            stretches += tags.iter().filter(|tag| Scheme::is_tag(tag)).count() as u64;
            for (scheme, faulty) in Scheme::ALL.iter().zip(&mut faulty) {
                *faulty += u64::from(scheme.spans(&tags).is_err());
            }
        }
        if 2 * stretches < words {
            return Ok(Scheme::Words);
        }
        Ok(Scheme::detect(faulty))
    }

    fn fault(&self, expected: &str, found: &str, advice: &str) -> Error {
        Error::Format {
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            advice: advice.to_owned(),
        }
    }
}

/// Sentences, one after the other. After an error there are no more.
pub struct Sentences {
    /// None after the end or an error.
    blocks: Option<Blocks>,
    settings: Conll,
    layout: Layout,
    scheme: Option<Scheme>,
    report: ReadReport,
}

impl Sentences {
    /// How the tags write stretches, if there are tags.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme.filter(|_| self.layout.tag.is_some())
    }

    /// What has been read so far, a sentence being a row.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    fn sentence(&self, block: &Block) -> Result<Sentence, BadRow> {
        let bad = |word: usize, column: Option<usize>, expected: String, found: String| BadRow {
            path: self.settings.path.clone(),
            place: Place::Line(block.lines[word].0),
            column: column.map(|column| column.to_string()),
            expected,
            found,
        };
        let rows = self
            .layout
            .rows(block)
            .map_err(|(word, expected, found)| bad(word, None, expected, found))?;
        let mut words = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let word = row[self.settings.word];
            if word.trim().is_empty() {
                let column = Some(self.settings.word);
                return Err(bad(index, column, "a word".to_owned(), quoted(word)));
            }
            if let Some(tag) = self.layout.tag.filter(|&tag| row[tag].trim().is_empty()) {
                return Err(bad(index, Some(tag), "a tag".to_owned(), quoted(row[tag])));
            }
            words.push(word.to_owned());
        }
        let spans = match (self.layout.tag, self.scheme) {
            (Some(column), Some(scheme)) => {
                scheme.spans(&self.layout.tags(&rows)).map_err(|fault| {
                    let expected = format!("{} ({scheme})", fault.expected);
                    bad(fault.word, Some(column), expected, fault.found)
                })?
            }
            _ => Vec::new(),
        };
        Ok(Sentence {
            words,
            spans,
            document: block.document,
            line: block.lines[0].0,
        })
    }

    fn advance(&mut self) -> Result<Option<Sentence>, Error> {
        loop {
            let Some(blocks) = &mut self.blocks else {
                return Ok(None);
            };
            let Some(block) = blocks.next()? else {
                return Ok(None);
            };
            self.report.rows += 1;
            match self.sentence(&block) {
                Ok(sentence) => return Ok(Some(sentence)),
                Err(bad) => self.report.bad_row(bad, self.settings.bad_rows)?,
            }
        }
    }
}

impl Iterator for Sentences {
    type Item = Result<Sentence, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.blocks = None;
        }
        next.transpose()
    }
}

/// How lines are cut.
#[derive(Clone, Copy, Debug)]
struct Layout {
    has_tabs: bool,
    columns: usize,
    tag: Option<usize>,
    number: Option<usize>,
}

impl Layout {
    fn split<'a>(&self, line: &'a str) -> Vec<&'a str> {
        if self.has_tabs {
            line.split('\t').collect()
        } else {
            line.split_ascii_whitespace().collect()
        }
    }

    /// Whether a line is of a word, by its number where it has one.
    fn is_word(&self, line: &[u8]) -> bool {
        self.number.is_none_or(|column| {
            let line = String::from_utf8_lossy(line);
            let row = self.split(&line);
            let number = row.get(column);
            number.is_none_or(|number| !number.contains(['-', '.']))
        })
    }

    /// The columns of a sentence's lines; or of which line they are not as many, or no text, what was expected and found.
    fn rows<'a>(&self, block: &'a Block) -> Result<Vec<Vec<&'a str>>, (usize, String, String)> {
        let mut rows = Vec::with_capacity(block.lines.len());
        for (index, (_, line)) in block.lines.iter().enumerate() {
            let shown = || quoted(&String::from_utf8_lossy(line));
            let text = str::from_utf8(line).map_err(|_| (index, "UTF-8".to_owned(), shown()))?;
            let row = self.split(text);
            if row.len() != self.columns {
                let between = if self.has_tabs { "tabs" } else { "blanks" };
                let expected = format!("{} columns with {between} between", self.columns);
                return Err((index, expected, format!("{} in {}", row.len(), shown())));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn tags<'a>(&self, rows: &[Vec<&'a str>]) -> Vec<&'a str> {
        let column = self.tag.unwrap_or(0);
        rows.iter().map(|row| row[column]).collect()
    }
}

/// The lines of a sentence, and their numbers.
struct Block {
    document: u64,
    lines: Vec<(u64, Vec<u8>)>,
}

/// Sentences as lines, not yet cut.
struct Blocks {
    path: PathBuf,
    text: Text,
    layout: Layout,
    document: u64,
    /// Number of the line last read, and what it is if it belongs to the next sentence.
    number: u64,
    next: Option<Vec<u8>>,
}

impl Blocks {
    fn open(path: &Path, layout: Layout) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            text: source::open_text(path)?,
            layout,
            document: 0,
            number: 0,
            next: None,
        })
    }

    fn next(&mut self) -> Result<Option<Block>, Error> {
        let mut lines: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut line = Vec::new();
        loop {
            let previous = self.number;
            if let Some(kept) = self.next.take() {
                line = kept;
            } else {
                let more =
                    source::next_line(&self.path, &mut self.text, &mut line, &mut self.number)?;
                let ends = !lines.is_empty() && (!more || self.number > previous + 1);
                if ends {
                    self.next = more.then_some(line);
                    break;
                }
                if !more {
                    return Ok(None);
                }
            }
            if line.starts_with(DOCUMENT.as_bytes()) {
                if !lines.is_empty() {
                    self.next = Some(line);
                    break;
                }
                self.document += 1;
                continue;
            }
            if lines.is_empty() && self.is_comment(&line) {
                continue;
            }
            if lines.len() == MAX_WORDS {
                return Err(Error::Format {
                    path: self.path.clone(),
                    expected: format!("a blank line after at most {MAX_WORDS} words"),
                    found: format!("none up to line {}", self.number),
                    advice: "is it the right file?".to_owned(),
                });
            }
            if self.layout.is_word(&line) {
                lines.push((self.number, std::mem::take(&mut line)));
            }
        }
        Ok(Some(Block {
            document: self.document,
            lines,
        }))
    }

    fn is_comment(&self, line: &[u8]) -> bool {
        let columns = || self.layout.split(&String::from_utf8_lossy(line)).len();
        line.starts_with(b"#") && columns() != self.layout.columns
    }
}
