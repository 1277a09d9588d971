//! From files of texts, and what is true of them, to examples.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloze_spec::text::{
    Chunked, ClassWeights, Columns, Documents, Folds, Objective, Pair, Placed, Problem, Readout,
    Table, TableColumn, Tags, Texts, Transcriber, number,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::examples::{Asked, Blanks, Context, Examples, Pairing, Sets, Truth, Word, Words, pack};
use super::fold;
use super::mixture::Mixture;
use super::path;
use super::store;
use super::{Encoding, Input, Limit, Long, Shorten, Tokenizer};
use crate::annotation::{Conll, Question, Scheme, Sentence, Squad};
use crate::error::{BadRow, quoted};
use crate::records::{Cells, Format, Value, label};
use crate::stream::{Purpose, Stream};
use crate::{Error, Place};

/// Texts to learn from and to judge by.
#[derive(Clone, Debug)]
pub struct TextData {
    /// Names of the labels, in the order of the head's outputs; none where there are no labels.
    pub labels: Vec<String>,
    /// The columns beside texts.
    pub table: Table,
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
    /// The corpora of the texts, where there are several.
    pub corpora: Vec<Corpus>,
    /// How often an epoch takes the texts of each of [`Self::corpora`]; none: each text once.
    pub mixture: Option<Mixture>,
    /// Which records of the files the test part has, where they are parted for cross-validation.
    pub test_rows: Option<Vec<usize>>,
    /// Hash of what is learned from.
    pub fingerprint: u64,
    /// Texts of the training part that were cut because they did not fit.
    pub cut: usize,
}

impl TextData {
    /// What the labels of words say; none where words have none.
    pub fn tags(&self) -> Option<Tags> {
        match &self.train.truth {
            Truth::Words(words) => words.tags,
            _ => None,
        }
    }

    /// How even the classes of the training part are; none where neither texts nor words have classes.
    pub fn balance(&self) -> Option<Balance<'_>> {
        match &self.train.truth {
            Truth::Classes(_) => {}
            Truth::Words(words) if words.tags == Some(Tags::Words) => {}
            _ => return None,
        }
        let counts = counts(&self.train.truth, self.labels.len())?;
        let (rarest, &count) = self
            .labels
            .iter()
            .zip(&counts)
            .min_by_key(|(_, count)| **count)?;
        Some(Balance {
            rarest,
            count,
            most: counts.iter().copied().max()?,
            total: counts.iter().sum(),
        })
    }
}

/// A corpus among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corpus {
    /// What it is called.
    pub name: String,
    /// Its texts in the training part, windows counted by themselves.
    pub train: Range<usize>,
    /// What of the validation part is judged by itself: its texts, sentences or questions.
    pub validation: Range<usize>,
}

/// How even classes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance<'a> {
    /// The rarest class.
    pub rarest: &'a str,
    /// Texts or words that are of it.
    pub count: u64,
    /// Those of the most frequent class.
    pub most: u64,
    /// Those of all classes.
    pub total: u64,
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
    /// Where tokens go that are not to be held in memory.
    pub place: store::Place<'a>,
}

impl TextData {
    /// Reads, splits and tokenises the files.
    ///
    /// # Errors
    /// If no file is named, one cannot be read or is not of its format, a label is missing or unknown, or nothing is left.
    pub fn prepare(ask: &Ask<'_>) -> Result<Self, Error> {
        let texts = ask.texts;
        let test = if texts.test.is_empty() {
            None
        } else {
            Some(Records::read(ask, &texts.test)?)
        };
        if ask.is_stored() {
            let parts = store::Parts::open(ask)?;
            let none = (&HashMap::new(), &Table::default());
            let test = test.map(|test| test.examples(ask, none, true));
            let data = Self {
                labels: Vec::new(),
                table: Table::default(),
                class_weights: None,
                blanks: ask.blanks()?,
                train: Arc::new(parts.train),
                validation: Arc::new(parts.validation),
                test: test.transpose()?.map(|(test, _)| Arc::new(test)),
                corpora: parts.corpora,
                mixture: None,
                test_rows: None,
                fingerprint: parts.fingerprint,
                cut: 0,
            };
            return data.mixed(texts);
        }
        let Split {
            train,
            held_out,
            fold,
            corpora,
        } = Records::split(ask)?;
        let validation = match held_out {
            Some(held_out) => held_out,
            None => Records::read(ask, &texts.validation)?,
        };
        for (name, part) in [("training", &train), ("validation", &validation)] {
            if part.len() == 0 {
                return Err(no_text(name));
            }
        }
        let (test, test_rows, labels) = match fold {
            Some(fold) => (Some(fold.test), Some(fold.rows), fold.labels),
            None => (test, None, train.labels()),
        };
        let labels = if texts.labels.is_empty() {
            labels
        } else {
            train.tags_of(&texts.labels)
        };
        let table = train.table(&texts.columns)?;
        let known = (&ids(&labels), &table);
        let train = train.examples(ask, known, false)?;
        let validation = validation.examples(ask, known, true)?.0;
        let test = test
            .map(|test| test.examples(ask, known, true))
            .transpose()?;
        let (train, cut) = train;
        let corpora = corpora.into_iter().map(|corpus| Corpus {
            train: train.texts(corpus.train),
            validation: match &validation.truth {
                Truth::Tokens | Truth::Places(_) => validation.texts(corpus.validation),
                _ => corpus.validation,
            },
            name: corpus.name,
        });
        let data = Self {
            corpora: corpora.collect(),
            mixture: None,
            test_rows,
            class_weights: class_weights(ask.objective, &train.truth, labels.len()),
            fingerprint: train.fingerprint(),
            blanks: ask.blanks()?,
            labels,
            table,
            train: Arc::new(train),
            validation: Arc::new(validation),
            test: test.map(|(test, _)| Arc::new(test)),
            cut,
        };
        data.mixed(texts)
    }

