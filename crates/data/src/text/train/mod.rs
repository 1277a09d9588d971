//! Tokenizers made from texts.
//!
//! Start at [`Trainer`]: it counts words, of any number of texts, and makes a [`Trained`] tokenizer of the counts.

mod extend;
mod folder;
mod language;
mod pairs;
mod shape;
mod unigram;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

pub use language::{Language, Unify};

use super::tokenizer::guard;
use crate::Error;
use crate::error::quoted;
use extend::Extension;
use folder::Configs;
use pairs::{Pieces, Until};

/// How words become pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// The longest piece that fits, from the left, as BERT has it; pieces within words begin with `##`. The pieces are
    /// those that merging pairs gives.
    WordPiece,
    /// Pairs of bytes are merged in the order they were learnt, as GPT-2 and RoBERTa have it. Spells every text.
    BytePairs,
    /// Whole words between blanks and nothing smaller: what the texts do not have often enough is unknown. For words that
    /// are symbols, such as moves, readings or operators.
    WordLevel,
    /// The most probable pieces, as `SentencePiece` and ALBERT have it; a blank before a word belongs to it.
    Unigram,
}

/// What a new tokenizer is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How words become pieces.
    pub model: Model,
    /// Tokens in all, special ones included; fewer if the texts do not give so many.
    pub vocabulary_len: usize,
    /// How often a pair must stand in the texts to be merged, or a whole word to be known. [`Model::Unigram`] does not count so: it drops the pieces
    /// that the texts miss least.
    pub min_frequency: u64,
    /// Most characters known; the more frequent ones, of all if none is said. Words with others teach nothing. Of no use to
    /// [`Model::BytePairs`], which knows the 256 bytes.
    pub alphabet_len: Option<usize>,
    /// What the language of the texts needs.
    pub language: Option<Language>,
    /// Whether texts are lower-cased.
    pub lowercase: bool,
    /// Whether accents are taken off letters. None said: off what [`Model::WordPiece`] lower-cases, as for BERT, unless
    /// there is a language, since the marks would be part of its letters; off nothing else.
    pub strip_accents: Option<bool>,
    /// Special tokens besides the model's own, such as `[DRUG]`.
    pub specials: Vec<String>,
    /// Longest input in tokens, special ones included, to be written into the folder.
    pub max_len: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: Model::WordPiece,
            vocabulary_len: 30_000,
            min_frequency: 2,
            alphabet_len: None,
            language: None,
            lowercase: false,
            strip_accents: None,
            specials: Vec::new(),
            max_len: 512,
        }
    }
}

/// Words and how often they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    words: HashMap<String, u64>,
    texts: u64,
}

impl Counts {
    /// Texts counted.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Words that differ.
    pub fn distinct(&self) -> usize {
        self.words.len()
    }

    /// Characters of all words, each as often as it was seen.
    pub fn chars(&self) -> u64 {
        let chars =
            |(word, count): (&String, &u64)| count.saturating_mul(word.chars().count() as u64);
        self.words.iter().map(chars).fold(0, u64::saturating_add)
    }

    /// Adds the counts of `other`, as if its texts had been seen `times` times.
    pub fn add(&mut self, other: Self, times: u64) {
        if times == 0 {
            return;
        }
        self.texts = self.texts.saturating_add(other.texts.saturating_mul(times));
        for (word, count) in other.words {
            let sum = self.words.entry(word).or_default();
            *sum = sum.saturating_add(count.saturating_mul(times));
        }
    }
}

/// Makes tokenizers.
///
/// The same texts and settings make the same bytes, whatever the order of texts and the number of threads.
pub struct Trainer {
    /// Splits words as the trained tokenizer will.
    splitter: tokenizers::Tokenizer,
    work: Work,
}

enum Work {
    New(Settings),
    Extend(Box<Extension>),
}

