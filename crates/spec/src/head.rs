//! From vectors to scores.

use serde::{Deserialize, Serialize};

/// A head, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Head {
    /// Scores against the input embedding table.
    Tied(Tied),
}

/// `score = transform(h) · item + bias`, the item vectors shared with the input.
///
/// # Source
/// Devlin et al., BERT, NAACL 2019, as in the authors' `get_masked_lm_output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tied {
    /// Put `norm(gelu(linear(h)))` before the product.
    pub transform: bool,
    /// Add a learned bias an item.
    pub bias: bool,
}
