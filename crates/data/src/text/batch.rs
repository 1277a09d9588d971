//! Tokenised texts as batches to learn from.

use cloze_spec::text::{ChunkPool, Placed};

/// Tokens of several texts, one after the other, and what is to be predicted of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextBatch {
    /// Token ids, `[N]`.
    pub tokens: Vec<u32>,
    /// Segment of each token, `[N]`.
    pub segments: Vec<u32>,
    /// Text `b` is the tokens `offsets[b]..offsets[b + 1]`, `[B + 1]`.
    pub offsets: Vec<u32>,
    /// Tokens at whose place something is to be predicted, rising, `[M]`; none where it is of whole texts, or of all tokens.
    pub rows: Option<Vec<u32>>,
    /// What is to be predicted.
    pub wanted: Wanted,
    /// Whether the segments of each text belong together, 0, or not, 1, where that is to be predicted too, `[B]`.
    pub pairs: Option<Vec<u32>>,
    /// Whether tokens of the same text, itself among them, see each token, `[N]`; all do if none.
    pub keys: Option<Vec<bool>>,
    /// Where several texts are windows of one document, of which something is to be predicted.
    pub documents: Option<Documents>,
    /// The values of `M` columns beside each text, `[B · M]`.
    pub beside: Vec<Placed>,
}

/// Texts that are windows of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// Document `d` is the texts `offsets[d]..offsets[d + 1]`.
    pub offsets: Vec<usize>,
    /// What is made of their vectors.
    pub pool: ChunkPool,
}

/// What is to be predicted, in the order of [`TextBatch::rows`], or of the texts, or documents where there are some.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The token that stood in each row, `[M]`.
    Tokens(Vec<u32>),
    /// The same, by a generator whose tokens are then to be found, `[M]`.
    Replaced(Vec<u32>),
    /// Where each token stands in its text, `[N]`.
    Places(Vec<u32>),
    /// The class of each row or text, `[M]`.
    Classes(Vec<u32>),
    /// 1 for each label that a text has, 0 for the others, `[B, C]`.
    Sets(Vec<f32>),
    /// A number for each text, `[B]`.
    Numbers(Vec<f32>),
    /// The labels of each text, in their order, `[B]`.
    Transcripts(Vec<Vec<u32>>),
    /// First and last token of the answer in each text, counted from the text's first token, `[B]`.
    Spans(Vec<[u32; 2]>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Tokens(Vec::new())
    }
}

impl TextBatch {
    /// Number of texts, `B`.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