impl Trainer {
    /// Of a new tokenizer.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        check(&settings)?;
        let specials = shape::specials(&settings);
        let model = match settings.model {
            Model::WordPiece => shape::word_pieces(&specials, settings.model.unknown()),
            Model::BytePairs => shape::byte_pairs(&specials, &[]),
            Model::WordLevel => shape::words(&specials, settings.model.unknown()),
            Model::Unigram => {
                let pieces: Vec<_> = specials
                    .iter()
                    .map(|&token| (token.to_owned(), 0.0))
                    .collect();
                shape::unigram(&pieces, 1)
            }
        };
        Ok(Self {
            splitter: parse(&shape::compose(&settings, &model))?,
            work: Work::New(settings),
        })
    }

    /// Of the tokenizer in `folder` with more tokens, up to `vocabulary_len` in all: characters that it lacks, then what
    /// merging its pieces in the new words gives, as long as a character or pair stands there `min_frequency` times.
    /// Tokens that it has keep their ids, and new ones get the next ids.
    ///
    /// Pairs of bytes learnt so are merged after all others: what was one token stays one. Word pieces are found longest
    /// first, so a new one may take the place of shorter old ones.
    ///
    /// # Errors
    /// If the folder has no tokenizer, or one that cannot be extended.
    pub fn extend(folder: &Path, vocabulary_len: usize, min_frequency: u64) -> Result<Self, Error> {
        let (splitter, extension) = Extension::open(folder, vocabulary_len, min_frequency)?;
        Ok(Self {
            splitter,
            work: Work::Extend(Box::new(extension)),
        })
    }

    /// Counts the words of `texts`, on the threads of the current pool of rayon.
    ///
    /// # Errors
    /// If a text cannot be split.
    pub fn count<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Counts, Error> {
        const TEXTS: usize = 64;
        let some = |texts: &[T]| {
            let mut counts = Counts {
                texts: texts.len() as u64,
                ..Counts::default()
            };
            for text in texts {
                guard(|| self.split(text.as_ref(), &mut counts.words)).map_err(Error::Text)?;
            }
            Ok(counts)
        };
        let merge = |mut one: Counts, other: Counts| {
            one.add(other, 1);
            Ok(one)
        };
        texts
            .par_chunks(TEXTS)
            .map(some)
            .try_reduce(Counts::default, merge)
    }

    fn split(&self, text: &str, words: &mut HashMap<String, u64>) -> Result<(), String> {
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = self.splitter.get_normalizer() {
            normalizer.normalize(&mut text).map_err(|e| e.to_string())?;
        }
        let mut text = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = self.splitter.get_pre_tokenizer() {
            pre_tokenizer
                .pre_tokenize(&mut text)
                .map_err(|e| e.to_string())?;
        }
        for (word, ..) in text.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if let Some(count) = words.get_mut(word) {
                *count += 1;
            } else if !word.is_empty() {
                words.insert(word.to_owned(), 1);
            }
        }
        Ok(())
    }

    /// The tokenizer that `counts` make. `tell` hears how many tokens there are, where that can be said.
    ///
    /// # Errors
    /// If there are no words, or the vocabulary is too small for their characters.
    pub fn train(&self, counts: &Counts, tell: &mut dyn FnMut(usize)) -> Result<Trained, Error> {
        if counts.words.is_empty() {
            return Err(Error::Training(format!(
                "expected words to learn from, found none in {} texts; is it the right column?",
                counts.texts
            )));
        }
        match &self.work {
            Work::New(settings) => train(settings, &counts.words, tell),
            Work::Extend(extension) => extension.train(&self.splitter, &counts.words, tell),
        }
    }
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer").finish_non_exhaustive()
    }
}

/// A tokenizer, ready to be written.
pub struct Trained {
    tokenizer: tokenizers::Tokenizer,
    configs: Configs,
}

impl Trained {
    /// Number of tokens.
    pub fn vocabulary_len(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Writes it as a new folder: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, and `vocab.txt` or
    /// `vocab.json` and `merges.txt`. After a crash the folder is whole or not there.
    ///
    /// # Errors
    /// If `folder` exists already, or cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        folder::write(&self.tokenizer, &self.configs, folder)
    }
}

impl fmt::Debug for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trained")
            .field("vocabulary_len", &self.vocabulary_len())
            .finish_non_exhaustive()
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let fault = |message: String| Err(Error::Training(message));
    if settings.model == Model::BytePairs && settings.alphabet_len.is_some() {
        return fault(
            "a limit of the alphabet, and byte pairs, whose alphabet is the 256 bytes; leave one of them out".into(),
        );
    }
    if settings.model == Model::WordLevel && settings.alphabet_len.is_some() {
        return fault(
            "a limit of the alphabet, and whole words, which are not spelled; leave one of them out".into(),
        );
    }
    let mut seen = HashSet::new();
    for token in shape::specials(settings) {
        if token.trim().is_empty() {
            return fault(format!(
                "expected special tokens that can be seen, found {token:?}"
            ));
        }
        if !seen.insert(token) {
            return fault(format!(
                "special token {} is there twice; leave it out",
                quoted(token)
            ));
        }
    }
    Ok(())
}

