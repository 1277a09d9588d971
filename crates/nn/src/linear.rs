use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::op::{self, Activation};
use crate::weights::Source;

/// `activation(x · weightᵀ + bias)`; some have no bias.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<LowRank>,
}

/// An update `scale · b·a` of a map's weight.
#[derive(Module, Debug)]
pub(crate) struct LowRank {
    a: Param<Tensor<2>>,
    b: Param<Tensor<2>>,
    scale: f32,
}

impl LowRank {
    /// That of the map `name`, if the values have one.
    pub fn of(source: &Source<'_>, name: &str) -> Option<Self> {
        let [a, b] = ["a", "b"].map(|part| format!("{name}.lora.{part}"));
        source.values.contains_key(&a).then(|| Self {
            a: source.parameter(&a),
            b: source.parameter(&b),
            scale: source.lora_scale,
        })
    }

    /// `weight` with its update.
    pub fn update(&self, weight: Tensor<2>) -> Tensor<2> {
        weight + self.b.val().matmul(self.a.val()).mul_scalar(self.scale)
    }
}

impl Linear {
    pub fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: Some(Param::from_tensor(source.tensor(&format!("{name}.bias")))),
            lora: LowRank::of(source, name),
        }
    }

    pub fn unbiased(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: None,
            lora: LowRank::of(source, name),
        }
    }

    /// `[O, I]` and `[O]`.
    pub fn parts(&self) -> (Tensor<2>, Tensor<1>) {
        let mut weight = self.weight.val();
        if let Some(lora) = &self.lora {
            weight = lora.update(weight);
        }
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
