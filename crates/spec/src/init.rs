//! What weights are before training.

use serde::{Deserialize, Serialize};

/// Initialisation of matrices and embeddings; biases start at 0, gains at 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Init {
    /// Normal with mean 0, redrawn beyond two standard deviations (BERT).
    TruncatedNormal(TruncatedNormal),
}

/// Settings of the truncated normal distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruncatedNormal {
    /// Standard deviation before truncation.
    pub std: f32,
}
