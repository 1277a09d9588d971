//! What happens to each token by itself.

use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::ffn;

use crate::linear::Linear;
use crate::op::Activation;
use crate::weights::Source;

/// A feed-forward component of any kind.
#[derive(Module, Debug)]
pub(crate) enum AnyFfn {
    Mlp(Mlp),
}

impl AnyFfn {
    pub fn new(settings: &ffn::Ffn, source: &Source<'_>, name: &str) -> Self {
        match settings {
            ffn::Ffn::Mlp(mlp) => Self::Mlp(Mlp::new(mlp, source, name)),
        }
    }

    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x),
        }
    }
}

/// `down(gelu(up(x)))`.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    fn new(settings: &ffn::Mlp, source: &Source<'_>, name: &str) -> Self {
        let ffn::Activation::Gelu = settings.activation;
        Self {
            up: Linear::new(source, &format!("{name}.up")),
            down: Linear::new(source, &format!("{name}.down")),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down
            .forward(self.up.forward(x, Activation::Gelu), Activation::Identity)
    }
}
