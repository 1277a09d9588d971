use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer::{self, Grid};

use super::Mixer;
use super::gated_convolution::Convolution;
use crate::layout::Layout;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{Activation, HIDDEN};
use crate::sequences::Sequences;
use crate::weights::Source;

/// Attention within the `keep` blocks whose mean keys suit a block's mean query best, plus a convolution of the values.
///
/// Which blocks those are has no gradient.
///
/// # Source
/// Zhu et al., CVPR 2023, arXiv:2303.08810, §3.2; along a sequence or over a grid.
#[derive(Module, Debug)]
pub(crate) struct RoutedAttention {
    qkv: Linear,
    convolution: Convolution,
    output: Linear,
    heads: usize,
    block: usize,
    keep: usize,
    #[module(skip)]
    grid: Option<Grid>,
}

impl RoutedAttention {
    pub fn new(settings: &mixer::RoutedAttention, source: &Source<'_>, name: &str) -> Self {
        Self {
            qkv: Linear::new(source, &format!("{name}.qkv")),
            convolution: Convolution::new(source, &format!("{name}.convolution")),
            output: Linear::new(source, &format!("{name}.output")),
            heads: settings.heads,
            block: settings.block,
            keep: settings.keep,
            grid: settings.grid.clone(),
        }
    }
}

impl Mixer for RoutedAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let (heads, block) = (self.heads, self.block);
        let device = x.device();
        let [tokens, width] = x.dims();
        let head_width = width / heads;
        let qkv = self.qkv.forward(x, Activation::Identity); // [N, 3D]
        let layout = match &self.grid {
            None => Layout::padded(&sequences.offsets, block),
            Some(grid) => {
                let tile = [block / grid.block_columns, grid.block_columns];
                Layout::tiled(&sequences.offsets, grid.columns, tile)
            }
        };
        let (rows, places) = (layout.rows, layout.places);
        let count = places / block;
        let keep = self.keep.min(count);
        let part = |index: usize| {
            qkv.clone()
                .slice([0..tokens, index * width..(index + 1) * width])
        };
        let blocks = |index: usize| {
            layout
                .spread(part(index))
                .reshape([rows, count, block, width])
        };
        let (query, key, value) = (blocks(0), blocks(1), blocks(2)); // [B, n, S, D]
        let taken = layout.taken(&device).reshape([rows, count, block, 1]);

        let held = taken.clone().sum_dim(2); // [B, n, 1, 1]
        let mean = |x: &Tensor<4>| {
            let mean = x.clone().detach().sum_dim(2) / held.clone().clamp_min(1.0);
            mean.reshape([rows, count, width])
        };
        let empty = held
            .clone()
            .clamp_max(1.0)
            .sub_scalar(1.0)
            .mul_scalar(-HIDDEN);
        let suits = mean(&query).matmul(mean(&key).transpose()) + empty.reshape([rows, 1, count]);
        let first = (0..rows as i32)
            .map(|row| row * count as i32)
            .collect::<Vec<_>>();
        let first = Tensor::<1, burn::tensor::Int>::from_data(first.as_slice(), &device);
        let chosen = suits.argsort_descending(2).narrow(2, 0, keep) + first.reshape([rows, 1, 1]); // [B, n, keep]
        let chosen = chosen.reshape([rows * count * keep]);
        let pick = |x: Tensor<4>| {
            let wide = x.dims()[3];
            x.reshape([rows * count, block * wide])
                .select(0, chosen.clone())
                .reshape([rows * count, keep * block, wide])
        };
        let by_head = |x: Tensor<3>| {
            let places = x.dims()[1];
            x.reshape([rows * count, places, heads, head_width])
                .swap_dims(1, 2)
        };
        let seen = pick(taken).reshape([rows * count, 1, 1, keep * block]);
        let query = by_head(query.reshape([rows * count, block, width])); // [B·n, H, S, K]
        let scores = query
            .matmul(by_head(pick(key)).transpose())
            .div_scalar((head_width as f32).sqrt())
            + seen.sub_scalar(1.0).mul_scalar(-HIDDEN);
        let mixed = activation::softmax(scores, 3)
            .matmul(by_head(pick(value)))
            .swap_dims(1, 2)
            .reshape([rows, places, width]);
        let local = match &self.grid {
            None => self.convolution.forward(part(2), sequences, false, false),
            Some(grid) => self
                .convolution
                .forward_grid(part(2), sequences, grid.columns),
        };
        let mixed = layout.pack(mixed) + local;
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
