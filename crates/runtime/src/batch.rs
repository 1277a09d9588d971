/// The tokens of several sequences, one after the other.
///
/// # Shapes
/// `tokens: [N]`; `segments: [N]`, or empty where all are 0; `offsets: [B + 1]`, from 0 up to `N`, each greater than the
/// one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Segment of each token.
    pub segments: Vec<u32>,
    /// Sequence `b` is tokens `offsets[b]..offsets[b + 1]`.
    pub offsets: Vec<u32>,
}

impl Batch {
    /// A batch without sequences.
    pub fn new() -> Self {
        Self {
            offsets: vec![0],
            ..Self::default()
        }
    }

    /// Adds a sequence; `segments` is as long, or empty where all are 0.
    ///
    /// # Panics
    /// If the sequence is empty, or `segments` has another length.
    pub fn push(&mut self, tokens: &[u32], segments: &[u32]) {
        assert!(!tokens.is_empty(), "a sequence has at least one token");
        assert!(
            segments.is_empty() || segments.len() == tokens.len(),
            "{} segments for {} tokens",
            segments.len(),
            tokens.len()
        );
        if !segments.is_empty() || !self.segments.is_empty() {
            self.segments.resize(self.tokens.len(), 0);
            self.segments.extend_from_slice(segments);
            self.segments.resize(self.tokens.len() + tokens.len(), 0);
        }
        self.tokens.extend_from_slice(tokens);
        self.offsets.push(self.tokens.len() as u32);
    }

    /// Removes every sequence and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.segments.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Number of sequences, `B`.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of sequence `index`, as places in [`Self::tokens`].
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.offsets[index] as usize..self.offsets[index + 1] as usize
    }
}
