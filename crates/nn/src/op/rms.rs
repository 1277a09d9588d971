use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::rms::{backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;

/// Each row over the root of its mean square, times a gain; times `SiLU` of `gate` if there is one.
///
/// # Shapes
/// `x, gate: [N, D]`, `gain: [D]` → `[N, D]`
///
/// # Source
/// Zhang and Sennrich, `NeurIPS` 2019, arXiv:1910.07467.
pub fn rms(x: Tensor<2>, gain: Tensor<1>, gate: Option<Tensor<2>>, eps: f32) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, gain, gate, eps);
    }
    let (x, gain) = (x.into_dispatch(), gain.into_dispatch());
    let inputs = match gate {
        Some(gate) => Operands::Three(x, gain, gate.into_dispatch()),
        None => Operands::Two(x, gain),
    };
    apply(inputs, Op { eps })
}

/// [`rms`] from Burn's operations.
pub fn composed(x: Tensor<2>, gain: Tensor<1>, gate: Option<Tensor<2>>, eps: f32) -> Tensor<2> {
    let square = x.clone().square().mean_dim(1).add_scalar(eps);
    let normal = x / square.sqrt() * gain.unsqueeze();
    match gate {
        Some(gate) => normal * activation::silu(gate),
        None => normal,
    }
}

#[derive(Debug)]
struct Op {
    eps: f32,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let (x, gain) = (&inputs[0], &inputs[1]);
        let gate = inputs.get(2).map(|gate| gate.data);
        let mut output = vec![0.0; x.data.len()];
        forward(
            Isa::detect(),
            x.data,
            gain.data,
            gate,
            self.eps,
            &mut output,
        );
        Forward {
            shape: x.shape.to_vec(),
            output,
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let (x, gain) = (past.inputs[0].data, past.inputs[1].data);
        let gate = past.inputs.get(2).map(|gate| gate.data);
        let found = backward(Isa::detect(), x, gain, gate, self.eps, d_output);
        [found.x, found.gain, found.gate].map(Some).into()
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
