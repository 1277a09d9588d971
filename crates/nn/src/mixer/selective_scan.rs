use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use super::gated_convolution::Convolution;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// Convolution, then a state that each token says how to keep, write and read; forward, backward or both, gated.
///
/// # Source
/// Gu and Dao, 2023, arXiv:2312.00752, §3; Zhu et al., ICML 2024, arXiv:2401.09417, algorithm 1.
#[derive(Module, Debug)]
pub(crate) struct SelectiveScan {
    input: Linear,
    forward: Option<Pass>,
    backward: Option<Pass>,
    output: Linear,
}

/// One direction.
#[derive(Module, Debug)]
struct Pass {
    convolution: Convolution,
    select: Linear,
    step: Linear,
    log_rate: Weight<2>,
    skip: Skip,
}

/// A factor a channel on what goes past the state.
#[derive(Module, Debug)]
struct Skip {
    gain: Weight<1>,
}

impl SelectiveScan {
    pub fn new(settings: &mixer::SelectiveScan, source: &Source<'_>, name: &str) -> Self {
        let pass = |wanted: &str| {
            let mut passes = settings.direction.passes().iter();
            let part = |part: &str| format!("{name}.{wanted}.{part}");
            passes.any(|(pass, _)| *pass == wanted).then(|| Pass {
                convolution: Convolution::new(source, &part("convolution")),
                select: Linear::unbiased(source, &part("select")),
                step: Linear::new(source, &part("step")),
                log_rate: source.parameter(&part("log_rate")),
                skip: Skip {
                    gain: source.parameter(&part("skip.gain")),
                },
            })
        };
        Self {
            input: Linear::unbiased(source, &format!("{name}.input")),
            forward: pass("forward"),
            backward: pass("backward"),
            output: Linear::unbiased(source, &format!("{name}.output")),
        }
    }
}

impl Pass {
    fn forward(&self, x: Tensor<2>, sequences: &Sequences, reversed: bool) -> Tensor<2> {
        let tokens = x.dims()[0];
        let x = if reversed {
            self.convolution.forward_reversed(x, sequences)
        } else {
            self.convolution.forward(x, sequences, true, true)
        }; // [N, E]
        let selected = self.select.forward(x.clone(), Activation::Identity); // [N, R + 2S]
        let log_rate = self.log_rate.val();
        let states = 2 * log_rate.dims()[1];
        let rank = selected.dims()[1] - states;
        let step = selected.clone().slice([0..tokens, 0..rank]);
        let step = op::softplus(self.step.forward(step, Activation::Identity));
        let write_read = selected.slice([0..tokens, rank..rank + states]);
        let rate = log_rate.exp().neg();
        op::selective_scan(
            x.clone(),
            step,
            write_read,
            rate,
            &sequences.offsets,
            reversed,
        ) + x * self.skip.gain.val().unsqueeze()
    }
}

impl Mixer for SelectiveScan {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let tokens = x.dims()[0];
        let input = self.input.forward(x, Activation::Identity); // [N, 2E]
        let inner = input.dims()[1] / 2;
        let value = input.clone().slice([0..tokens, 0..inner]);
        let gate = input.slice([0..tokens, inner..2 * inner]);
        let passes = [(&self.forward, false), (&self.backward, true)];
        let mixed = passes
            .into_iter()
            .filter_map(|(pass, reversed)| {
                Some(pass.as_ref()?.forward(value.clone(), sequences, reversed))
            })
            .reduce(|sum, pass| sum + pass)
            .expect("one direction or both");
        let mixed = sequences.wanted(mixed * activation::silu(gate), selected);
        self.output.forward(mixed, Activation::Identity)
    }
}
