//! From files of texts, and what is true of them, to examples.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloze_spec::data::Csv;
use cloze_spec::text::{Chunked, ClassWeights, Documents, Objective, Problem, Texts};
use rayon::prelude::*;

use super::examples::{Asked, Blanks, Examples, Sets, Truth, Word, Words};
use super::{Encoding, Input, Limit, Long, Shorten, Tokenizer};
use crate::annotation::{Conll, Question, Scheme, Sentence, Squad};
use crate::records::{Cells, Format, Value, label};
use crate::source;
use crate::stream::{Purpose, Stream};
use crate::{Error, Place};

/// Texts to learn from and to judge by.
#[derive(Clone, Debug)]
pub struct TextData {
    /// Names of the labels, in the order of the head's outputs; none where there are no labels.
    pub labels: Vec<String>,
    /// What each label weighs in the loss, where the recipe weighs them.
    pub class_weights: Option<Vec<f32>>,
    /// How tokens are hidden, where they are what is to be predicted.
    pub blanks: Option<Arc<Blanks>>,
    /// To learn from.
    pub train: Arc<Examples>,
    /// To choose by.
    pub validation: Arc<Examples>,
    /// To judge the chosen model by, where that is not the validation part.
    pub test: Option<Arc<Examples>>,
    /// Hash of what is learned from.
    pub fingerprint: u64,
    /// Texts of the training part that were cut because they did not fit.
    pub cut: usize,
}

impl TextData {
    /// The most frequent and the rarest class of the training part, with how often they occur; none where texts have no
    /// classes.
    pub fn balance(&self) -> Option<[(&str, u64); 2]> {
        let Truth::Classes(_) = self.train.truth else {
            return None;
        };
        let counts = counts(&self.train.truth, self.labels.len())?;
        let named = || self.labels.iter().map(String::as_str).zip(counts.clone());
        let most = named().max_by_key(|(_, count)| *count)?;
        let least = named().min_by_key(|(_, count)| *count)?;
        Some([most, least])
    }
}

/// What a recipe asks of its texts.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The files.
    pub texts: &'a Texts,
    /// What is to be predicted.
    pub objective: &'a Objective,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Longest text in tokens.
    pub max_len: usize,
    /// Where randomness flows from.
    pub seed: u64,
}

impl TextData {
    /// Reads, splits and tokenises the files.
    ///
    /// # Errors
    /// If no file is named, one cannot be read or is not of its format, a label is missing or unknown, or nothing is left.
    pub fn prepare(ask: &Ask<'_>) -> Result<Self, Error> {
        let texts = ask.texts;
        let (train, validation) = Records::split(ask)?;
        let validation = match validation {
            Some(held_out) => held_out,
            None => Records::read(ask, &texts.validation)?,
        };
        let test = if texts.test.is_empty() {
            None
        } else {
            Some(Records::read(ask, &texts.test)?)
        };
        for (name, part) in [("training", &train), ("validation", &validation)] {
            if part.len() == 0 {
                return Err(Error::Split(format!(
                    "expected at least one text in the {name} part, found none"
                )));
            }
        }
        let labels = if texts.labels.is_empty() {
            train.labels()
        } else {
            train.tags_of(&texts.labels)
        };
        let ids = ids(&labels);
        let train = train.examples(ask, &ids, false)?;
        let validation = validation.examples(ask, &ids, true)?.0;
        let test = test
            .map(|test| test.examples(ask, &ids, true))
            .transpose()?;
        let (train, cut) = train;
        Ok(Self {
            class_weights: class_weights(ask.objective, &train.truth, labels.len()),
            fingerprint: train.fingerprint(),
            blanks: ask.blanks()?,
            labels,
            train: Arc::new(train),
            validation: Arc::new(validation),
            test: test.map(|(test, _)| Arc::new(test)),
            cut,
        })
    }
}

