use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::noise::Noise;
use crate::sequences::Sequences;

/// No mixing: gives its input.
///
/// # Source
/// Yu et al., CVPR 2022, arXiv:2111.11418, table 5.
#[derive(Module, Debug)]
pub(crate) struct Identity {}

impl Identity {
    pub fn new(mixer::Identity {}: &mixer::Identity) -> Self {
        Self {}
    }
}

impl Mixer for Identity {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        sequences.wanted(x, selected)
    }
}
