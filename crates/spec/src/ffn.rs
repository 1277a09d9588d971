//! What happens to each token by itself.

use serde::{Deserialize, Serialize};

/// A feed-forward component, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Ffn {
    /// Two linear layers with an activation between them.
    Mlp(Mlp),
}

/// `down(activation(up(x)))`, both with bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Width between the two layers, `F`.
    pub width: usize,
    /// What stands between them.
    pub activation: Activation,
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function, not the tanh approximation
    /// (Hendrycks and Gimpel, 2016, arXiv:1606.08415).
    Gelu,
}
