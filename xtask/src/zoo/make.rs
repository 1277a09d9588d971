//! Files that a check needs in another form: texts out of labelled words, a part of a file, a table out of files of one class each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::grey::Grey;
use super::machine::Machine;
use super::puzzle::Puzzles;
use super::report::Reports;
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
    /// And these texts, as if of a file of lines.
    #[serde(default)]
    pub lines: Vec<String>,
    /// Lines of each file to leave out at its beginning.
    #[serde(default)]
    pub skip: usize,
    /// Columns of words to keep, in this order; none: all. Of rows those of the text and, if it has one, of the label.
    #[serde(default)]
    pub columns: Vec<usize>,
    /// Words to leave out of texts.
    #[serde(default)]
    pub omit: Vec<String>,
    /// Make the label `yes` or `no`: whether it is this, or has it among several with commas between.
    #[serde(default)]
    pub is: Option<String>,
    /// Leave out texts that were there before, so that none is both learned from and judged by.
    #[serde(default)]
    pub once: bool,
    /// Keep texts with a letter of this script only.
    #[serde(default)]
    pub script: Option<Script>,
    /// Keep texts only that have no word which begins with one of these, whatever their capitals.
    #[serde(default)]
    pub without: Vec<String>,
    /// Put into an order drawn from this.
    #[serde(default)]
    pub shuffle: Option<String>,
    /// Keep the first ones of each label, so many.
    #[serde(default)]
    pub per_class: Option<usize>,
    /// Keep from this share to that one.
    #[serde(default)]
    pub keep: Option<[f64; 2]>,
    /// Keep the first ones, up to so many bytes of text.
    #[serde(default)]
    pub bytes: Option<usize>,
    /// Utterances to make of recordings.
    #[serde(default)]
    pub sounds: Option<Sounds>,
    /// Words to make of images.
    #[serde(default)]
    pub grey: Option<Grey>,
    /// Reviews to make up.
    #[serde(default)]
    pub tastes: Option<Tastes>,
    /// Walks to make up.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// Reports to make up.
    #[serde(default)]
    pub reports: Option<Reports>,
    /// Sequences to make up.
    #[serde(default)]
    pub puzzles: Option<Puzzles>,
    /// Make one text of so many, the last ones left out if they are fewer; its label is `yes` if one of theirs is.
    #[serde(default)]
    pub bundle: Option<usize>,
    /// Leave out words with this chance.
    #[serde(default)]
    pub drop: Option<f64>,
    /// Write `[MASK]` in place of words with this chance.
    #[serde(default)]
    pub hide: Option<f64>,
    /// Write `[MASK]` in place of the last words, so many.
    #[serde(default)]
    pub hide_last: usize,
    /// Spell words in another way.
    #[serde(default)]
    pub respell: Option<Respell>,
    /// For questions: the one about entities of each kind.
    #[serde(default)]
    pub ask: BTreeMap<String, String>,
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
    /// Images and their labels, two files as of MNIST, as [`Grey`] says.
    Images,
    /// Nothing: reviews are made up, as [`Tastes`] says.
    Tastes,
    /// Nothing: walks of a machine, as [`Machine`] says.
    Machine,
    /// Nothing: reports are made up, as [`Reports`] says; a report's label is its findings.
    Reports,
    /// Nothing: sequences are made up, as [`Puzzles`] says.
    Puzzles,
    /// A text a line, after its label and a space.
    Labelled,
    /// A row a line, of columns with tabs between.
    Rows,
    /// Files of a zip archive, named as in `archive.zip!folder/`: a text each.
    Archive,
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
    /// JSON as of `SQuAD`: of each sentence with one entity of each kind that is asked about, those questions.
    Questions,
}

