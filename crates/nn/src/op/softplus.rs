use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::softplus::{backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;

/// ln(1 + eˣ) of every number.
///
/// # Shapes
/// `x: [N, D]` → `[N, D]`
pub fn softplus(x: Tensor<2>) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x);
    }
    apply(Operands::One(x.into_dispatch()), Op)
}

/// [`softplus`] from Burn's operations.
pub fn composed(x: Tensor<2>) -> Tensor<2> {
    activation::softplus(x, 1.0)
}

#[derive(Debug)]
struct Op;

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let x = &inputs[0];
        let mut output = vec![0.0; x.data.len()];
        forward(Isa::detect(), x.data, &mut output);
        Forward {
            shape: x.shape.to_vec(),
            output,
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let mut d_x = vec![0.0; d_output.len()];
        backward(Isa::detect(), past.inputs[0].data, d_output, &mut d_x);
        vec![Some(d_x)]
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
