use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::embed::{gather, scatter_add};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;

/// The vectors of tokens, plus those of their positions.
///
/// # Shapes
/// `table: [V, D]`, `tokens: N`, `positions: ([P, D], N)` → `[N, D]`
pub fn embed(
    table: Tensor<2>,
    tokens: &Arc<[u32]>,
    positions: Option<(Tensor<2>, Arc<[u32]>)>,
) -> Tensor<2> {
    if !on_host(&table.device()) {
        return composed(table, tokens, positions);
    }
    let table = table.into_dispatch();
    match positions {
        None => apply(
            Operands::One(table),
            Op {
                ids: vec![tokens.clone()],
            },
        ),
        Some((vectors, places)) => apply(
            Operands::Two(table, vectors.into_dispatch()),
            Op {
                ids: vec![tokens.clone(), places],
            },
        ),
    }
}

/// [`embed`] from Burn's operations.
pub fn composed(
    table: Tensor<2>,
    tokens: &Arc<[u32]>,
    positions: Option<(Tensor<2>, Arc<[u32]>)>,
) -> Tensor<2> {
    let items = super::composed::select_rows(table, tokens);
    match positions {
        None => items,
        Some((vectors, places)) => items + super::composed::select_rows(vectors, &places),
    }
}

/// The sum of one row of each table a token.
#[derive(Debug)]
struct Op {
    ids: Vec<Arc<[u32]>>,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let width = inputs[0].shape[1];
        let mut output = vec![0.0; self.ids[0].len() * width];
        for (index, (table, ids)) in inputs.iter().zip(&self.ids).enumerate() {
            gather(
                Isa::detect(),
                width,
                table.data,
                ids,
                &mut output,
                index > 0,
            );
        }
        Forward {
            shape: vec![self.ids[0].len(), width],
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
        let gradient = |(table, ids): (&View<'_>, &Arc<[u32]>)| {
            let mut d_table = vec![0.0; table.shape[0] * table.shape[1]];
            scatter_add(Isa::detect(), table.shape[1], d_output, ids, &mut d_table);
            d_table
        };
        past.inputs
            .iter()
            .zip(&self.ids)
            .zip(wanted)
            .map(|(pair, &wanted)| wanted.then(|| gradient(pair)))
            .collect()
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
