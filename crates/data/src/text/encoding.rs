use std::ops::Range;

use super::window::windows;

/// The tokens of one text or pair, or of one window of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Segment of each token.
    pub segments: Vec<u32>,
    /// Characters of the text that each token covers, first and one past the last: of the first text for tokens in
    /// [`Self::first`], of the second for those in [`Self::second`], and 0, 0 for all others and for the prompt's.
    pub offsets: Vec<(u32, u32)>,
    /// Which word of its text each token belongs to, as the tokenizer splits words; none for special tokens.
    pub words: Vec<Option<u32>>,
    /// Whether the tokenizer put the token there. A special token spelled out in the text is not one of these.
    pub is_special: Vec<bool>,
    /// The tokens of the first text, the prompt's among them.
    pub first: Range<usize>,
    /// The tokens of the second text.
    pub second: Option<Range<usize>>,
    /// How many tokens at the start belong to the prompt and the special ones before it; 0 without a prompt.
    pub prompt: usize,
    /// How many tokens of the text come before [`Self::body`]'s first: those of earlier windows, and what was cut off
    /// the start.
    pub start: usize,
    /// How many tokens of the text, or of both, were left out to make this fit and are in no other window.
    pub cut: usize,
}

/// A part of a long text: some of an encoding's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The tokens, as places in the encoding.
    pub tokens: Range<usize>,
    /// The characters they cover.
    pub chars: Range<u32>,
}

impl Encoding {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The tokens that a window of a long text is about: those of the second text where there is one, else those of the
    /// first without the prompt's.
    pub fn body(&self) -> Range<usize> {
        match &self.second {
            Some(second) => second.clone(),
            None => self.first.start.max(self.prompt).min(self.first.end)..self.first.end,
        }
    }

    /// The characters that [`Self::body`] covers; from 0 to 0 if it is empty.
    pub fn chars(&self) -> Range<u32> {
        self.chars_of(self.body())
    }

    /// Parts of at most `size` tokens of [`Self::body`], each but the first beginning up to `overlap` tokens before the
    /// end of the one before: what to pool together after one pass over a long text.
    ///
    /// Parts begin and end between words where words are no longer than a part.
    ///
    /// # Departures
    /// The paper pools the first special token with the first part and the last with the last; here special tokens and
    /// prompt belong to no part.
    /// # Source
    /// Günther et al., Late Chunking, arXiv:2409.04701, §3.1.
    /// # Panics
    /// If `overlap` is not less than `size`.
    pub fn parts(&self, size: usize, overlap: usize) -> Vec<Part> {
        let body = self.body();
        windows(&self.words[body.clone()], size, overlap, true)
            .into_iter()
            .map(|window| {
                let tokens = body.start + window.start..body.start + window.end;
                Part {
                    chars: self.chars_of(tokens.clone()),
                    tokens,
                }
            })
            .collect()
    }

    fn chars_of(&self, tokens: Range<usize>) -> Range<u32> {
        let offsets = &self.offsets[tokens];
        let start = offsets.iter().map(|offset| offset.0).min();
        let end = offsets.iter().map(|offset| offset.1).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }
}
