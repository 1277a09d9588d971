use serde::{Deserialize, Serialize};

/// Multi-head softmax attention over the tokens of one sequence.
///
/// # Source
/// Vaswani et al., Attention Is All You Need, NeurIPS 2017, §3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
    /// Share of attention probabilities dropped while training.
    pub dropout: f32,
}
