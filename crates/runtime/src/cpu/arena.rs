use std::ops::Range;

use crate::Batch;

/// Memory of one run: a slice of a batch, and what lies between operations. It grows to the largest slice and stays.
#[derive(Default)]
pub(super) struct Arena {
    /// Tokens, segments (empty where all are 0) and offsets, from 0, of the slice.
    pub tokens: Vec<u32>,
    pub segments: Vec<u32>,
    pub offsets: Vec<u32>,
    /// Tokens whose vectors are wanted of the last layer, ascending; all if `None`.
    pub selected: Option<Vec<u32>>,
    /// `[N, D]`, between layers.
    pub x: Vec<f32>,
    /// `[N, D]`, a layer's input where its output does not follow from it in place.
    pub input: Vec<f32>,
    /// `[ROWS, D]`, of a norm and the map before or behind it.
    pub y: Vec<f32>,
    /// `[N, H·K]`
    pub mixed: Vec<f32>,
    /// Queries, keys and values of a group of heads, `[N, 3·G·K]`; then feed-forward channels of a block of rows, `[ROWS, F]`.
    pub inner: Vec<f32>,
    spare: Vec<u32>,
}

impl Arena {
    /// Takes over sequences of a batch; `selected` are tokens of them, counted in the batch.
    pub fn take_slice(&mut self, batch: &Batch, sequences: Range<usize>, selected: Option<&[u32]>) {
        let offsets = &batch.offsets[sequences.start..=sequences.end];
        let first = offsets[0];
        let tokens = first as usize..offsets[sequences.len()] as usize;
        self.tokens.clear();
        self.tokens.extend_from_slice(&batch.tokens[tokens.clone()]);
        self.segments.clear();
        if !batch.segments.is_empty() {
            self.segments.extend_from_slice(&batch.segments[tokens]);
        }
        self.offsets.clear();
        self.offsets
            .extend(offsets.iter().map(|offset| offset - first));
        let mut kept = self
            .selected
            .take()
            .unwrap_or(std::mem::take(&mut self.spare));
        kept.clear();
        match selected {
            Some(rows) => {
                kept.extend(rows.iter().map(|row| row - first));
                self.selected = Some(kept);
            }
            None => self.spare = kept,
        }
    }

    /// The first `len` floats of what the run left.
    pub fn output(&self, len: usize) -> &[f32] {
        &self.x[..len]
    }
}

/// Makes a vector hold at least `len` floats, and gives that many of it; what is in them is of no meaning.
pub(super) fn room(vector: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if vector.len() < len {
        // The old goes before the new comes.
        *vector = Vec::new();
        *vector = vec![0.0; len];
    }
    &mut vector[..len]
}

/// Most rows that go through adjacent maps together: what is between them stays in cache.
const ROWS: usize = 384;

/// Cuts `0..rows` into equal blocks.
pub(super) fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(ROWS);
    (0..count).map(move |block| block * rows / count..(block + 1) * rows / count)
}
