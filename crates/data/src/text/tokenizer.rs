use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use cloze_spec::text::Chunked;
use rayon::prelude::*;
use tokenizers::ModelWrapper;

use super::Encoding;
use super::SECTION;
use super::folder::{self, Settings};
use super::frame::{Frame, Pieces};
use super::prepare::prepare;
use super::window::windows;
use crate::Error;

/// Turns texts into the tokens that a pretrained encoder was trained on.
///
/// # Departures
/// What a `tokenizer.json` says of padding and truncation is ignored: texts are never padded, and [`Limit`] says what
/// happens to long ones. Of the family of BERT, `tokenizer_config.json` overrules what `tokenizer.json` says of case,
/// accents and Chinese characters, but only where it names them. The random dropping of merges in byte-pair encoding,
/// meant for training, is switched off.
/// # Source
/// The `tokenizers` package; `transformers` for folders without a `tokenizer.json`.
#[derive(Clone)]
pub struct Tokenizer {
    /// Shared by copies, of which each has its own settings.
    inner: Arc<tokenizers::Tokenizer>,
    single: Frame,
    /// Two texts, or why that cannot be.
    pair: Result<Frame, String>,
    settings: Settings,
    lowercase: bool,
    strip: bool,
}

/// What is put before texts, prepared by [`Tokenizer::prompt`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    tokens: usize,
}

impl Prompt {
    /// Its length in tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// A text, or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input<'a> {
    /// What goes before the first text.
    pub prompt: Option<&'a Prompt>,
    /// The first text: the only one, the question, the premise.
    pub first: &'a str,
    /// The second text: the context, the hypothesis. An empty one is still a second text, as for `tokenizers`;
    /// `transformers` takes it for none.
    pub second: Option<&'a str>,
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(first: &'a str) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }
}

impl<'a> From<(&'a str, &'a str)> for Input<'a> {
    fn from((first, second): (&'a str, &'a str)) -> Self {
        Self {
            first,
            second: Some(second),
            prompt: None,
        }
    }
}

/// How many tokens fit, and what happens to what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Most tokens of an encoding, special ones included.
    pub max_len: usize,
    /// What happens to longer ones.
    pub long: Long,
}

/// What happens to texts that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// Tokens are left out, and [`Encoding::cut`] says how many: at the end, or where the folder says.
    Truncate(Shorten),
    /// The same at the start, whatever the folder says.
    TruncateStart(Shorten),
    /// They are an error.
    Error,
    /// They become several windows. Of a pair the second text does, and the first stands in every window; a prompt stands
    /// in every window too.
    Chunk {
        /// How many tokens a window shares with the one before; fewer where `whole_words` moves its start.
        overlap: usize,
        /// Whether windows begin and end between words, save in words longer than a window.
        whole_words: bool,
    },
}

/// Which text of a pair loses tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shorten {
    /// The longer one, until both are equally long; then both.
    #[default]
    LongestFirst,
    /// The first.
    OnlyFirst,
    /// The second.
    OnlySecond,
}

