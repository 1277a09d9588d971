use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::{Mixer, read_shares, sum_by};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation, Dropout};
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

    /// What each token takes of `values` from the others, by the likeness of `part`: `[N, D]` both → `[N, D]`.
    fn take(
        &self,
        part: &Tensor<2>,
        values: Tensor<2>,
        offsets: &Arc<[u32]>,
        dropout: Dropout,
    ) -> Tensor<2> {
        let qkv = Tensor::cat(vec![part.clone(), part.clone(), values], 1);
        let sight = op::Sight {
            causal: self.causal,
            ..op::Sight::default()
        };
        op::attention(qkv, offsets, self.heads, sight, dropout)
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
        let dropout = noise.dropout(self.dropout);
        let mixed = self.take(&part, part.clone(), &sequences.offsets, dropout);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }

    fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        let ([tokens, width], device) = (x.dims(), x.device());
        let offsets = Arc::from([0, tokens as u32]);
        let part = self.subspace.forward(x, Activation::Identity);
        let sides = [tokens, self.heads, width / self.heads];
        Some(read_shares(sides, &device, |values| {
            self.take(&part, values, &offsets, Dropout::NONE)
        }))
    }

    fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        let values = self.subspace.forward(x, Activation::Identity);
        Some(
            self.output
                .forward(sum_by(shares, values), Activation::Identity),
        )
    }
}
