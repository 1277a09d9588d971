//! Tokenised texts in memory, and batches of them.

use std::ops::Range;
use std::sync::Arc;

use cloze_spec::batch::Batch;
use cloze_spec::objective::{Mixed, Replace};
use cloze_spec::text::{ChunkPool, MaskedToken, SpanLength, Unit};

use super::Encoding;
use super::batch::{Documents, TextBatch, Wanted};
use crate::annotation::Question;
use crate::stream::{Purpose, Stream};

/// Tokenised texts, laid end to end, and what is true of each.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Text `i` is the tokens `offsets[i]..offsets[i + 1]`.
    offsets: Vec<usize>,
    ids: Vec<u32>,
    marks: Vec<u8>,
    /// Which record each text, or window of one, is of.
    records: Vec<u32>,
    /// What the files have, for those who read words rather than tokens: a labelled text, or both of a pair; the words of a
    /// sentence. None of other records.
    pub originals: Vec<Vec<String>>,
    /// What is true.
    pub truth: Truth,
    /// What is made of the vectors of a record's windows, where something is true of records rather than texts.
    pub(super) pool: Option<ChunkPool>,
}

/// What is true of texts.
#[derive(Clone, Debug)]
pub enum Truth {
    /// The tokens themselves, where they are hidden.
    Tokens,
    /// The class of each text.
    Classes(Vec<u32>),
    /// The labels of each text.
    Sets(Sets),
    /// A number for each text.
    Numbers(Vec<f32>),
    /// Labels of words.
    Words(Words),
    /// Where the answer stands.
    Answers(Asked),
}

/// Labels of texts that may have several.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// How many labels there are, `C`.
    pub labels: usize,
    /// Those of each text.
    pub of: Vec<Vec<u32>>,
}

/// Words with labels.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The words of text `i` are `places[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<usize>,
    /// Words, in order.
    pub places: Vec<Word>,
    /// Labels of the words of each record, those that no token stands for among them.
    pub labels: Vec<Vec<u32>>,
}

/// A word that a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its first token, counted from the text's first.
    pub token: u32,
    /// Which word of the record it is.
    pub word: u32,
    /// Its label.
    pub label: u32,
}

/// Questions, and where the answer stands in each window.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// First and last token of the answer, counted from the window's first token; the first token twice if it is not there.
    pub spans: Vec<[u32; 2]>,
    /// The questions, by record.
    pub questions: Vec<Question>,
    /// The windows, to find answers in their text; none of texts to learn from.
    pub windows: Vec<Encoding>,
}

/// Bits of a token's mark.
const SECOND_SEGMENT: u8 = 1;
const SPECIAL: u8 = 2;
const BEGINS_WORD: u8 = 4;

impl Examples {
    /// No texts, of which something like `truth` is to be true.
    pub(super) fn new(truth: Truth) -> Self {
        Self {
            offsets: vec![0],
            ids: Vec::new(),
            marks: Vec::new(),
            records: Vec::new(),
            originals: Vec::new(),
            truth,
            pool: None,
        }
    }

    /// Appends a text of `record`; what is true of it is the caller's to add.
    pub(super) fn push(&mut self, encoding: &Encoding, record: usize) {
        self.ids.extend_from_slice(&encoding.ids);
        for at in 0..encoding.len() {
            let word = encoding.words[at];
            let begins = word.is_none() || at == 0 || encoding.words[at - 1] != word;
            let mut mark = 0;
            if encoding.segments[at] > 0 {
                mark |= SECOND_SEGMENT;
            }
            if encoding.is_special[at] {
                mark |= SPECIAL;
            }
            if begins {
                mark |= BEGINS_WORD;
            }
            self.marks.push(mark);
        }
        self.offsets.push(self.ids.len());
        self.records.push(record as u32);
    }

    /// Number of texts, windows counted by themselves.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Which record a text is of, counted from 0.
    pub fn record(&self, text: usize) -> usize {
        self.records[text] as usize
    }

