//! Keeping activations in range.

use serde::{Deserialize, Serialize};

use crate::Faults;
use crate::inventory::{List, Start};

/// A normalisation, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Norm {
    /// Layer normalisation with gain and bias (Ba et al., 2016, arXiv:1607.06450).
    Layer(Layer),
    /// Division by the root of the mean square, with gain (Zhang and Sennrich, 2019, arXiv:1910.07467).
    Rms(Rms),
    /// `tanh(slope · x)` with gain and bias, in a norm's place (Zhu et al., CVPR 2025, arXiv:2503.10622).
    DynamicTanh(DynamicTanh),
}

/// Settings of layer normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Added to the variance.
    pub eps: f32,
}

/// Settings of normalisation by the mean square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rms {
    /// Added to the mean square.
    pub eps: f32,
}

/// Settings of the hyperbolic tangent in a norm's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicTanh {
    /// The slope before training, one learned number; 0.5 in the paper.
    pub slope: f32,
}

impl Norm {
    pub(crate) fn check(&self, path: &str, faults: &mut Faults) {
        let (key, value) = match self {
            Self::Layer(layer) => ("eps", layer.eps),
            Self::Rms(rms) => ("eps", rms.eps),
            Self::DynamicTanh(tanh) => ("slope", tanh.slope),
        };
        faults.check(
            value > 0.0 && value.is_finite(),
            &format!("{path}.{key}"),
            || format!("expected a positive number, found {value}"),
        );
    }

    pub(crate) fn list(&self, name: &str, width: usize, list: &mut List) {
        match self {
            Self::Layer(_) => list.norm(name, width),
            Self::Rms(_) => list.add(&format!("{name}.gain"), &[width]),
            Self::DynamicTanh(tanh) => {
                list.start(&format!("{name}.slope"), &[1], Start::Constant(tanh.slope));
                list.norm(name, width);
            }
        }
    }
}
