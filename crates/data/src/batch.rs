//! Sequences of different lengths as one batch, without padding.

/// Sequences laid end to end, and what is to be predicted of them.
///
/// Sequence `b` is `tokens[offsets[b]..offsets[b + 1]]`. A token is an item's id, or the number of items for the blank.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedBatch {
    /// Tokens of all sequences, `[N]`.
    pub tokens: Vec<u32>,
    /// Where each sequence starts, and one last entry: where the last one ends, `[B + 1]`.
    pub offsets: Vec<u32>,
    /// Place of each token in its sequence, counted from the start, `[N]`.
    pub positions: Vec<u32>,
    /// Tokens at whose place something is to be predicted, rising, `[M]`.
    pub rows: Vec<u32>,
    /// The right item for each of `rows`, `[M]`; empty where it is not known.
    pub labels: Vec<u32>,
    /// Items to tell the right one from; absent: all.
    pub candidates: Option<Candidates>,
}

/// A few items for each prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// `1 + K` items a prediction, `[M, 1 + K]`: the right one, then `K` drawn ones, which may repeat or be right too.
    pub ids: Vec<u32>,
    /// What to subtract from the score of each, `[M, 1 + K]`; absent: nothing.
    pub correction: Option<Vec<f32>>,
}

impl PackedBatch {
    /// A batch without sequences.
    pub fn new() -> Self {
        Self {
            offsets: vec![0],
            ..Self::default()
        }
    }

    /// Number of sequences, `B`.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one sequence; what is to be predicted of it is the caller's to add. Returns its first token's row.
    pub fn push(&mut self, tokens: &[u32]) -> u32 {
        let first = self.tokens.len() as u32;
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(0..tokens.len() as u32);
        self.offsets.push(self.tokens.len() as u32);
        first
    }

    /// Place of each token in its sequence, counted from the end, `[N]`: 0 for the last.
    pub fn positions_from_end(&self) -> Vec<u32> {
        self.offsets
            .array_windows()
            .flat_map(|[from, to]| (0..to - from).rev())
            .collect()
    }

    /// Checks that all parts fit together.
    ///
    /// # Panics
    /// If they do not, or a token or item is out of range; the message says which.
    pub fn assert_valid(&self, items: usize) {
        let (n, m) = (self.tokens.len(), self.rows.len());
        assert_eq!(self.offsets.first(), Some(&0), "offsets start at 0");
        assert_eq!(
            self.offsets.last().map(|&end| end as usize),
            Some(n),
            "offsets end with the tokens"
        );
        assert!(
            self.offsets.is_sorted_by(|a, b| a < b),
            "no sequence is empty"
        );
        assert!(
            self.positions.iter().copied().eq(self
                .offsets
                .array_windows()
                .flat_map(|[from, to]| 0..to - from)),
            "positions count from the start of each sequence"
        );
        assert!(
            self.tokens.iter().all(|&token| token as usize <= items),
            "tokens are items or the blank"
        );
        assert!(self.rows.is_sorted_by(|a, b| a < b), "rows rise");
        assert!(
            self.rows.last().is_none_or(|&row| (row as usize) < n),
            "rows are tokens"
        );
        assert!(
            self.labels.is_empty() || self.labels.len() == m,
            "a label for every row or for none"
        );
        assert!(
            self.labels.iter().all(|&label| (label as usize) < items),
            "labels are items"
        );
        if let Some(Candidates { ids, correction }) = &self.candidates {
            assert_eq!(self.labels.len(), m, "candidates need labels");
            assert!(
                m > 0 && ids.len().is_multiple_of(m),
                "as many candidates for every row"
            );
            let rights = ids.iter().step_by(ids.len() / m);
            assert!(rights.eq(&self.labels), "the label is the first candidate");
            assert!(
                ids.iter().all(|&id| (id as usize) < items),
                "candidates are items"
            );
            if let Some(correction) = correction {
                assert_eq!(
                    correction.len(),
                    ids.len(),
                    "a correction for every candidate"
                );
                assert!(
                    correction.iter().all(|value| value.is_finite()),
                    "corrections are finite"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_sequences() -> PackedBatch {
        let mut batch = PackedBatch::new();
        assert_eq!(batch.push(&[3, 5, 1]), 0);
        assert_eq!(batch.push(&[5, 0]), 3);
        batch.rows = vec![1, 3];
        batch.labels = vec![4, 2];
        batch.candidates = Some(Candidates {
            ids: vec![4, 0, 2, 2],
            correction: Some(vec![0.0; 4]),
        });
        batch
    }

    #[test]
    fn positions_count_from_either_end_of_each_sequence() {
        let batch = two_sequences();
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1]);
        assert_eq!(batch.positions_from_end(), [2, 1, 0, 1, 0]);
        batch.assert_valid(5);
        PackedBatch::new().assert_valid(0);
        assert!(PackedBatch::new().is_empty());
    }

    #[test]
    fn every_broken_invariant_is_noticed() {
        let breaks: [fn(&mut PackedBatch); 12] = [
            |b| b.offsets[0] = 1,
            |b| b.offsets[2] = 4,
            |b| b.offsets.insert(1, 3),
            |b| b.positions[3] = 3,
            |b| b.tokens[0] = 6,
            |b| b.rows.swap(0, 1),
            |b| b.rows[1] = 5,
            |b| b.labels.truncate(1),
            |b| b.labels[0] = 5,
            |b| b.candidates.as_mut().unwrap().ids[2] = 1,
            |b| b.candidates.as_mut().unwrap().ids[1] = 5,
            |b| b.candidates.as_mut().unwrap().correction.as_mut().unwrap()[3] = f32::NEG_INFINITY,
        ];
        for (index, damage) in breaks.into_iter().enumerate() {
            let mut batch = two_sequences();
            damage(&mut batch);
            assert!(
                std::panic::catch_unwind(|| batch.assert_valid(5)).is_err(),
                "break {index}"
            );
        }
    }
}
