use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use super::gated_convolution::Convolution;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::norm::Rms;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// A scan forward and a scan backward, each a token late, plus a free diagonal; normalised and gated.
///
/// # Source
/// Hwang et al., `NeurIPS` 2024, arXiv:2407.09941, §4.
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
        let offsets = &sequences.offsets;
        let input = self.input.forward(x, Activation::Identity);
        let part = |from: usize, wide: usize| input.clone().slice([0..tokens, from..from + wide]);
        let convolved =
            self.convolution
                .forward(part(inner, inner + states), sequences, false, true);
        let steps = part(2 * inner + states, 2 * heads) + self.step.val().unsqueeze();
        let steps = op::softplus(steps); // [N, 2H]
        let value = convolved.clone().slice([0..tokens, 0..inner]);
        let own = self.diagonal.forward(value, Activation::Identity); // [N, H]
        let rate = self.log_rate.val().exp().neg();
        let width = inner / heads;
        let mixed = op::quasiseparable(convolved, steps, own, rate, offsets, width, self.chunk);
        let mixed = self.norm.gated(mixed, part(0, inner));
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