    /// The same, mixed as `texts` say, if there is something of every part.
    fn mixed(mut self, texts: &Texts) -> Result<Self, Error> {
        let parts = [("training", &self.train), ("validation", &self.validation)];
        if let Some((name, _)) = parts.iter().find(|(_, part)| part.is_empty()) {
            return Err(no_text(name));
        }
        let mut corpora = self.corpora.iter();
        if let Some(empty) = corpora.find(|corpus| corpus.train.is_empty()) {
            return Err(Error::Split(format!(
                "expected at least one text of corpus {:?} in the training part, found none",
                empty.name
            )));
        }
        let corpora = self.corpora.iter().zip(&texts.corpus);
        let weighed: Vec<_> = corpora
            .map(|(corpus, settings)| (corpus.train.clone(), settings.weight))
            .collect();
        self.mixture = (!weighed.is_empty()).then(|| Mixture::new(texts.mix, &weighed));
        Ok(self)
    }
}

fn no_text(part: &str) -> Error {
    Error::Split(format!(
        "expected at least one text in the {part} part, found none"
    ))
}

impl Ask<'_> {
    /// How tokens are hidden, where they are what is to be predicted.
    ///
    /// # Errors
    /// If the tokenizer has no token that stands for a hidden one.
    pub fn blanks(&self) -> Result<Option<Arc<Blanks>>, Error> {
        let Some(settings) = self.objective.blanks() else {
            return Ok(None);
        };
        let mask = self.tokenizer.mask().ok_or_else(|| {
            Error::Text(
                "the tokenizer has no token that stands for a hidden one, such as [MASK]; add it, or train a tokenizer that has it".to_owned(),
            )
        })?;
        Ok(Some(Arc::new(Blanks {
            settings,
            mask,
            vocab: self.tokenizer.vocabulary_len(),
            replaced: matches!(self.objective, Objective::ReplacedToken(_)),
            seed: self.seed,
        })))
    }

    /// Whether tokens are kept in files.
    fn is_stored(&self) -> bool {
        self.texts.stored && matches!(self.objective, Objective::MaskedToken(_))
    }

    /// A text to hide tokens in, as one or more windows.
    pub(super) fn windows(&self, text: &str) -> Result<Vec<Encoding>, Error> {
        let long = Long::Chunk {
            overlap: 0,
            whole_words: true,
        };
        let max_len = self.max_len;
        self.tokenizer.encode(text.into(), Limit { max_len, long })
    }

    /// A question with its context, in windows.
    fn asked(&self, question: &Question, overlap: usize) -> Result<Vec<Encoding>, Error> {
        let input = Input::from((&*question.question, &*question.context));
        let long = Long::Chunk {
            overlap,
            whole_words: false,
        };
        let max_len = self.max_len;
        let encoded = self.tokenizer.windows(input, Limit { max_len, long });
        encoded.map_err(|error| match error {
            Error::Text(message) => Error::Text(format!(
                "question {:?}: {message}; shorten it, or give the model a larger max_len",
                question.id
            )),
            other => other,
        })
    }

    /// One part alone, for a model whose head has `labels` and that knows the columns of `table`: what is to be learned from, or
    /// what is to be judged by.
    ///
    /// # Errors
    /// As [`TextData::prepare`].
    pub fn part(
        &self,
        part: Part<'_>,
        labels: &[String],
        table: &Table,
    ) -> Result<Examples, Error> {
        let texts = self.texts;
        if self.is_stored() {
            match part {
                Part::Train => return Ok(store::Parts::open(self)?.train),
                Part::Test if !texts.test.is_empty() => {}
                Part::Validation | Part::Test => return Ok(store::Parts::open(self)?.validation),
                Part::Files(_) => {}
            }
        }
        let fold = texts
            .folds
            .as_ref()
            .filter(|_| !matches!(part, Part::Files(_)));
        let records = match part {
            _ if fold.is_some() => {
                let split = Records::split(self)?;
                match part {
                    Part::Train => split.train,
                    Part::Validation => split.held_out.expect("a share is held out"),
                    Part::Test | Part::Files(_) => split.fold.expect("there are folds").test,
                }
            }
            Part::Files(files) => Records::read(self, files)?,
            Part::Train => Records::split(self)?.train,
            Part::Test if !texts.test.is_empty() => Records::read(self, &texts.test)?,
            Part::Validation | Part::Test if !texts.validation.is_empty() => {
                Records::read(self, &texts.validation)?
            }
            Part::Validation | Part::Test => {
                let held_out = Records::split(self)?.held_out;
                held_out.expect("a share is held out where there are no files")
            }
        };
        if records.len() == 0 {
            return Err(Error::Split("there is no text to judge by".to_owned()));
        }
        let judged = !matches!(part, Part::Train);
        Ok(records.examples(self, (&ids(labels), table), judged)?.0)
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
    /// Lines of documents.
    Documents(Vec<Vec<String>>, Pair),
    Labelled {
        texts: Vec<String>,
        second: Option<Vec<String>>,
        labels: Labels,
        /// What belongs together, where that is told.
        groups: Option<Vec<String>>,
        /// The values of columns beside each text, empty where they are missing.
        beside: Vec<Vec<String>>,
    },
    Sentences(Vec<Sentence>, Tags),
    Questions(Vec<Question>),
}

