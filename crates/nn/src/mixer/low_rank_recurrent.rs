use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::Layout;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::Source;

/// States `h` of both directions; heads whose scores are `tanh((P c) ⊙ (Q h))`, `c` the sequence's mean state, of
/// length 1 over the heads; and a map of a token's state plus one of what the heads pool.
///
/// # Source
/// Mehta et al., 2019, arXiv:1912.00835, §3.
#[derive(Module, Debug)]
pub(crate) struct LowRankRecurrent {
    input: Linear,
    forward: Linear,
    backward: Linear,
    context: Linear,
    state: Linear,
    output: Linear,
    pooled: Linear,
}

impl LowRankRecurrent {
    pub fn new(_: &mixer::LowRankRecurrent, source: &Source<'_>, name: &str) -> Self {
        let part = |part: &str| format!("{name}.{part}");
        Self {
            input: Linear::new(source, &part("input")),
            forward: Linear::new(source, &part("forward")),
            backward: Linear::new(source, &part("backward")),
            context: Linear::unbiased(source, &part("context")),
            state: Linear::unbiased(source, &part("state")),
            output: Linear::new(source, &part("output")),
            pooled: Linear::unbiased(source, &part("pooled")),
        }
    }
}

impl Mixer for LowRankRecurrent {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let device = x.device();
        let tokens = x.dims()[0];
        let input = self.input.forward(x, Activation::Identity); // [N, 6U]
        let gates = input.dims()[1] / 2;
        let pass = |index: usize, recurrent: &Linear| {
            let (weight, bias) = recurrent.parts();
            let input = input
                .clone()
                .slice([0..tokens, index * gates..(index + 1) * gates]);
            op::recurrent(input, weight, bias, &sequences.offsets, index == 1)
        };
        let states = Tensor::cat(vec![pass(0, &self.forward), pass(1, &self.backward)], 1); // [N, 2U]

        let layout = Layout::padded(&sequences.offsets, 1);
        let (rows, places) = (layout.rows, layout.places);
        let grid = layout.spread(states.clone()); // [B, T, 2U]
        let both = grid.dims()[2];
        let mean = grid.clone().sum_dim(1) / layout.counts(&device);
        let context = self
            .context
            .forward(mean.reshape([rows, both]), Activation::Identity); // [B, m]
        let heads = context.dims()[1];
        let scores = layout.spread(self.state.forward(states.clone(), Activation::Identity));
        let scores = (scores * context.reshape([rows, 1, heads])).tanh(); // [B, T, m]
        let length = scores.clone().square().sum_dim(2).add_scalar(1e-12).sqrt();
        let absent = layout
            .taken(&device)
            .sub_scalar(1.0)
            .mul_scalar(-op::HIDDEN);
        let weights = activation::softmax(scores / length + absent, 1);
        let pooled = weights.transpose().matmul(grid); // [B, m, 2U]
        let pooled = self
            .pooled
            .forward(pooled.reshape([rows, heads * both]), Activation::Identity);
        let width = pooled.dims()[1];
        let pooled = layout.pack(
            pooled
                .reshape([rows, 1, width])
                .expand([rows, places, width]),
        );
        let own = self
            .output
            .forward(sequences.wanted(states, selected), Activation::Identity);
        own + sequences.wanted(pooled, selected)
    }
}
