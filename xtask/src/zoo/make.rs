//! Files that a check needs in another form: texts out of labelled words, a part of a file, a table out of files of one class each.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::sound::Sounds;
use super::taste::Tastes;

/// How to make one file of others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Make {
    /// What is read.
    pub read: Input,
    /// From these, in this order.
    #[serde(default)]
    pub files: Vec<String>,
    /// And from the files of each class, whose name becomes the label.
    #[serde(default)]
    pub classes: BTreeMap<String, Vec<String>>,
    /// Columns of words to keep, in this order; none: all.
    #[serde(default)]
    pub columns: Vec<usize>,
    /// Keep texts with a letter of this script only.
    #[serde(default)]
    pub script: Option<Script>,
    /// Put into an order drawn from this.
    #[serde(default)]
    pub shuffle: Option<String>,
    /// Keep from this share to that one.
    #[serde(default)]
    pub keep: Option<[f64; 2]>,
    /// Keep the first ones, up to so many bytes of text.
    #[serde(default)]
    pub bytes: Option<usize>,
    /// Utterances to make of recordings.
    #[serde(default)]
    pub sounds: Option<Sounds>,
    /// Reviews to make up.
    #[serde(default)]
    pub tastes: Option<Tastes>,
    /// What is written.
    pub write: Output,
}

/// A form of file that is read.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// A text a line.
    Lines,
    /// A word a line with its columns, an empty line between sentences.
    Words,
    /// Contexts of questions, as of `SQuAD`.
    Questions,
    /// Recordings of spoken words in a `.tar.gz`, as [`Sounds`] says.
    Sounds,
    /// Nothing: reviews are made up, as [`Tastes`] says.
    Tastes,
}

/// A form of file that is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A text a line.
    Lines,
    /// A word a line with its columns, an empty line between sentences.
    Words,
    /// A TSV of `text` and `label`, and what else is known of a text.
    Table,
}

/// A script.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// Arabic.
    Arabic,
}

/// A text, or a sentence of words with their columns.
#[derive(Debug, Clone)]
struct Record {
    words: Vec<Vec<String>>,
    label: String,
    /// What else is known of it, by column.
    beside: Vec<(&'static str, String)>,
}

impl Record {
    fn line(text: &str, label: &str) -> Self {
        Self {
            words: vec![vec![text.to_owned()]],
            label: label.to_owned(),
            beside: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|word| word[0].as_str()).collect();
        words.join(" ")
    }
}

impl Make {
    /// Makes the file at `to`; `resolve` gives the path that a name stands for.
    ///
    /// # Errors
    /// When a file cannot be read or written, is not of its form, or nothing is left.
    pub fn run(&self, to: &Path, resolve: impl Fn(&str) -> Result<String>) -> Result<()> {
        let mut records = Vec::new();
        for file in &self.files {
            let path = PathBuf::from(resolve(file)?);
            self.read(&path, "", &mut records)
                .with_context(|| path.display().to_string())?;
        }
        if matches!(self.read, Input::Tastes) {
            let tastes = self.tastes.as_ref().context("reviews need `tastes`")?;
            records.extend(tastes.reviews().into_iter().map(|review| Record {
                beside: vec![("cares", review.cares.to_owned()), ("age", review.age)],
                ..Record::line(&review.text, review.label)
            }));
        }
        for (class, files) in &self.classes {
            for file in files {
                let path = PathBuf::from(resolve(file)?);
                self.read(&path, class, &mut records)
                    .with_context(|| path.display().to_string())?;
            }
        }
        if let Some(script) = self.script {
            records.retain(|record| record.text().chars().any(|c| script.has(c)));
        }
        if let Some(seed) = &self.shuffle {
            let seed = resolve(seed)?;
            let seed = seed
                .parse()
                .with_context(|| format!("shuffle = {seed:?}"))?;
            Draws(seed).shuffle(&mut records);
        }
        if let Some(keep) = self.keep {
            let [from, to] = keep.map(|share| share_of(records.len(), share));
            records = records.get(from..to).unwrap_or_default().to_vec();
        }
        if let Some(bytes) = self.bytes {
            let mut left = bytes;
            records.retain(|record| {
                let length = record.text().len() + 1;
                let fits = length <= left;
                left = if fits { left - length } else { 0 };
                fits
            });
        }
        if records.is_empty() {
            bail!("nothing is left of {:?} for {}", self.files, to.display());
        }
        fs::write(to, self.written(&records)).with_context(|| to.display().to_string())
    }

    fn read(&self, path: &Path, label: &str, into: &mut Vec<Record>) -> Result<()> {
        if matches!(self.read, Input::Sounds) {
            let sounds = self.sounds.as_ref().context("recordings need `sounds`")?;
            let utterances = sounds.utterances(path)?.into_iter();
            into.extend(utterances.map(|(text, labels)| Record::line(&text, &labels)));
            return Ok(());
        }
        let text = open(path)?;
        match self.read {
            Input::Sounds | Input::Tastes => unreachable!("no texts of files"),
            Input::Lines => into.extend(
                text.lines()
                    .filter(|line| !line.trim().is_empty())
                    .map(|line| Record::line(line, label)),
            ),
            Input::Words => {
                let mut words = Vec::new();
                for line in text.lines().chain([""]) {
                    if line.trim().is_empty() {
                        if !words.is_empty() {
                            into.push(Record {
                                words: std::mem::take(&mut words),
                                label: String::new(),
                                beside: Vec::new(),
                            });
                        }
                    } else if !(words.is_empty() && line.starts_with('#')) {
                        words.push(self.row(line)?);
                    }
                }
            }
            Input::Questions => {
                let parsed: serde_json::Value =
                    serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
                let list =
                    |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
                for article in list(&parsed["data"]) {
                    for paragraph in list(&article["paragraphs"]) {
                        let context = paragraph["context"]
                            .as_str()
                            .context("a paragraph without `context`")?;
                        into.push(Record::line(&context.replace(['\n', '\r'], " "), ""));
                    }
                }
            }
        }
        Ok(())
    }