/// What files have to learn from and to choose by.
struct Split {
    train: Records,
    /// None where there are files for it.
    held_out: Option<Records>,
    /// What is left out of both by cross-validation.
    fold: Option<Fold>,
    /// Their records, where there are several.
    corpora: Vec<Corpus>,
}

/// A part that is left out.
struct Fold {
    test: Records,
    /// Which records of the files those are.
    rows: Vec<usize>,
    /// Of all parts.
    labels: Vec<String>,
}

/// Labels as files have them, and where, for messages.
enum Labels {
    One(Vec<Cells>),
    Several(Vec<Cells>, char),
    /// In their order, each as often as it stands there.
    InOrder(Vec<Cells>, char),
    Numbers(Vec<f32>),
}

impl Records {
    fn read(ask: &Ask<'_>, files: &[PathBuf]) -> Result<Self, Error> {
        if let Some(pair) = ask.objective.pair() {
            return Ok(Self::Documents(lines(ask.texts, files)?, pair));
        }
        match ask.objective {
            Objective::MaskedToken(_) | Objective::ReplacedToken(_) | Objective::Position(_) => {
                let mut all = Vec::new();
                plain(ask.texts, files, &mut |text| {
                    all.push(text);
                    Ok(())
                })?;
                Ok(Self::Plain(all))
            }
            Objective::Sequence(_) | Objective::Transcript(_) => labelled(ask, None, files),
            Objective::Token(token) => sentences(ask.texts, token.tags, files),
            Objective::Span(_) => {
                let mut questions = Vec::new();
                for file in files {
                    questions.extend(Squad::new(file).read().map_err(Error::every_row)?.0);
                }
                Ok(Self::Questions(questions))
            }
        }
    }

    /// What is to be learned from, and what is held out of it for validation unless there are files for that.
    fn split(ask: &Ask<'_>) -> Result<Split, Error> {
        let texts = ask.texts;
        if !texts.corpus.is_empty() {
            return Self::split_corpora(ask);
        }
        if texts.files.is_empty() {
            return Err(Error::NoFiles);
        }
        if let Some(folds) = &texts.folds {
            return Self::split_folds(ask, folds);
        }
        let mut train = Self::read(ask, &texts.files)?;
        let held_out = texts
            .validation
            .is_empty()
            .then(|| train.hold_out(texts.validation_share, ask.seed));
        if let Some(count) = texts.per_class {
            train.keep_few(count, ask.seed);
        }
        Ok(Split {
            train,
            held_out,
            fold: None,
            corpora: Vec::new(),
        })
    }

