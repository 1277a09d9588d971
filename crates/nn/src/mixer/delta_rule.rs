use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::sides;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::norm::Rms;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// `S ← S(I − βkkᵀ) + βvkᵀ`, `o = S q`: what the state holds at a key is replaced by a share of `β`.
///
/// # Source
/// Yang et al., `NeurIPS` 2024, arXiv:2406.06484, §3: chunks by the compact form of products of such steps.
#[derive(Module, Debug)]
pub(crate) struct DeltaRule {
    qkv: Linear,
    convolution: Kernel,
    strength: Linear,
    norm: Rms,
    output: Linear,
    heads: usize,
    chunk: usize,
    causal: bool,
}

/// Weights of a convolution without bias.
#[derive(Module, Debug)]
struct Kernel {
    weight: Weight<2>,
}

impl DeltaRule {
    pub fn new(settings: &mixer::DeltaRule, source: &Source<'_>, name: &str) -> Self {
        Self {
            qkv: Linear::unbiased(source, &format!("{name}.qkv")),
            convolution: Kernel {
                weight: source.parameter(&format!("{name}.convolution.weight")),
            },
            strength: Linear::unbiased(source, &format!("{name}.strength")),
            norm: Rms::new(1e-5, source, &format!("{name}.norm")),
            output: Linear::unbiased(source, &format!("{name}.output")),
            heads: settings.heads,
            chunk: settings.chunk,
            causal: settings.causal,
        }
    }
}

impl Mixer for DeltaRule {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let [tokens, width] = x.dims();
        let kernel = self.convolution.weight.val();
        let reach = sides(kernel.dims()[0], self.causal);
        let offsets = &sequences.offsets;
        let qkv = self.qkv.forward(x.clone(), Activation::Identity);
        let qkv = op::depthwise(qkv, kernel, None, offsets, reach, true); // [N, 3D]
        let strength = activation::sigmoid(self.strength.forward(x, Activation::Identity));
        let mixed = op::delta_rule(qkv, strength, offsets, self.heads, self.chunk);
        let by_head = mixed.reshape([tokens * self.heads, width / self.heads]);
        let mixed = self.norm.forward(by_head).reshape([tokens, width]);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
