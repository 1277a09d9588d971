//! What usually comes next.

use cloze_data::Sequences;

use super::{Popularity, SparseRows};

/// Scores an item by how often it was bought right after the last item of the history: a first-order Markov chain.
///
/// Where the chain has seen little, popularity decides: the score is the transition's probability under a Dirichlet
/// prior of weight 1 around the popularity distribution, times a constant of the last item,
///
/// ```text
/// score(j | i) = count(i → j) + popularity(j) / Σ popularity
/// ```
///
/// so that whatever has followed comes before whatever has not, and an unseen last item gives the popularity list.
///
/// # Source
/// Zhai and Lafferty, A study of smoothing methods for language models, SIGIR 2001, for the prior; Rendle et al.,
/// Factorizing personalized Markov chains, WWW 2010, for the chain as a recommender.
#[derive(Debug, Clone, PartialEq)]
pub struct Bigram {
    /// Row `i`: how often each item followed `i`.
    followers: SparseRows,
    /// Share of each item in all purchases.
    share: Vec<f32>,
}

impl Bigram {
    /// Counts the neighbours in `train`, whose items are all below `num_items`.
    ///
    /// Memory grows with the purchases, never with the square of the items.
    pub fn fit(train: &Sequences, num_items: usize) -> Self {
        let mut pairs: Vec<(u32, u32)> = train
            .iter()
            .flat_map(|sequence| sequence.array_windows().map(|&[from, to]| (from, to)))
            .collect();
        pairs.sort_unstable();
        let mut rows = vec![Vec::new(); num_items];
        for same in pairs.chunk_by(|a, b| a == b) {
            let (from, to) = same[0];
            rows[from as usize].push((to, same.len() as f32));
        }
        let total = train.tokens().max(1) as f64;
        let popularity = Popularity::fit(train, num_items);
        Self {
            followers: SparseRows::new(rows),
            share: popularity
                .counts()
                .iter()
                .map(|&count| (count as f64 / total) as f32)
                .collect(),
        }
    }

    /// Fills `out` with a score for each item, given the last of `history`.
    ///
    /// # Panics
    /// If `out` has not one place for each item.
    pub fn score(&self, history: &[u32], out: &mut [f32]) {
        out.copy_from_slice(&self.share);
        if let Some(&last) = history.last() {
            for &(item, count) in self.followers.get(last) {
                out[item as usize] += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(bigram: &Bigram, history: &[u32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; 5];
        bigram.score(history, &mut out);
        out
    }

    #[test]
    fn followers_come_first_and_popularity_orders_the_rest() {
        let train = Sequences::from_rows([&[0, 1, 0, 1, 2][..], &[0, 3], &[3], &[], &[3]]);
        let bigram = Bigram::fit(&train, 5);
        let share = [3.0 / 9.0, 2.0 / 9.0, 1.0 / 9.0, 3.0 / 9.0, 0.0];
        // 1 followed 0 twice, 3 once; what came after users' last items counts for nothing.
        let expected = [share[0], 2.0 + share[1], share[2], 1.0 + share[3], share[4]];
        assert_eq!(scores(&bigram, &[2, 0]), expected);
        assert_eq!(scores(&bigram, &[]), share);
        assert_eq!(scores(&bigram, &[0, 4]), share);
    }

    #[test]
    fn only_the_last_item_matters() {
        let train = Sequences::from_rows([[0, 1, 2, 3, 4]]);
        let bigram = Bigram::fit(&train, 5);
        assert_eq!(scores(&bigram, &[4, 4, 1]), scores(&bigram, &[1]));
        assert_ne!(scores(&bigram, &[1]), scores(&bigram, &[2]));
    }
}
