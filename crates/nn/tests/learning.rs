//! A small model learns eight sequences by heart, with every loss.

mod tiny;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Gradients, Tensor};
use cloze_data::batch::PackedBatch;
use cloze_nn::op::{AdamW, adamw};
use cloze_nn::{Encoder, Noise, Sequences, objective, weights};
use cloze_spec::Model;
use cloze_spec::objective::Loss;
use tiny::{
    BLANK, ITEMS, NEGATIVES, causal, device_under_test, losses, model, read, with_candidates,
};

/// What each blank hides is told by items before it, items after it, or their order.
const BLANKS: [(&[u32], u32); 8] = [
    (&[1, 2, BLANK], 3),
    (&[2, 1, BLANK], 4),
    (&[1, BLANK, 5], 6),
    (&[1, BLANK, 7], 8),
    (&[BLANK, 9, 10, 11], 12),
    (&[13, BLANK], 14),
    (&[13, 13, BLANK], 15),
    (&[16, 17, 18, 19, 20, 21, BLANK], 22),
];

/// The same with nothing after the blank.
const NEXT: [(&[u32], u32); 8] = [
    (&[1, 2], 3),
    (&[2, 1], 4),
    (&[1, 5], 6),
    (&[5, 1], 8),
    (&[9, 10, 11], 12),
    (&[13], 14),
    (&[13, 13], 15),
    (&[16, 17, 18, 19, 20, 21], 22),
];

fn pack(cases: &[(&[u32], u32)]) -> PackedBatch {
    let mut batch = PackedBatch::new();
    for &(tokens, label) in cases {
        let first = batch.push(tokens);
        let asked = tokens
            .iter()
            .position(|&token| token == BLANK)
            .unwrap_or(tokens.len() - 1);
        batch.rows.push(first + asked as u32);
        batch.labels.push(label);
    }
    batch.assert_valid(ITEMS);
    batch
}

struct Step {
    config: AdamW,
    gradients: Gradients,
    moments: std::vec::IntoIter<[Vec<f32>; 2]>,
    next: Vec<[Vec<f32>; 2]>,
}

impl ModuleMapper for Step {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let gradient = tensor
                .grad_remove(&mut self.gradients)
                .expect("every parameter is used");
            let (dims, device) = (tensor.dims(), gradient.device());
            let load = |x: Vec<f32>| Tensor::<1>::from_floats(x.as_slice(), &device).reshape(dims);
            let [mean, square] = match self.moments.next() {
                Some(moments) => moments.map(load),
                None => [Tensor::zeros(dims, &device), Tensor::zeros(dims, &device)],
            };
            let (tensor, mean, square) =
                adamw(&self.config, tensor.inner(), gradient, mean, square);
            self.next.push([read(&mean), read(&square)]);
            Tensor::from_inner(tensor).require_grad()
        })
    }
}

/// Negatives of one step, none of them the right item: of so few items many would be, and no score could please both.
fn with_negatives(batch: &PackedBatch, step: u64) -> PackedBatch {
    let mut batch = with_candidates(batch.clone(), 10 * step, ITEMS, NEGATIVES);
    let candidates = batch.candidates.as_mut().expect("just made");
    candidates.correction = None;
    for row in candidates.ids.chunks_mut(1 + NEGATIVES) {
        let (right, negatives) = row.split_first_mut().expect("not empty");
        for negative in negatives.iter_mut().filter(|negative| *negative == right) {
            *negative = (*right + 1) % ITEMS as u32;
        }
    }
    batch
}

/// The loss before and after, and the item that each row ranks first.
fn learn(model: &Model, batch: &PackedBatch, loss: &Loss, steps: u64) -> (f32, f32, Vec<u32>) {
    let values = weights::init(model, ITEMS, 1);
    let mut encoder = Encoder::new(model, ITEMS, &values, &device_under_test().autodiff());
    let (mut moments, mut first, mut last) = (Vec::new(), None, 0.0);
    for step in 1..=steps {
        let batch = match loss {
            Loss::Softmax => batch.clone(),
            Loss::SampledSoftmax(_) | Loss::Bce(_) | Loss::Gbce(_) => with_negatives(batch, step),
        };
        let loss = objective::loss(&encoder, &batch, loss, &mut Noise::new(step));
        let gradients = loss.backward();
        last = loss.into_scalar();
        first.get_or_insert(last);
        let config = AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.0,
            step,
            grad_scale: 1.0,
        };
        let mut update = Step {
            config,
            gradients,
            moments: moments.into_iter(),
            next: Vec::new(),
        };
        encoder = encoder.map(&mut update);
        moments = update.next;
    }
    let hidden = encoder.forward(&Sequences::new(batch), &mut Noise::none());
    let mut scores = hidden.matmul(
        encoder
            .table()
            .slice([0..ITEMS, 0..model.width])
            .transpose(),
    );
    if let Some(bias) = encoder.bias() {
        scores = scores + bias.unsqueeze();
    }
    let best = |scores: &[f32]| {
        (0..ITEMS as u32).max_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]))
    };
    let ranked = read(&scores).chunks(ITEMS).filter_map(best).collect();
    (first.unwrap_or_default(), last, ranked)
}

#[test]
fn blanks_in_eight_sequences_are_learned_by_heart() {
    let batch = pack(&BLANKS);
    // Binary losses, which see five items at a time, first learn how often each item is right and later when.
    for loss in losses() {
        let (first, last, ranked) = learn(&model(), &batch, &loss, 1200);
        assert!(last < 0.05 * first, "{loss:?}: from {first} to {last}");
        assert_eq!(ranked, batch.labels, "{loss:?}");
    }
}

#[test]
fn next_items_of_eight_sequences_are_learned_by_heart() {
    let batch = pack(&NEXT);
    let (first, last, ranked) = learn(&causal(model()), &batch, &Loss::Softmax, 300);
    assert!(
        (first - (ITEMS as f32).ln()).abs() < 0.1,
        "fresh weights know nothing: {first}"
    );
    assert!(last < 0.02, "from {first} to {last}");
    assert_eq!(ranked, batch.labels);
}
