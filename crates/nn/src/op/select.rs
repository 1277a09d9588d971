use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::embed::{gather, scatter_add};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{indices, on_host};

/// Rows of a matrix, by number.
///
/// # Shapes
/// `x: [N, D]`, `rows: M` → `[M, D]`
pub fn select_rows(x: Tensor<2>, rows: &Arc<[u32]>) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, rows);
    }
    apply(Operands::One(x.into_dispatch()), Op { rows: rows.clone() })
}

/// [`select_rows`] from Burn's operations.
pub fn composed(x: Tensor<2>, rows: &Arc<[u32]>) -> Tensor<2> {
    let rows = indices(rows, &x.device());
    x.select(0, rows)
}

#[derive(Debug)]
struct Op {
    rows: Arc<[u32]>,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let width = inputs[0].shape[1];
        let mut output = vec![0.0; self.rows.len() * width];
        gather(
            Isa::detect(),
            width,
            inputs[0].data,
            &self.rows,
            &mut output,
            false,
        );
        Forward {
            shape: vec![self.rows.len(), width],
            output,
            saved: Vec::new(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let shape = past.inputs[0].shape;
        let mut d_x = vec![0.0; shape[0] * shape[1]];
        scatter_add(Isa::detect(), shape[1], d_output, &self.rows, &mut d_x);
        vec![Some(d_x)]
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