/// Another way to spell.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Respell {
    /// Serbian in Cyrillic letters, of Latin ones.
    SerbianCyrillic,
    /// As in haste: no capitals, no accents on Latin letters.
    Hasty,
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

    fn bundle(parts: &[Self]) -> Self {
        let texts: Vec<String> = parts.iter().map(Self::text).collect();
        let is = parts.iter().any(|part| part.label == "yes");
        Self::line(&texts.join(" "), yes_or_no(is))
    }

    fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|word| word[0].as_str()).collect();
        words.join(" ")
    }

    /// The text with questions about its entities, if it has one of each kind; tags are in the last column.
    fn asked(&self, number: usize, ask: &BTreeMap<String, String>) -> Option<Value> {
        let mut found: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        let (mut at, mut before) = (0, "O");
        for word in &self.words {
            let (length, tag) = (word[0].chars().count(), word.last()?.as_str());
            if let Some((mark, kind)) = tag.split_once('-') {
                let entities = found.entry(kind).or_default();
                let goes_on = mark == "I" && before.ends_with(kind);
                match entities.last_mut().filter(|_| goes_on) {
                    Some(last) => last.1 = at + length,
                    None => entities.push((at, at + length)),
                }
            }
            (at, before) = (at + length + 1, tag);
        }
        let text = self.text();
        let questions = ask.iter().map(|(kind, question)| {
            let &[(start, end)] = found.get(kind.as_str())?.as_slice() else {
                return None;
            };
            let answer: String = text.chars().skip(start).take(end - start).collect();
            let answers = json!([{"text": answer, "answer_start": start}]);
            Some(
                json!({"id": format!("{number}-{kind}"), "question": question, "answers": answers}),
            )
        });
        let questions: Vec<Value> = questions.collect::<Option<_>>()?;
        Some(json!({"context": text, "qas": questions}))
    }
}