impl Ask<'_> {
    /// How tokens are hidden, where they are what is to be predicted.
    ///
    /// # Errors
    /// If the tokenizer has no token that stands for a hidden one.
    pub fn blanks(&self) -> Result<Option<Arc<Blanks>>, Error> {
        let Objective::MaskedToken(settings) = self.objective else {
            return Ok(None);
        };
        let mask = self.tokenizer.mask().ok_or_else(|| {
            Error::Text(
                "the tokenizer has no token that stands for a hidden one, such as [MASK]; add it, or train a tokenizer that has it".to_owned(),
            )
        })?;
        Ok(Some(Arc::new(Blanks {
            settings: settings.clone(),
            mask,
            vocab: self.tokenizer.vocabulary_len(),
            seed: self.seed,
        })))
    }

    /// One part alone, for a model whose head has `labels`: what is to be learned from, or what is to be judged by.
    ///
    /// # Errors
    /// As [`TextData::prepare`].
    pub fn part(&self, part: Part<'_>, labels: &[String]) -> Result<Examples, Error> {
        let texts = self.texts;
        let records = match part {
            Part::Files(files) => Records::read(self, files)?,
            Part::Train => Records::split(self)?.0,
            Part::Test if !texts.test.is_empty() => Records::read(self, &texts.test)?,
            Part::Validation | Part::Test if !texts.validation.is_empty() => {
                Records::read(self, &texts.validation)?
            }
            Part::Validation | Part::Test => {
                let held_out = Records::split(self)?.1;
                held_out.expect("a share is held out where there are no files")
            }
        };
        if records.len() == 0 {
            return Err(Error::Split("there is no text to judge by".to_owned()));
        }
        let judged = !matches!(part, Part::Train);
        Ok(records.examples(self, &ids(labels), judged)?.0)
    }
}

/// A part of the texts.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To judge by: the validation part where there is no other.
    Test,
    /// These files, whole.
    Files(&'a [PathBuf]),
}

/// Places of labels.
fn ids(labels: &[String]) -> HashMap<&str, u32> {
    (0..)
        .zip(labels)
        .map(|(id, label)| (&**label, id))
        .collect()
}

/// Records as files have them, not yet tokenised.
enum Records {
    Plain(Vec<String>),
    Labelled {
        texts: Vec<String>,
        second: Option<Vec<String>>,
        labels: Labels,
    },
    Sentences(Vec<Sentence>),
    Questions(Vec<Question>),
}

/// Labels as files have them, and where, for messages.
enum Labels {
    One(Vec<Cells>),
    Several(Vec<Cells>, char),
    Numbers(Vec<f32>),
}

impl Records {
    fn read(ask: &Ask<'_>, files: &[PathBuf]) -> Result<Self, Error> {
        match ask.objective {
            Objective::MaskedToken(_) => plain(ask.texts, files).map(Self::Plain),
            Objective::Sequence(sequence) => labelled(ask.texts, sequence.problem, files),
            Objective::Token(_) => {
                let mut sentences = Vec::new();
                for file in files {
                    for sentence in Conll::new(file).read()? {
                        sentences.push(sentence?);
                    }
                }
                Ok(Self::Sentences(sentences))
            }
            Objective::Span(_) => {
                let mut questions = Vec::new();
                for file in files {
                    questions.extend(Squad::new(file).read()?.0);
                }
                Ok(Self::Questions(questions))
            }
        }
    }

