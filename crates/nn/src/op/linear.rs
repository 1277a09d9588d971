use std::f32::consts::FRAC_1_SQRT_2;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::linear::{Activation, Linear, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{on_host, product};

/// `activation(x · weightᵀ + bias)`.
///
/// # Shapes
/// `x: [N, I]`, `weight: [O, I]`, `bias: [O]` → `[N, O]`
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    activation: Activation,
) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, weight, bias, activation);
    }
    let inputs = Operands::Three(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    apply(inputs, Op { activation })
}

/// [`linear`] from Burn's operations.
pub fn composed(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    activation: Activation,
) -> Tensor<2> {
    let out = product(x, weight.transpose()) + bias.unsqueeze();
    match activation {
        Activation::Identity => out,
        Activation::Gelu => gelu(out),
    }
}

/// `x·Φ(x)`. On GPUs the gradient of Burn's own is that of the approximation by `tanh`, off by up to 5e-4.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_host(&x.device()) {
        return burn::tensor::activation::gelu(x);
    }
    let below = x.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0);
    (x * below).mul_scalar(0.5)
}

#[derive(Debug)]
struct Op {
    activation: Activation,
}

impl Op {
    fn shape(x: &View<'_>, weight: &View<'_>) -> Linear {
        Linear {
            rows: x.shape[0],
            inputs: x.shape[1],
            outputs: weight.shape[0],
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward {
        let [x, weight, bias] = inputs else {
            unreachable!("linear has three inputs")
        };
        let shape = Self::shape(x, weight);
        let mut output = vec![0.0; shape.rows * shape.outputs];
        let mut saved = Vec::new();
        if tracked && self.activation != Activation::Identity {
            saved.push(vec![0.0; output.len()]);
        }
        let pre = saved.first_mut().map(Vec::as_mut_slice);
        forward(
            Isa::detect(),
            shape,
            x.data,
            weight.data,
            Some(bias.data),
            self.activation,
            pre,
            &mut output,
        );
        Forward {
            shape: vec![shape.rows, shape.outputs],
            output,
            saved,
        }
    }

    fn backward(
        &self,
        past: &Past<'_>,
        d_output: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (x, weight) = (past.inputs[0], past.inputs[1]);
        let shape = Self::shape(&x, &weight);
        let mut gradients: Vec<Option<Vec<f32>>> = [x.data.len(), weight.data.len(), shape.outputs]
            .iter()
            .zip(wanted)
            .map(|(&len, &wanted)| wanted.then(|| vec![0.0; len]))
            .collect();
        let [d_x, d_weight, d_bias] = &mut gradients[..] else {
            unreachable!("linear has three inputs")
        };
        backward(
            Isa::detect(),
            shape,
            x.data,
            weight.data,
            self.activation,
            past.saved.first().map(Vec::as_slice),
            d_output,
            d_x.as_deref_mut(),
            d_weight.as_deref_mut(),
            d_bias.as_deref_mut(),
        );
        gradients
    }

    fn keeps(&self, index: usize) -> bool {
        index < 2
    }
}