impl Make {
    /// Makes the file at `to`; `resolve` gives the path that a name stands for.
    ///
    /// # Errors
    /// When a file cannot be read or written, is not of its form, or nothing is left.
    pub fn run(&self, to: &Path, resolve: impl Fn(&str) -> Result<String>) -> Result<()> {
        let mut records = self.records(&resolve)?;
        if !self.omit.is_empty() {
            for word in records.iter_mut().flat_map(|record| &mut record.words) {
                let words = word[0].split(' ');
                let kept = words.filter(|word| !self.omit.iter().any(|out| out == word));
                word[0] = kept.collect::<Vec<_>>().join(" ");
            }
        }
        if self.once {
            let mut seen = BTreeSet::new();
            records.retain(|record| seen.insert(record.text()));
        }
        if let Some(script) = self.script {
            records.retain(|record| record.text().chars().any(|c| script.has(c)));
        }
        if !self.without.is_empty() {
            records.retain(|record| {
                let text = record.text().to_lowercase();
                let mut words = text.split(|c: char| !c.is_alphanumeric());
                !words.any(|word| {
                    self.without
                        .iter()
                        .any(|begin| word.starts_with(begin.as_str()))
                })
            });
        }
        if let Some(label) = &self.is {
            for record in &mut records {
                let is = record.label.split(',').any(|one| one == label);
                yes_or_no(is).clone_into(&mut record.label);
            }
        }
        if let Some(seed) = &self.shuffle {
            let seed = resolve(seed)?;
            let seed = seed
                .parse()
                .with_context(|| format!("shuffle = {seed:?}"))?;
            Draws(seed).shuffle(&mut records);
        }
        if let Some(most) = self.per_class {
            let mut taken = BTreeMap::new();
            records.retain(|record| {
                let count = taken.entry(record.label.clone()).or_insert(0);
                *count += 1;
                *count <= most
            });
        }
        if let Some(count) = self.bundle {
            let parts = records.chunks_exact(count.max(1));
            records = parts.map(Record::bundle).collect();
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
        if let Some(share) = self.drop {
            let mut random = Draws(0);
            for word in records.iter_mut().flat_map(|record| &mut record.words) {
                let words = word[0].split(' ').filter(|_| !random.happens(share));
                word[0] = words.collect::<Vec<_>>().join(" ");
            }
        }
        if let Some(share) = self.hide {
            let mut random = Draws(0);
            for word in records.iter_mut().flat_map(|record| &mut record.words) {
                if random.happens(share) {
                    "[MASK]".clone_into(&mut word[0]);
                }
            }
        }
        for record in &mut records {
            let words = record.words.iter_mut().rev().take(self.hide_last);
            words.for_each(|word| "[MASK]".clone_into(&mut word[0]));
        }
        if let Some(respell) = self.respell {
            for word in records.iter_mut().flat_map(|record| &mut record.words) {
                word[0] = respell.word(&word[0]);
            }
        }
        if records.is_empty() {
            bail!("nothing is left of {:?} for {}", self.files, to.display());
        }
        fs::write(to, self.written(&records)).with_context(|| to.display().to_string())
    }

    /// What is known of what is made up, as JSON.
    ///
    /// # Errors
    /// When nothing such can be made up.
    pub fn known(&self) -> Result<Option<Value>> {
        let puzzles = self.puzzles.as_ref();
        puzzles.map_or(Ok(None), Puzzles::known)
    }

    /// What is read, as it is.
    fn records(&self, resolve: &dyn Fn(&str) -> Result<String>) -> Result<Vec<Record>> {
        let texts = self.lines.iter();
        let mut records: Vec<Record> = texts.map(|text| Record::line(text, "")).collect();
        if matches!(self.read, Input::Images) {
            let grey = self.grey.context("images need `grey`")?;
            let [images, labels] = &*self.files else {
                bail!("images need two files, theirs and that of their labels");
            };
            let [images, labels] = [images, labels].map(|file| resolve(file).map(PathBuf::from));
            let texts = grey.texts(&images?, &labels?)?.into_iter();
            records.extend(texts.map(|(text, label)| Record::line(&text, &label)));
        }
        let has_texts = !matches!(self.read, Input::Images);
        for file in self.files.iter().filter(|_| has_texts) {
            let path = PathBuf::from(resolve(file)?);
            self.read(&path, "", &mut records)
                .with_context(|| path.display().to_string())?;
        }
        records.extend(self.made_up()?);
        for (class, files) in &self.classes {
            for file in files {
                let path = PathBuf::from(resolve(file)?);
                self.read(&path, class, &mut records)
                    .with_context(|| path.display().to_string())?;
            }
        }
        Ok(records)
    }

    /// What comes from no file.
    fn made_up(&self) -> Result<Vec<Record>> {
        let tagged = |words: Vec<[String; 2]>, label: &str| Record {
            words: words.into_iter().map(Vec::from).collect(),
            label: label.to_owned(),
            beside: Vec::new(),
        };
        Ok(match self.read {
            Input::Tastes => {
                let tastes = self.tastes.as_ref().context("reviews need `tastes`")?;
                let reviews = tastes.reviews().into_iter().map(|review| Record {
                    beside: vec![("cares", review.cares.to_owned()), ("age", review.age)],
                    ..Record::line(&review.text, review.label)
                });
                reviews.collect()
            }
            Input::Reports => {
                let reports = self.reports.as_ref().context("reports need `reports`")?;
                let reports = reports.reports().into_iter();
                let lines = reports.map(|report| Record::line(&report.text, &report.findings));
                lines.collect()
            }
            Input::Puzzles => {
                let puzzles = self.puzzles.as_ref().context("sequences need `puzzles`")?;
                let solved = puzzles.solved()?.into_iter();
                solved.map(|one| tagged(one.words, one.label)).collect()
            }
            Input::Machine => {
                let machine = self.machine.as_ref().context("walks need `machine`")?;
                let walks = machine.walks().into_iter();
                walks.map(|walk| tagged(walk, "")).collect()
            }
            _ => Vec::new(),
        })
    }

    fn read(&self, path: &Path, label: &str, into: &mut Vec<Record>) -> Result<()> {
        if matches!(self.read, Input::Sounds) {
            let sounds = self.sounds.as_ref().context("recordings need `sounds`")?;
            let utterances = sounds.utterances(path)?.into_iter();
            into.extend(utterances.map(|(text, labels)| Record::line(&text, &labels)));
            return Ok(());
        }
        if matches!(self.read, Input::Archive) {
            return archive(path, label, into);
        }
        let text = open(path)?;
        let mut text = text.as_str();
        for _ in 0..self.skip {
            text = text.split_once('\n').unwrap_or_default().1;
        }
        match self.read {
            Input::Sounds
            | Input::Images
            | Input::Tastes
            | Input::Machine
            | Input::Puzzles
            | Input::Reports
            | Input::Archive => {
                unreachable!("no text of a file")
            }
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
                    } else if !(words.is_empty() && line.starts_with('#') || is_no_word(line)) {
                        words.push(self.row(line)?);
                    }
                }
            }
            Input::Labelled => {
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    let (label, text) = line
                        .split_once(' ')
                        .with_context(|| format!("the line {line:?} has a label and no text"))?;
                    into.push(Record::line(text.trim(), label));
                }
            }
            Input::Rows => {
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    let columns = self.picked(line, line.split('\t').collect())?;
                    let label = columns.get(1).map_or(label, String::as_str);
                    into.push(Record::line(columns[0].trim(), label));
                }
            }
            Input::Questions => {
                let parsed: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
                let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
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
        self.picked(line, columns)
    }

    fn picked(&self, line: &str, columns: Vec<&str>) -> Result<Vec<String>> {
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
        if matches!(self.write, Output::Questions) {
            let paragraphs: Vec<Value> = records
                .iter()
                .enumerate()
                .filter_map(|(number, record)| record.asked(number, &self.ask))
                .collect();
            let data = json!({"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]});
            return data.to_string();
        }
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
                Output::Questions => unreachable!("written above"),
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
            Self::Questions => ".json",
        }
    }
}

