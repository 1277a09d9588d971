use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::granular_pool::{self, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::{Layout, neighbours};

/// What stands where no token is, under every number that a maximum is taken of.
const NONE: f32 = -1e30;

/// Over what a token's sequence is pooled.
#[derive(Debug, Clone, Copy)]
pub struct Grain {
    /// Heads of the attention of the mean query.
    pub heads: usize,
    /// Tokens of a segment.
    pub segment: usize,
    /// Neighbours to each side.
    pub radius: usize,
}

/// `(sequence + segment) ⊙ gate + local`: one query, the sequence's mean, attends to its keys, which are values too; the largest
/// value of each channel in a segment, and among neighbours.
///
/// # Shapes
/// `maps: [N, 5D]`, query, key, gate, segment and local side by side → `[N, D]`
///
/// # Source
/// Tan et al., ICLR 2022, arXiv:2110.02442, §3.
pub fn granular_pool(maps: Tensor<2>, offsets: &Arc<[u32]>, grain: Grain) -> Tensor<2> {
    if !on_host(&maps.device()) {
        return composed(maps, offsets, grain);
    }
    let op = Op {
        offsets: offsets.clone(),
        grain,
    };
    apply(Operands::One(maps.into_dispatch()), op)
}

/// [`granular_pool`] from Burn's operations.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(maps: Tensor<2>, offsets: &Arc<[u32]>, grain: Grain) -> Tensor<2> {
    let device = maps.device();
    let [tokens, width] = maps.dims();
    let width = width / 5;
    let head_width = width / grain.heads;
    let part = |index: usize| {
        maps.clone()
            .slice([0..tokens, index * width..(index + 1) * width])
    };
    let layout = Layout::padded(offsets, grain.segment);
    let (rows, places) = (layout.rows, layout.places);
    let taken = layout.taken(&device); // [B, T, 1]
    let absent = taken.add_scalar(-1.0).mul_scalar(-NONE); // 0, or far below

    let mean = layout.spread(part(0)).sum_dim(1) / layout.counts(&device); // [B, 1, D]
    let keys = layout.spread(part(1)); // [B, T, D]
    let scores = (keys.clone() * mean)
        .reshape([rows, places, grain.heads, head_width])
        .sum_dim(3)
        .div_scalar((head_width as f32).sqrt())
        + absent.clone().unsqueeze_dim(3);
    let weights = activation::softmax(scores, 1); // [B, T, H, 1]
    let sequence = (weights * keys.reshape([rows, places, grain.heads, head_width]))
        .sum_dim(1)
        .reshape([rows, 1, 1, width]);

    let segments = places / grain.segment;
    let segment = (layout.spread(part(3)) + absent)
        .reshape([rows, segments, grain.segment, width])
        .max_dim(2); // [B, T/S, 1, D]
    let wide = (segment + sequence)
        .expand([rows, segments, grain.segment, width])
        .reshape([rows, places, width]);
    let reach = (grain.radius, grain.radius);
    let local = neighbours(part(4), offsets, reach, NONE, |most, _, rows| match most {
        Some(most) => most.max_pair(rows),
        None => rows,
    });
    layout.pack(wide) * part(2) + local
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    grain: Grain,
}

impl Op {
    fn pool(&self, maps: &View<'_>) -> granular_pool::GranularPool<'_> {
        granular_pool::GranularPool {
            offsets: &self.offsets,
            width: maps.shape[1] / 5,
            heads: self.grain.heads,
            segment: self.grain.segment,
            radius: self.grain.radius,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let maps = &inputs[0];
        let mut output = vec![0.0; maps.data.len() / 5];
        let kept = forward(Isa::detect(), &self.pool(maps), maps.data, &mut output);
        Forward {
            shape: vec![maps.shape[0], maps.shape[1] / 5],
            output,
            saved: vec![kept.weights, kept.whole],
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let maps = &past.inputs[0];
        let [weights, whole] = [&past.saved[0], &past.saved[1]];
        let pool = self.pool(maps);
        let d_maps = backward(Isa::detect(), &pool, maps.data, weights, whole, d_output);
        vec![Some(d_maps)]
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
