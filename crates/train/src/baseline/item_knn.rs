//! What is bought by the same people.

use cloze_data::Sequences;
use rayon::prelude::*;

use super::SparseRows;

/// Scores an item by its similarity to the items of the history.
///
/// Similarity is the cosine of the sets of users who bought each, and every item knows only its nearest neighbours:
///
/// ```text
/// similarity(i, j) = |users(i) ∩ users(j)| / √(|users(i)| · |users(j)|)
/// score(j) = Σ similarity(i, j) · weight(i)        over the distinct items i of the history with j near i
/// weight(i) = 2^(-age(i) / half_life)              age 0 is the last item bought
/// ```
///
/// # Source
/// Deshpande and Karypis, Item-based top-N recommendation algorithms, TOIS 2004, for similarity, neighbours and sum;
/// Ding and Li, Time weight collaborative filtering, CIKM 2005, for the decay, here by items bought since rather
/// than by time.
/// # Departures
/// Similarities of a row are not scaled to sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemKnn {
    /// Row `i`: the nearest of `i` with their similarity, nearest first.
    neighbours: SparseRows,
    num_items: usize,
    half_life: f32,
}

impl ItemKnn {
    /// Neighbours that each item keeps.
    pub const NEIGHBOURS: usize = 200;
    /// Items after which a purchase weighs half, unless said otherwise. It gave the best NDCG@10 of 0.5, 1, 2, 4 and
    /// none on the validation parts of MovieLens-1M and Amazon Beauty, far above equal weights.
    pub const HALF_LIFE: f32 = 1.0;

    /// Finds the neighbours of each item of `train`, all below `num_items`.
    ///
    /// Time grows with the sum of the squared lengths of the sequences; memory with the purchases, the kept
    /// neighbours, and one row of all items for each thread.
    pub fn fit(train: &Sequences, num_items: usize) -> Self {
        let baskets: Vec<Vec<u32>> = train
            .iter()
            .map(|sequence| {
                let mut items = sequence.to_vec();
                items.sort_unstable();
                items.dedup();
                items
            })
            .collect();
        let mut users = vec![Vec::new(); num_items];
        for (user, items) in (0_u32..).zip(&baskets) {
            for &item in items {
                users[item as usize].push(user);
            }
        }
        let rows: Vec<_> = (0..num_items)
            .into_par_iter()
            .map_init(
                || vec![0_u32; num_items],
                |together, item| nearest(item, &baskets, &users, together),
            )
            .collect();
        Self {
            neighbours: SparseRows::new(rows),
            num_items,
            half_life: Self::HALF_LIFE,
        }
    }

    /// Halves the weight of an item of the history with every `items` bought after it; infinity: all weigh alike.
    ///
    /// # Panics
    /// If `items` is not above 0.
    #[must_use]
    pub fn with_half_life(self, items: f32) -> Self {
        assert!(items > 0.0, "expected a half-life above 0, found {items}");
        Self {
            half_life: items,
            ..self
        }
    }

    /// Fills `out` with a score for each item, given `history`, oldest first. An item that is in it several times
    /// counts once, at its last place.
    ///
    /// # Panics
    /// If `out` has not one place for each item.
    pub fn score(&self, history: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), self.num_items, "one place for each item");
        out.fill(0.0);
        let mut last: Vec<(u32, usize)> = history.iter().rev().copied().zip(0..).collect();
        last.sort_unstable();
        last.dedup_by_key(|(item, _)| *item);
        for (item, age) in last {
            let weight = (-(age as f32) / self.half_life).exp2();
            for &(neighbour, similarity) in self.neighbours.get(item) {
                out[neighbour as usize] += weight * similarity;
            }
        }
    }
}

/// The nearest neighbours of `item`. `together` is scratch memory: 0 for every item, before and after.
fn nearest(
    item: usize,
    baskets: &[Vec<u32>],
    users: &[Vec<u32>],
    together: &mut [u32],
) -> Vec<(u32, f32)> {
    let mut met = Vec::new();
    for &user in &users[item] {
        for &other in &baskets[user as usize] {
            let count = &mut together[other as usize];
            if *count == 0 {
                met.push(other);
            }
            *count += 1;
        }
    }
    let mut near = Vec::with_capacity(met.len());
    for other in met {
        let count = std::mem::take(&mut together[other as usize]);
        if other as usize != item {
            let norm = users[item].len() as f64 * users[other as usize].len() as f64;
            near.push((other, (f64::from(count) / norm.sqrt()) as f32));
        }
    }
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if near.len() > ItemKnn::NEIGHBOURS {
        near.select_nth_unstable_by(ItemKnn::NEIGHBOURS, order);
        near.truncate(ItemKnn::NEIGHBOURS);
    }
    near.sort_unstable_by(order);
    near
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(knn: &ItemKnn, history: &[u32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; knn.num_items];
        knn.score(history, &mut out);
        out
    }

    /// Straight from the formula.
    fn similarity(rows: &[Vec<u32>], i: u32, j: u32) -> f32 {
        let count = |wanted: &[u32]| {
            rows.iter()
                .filter(|row| wanted.iter().all(|item| row.contains(item)))
                .count() as f64
        };
        (count(&[i, j]) / (count(&[i]) * count(&[j])).sqrt()) as f32
    }

    #[test]
    fn older_items_weigh_less_as_the_half_life_says() {
        let train = Sequences::from_rows([[0, 1], [2, 3]]);
        let knn = ItemKnn::fit(&train, 4).with_half_life(f32::INFINITY);
        assert_eq!(scores(&knn, &[0, 2]), [0.0, 1.0, 0.0, 1.0]);
        let knn = knn.with_half_life(2.0);
        assert_eq!(scores(&knn, &[0, 3, 2]), [0.0, 0.5, 0.5_f32.sqrt(), 1.0]);
        // Bought again: only the last time counts.
        assert_eq!(scores(&knn, &[0, 0, 0]), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn only_the_nearest_neighbours_are_kept() {
        // Item 0 is bought with each other item once, and twice with item 300.
        let rows = (1..=300).map(|item| [0, item]).chain([[300, 0]]);
        let knn = ItemKnn::fit(&Sequences::from_rows(rows), 301);
        let scores = scores(&knn, &[0]);
        let kept: Vec<_> = (0..301).filter(|&item| scores[item] > 0.0).collect();
        assert_eq!(kept.len(), ItemKnn::NEIGHBOURS);
        assert!(kept.contains(&300), "the nearest stays");
        assert_eq!(kept[0], 1, "of equals the lower id stays");
    }

    proptest! {
        #[test]
        fn scores_are_sums_of_cosines(
            rows in prop::collection::vec(prop::collection::vec(0_u32..12, 0..8), 1..15),
            history in prop::collection::vec(0_u32..12, 0..6),
        ) {
            let knn = ItemKnn::fit(&Sequences::from_rows(&rows), 12).with_half_life(f32::INFINITY);
            let mut distinct = history.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let scores = scores(&knn, &history);
            for item in 0..12 {
                let expected: f32 = distinct
                    .iter()
                    .filter(|&&i| i != item)
                    .map(|&i| similarity(&rows, i, item))
                    .filter(|similarity| !similarity.is_nan())
                    .sum();
                prop_assert!((scores[item as usize] - expected).abs() < 1e-5, "item {}", item);
            }
        }
    }
}