impl Respell {
    fn word(self, word: &str) -> String {
        match self {
            Self::Hasty => {
                let plain = |c| match c {
                    'č' | 'ć' => 'c',
                    'š' => 's',
                    'ž' => 'z',
                    other => other,
                };
                word.to_lowercase()
                    .replace('đ', "dj")
                    .chars()
                    .map(plain)
                    .collect()
            }
            Self::SerbianCyrillic => {
                let mut out = String::new();
                let mut rest = word;
                while let Some(first) = rest.chars().next() {
                    let small = rest.to_lowercase();
                    let pair = SERBIAN.iter().find(|(latin, _)| small.starts_with(latin));
                    let Some((latin, cyrillic)) = pair else {
                        out.push(first);
                        rest = &rest[first.len_utf8()..];
                        continue;
                    };
                    let letters = latin.chars().count();
                    if first.is_uppercase() {
                        out.extend(cyrillic.to_uppercase());
                    } else {
                        out.push(*cyrillic);
                    }
                    rest = &rest[rest
                        .char_indices()
                        .nth(letters)
                        .map_or(rest.len(), |(at, _)| at)..];
                }
                out
            }
        }
    }
}

/// Serbian letters in both scripts; those of two Latin letters first.
const SERBIAN: [(&str, char); 30] = [
    ("lj", 'љ'),
    ("nj", 'њ'),
    ("dž", 'џ'),
    ("a", 'а'),
    ("b", 'б'),
    ("c", 'ц'),
    ("č", 'ч'),
    ("ć", 'ћ'),
    ("d", 'д'),
    ("đ", 'ђ'),
    ("e", 'е'),
    ("f", 'ф'),
    ("g", 'г'),
    ("h", 'х'),
    ("i", 'и'),
    ("j", 'ј'),
    ("k", 'к'),
    ("l", 'л'),
    ("m", 'м'),
    ("n", 'н'),
    ("o", 'о'),
    ("p", 'п'),
    ("r", 'р'),
    ("s", 'с'),
    ("š", 'ш'),
    ("t", 'т'),
    ("u", 'у'),
    ("v", 'в'),
    ("z", 'з'),
    ("ž", 'ж'),
];

impl Script {
    fn has(self, c: char) -> bool {
        match self {
            Self::Arabic => matches!(c, '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}'),
        }
    }
}

