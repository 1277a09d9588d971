//! Numbers against numbers: correlation and error.
//!
//! # Source
//! `pearsonr` and `spearmanr` of scipy 1.17, `mean_squared_error` and `mean_absolute_error` of scikit-learn 1.9.

/// Pearson's correlation. Nothing of fewer than two examples, or where one side does not vary.
///
/// # Panics
/// If the lengths differ.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "as many of both");
    if a.len() < 2 {
        return None;
    }
    let (a, b) = (deviations(a)?, deviations(b)?);
    let product: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    Some(product.clamp(-1.0, 1.0))
}

/// Spearman's correlation: [`pearson`] of ranks, where equal values share the mean of theirs.
///
/// # Panics
/// If the lengths differ.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// Mean of (a − b)²; 0 without examples.
pub fn mean_squared_error(a: &[f64], b: &[f64]) -> f64 {
    mean(a, b, |difference| difference * difference)
}

/// Mean of |a − b|; 0 without examples.
pub fn mean_absolute_error(a: &[f64], b: &[f64]) -> f64 {
    mean(a, b, f64::abs)
}

/// Ranks from 1; equal values share the mean of theirs.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Adding zero makes the two zeros one.
    order.sort_unstable_by(|&a, &b| (values[a] + 0.0).total_cmp(&(values[b] + 0.0)));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for group in order.chunk_by(|&a, &b| (values[a] + 0.0).total_cmp(&(values[b] + 0.0)).is_eq()) {
        for &index in group {
            ranks[index] = before as f64 + (group.len() + 1) as f64 / 2.0;
        }
        before += group.len();
    }
    ranks
}

fn mean(a: &[f64], b: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(a.len(), b.len(), "as many of both");
    let sum: f64 = a.iter().zip(b).map(|(a, b)| of(a - b)).sum();
    sum / a.len().max(1) as f64
}

/// Deviations from the mean, as a vector of length 1.
fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    if values
        .iter()
        .all(|value| value.total_cmp(&values[0]).is_eq())
    {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut deviations: Vec<f64> = values.iter().map(|value| value - mean).collect();
    // Squares of huge or tiny values would leave the range of numbers.
    let most = deviations
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    for value in &mut deviations {
        *value /= most;
    }
    let norm = deviations
        .iter()
        .map(|value| value * value)
        .sum::<f64>()
        .sqrt();
    for value in &mut deviations {
        *value /= norm;
    }
    norm.is_finite().then_some(deviations)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(
            ranks(&[3.0, 1.0, 3.0, -0.0, 0.0]),
            [4.5, 3.0, 4.5, 1.5, 1.5]
        );
    }

    #[test]
    fn what_does_not_vary_correlates_with_nothing() {
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(pearson(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(pearson(&[0.0, f64::NAN], &[1.0, 2.0]), None);
    }

    proptest! {
        #[test]
        fn order_scale_and_offset_of_examples_change_nothing(
            pairs in prop::collection::vec((-50_i32..50, -50_i32..50), 2..60)
        ) {
            let a: Vec<f64> = pairs.iter().map(|&(a, _)| f64::from(a)).collect();
            let b: Vec<f64> = pairs.iter().map(|&(_, b)| f64::from(b)).collect();
            let moved: Vec<f64> = a.iter().rev().map(|a| a * 4.0 + 1.0).collect();
            let turned: Vec<f64> = b.iter().rev().copied().collect();
            for of in [pearson, spearman] {
                match (of(&a, &b), of(&moved, &turned)) {
                    (Some(x), Some(y)) => prop_assert!((x - y).abs() < 1e-12),
                    (x, y) => prop_assert_eq!(x, y),
                }
            }
        }
    }
}