fn train(
    settings: &Settings,
    words: &HashMap<String, u64>,
    tell: &mut dyn FnMut(usize),
) -> Result<Trained, Error> {
    let specials = shape::specials(settings);
    let letters = match settings.model {
        Model::WordPiece | Model::Unigram => alphabet(words, settings.alphabet_len),
        Model::WordLevel => Vec::new(),
        Model::BytePairs => {
            let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
            bytes.sort_unstable();
            bytes
        }
    };
    let known: HashSet<char> = letters.iter().copied().collect();
    let is_known = |word: &str| word.chars().all(|letter| known.contains(&letter));
    let model = match settings.model {
        Model::WordPiece | Model::BytePairs => {
            let prefix = if settings.model == Model::WordPiece {
                shape::CONTINUES
            } else {
                ""
            };
            let mut pieces = Pieces::default();
            for token in &specials {
                pieces.add(token);
            }
            for letter in &letters {
                pieces.add(letter.encode_utf8(&mut [0; 4]));
            }
            let words = words.iter().filter(|(word, _)| is_known(word));
            let words: Vec<(&str, u64)> = words
                .map(|(word, &count)| (word.as_str(), count))
                .filter(|(word, _)| {
                    prefix.is_empty() || word.chars().nth(shape::MAX_WORD_CHARS).is_none()
                })
                .collect();
            if !prefix.is_empty() {
                let within = words.iter().flat_map(|(word, _)| word.chars().skip(1));
                let mut within: Vec<char> = within.collect::<HashSet<_>>().into_iter().collect();
                within.sort_unstable();
                for letter in within {
                    pieces.add(&format!("{prefix}{letter}"));
                }
            }
            check_room(settings, &specials, pieces.len())?;
            let words = words.into_iter().map(|(word, count)| {
                let spelled = word.chars().enumerate().map(|(place, letter)| {
                    let prefix = if place > 0 { prefix } else { "" };
                    let id = pieces.id(&format!("{prefix}{letter}"));
                    id.expect("every letter of the words was made a piece")
                });
                (spelled.collect(), count)
            });
            let words = words.collect();
            let until = Until {
                pieces: settings.vocabulary_len,
                least: settings.min_frequency.max(1),
            };
            let merges = pairs::learn(&mut pieces, words, prefix, until, tell);
            let spellings = pieces.spellings();
            if settings.model == Model::WordPiece {
                shape::word_pieces(spellings, settings.model.unknown())
            } else {
                let spelled = |id: u32| &*spellings[id as usize];
                let merges = merges
                    .iter()
                    .map(|merge| [merge.pair.0, merge.pair.1].map(spelled));
                shape::byte_pairs(spellings, &merges.collect::<Vec<_>>())
            }
        }
        Model::WordLevel => {
            check_room(settings, &specials, specials.len())?;
            let known = words.iter().filter(|(word, count)| {
                **count >= settings.min_frequency && !specials.contains(&word.as_str())
            });
            let mut known: Vec<(&str, u64)> =
                known.map(|(word, &count)| (word.as_str(), count)).collect();
            known.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
            let known = known.into_iter().map(|(word, _)| word);
            let pieces = specials.iter().copied().chain(known);
            let pieces: Vec<&str> = pieces.take(settings.vocabulary_len).collect();
            shape::words(&pieces, settings.model.unknown())
        }
        Model::Unigram => {
            check_room(settings, &specials, specials.len() + letters.len())?;
            let words = words.iter().filter(|(word, _)| is_known(word));
            let words = words.map(|(word, &count)| (word.clone(), count)).collect();
            let unknown = settings.model.unknown();
            let learnt =
                guard(|| unigram::learn(&words, &specials, unknown, settings.vocabulary_len));
            let pieces = learnt.map_err(Error::Training)?;
            let place = specials.iter().position(|token| *token == unknown);
            shape::unigram(&pieces, place.expect("the unknown token is a special one"))
        }
    };
    Ok(Trained {
        tokenizer: parse(&shape::compose(settings, &model))?,
        configs: Configs::new(settings),
    })
}

/// An error unless the vocabulary holds `needed` tokens.
fn check_room(settings: &Settings, specials: &[&str], needed: usize) -> Result<(), Error> {
    if settings.vocabulary_len >= needed {
        return Ok(());
    }
    let letters = needed - specials.len();
    Err(Error::Training(format!(
        "expected a vocabulary of at least {needed} tokens, {} of them special and {letters} single characters, found {}; \
         raise the size of the vocabulary{}",
        specials.len(),
        settings.vocabulary_len,
        if settings.model == Model::BytePairs {
            ""
        } else {
            " or limit the alphabet"
        }
    )))
}

/// Stands for the blank before a word, which is none of the texts' own characters.
const BLANK: char = '▁';

/// The characters of `words` in order, at most `most` of them: those seen most often, of equals the lower. [`BLANK`] is
/// always one and not counted.
fn alphabet(words: &HashMap<String, u64>, most: Option<usize>) -> Vec<char> {
    let mut counts: HashMap<char, u64> = HashMap::new();
    for (word, count) in words {
        for letter in word.chars() {
            let sum = counts.entry(letter).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    let blank = counts.remove(&BLANK).map(|_| BLANK);
    let mut letters: Vec<(char, u64)> = counts.into_iter().collect();
    letters.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    letters.truncate(most.unwrap_or(usize::MAX));
    let letters = letters.into_iter().map(|(letter, _)| letter);
    let mut letters: Vec<char> = blank.into_iter().chain(letters).collect();
    letters.sort_unstable();
    letters
}

fn parse(value: &Value) -> Result<tokenizers::Tokenizer, Error> {
    guard(|| tokenizers_from(value)).map_err(Error::Training)
}

fn tokenizers_from(value: &Value) -> Result<tokenizers::Tokenizer, String> {
    // Through text, as every reader of the folder will have it.
    serde_json::from_str(&value.to_string()).map_err(|e| e.to_string())
}
