//! Items to tell the right one from.

use std::hint::select_unpredictable;

use cloze_spec::objective;

use crate::batch::Candidates;
use crate::stream::Stream;

/// Draws items with replacement, each with its probability `q`.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// One slot an item; none for a uniform sampler.
    slots: Vec<Slot>,
    /// `ln q` of each item; none for a uniform sampler.
    log_q: Vec<f32>,
    items: u32,
}

/// A draw that lands here gives the slot's own item if its fraction, in units of 2⁻³², is below `own`, else `other`.
#[derive(Clone, Copy, Debug)]
struct Slot {
    own: u32,
    other: u32,
}

impl Sampler {
    /// A sampler of items `0..counts.len()`, of which each occurs so often.
    pub(crate) fn new(kind: objective::Sampler, counts: &[u64]) -> Self {
        let items = counts.len() as u32;
        match kind {
            objective::Sampler::Uniform => Self {
                slots: Vec::new(),
                log_q: Vec::new(),
                items,
            },
            objective::Sampler::Popularity => {
                let total = counts.iter().sum::<u64>() as f64;
                let log_q = counts
                    .iter()
                    .map(|&count| (count as f64 / total).ln() as f32)
                    .collect();
                Self {
                    slots: slots(counts),
                    log_q,
                    items,
                }
            }
        }
    }

    /// One item. An item that never occurs is drawn with probability 0 by popularity.
    fn draw(&self, draws: &mut Draws) -> u32 {
        // The whole part is a slot; the fraction, independent of it, chooses within the slot.
        let product = u128::from(draws.next()) * u128::from(self.items);
        let (item, fraction) = ((product >> 64) as u32, (product >> 32) as u32);
        if self.slots.is_empty() {
            return item;
        }
        let slot = self.slots[item as usize];
        select_unpredictable(fraction < slot.own, item, slot.other)
    }

    /// `negatives` drawn items for each of `labels`, `K`, after the label itself.
    ///
    /// With `log_q`, the correction of an item, right or drawn, is the logarithm of how often it is expected among the
    /// draws, `ln(K q)`: scores less their corrections are unbiased estimates of what a softmax over all items needs.
    /// Where `q` is uniform the corrections are all equal and would cancel, so there are none.
    ///
    /// # Source
    /// Bengio and Senécal, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
    /// Model, IEEE Transactions on Neural Networks 19(4), 2008, §III; Yi et al., Sampling-Bias-Corrected Neural
    /// Modeling for Large Corpus Item Recommendations, `RecSys` 2019, §3, which corrects the right item too.
    pub(crate) fn candidates(
        &self,
        labels: &[u32],
        negatives: usize,
        log_q: bool,
        stream: &mut Stream,
    ) -> Candidates {
        let mut draws = Draws(stream.bits());
        let mut ids = Vec::with_capacity(labels.len() * (1 + negatives));
        for &label in labels {
            ids.push(label);
            ids.extend((0..negatives).map(|_| self.draw(&mut draws)));
        }
        let correction = (log_q && !self.log_q.is_empty()).then(|| {
            let log_draws = (negatives as f32).ln();
            ids.iter()
                .map(|&id| log_draws + self.log_q[id as usize])
                .collect()
        });
        Candidates { ids, correction }
    }
}

