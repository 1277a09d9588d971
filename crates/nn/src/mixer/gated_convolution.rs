use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::{depthwise_grid, sides};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// `p ← widen(p) ⊙ q`, again and again, with `q` what a convolution makes of ever wider slices.
///
/// # Source
/// Rao et al., `NeurIPS` 2022, arXiv:2207.14284, §3.1; along a sequence.
#[derive(Module, Debug)]
pub(crate) struct GatedConvolution {
    input: Linear,
    convolution: Convolution,
    widen: Vec<Linear>,
    output: Linear,
    scale: f32,
    causal: bool,
}

/// A convolution of each channel by itself, with bias.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    weight: Weight<2>,
    bias: Weight<1>,
}

impl Convolution {
    pub fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: source.parameter(&format!("{name}.weight")),
            bias: source.parameter(&format!("{name}.bias")),
        }
    }

    /// `[N, D]` → `[N, D]`, through `SiLU` if `silu`; its own token is the last that a causal one sees.
    pub fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        causal: bool,
        silu: bool,
    ) -> Tensor<2> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let reach = sides(weight.dims()[0], causal);
        op::depthwise(x, weight, Some(bias), &sequences.offsets, reach, silu)
    }

    /// The same over a grid of `columns`, its weights those of a square.
    pub fn forward_grid(&self, x: Tensor<2>, sequences: &Sequences, columns: usize) -> Tensor<2> {
        let weight = self.weight.val();
        depthwise_grid(x, &sequences.offsets, columns, &weight) + self.bias.val().unsqueeze()
    }

    /// The causal one read from each sequence's end: its own token is the last that it sees; through `SiLU`.
    pub fn forward_reversed(&self, x: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        let (weight, bias) = (self.weight.val().flip([0]), self.bias.val());
        let reach = [0, weight.dims()[0] - 1];
        op::depthwise(x, weight, Some(bias), &sequences.offsets, reach, true)
    }
}

impl GatedConvolution {
    pub fn new(settings: &mixer::GatedConvolution, source: &Source<'_>, name: &str) -> Self {
        let widen = |index: usize| Linear::new(source, &format!("{name}.widen.{index}"));
        Self {
            input: Linear::new(source, &format!("{name}.input")),
            convolution: Convolution::new(source, &format!("{name}.convolution")),
            widen: (0..settings.order - 1).map(widen).collect(),
            output: Linear::new(source, &format!("{name}.output")),
            scale: settings.scale,
            causal: settings.causal,
        }
    }
}

impl Mixer for GatedConvolution {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let [tokens, width] = x.dims();
        let input = self.input.forward(x, Activation::Identity); // [N, 2D]
        let first = width >> self.widen.len();
        let product = input.clone().slice([0..tokens, 0..first]);
        let convolved = self
            .convolution
            .forward(
                input.slice([0..tokens, first..2 * width]),
                sequences,
                self.causal,
                false,
            )
            .mul_scalar(self.scale);
        let factor =
            |from: usize, wide: usize| convolved.clone().slice([0..tokens, from..from + wide]);
        let mut product = product * factor(0, first);
        let mut from = first;
        for widen in &self.widen {
            let wider = widen.forward(product, Activation::Identity);
            let wide = wider.dims()[1];
            product = wider * factor(from, wide);
            from += wide;
        }
        self.output
            .forward(sequences.wanted(product, selected), Activation::Identity)
    }
}