    /// What is to be learned from, and what is held out of it for validation unless there are files for that.
    fn split(ask: &Ask<'_>) -> Result<(Self, Option<Self>), Error> {
        let texts = ask.texts;
        if texts.files.is_empty() {
            return Err(Error::NoFiles);
        }
        let mut train = Self::read(ask, &texts.files)?;
        let held_out = texts
            .validation
            .is_empty()
            .then(|| train.hold_out(texts.validation_share, ask.seed));
        if let Some(count) = texts.per_class {
            train.keep_few(count, ask.seed);
        }
        Ok((train, held_out))
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(texts) | Self::Labelled { texts, .. } => texts.len(),
            Self::Sentences(sentences) => sentences.len(),
            Self::Questions(questions) => questions.len(),
        }
    }

    /// Takes a share of the records away, drawn from `seed`; questions about one text stay together.
    fn hold_out(&mut self, share: f64, seed: u64) -> Self {
        let mut groups: Vec<usize> = (0..self.len()).collect();
        if let Self::Questions(questions) = self {
            let mut numbers = HashMap::new();
            for (group, question) in groups.iter_mut().zip(questions) {
                let next = numbers.len();
                *group = *numbers.entry(Arc::clone(&question.context)).or_insert(next);
            }
        }
        let count = groups.iter().max().map_or(0, |last| last + 1);
        let mut order: Vec<usize> = (0..count).collect();
        Stream::new(seed, 0, Purpose::HoldOut, 0).draw(&mut order, count);
        let held: BTreeSet<usize> = order
            .into_iter()
            .take(((share * count as f64).round() as usize).max(1))
            .collect();
        let is_held: Vec<bool> = groups.iter().map(|group| held.contains(group)).collect();
        self.part(&is_held)
    }

    /// Keeps so many records of each class, drawn from `seed`.
    fn keep_few(&mut self, count: usize, seed: u64) {
        let Self::Labelled {
            labels: Labels::One(cells),
            ..
        } = &*self
        else {
            return;
        };
        let values = cells.iter().flat_map(|cells| &cells.values);
        let names: Vec<Option<String>> = values.map(Value::label).collect();
        let mut order: Vec<usize> = (0..names.len()).collect();
        Stream::new(seed, 0, Purpose::Few, 0).draw(&mut order, names.len());
        let mut kept: HashMap<&Option<String>, usize> = HashMap::new();
        let mut is_kept = vec![false; names.len()];
        for at in order {
            let kept = kept.entry(&names[at]).or_default();
            is_kept[at] = *kept < count;
            *kept += 1;
        }
        *self = self.part(&is_kept);
    }

    /// Takes those records out that are `wanted`.
    fn part(&mut self, wanted: &[bool]) -> Self {
        match self {
            Self::Plain(texts) => Self::Plain(part(texts, wanted)),
            Self::Labelled {
                texts,
                second,
                labels,
            } => Self::Labelled {
                texts: part(texts, wanted),
                second: second.as_mut().map(|second| part(second, wanted)),
                labels: labels.part(wanted),
            },
            Self::Sentences(sentences) => Self::Sentences(part(sentences, wanted)),
            Self::Questions(questions) => Self::Questions(part(questions, wanted)),
        }
    }

    /// The labels that occur, sorted; numbers by their size. Of words, the tags that write them.
    fn labels(&self) -> Vec<String> {
        let mut found = Vec::new();
        match self {
            Self::Labelled { labels, .. } => match labels {
                Labels::One(cells) => {
                    let values = cells.iter().flat_map(|cells| &cells.values);
                    found.extend(values.filter_map(Value::label));
                }
                Labels::Several(cells, separator) => {
                    let values = cells.iter().flat_map(|cells| &cells.values);
                    let lists = values.filter_map(|value| value.list(Some(*separator)));
                    found.extend(lists.flatten().filter_map(|value| value.label()));
                }
                Labels::Numbers(_) => return vec!["score".to_owned()],
            },
            Self::Sentences(sentences) => {
                let spans = sentences.iter().flat_map(|sentence| &sentence.spans);
                found.extend(spans.map(|span| span.label.clone()));
            }
            Self::Plain(_) | Self::Questions(_) => {}
        }
        self.tags_of(&label::sorted(found))
    }

    /// The head's outputs for `labels`: of words, their tags.
    fn tags_of(&self, labels: &[String]) -> Vec<String> {
        match self {
            Self::Sentences(_) => {
                let tags = labels.iter().flat_map(|label| {
                    ["B", "I"].map(|letter| match &**label {
                        "" => letter.to_owned(),
                        label => format!("{letter}-{label}"),
                    })
                });
                std::iter::once("O".to_owned()).chain(tags).collect()
            }
            Self::Plain(_) | Self::Labelled { .. } | Self::Questions(_) => labels.to_vec(),
        }
    }

    /// The examples, and how many records were cut. `judged`: what it takes to compare predictions is kept.
    #[expect(clippy::too_many_lines, reason = "one kind of record after the other")]
    fn examples(
        self,
        ask: &Ask<'_>,
        ids: &HashMap<&str, u32>,
        judged: bool,
    ) -> Result<(Examples, usize), Error> {
        let (tokenizer, max_len) = (ask.tokenizer, ask.max_len);
        let limit = |long| Limit { max_len, long };
        let whole = limit(Long::Truncate(Shorten::LongestFirst));
        let windows = limit(Long::Chunk {
            overlap: 0,
            whole_words: true,
        });
        match self {
            Self::Plain(texts) => {
                let encoded = encode(&texts, |text| tokenizer.encode((&**text).into(), windows))?;
                let mut examples = Examples::new(Truth::Tokens);
                for (record, encodings) in encoded.iter().enumerate() {
                    let own = encodings.iter().filter(|one| !one.body().is_empty());
                    own.for_each(|encoding| examples.push(encoding, record));
                }
                Ok((examples, 0))
            }
            Self::Labelled {
                texts,
                second,
                labels,
            } => {
                let truth = labels.truth(ids)?;
                let numbers: Vec<usize> = (0..texts.len()).collect();
                let encoded = encode(&numbers, |&at| {
                    let input = match &second {
                        Some(second) => (&*texts[at], &*second[at]).into(),
                        None => Input::from(&*texts[at]),
                    };
                    match ask.objective.chunks() {
                        Some(chunks) => tokenizer.chunks(input.first, Chunked { max_len, chunks }),
                        None => tokenizer.encode(input, whole),
                    }
                })?;
                let mut examples = Examples::new(truth);
                examples.pool = ask.objective.chunks().map(|chunks| chunks.pool);
                let mut cut = 0;
                for (record, encodings) in encoded.iter().enumerate() {
                    cut += usize::from(encodings.iter().any(|window| window.cut > 0));
                    for window in encodings {
                        examples.push(window, record);
                    }
                }
                examples.originals = pairs(texts, second);
                Ok((examples, cut))
            }
            Self::Sentences(sentences) => {
                let encoded = encode(&sentences, |sentence| {
                    tokenizer.encode((&*sentence.words.join(" ")).into(), windows)
                })?;
                let mut words = Words {
                    offsets: vec![0],
                    ..Words::default()
                };
                let mut examples = Examples::new(Truth::Tokens);
                for (record, (sentence, encodings)) in sentences.iter().zip(&encoded).enumerate() {
                    let labels = tags(sentence, ids)?;
                    for encoding in encodings {
                        examples.push(encoding, record);
                        words
                            .places
                            .extend(places(&sentence.words, &labels, encoding));
                        words.offsets.push(words.places.len());
                    }
                    words.labels.push(labels);
                }
                examples.truth = Truth::Words(words);
                let originals = sentences.into_iter().map(|sentence| sentence.words);
                examples.originals = originals.collect();
                Ok((examples, 0))
            }
            Self::Questions(questions) => {
                let Objective::Span(span) = ask.objective else {
                    unreachable!("questions are read for answers");
                };
                let encoded = encode(&questions, |question| {
                    let input = Input::from((&*question.question, &*question.context));
                    let frame = tokenizer.specials(true)?;
                    let asked = tokenizer.encode_whole(&question.question)?.first.len();
                    let room = max_len.saturating_sub(frame + asked);
                    let long = Long::Chunk {
                        overlap: span.overlap.min(room - room.div_ceil(4)),
                        whole_words: false,
                    };
                    tokenizer.encode(input, limit(long))
                })?;
                let mut asked = Asked::default();
                let mut examples = Examples::new(Truth::Tokens);
                for (record, (question, encodings)) in questions.iter().zip(&encoded).enumerate() {
                    for encoding in encodings {
                        examples.push(encoding, record);
                        asked.spans.push(span_of(question, encoding));
                    }
                }
                if judged {
                    asked.windows = encoded.into_iter().flatten().collect();
                    asked.questions = questions;
                }
                examples.truth = Truth::Answers(asked);
                Ok((examples, 0))
            }
        }
    }
}

