use burn::module::{Module, Param};
use burn::tensor::Tensor;
use cloze_spec::norm::{self, Norm};

use crate::op::{self, Dropout};
use crate::weights::Source;

/// A norm of any kind.
#[derive(Module, Debug)]
pub(crate) enum AnyNorm {
    Layer(LayerNorm),
    Rms(Rms),
    DynamicTanh(DynamicTanh),
}

impl AnyNorm {
    pub fn new(settings: &Norm, source: &Source<'_>, name: &str) -> Self {
        match settings {
            Norm::Layer(layer) => Self::Layer(LayerNorm::new(layer, source, name)),
            Norm::Rms(rms) => Self::Rms(Rms::new(rms.eps, source, name)),
            Norm::DynamicTanh(_) => Self::DynamicTanh(DynamicTanh::new(source, name)),
        }
    }

    /// `norm(x)`: `[N, D]` → `[N, D]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
            Self::DynamicTanh(norm) => norm.forward(x),
        }
    }

    /// `norm(residual + dropout(x))`: `[N, D]` → `[N, D]`.
    pub fn add_forward(
        &self,
        x: Tensor<2>,
        residual: Option<Tensor<2>>,
        dropout: Dropout,
    ) -> Tensor<2> {
        match (self, residual) {
            (Self::Layer(norm), Some(residual)) => norm.add_forward(x, residual, dropout),
            (norm, residual) => norm.forward(op::dropout_add(x, residual, dropout)),
        }
    }
}

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
    fn new(layer: &norm::Layer, source: &Source<'_>, name: &str) -> Self {
        Self {
            gain: Param::from_tensor(source.tensor(&format!("{name}.gain"))),
            bias: Param::from_tensor(source.tensor(&format!("{name}.bias"))),
            eps: layer.eps,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        op::add_norm(
            x,
            None,
            self.gain.val(),
            self.bias.val(),
            self.eps,
            Dropout::NONE,
        )
    }

    fn add_forward(&self, x: Tensor<2>, residual: Tensor<2>, dropout: Dropout) -> Tensor<2> {
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

/// Each row over the root of its mean square, times a gain.
///
/// # Source
/// Zhang and Sennrich, `NeurIPS` 2019, arXiv:1910.07467.
#[derive(Module, Debug)]
pub(crate) struct Rms {
    gain: Param<Tensor<1>>,
    eps: f32,
}

impl Rms {
    pub fn new(eps: f32, source: &Source<'_>, name: &str) -> Self {
        Self {
            gain: Param::from_tensor(source.tensor(&format!("{name}.gain"))),
            eps,
        }
    }

    /// `[N, D]` → `[N, D]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        op::rms(x, self.gain.val(), None, self.eps)
    }

    /// The same times `SiLU` of `gate`, `[N, D]`.
    pub fn gated(&self, x: Tensor<2>, gate: Tensor<2>) -> Tensor<2> {
        op::rms(x, self.gain.val(), Some(gate), self.eps)
    }
}

/// `tanh(slope · x) ⊙ gain + bias`, in a norm's place.
///
/// # Source
/// Zhu et al., CVPR 2025, arXiv:2503.10622, §4.
#[derive(Module, Debug)]
pub(crate) struct DynamicTanh {
    slope: Param<Tensor<1>>,
    gain: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl DynamicTanh {
    fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            slope: source.parameter(&format!("{name}.slope")),
            gain: source.parameter(&format!("{name}.gain")),
            bias: source.parameter(&format!("{name}.bias")),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        bent(x, self.slope.val(), self.gain.val(), self.bias.val())
    }
}

/// `tanh(slope · x) ⊙ gain + bias`: `[N, D]` → `[N, D]`.
pub(crate) fn bent(x: Tensor<2>, slope: Tensor<1>, gain: Tensor<1>, bias: Tensor<1>) -> Tensor<2> {
    (x * slope.unsqueeze()).tanh() * gain.unsqueeze() + bias.unsqueeze()
}
