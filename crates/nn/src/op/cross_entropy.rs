use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::cross_entropy::{Grads, Shape, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{indices, on_host, product};

/// Mean softmax cross-entropy of rows against the first `classes` rows of a table: scores are `hidden · tableᵀ + bias`.
///
/// The scores exist for a few rows at a time only, and their gradient is taken while they are at hand.
///
/// # Shapes
/// `hidden: [M, D]`, `table: [≥ C, D]`, `bias: [C]`, `targets: M` numbers below `C` → `[1]`
pub fn cross_entropy(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    classes: usize,
    targets: &Arc<[u32]>,
) -> Tensor<1> {
    if !on_host(&hidden.device()) {
        return composed(hidden, table, bias, classes, targets);
    }
    let (hidden, table) = (hidden.into_dispatch(), table.into_dispatch());
    let inputs = match bias {
        Some(bias) => Operands::Three(hidden, table, bias.into_dispatch()),
        None => Operands::Two(hidden, table),
    };
    apply(
        inputs,
        Op {
            classes,
            targets: targets.clone(),
        },
    )
}

/// Rows of the scores that [`composed`] has in memory at once.
const COMPOSED_ROWS: usize = 1024;

/// [`cross_entropy`] from Burn's operations.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    classes: usize,
    targets: &Arc<[u32]>,
) -> Tensor<1> {
    let [rows, width] = hidden.dims();
    let device = hidden.device();
    let table = table.slice([0..classes, 0..width]).transpose();
    let losses = (0..rows).step_by(COMPOSED_ROWS).map(|from| {
        let to = rows.min(from + COMPOSED_ROWS);
        let some = hidden.clone().slice([from..to, 0..width]);
        let mut scores = product(some, table.clone());
        if let Some(bias) = &bias {
            scores = scores + bias.clone().unsqueeze();
        }
        let targets = indices(&targets[from..to], &device).reshape([to - from, 1]);
        activation::log_softmax(scores, 1).gather(1, targets).sum()
    });
    Tensor::cat(losses.collect(), 0)
        .sum()
        .mul_scalar(-1.0 / rows.max(1) as f32)
}

#[derive(Debug)]
struct Op {
    classes: usize,
    targets: Arc<[u32]>,
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward {
        let (hidden, table) = (&inputs[0], &inputs[1]);
        let (rows, width) = (hidden.shape[0], hidden.shape[1]);
        let used = self.classes * width;
        let scale = 1.0 / rows.max(1) as f32;
        let mut losses = vec![0.0; rows];
        let mut saved = gradients(inputs, tracked);
        let grads = grads(&mut saved, used);
        forward(
            Isa::detect(),
            Shape {
                rows,
                width,
                classes: self.classes,
            },
            hidden.data,
            &table.data[..used],
            inputs.get(2).map(|bias| bias.data),
            &self.targets,
            scale,
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

/// Room for the gradient of each input, if one will be asked for.
pub(super) fn gradients(inputs: &[View<'_>], tracked: bool) -> Vec<Vec<f32>> {
    let tracked = inputs.iter().filter(|_| tracked);
    tracked.map(|input| vec![0.0; input.data.len()]).collect()
}

/// That room as the kernels take it; the table's gradient is of its first `used` values.
pub(super) fn grads(gradients: &mut [Vec<f32>], used: usize) -> Option<Grads<'_>> {
    let [d_hidden, d_table, rest @ ..] = gradients else {
        return None;
    };
    Some(Grads {
        d_hidden,
        d_table: &mut d_table[..used],
        d_bias: rest.first_mut().map(Vec::as_mut_slice),
    })
}

pub(super) fn mean(losses: &[f32]) -> f32 {
    (losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len().max(1) as f64) as f32
}

/// Gradients that were taken for a loss of weight 1, for a loss of weight `factor`.
pub(super) fn scaled(
    gradients: &[Vec<f32>],
    factor: f32,
    wanted: &[bool],
) -> Vec<Option<Vec<f32>>> {
    gradients
        .iter()
        .zip(wanted)
        .map(|(gradient, &wanted)| wanted.then(|| gradient.iter().map(|g| g * factor).collect()))
        .collect()
}