impl Tokenizer {
    /// The tokenizer of a model folder: of its `tokenizer.json`; or, without one, of its `vocab.txt` (word pieces) or its
    /// `vocab.json` and `merges.txt` (byte-pair encoding), with the special tokens and settings of `tokenizer_config.json`,
    /// `special_tokens_map.json` and `added_tokens.json`.
    ///
    /// # Errors
    /// If no such file is there, or one is damaged, or they describe a tokenizer that this is not.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let read = folder::read(folder)?;
        let fault = |message: String| Error::Tokenizer {
            path: read.path.clone(),
            message,
        };
        // The crate trusts what it reads in places, and panics where that is wrong.
        let made = guard(|| {
            let mut inner = read.parse()?;
            inner.with_padding(None);
            inner.with_truncation(None).map_err(|e| e.to_string())?;
            folder::check_growth(&inner)?;
            folder::without_dropout(&mut inner);
            let single = Frame::learn(|a, b| inner.post_process(a, b, true), false)?;
            let pair = Frame::learn(|a, b| inner.post_process(a, b, true), true);
            Ok((inner, single, pair))
        });
        let (inner, single, pair) = made.map_err(fault)?;
        Ok(Self {
            inner: Arc::new(inner),
            single,
            pair,
            settings: read.settings,
            lowercase: false,
            strip: false,
        })
    }

    /// The same, lower-casing texts before anything else, whatever the folder says.
    #[must_use]
    pub fn with_lowercase(mut self, lowercase: bool) -> Self {
        self.lowercase = lowercase;
        self
    }

    /// The same, taking white space off both ends of texts first, as sentence-transformers does; of a pair, of both.
    #[must_use]
    pub fn with_strip(mut self, strip: bool) -> Self {
        self.strip = strip;
        self
    }

    /// Longest input in tokens, special ones included, that the folder names.
    pub fn max_len(&self) -> Option<usize> {
        self.settings.max_len
    }

    /// How words are cut into tokens, by the name of the method.
    pub fn kind(&self) -> &'static str {
        match self.inner.get_model() {
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::BPE(_) => "byte-pair encoding",
            ModelWrapper::WordLevel(_) => "whole words",
            ModelWrapper::Unigram(_) => "Unigram",
        }
    }

    /// Number of tokens known.
    pub fn vocabulary_len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of `token`, as it is spelled in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of token `id`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that stands for a hidden one.
    pub fn mask(&self) -> Option<u32> {
        self.role("mask_token", ["[MASK]", "<mask>"])
    }

    /// The token that fills batches, which nothing here does.
    pub fn pad(&self) -> Option<u32> {
        self.role("pad_token", ["[PAD]", "<pad>"])
    }

    /// The token that stands for what the vocabulary cannot spell.
    pub fn unknown(&self) -> Option<u32> {
        self.role("unk_token", ["[UNK]", "<unk>"])
    }

    /// What tokens that continue a word are spelled with, if it is not empty.
    pub(super) fn continuing_prefix(&self) -> Option<&str> {
        let prefix = match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => Some(&*model.continuing_subword_prefix),
            ModelWrapper::BPE(model) => model.get_continuing_subword_prefix().as_deref(),
            ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => None,
        };
        prefix.filter(|prefix| !prefix.is_empty())
    }

    /// How token `id` is written within a text: its characters without a blank around them, and whether it begins a word.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn written(&self, id: u32) -> Result<(String, bool), Error> {
        let spelled = self.token(id).unwrap_or_default();
        if let Some(prefix) = self.continuing_prefix()
            && let Some(rest) = spelled.strip_prefix(prefix)
        {
            return Ok((rest.to_owned(), false));
        }
        // A blank, as byte-pair encoding and sentence pieces spell it; other tokenizers see words, not blanks.
        let mut marks = ["Ġ", "▁"].into_iter();
        let mark = marks.find(|mark| self.id(mark).is_some());
        let begins = mark.is_none_or(|mark| spelled.starts_with(mark));
        Ok((self.decode(&[id], false)?.trim().to_owned(), begins))
    }

    /// The one token that `word` is: after a blank, without one, or spelled as in the vocabulary, whichever is one token
    /// first; none if it is several or unknown.
    ///
    /// # Errors
    /// If the tokenizer cannot take it.
    pub fn single(&self, word: &str) -> Result<Option<u32>, Error> {
        for text in [&format!(" {word}"), word] {
            if let [id] = self.pieces(None, text)?.ids[..]
                && self.unknown() != Some(id)
            {
                return Ok(Some(id));
            }
        }
        Ok(self.id(word))
    }

    /// The text that `ids` stand for, without special tokens if `plain`.
    ///
    /// # Errors
    /// If the tokenizer cannot put them together.
    pub fn decode(&self, ids: &[u32], plain: bool) -> Result<String, Error> {
        guard(|| self.inner.decode(ids, plain).map_err(|e| e.to_string())).map_err(Error::Text)
    }

    /// How many special tokens stand around a text, or around a pair.
    ///
    /// # Errors
    /// If the tokenizer takes no pairs.
    pub fn specials(&self, pair: bool) -> Result<usize, Error> {
        Ok(self.frame(pair)?.len())
    }

    /// Prepares what is to go before texts.
    ///
    /// Its length in tokens is that of the prompt alone without white space around it, as sentence-transformers has it;
    /// where the end of a prompt and the start of a text merge into one token the two differ.
    ///
    /// # Errors
    /// If it cannot be turned into tokens.
    pub fn prompt(&self, text: &str) -> Result<Prompt, Error> {
        Ok(Prompt {
            tokens: self.pieces(None, text)?.ids.len(),
            text: text.to_owned(),
        })
    }

    /// The tokens of a text in windows, as `how` says, each [`SECTION`] by itself; what is in none of them is counted as cut, at
    /// the last one.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn chunks(&self, text: &str, how: Chunked) -> Result<Vec<Encoding>, Error> {
        let long = Long::Chunk {
            overlap: how.chunks.overlap,
            whole_words: true,
        };
        let max_len = how.max_len;
        let end = |windows: &[Encoding]| {
            let last = windows.last();
            last.map_or(0, |window| window.start + window.body().len())
        };
        let (mut all, mut cut) = (Vec::new(), 0);
        for section in text.split(SECTION) {
            if section.trim().is_empty() && section.len() < text.len() {
                continue;
            }
            let mut windows = self.encode(section.into(), Limit { max_len, long })?;
            let whole = end(&windows);
            windows.truncate(how.chunks.most - all.len());
            cut += whole - end(&windows);
            all.extend(windows);
        }
        if all.is_empty() {
            all = self.encode("".into(), Limit { max_len, long })?;
        }
        if let Some(last) = all.last_mut() {
            last.cut = cut;
        }
        Ok(all)
    }

    /// As [`Self::encode`], but windows overlap by three quarters of their own tokens at most, whatever was asked.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn windows(&self, input: Input<'_>, limit: Limit) -> Result<Vec<Encoding>, Error> {
        self.fitted(input, limit, |overlap, size| {
            overlap.min(size - size.div_ceil(4))
        })
    }

    /// The tokens of `input`: one encoding, or with [`Long::Chunk`] as many as it takes.
    ///
    /// # Errors
    /// If the input is too long and may not be cut, if no room is left where it may, or if the tokenizer cannot take it.
    pub fn encode(&self, input: Input<'_>, limit: Limit) -> Result<Vec<Encoding>, Error> {
        self.fitted(input, limit, |overlap, _| overlap)
    }

    /// [`Self::encode`], windows overlapping by what `overlaps` makes of the tokens asked for and those that a window has room for.
    fn fitted(
        &self,
        input: Input<'_>,
        limit: Limit,
        overlaps: fn(usize, usize) -> usize,
    ) -> Result<Vec<Encoding>, Error> {
        let first = self.pieces(input.prompt, input.first)?;
        let second = input
            .second
            .map(|text| self.pieces(None, text))
            .transpose()?;
        let frame = self.frame(second.is_some())?;
        let lens =
            [&Some(&first), &second.as_ref()].map(|text| text.map_or(0, |text| text.ids.len()));
        let tokens = frame.len() + lens[0] + lens[1];
        let whole = [0..lens[0], 0..lens[1]];
        if tokens <= limit.max_len {
            return Ok(vec![join(frame, &first, second.as_ref(), whole, 0)]);
        }
        let Some(room) = limit.max_len.checked_sub(frame.len()) else {
            return Err(Error::Text(format!(
                "{} special tokens stand around it, expected at least as many to fit, found {}",
                frame.len(),
                limit.max_len
            )));
        };
        match limit.long {
            Long::Error => Err(Error::TooLong {
                tokens,
                max_len: limit.max_len,
            }),
            Long::Truncate(shorten) | Long::TruncateStart(shorten) => {
                let cuts_left =
                    self.settings.cuts_left || matches!(limit.long, Long::TruncateStart(_));
                let kept = shortened(lens, second.is_some(), room, shorten)?;
                let ranges = [0, 1].map(|text| {
                    if cuts_left {
                        lens[text] - kept[text]..lens[text]
                    } else {
                        0..kept[text]
                    }
                });
                let cut = lens[0] + lens[1] - kept[0] - kept[1];
                let start = match &second {
                    Some(_) => ranges[1].start,
                    None => ranges[0].start.saturating_sub(first.prompt),
                };
                let joined = join(frame, &first, second.as_ref(), ranges, cut);
                Ok(vec![Encoding { start, ..joined }])
            }
            Long::Chunk {
                overlap,
                whole_words,
            } => {
                let (long, repeated) = match &second {
                    Some(second) => (&second.words[..], lens[0]),
                    None => (&first.words[first.prompt..], first.prompt),
                };
                let size = room.saturating_sub(repeated);
                let overlap = overlaps(overlap, size);
                if size <= overlap {
                    return Err(Error::Text(format!(
                        "{} special tokens and {repeated} of the {} leave {size} of {} for a window, expected more than \
                         the overlap, {overlap}",
                        frame.len(),
                        if second.is_some() {
                            "first text"
                        } else {
                            "prompt"
                        },
                        limit.max_len
                    )));
                }
                let windows = windows(long, size, overlap, whole_words).into_iter();
                Ok(windows
                    .map(|window| {
                        let start = window.start;
                        let joined = if let Some(second) = &second {
                            join(frame, &first, Some(second), [0..lens[0], window], 0)
                        } else {
                            let prompt = first.prompt;
                            let text = prompt + window.start..prompt + window.end;
                            frame.around((&first, [0..prompt, text]), None, 0)
                        };
                        Encoding { start, ..joined }
                    })
                    .collect())
            }
        }
    }

    /// The tokens of a text of any length.
    ///
    /// # Errors
    /// If the tokenizer cannot take it.
    pub fn encode_whole(&self, text: &str) -> Result<Encoding, Error> {
        let pieces = self.pieces(None, text)?;
        let all = 0..pieces.ids.len();
        Ok(join(&self.single, &pieces, None, [all, 0..0], 0))
    }

    /// [`Self::encode`] of each of `inputs`, in order, on the threads of the current pool of rayon.
    pub fn encode_all(
        &self,
        inputs: &[Input<'_>],
        limit: Limit,
    ) -> Vec<Result<Vec<Encoding>, Error>> {
        let encode = |&input: &Input<'_>| self.encode(input, limit);
        inputs.par_iter().map(encode).collect()
    }

    /// The encoding of a text that is tokens already, from another tokenizer with the same ids: with special tokens around
    /// it, without offsets, each token a word.
    ///
    /// # Errors
    /// If there are more tokens than fit.
    pub fn encode_ids(&self, ids: &[u32], max_len: usize) -> Result<Encoding, Error> {
        let tokens = ids.len() + self.single.len();
        if tokens > max_len {
            return Err(Error::TooLong { tokens, max_len });
        }
        let pieces = Pieces {
            ids: ids.to_vec(),
            offsets: vec![(0, 0); ids.len()],
            words: (0..ids.len() as u32).map(Some).collect(),
            prompt: 0,
        };
        let range = 0..ids.len();
        Ok(join(&self.single, &pieces, None, [range, 0..0], 0))
    }

    /// The id of the token that the folder names for `role`, or the first usual spelling that the vocabulary has.
    fn role(&self, role: &str, usual: [&str; 2]) -> Option<u32> {
        let named = self.settings.special(role);
        named
            .into_iter()
            .chain(usual)
            .find_map(|token| self.id(token))
    }

    pub(super) fn frame(&self, pair: bool) -> Result<&Frame, Error> {
        if pair {
            let refused =
                |why: &String| Error::Text(format!("this tokenizer takes no pairs: {why}"));
            self.pair.as_ref().map_err(refused)
        } else {
            Ok(&self.single)
        }
    }

    fn pieces(&self, prompt: Option<&Prompt>, text: &str) -> Result<Pieces, Error> {
        let before = prompt.map_or("", |prompt| &prompt.text);
        let prepared = prepare(before, text, self.strip, self.lowercase);
        let encode = || {
            let encoding = self.inner.encode_char_offsets(&*prepared.text, false);
            encoding.map_err(|e| e.to_string())
        };
        let encoding = guard(encode).map_err(Error::Text)?;
        let offsets = encoding.get_offsets().iter();
        Ok(Pieces {
            ids: encoding.get_ids().to_vec(),
            offsets: offsets.map(|&span| prepared.original(span)).collect(),
            words: encoding.get_word_ids().to_vec(),
            prompt: prompt.map_or(0, |prompt| prompt.tokens.min(encoding.len())),
        })
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("settings", &self.settings)
            .field("single", &self.single)
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

fn join(
    frame: &Frame,
    first: &Pieces,
    second: Option<&Pieces>,
    [of_first, of_second]: [Range<usize>; 2],
    cut: usize,
) -> Encoding {
    let second = second.map(|second| (second, of_second));
    frame.around((first, [0..0, of_first]), second, cut)
}

/// How many tokens are kept of texts of `lens` tokens that together exceed `room`.
fn shortened(
    lens: [usize; 2],
    pair: bool,
    room: usize,
    shorten: Shorten,
) -> Result<[usize; 2], Error> {
    let target = match shorten {
        _ if !pair => return Ok([room, 0]),
        Shorten::LongestFirst => {
            let (shorter, longer) = (room / 2, room - room / 2);
            return Ok(if lens[0] <= lens[1] {
                let first = lens[0].min(shorter);
                [first, room - first]
            } else {
                let second = lens[1].min(shorter);
                [(room - second).max(longer), second]
            });
        }
        Shorten::OnlyFirst => 0,
        Shorten::OnlySecond => 1,
    };
    let other = lens[1 - target];
    if other >= room {
        return Err(Error::Text(format!(
            "the {} text has {other} tokens and may not be cut, {room} fit with the other; shorten it",
            if target == 0 { "second" } else { "first" }
        )));
    }
    let mut kept = lens;
    kept[target] = room - other;
    Ok(kept)
}

/// Turns a panic of the crate into an error.
pub(super) fn guard<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(gave_up(&*panic)))
}

fn gave_up(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "the tokenizer gave up: {}",
        text.unwrap_or("for no stated reason")
    )
}
