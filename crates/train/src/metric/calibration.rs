//! Whether probabilities mean what they say.
//!
//! # Source
//! Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599, §2; Brier, Verification of
//! forecasts expressed in terms of probability, 1950.

use serde::Serialize;

/// Examples whose confidence lies in `(low, high]`; those of no confidence at all are in the first bin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many.
    pub count: u64,
    /// Mean confidence; 0 of an empty bin.
    pub confidence: f64,
    /// Share that is right; 0 of an empty bin.
    pub accuracy: f64,
}

/// Examples sorted into `count` bins of equal width by confidence: the probability of the predicted class.
///
/// # Panics
/// If the lengths differ or there is no bin.
pub fn bins(confidences: &[f64], is_correct: &[bool], count: usize) -> Vec<Bin> {
    assert_eq!(confidences.len(), is_correct.len(), "as many examples");
    assert!(count > 0, "there is a bin");
    let edge = |bin: usize| bin as f64 / count as f64;
    let mut bins: Vec<Bin> = (0..count)
        .map(|bin| Bin {
            low: edge(bin),
            high: edge(bin + 1),
            count: 0,
            confidence: 0.0,
            accuracy: 0.0,
        })
        .collect();
    for (&confidence, &correct) in confidences.iter().zip(is_correct) {
        let bin = bins[..count - 1].partition_point(|bin| bin.high < confidence);
        bins[bin].count += 1;
        bins[bin].confidence += confidence;
        bins[bin].accuracy += f64::from(u8::from(correct));
    }
    for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    bins
}

/// Expected calibration error: the mean over examples of |accuracy − confidence| of their bins. 0 without examples.
pub fn expected_error(bins: &[Bin]) -> f64 {
    let total: u64 = bins.iter().map(|bin| bin.count).sum();
    let gap = |bin: &Bin| (bin.accuracy - bin.confidence).abs() * bin.count as f64;
    bins.iter().map(gap).sum::<f64>() / total.max(1) as f64
}

/// Brier score: the mean over examples of Σ (probability − whether it is the class)², over classes; of two classes half
/// of that, the square for the positive one. 0 without examples.
///
/// # Shapes
/// `probabilities`: `[N, C]`, `labels`: `[N]`
/// # Source
/// `brier_score_loss` of scikit-learn 1.9, which halves in the same case.
/// # Panics
/// If the lengths do not fit.
pub fn brier(probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
    assert_eq!(probabilities.len(), labels.len() * classes, "[N, C]");
    let mut sum = 0.0;
    for (row, &label) in probabilities.chunks(classes).zip(labels) {
        for (class, probability) in row.iter().enumerate() {
            sum += (probability - f64::from(u8::from(class == label))).powi(2);
        }
    }
    let halved = if classes == 2 { 2.0 } else { 1.0 };
    sum / halved / labels.len().max(1) as f64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is compared is exact")]
mod tests {
    use super::*;

    #[test]
    fn upper_ends_belong_to_their_bin() {
        let found = bins(&[0.0, 0.2, 0.200_001, 1.0], &[true; 4], 5);
        let counts: Vec<_> = found.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 1]);
    }

    #[test]
    fn sure_and_right_is_calibrated_and_sure_and_wrong_is_not() {
        assert_eq!(expected_error(&bins(&[1.0; 3], &[true; 3], 15)), 0.0);
        assert_eq!(expected_error(&bins(&[1.0; 3], &[false; 3], 15)), 1.0);
        assert_eq!(expected_error(&bins(&[], &[], 15)), 0.0);
        assert_eq!(brier(&[0.0, 1.0], &[1], 2), 0.0);
        assert_eq!(brier(&[0.0, 1.0], &[0], 2), 1.0);
        assert_eq!(brier(&[0.0, 1.0, 0.0], &[0], 3), 2.0);
    }
}
