//! Keeping activations in range.

use serde::{Deserialize, Serialize};

/// A normalisation, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Norm {
    /// Layer normalisation with gain and bias (Ba et al., 2016, arXiv:1607.06450).
    Layer(Layer),
}

/// Settings of layer normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Added to the variance.
    pub eps: f32,
}
