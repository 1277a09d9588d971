use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::candidates::{CandidateLoss, Shape, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::cross_entropy::{gradients, grads, mean, scaled};
use super::{floats, indices, on_host};

/// Mean loss of rows over a few candidates each, the first being the right one.
///
/// # Shapes
/// `hidden: [M, D]`, `table: [≥ V, D]`, `bias: [V]`, `ids` and `correction`: `M × candidates` → `[1]`
///
/// `correction` is subtracted from the scores (the log-Q correction of sampled softmax).
pub fn candidate_loss(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    ids: &Arc<[u32]>,
    correction: Option<&Arc<[f32]>>,
    loss: CandidateLoss,
) -> Tensor<1> {
    if !on_host(&hidden.device()) {
        return composed(hidden, table, bias, ids, correction, loss);
    }
    let (hidden, table) = (hidden.into_dispatch(), table.into_dispatch());
    let inputs = match bias {
        Some(bias) => Operands::Three(hidden, table, bias.into_dispatch()),
        None => Operands::Two(hidden, table),
    };
    apply(
        inputs,
        Op {
            ids: ids.clone(),
            correction: correction.cloned(),
            loss,
        },
    )
}

/// [`candidate_loss`] from Burn's operations.
pub fn composed(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    ids: &Arc<[u32]>,
    correction: Option<&Arc<[f32]>>,
    loss: CandidateLoss,
) -> Tensor<1> {
    let [rows, width] = hidden.dims();
    let count = ids.len() / rows.max(1);
    let device = hidden.device();
    let flat = indices(ids, &device);
    let vectors = table.select(0, flat.clone()).reshape([rows, count, width]);
    let mut scores = vectors
        .matmul(hidden.reshape([rows, width, 1]))
        .reshape([rows, count]);
    if let Some(bias) = bias {
        scores = scores + bias.select(0, flat).reshape([rows, count]);
    }
    if let Some(correction) = correction {
        scores = scores - floats(correction.to_vec(), [rows, count], &device);
    }
    let positive = scores.clone().slice([0..rows, 0..1]);
    let negatives = scores.clone().slice([0..rows, 1..count]);
    let binary = |beta: f32| {
        activation::log_sigmoid(positive.clone())
            .mul_scalar(beta)
            .sum()
            + activation::log_sigmoid(negatives.neg()).sum()
    };
    let sum = match loss {
        CandidateLoss::SampledSoftmax => {
            // A negative that is the positive by accident must not be pushed away.
            let hit = |i: usize| !i.is_multiple_of(count) && ids[i] == ids[i / count * count];
            let mask = (0..ids.len())
                .map(|i| if hit(i) { -1e30 } else { 0.0 })
                .collect();
            activation::log_softmax(scores + floats(mask, [rows, count], &device), 1)
                .slice([0..rows, 0..1])
                .sum()
        }
        CandidateLoss::Bce => binary(1.0),
        CandidateLoss::Gbce { beta } => binary(beta),
    };
    sum.mul_scalar(-1.0 / rows.max(1) as f32)
}

#[derive(Debug)]
struct Op {
    ids: Arc<[u32]>,
    correction: Option<Arc<[f32]>>,
    loss: CandidateLoss,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward {
        let (hidden, table) = (&inputs[0], &inputs[1]);
        let (rows, width) = (hidden.shape[0], hidden.shape[1]);
        // The bias has one value a class; without it every row of the table is a class.
        let classes = inputs.get(2).map_or(table.shape[0], |bias| bias.shape[0]);
        let used = classes * width;
        let mut losses = vec![0.0; rows];
        let mut saved = gradients(inputs, tracked);
        let grads = grads(&mut saved, used);
        forward(
            Isa::detect(),
            Shape {
                rows,
                width,
                classes,
                candidates: self.ids.len() / rows.max(1),
            },
            hidden.data,
            &table.data[..used],
            inputs.get(2).map(|bias| bias.data),
            &self.ids,
            self.correction.as_deref(),
            self.loss,
            1.0 / rows.max(1) as f32,
            grads,
            &mut losses,
        );
        Forward {
            shape: vec![1],
            output: vec![mean(&losses)],
            saved,
        }
    }

    fn backward(
        &self,
        past: &Past<'_>,
        d_output: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        scaled(past.saved, d_output[0], wanted)
    }

    fn keeps(&self, _: usize) -> bool {
        false
    }
}
