use serde::{Deserialize, Serialize};

use super::{fault, no_settings};

/// How a prediction is judged, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy over all items.
    #[serde(deserialize_with = "no_settings")]
    Softmax,
    /// Cross-entropy over the right item and a few drawn ones.
    SampledSoftmax(SampledSoftmax),
    /// Right or drawn, yes or no, for each item by itself.
    Bce(Bce),
    /// The same, corrected for overconfidence.
    Gbce(Gbce),
}

/// Settings of sampled softmax.
///
/// # Source
/// Bengio and Senécal, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model,
/// IEEE Transactions on Neural Networks 19(4), 2008; Yi et al., Sampling-Bias-Corrected Neural Modeling for Large
/// Corpus Item Recommendations, `RecSys` 2019.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledSoftmax {
    /// Items drawn a prediction, `K`.
    pub negatives: usize,
    /// How they are drawn.
    pub sampler: Sampler,
    /// Take from each score the logarithm of how often its item is expected among the drawn ones, so that an item
    /// is not pushed down for being drawn often.
    pub log_q: bool,
}

/// Settings of binary cross-entropy.
///
/// # Source
/// Kang and `McAuley`, Self-Attentive Sequential Recommendation, ICDM 2018, arXiv:1808.09781, §III-E.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bce {
    /// Items drawn a prediction, `K`.
    pub negatives: usize,
    /// How they are drawn.
    pub sampler: Sampler,
}

/// Settings of generalised binary cross-entropy. Negatives are drawn uniformly, as its derivation wants.
///
/// # Source
/// Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
/// Sampling, `RecSys` 2023, arXiv:2308.07192.
/// # Departures
/// With more draws than other items, `α` is 1: the paper has no rate above that of drawing them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gbce {
    /// Items drawn a prediction, `K`.
    pub negatives: usize,
    /// Calibration, from 0 (plain binary cross-entropy) to 1 (scores become probabilities).
    pub t: f64,
}

/// How negatives are drawn; with replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Every item alike.
    Uniform,
    /// An item as often as it occurs in the training sequences.
    Popularity,
}

impl Gbce {
    /// The power of the positive's probability: `β = α (t (1 − 1/α) + 1/α)` with `α = negatives / (items − 1)`.
    pub fn beta(&self, items: usize) -> f64 {
        // A single item has no others to draw from; the result must still be a number.
        let alpha = (self.negatives as f64 / (items.max(2) - 1) as f64).min(1.0);
        alpha * (self.t * (1.0 - 1.0 / alpha) + 1.0 / alpha)
    }
}

impl Loss {
    /// How many negatives a prediction needs and how they are drawn; nothing if none.
    pub fn negatives(&self) -> Option<(usize, Sampler)> {
        match *self {
            Self::Softmax => None,
            Self::SampledSoftmax(SampledSoftmax {
                negatives, sampler, ..
            })
            | Self::Bce(Bce { negatives, sampler }) => Some((negatives, sampler)),
            Self::Gbce(Gbce { negatives, .. }) => Some((negatives, Sampler::Uniform)),
        }
    }

    pub(super) fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        fault(
            &mut faults,
            self.negatives().is_none_or(|(count, _)| count > 0),
            || format!("{path}.negatives: expected at least 1, found 0"),
        );
        if let Self::Gbce(Gbce { t, .. }) = self {
            fault(&mut faults, (0.0..=1.0).contains(t), || {
                format!("{path}.t: expected a number from 0 to 1, found {t}")
            });
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_runs_from_one_at_t_0_to_the_sampling_rate_at_t_1() {
        let gbce = |t| Gbce { negatives: 256, t };
        let items = 3417;
        assert!((gbce(0.0).beta(items) - 1.0).abs() < 1e-12);
        assert!((gbce(1.0).beta(items) - 256.0 / 3416.0).abs() < 1e-12);
        // 0.25 + 0.75 · 256/3416
        assert!((gbce(0.75).beta(items) - 0.306_206_088_99).abs() < 1e-10);
        assert!((gbce(0.75).beta(100) - 1.0).abs() < 1e-12);
        assert!(gbce(0.75).beta(1).is_finite());
    }

    #[test]
    fn tables_are_read_and_written_back() {
        for text in [
            "kind = \"softmax\"\n",
            "kind = \"sampled-softmax\"\nnegatives = 9\nsampler = \"popularity\"\nlog_q = true\n",
            "kind = \"bce\"\nnegatives = 1\nsampler = \"uniform\"\n",
            "kind = \"gbce\"\nnegatives = 256\nt = 0.75\n",
        ] {
            let loss: Loss = toml::from_str(text).unwrap();
            assert_eq!(toml::to_string(&loss).unwrap(), text);
            assert!(loss.faults("loss").is_empty());
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let loss = Loss::Gbce(Gbce {
            negatives: 0,
            t: 1.5,
        });
        assert_eq!(
            loss.faults("loss"),
            [
                "loss.negatives: expected at least 1, found 0",
                "loss.t: expected a number from 0 to 1, found 1.5"
            ]
        );
    }
}
