//! Whether one model is better than another on the same cases, or was only lucky.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Times the cases are drawn anew.
const RESAMPLES: u64 = 2000;

/// A mean and the interval that holds it with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Mean over the cases.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether zero lies outside, so that the sign of the mean can be believed.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// [`mean`] of `a[i] - b[i]`. Pairing cancels what makes a case hard for both.
///
/// # Panics
/// If the lengths differ or there are no cases.
pub fn paired(a: &[f64], b: &[f64], seed: u64) -> Interval {
    assert_eq!(a.len(), b.len(), "both models are judged by the same cases");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    mean(&differences, seed)
}

/// Mean of a value over cases, with its 95 % percentile bootstrap interval: [`intervals`] of the mean over 2,000 draws.
///
/// # Panics
/// If there are no cases.
pub fn mean(values: &[f64], seed: u64) -> Interval {
    assert!(!values.is_empty(), "there are cases");
    let of = |sum: f64| sum / values.len() as f64;
    let of_draw = |draw: &[usize]| vec![of(draw.iter().map(|&case| values[case]).sum())];
    let (low, high) =
        intervals(values.len(), RESAMPLES, seed, of_draw)[0].expect("a mean over cases is defined");
    Interval {
        mean: of(values.iter().sum()),
        low,
        high,
    }
}

/// The 95 % percentile bootstrap interval of each of some statistics of `count` examples: the 2.5 % and 97.5 %
/// quantiles of its values over `resamples` draws of as many examples, with replacement. `statistics` takes the
/// indices drawn. Draws where a statistic is NaN, undefined, count for nothing; with none left it has no interval.
///
/// For the difference of two systems, let `statistics` give the difference of both on the same draw.
///
/// The same at any number of threads: every draw has a random stream of its own.
///
/// # Source
/// Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3.
pub fn intervals(
    count: usize,
    resamples: u64,
    seed: u64,
    statistics: impl Fn(&[usize]) -> Vec<f64> + Sync,
) -> Vec<Option<(f64, f64)>> {
    let draws: Vec<Vec<f64>> = (0..resamples)
        .into_par_iter()
        .map(|draw| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw);
            let drawn: Vec<usize> = (0..count).map(|_| rng.random_range(0..count)).collect();
            statistics(&drawn)
        })
        .collect();
    let width = draws.first().map_or(0, Vec::len);
    (0..width)
        .map(|statistic| {
            let values = draws.iter().map(|draw| draw[statistic]);
            let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let last = values.len().checked_sub(1)?;
            let quantile = |share: f64| values[(share * last as f64).round() as usize];
            Some((quantile(0.025), quantile(0.975)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| rng.random::<f64>()).collect()
    }

    #[test]
    fn a_steady_gain_is_found_under_noise_that_both_share() {
        let b = noise(400, 1);
        let a: Vec<_> = b
            .iter()
            .zip(noise(400, 2))
            .map(|(b, n)| b + 0.01 + 0.02 * (n - 0.5))
            .collect();
        let interval = paired(&a, &b, 7);
        assert!(interval.low < interval.mean && interval.mean < interval.high);
        assert!(
            interval.excludes_zero() && (interval.mean - 0.01).abs() < 0.002,
            "{interval:?}"
        );
        assert!(paired(&b, &a, 7).high < 0.0);
    }

    #[test]
    fn the_interval_is_as_wide_as_the_normal_approximation_says() {
        let (a, b) = (noise(1000, 3), noise(1000, 4));
        let interval = paired(&a, &b, 7);
        let variance = a
            .iter()
            .zip(&b)
            .map(|(a, b)| (a - b - interval.mean).powi(2))
            .sum::<f64>()
            / 999.0;
        let expected = 2.0 * 1.96 * (variance / 1000.0).sqrt();
        let width = interval.high - interval.low;
        // Quantiles of 2,000 draws are off by some per cent.
        assert!((width / expected - 1.0).abs() < 0.12, "{width} {expected}");
    }

    #[test]
    fn equal_models_differ_by_nothing() {
        let a = noise(50, 5);
        let interval = paired(&a, &a, 7);
        assert_eq!(
            (interval.mean, interval.low, interval.high),
            (0.0, 0.0, 0.0)
        );
        assert!(!interval.excludes_zero());
    }

    #[test]
    fn undefined_draws_count_for_nothing() {
        let found = intervals(2, 50, 1, |draw| {
            vec![if draw[0] == 0 { f64::NAN } else { 3.0 }, f64::NAN]
        });
        assert_eq!(found, [Some((3.0, 3.0)), None]);
    }

    #[test]
    fn the_seed_decides_whatever_the_number_of_threads() {
        let (a, b) = (noise(300, 1), noise(300, 2));
        let one = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let alone = one.install(|| paired(&a, &b, 9));
        assert_eq!(alone, paired(&a, &b, 9));
        assert_ne!(alone, paired(&a, &b, 10));
    }
}
