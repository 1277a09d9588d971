//! Tokenised texts, and batches of them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use cloze_spec::batch::Batch;
use cloze_spec::objective::{Mixed, Replace};
use cloze_spec::text::{BatchWarmup, ChunkPool, MaskedToken, Placed, SpanLength, Tags, Unit};

use super::Encoding;
use super::batch::{Documents, TextBatch, Wanted};
use super::mixture::Mixture;
pub use super::pair::Pairing;
use super::store::Store;
use crate::annotation::Question;
use crate::stream::{Purpose, Stream};

/// Tokenised texts, laid end to end, and what is true of each.
#[derive(Clone, Debug)]
pub struct Examples {
    tokens: Tokens,
    /// Which record each text, or window of one, is of; not kept of texts in a file.
    pub(super) records: Vec<u32>,
    /// What the files have, for those who read words rather than tokens: a labelled text, or both of a pair; the words of a
    /// sentence. None of other records.
    pub originals: Vec<Vec<String>>,
    /// What is true.
    pub truth: Truth,
    /// The values of columns beside each text; none where there are no columns.
    pub(super) beside: Vec<Vec<Placed>>,
    /// What is made of the vectors of a record's windows, where something is true of records rather than texts.
    pub(super) pool: Option<ChunkPool>,
}

/// Tokens of texts, as [`pack`] has them.
#[derive(Clone, Debug)]
enum Tokens {
    /// In memory: text `i` is the tokens `offsets[i]..offsets[i + 1]`.
    Held { offsets: Vec<usize>, all: Vec<u32> },
    /// In a file.
    Stored(Arc<Store>),
}

/// What is true of texts.
#[derive(Clone, Debug)]
pub enum Truth {
    /// The tokens themselves, where they are hidden.
    Tokens,
    /// The same; texts are lines of documents, of which each epoch makes pairs.
    Lines(Pairing),
    /// The same, and whether the segments of each text belong together, 0, or not, 1.
    Pairs(Vec<u32>),
    /// Where each token stands.
    Places(Context),
    /// The class of each text.
    Classes(Vec<u32>),
    /// The labels of each text.
    Sets(Sets),
    /// A number for each text.
    Numbers(Vec<f32>),
    /// Labels of words.
    Words(Words),
    /// The labels of each text, in their order.
    Transcripts(Vec<Vec<u32>>),
    /// Where the answer stands.
    Answers(Asked),
}

/// Which tokens are seen where each is to say where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Share of a text's tokens that none sees.
    pub hidden_share: f64,
    /// Where randomness flows from.
    pub seed: u64,
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
    /// What the labels say.
    pub tags: Option<Tags>,
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

/// Bits of a token beside its id.
pub(super) const SECOND_SEGMENT: u32 = 1 << 29;
pub(super) const SPECIAL: u32 = 1 << 30;
pub(super) const BEGINS_WORD: u32 = 1 << 31;
const ID: u32 = SECOND_SEGMENT - 1;

/// The tokens of a text: their ids, and what is to be known of each in the top bits.
pub(super) fn pack(encoding: &Encoding) -> impl Iterator<Item = u32> {
    (0..encoding.len()).map(move |at| {
        let word = encoding.words[at];
        let begins = word.is_none() || at == 0 || encoding.words[at - 1] != word;
        let mut token = encoding.ids[at];
        debug_assert!(token <= ID, "a vocabulary has fewer tokens");
        if encoding.segments[at] > 0 {
            token |= SECOND_SEGMENT;
        }
        if encoding.is_special[at] {
            token |= SPECIAL;
        }
        if begins {
            token |= BEGINS_WORD;
        }
        token
    })
}

impl Examples {
    /// No texts, of which something like `truth` is to be true.
    pub(super) fn new(truth: Truth) -> Self {
        Self {
            tokens: Tokens::Held {
                offsets: vec![0],
                all: Vec::new(),
            },
            records: Vec::new(),
            originals: Vec::new(),
            truth,
            beside: Vec::new(),
            pool: None,
        }
    }

    /// Texts in a file, whose tokens are to be hidden.
    pub(super) fn stored(store: Store) -> Self {
        Self {
            tokens: Tokens::Stored(Arc::new(store)),
            ..Self::new(Truth::Tokens)
        }
    }

    /// Appends a text of `record`; what is true of it is the caller's to add.
    ///
    /// # Panics
    /// If texts are in a file.
    pub(super) fn push(&mut self, encoding: &Encoding, record: usize) {
        self.push_tokens(pack(encoding), record);
    }