    /// The same where a part of the files is left out, of those that `folds` say.
    fn split_folds(ask: &Ask<'_>, folds: &Folds) -> Result<Split, Error> {
        let texts = ask.texts;
        let mut train = match (ask.objective, &folds.group) {
            (Objective::Sequence(_) | Objective::Transcript(_), Some(group)) => {
                labelled(ask, Some(group), &texts.files)?
            }
            _ => Self::read(ask, &texts.files)?,
        };
        let groups = train.groups();
        let count = groups.iter().max().map_or(0, |last| last + 1);
        if count < folds.count {
            let what = match folds.group {
                Some(_) => "groups",
                None => "texts",
            };
            return Err(Error::Split(format!(
                "expected at least as many {what} as data.folds.count, {}, found {count}",
                folds.count
            )));
        }
        let parts = fold::folds(&groups, &train.classes(), folds.count, ask.seed);
        let only = folds.only.expect("one part is left out") - 1;
        let labels = train.labels();
        let is_test: Vec<bool> = parts.iter().map(|&part| part == only).collect();
        let test = train.part(&is_test);
        let held_out = Some(train.hold_out(texts.validation_share, ask.seed));
        if let Some(count) = texts.per_class {
            train.keep_few(count, ask.seed);
        }
        let rows = (0..).zip(is_test).filter(|(_, is_test)| *is_test);
        Ok(Split {
            train,
            held_out,
            fold: Some(Fold {
                test,
                rows: rows.map(|(row, _)| row).collect(),
                labels,
            }),
            corpora: Vec::new(),
        })
    }

    /// The same of each corpus, laid end to end.
    fn split_corpora(ask: &Ask<'_>) -> Result<Split, Error> {
        let mut all: Option<(Self, Self)> = None;
        let mut corpora = Vec::new();
        for corpus in &ask.texts.corpus {
            let texts = &ask.texts.only(corpus);
            let ask = &Ask { texts, ..*ask };
            let split = Self::split(ask)?;
            let held_out = match split.held_out {
                Some(held_out) => held_out,
                None => Self::read(ask, &texts.validation)?,
            };
            let (train, validation) = if let Some((train, validation)) = &mut all {
                let starts = (train.len(), validation.len());
                train.append(split.train, &corpus.name)?;
                validation.append(held_out, &corpus.name)?;
                (starts.0..train.len(), starts.1..validation.len())
            } else {
                let all = all.insert((split.train, held_out));
                (0..all.0.len(), 0..all.1.len())
            };
            corpora.push(Corpus {
                name: corpus.name.clone(),
                train,
                validation,
            });
        }
        let (train, held_out) = all.expect("there are corpora");
        Ok(Split {
            train,
            held_out: Some(held_out),
            fold: None,
            corpora,
        })
    }

    /// Puts the records of corpus `name` behind these.
    fn append(&mut self, other: Self, name: &str) -> Result<(), Error> {
        match (self, other) {
            (Self::Plain(all), Self::Plain(more)) => all.extend(more),
            (
                Self::Labelled {
                    texts,
                    second,
                    labels,
                    beside,
                    ..
                },
                Self::Labelled {
                    texts: more,
                    second: more_second,
                    labels: more_labels,
                    beside: more_beside,
                    ..
                },
            ) => {
                texts.extend(more);
                beside.extend(more_beside);
                if let Some(second) = second {
                    second.extend(more_second.into_iter().flatten());
                }
                match (labels, more_labels) {
                    (Labels::One(all), Labels::One(more))
                    | (Labels::Several(all, _), Labels::Several(more, _))
                    | (Labels::InOrder(all, _), Labels::InOrder(more, _)) => all.extend(more),
                    (Labels::Numbers(all), Labels::Numbers(more)) => all.extend(more),
                    _ => unreachable!("one objective reads one kind of labels"),
                }
            }
            (Self::Sentences(all, tags), Self::Sentences(more, other)) => {
                if *tags != other {
                    return Err(Error::Text(format!(
                        "corpus {name:?}: expected labels of {}, as the corpora before have, found others",
                        match tags {
                            Tags::Stretches => "stretches",
                            Tags::Words => "single words",
                        }
                    )));
                }
                all.extend(more);
            }
            (Self::Questions(all), Self::Questions(more)) => all.extend(more),
            _ => unreachable!("one objective reads one kind of records"),
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(texts) | Self::Labelled { texts, .. } => texts.len(),
            Self::Documents(documents, _) => documents.len(),
            Self::Sentences(sentences, _) => sentences.len(),
            Self::Questions(questions) => questions.len(),
        }
    }

