use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::op::{self, Activation};
use crate::weights::Source;

/// `activation(x · weightᵀ + bias)`.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    pub fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: Param::from_tensor(source.tensor(&format!("{name}.bias"))),
        }
    }

    /// # Shapes
    /// `[N, I]` → `[N, O]`
    pub fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        op::linear(x, self.weight.val(), self.bias.val(), activation)
    }
}