    /// The same, of tokens as [`pack`] has them.
    pub(super) fn push_tokens(&mut self, tokens: impl Iterator<Item = u32>, record: usize) {
        let Tokens::Held { offsets, all } = &mut self.tokens else {
            unreachable!("texts are appended in memory");
        };
        all.extend(tokens);
        offsets.push(all.len());
        self.records.push(record as u32);
    }

    /// Number of texts, windows counted by themselves.
    pub fn len(&self) -> usize {
        match &self.tokens {
            Tokens::Held { offsets, .. } => offsets.len() - 1,
            Tokens::Stored(store) => store.lens().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        match &self.tokens {
            Tokens::Held { all, .. } => all.len(),
            Tokens::Stored(store) => store.tokens(),
        }
    }

    /// Where texts begin and end, and all tokens, as [`pack`] has them.
    ///
    /// # Panics
    /// If texts are in a file.
    pub(super) fn held(&self) -> (&[usize], &[u32]) {
        match &self.tokens {
            Tokens::Held { offsets, all } => (offsets, all),
            Tokens::Stored(_) => unreachable!("pairs are made of lines in memory"),
        }
    }

    /// The tokens of a text, as [`pack`] has them.
    fn text(&self, text: usize) -> Cow<'_, [u32]> {
        match &self.tokens {
            Tokens::Held { offsets, all } => all[offsets[text]..offsets[text + 1]].into(),
            Tokens::Stored(store) => store.text(text).into(),
        }
    }

    fn text_len(&self, text: usize) -> usize {
        match &self.tokens {
            Tokens::Held { offsets, .. } => offsets[text + 1] - offsets[text],
            Tokens::Stored(store) => usize::from(store.lens()[text]),
        }
    }

    /// All tokens, text by text.
    fn all_tokens(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).flat_map(move |text| self.text(text).into_owned())
    }

    /// Which record a text is of, counted from 0.
    pub fn record(&self, text: usize) -> usize {
        self.records[text] as usize
    }

    /// All tokens that are not special.
    pub fn own_tokens(&self) -> impl Iterator<Item = u32> {
        let own = self.all_tokens().filter(|token| token & SPECIAL == 0);
        own.map(|token| token & ID)
    }

    /// The same, with where each stands among them in its text.
    pub fn own_places(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.len()).flat_map(|text| {
            let own = self.text(text).into_owned().into_iter();
            own.filter(|token| token & SPECIAL == 0)
                .map(|token| token & ID)
                .zip(0..)
        })
    }

    /// A hash of the tokens, where texts end, and what is true of them.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a (Fowler, Noll and Vo): the same on every machine and in every release.
        let add = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x0100_0000_01b3);
        let ends = (0..self.len()).scan(0, |end, text| {
            *end += self.text_len(text) as u64;
            Some(*end)
        });
        let ids = self.all_tokens().map(|token| u64::from(token & ID));
        let values = std::iter::once(0).chain(ends).chain(ids);
        let hash = values.fold(0xcbf2_9ce4_8422_2325, add);
        let numbers: &mut dyn Iterator<Item = u32> = match &self.truth {
            Truth::Tokens | Truth::Places(_) => &mut std::iter::empty(),
            // Where documents end.
            Truth::Lines(_) => &mut self.records.iter().copied(),
            Truth::Pairs(classes) | Truth::Classes(classes) => &mut classes.iter().copied(),
            Truth::Sets(Sets { of, .. }) | Truth::Transcripts(of) => {
                &mut of.iter().flat_map(|of| {
                    let end = std::iter::once(u32::MAX);
                    of.iter().copied().chain(end)
                })
            }
            Truth::Numbers(numbers) => &mut numbers.iter().map(|number| number.to_bits()),
            Truth::Words(words) => &mut words
                .places
                .iter()
                .flat_map(|word| [word.token, word.label]),
            Truth::Answers(asked) => &mut asked.spans.iter().flatten().copied(),
        };
        let hash = numbers.fold(hash, |hash, number| add(hash, u64::from(number)));
        let beside = self.beside.iter().flatten();
        beside.fold(hash, |hash, &(row, by)| {
            add(add(hash, u64::from(row)), u64::from(by.to_bits()))
        })
    }

    /// The texts of records, where those come in order.
    pub(super) fn texts(&self, records: Range<usize>) -> Range<usize> {
        let text = |record| self.records.partition_point(|&of| (of as usize) < record);
        text(records.start)..text(records.end)
    }

    /// Whether two texts are windows of one record whose vectors are made one.
    fn are_together(&self, a: usize, b: usize) -> bool {
        self.pool.is_some() && self.records[a] == self.records[b]
    }

    /// The texts that are windows of one record each, where their vectors are made one; else each text stands for itself.
    fn documents(&self) -> Option<Vec<Range<usize>>> {
        self.pool?;
        let mut all: Vec<Range<usize>> = Vec::new();
        for text in 0..self.len() {
            match all.last_mut() {
                Some(last) if self.are_together(last.start, text) => last.end = text + 1,
                _ => all.push(text..text + 1),
            }
        }
        Some(all)
    }

    /// The texts of an epoch.
    fn of_epoch(self: &Arc<Self>, epoch: u64) -> Arc<Self> {
        match &self.truth {
            Truth::Lines(pairing) => Arc::new(pairing.draw(self, epoch)),
            _ => Arc::clone(self),
        }
    }

    /// The batch of texts, each once for every time that it is taken; tokens hidden as `blanks` says where tokens are what
    /// is to be predicted.
    fn batch(&self, taken: &[usize], blanks: Option<&Blanks>, epoch: u64) -> TextBatch {
        let texts: Vec<usize> = taken.iter().map(|taken| taken % self.len()).collect();
        let mut batch = TextBatch {
            offsets: vec![0],
            ..TextBatch::default()
        };
        let tokens: Vec<_> = texts.iter().map(|&text| self.text(text)).collect();
        for tokens in &tokens {
            batch.tokens.extend(tokens.iter().map(|token| token & ID));
            let segments = tokens.iter().map(|token| token & SECOND_SEGMENT);
            batch
                .segments
                .extend(segments.map(|bit| u32::from(bit > 0)));
            batch.offsets.push(batch.tokens.len() as u32);
        }
        let beside = texts.iter().filter_map(|&text| self.beside.get(text));
        batch.beside = beside.flatten().copied().collect();
        let firsts = taken.iter().zip(batch.offsets.clone());
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
            Truth::Lines(_) => unreachable!("an epoch has pairs of lines"),
            Truth::Tokens | Truth::Pairs(_) => {
                let blanks = blanks.expect("tokens are hidden in some way");
                let (mut rows, mut hidden) = (Vec::new(), Vec::new());
                for ((&taken, first), tokens) in firsts.zip(&tokens) {
                    let places = blanks.places(tokens, taken, epoch);
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
                batch.wanted = if blanks.replaced {
                    Wanted::Replaced(hidden)
                } else {
                    Wanted::Tokens(hidden)
                };
                if let Truth::Pairs(classes) = &self.truth {
                    batch.pairs = Some(texts.iter().map(|&text| classes[text]).collect());
                }
            }
            Truth::Places(context) => return self.unplaced(taken, *context, epoch),
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
                for (&taken, first) in firsts {
                    for word in words.of(taken % self.len()) {
                        rows.push(first + word.token);
                        classes.push(word.label);
                    }
                }
                batch.rows = Some(rows);
                batch.wanted = Wanted::Classes(classes);
            }
            Truth::Transcripts(of) => {
                let of = documents.iter().map(|&text| of[text].clone());
                batch.wanted = Wanted::Transcripts(of.collect());
            }
            Truth::Answers(asked) => {
                batch.wanted = Wanted::Spans(texts.iter().map(|&text| asked.spans[text]).collect());
            }
        }
        batch
    }
}

