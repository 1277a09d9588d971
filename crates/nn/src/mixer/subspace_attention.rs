use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::Source;

/// Multi-head softmax attention whose queries, keys and values are the same.
///
/// # Source
/// Yu et al., JMLR 2024, arXiv:2311.13110, §2.
#[derive(Module, Debug)]
pub(crate) struct SubspaceAttention {
    subspace: Linear,
    output: Linear,
    heads: usize,
    causal: bool,
    dropout: f32,
}

impl SubspaceAttention {
    pub fn new(settings: &mixer::SubspaceAttention, source: &Source<'_>, name: &str) -> Self {
        Self {
            subspace: Linear::unbiased(source, &format!("{name}.subspace")),
            output: Linear::new(source, &format!("{name}.output")),
            heads: settings.heads,
            causal: settings.causal,
            dropout: settings.dropout,
        }
    }
}

impl Mixer for SubspaceAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let part = self.subspace.forward(x, Activation::Identity); // [N, D]
        let qkv = Tensor::cat(vec![part.clone(), part.clone(), part], 1);
        let dropout = noise.dropout(self.dropout);
        let mixed = op::attention(
            qkv,
            &sequences.offsets,
            self.heads,
            op::Sight {
                causal: self.causal,
                window: None,
            },
            dropout,
        );
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
