use burn::module::{Module, Param};
use burn::tensor::Tensor;
use cloze_spec::{Model, head};

use crate::linear::Linear;
use crate::norm::AnyNorm;
use crate::op::Activation;
use crate::weights::Source;

/// Vectors into what is compared with the item vectors.
#[derive(Module, Debug)]
pub(crate) struct Tied {
    transform: Option<Linear>,
    norm: Option<AnyNorm>,
    bias: Option<Param<Tensor<1>>>,
}

impl Tied {
    pub fn new(model: &Model, source: &Source<'_>) -> Self {
        let head::Head::Tied(tied) = &model.head;
        Self {
            transform: tied
                .transform
                .then(|| Linear::new(source, "head.transform")),
            norm: tied
                .transform
                .then(|| AnyNorm::new(&model.stack.norm, source, "head.norm")),
            bias: tied
                .bias
                .then(|| Param::from_tensor(source.tensor("head.bias"))),
        }
    }

    /// # Shapes
    /// `[M, D]` → `[M, D]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.transform, &self.norm) {
            (Some(transform), Some(norm)) => norm.forward(transform.forward(x, Activation::Gelu)),
            _ => x,
        }
    }

    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }
}