impl Examples {
    /// The batch of texts, each once for every time that it is taken, without special tokens, each token to say where it stands.
    fn unplaced(&self, taken: &[usize], context: Context, epoch: u64) -> TextBatch {
        let mut batch = TextBatch {
            offsets: vec![0],
            ..TextBatch::default()
        };
        let mut places = Vec::new();
        let mut keys = Vec::new();
        for &taken in taken {
            let first = batch.tokens.len();
            for &token in self.text(taken % self.len()).iter() {
                if token & SPECIAL == 0 {
                    batch.tokens.push(token & ID);
                    batch.segments.push(u32::from(token & SECOND_SEGMENT > 0));
                }
            }
            let count = batch.tokens.len() - first;
            batch.offsets.push(batch.tokens.len() as u32);
            places.extend(0..count as u32);
            let hidden = (context.hidden_share * count as f64).round() as usize;
            let hidden = hidden.min(count.saturating_sub(1));
            let mut own: Vec<bool> = (0..count).map(|at| at >= hidden).collect();
            let mut stream = Stream::new(context.seed, epoch, Purpose::Context, taken as u64);
            stream.draw(&mut own, count);
            keys.extend(own);
        }
        batch.keys = keys.contains(&false).then_some(keys);
        batch.wanted = Wanted::Places(places);
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
    /// Whether a generator fills them, and its tokens are to be found.
    pub replaced: bool,
    /// Where randomness flows from.
    pub seed: u64,
}

impl Blanks {
    /// Tokens of a text to predict, rising, and what stands there instead; nothing if the token itself stays.
    ///
    /// A text without any token of its own has none. Each time that it is taken in an epoch, they are others.
    fn places(&self, tokens: &[u32], taken: usize, epoch: u64) -> Vec<(u32, Option<u32>)> {
        let mut stream = Stream::new(self.seed, epoch, Purpose::Mask, taken as u64);
        let own = (0..tokens.len()).filter(|&at| tokens[at] & SPECIAL == 0);
        // Runs of tokens that are hidden together.
        let mut units: Vec<Range<usize>> = Vec::new();
        for at in own.clone() {
            let joins = self.settings.unit != Unit::Token && tokens[at] & BEGINS_WORD == 0;
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
    /// Texts; plus their number, for each time that one was taken before.
    order: Vec<usize>,
    /// Batch `i` is `order[ends[i]..ends[i + 1]]`.
    ends: Vec<usize>,
}

/// Batches that grow as a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// How.
    pub warmup: BatchWarmup,
    /// Epochs of the run.
    pub epochs: u64,
}

/// The epoch whose blanks validation has, whatever the run's own epoch is.
const VALIDATION: u64 = u64::MAX;

impl TextPlan {
    /// All texts, or those of a `mixture`, in an order drawn from `seed` for `epoch`, in batches of the sizes that `limits` and
    /// `growth` allow.
    pub fn shuffled(
        examples: &Arc<Examples>,
        blanks: Option<&Arc<Blanks>>,
        mixture: Option<&Mixture>,
        limits: Batch,
        growth: Option<Growth>,
        (seed, epoch): (u64, u64),
    ) -> Self {
        let examples = examples.of_epoch(epoch);
        let documents = examples.documents();
        let mut order = match mixture {
            Some(mixture) => mixture.draws(examples.len(), (seed, epoch)),
            None => (0..documents.as_ref().map_or(examples.len(), Vec::len)).collect(),
        };
        let count = order.len();
        Stream::new(seed, epoch, Purpose::Order, 0).draw(&mut order, count);
        Self::of(
            examples,
            blanks,
            (limits, growth),
            epoch,
            (order, documents),
        )
    }

