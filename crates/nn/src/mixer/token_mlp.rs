use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::Layout;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::Source;

/// `down(gelu(up(x)))` along the sequence, for each channel by itself.
///
/// # Source
/// Tolstikhin et al., `NeurIPS` 2021, arXiv:2105.01601, eq. 1, first line.
#[derive(Module, Debug)]
pub(crate) struct TokenMlp {
    up: Linear,
    down: Linear,
}

impl TokenMlp {
    pub fn new(_: &mixer::TokenMlp, source: &Source<'_>, name: &str) -> Self {
        Self {
            up: Linear::new(source, &format!("{name}.up")),
            down: Linear::new(source, &format!("{name}.down")),
        }
    }
}

impl Mixer for TokenMlp {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let width = x.dims()[1];
        let ((up, up_bias), (down, down_bias)) = (self.up.parts(), self.down.parts());
        let [hidden, max_len] = up.dims();
        let layout = Layout::within(&sequences.offsets, max_len);
        let (rows, places) = (layout.rows, layout.places);
        // [B, T, D] → [B·D, T]
        let channels = layout
            .spread(x)
            .swap_dims(1, 2)
            .reshape([rows * width, places]);
        let inner = op::linear(
            channels,
            up.slice([0..hidden, 0..places]),
            up_bias,
            Activation::Gelu,
        );
        let mixed = op::linear(
            inner,
            down.slice([0..places, 0..hidden]),
            down_bias.narrow(0, 0, places),
            Activation::Identity,
        );
        let mixed = mixed.reshape([rows, width, places]).swap_dims(1, 2);
        sequences.wanted(layout.pack(mixed), selected)
    }
}
