use burn::module::{Module, Param};
use burn::tensor::Tensor;
use cloze_spec::norm::Norm;

use crate::op::{self, Dropout};
use crate::weights::Source;

/// Layer normalisation with gain and bias, and the residual sum before it.
///
/// # Source
/// Ba et al., 2016, arXiv:1607.06450.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    gain: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    eps: f32,
}

impl LayerNorm {
    pub fn new(settings: &Norm, source: &Source<'_>, name: &str) -> Self {
        let Norm::Layer(layer) = settings;
        Self {
            gain: Param::from_tensor(source.tensor(&format!("{name}.gain"))),
            bias: Param::from_tensor(source.tensor(&format!("{name}.bias"))),
            eps: layer.eps,
        }
    }

    /// `norm(x)`: `[N, D]` → `[N, D]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        op::add_norm(
            x,
            None,
            self.gain.val(),
            self.bias.val(),
            self.eps,
            Dropout::NONE,
        )
    }

    /// `norm(residual + dropout(x))`: `[N, D]` → `[N, D]`.
    pub fn add_forward(&self, x: Tensor<2>, residual: Tensor<2>, dropout: Dropout) -> Tensor<2> {
        op::add_norm(
            x,
            Some(residual),
            self.gain.val(),
            self.bias.val(),
            self.eps,
            dropout,
        )
    }
}