    /// What stays together, by number: the texts of a group, the questions about one text; else each record is by itself.
    fn groups(&self) -> Vec<usize> {
        fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
            let mut numbers = HashMap::new();
            names
                .map(|name| {
                    let next = numbers.len();
                    *numbers.entry(name).or_insert(next)
                })
                .collect()
        }
        match self {
            Self::Questions(questions) => {
                numbered(questions.iter().map(|question| &*question.context))
            }
            Self::Labelled {
                groups: Some(groups),
                ..
            } => numbered(groups.iter().map(String::as_str)),
            Self::Plain(_) | Self::Documents(..) | Self::Labelled { .. } | Self::Sentences(..) => {
                (0..self.len()).collect()
            }
        }
    }

    /// The class of each text, by number; where texts have none, or more than one, all are of one.
    fn classes(&self) -> Vec<usize> {
        let Self::Labelled {
            labels: Labels::One(cells),
            ..
        } = self
        else {
            return vec![0; self.len()];
        };
        let mut numbers = HashMap::new();
        let values = cells.iter().flat_map(|cells| &cells.values);
        values
            .map(|value| {
                let next = numbers.len();
                *numbers.entry(value.label()).or_insert(next)
            })
            .collect()
    }

    /// Takes a share of the records away, drawn from `seed`; what belongs together stays together.
    fn hold_out(&mut self, share: f64, seed: u64) -> Self {
        let groups = self.groups();
        let count = groups.iter().max().map_or(0, |last| last + 1);
        let held = held_out(count, share, seed);
        let is_held: Vec<bool> = groups.iter().map(|&group| held[group]).collect();
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
            Self::Documents(documents, pair) => Self::Documents(part(documents, wanted), *pair),
            Self::Labelled {
                texts,
                second,
                labels,
                groups,
                beside,
            } => Self::Labelled {
                texts: part(texts, wanted),
                second: second.as_mut().map(|second| part(second, wanted)),
                labels: labels.part(wanted),
                groups: groups.as_mut().map(|groups| part(groups, wanted)),
                beside: part(beside, wanted),
            },
            Self::Sentences(sentences, tags) => Self::Sentences(part(sentences, wanted), *tags),
            Self::Questions(questions) => Self::Questions(part(questions, wanted)),
        }
    }

    /// The columns beside the texts, as they are here.
    fn table(&self, columns: &Columns) -> Result<Table, Error> {
        let Self::Labelled { beside, .. } = self else {
            return Ok(Table::default());
        };
        let of = |at: usize| {
            let values = beside.iter().map(move |values| values[at].trim());
            values.filter(|value| !value.is_empty())
        };
        let mut table = Table::default();
        for name in &columns.numbers {
            let at = table.columns.len();
            let numbers = of(at).map(|value| number(value).ok_or_else(|| no_number(name, value)));
            let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
            table.columns.push(TableColumn::of_numbers(name, &numbers));
        }
        for name in &columns.categories {
            let at = table.columns.len();
            table.columns.push(TableColumn::of_names(name, of(at)));
        }
        Ok(table)
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
                Labels::Several(cells, separator) | Labels::InOrder(cells, separator) => {
                    let values = cells.iter().flat_map(|cells| &cells.values);
                    let lists = values.filter_map(|value| value.list(Some(*separator)));
                    found.extend(lists.flatten().filter_map(|value| value.label()));
                }
                Labels::Numbers(_) => return vec!["score".to_owned()],
            },
            Self::Sentences(sentences, _) => {
                let spans = sentences.iter().flat_map(|sentence| &sentence.spans);
                found.extend(spans.map(|span| span.label.clone()));
            }
            Self::Plain(_) | Self::Documents(..) | Self::Questions(_) => {}
        }
        self.tags_of(&label::sorted(found))
    }

    /// The head's outputs for `labels`: of stretches, the tags that write them.
    fn tags_of(&self, labels: &[String]) -> Vec<String> {
        match self {
            Self::Sentences(_, Tags::Stretches) => {
                let tags = labels.iter().flat_map(|label| {
                    ["B", "I"].map(|letter| match &**label {
                        "" => letter.to_owned(),
                        label => format!("{letter}-{label}"),
                    })
                });
                std::iter::once("O".to_owned()).chain(tags).collect()
            }
            Self::Plain(_)
            | Self::Documents(..)
            | Self::Labelled { .. }
            | Self::Sentences(_, Tags::Words)
            | Self::Questions(_) => labels.to_vec(),
        }
    }

    /// The examples, and how many records were cut. `judged`: what it takes to compare predictions is kept.
    fn examples(
        self,
        ask: &Ask<'_>,
        (ids, table): (&HashMap<&str, u32>, &Table),
        judged: bool,
    ) -> Result<(Examples, usize), Error> {
        let (tokenizer, max_len) = (ask.tokenizer, ask.max_len);
        let long = Long::Truncate(Shorten::LongestFirst);
        let whole = Limit { max_len, long };
        match self {
            Self::Plain(texts) => Ok((of_texts(ask, &texts)?, 0)),
            Self::Documents(documents, pair) => Ok((of_documents(ask, &documents, pair)?, 0)),
            Self::Labelled {
                texts,
                second,
                labels,
                beside,
                ..
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
                examples.beside = placed(&beside, table)?;
                check_room(ask.objective, &examples.truth, &encoded)?;
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
            Self::Sentences(sentences, kind) => {
                let encoded = encode(&sentences, |sentence| {
                    ask.windows(&sentence.words.join(" "))
                })?;
                let mut words = Words {
                    offsets: vec![0],
                    tags: Some(kind),
                    ..Words::default()
                };
                let mut examples = Examples::new(Truth::Tokens);
                for (record, (sentence, encodings)) in sentences.iter().zip(&encoded).enumerate() {
                    let labels = tags(sentence, kind, ids)?;
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
                let encoded = encode(&questions, |question| ask.asked(question, span.overlap))?;
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

/// Which of so many are held out, a share drawn from `seed`; at least one.
pub(super) fn held_out(count: usize, share: f64, seed: u64) -> Vec<bool> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    Stream::new(seed, 0, Purpose::HoldOut, 0).draw(&mut order, count);
    let mut is_held = vec![false; count];
    let held = ((share * count as f64).round() as usize).max(1);
    for at in order.into_iter().take(held) {
        is_held[at as usize] = true;
    }
    is_held
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

pub(super) fn encode<T: Sync>(
    records: &[T],
    of: impl Fn(&T) -> Result<Vec<Encoding>, Error> + Sync + Send,
) -> Result<Vec<Vec<Encoding>>, Error> {
    records.par_iter().map(of).collect()
}

/// A file of the text kinds: how its tables are written.
fn format(texts: &Texts, file: &Path) -> Result<Format, Error> {
    Format::Auto.delimited(file, texts.header, texts.quotes)
}

/// Texts as examples, long ones in windows.
fn of_texts(ask: &Ask<'_>, texts: &[String]) -> Result<Examples, Error> {
    let encoded = encode(texts, |text| ask.windows(text))?;
    let mut examples = Examples::new(match ask.objective {
        Objective::Position(position) => Truth::Places(Context {
            hidden_share: position.hidden_share,
            seed: ask.seed,
        }),
        _ => Truth::Tokens,
    });
    for (record, encodings) in encoded.iter().enumerate() {
        let own = encodings.iter().filter(|one| !one.body().is_empty());
        own.for_each(|encoding| examples.push(encoding, record));
    }
    Ok(examples)
}

/// The lines of documents as examples, of which each epoch makes pairs.
fn of_documents(ask: &Ask<'_>, documents: &[Vec<String>], pair: Pair) -> Result<Examples, Error> {
    let frame = ask.tokenizer.frame(true)?.clone();
    if ask.max_len < frame.len() + 2 {
        return Err(Error::Text(format!(
            "model.max_len: expected room for two tokens beside the {} special ones of a pair, found {}",
            frame.len(),
            ask.max_len
        )));
    }
    let encoded = encode(documents, |lines| {
        let lines = lines.iter();
        lines.map(|line| ask.tokenizer.encode_whole(line)).collect()
    })?;
    let mut examples = Examples::new(Truth::Lines(Pairing {
        settings: pair,
        frame,
        max_len: ask.max_len,
        seed: ask.seed,
    }));
    for (record, lines) in encoded.iter().enumerate() {
        for line in lines.iter().filter(|line| !line.first.is_empty()) {
            let own = pack(line).skip(line.first.start).take(line.first.len());
            examples.push_tokens(own, record);
        }
    }
    let (first, last) = (examples.records.first(), examples.records.last());
    if matches!(pair, Pair::NextSentence(_)) && first == last {
        return Err(Error::Split(
            "the second segments of pairs come from other documents: expected at least two, with empty lines between, in each part, found one".to_owned(),
        ));
    }
    Ok(examples)
}

/// The lines of each document; of tables, those of each cell.
fn lines(texts: &Texts, files: &[PathBuf]) -> Result<Vec<Vec<String>>, Error> {
    let mut all = Vec::new();
    documents(texts, files, &mut |lines| {
        let lines = lines.iter().flat_map(|line| line.lines());
        let lines = lines.filter(|line| !line.trim().is_empty());
        all.push(lines.map(str::to_owned).collect());
        Ok(())
    })?;
    Ok(all)
}

/// Tells `each` of the texts to hide tokens in, one after the other.
pub(super) fn plain(
    texts: &Texts,
    files: &[PathBuf],
    each: &mut dyn FnMut(String) -> Result<(), Error>,
) -> Result<(), Error> {
    documents(texts, files, &mut |lines| each(lines.join(" ")))
}

/// Tells `each` of what makes one text: a line or cell, or lines up to an empty one.
fn documents(
    texts: &Texts,
    files: &[PathBuf],
    each: &mut dyn FnMut(Vec<String>) -> Result<(), Error>,
) -> Result<(), Error> {
    for file in files {
        let column = &*texts.columns.text;
        let mut paragraph: Vec<String> = Vec::new();
        Cells::scan(
            file,
            &format(texts, file)?,
            &[column],
            &mut |place, is_line, cells| {
                let value = Value::from(&cells[0]);
                let text = value.text().ok_or_else(|| {
                    Error::Value(BadRow {
                        path: file.clone(),
                        place,
                        column: (!is_line).then(|| column.to_owned()),
                        expected: "text".to_owned(),
                        found: value.describe(),
                    })
                })?;
                let is_blank = text.trim().is_empty();
                match (
                    is_line && texts.documents == Documents::Paragraphs,
                    is_blank,
                ) {
                    (true, false) => paragraph.push(text),
                    (true, true) if !paragraph.is_empty() => each(std::mem::take(&mut paragraph))?,
                    (false, false) => each(vec![text])?,
                    (_, true) => {}
                }
                Ok(())
            },
        )?;
        if !paragraph.is_empty() {
            each(paragraph)?;
        }
    }
    Ok(())
}

fn labelled(ask: &Ask<'_>, group: Option<&String>, files: &[PathBuf]) -> Result<Records, Error> {
    let texts = ask.texts;
    let columns = &texts.columns;
    let mut names = vec![&*columns.text, &*columns.label];
    names.extend(columns.second.as_deref());
    names.extend(group.map(String::as_str));
    let (before, others) = (names.len(), [&columns.numbers, &columns.categories]);
    let readout = ask.objective.readout();
    if readout.is_some_and(|own| own.reads_columns()) && others.iter().all(|own| own.is_empty()) {
        return Err(Error::Text(
            "objective.readout: expected columns beside the text, found none; name them in data.columns.numbers and \
             data.columns.categories"
                .to_owned(),
        ));
    }
    names.extend(others.into_iter().flatten().map(String::as_str));
    let mut beside: Vec<Vec<String>> = Vec::new();
    let mut groups = group.map(|_| Vec::new());
    let (mut firsts, mut seconds, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let mut read = Cells::read(file, &format(texts, file)?, &names)?.into_iter();
        let mut next = || read.next().expect("as many columns as were asked for");
        firsts.extend(match ask.objective.chunks() {
            Some(_) => next().each("text, or a list of texts", Value::sections)?,
            None => next().each("text", Value::text)?,
        });
        cells.push(next());
        if columns.second.is_some() {
            seconds.extend(next().each("text", Value::text)?);
        }
        if let Some(groups) = &mut groups {
            groups.extend(next().each("what the text belongs to", Value::label)?);
        }
        let first = beside.len();
        beside.resize(firsts.len(), Vec::new());
        for _ in before..names.len() {
            let values = next().each("a number or the name of a class", Value::or_missing)?;
            for (beside, value) in beside[first..].iter_mut().zip(values) {
                beside.push(value);
            }
        }
    }
    let problem = match ask.objective {
        Objective::Sequence(sequence) => Some(sequence.problem),
        _ => None,
    };
    let labels = match problem {
        None => Labels::InOrder(cells, texts.label_separator),
        Some(Problem::SingleLabel) => Labels::One(cells),
        Some(Problem::MultiLabel) => Labels::Several(cells, texts.label_separator),
        Some(Problem::Regression) => {
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
        groups,
        beside,
    })
}

/// The places of the values beside texts; none if there are no columns.
fn placed(beside: &[Vec<String>], table: &Table) -> Result<Vec<Vec<Placed>>, Error> {
    if table.columns.is_empty() {
        return Ok(Vec::new());
    }
    let placed = beside.iter().map(|values| table.placed(values));
    let placed: Result<_, _> = placed.collect();
    placed.map_err(|(column, found)| no_number(column, &found))
}

fn no_number(column: &str, found: &str) -> Error {
    Error::Text(format!(
        "column {column:?}: expected numbers, found {}; correct it, or name the column in data.columns.categories",
        quoted(found)
    ))
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
            Self::InOrder(cells, separator) => Self::InOrder(of_cells(cells), *separator),
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
            Self::Several(cells, separator) | Self::InOrder(cells, separator) => {
                let mut of = Vec::new();
                let list = |value: &Value| {
                    let list = value.list(Some(*separator))?;
                    list.iter().map(id).collect::<Option<Vec<u32>>>()
                };
                for cells in cells {
                    of.extend(cells.each(&format!("labels, each {}", expected(ids)), list)?);
                }
                if matches!(self, Self::InOrder(..)) {
                    return Ok(Truth::Transcripts(of));
                }
                for set in &mut of {
                    set.sort_unstable();
                    set.dedup();
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

/// Sentences, their labels read as `tags` says, or else as the first file has them.
fn sentences(texts: &Texts, mut tags: Option<Tags>, files: &[PathBuf]) -> Result<Records, Error> {
    let mut all = Vec::new();
    for file in files {
        let mut conll = conll(&texts.columns, file)?;
        if tags == Some(Tags::Words) {
            conll.scheme = Some(Scheme::Words);
        }
        let mut read = conll.read()?;
        let Some(found) = read.scheme() else {
            return Err(Error::Format {
                path: file.clone(),
                expected: "a column of labels beside that of the words".to_owned(),
                found: "one column".to_owned(),
                advice: "is it the right file?".to_owned(),
            });
        };
        match (tags, found) {
            (None, Scheme::Words) => tags = Some(Tags::Words),
            (None, _) => tags = Some(Tags::Stretches),
            // Its first label that is none of a stretch is the fault to tell.
            (Some(Tags::Stretches), Scheme::Words) => {
                conll.scheme = Some(Scheme::Iob2);
                read = conll.read()?;
            }
            (Some(_), _) => {}
        }
        for sentence in read {
            all.push(sentence.map_err(Error::every_row)?);
        }
    }
    Ok(Records::Sentences(all, tags.unwrap_or(Tags::Stretches)))
}

/// A file of words, with the columns that a recipe names.
fn conll(columns: &Columns, file: &Path) -> Result<Conll, Error> {
    let expected = |what: &str, found: &str| Error::Format {
        path: file.to_owned(),
        expected: format!("{what}, by its number from 0 or its name in CoNLL-U"),
        found: found.to_owned(),
        advice: format!("names are {}", Conll::COLUMNS.join(", ")),
    };
    let named = |name: &String, usual: &str| match name.parse() {
        _ if name == usual => Ok((None, false)),
        Ok(number) => Ok((Some(number), false)),
        Err(_) => {
            let place = Conll::COLUMNS.iter().position(|column| column == name);
            let place = place.ok_or_else(|| expected("a column", &quoted(name)))?;
            Ok((Some(place), true))
        }
    };
    let usual = Columns::default();
    let (word, word_is_named) = named(&columns.text, &usual.text)?;
    let (tag, tag_is_named) = named(&columns.label, &usual.label)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let is_universal =
        word_is_named || tag_is_named || name.to_ascii_lowercase().contains(".conllu");
    let mut conll = if is_universal {
        let tag = tag.ok_or_else(|| {
            let what = "the column of labels, such as --label upos";
            expected(what, "none, as the last of CoNLL-U is of remarks")
        })?;
        Conll::universal(file, tag)
    } else {
        Conll {
            tag,
            ..Conll::new(file)
        }
    };
    conll.word = word.unwrap_or(conll.word);
    Ok(conll)
}

/// The label of each word of a sentence.
fn tags(sentence: &Sentence, tags: Tags, ids: &HashMap<&str, u32>) -> Result<Vec<u32>, Error> {
    let scheme = match tags {
        Tags::Stretches => Scheme::Iob2,
        Tags::Words => Scheme::Words,
    };
    let tags = scheme.tags(sentence.words.len(), &sentence.spans);
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

/// Refuses a text of which no decoder can say what is true: one that has fewer tokens than its labels take, or more labels than
/// are written.
fn check_room(
    objective: &Objective,
    truth: &Truth,
    encoded: &[Vec<Encoding>],
) -> Result<(), Error> {
    if let Some(Readout::Recurrent(_)) = objective.readout()
        && !encoded
            .iter()
            .flatten()
            .any(|text| text.segments.contains(&1))
    {
        return Err(Error::Text(
            "the texts of a pair are told apart by their segments: expected a tokenizer that gives the second one of its own, such \
             as bert's, found one that gives all tokens the same"
                .to_owned(),
        ));
    }
    let (Objective::Transcript(transcript), Truth::Transcripts(all)) = (objective, truth) else {
        return Ok(());
    };
    for (at, (labels, windows)) in all.iter().zip(encoded).enumerate() {
        let (needed, room, what) = match transcript.decode {
            Transcriber::Ctc => (path::tokens(labels), windows[0].len(), "tokens"),
            Transcriber::Attention(decoder) => (labels.len(), decoder.most, "labels"),
        };
        if needed > room {
            return Err(Error::Text(format!(
                "text {}: its labels take {needed} {what}, found room for {room}; {}",
                at + 1,
                match transcript.decode {
                    Transcriber::Ctc => "leave the text out, or decode by attention",
                    Transcriber::Attention(_) => "raise objective.decode.most",
                }
            )));
        }
    }
    Ok(())
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
        Truth::Tokens
        | Truth::Lines(_)
        | Truth::Pairs(_)
        | Truth::Places(_)
        | Truth::Sets(_)
        | Truth::Numbers(_)
        | Truth::Transcripts(_)
        | Truth::Answers(_) => return None,
    }
    Some(counts)
}