    /// All tokens that are not special.
    pub fn own_tokens(&self) -> impl Iterator<Item = u32> {
        let own = self.ids.iter().zip(&self.marks);
        own.filter(|&(_, mark)| mark & SPECIAL == 0)
            .map(|(&id, _)| id)
    }

    /// A hash of the tokens, where texts end, and what is true of them.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a (Fowler, Noll and Vo): the same on every machine and in every release.
        let add = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x0100_0000_01b3);
        let ends = self.offsets.iter().map(|&end| end as u64);
        let values = ends.chain(self.ids.iter().map(|&id| u64::from(id)));
        let hash = values.fold(0xcbf2_9ce4_8422_2325, add);
        let numbers: &mut dyn Iterator<Item = u32> = match &self.truth {
            Truth::Tokens => &mut std::iter::empty(),
            Truth::Classes(classes) => &mut classes.iter().copied(),
            Truth::Sets(sets) => &mut sets.of.iter().flat_map(|set| {
                let end = std::iter::once(u32::MAX);
                set.iter().copied().chain(end)
            }),
            Truth::Numbers(numbers) => &mut numbers.iter().map(|number| number.to_bits()),
            Truth::Words(words) => &mut words
                .places
                .iter()
                .flat_map(|word| [word.token, word.label]),
            Truth::Answers(asked) => &mut asked.spans.iter().flatten().copied(),
        };
        numbers.fold(hash, |hash, number| add(hash, u64::from(number)))
    }

    /// Whether two texts are windows of one record whose vectors are made one.
    fn are_together(&self, a: usize, b: usize) -> bool {
        self.pool.is_some() && self.records[a] == self.records[b]
    }

    /// The texts, those together that are windows of one record.
    fn documents(&self) -> Vec<Range<usize>> {
        let mut all: Vec<Range<usize>> = Vec::with_capacity(self.len());
        for text in 0..self.len() {
            match all.last_mut() {
                Some(last) if self.are_together(last.start, text) => last.end = text + 1,
                _ => all.push(text..text + 1),
            }
        }
        all
    }

    fn range(&self, text: usize) -> Range<usize> {
        self.offsets[text]..self.offsets[text + 1]
    }

    /// The batch of `texts`, tokens hidden as `blanks` says where tokens are what is to be predicted.
    fn batch(&self, texts: &[usize], blanks: Option<&Blanks>, epoch: u64) -> TextBatch {
        let mut batch = TextBatch {
            offsets: vec![0],
            ..TextBatch::default()
        };
        for &text in texts {
            let range = self.range(text);
            batch.tokens.extend_from_slice(&self.ids[range.clone()]);
            let marks = self.marks[range].iter();
            batch
                .segments
                .extend(marks.map(|mark| u32::from(mark & SECOND_SEGMENT)));
            batch.offsets.push(batch.tokens.len() as u32);
        }
        let firsts = texts.iter().zip(batch.offsets.clone());
        let documents: Vec<&[usize]> = texts.chunk_by(|a, b| self.are_together(*a, *b)).collect();
        batch.documents = self.pool.map(|pool| {
            let ends = documents.iter().scan(0, |end, windows| {
                *end += windows.len();
                Some(*end)
            });
            Documents {
                offsets: std::iter::once(0).chain(ends).collect(),
                pool,
            }
        });
        // Of windows the record's number says what is true; else it is the text's own.
        let documents: Vec<usize> = documents
            .iter()
            .map(|windows| match self.pool {
                Some(_) => self.record(windows[0]),
                None => windows[0],
            })
            .collect();
        match &self.truth {
            Truth::Tokens => {
                let blanks = blanks.expect("tokens are hidden in some way");
                let (mut rows, mut hidden) = (Vec::new(), Vec::new());
                for (&text, first) in firsts {
                    let places = blanks.places(self, text, epoch);
                    for (place, with) in places {
                        let row = first + place;
                        rows.push(row);
                        hidden.push(batch.tokens[row as usize]);
                        if let Some(with) = with {
                            batch.tokens[row as usize] = with;
                        }
                    }
                }
                batch.rows = Some(rows);
                batch.wanted = Wanted::Tokens(hidden);
            }
            Truth::Classes(classes) => {
                batch.wanted = Wanted::Classes(documents.iter().map(|&of| classes[of]).collect());
            }
            Truth::Numbers(numbers) => {
                batch.wanted = Wanted::Numbers(documents.iter().map(|&of| numbers[of]).collect());
            }
            Truth::Sets(sets) => {
                let mut all = vec![0.0; documents.len() * sets.labels];
                for (row, &of) in documents.iter().enumerate() {
                    for &label in &sets.of[of] {
                        all[row * sets.labels + label as usize] = 1.0;
                    }
                }
                batch.wanted = Wanted::Sets(all);
            }
            Truth::Words(words) => {
                let (mut rows, mut classes) = (Vec::new(), Vec::new());
                for (&text, first) in firsts {
                    for word in words.of(text) {
                        rows.push(first + word.token);
                        classes.push(word.label);
                    }
                }
                batch.rows = Some(rows);
                batch.wanted = Wanted::Classes(classes);
            }
            Truth::Answers(asked) => {
                batch.wanted = Wanted::Spans(texts.iter().map(|&text| asked.spans[text]).collect());
            }
        }
        batch
    }
}

