use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::delta_rule::{self, Kept, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::{Layout, states_before};

/// `S ← S + β k (v − Sᵀk)ᵀ`, `o = Sᵀq / √K` along each sequence with queries and keys of length 1, for each head; with twice as many
/// strengths as heads also from its end, and both summed.
///
/// # Shapes
/// `qkv: [N, 3D]`, queries, keys and values side by side; `strength: [N, H]` or `[N, 2H]`, β → `[N, D]`
///
/// # Source
/// Yang et al., `NeurIPS` 2024, arXiv:2406.06484, §2 and §3.
pub fn delta_rule(
    qkv: Tensor<2>,
    strength: Tensor<2>,
    offsets: &Arc<[u32]>,
    heads: usize,
    chunk: usize,
) -> Tensor<2> {
    if !on_host(&qkv.device()) {
        return composed(qkv, strength, offsets, heads, chunk);
    }
    let inputs = Operands::Two(qkv.into_dispatch(), strength.into_dispatch());
    let op = Op {
        offsets: offsets.clone(),
        heads,
    };
    apply(inputs, op)
}

/// [`delta_rule`] from Burn's operations, `chunk` tokens at once, a power of two.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(
    qkv: Tensor<2>,
    strength: Tensor<2>,
    offsets: &Arc<[u32]>,
    heads: usize,
    chunk: usize,
) -> Tensor<2> {
    let [tokens, width] = qkv.dims();
    let width = width / 3;
    let head_width = width / heads;
    let part = |index: usize| {
        qkv.clone()
            .slice([0..tokens, index * width..(index + 1) * width])
    };
    let unit = |index: usize| {
        let part = part(index).reshape([tokens, heads, head_width]);
        let square = part.clone().square().sum_dim(2);
        let square = square.add_scalar(delta_rule::EPS);
        (part / square.sqrt()).reshape([tokens, width])
    };
    let query = unit(0).div_scalar((head_width as f32).sqrt());
    let (key, value) = (unit(1), part(2));
    let layout = Layout::padded(offsets, chunk);
    let one = |layout: &Layout, direction: usize| {
        let strength = strength
            .clone()
            .slice([0..tokens, direction * heads..(direction + 1) * heads]);
        let parts = [query.clone(), key.clone(), value.clone()];
        rule(layout, chunk, parts, strength)
    };
    let mixed = one(&layout, 0);
    if strength.dims()[1] == heads {
        mixed
    } else {
        mixed + one(&layout.reversed(), 1)
    }
}

/// The rule along each row of the layout.
///
/// # Shapes
/// `query, key, value: [N, D]`, `strength: [N, H]` → `[N, D]`
fn rule(layout: &Layout, chunk: usize, parts: [Tensor<2>; 3], strength: Tensor<2>) -> Tensor<2> {
    let device = strength.device();
    let (rows, places) = (layout.rows, layout.places);
    let (heads, chunks) = (strength.dims()[1], places / chunk);
    let inner = parts[0].dims()[1];
    // [N, H·X] → [B, H, c, C, X]; where no token is, keys and strengths are 0, so that the state stays
    let blocks = |x: Tensor<2>| {
        let wide = x.dims()[1] / heads;
        layout
            .spread(x)
            .reshape([rows, chunks, chunk, heads, wide])
            .permute([0, 3, 1, 2, 4])
    };
    let [query, key, value] = parts.map(blocks);
    let strength = blocks(strength);
    let stronger = key.clone() * strength.clone();
    let overlap = stronger.clone().matmul(key.clone().transpose()).tril(-1); // A
    let inverse = inverse(&overlap.reshape([rows * heads * chunks, chunk, chunk]))
        .reshape([rows, heads, chunks, chunk, chunk]);
    let erased = inverse.clone().matmul(stronger); // W
    let written = inverse.matmul(value * strength); // U
    let near = query.clone().matmul(key.clone().transpose()).tril(0);

    let width = inner / heads;
    let same = Tensor::<2>::eye(width, &device).unsqueeze::<5>();
    let key = key.transpose();
    let keep = same - key.clone().matmul(erased.clone());
    let add = key.matmul(written.clone());
    let state = states_before(keep, add, Tensor::matmul); // Sᵀ before each chunk
    let change = written - erased.matmul(state.clone());
    let given = (query.matmul(state) + near.matmul(change))
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, places, inner]);
    layout.pack(given)
}

/// `(I + A)⁻¹` of strictly lower triangular `A`, by halves: each level joins blocks whose inverses are known.
///
/// # Shapes
/// `[G, C, C]` → the same, `C` a power of two
fn inverse(lower: &Tensor<3>) -> Tensor<3> {
    let device = lower.device();
    let [count, size, _] = lower.dims();
    let mut inverse = Tensor::<4>::ones([count, size, 1, 1], &device);
    let mut half = 1;
    while half < size {
        let (whole, pairs) = (2 * half, size / (2 * half));
        let diagonal: Vec<i32> = (0..pairs as i32)
            .map(|at| at * (pairs as i32 + 1))
            .collect();
        let diagonal = Tensor::<1, burn::tensor::Int>::from_data(diagonal.as_slice(), &device);
        let below = lower
            .clone()
            .reshape([count, pairs, whole, pairs, whole])
            .swap_dims(2, 3)
            .reshape([count, pairs * pairs, whole, whole])
            .select(1, diagonal)
            .slice([0..count, 0..pairs, half..whole, 0..half]); // [G, m, b, b]
        let known = inverse.reshape([count, pairs, 2, half, half]);
        let of = |index: usize| {
            known
                .clone()
                .slice([0..count, 0..pairs, index..index + 1])
                .reshape([count, pairs, half, half])
        };
        let (first, second) = (of(0), of(1));
        let corner = second.clone().matmul(below).matmul(first.clone()).neg();
        let nothing = Tensor::zeros([count, pairs, half, half], &device);
        let top = Tensor::cat(vec![first, nothing], 3);
        let bottom = Tensor::cat(vec![corner, second], 3);
        inverse = Tensor::cat(vec![top, bottom], 2);
        half = whole;
    }
    inverse.reshape([count, size, size])
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    heads: usize,
}

impl Op {
    fn rule(&self, inputs: &[View<'_>]) -> delta_rule::DeltaRule<'_> {
        delta_rule::DeltaRule {
            offsets: &self.offsets,
            width: inputs[0].shape[1] / 3,
            heads: self.heads,
            directions: inputs[1].shape[1] / self.heads,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward {
        let rule = self.rule(inputs);
        let (qkv, strength) = (inputs[0].data, inputs[1].data);
        let mut output = vec![0.0; qkv.len() / 3];
        let mut kept = tracked.then(Kept::default);
        forward(
            Isa::detect(),
            &rule,
            qkv,
            strength,
            &mut output,
            kept.as_mut(),
        );
        Forward {
            shape: vec![inputs[0].shape[0], rule.width],
            output,
            saved: kept.map_or_else(Vec::new, |kept| vec![kept.errors, kept.states]),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let (qkv, strength) = (past.inputs[0].data, past.inputs[1].data);
        let rule = self.rule(past.inputs);
        let [errors, states] = [&past.saved[0], &past.saved[1]];
        backward(
            Isa::detect(),
            &rule,
            qkv,
            strength,
            errors,
            states,
            d_output,
        )
        .map(Some)
        .into()
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
