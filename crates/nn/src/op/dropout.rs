use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::dropout::{add_forward, backward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{Dropout, dropout_factors, on_host};

/// `residual + dropout(x)`; without a residual, `dropout(x)`. What is kept follows from the dropout's seed alone.
///
/// # Shapes
/// `x, residual: [N, D]` → `[N, D]`
pub fn dropout_add(x: Tensor<2>, residual: Option<Tensor<2>>, dropout: Dropout) -> Tensor<2> {
    if residual.is_none() && dropout.prob == 0.0 {
        return x;
    }
    if !on_host(&x.device()) {
        return composed(x, residual, dropout);
    }
    let x = x.into_dispatch();
    let inputs = match residual {
        Some(residual) => Operands::Two(x, residual.into_dispatch()),
        None => Operands::One(x),
    };
    apply(inputs, Op { dropout })
}

/// [`dropout_add`] from Burn's operations.
pub fn composed(x: Tensor<2>, residual: Option<Tensor<2>>, dropout: Dropout) -> Tensor<2> {
    let [rows, width] = x.dims();
    let x = match dropout_factors(dropout, 0..rows as u64, width, &x.device()) {
        Some(factors) => x * factors,
        None => x,
    };
    match residual {
        Some(residual) => residual + x,
        None => x,
    }
}

#[derive(Debug)]
struct Op {
    dropout: Dropout,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let (rows, width) = (inputs[0].shape[0], inputs[0].shape[1]);
        let mut output = vec![0.0; rows * width];
        let residual = inputs.get(1).map(|residual| residual.data);
        add_forward(
            Isa::detect(),
            rows,
            width,
            inputs[0].data,
            residual,
            self.dropout,
            &mut output,
        );
        Forward {
            shape: vec![rows, width],
            output,
            saved: Vec::new(),
        }
    }

    fn backward(
        &self,
        past: &Past<'_>,
        d_output: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (rows, width) = (past.inputs[0].shape[0], past.inputs[0].shape[1]);
        let mut d_x = vec![0.0; rows * width];
        backward(Isa::detect(), rows, width, self.dropout, d_output, &mut d_x);
        let mut gradients = vec![Some(d_x)];
        gradients.extend(
            wanted
                .get(1)
                .map(|wanted| wanted.then(|| d_output.to_vec())),
        );
        gradients
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