impl Asked {
    /// Whether there are questions without an answer.
    pub fn has_unanswered(&self) -> bool {
        self.questions
            .iter()
            .any(|question| question.answers.is_empty())
    }
}

impl Words {
    /// The words of a text, in order.
    pub fn of(&self, text: usize) -> &[Word] {
        &self.places[self.offsets[text]..self.offsets[text + 1]]
    }
}

/// How tokens are hidden.
#[derive(Clone, Debug)]
pub struct Blanks {
    /// What the recipe says.
    pub settings: MaskedToken,
    /// Id of the token that stands for a hidden one.
    pub mask: u32,
    /// Number of tokens in the vocabulary.
    pub vocab: usize,
    /// Where randomness flows from.
    pub seed: u64,
}

impl Blanks {
    /// Tokens of a text to predict, rising, and what stands there instead; nothing if the token itself stays.
    ///
    /// A text without any token of its own has none.
    fn places(&self, examples: &Examples, text: usize, epoch: u64) -> Vec<(u32, Option<u32>)> {
        let mut stream = Stream::new(self.seed, epoch, Purpose::Mask, text as u64);
        let marks = &examples.marks[examples.range(text)];
        let own = (0..marks.len()).filter(|&at| marks[at] & SPECIAL == 0);
        // Runs of tokens that are hidden together.
        let mut units: Vec<Range<usize>> = Vec::new();
        for at in own.clone() {
            let joins = self.settings.unit != Unit::Token && marks[at] & BEGINS_WORD == 0;
            match units.last_mut() {
                Some(unit) if joins && unit.end == at => unit.end += 1,
                _ => units.push(at..at + 1),
            }
        }
        let own = own.count();
        let wanted = (self.settings.mask_prob * own as f64).round() as usize;
        let wanted = wanted.max(1).min(own);
        let mut places = match self.settings.unit {
            Unit::Token | Unit::Word => {
                let count = units.len();
                stream.draw(&mut units, count);
                filled(units.into_iter(), wanted)
            }
            Unit::Span(length) => spans(&units, length, wanted, &mut stream),
        };
        places.sort_unstable();
        let replaced = |place: usize| {
            let with = match self.settings.replace {
                Replace::Always => Some(self.mask),
                Replace::Mixed(Mixed { mask, random }) => {
                    let chance = stream.unit();
                    if chance < mask {
                        Some(self.mask)
                    } else if chance < mask + random {
                        Some(stream.below(self.vocab as u32))
                    } else {
                        None
                    }
                }
            };
            (place as u32, with)
        };
        places.into_iter().map(replaced).collect()
    }
}

