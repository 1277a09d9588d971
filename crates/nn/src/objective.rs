//! From what the encoder says of the chosen rows to one number to make small.

use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::batch::PackedBatch;
use cloze_spec::objective::Loss;

use crate::op::{self, CandidateLoss};
use crate::{Encoder, Noise, Sequences};

/// The mean loss over the rows that `batch` asks predictions for, `[1]`.
pub fn loss(encoder: &Encoder, batch: &PackedBatch, loss: &Loss, noise: &mut Noise) -> Tensor<1> {
    let hidden = encoder.forward(&Sequences::new(batch), noise);
    let loss = of_hidden(encoder, batch, loss, hidden);
    noise.with_owed(loss)
}

fn of_hidden(encoder: &Encoder, batch: &PackedBatch, loss: &Loss, hidden: Tensor<2>) -> Tensor<1> {
    let (table, bias, items) = (encoder.table(), encoder.bias(), encoder.items());
    let kind = match loss {
        Loss::Softmax => {
            let targets: Arc<[u32]> = batch.labels.as_slice().into();
            return op::cross_entropy(hidden, table, bias, items, &targets);
        }
        Loss::SampledSoftmax(_) => CandidateLoss::SampledSoftmax,
        Loss::Bce(_) => CandidateLoss::Bce,
        Loss::Gbce(gbce) => CandidateLoss::Gbce {
            beta: gbce.beta(items) as f32,
        },
    };
    let candidates = batch
        .candidates
        .as_ref()
        .expect("a batch made for a sampled loss has candidates");
    let ids: Arc<[u32]> = candidates.ids.as_slice().into();
    let correction: Option<Arc<[f32]>> = candidates.correction.as_deref().map(Into::into);
    op::candidate_loss(hidden, table, bias, &ids, correction.as_ref(), kind)
}
