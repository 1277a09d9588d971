use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation, Grain};
use crate::sequences::Sequences;
use crate::weights::Source;

/// `output((sequence + segment) ⊙ gate + local)`: one query, the sequence's mean, attends to its keys; the largest value
/// of each channel in a segment, and among neighbours.
///
/// # Source
/// Tan et al., ICLR 2022, arXiv:2110.02442, §3; keys are the values of the first, as in its public code.
#[derive(Module, Debug)]
pub(crate) struct GranularPool {
    maps: Linear,
    output: Linear,
    #[module(skip)]
    grain: Grain,
}

impl GranularPool {
    pub fn new(settings: &mixer::GranularPool, source: &Source<'_>, name: &str) -> Self {
        Self {
            maps: Linear::new(source, &format!("{name}.maps")),
            output: Linear::new(source, &format!("{name}.output")),
            grain: Grain {
                heads: settings.heads,
                segment: settings.segment,
                radius: settings.radius,
            },
        }
    }
}

impl Mixer for GranularPool {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let maps = self.maps.forward(x, Activation::Identity); // [N, 5D]
        let mixed = op::granular_pool(maps, &sequences.offsets, self.grain);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