/// Whether a line of CoNLL-U is a range of words, or a word that is not in the text.
fn is_no_word(line: &str) -> bool {
    let columns: Vec<&str> = line.split('\t').collect();
    columns.len() == 10 && columns[0].contains(['-', '.'])
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// The file's text, through gzip where its name says so.
fn open(path: &Path) -> Result<String> {
    let mut bytes = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let packed = std::mem::take(&mut bytes);
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes)?;
    }
    Ok(decoded(bytes))
}

/// Bytes as text: UTF-8, or otherwise Latin-1, as in older collections.
fn decoded(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

/// A text each of the files of a zip archive whose names begin with what stands after `!`, in the order of their names.
fn archive(path: &Path, label: &str, into: &mut Vec<Record>) -> Result<()> {
    let path = path.to_str().context("a path that is not UTF-8")?;
    let (path, begin) = path.split_once('!').unwrap_or((path, ""));
    let mut archive = zip::ZipArchive::new(fs::File::open(path)?)?;
    let mut names: Vec<String> = archive
        .file_names()
        .map(|name| Ok(name?.into_owned()))
        .collect::<Result<_>>()?;
    names.retain(|name| name.starts_with(begin) && !name.ends_with('/'));
    names.sort_unstable();
    for name in names {
        let mut bytes = Vec::new();
        archive.by_name(&name)?.read_to_end(&mut bytes)?;
        let text = decoded(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        into.push(Record::line(&words.join(" "), label));
    }
    Ok(())
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
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `below`.
    pub fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % below as u64).expect("below the length")
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what a number takes"
    )]
    pub fn happens(&mut self, chance: f64) -> bool {
        ((self.next() >> 11) as f64) < chance * (1_u64 << 53) as f64
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
        let rest = "\t_".repeat(8);
        let treebank = format!("1-2\tim{rest}\n1\tin{rest}\n2\tdem{rest}\n");
        assert_eq!(made(lines, &[("a", &treebank)]).unwrap(), "in dem\n");
        let missing = "read = 'words'\nfiles = ['a']\ncolumns = [3]\nwrite = 'words'";
        assert!(made(missing, &files).is_err());
    }

    #[test]
    fn words_are_left_out_of_texts() {
        let make =
            "read = 'rows'\nfiles = ['a']\ncolumns = [1, 0]\nomit = ['(', ')']\nwrite = 'table'";
        assert_eq!(
            made(make, &[("a", "3\t( ( [MAX 3 ) ] )\n")]).unwrap(),
            "text\tlabel\n[MAX 3 ]\t3\n"
        );
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
    fn labels_stand_before_texts_or_in_columns() {
        let files = [
            ("a", "1 one two\n0 three\n"),
            ("b", "text\tid\nsehr gut\t2,7\nbad\t3\nangrily\t2\n"),
        ];
        let list = "read = 'lines'\nlines = ['%', '1\tgood']\nwrite = 'lines'";
        assert_eq!(made(list, &[]).unwrap(), "%\n1\tgood\n");
        let once = "read = 'labelled'\nfiles = ['a', 'a']\nonce = true\nwrite = 'lines'";
        assert_eq!(made(once, &files).unwrap(), "one two\nthree\n");
        let labelled = "read = 'labelled'\nfiles = ['a']\nper_class = 1\nwrite = 'table'";
        assert_eq!(
            made(labelled, &files).unwrap(),
            "text\tlabel\none two\t1\nthree\t0\n"
        );
        let rows = "read = 'rows'\nfiles = ['b']\nskip = 1\ncolumns = [0, 1]\nis = '2'\nwithout = ['angr']\nwrite = 'table'";
        assert_eq!(
            made(rows, &files).unwrap(),
            "text\tlabel\nsehr gut\tyes\nbad\tno\n"
        );
    }

    #[test]
    fn a_sentence_with_one_entity_of_each_kind_is_asked_about_both() {
        let text = "Émile B-D\nX I-D\nand O\nlithium B-C\n\nflu B-D\n. O\n\na B-D\nb B-D\nc B-C\n";
        let make =
            "read = 'words'\nfiles = ['a']\nask = { D = 'Ill?', C = 'What?' }\nwrite = 'questions'";
        let json: Value = serde_json::from_str(&made(make, &[("a", text)]).unwrap()).unwrap();
        let paragraphs = json["data"][0]["paragraphs"].as_array().unwrap();
        assert_eq!(paragraphs.len(), 1);
        let [chemical, disease] = [0, 1].map(|at| &paragraphs[0]["qas"][at]["answers"][0]);
        assert_eq!(chemical, &json!({"text": "lithium", "answer_start": 12}));
        assert_eq!(disease, &json!({"text": "Émile X", "answer_start": 0}));
    }

    #[test]
    fn texts_are_bundled_and_lose_words() {
        let files = [("a", "1 a\n0 b\n0 c\n0 d\n1 e\n")];
        let bundle = "read = 'labelled'\nfiles = ['a']\nis = '1'\nbundle = 2\nwrite = 'table'";
        assert_eq!(
            made(bundle, &files).unwrap(),
            "text\tlabel\na b\tyes\nc d\tno\n"
        );
        let text = "word ".repeat(1000);
        let walks = "read = 'machine'\nmachine = { states = 5, edges = 2, edges_seed = 1, count = 40, length = 8, seed = 1 }\nhide = 0.25\nhide_last = 2\nwrite = 'lines'";
        let hidden = made(walks, &[]).unwrap();
        assert!(hidden.lines().all(|line| line.split(' ').count() == 16));
        assert!(hidden.lines().all(|line| line.ends_with(" [MASK] [MASK]")));
        let others = hidden.matches("[MASK]").count() - 80;
        assert!((90..190).contains(&others), "{others} of 560");
        let drop = "read = 'lines'\nfiles = ['a']\ndrop = 0.3\nwrite = 'lines'";
        let left = made(drop, &[("a", text.trim())])
            .unwrap()
            .split(' ')
            .count();
        assert!((650..750).contains(&left), "{left}");
    }

    #[test]
    fn words_are_spelled_in_other_ways() {
        let files = [("a", "Ljubav\tN\nDŽEP\tN\nčašćenje\tN\n2.\tN\n")];
        let make = |how: &str| {
            format!("read = 'words'\nfiles = ['a']\nrespell = '{how}'\nwrite = 'lines'")
        };
        assert_eq!(
            made(&make("serbian-cyrillic"), &files).unwrap(),
            "Љубав ЏЕП чашћење 2.\n"
        );
        assert_eq!(
            made(&make("hasty"), &files).unwrap(),
            "ljubav dzep cascenje 2.\n"
        );
    }

    #[test]
    fn sequences_are_made_up_as_words_with_tags_or_texts_with_labels() {
        let words = "read = 'puzzles'\npuzzles = { of = { kind = 'reach', wall = 1, spring = 1 }, tokens = 2, count = 1, seed = 1 }\nwrite = 'words'";
        assert_eq!(made(words, &[]).unwrap(), "|\tO\n|\tO\n\n");
        let table = "read = 'puzzles'\npuzzles = { of = { kind = 'turn', words = 1, others = 1 }, tokens = 3, count = 1, seed = 1 }\nwrite = 'table'";
        let made = made(table, &[]).unwrap();
        let mut text: Vec<&str> = made["text\tlabel\n".len()..made.len() - "\tyes\n".len()]
            .split(' ')
            .collect();
        text.sort_unstable();
        assert_eq!(text, ["k0", "t0", "w0"]);
    }

    #[test]
    fn files_of_an_archive_are_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, text) in [
            ("in/b.txt", "good\nday"),
            ("in/a.txt", "caf\u{e9}"),
            ("out/c.txt", "no"),
        ] {
            archive
                .start_file(name, zip::write::SimpleFileOptions::default())
                .unwrap();
            std::io::Write::write_all(&mut archive, text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        let make = format!(
            "read = 'archive'\nclasses = {{ x = ['{}!in/'] }}\nwrite = 'table'",
            path.display()
        );
        assert_eq!(
            made(&make, &[]).unwrap(),
            "text\tlabel\ncafé\tx\ngood day\tx\n"
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
