use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::neighbours;
use crate::noise::Noise;
use crate::op;
use crate::sequences::Sequences;

/// The mean of the tokens around each, as many as there are, less the token itself.
///
/// # Source
/// Yu et al., CVPR 2022, arXiv:2111.11418, §3.2; along a sequence.
#[derive(Module, Debug)]
pub(crate) struct Pool {
    before: usize,
    after: usize,
}

impl Pool {
    pub fn new(settings: &mixer::Pool) -> Self {
        Self {
            before: settings.radius,
            after: if settings.causal { 0 } else { settings.radius },
        }
    }
}

impl Mixer for Pool {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let reach = (self.before, self.after);
        let sum = neighbours(
            x.clone(),
            &sequences.offsets,
            reach,
            0.0,
            |sum, _, rows| match sum {
                Some(sum) => sum + rows,
                None => rows,
            },
        );
        let shares: Vec<f32> = sequences
            .offsets
            .windows(2)
            .flat_map(|w| {
                let len = (w[1] - w[0]) as usize;
                (0..len).map(move |at| {
                    let seen = at.min(self.before) + 1 + (len - 1 - at).min(self.after);
                    1.0 / seen as f32
                })
            })
            .collect();
        let shares = op::floats(shares, [x.dims()[0], 1], &x.device());
        sequences.wanted(sum * shares - x, selected)
    }
}