    /// All texts as they come, the same tokens hidden each time.
    pub fn in_order(examples: &Arc<Examples>, blanks: Option<&Arc<Blanks>>, limits: Batch) -> Self {
        let examples = examples.of_epoch(VALIDATION);
        let documents = examples.documents();
        let order = (0..documents.as_ref().map_or(examples.len(), Vec::len)).collect();
        Self::of(
            examples,
            blanks,
            (limits, None),
            VALIDATION,
            (order, documents),
        )
    }

    /// `order` is of `documents`, or of texts where there are none.
    fn of(
        examples: Arc<Examples>,
        blanks: Option<&Arc<Blanks>>,
        (limits, growth): (Batch, Option<Growth>),
        epoch: u64,
        (mut order, documents): (Vec<usize>, Option<Vec<Range<usize>>>),
    ) -> Self {
        let most = limits.max_sequences.unwrap_or(usize::MAX);
        let max_tokens = |done: usize| match growth {
            Some(Growth { warmup, epochs }) => {
                let of_epoch = done as f64 / examples.tokens() as f64;
                let of_run = (epoch as f64 + of_epoch) / epochs as f64;
                warmup.max_tokens(of_run, limits.max_tokens)
            }
            None => limits.max_tokens,
        };
        let (mut ends, mut tokens, mut since) = (vec![0], 0, 0);
        let (mut done, mut limit) = (0, max_tokens(0));
        let windows = |at: usize| match &documents {
            Some(documents) => documents[at].clone(),
            None => at..at + 1,
        };
        let mut texts = 0;
        for &at in &order {
            let lens = windows(at).map(|taken| examples.text_len(taken % examples.len()));
            let len: usize = lens.sum();
            if since > 0 && (since == most || tokens + len > limit) {
                ends.push(texts);
                done += tokens;
                (tokens, since, limit) = (0, 0, max_tokens(done));
            }
            texts += windows(at).len();
            tokens += len;
            since += 1;
        }
        if documents.is_some() {
            order = order.into_iter().flat_map(windows).collect();
        }
        if !order.is_empty() {
            ends.push(order.len());
        }
        Self {
            examples,
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

    /// All texts of the epoch.
    pub fn examples(&self) -> &Arc<Examples> {
        &self.examples
    }

    /// The texts of a batch, where each is taken once.
    pub fn texts(&self, batch: usize) -> &[usize] {
        &self.order[self.ends[batch]..self.ends[batch + 1]]
    }

    /// Makes a batch.
    pub fn build(&self, batch: usize) -> TextBatch {
        self.examples
            .batch(self.texts(batch), self.blanks.as_deref(), self.epoch)
    }
}