/// The tokens of the first units that together have at most `wanted`; of the first one at least, were it longer.
fn filled(units: impl Iterator<Item = Range<usize>>, wanted: usize) -> Vec<usize> {
    let mut places = Vec::with_capacity(wanted);
    for unit in units {
        if places.is_empty() || places.len() + unit.len() <= wanted {
            places.extend(unit);
        }
        if places.len() >= wanted {
            break;
        }
    }
    places
}

/// The tokens of runs of words, drawn until they are `wanted`.
fn spans(
    words: &[Range<usize>],
    length: SpanLength,
    wanted: usize,
    stream: &mut Stream,
) -> Vec<usize> {
    let mut is_hidden = vec![false; words.len()];
    let mut places = Vec::with_capacity(wanted);
    while places.len() < wanted {
        let count = loop {
            let mut count = 1;
            while count <= length.max_words && stream.unit() >= length.end_prob {
                count += 1;
            }
            if count <= length.max_words {
                break count;
            }
        };
        let start = stream.below(words.len() as u32) as usize;
        for at in start..words.len().min(start + count) {
            if places.len() < wanted && !std::mem::replace(&mut is_hidden[at], true) {
                places.extend(words[at].clone());
            }
        }
    }
    places
}

/// The batches of an epoch: which texts, in which order. The same seed and epoch give the same.
#[derive(Clone, Debug)]
pub struct TextPlan {
    examples: Arc<Examples>,
    blanks: Option<Arc<Blanks>>,
    epoch: u64,
    order: Vec<usize>,
    /// Batch `i` is `order[ends[i]..ends[i + 1]]`.
    ends: Vec<usize>,
}

/// The epoch whose blanks validation has, whatever the run's own epoch is.
const VALIDATION: u64 = u64::MAX;

impl TextPlan {
    /// All texts in an order drawn from `seed` for `epoch`, in batches of the sizes that `limits` allow.
    pub fn shuffled(
        examples: &Arc<Examples>,
        blanks: Option<&Arc<Blanks>>,
        limits: Batch,
        (seed, epoch): (u64, u64),
    ) -> Self {
        let mut order = examples.documents();
        let count = order.len();
        Stream::new(seed, epoch, Purpose::Order, 0).draw(&mut order, count);
        Self::of(examples, blanks, limits, epoch, &order)
    }

    /// All texts as they come, the same tokens hidden each time.
    pub fn in_order(examples: &Arc<Examples>, blanks: Option<&Arc<Blanks>>, limits: Batch) -> Self {
        let order = examples.documents();
        Self::of(examples, blanks, limits, VALIDATION, &order)
    }

    fn of(
        examples: &Arc<Examples>,
        blanks: Option<&Arc<Blanks>>,
        limits: Batch,
        epoch: u64,
        documents: &[Range<usize>],
    ) -> Self {
        let most = limits.max_sequences.unwrap_or(usize::MAX);
        let (mut ends, mut tokens, mut since) = (vec![0], 0, 0);
        let mut order = Vec::with_capacity(examples.len());
        for windows in documents {
            let len = examples.offsets[windows.end] - examples.offsets[windows.start];
            if since > 0 && (since == most || tokens + len > limits.max_tokens) {
                ends.push(order.len());
                (tokens, since) = (0, 0);
            }
            order.extend(windows.clone());
            tokens += len;
            since += 1;
        }
        if !order.is_empty() {
            ends.push(order.len());
        }
        Self {
            examples: Arc::clone(examples),
            blanks: blanks.map(Arc::clone),
            epoch,
            order,
            ends,
        }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The texts of a batch.
    pub fn texts(&self, batch: usize) -> &[usize] {
        &self.order[self.ends[batch]..self.ends[batch + 1]]
    }

    /// Makes a batch.
    pub fn build(&self, batch: usize) -> TextBatch {
        self.examples
            .batch(self.texts(batch), self.blanks.as_deref(), self.epoch)
    }
}
