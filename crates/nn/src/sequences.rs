use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::batch::PackedBatch;
use cloze_spec::embed::Positions;

use crate::op;

/// A packed batch as the encoder takes it: shared, so that the backward pass can keep what it needs.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// Tokens of all sequences, `[N]`; none where only vectors are left of them.
    pub tokens: Arc<[u32]>,
    /// Sequence `b` is the tokens `offsets[b]..offsets[b + 1]`, `[B + 1]`.
    pub offsets: Arc<[u32]>,
    /// The tokens whose vectors are wanted, ascending, `[M]`.
    pub rows: Arc<[u32]>,
}

impl Sequences {
    /// The batch's sequences, and the rows that it asks predictions for.
    pub fn new(batch: &PackedBatch) -> Self {
        Self {
            tokens: batch.tokens.as_slice().into(),
            offsets: batch.offsets.as_slice().into(),
            rows: batch.rows.as_slice().into(),
        }
    }

    /// Sequences of vectors, and the rows that are wanted.
    pub(crate) fn of_vectors(offsets: Arc<[u32]>, rows: Arc<[u32]>) -> Self {
        Self {
            tokens: Arc::default(),
            offsets,
            rows,
        }
    }

    /// The batch's `rows` of `x` if `selected`, else all: `[N, D]` → `[M, D]` or `[N, D]`.
    pub(crate) fn wanted(&self, x: Tensor<2>, selected: bool) -> Tensor<2> {
        if selected {
            op::select_rows(x, &self.rows)
        } else {
            x
        }
    }

    /// Each token's position within its sequence, `[N]`.
    pub(crate) fn positions(&self, from: Positions) -> Option<Arc<[u32]>> {
        let spans = self.offsets.windows(2).map(|w| w[1] - w[0]);
        match from {
            Positions::FromStart => Some(spans.flat_map(|len| 0..len).collect()),
            Positions::FromEnd => Some(spans.flat_map(|len| (0..len).rev()).collect()),
            Positions::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_batch() {
        let mut batch = PackedBatch::new();
        batch.push(&[4, 4, 2]);
        batch.push(&[1]);
        batch.push(&[0, 3]);
        let sequences = Sequences::new(&batch);
        let positions = |from| sequences.positions(from).map(|p| p.to_vec());
        assert_eq!(
            positions(Positions::FromStart),
            Some(batch.positions.clone())
        );
        assert_eq!(
            positions(Positions::FromEnd),
            Some(batch.positions_from_end())
        );
        assert_eq!(positions(Positions::None), None);
    }
}
