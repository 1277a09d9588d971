use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::block;
use cloze_spec::model::Stack;

use crate::ffn::AnyFfn;
use crate::mixer::{AnyMixer, Mixer};
use crate::noise::Noise;
use crate::norm::LayerNorm;
use crate::op;
use crate::sequences::Sequences;
use crate::weights::Source;

/// One layer: mixer and feed-forward, each with its residual connection and norm.
#[derive(Module, Debug)]
pub(crate) struct Block {
    mixer: AnyMixer,
    mixer_norm: LayerNorm,
    ffn: AnyFfn,
    ffn_norm: LayerNorm,
    pre_norm: bool,
    dropout: f32,
}

impl Block {
    pub fn new(stack: &Stack, width: usize, source: &Source<'_>, name: &str) -> Self {
        let (pre_norm, residual) = match &stack.block {
            block::Block::PreNorm(residual) => (true, residual),
            block::Block::PostNorm(residual) => (false, residual),
        };
        Self {
            mixer: AnyMixer::new(&stack.mixer, width, source, &format!("{name}.mixer")),
            mixer_norm: LayerNorm::new(&stack.norm, source, &format!("{name}.mixer_norm")),
            ffn: AnyFfn::new(&stack.ffn, source, &format!("{name}.ffn")),
            ffn_norm: LayerNorm::new(&stack.norm, source, &format!("{name}.ffn_norm")),
            pre_norm,
            dropout: residual.dropout,
        }
    }

    /// If `selected`, only the batch's `rows` are carried on once the tokens have been mixed: after that each token is
    /// by itself, so the last layer need not compute what nobody reads.
    ///
    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]` if `selected`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let input = if self.pre_norm {
            self.mixer_norm.forward(x.clone())
        } else {
            x.clone()
        };
        let mixed = self.mixer.forward(input, sequences, selected, noise);
        let x = if selected {
            op::select_rows(x, &sequences.rows)
        } else {
            x
        };
        if self.pre_norm {
            let x = op::dropout_add(mixed, Some(x), noise.dropout(self.dropout));
            let fed = self.ffn.forward(self.ffn_norm.forward(x.clone()));
            op::dropout_add(fed, Some(x), noise.dropout(self.dropout))
        } else {
            let x = self
                .mixer_norm
                .add_forward(mixed, x, noise.dropout(self.dropout));
            let fed = self.ffn.forward(x.clone());
            self.ffn_norm
                .add_forward(fed, x, noise.dropout(self.dropout))
        }
    }
}
