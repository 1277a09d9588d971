//! Optimisers.

use serde::{Deserialize, Serialize};

/// An optimiser, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Optim {
    /// Adam with decoupled weight decay.
    Adamw(AdamW),
}

/// Adam with decoupled weight decay on matrices and embeddings, not on biases and norms.
///
/// # Source
/// Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Highest learning rate; the schedule scales it.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of the weight taken off a step, times the learning rate.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm over all parameters; absent: never.
    pub clip_norm: Option<f64>,
    /// Rows of look-up tables, of those that a feed-forward part has, that no token of a step reads keep their value and
    /// their means, as in `SparseAdam` of `PyTorch`; absent: they decay and follow past gradients as all else does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_rows_only: bool,
}
