use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::depthwise::{Depthwise, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::neighbours;

/// A convolution of each channel by itself along each sequence, through `SiLU` if `silu`; a token sees `sides` others before and
/// after it.
///
/// # Shapes
/// `x: [N, D]`, `weight: [before + 1 + after, D]`, first the furthest before, `bias: [D]` → `[N, D]`
pub fn depthwise(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    offsets: &Arc<[u32]>,
    sides: [usize; 2],
    silu: bool,
) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, weight, bias, offsets, sides, silu);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let inputs = match bias {
        Some(bias) => Operands::Three(x, weight, bias.into_dispatch()),
        None => Operands::Two(x, weight),
    };
    let op = Op {
        offsets: offsets.clone(),
        sides,
        silu,
    };
    apply(inputs, op)
}

/// [`depthwise`] from Burn's operations, shift by shift.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    offsets: &Arc<[u32]>,
    [before, after]: [usize; 2],
    silu: bool,
) -> Tensor<2> {
    let width = weight.dims()[1];
    let mut sum = neighbours(x, offsets, (before, after), 0.0, |sum, shift, rows| {
        let term = rows * weight.clone().slice([shift..shift + 1, 0..width]);
        match sum {
            Some(sum) => sum + term,
            None => term,
        }
    });
    if let Some(bias) = bias {
        sum = sum + bias.unsqueeze();
    }
    if silu { activation::silu(sum) } else { sum }
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    sides: [usize; 2],
    silu: bool,
}

impl Op {
    fn with(&self, x: &View<'_>) -> Depthwise<'_> {
        Depthwise {
            offsets: &self.offsets,
            width: x.shape[1],
            sides: self.sides,
            silu: self.silu,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let (x, weight) = (&inputs[0], &inputs[1]);
        let bias = inputs.get(2).map(|bias| bias.data);
        let mut output = vec![0.0; x.data.len()];
        let with = self.with(x);
        forward(Isa::detect(), &with, x.data, weight.data, bias, &mut output);
        Forward {
            shape: x.shape.to_vec(),
            output,
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let (x, weight) = (&past.inputs[0], &past.inputs[1]);
        let bias = past.inputs.get(2).map(|bias| bias.data);
        let with = self.with(x);
        let found = backward(Isa::detect(), &with, x.data, weight.data, bias, d_output);
        [found.x, found.weight, found.bias].map(Some).into()
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
