use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::encode::rotary::{Rotary as Table, rotate};
use cloze_spec::encoder::Rotary;

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{floats, on_host};

/// Queries and keys of a packed batch, each head's first channels turned by angles that grow with the token's place.
///
/// # Shapes
/// `qkv: [N, 3·H·K]`, queries, keys and values side by side; `offsets: B + 1` row numbers → the same
///
/// # Source
/// Su et al., `RoFormer`, arXiv:2104.09864, §3.4.
pub fn turn(qkv: Tensor<2>, offsets: &Arc<[u32]>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    if !on_host(&qkv.device()) {
        return composed(qkv, offsets, heads, rotary);
    }
    let longest = offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    let op = Op {
        offsets: offsets.clone(),
        heads,
        table: Table::new(
            &rotary.frequencies,
            rotary.amplitude,
            rotary.interleaved,
            longest as usize,
        ),
    };
    apply(Operands::One(qkv.into_dispatch()), op)
}

/// [`turn`] from Burn's operations.
pub fn composed(qkv: Tensor<2>, offsets: &Arc<[u32]>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    let device = qkv.device();
    let [rows, width] = qkv.dims();
    let head_width = width / (3 * heads);
    let pairs = rotary.frequencies.len();
    let table = |of: fn(f64) -> f64| -> Tensor<3> {
        let places = offsets.windows(2).flat_map(|w| 0..w[1] - w[0]);
        let angles = places.flat_map(|place| {
            let angle = move |frequency: &f32| f64::from(place as f32 * frequency);
            rotary.frequencies.iter().map(angle)
        });
        let values = angles.map(|angle| of(angle) as f32 * rotary.amplitude);
        floats(values.collect(), [rows, 1, pairs], &device)
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let grid = qkv.reshape([rows, 3 * heads, head_width]);
    let turned = grid.clone().narrow(1, 0, 2 * heads);
    let values = grid.narrow(1, 2 * heads, heads);
    // The two of each pair, [N, 2H, R/2].
    let head = turned.clone().narrow(2, 0, 2 * pairs);
    let (a, b) = if rotary.interleaved {
        let both = head.reshape([rows, 2 * heads, pairs, 2]);
        let pick = |index| both.clone().narrow(3, index, 1).squeeze_dim::<3>(3);
        (pick(0), pick(1))
    } else {
        let pick = |from| head.clone().narrow(2, from, pairs);
        (pick(0), pick(pairs))
    };
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = a * sin + b * cos;
    let mut parts = vec![if rotary.interleaved {
        Tensor::stack::<4>(vec![first, second], 3).reshape([rows, 2 * heads, 2 * pairs])
    } else {
        Tensor::cat(vec![first, second], 2)
    }];
    if 2 * pairs < head_width {
        parts.push(turned.narrow(2, 2 * pairs, head_width - 2 * pairs));
    }
    Tensor::cat(vec![Tensor::cat(parts, 2), values], 1).reshape([rows, width])
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    heads: usize,
    table: Table,
}

impl Op {
    fn turned(&self, table: &Table, data: &[f32], width: usize) -> Vec<f32> {
        let mut turned = data.to_vec();
        let head_width = width / (3 * self.heads);
        let offsets = &self.offsets;
        rotate(
            Isa::detect(),
            table,
            offsets,
            self.heads,
            head_width,
            &mut turned,
        );
        turned
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let qkv = &inputs[0];
        Forward {
            shape: qkv.shape.to_vec(),
            output: self.turned(&self.table, qkv.data, qkv.shape[1]),
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let width = past.inputs[0].shape[1];
        vec![Some(self.turned(&self.table.back(), d_output, width))]
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
