//! Texts of several corpora in an epoch, each corpus as often as it is to count.

use std::ops::Range;

use cloze_spec::text::Mix;

use crate::stream::{Purpose, Stream};

/// Which texts an epoch takes, and how often.
///
/// A corpus of a greater share than its size is gone through several times, the last time in part, as far as its share
/// goes; which part is drawn anew each epoch. Shares are exact, but for rounding to whole texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixture {
    /// The texts of each corpus, and how many of them an epoch takes.
    parts: Vec<(Range<usize>, usize)>,
}

impl Mixture {
    /// An epoch that takes every text at least once, of corpora that have these texts and weights.
    ///
    /// # Panics
    /// If a corpus has no text.
    pub fn new(mix: Mix, corpora: &[(Range<usize>, Option<f64>)]) -> Self {
        let sizes: Vec<_> = corpora
            .iter()
            .map(|(texts, weight)| (texts.len(), *weight))
            .collect();
        let shares = mix.shares(&sizes);
        let sizes = || sizes.iter().map(|&(size, _)| size as f64).zip(&shares);
        let epoch = sizes()
            .map(|(size, share)| size / share)
            .fold(0.0, f64::max);
        let counts = shares.iter().map(|share| (share * epoch).round() as usize);
        let texts = corpora.iter().map(|(texts, _)| texts.clone());
        assert!(
            texts.clone().all(|texts| !texts.is_empty()),
            "no corpus is empty"
        );
        Self {
            parts: texts
                .zip(counts)
                .map(|(texts, count)| (texts.clone(), count.max(texts.len())))
                .collect(),
        }
    }

    /// How many texts of each corpus an epoch takes.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|(_, count)| *count)
    }

    /// What `epoch` takes of `texts` texts, not yet in its order: which text, plus `texts` times how often it was taken before.
    pub(super) fn draws(&self, texts: usize, (seed, epoch): (u64, u64)) -> Vec<usize> {
        let mut all = Vec::with_capacity(self.counts().sum());
        for (index, (range, count)) in self.parts.iter().enumerate() {
            let (copies, rest) = (count / range.len(), count % range.len());
            for copy in 0..copies {
                all.extend(range.clone().map(|text| copy * texts + text));
            }
            if rest > 0 {
                let mut drawn: Vec<usize> = range.clone().collect();
                Stream::new(seed, epoch, Purpose::Mixture, index as u64).draw(&mut drawn, rest);
                all.extend(drawn[..rest].iter().map(|text| copies * texts + text));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use cloze_spec::text::Temperature;

    use super::*;

    /// A large corpus and a small one.
    fn corpora(weights: [Option<f64>; 2]) -> [(Range<usize>, Option<f64>); 2] {
        [(0..900, weights[0]), (900..1000, weights[1])]
    }

    #[test]
    fn corpora_have_the_shares_that_are_wanted() {
        let given = [Some(3.0), Some(7.0)];
        for (mix, weights, share) in [
            (Mix::Natural, [None; 2], 0.1),
            (Mix::Balanced, [None; 2], 0.5),
            (
                Mix::Temperature(Temperature { exponent: 0.5 }),
                [None; 2],
                0.25,
            ),
            (
                Mix::Temperature(Temperature { exponent: 0.0 }),
                [None; 2],
                0.5,
            ),
            (Mix::Given, given, 0.7),
        ] {
            let mixture = Mixture::new(mix, &corpora(weights));
            // At least 10,000 draws, epoch by epoch in their order.
            let (mut small, mut count) = (0, 0);
            for epoch in 0.. {
                let mut draws = mixture.draws(1000, (1, epoch));
                let len = draws.len();
                Stream::new(1, epoch, Purpose::Order, 0).draw(&mut draws, len);
                for draw in draws {
                    small += u32::from(draw % 1000 >= 900);
                    count += 1;
                }
                if count >= 10_000 {
                    break;
                }
            }
            let found = f64::from(small) / f64::from(count);
            assert!((found - share).abs() < 0.01 * share, "{mix:?}: {found}");
        }
    }

    #[test]
    fn every_text_is_taken_and_none_much_more_often_than_its_neighbours() {
        let mixture = Mixture::new(Mix::Given, &corpora([Some(1.0), Some(0.75)]));
        assert_eq!(mixture.counts().collect::<Vec<_>>(), [900, 675]);
        let draws = mixture.draws(1000, (1, 0));
        let mut times = [0; 1000];
        for draw in &draws {
            times[draw % 1000] += 1;
        }
        assert!(times[..900].iter().all(|&times| times == 1));
        assert!(times[900..].iter().all(|times| (6..=7).contains(times)));
        // Each time is told from the others, so that other tokens are hidden.
        let mut distinct = draws.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), draws.len());
        assert_eq!(draws, mixture.draws(1000, (1, 0)));
        let part = |draws: &[usize]| draws[draws.len() - 75..].to_vec();
        assert_ne!(part(&draws), part(&mixture.draws(1000, (1, 1))));
    }
}
