use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
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
        let sides = [self.before, self.after];
        sequences.wanted(op::pool(x, &sequences.offsets, sides), selected)
    }
}