/// Random bits for negatives, of which a batch may need millions.
///
/// # Source
/// Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, figure 17 (`SplitMix64`).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Slots whose draws give each item as often as it counts.
///
/// # Source
/// Vose, A Linear Algorithm for Generating Random Numbers with a Given Distribution, IEEE Transactions on Software
/// Engineering 17(9), 1991.
fn slots(counts: &[u64]) -> Vec<Slot> {
    let total: u64 = counts.iter().sum();
    assert!(total > 0, "popularity needs an item that occurs");
    let scale = counts.len() as f64 / total as f64;
    // Every slot holds a weight of 1; items above that fill up the slots of items below.
    let mut weights: Vec<f64> = counts.iter().map(|&count| count as f64 * scale).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..counts.len()).partition(|&item| weights[item] < 1.0);
    let mut slots: Vec<Slot> = (0..counts.len() as u32)
        .map(|item| Slot {
            own: u32::MAX,
            other: item,
        })
        .collect();
    while let (Some(&few), Some(&many)) = (small.last(), large.last()) {
        small.pop();
        slots[few] = Slot {
            own: (weights[few] * 2_f64.powi(32)) as u32,
            other: many as u32,
        };
        weights[many] -= 1.0 - weights[few];
        if weights[many] < 1.0 {
            large.pop();
            small.push(many);
        }
    }
    // What is left over weighs 1 but for rounding, and keeps its slot whole; an item that never occurs weighs 0 and
    // must not.
    let popular = (0..counts.len())
        .max_by_key(|&item| counts[item])
        .expect("some item occurs") as u32;
    for item in small {
        if counts[item] == 0 {
            slots[item] = Slot {
                own: 0,
                other: popular,
            };
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use cloze_spec::objective::Sampler as Kind;
    use proptest::prelude::*;

    use super::*;
    use crate::stream::Purpose;

    fn stream(index: u64) -> Stream {
        Stream::new(3, 0, Purpose::Negatives, index)
    }

    #[test]
    fn draws_have_the_frequencies_that_log_q_says() {
        let counts = [10, 0, 1, 60, 29];
        let sampler = Sampler::new(Kind::Popularity, &counts);
        let mut drawn = [0_u32; 5];
        let count = 100_000;
        let mut draws = Draws(0);
        for _ in 0..count {
            drawn[sampler.draw(&mut draws) as usize] += 1;
        }
        assert_eq!(drawn[1], 0);
        for item in [0, 2, 3, 4] {
            let expected = f64::from(sampler.log_q[item]).exp() * f64::from(count);
            assert!((expected - counts[item] as f64 * 1000.0).abs() < 1.0);
            assert!(
                (f64::from(drawn[item]) - expected).abs() < 5.0 * expected.sqrt(),
                "{item}: {drawn:?}"
            );
        }
    }

    #[test]
    fn random_bits_are_those_of_the_published_generator() {
        // The first outputs for the seed 1234567, as published with the reference implementation's ports.
        let mut draws = Draws(1_234_567);
        assert_eq!(
            [draws.next(), draws.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn uniform_draws_reach_every_item_alike() {
        let sampler = Sampler::new(Kind::Uniform, &[0, 5, 0, 100]);
        let mut drawn = [0_u32; 4];
        let mut draws = Draws(0);
        (0..40_000).for_each(|_| drawn[sampler.draw(&mut draws) as usize] += 1);
        assert!(
            drawn.iter().all(|count| count.abs_diff(10_000) < 500),
            "{drawn:?}"
        );
    }

    #[test]
    fn corrections_are_logarithms_of_expected_counts() {
        let sampler = Sampler::new(Kind::Popularity, &[1, 3, 4]);
        let found = sampler.candidates(&[2, 0], 16, true, &mut stream(0));
        assert_eq!((found.ids.len(), found.ids[0], found.ids[17]), (34, 2, 0));
        let correction = found.correction.unwrap();
        assert!(
            (correction[0] - 8_f32.ln()).abs() < 1e-6 && (correction[17] - 2_f32.ln()).abs() < 1e-6
        );
        for (&id, &value) in found.ids.iter().zip(&correction) {
            assert!((value - [2_f32, 6.0, 8.0][id as usize].ln()).abs() < 1e-6);
        }
        assert_eq!(
            sampler
                .candidates(&[2, 0], 16, false, &mut stream(0))
                .correction,
            None
        );
        let uniform = Sampler::new(Kind::Uniform, &[1, 3, 4]);
        assert_eq!(
            uniform
                .candidates(&[2, 0], 16, true, &mut stream(0))
                .correction,
            None
        );
    }

    proptest! {
        #[test]
        fn slots_weigh_what_items_count(counts in prop::collection::vec(0_u64..1000, 1..200)) {
            let total: u64 = counts.iter().sum();
            prop_assume!(total > 0);
            let mut weights = vec![0.0; counts.len()];
            for (item, slot) in slots(&counts).into_iter().enumerate() {
                let own = f64::from(slot.own) / 2_f64.powi(32);
                weights[item] += own;
                weights[slot.other as usize] += 1.0 - own;
            }
            for (weight, &count) in weights.iter().zip(&counts) {
                let expected = count as f64 / total as f64 * counts.len() as f64;
                prop_assert!((weight - expected).abs() < 1e-6, "{weight} {expected}");
                prop_assert!(count > 0 || *weight == 0.0);
            }
        }
    }
}
