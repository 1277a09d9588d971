use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::{Layout, neighbours};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::Activation;
use crate::sequences::Sequences;
use crate::weights::Source;

/// What stands where no token is, under every number that a maximum is taken of.
const NONE: f32 = -1e30;

/// `output((sequence + segment) ⊙ gate + local)`: one query, the sequence's mean, attends to its keys; the largest value
/// of each channel in a segment, and among neighbours.
///
/// # Source
/// Tan et al., ICLR 2022, arXiv:2110.02442, §3; keys are the values of the first, as in its public code.
#[derive(Module, Debug)]
pub(crate) struct GranularPool {
    maps: Linear,
    output: Linear,
    heads: usize,
    segment: usize,
    radius: usize,
}

impl GranularPool {
    pub fn new(settings: &mixer::GranularPool, source: &Source<'_>, name: &str) -> Self {
        Self {
            maps: Linear::new(source, &format!("{name}.maps")),
            output: Linear::new(source, &format!("{name}.output")),
            heads: settings.heads,
            segment: settings.segment,
            radius: settings.radius,
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
        let device = x.device();
        let [tokens, width] = x.dims();
        let head_width = width / self.heads;
        let maps = self.maps.forward(x, Activation::Identity); // [N, 5D]
        let part = |index: usize| {
            maps.clone()
                .slice([0..tokens, index * width..(index + 1) * width])
        };
        let layout = Layout::padded(&sequences.offsets, self.segment);
        let (rows, places) = (layout.rows, layout.places);
        let taken = layout.taken(&device); // [B, T, 1]
        let absent = taken.add_scalar(-1.0).mul_scalar(-NONE); // 0, or far below

        let mean = layout.spread(part(0)).sum_dim(1) / layout.counts(&device); // [B, 1, D]
        let keys = layout.spread(part(1)); // [B, T, D]
        let scores = (keys.clone() * mean)
            .reshape([rows, places, self.heads, head_width])
            .sum_dim(3)
            .div_scalar((head_width as f32).sqrt())
            + absent.clone().unsqueeze_dim(3);
        let weights = activation::softmax(scores, 1); // [B, T, H, 1]
        let sequence = (weights * keys.reshape([rows, places, self.heads, head_width]))
            .sum_dim(1)
            .reshape([rows, 1, 1, width]);

        let segments = places / self.segment;
        let segment = (layout.spread(part(3)) + absent)
            .reshape([rows, segments, self.segment, width])
            .max_dim(2); // [B, T/S, 1, D]
        let wide = (segment + sequence)
            .expand([rows, segments, self.segment, width])
            .reshape([rows, places, width]);
        let reach = (self.radius, self.radius);
        let local = neighbours(
            part(4),
            &sequences.offsets,
            reach,
            NONE,
            |most, _, rows| match most {
                Some(most) => most.max_pair(rows),
                None => rows,
            },
        );
        let mixed = sequences.wanted(layout.pack(wide) * part(2) + local, selected);
        self.output.forward(mixed, Activation::Identity)
    }
}
