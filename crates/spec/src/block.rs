//! How mixer, feed-forward and norms are wired into a layer.

use serde::{Deserialize, Serialize};

/// The wiring, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Block {
    /// `x = norm(x + dropout(f(x)))` for mixer and feed-forward in turn (BERT).
    PostNorm(Residual),
    /// `x = x + dropout(f(norm(x)))`, and one more norm after the last layer (GPT-2; Xiong et al., ICML 2020).
    PreNorm(Residual),
}

/// Settings of the residual connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Share of each branch's output dropped while training.
    pub dropout: f32,
}
