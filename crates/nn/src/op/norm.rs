use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::norm::{add_norm_backward, add_norm_forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{Dropout, on_host};

/// `norm(residual + dropout(x))` with layer normalisation over the channels; without a residual, `norm(dropout(x))`.
///
/// # Shapes
/// `x, residual: [N, D]`, `gain, bias: [D]` → `[N, D]`
pub fn add_norm(
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f32,
    dropout: Dropout,
) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, residual, gain, bias, eps, dropout);
    }
    let has_residual = residual.is_some();
    let (x, gain, bias) = (
        x.into_dispatch(),
        gain.into_dispatch(),
        bias.into_dispatch(),
    );
    let inputs = match residual {
        Some(residual) => Operands::Four(x, gain, bias, residual.into_dispatch()),
        None => Operands::Three(x, gain, bias),
    };
    apply(
        inputs,
        Op {
            eps,
            dropout,
            has_residual,
        },
    )
}

/// [`add_norm`] from Burn's operations.
pub fn composed(
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f32,
    dropout: Dropout,
) -> Tensor<2> {
    let sum = super::composed::dropout_add(x, residual, dropout);
    let centred = sum.clone() - sum.mean_dim(1);
    let variance = centred.clone().powi_scalar(2).mean_dim(1);
    centred / variance.add_scalar(eps).sqrt() * gain.unsqueeze() + bias.unsqueeze()
}

#[derive(Debug)]
struct Op {
    eps: f32,
    dropout: Dropout,
    has_residual: bool,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let (x, gain, bias) = (&inputs[0], &inputs[1], &inputs[2]);
        let (rows, width) = (x.shape[0], x.shape[1]);
        let mut output = vec![0.0; rows * width];
        let mut normalized = vec![0.0; rows * width];
        let mut rstd = vec![0.0; rows];
        add_norm_forward(
            Isa::detect(),
            rows,
            width,
            x.data,
            inputs.get(3).map(|residual| residual.data),
            self.dropout,
            gain.data,
            bias.data,
            self.eps,
            &mut output,
            &mut normalized,
            &mut rstd,
        );
        Forward {
            shape: vec![rows, width],
            output,
            saved: vec![normalized, rstd],
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let (rows, width) = (past.inputs[0].shape[0], past.inputs[0].shape[1]);
        let mut d_x = vec![0.0; rows * width];
        let mut d_residual = self.has_residual.then(|| vec![0.0; rows * width]);
        let (mut d_gain, mut d_bias) = (vec![0.0; width], vec![0.0; width]);
        add_norm_backward(
            Isa::detect(),
            rows,
            width,
            &past.saved[0],
            &past.saved[1],
            self.dropout,
            past.inputs[1].data,
            d_output,
            &mut d_x,
            d_residual.as_deref_mut(),
            &mut d_gain,
            &mut d_bias,
        );
        let mut gradients = vec![Some(d_x), Some(d_gain), Some(d_bias)];
        gradients.extend(d_residual.map(Some));
        gradients
    }

    fn keeps(&self, index: usize) -> bool {
        index == 1
    }
}
