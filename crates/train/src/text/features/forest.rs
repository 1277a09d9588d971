use cloze_runtime::predict::features::{Node, Rule};
use cloze_spec::text::Forest;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Learning;

impl Learning<'_> {
    /// Trees that are grown until each leaf is of one class, each from as many texts as there are, drawn with replacement, and
    /// at each place from the square root of the features.
    ///
    /// # Source
    /// Breiman, Random Forests, Machine Learning 45(1), 2001; as `RandomForestClassifier` of scikit-learn 1.9 grows them.
    pub(super) fn trees(&self, forest: Forest) -> Rule {
        let trees = (0..forest.trees as u64).into_par_iter().map(|number| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(number);
            let drawn = (0..self.rows.len()).map(|_| below(&mut rng, self.rows.len()));
            let drawn = drawn.collect();
            let mut nodes = Vec::new();
            self.grow(drawn, &mut rng, &mut nodes);
            nodes
        });
        Rule::Trees(trees.collect())
    }

    /// Appends the tree of `texts`: what is at most the threshold comes right after it, the rest after that.
    fn grow(&self, texts: Vec<usize>, rng: &mut ChaCha8Rng, nodes: &mut Vec<Node>) {
        // Places that are still to be grown, and the one whose rest each is.
        let mut waiting = vec![(texts, None)];
        while let Some((texts, rest_of)) = waiting.pop() {
            let at = nodes.len();
            if let Some(parent) = rest_of
                && let Node::Split { above, .. } = &mut nodes[parent]
            {
                *above = at;
            }
            let mut counts = vec![0_u32; self.count];
            for &text in &texts {
                counts[self.classes[text] as usize] += 1;
            }
            let is_pure = counts.iter().filter(|count| **count > 0).count() < 2;
            let split = if is_pure {
                None
            } else {
                self.split(&texts, &counts, rng)
            };
            let Some((feature, upto)) = split else {
                let share = |&count: &u32| f64::from(count) / texts.len() as f64;
                nodes.push(Node::Leaf(counts.iter().map(share).collect()));
                continue;
            };
            nodes.push(Node::Split {
                feature,
                upto,
                above: 0,
            });
            let (low, high) = texts
                .into_iter()
                .partition(|&text| self.value(text, feature) <= upto);
            waiting.push((high, Some(at)));
            waiting.push((low, None));
        }
    }

    /// The feature and threshold after which classes are least mixed, by Gini; none if all texts are alike.
    fn split(&self, texts: &[usize], counts: &[u32], rng: &mut ChaCha8Rng) -> Option<(u32, f32)> {
        let tried = (self.width as f64).sqrt().max(1.0) as usize;
        let mut features: Vec<u32> = (0..self.width as u32).collect();
        let mut best: Option<(f64, u32, f32)> = None;
        for at in 0..self.width {
            if at >= tried && best.is_some() {
                break;
            }
            let other = at + below(rng, self.width - at);
            features.swap(at, other);
            let feature = features[at];
            let mut values: Vec<(f32, u32)> = texts
                .iter()
                .map(|&text| (self.value(text, feature), self.classes[text]))
                .collect();
            values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (mut low, mut high) = (vec![0_u32; counts.len()], counts.to_vec());
            for (index, pair) in values.windows(2).enumerate() {
                low[pair[0].1 as usize] += 1;
                high[pair[0].1 as usize] -= 1;
                if pair[0].0 >= pair[1].0 {
                    continue;
                }
                // More is purer: Σ n²/n of both sides.
                let (left, right) = (index + 1, texts.len() - index - 1);
                let purity = squares(&low) / left as f64 + squares(&high) / right as f64;
                if best.is_none_or(|(most, ..)| purity > most) {
                    let middle = 0.5 * (pair[0].0 + pair[1].0);
                    // Of neighbouring numbers the middle may be the larger one.
                    let upto = if middle < pair[1].0 {
                        middle
                    } else {
                        pair[0].0
                    };
                    best = Some((purity, feature, upto));
                }
            }
        }
        best.map(|(_, feature, upto)| (feature, upto))
    }

    fn value(&self, text: usize, feature: u32) -> f32 {
        let row = &self.rows[text];
        let found = row.binary_search_by_key(&feature, |(feature, _)| *feature);
        found.map_or(0.0, |at| row[at].1)
    }
}

fn squares(counts: &[u32]) -> f64 {
    counts.iter().map(|&count| f64::from(count).powi(2)).sum()
}

/// A number in `0..n`; the bias is below one in 2³² for any number of texts.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
