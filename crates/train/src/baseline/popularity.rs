//! The same list for everyone.

use cloze_data::Sequences;

/// Scores an item by how often it was bought.
#[derive(Debug, Clone, PartialEq)]
pub struct Popularity {
    counts: Vec<u64>,
}

impl Popularity {
    /// Counts the items of `train`, all below `num_items`.
    pub fn fit(train: &Sequences, num_items: usize) -> Self {
        let mut counts = vec![0; num_items];
        for &item in &train.items {
            counts[item as usize] += 1;
        }
        Self { counts }
    }

    /// How often each item was bought.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Fills `out` with the count of each item, whatever the history.
    ///
    /// # Panics
    /// If `out` has not one place for each item.
    pub fn score(&self, _history: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), self.counts.len(), "one place for each item");
        for (out, &count) in out.iter_mut().zip(&self.counts) {
            *out = count as f32;
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "what is compared is computed in the same way, or exactly"
)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_counts_whatever_the_history() {
        let train = Sequences::from_rows([&[2, 0, 2][..], &[], &[2, 3]]);
        let popularity = Popularity::fit(&train, 5);
        assert_eq!(popularity.counts(), [1, 0, 3, 1, 0]);
        for history in [&[][..], &[2, 2]] {
            let mut out = [f32::NAN; 5];
            popularity.score(history, &mut out);
            assert_eq!(out, [1.0, 0.0, 3.0, 1.0, 0.0]);
        }
    }
}
