use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::Source;

/// Multi-head softmax attention with one projection for queries, keys and values.
///
/// # Source
/// Vaswani et al., NeurIPS 2017, §3.2.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    qkv: Linear,
    output: Linear,
    heads: usize,
    causal: bool,
    dropout: f32,
}

impl Attention {
    pub fn new(settings: &mixer::Attention, width: usize, source: &Source<'_>, name: &str) -> Self {
        assert!(
            width.is_multiple_of(settings.heads),
            "heads divide the width, as validated"
        );
        Self {
            qkv: Linear::new(source, &format!("{name}.qkv")),
            output: Linear::new(source, &format!("{name}.output")),
            heads: settings.heads,
            causal: settings.causal,
            dropout: settings.dropout,
        }
    }
}

impl Mixer for Attention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let qkv = self.qkv.forward(x, Activation::Identity); // [N, 3D]
        let dropout = noise.dropout(self.dropout);
        let mut mixed = op::attention(qkv, &sequences.offsets, self.heads, self.causal, dropout);
        if selected {
            mixed = op::select_rows(mixed, &sequences.rows);
        }
        self.output.forward(mixed, Activation::Identity)
    }
}