/// Takes those values out that are `wanted`.
fn part<T>(values: &mut Vec<T>, wanted: &[bool]) -> Vec<T> {
    let mut rest = Vec::with_capacity(values.len());
    let mut taken = Vec::new();
    for (value, &wanted) in values.drain(..).zip(wanted) {
        if wanted {
            taken.push(value);
        } else {
            rest.push(value);
        }
    }
    *values = rest;
    taken
}

/// Each text, with its second where there is one.
fn pairs(texts: Vec<String>, second: Option<Vec<String>>) -> Vec<Vec<String>> {
    let mut second = second.into_iter().flatten();
    let texts = texts.into_iter();
    texts
        .map(|text| std::iter::once(text).chain(second.next()).collect())
        .collect()
}

fn encode<T: Sync>(
    records: &[T],
    of: impl Fn(&T) -> Result<Vec<Encoding>, Error> + Sync + Send,
) -> Result<Vec<Vec<Encoding>>, Error> {
    records.par_iter().map(of).collect()
}

/// A file of the text kinds: how its tables are written.
fn format(texts: &Texts, file: &Path) -> Result<Format, Error> {
    use cloze_spec::data;
    if texts.header && texts.quotes {
        return Ok(Format::Auto);
    }
    Ok(match source::resolve(file, &data::Format::Auto)? {
        data::Format::Csv(csv) => Format::Csv(Csv {
            header: texts.header,
            quotes: texts.quotes,
            ..csv
        }),
        _ => Format::Auto,
    })
}

