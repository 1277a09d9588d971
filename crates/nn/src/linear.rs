use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::op::{self, Activation};
use crate::weights::Source;

/// `activation(x · weightᵀ + bias)`; some have no bias.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    pub fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: Some(Param::from_tensor(source.tensor(&format!("{name}.bias")))),
        }
    }

    pub fn unbiased(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: None,
        }
    }

    /// `[O, I]` and `[O]`.
    pub fn parts(&self) -> (Tensor<2>, Tensor<1>) {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[0]], &weight.device()),
        };
        (weight, bias)
    }

    /// # Shapes
    /// `[N, I]` → `[N, O]`
    pub fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let (weight, bias) = self.parts();
        op::linear(x, weight, bias, activation)
    }
}
