//! Areas under curves over all thresholds of a score.
//!
//! # Source
//! `roc_auc_score` and `average_precision_score` of scikit-learn 1.9.

/// Area under the receiver operating characteristic: the probability that a positive example has a higher score than
/// a negative one, where equal scores count half. Nothing if all examples are of one side.
///
/// # Panics
/// If the lengths differ.
pub fn roc_auc(scores: &[f64], is_positive: &[bool]) -> Option<f64> {
    let (mut twice, mut negatives, mut positives) = (0_u128, 0_u128, 0_u128);
    // From the lowest score upwards: each positive beats the negatives below it.
    for (p, n) in groups(scores, is_positive).into_iter().rev() {
        twice += u128::from(p) * (2 * negatives + u128::from(n));
        positives += u128::from(p);
        negatives += u128::from(n);
    }
    let pairs = positives * negatives;
    (pairs > 0).then(|| twice as f64 / (2 * pairs) as f64)
}

/// Average precision: Σ (recall at a threshold − recall at the one above it) · precision at the threshold. Examples of
/// one score share a threshold, and nothing is interpolated. Nothing without positive examples.
///
/// # Departures
/// scikit-learn warns and says 0 where no example is positive.
/// # Panics
/// If the lengths differ.
pub fn average_precision(scores: &[f64], is_positive: &[bool]) -> Option<f64> {
    let groups = groups(scores, is_positive);
    let all: u64 = groups.iter().map(|&(positives, _)| positives).sum();
    let (mut hits, mut taken, mut sum) = (0, 0, 0.0);
    for (p, n) in groups {
        hits += p;
        taken += p + n;
        sum += p as f64 / all as f64 * (hits as f64 / taken as f64);
    }
    (all > 0).then_some(sum)
}

/// How the areas of several classes, each against the rest, become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// Every class counts the same.
    Macro,
    /// A class counts by its number of examples.
    Weighted,
}

/// The mean over classes of an `area`, each class against the rest. Nothing if a class has none.
///
/// # Shapes
/// `scores`: `[N, C]`, `labels`: `[N]`
/// # Panics
/// If the lengths do not fit.
pub fn one_against_rest(
    area: impl Fn(&[f64], &[bool]) -> Option<f64>,
    scores: &[f64],
    labels: &[usize],
    classes: usize,
    mean: Classes,
) -> Option<f64> {
    assert_eq!(scores.len(), labels.len() * classes, "scores [N, C]");
    let (mut sum, mut weights) = (0.0, 0.0);
    for class in 0..classes {
        let column: Vec<f64> = scores
            .iter()
            .skip(class)
            .step_by(classes)
            .copied()
            .collect();
        let is_positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
        let weight = match mean {
            Classes::Macro => 1.0,
            Classes::Weighted => is_positive.iter().filter(|&&positive| positive).count() as f64,
        };
        sum += weight * area(&column, &is_positive)?;
        weights += weight;
    }
    (weights > 0.0).then(|| sum / weights)
}

/// Positive and negative examples of each score, from the highest down.
fn groups(scores: &[f64], is_positive: &[bool]) -> Vec<(u64, u64)> {
    assert_eq!(scores.len(), is_positive.len(), "a score for each example");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Adding zero makes the two zeros one.
    order.sort_unstable_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
    order
        .chunk_by(|&a, &b| (scores[a] + 0.0).total_cmp(&(scores[b] + 0.0)).is_eq())
        .map(|group| {
            let positives = group
                .iter()
                .filter(|&&example| is_positive[example])
                .count() as u64;
            (positives, group.len() as u64 - positives)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_area_is_a_share_of_pairs() {
        let area = roc_auc(&[0.1, 0.4, 0.4, 0.8], &[false, false, true, true]);
        assert_eq!(area, Some(3.5 / 4.0));
        assert_eq!(roc_auc(&[1.0], &[true]), None);
        assert_eq!(average_precision(&[1.0], &[false]), None);
        assert_eq!(roc_auc(&[0.0, -0.0], &[true, false]), Some(0.5));
    }

    proptest! {
        #[test]
        fn only_the_order_of_scores_matters(
            examples in prop::collection::vec((-3_i32..3, any::<bool>()), 2..50)
        ) {
            let scores: Vec<f64> = examples.iter().map(|&(score, _)| f64::from(score)).collect();
            let positive: Vec<bool> = examples.iter().map(|&(_, positive)| positive).collect();
            let grown: Vec<f64> = scores.iter().map(|score| score.exp() + 7.0).collect();
            prop_assert_eq!(roc_auc(&scores, &positive), roc_auc(&grown, &positive));
            prop_assert_eq!(average_precision(&scores, &positive), average_precision(&grown, &positive));
            let negative: Vec<bool> = positive.iter().map(|positive| !positive).collect();
            if let (Some(a), Some(b)) = (roc_auc(&scores, &positive), roc_auc(&scores, &negative)) {
                prop_assert!((a + b - 1.0).abs() < 1e-14);
            }
        }
    }
}