fn plain(texts: &Texts, files: &[PathBuf]) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for file in files {
        let cells = Cells::read(file, &format(texts, file)?, &[&texts.columns.text])?;
        let cells = cells.into_iter().next().expect("one column was asked for");
        let is_lines = cells.column.is_none();
        let lines = cells.each("text", Value::text)?;
        if is_lines && texts.documents == Documents::Paragraphs {
            let paragraphs = lines.split(|line| line.trim().is_empty());
            all.extend(
                paragraphs
                    .filter(|lines| !lines.is_empty())
                    .map(|lines| lines.join(" ")),
            );
        } else {
            all.extend(lines.into_iter().filter(|line| !line.trim().is_empty()));
        }
    }
    Ok(all)
}

fn labelled(texts: &Texts, problem: Problem, files: &[PathBuf]) -> Result<Records, Error> {
    let columns = &texts.columns;
    let mut names = vec![&*columns.text, &*columns.label];
    names.extend(columns.second.as_deref());
    let (mut firsts, mut seconds, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let mut read = Cells::read(file, &format(texts, file)?, &names)?.into_iter();
        let mut next = || read.next().expect("as many columns as were asked for");
        firsts.extend(next().each("text", Value::text)?);
        cells.push(next());
        if columns.second.is_some() {
            seconds.extend(next().each("text", Value::text)?);
        }
    }
    let labels = match problem {
        Problem::SingleLabel => Labels::One(cells),
        Problem::MultiLabel => Labels::Several(cells, texts.label_separator),
        Problem::Regression => {
            let mut numbers = Vec::new();
            for cells in &cells {
                numbers.extend(cells.each("a number", |value| {
                    value.number().map(|number| number as f32)
                })?);
            }
            Labels::Numbers(numbers)
        }
    };
    Ok(Records::Labelled {
        texts: firsts,
        second: columns.second.is_some().then_some(seconds),
        labels,
    })
}

impl Labels {
    fn part(&mut self, wanted: &[bool]) -> Self {
        let of_cells = |cells: &mut Vec<Cells>| {
            let mut at = 0;
            cells
                .iter_mut()
                .map(|cells| {
                    let wanted = &wanted[at..at + cells.values.len()];
                    at += wanted.len();
                    cells.part(wanted)
                })
                .collect()
        };
        match self {
            Self::One(cells) => Self::One(of_cells(cells)),
            Self::Several(cells, separator) => Self::Several(of_cells(cells), *separator),
            Self::Numbers(numbers) => Self::Numbers(part(numbers, wanted)),
        }
    }

    fn truth(&self, ids: &HashMap<&str, u32>) -> Result<Truth, Error> {
        let id = |value: &Value| ids.get(&*value.label()?).copied();
        Ok(match self {
            Self::One(cells) => {
                let mut classes = Vec::new();
                for cells in cells {
                    classes.extend(cells.each(&expected(ids), id)?);
                }
                Truth::Classes(classes)
            }
            Self::Several(cells, separator) => {
                let mut of = Vec::new();
                let set = |value: &Value| {
                    let mut set = value
                        .list(Some(*separator))?
                        .iter()
                        .map(id)
                        .collect::<Option<Vec<u32>>>()?;
                    set.sort_unstable();
                    set.dedup();
                    Some(set)
                };
                for cells in cells {
                    of.extend(cells.each(&format!("labels, each {}", expected(ids)), set)?);
                }
                Truth::Sets(Sets {
                    labels: ids.len(),
                    of,
                })
            }
            Self::Numbers(numbers) => Truth::Numbers(numbers.clone()),
        })
    }
}

