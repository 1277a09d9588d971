use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::pool::{self, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{floats, on_host};
use crate::layout::neighbours;

/// The mean of the tokens of its sequence around each, no further than `sides` before and after it, less the token itself.
///
/// # Shapes
/// `x: [N, D]` → `[N, D]`
pub fn pool(x: Tensor<2>, offsets: &Arc<[u32]>, sides: [usize; 2]) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, offsets, sides);
    }
    let op = Op {
        offsets: offsets.clone(),
        sides,
    };
    apply(Operands::One(x.into_dispatch()), op)
}

/// [`pool`] from Burn's operations, shift by shift.
pub fn composed(x: Tensor<2>, offsets: &Arc<[u32]>, [before, after]: [usize; 2]) -> Tensor<2> {
    let reach = (before, after);
    let sum = neighbours(x.clone(), offsets, reach, 0.0, |sum, _, rows| match sum {
        Some(sum) => sum + rows,
        None => rows,
    });
    let shares: Vec<f32> = offsets
        .windows(2)
        .flat_map(|w| {
            let len = (w[1] - w[0]) as usize;
            (0..len).map(move |at| {
                let seen = at.min(before) + 1 + (len - 1 - at).min(after);
                1.0 / seen as f32
            })
        })
        .collect();
    sum * floats(shares, [x.dims()[0], 1], &x.device()) - x
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    sides: [usize; 2],
}

impl Op {
    fn pool(&self, x: &View<'_>) -> pool::Pool<'_> {
        pool::Pool {
            offsets: &self.offsets,
            width: x.shape[1],
            sides: self.sides,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let x = &inputs[0];
        let mut output = vec![0.0; x.data.len()];
        forward(Isa::detect(), &self.pool(x), x.data, &mut output);
        Forward {
            shape: x.shape.to_vec(),
            output,
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let mut d_x = vec![0.0; d_output.len()];
        let pool = self.pool(&past.inputs[0]);
        backward(Isa::detect(), &pool, d_output, &mut d_x);
        vec![Some(d_x)]
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