    fn row(&self, line: &str) -> Result<Vec<String>> {
        let columns: Vec<&str> = if line.contains('\t') {
            line.split('\t').collect()
        } else {
            line.split_whitespace().collect()
        };
        if self.columns.is_empty() {
            return Ok(columns.into_iter().map(str::to_owned).collect());
        }
        let pick = |&column: &usize| {
            let value = columns.get(column).copied().map(str::to_owned);
            value.with_context(|| format!("the line {line:?} has no column {column}"))
        };
        self.columns.iter().map(pick).collect()
    }

    fn written(&self, records: &[Record]) -> String {
        let mut out = String::new();
        if matches!(self.write, Output::Table) {
            out.push_str("text\tlabel");
            for (column, _) in records.iter().take(1).flat_map(|record| &record.beside) {
                out.extend(["\t", column]);
            }
            out.push('\n');
        }
        for record in records {
            match self.write {
                Output::Lines => out.push_str(&record.text()),
                Output::Words => {
                    for word in &record.words {
                        out.push_str(&word.join("\t"));
                        out.push('\n');
                    }
                }
                Output::Table => {
                    out.push_str(&record.text().replace('\t', " "));
                    out.push('\t');
                    out.push_str(&record.label);
                    for (_, value) in &record.beside {
                        out.extend(["\t", value]);
                    }
                }
            }
            out.push('\n');
        }
        out
    }
}

impl Output {
    /// What names of such files end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Lines | Self::Words => ".txt",
            Self::Table => ".tsv",
        }
    }
}

impl Script {
    fn has(self, c: char) -> bool {
        match self {
            Self::Arabic => matches!(c, '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}'),
        }
    }
}

/// The file's text, through gzip where its name says so.
fn open(path: &Path) -> Result<String> {
    let bytes = fs::read(path)?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count"
)]
fn share_of(count: usize, share: f64) -> usize {
    (count as f64 * share.clamp(0.0, 1.0)).round() as usize
}

/// Numbers of `SplitMix64`: the same everywhere.
pub struct Draws(pub u64);

impl Draws {
    /// A number below `below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % below as u64).expect("below the length")
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, records: &mut [T]) {
        for last in (1..records.len()).rev() {
            let other = self.below(last + 1);
            records.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: &str, files: &[(&str, &str)]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            fs::write(folder.path().join(name), text)?;
        }
        let make: Make = toml::from_str(make)?;
        let to = folder.path().join("out");
        make.run(&to, |name| {
            let path = folder.path().join(name);
            Ok(if path.exists() {
                path.display().to_string()
            } else {
                name.to_owned()
            })
        })?;
        Ok(fs::read_to_string(to)?)
    }

    #[test]
    fn words_become_texts_and_lose_columns() {
        let files = [("a", "# from\n1\tGut\tO\n2\tso\tB-X\n\n1\tJa\tO\n")];
        let lines = "read = 'words'\nfiles = ['a']\ncolumns = [1]\nwrite = 'lines'";
        assert_eq!(made(lines, &files).unwrap(), "Gut so\nJa\n");
        let words =
            "read = 'words'\nfiles = ['a']\ncolumns = [1, 2]\nkeep = [0.5, 1.0]\nwrite = 'words'";
        assert_eq!(made(words, &files).unwrap(), "Ja\tO\n\n");
        let missing = "read = 'words'\nfiles = ['a']\ncolumns = [3]\nwrite = 'words'";
        assert!(made(missing, &files).is_err());
    }

    #[test]
    fn classes_become_a_table_of_one_script() {
        let files = [("a", "نعم\nyes\n"), ("b", "لا\n")];
        let make = "read = 'lines'\nclasses = { good = ['a'], bad = ['b'] }\nscript = 'arabic'\nwrite = 'table'";
        assert_eq!(
            made(make, &files).unwrap(),
            "text\tlabel\nلا\tbad\nنعم\tgood\n"
        );
    }

    #[test]
    fn parts_of_an_order_are_apart_and_whole() {
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let text = lines.join("\n");
        let part = |keep: &str| {
            let make = format!(
                "read = 'lines'\nfiles = ['a']\nshuffle = '7'\nkeep = {keep}\nwrite = 'lines'"
            );
            made(&make, &[("a", &text)]).unwrap()
        };
        let (first, second) = (part("[0.0, 0.3]"), part("[0.3, 1.0]"));
        let mut all: Vec<&str> = first.lines().chain(second.lines()).collect();
        assert_eq!(first.lines().count(), 30);
        assert_ne!(&all[..3], ["0", "1", "2"]);
        all.sort_unstable_by_key(|line| line.parse::<u32>().unwrap());
        assert_eq!(all, lines);
    }

    #[test]
    fn contexts_of_questions_are_lines() {
        let json = r#"{"data":[{"paragraphs":[{"context":"a\nb","qas":[]}]}]}"#;
        let make = "read = 'questions'\nfiles = ['a']\nwrite = 'lines'";
        assert_eq!(
            made(make, &[("a", &format!("\u{feff}{json}"))]).unwrap(),
            "a b\n"
        );
    }
}