/// The labels that there are, for a message.
fn expected(ids: &HashMap<&str, u32>) -> String {
    let mut known: Vec<_> = ids.iter().map(|(label, id)| (id, label)).collect();
    known.sort_unstable();
    let known: Vec<_> = known.into_iter().map(|(_, label)| label).collect();
    format!("a label of the training part ({})", label::listed(&known))
}

/// The label of each word of a sentence.
fn tags(sentence: &Sentence, ids: &HashMap<&str, u32>) -> Result<Vec<u32>, Error> {
    let tags = Scheme::Iob2.tags(sentence.words.len(), &sentence.spans);
    let id = |tag: &String| {
        ids.get(&**tag).copied().ok_or_else(|| {
            Error::Text(format!(
                "{}: expected {}, found {tag:?}",
                Place::Line(sentence.line),
                expected(ids)
            ))
        })
    };
    tags.iter().map(id).collect()
}

/// The words whose first token a window has.
fn places<'a>(
    words: &'a [String],
    labels: &'a [u32],
    encoding: &'a Encoding,
) -> impl Iterator<Item = Word> + 'a {
    let mut token = encoding.body().start;
    let mut start = 0;
    words
        .iter()
        .zip(labels)
        .enumerate()
        .filter_map(move |(word, (text, &label))| {
            let (from, to) = (start, start + text.chars().count() as u32);
            start = to + 1;
            let body = encoding.body();
            // A token may begin with the blank before its word.
            while token < body.end && encoding.offsets[token].1 <= from {
                token += 1;
            }
            let begins = token < body.end && encoding.offsets[token].0 < to;
            let continued =
                encoding.start > 0 && token == body.start && encoding.offsets[token].0 > from;
            (begins && !continued).then_some(Word {
                token: token as u32,
                word: word as u32,
                label,
            })
        })
}

/// First and last token of the first answer in a window; the first token twice if it is not all there.
fn span_of(question: &Question, encoding: &Encoding) -> [u32; 2] {
    let Some(answer) = question.answers.first() else {
        return [0, 0];
    };
    let body = encoding.body();
    let covers = |token: usize, at: u32| {
        let (from, to) = encoding.offsets[token];
        (from..to).contains(&at)
    };
    let chars = &answer.chars;
    let last = chars.end.saturating_sub(1).max(chars.start);
    let start = body.clone().find(|&token| covers(token, chars.start));
    let end = body.clone().rev().find(|&token| covers(token, last));
    match (start, end) {
        (Some(start), Some(end)) if start <= end => [start as u32, end as u32],
        _ => [0, 0],
    }
}

fn class_weights(objective: &Objective, truth: &Truth, labels: usize) -> Option<Vec<f32>> {
    if objective.label_loss().class_weights == ClassWeights::Even {
        return None;
    }
    let counts = counts(truth, labels)?;
    let total = counts.iter().sum::<u64>() as f64 / labels as f64;
    Some(
        counts
            .iter()
            .map(|&count| {
                if count == 0 {
                    0.0
                } else {
                    (total / count as f64) as f32
                }
            })
            .collect(),
    )
}

/// How often each label occurs, where each text or word has one.
fn counts(truth: &Truth, labels: usize) -> Option<Vec<u64>> {
    let mut counts = vec![0_u64; labels];
    match truth {
        Truth::Classes(classes) => classes
            .iter()
            .for_each(|&class| counts[class as usize] += 1),
        Truth::Words(words) => words
            .places
            .iter()
            .for_each(|word| counts[word.label as usize] += 1),
        Truth::Tokens | Truth::Sets(_) | Truth::Numbers(_) | Truth::Answers(_) => return None,
    }
    Some(counts)
}
