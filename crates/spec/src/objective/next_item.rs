use serde::{Deserialize, Serialize};

use super::Loss;

/// Every position predicts the item after it; the mixer must be causal.
///
/// # Source
/// Kang and `McAuley`, Self-Attentive Sequential Recommendation, ICDM 2018, arXiv:1808.09781, §III.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextItem {
    /// The loss of each prediction.
    pub loss: Loss,
}
