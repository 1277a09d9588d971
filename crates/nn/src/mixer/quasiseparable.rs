use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use super::gated_convolution::Convolution;
use crate::layout::{Layout, states_before};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::norm::Rms;
use crate::op::Activation;
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// What an exponent is where a chunk's token looks ahead; far enough that nothing is left, and finite.
const NEVER: f32 = -1e4;

/// A scan forward and a scan backward, each a token late, plus a free diagonal; normalised and gated.
///
/// # Source
/// Hwang et al., `NeurIPS` 2024, arXiv:2407.09941, §4; scans by chunks as in Dao and Gu, ICML 2024, arXiv:2405.21060, §6.
#[derive(Module, Debug)]
pub(crate) struct Quasiseparable {
    input: Linear,
    convolution: Convolution,
    step: Weight<1>,
    log_rate: Weight<1>,
    diagonal: Linear,
    norm: Rms,
    output: Linear,
    state: usize,
    chunk: usize,
}

impl Quasiseparable {
    pub fn new(settings: &mixer::Quasiseparable, source: &Source<'_>, name: &str) -> Self {
        Self {
            input: Linear::unbiased(source, &format!("{name}.input")),
            convolution: Convolution::new(source, &format!("{name}.convolution")),
            step: source.parameter(&format!("{name}.step")),
            log_rate: source.parameter(&format!("{name}.log_rate")),
            diagonal: Linear::new(source, &format!("{name}.diagonal")),
            norm: Rms::new(1e-5, source, &format!("{name}.norm")),
            output: Linear::unbiased(source, &format!("{name}.output")),
            state: settings.state,
            chunk: settings.chunk,
        }
    }
}

impl Mixer for Quasiseparable {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let tokens = x.dims()[0];
        let heads = self.log_rate.val().dims()[0];
        let inner = self.output.parts().0.dims()[1];
        let states = 4 * self.state;
        let input = self.input.forward(x, Activation::Identity);
        let part = |from: usize, wide: usize| input.clone().slice([0..tokens, from..from + wide]);
        let gate = part(0, inner);
        let convolved =
            self.convolution
                .forward(part(inner, inner + states), sequences, false, true);
        let steps = activation::softplus(
            part(2 * inner + states, 2 * heads) + self.step.val().unsqueeze(),
            1.0,
        ); // [N, 2H]
        let value = convolved.clone().slice([0..tokens, 0..inner]);
        let rate = self.log_rate.val().exp().neg();

        let layout = Layout::padded(&sequences.offsets, self.chunk);
        let scan = |direction: usize| {
            let of = |index: usize| {
                let from = inner + (2 * direction + index) * self.state;
                convolved
                    .clone()
                    .slice([0..tokens, from..from + self.state])
            };
            let steps = steps
                .clone()
                .slice([0..tokens, direction * heads..(direction + 1) * heads]);
            let layout = if direction == 0 {
                layout.clone()
            } else {
                layout.reversed()
            };
            scan(
                &layout,
                self.chunk,
                value.clone(),
                steps,
                of(0),
                of(1),
                rate.clone(),
            )
        };
        let own = self
            .diagonal
            .forward(value.clone(), Activation::Identity)
            .reshape([tokens, heads, 1]); // [N, H, 1]
        let own =
            (own * value.clone().reshape([tokens, heads, inner / heads])).reshape([tokens, inner]);
        let mixed = self.norm.gated(scan(0) + scan(1) + own, gate);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}

/// `h_t = e^(Δ_t·rate) h_(t−1) + Δ_t B_t v_tᵀ`, and what the state before each token gives it: `C_(t−1)ᵀ h_(t−1)`, along
/// each row of the layout.
///
/// Within a chunk as a matrix of its tokens, from chunk to chunk as a state.
///
/// # Shapes
/// `value: [N, H·P]`, `steps: [N, H]`, `write, read: [N, S]`, `rate: [H]` → `[N, H·P]`
fn scan(
    layout: &Layout,
    chunk: usize,
    value: Tensor<2>,
    steps: Tensor<2>,
    write: Tensor<2>,
    read: Tensor<2>,
    rate: Tensor<1>,
) -> Tensor<2> {
    let device = value.device();
    let (rows, places) = (layout.rows, layout.places);
    let (heads, chunks) = (steps.dims()[1], places / chunk);
    let inner = value.dims()[1];
    // [N, H·X] → [B, H, c, C, X]
    let blocks = |x: Tensor<2>, heads: usize| {
        let wide = x.dims()[1] / heads;
        layout
            .spread(x)
            .reshape([rows, chunks, chunk, heads, wide])
            .permute([0, 3, 1, 2, 4])
    };
    let steps = blocks(steps, heads); // [B, H, c, C, 1]; 0 where no token is, so that the state stays
    let value = blocks(value, heads) * steps.clone();
    let (write, read) = (blocks(write, 1), blocks(read, 1)); // [B, 1, c, C, S]

    let decay = (steps * rate.reshape([1, heads, 1, 1, 1])).cumsum(3); // [B, H, c, C, 1]
    let ahead = Tensor::<2>::full([chunk, chunk], NEVER, &device).triu(1);
    let between = decay.clone() - decay.clone().transpose();
    let between = (between.tril(0) + ahead.unsqueeze()).exp(); // [B, H, c, C, C]
    let near = (read.clone().matmul(write.clone().transpose()) * between).matmul(value.clone());

    let whole = decay
        .clone()
        .slice([0..rows, 0..heads, 0..chunks, chunk - 1..chunk]); // [B, H, c, 1, 1]
    let kept = value * (whole.clone() - decay.clone()).exp();
    let added = write.transpose().matmul(kept); // [B, H, c, S, P]
    let before = states_before(whole.exp(), added, |keep, state| keep * state);
    let far = read.matmul(before) * decay.exp();
    let given = (near + far)
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, places, inner]);
    let late = given.slice([0..rows, 0..places - 1]);
    let late = Tensor::cat(vec![Tensor::zeros([rows, 1, inner], &device), late], 1);
    layout.pack(late)
}
