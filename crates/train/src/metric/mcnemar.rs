//! Whether two models that are right or wrong on the same examples differ by more than luck.
//!
//! # Source
//! McNemar, Note on the sampling error of the difference between correlated proportions, 1947; with Edwards' correction
//! for continuity, 1948.

use serde::Serialize;

/// The examples that only one of two models got right, and how likely such a difference is if neither is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Examples that the first model alone got right.
    pub only_first: u64,
    /// Examples that the second model alone got right.
    pub only_second: u64,
    /// Two-sided probability by the binomial distribution.
    pub exact_p: f64,
    /// `(|first − second| − 1)² / (first + second)`; nothing where both are 0.
    pub chi_squared: Option<f64>,
    /// Its probability with one degree of freedom.
    pub chi_squared_p: Option<f64>,
}

/// The test of which examples each model got right.
///
/// # Panics
/// If the lengths differ.
pub fn mcnemar(first: &[bool], second: &[bool]) -> McNemar {
    assert_eq!(
        first.len(),
        second.len(),
        "both judged on the same examples"
    );
    let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && !**b).count() as u64;
    of_counts(only(first, second), only(second, first))
}

/// The test of the two counts alone.
pub fn of_counts(only_first: u64, only_second: u64) -> McNemar {
    let total = only_first + only_second;
    let chi_squared =
        (total > 0).then(|| (only_first.abs_diff(only_second) as f64 - 1.0).powi(2) / total as f64);
    McNemar {
        only_first,
        only_second,
        exact_p: (2.0 * half_binomial(only_first.min(only_second), total)).min(1.0),
        chi_squared,
        chi_squared_p: chi_squared.map(|value| complementary_error((value / 2.0).sqrt())),
    }
}

/// Probability of at most `most` heads in `tosses`.
fn half_binomial(most: u64, tosses: u64) -> f64 {
    // The largest term first, C(tosses, most) / 2^tosses: halved as it grows, so that it never leaves the range.
    let (mut term, mut halvings) = (1.0_f64, tosses);
    for i in 1..=most {
        term *= (tosses - most + i) as f64 / i as f64;
        while term > 1.0 && halvings > 0 {
            term *= 0.5;
            halvings -= 1;
        }
    }
    term *= 0.5_f64.powi(i32::try_from(halvings).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    for i in (0..=most).rev() {
        sum += term;
        term *= i as f64 / (tosses - i + 1) as f64;
    }
    sum
}

/// `2/√π ∫ exp(−t²) dt` from `x ≥ 0` up.
///
/// # Source
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.6 and 7.1.14.
fn complementary_error(x: f64) -> f64 {
    use std::f64::consts::PI;
    const LARGE: f64 = 2.0;
    if x < LARGE {
        // All terms are positive: nothing cancels but the last subtraction, from values below 0.9954.
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // x + (1/2)/(x + 1/(x + (3/2)/(x + …))), from the inside out; 120 levels are enough from 2 on.
    let fraction = (1..=120)
        .rev()
        .fold(x, |inner, level| x + f64::from(level) / 2.0 / inner);
    (-x * x).exp() / PI.sqrt() / fraction
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is compared is exact")]
mod tests {
    use super::*;

    #[test]
    fn both_models_are_treated_alike_and_equal_ones_do_not_differ() {
        let (a, b) = (of_counts(3, 11), of_counts(11, 3));
        assert_eq!(a.exact_p, b.exact_p);
        assert_eq!(a.chi_squared_p, b.chi_squared_p);
        let same = mcnemar(&[true, false], &[true, false]);
        assert_eq!((same.exact_p, same.chi_squared), (1.0, None));
    }

    #[test]
    fn many_tosses_stay_within_the_range_of_numbers() {
        let p = half_binomial(50_000, 100_000);
        assert!((p - 0.5).abs() < 0.002, "{p}");
        assert_eq!(half_binomial(0, 2000), 0.0);
        assert_eq!(half_binomial(0, 10), 1.0 / 1024.0);
    }

    #[test]
    fn the_two_ways_to_the_error_function_meet() {
        let (below, above) = (complementary_error(2.0 - 1e-15), complementary_error(2.0));
        assert!((below / above - 1.0).abs() < 1e-13, "{below} {above}");
        assert_eq!(complementary_error(0.0), 1.0);
    }
}
