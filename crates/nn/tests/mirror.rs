//! Every operation's kernels against the same from Burn's operations: values, and gradients of every input.

mod tiny;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};
use cloze_nn::op::{
    self, Activation, AdamW, CandidateLoss, Dropout, Grain, PartialAttention, Sight, composed,
};
use cloze_spec::encoder::Rotary;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tiny::{COARSER, assert_close, device_under_test, ids, numbers, read};

/// Both sides round to f32, in different orders of summation. Sums here have up to a few hundred terms, whose
/// rounding errors add up like their square root: some tens of units in the last place (6e-8) of the largest term, and
/// what is compared is the largest of a few sums at least, so that not all of them can be what is left of much larger terms.
const LARGEST: f64 = 1e-5;
/// Few elements are unlucky.
const RMS: f64 = 3e-6;

/// Rows and columns of an input; operations that take vectors get theirs from one row.
type Sides = [usize; 2];

fn leaf(seed: u64, sides: Sides, device: &Device) -> Tensor<2> {
    let data = numbers(seed, sides[0] * sides[1]);
    Tensor::from_data(TensorData::new(data, sides), device)
}

fn vector(x: &Tensor<2>) -> Tensor<1> {
    let [rows, columns] = x.dims();
    assert_eq!(rows, 1);
    x.clone().reshape([columns])
}

/// The output, then the gradient of every input, of a random weighted sum of the output.
fn run(
    device: Device,
    sides: &[Sides],
    seed: u64,
    op: &impl Fn(&[Tensor<2>]) -> Tensor<2>,
) -> Vec<Vec<f32>> {
    let device = device.autodiff();
    let inputs: Vec<Tensor<2>> = (seed + 1..)
        .zip(sides)
        .map(|(seed, &sides)| leaf(seed, sides, &device).require_grad())
        .collect();
    let output = op(&inputs);
    // Transposed, so that the gradient arrives with strides that are not its own.
    let weights = leaf(seed, output.dims(), &device).transpose();
    let gradients = (output.clone().transpose() * weights).sum().backward();
    let gradient = |x: &Tensor<2>| read(&x.grad(&gradients).expect("every input has a gradient"));
    std::iter::once(read(&output))
        .chain(inputs.iter().map(gradient))
        .collect()
}

/// `fused` and `composed` agree on inputs of these sides. Inputs whose gradient cannot be anything but 0 are not asked for.
#[track_caller]
fn assert_mirror(
    what: &str,
    sides: &[Sides],
    seed: u64,
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    composed: impl Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    assert_within(1.0, what, sides, seed, fused, composed);
}

/// [`assert_mirror`] for operations that multiply matrices.
#[track_caller]
fn assert_mirror_of_products(
    what: &str,
    sides: &[Sides],
    seed: u64,
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    composed: impl Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    assert_within(COARSER, what, sides, seed, fused, composed);
}

#[track_caller]
fn assert_within(
    coarser: f64,
    what: &str,
    sides: &[Sides],
    seed: u64,
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    composed: impl Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    let (largest, rms) = (LARGEST * coarser, RMS * coarser);
    let fused = run(Device::flex(), sides, seed, &fused);
    let composed = run(device_under_test(), sides, seed, &composed);
    for (index, (got, want)) in fused.iter().zip(&composed).enumerate() {
        let part = match index {
            0 => "output".to_owned(),
            _ => format!("gradient of input {}", index - 1),
        };
        assert_close(&format!("{what}: {part}"), got, want, largest, rms);
    }
}

const DROPOUT: Dropout = Dropout { prob: 0.3, seed: 5 };

fn offsets(lens: &[usize]) -> Arc<[u32]> {
    let ends = lens.iter().scan(0, |end, &len| {
        *end += len as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn linear(rows in 1..70_usize, inputs in 1..40_usize, outputs in 4..40_usize, gelu: bool, seed in 0..1000_u64) {
        let activation = if gelu { Activation::Gelu } else { Activation::Identity };
        assert_mirror_of_products(
            "linear",
            &[[rows, inputs], [outputs, inputs], [1, outputs]],
            seed,
            |x| op::linear(x[0].clone(), x[1].clone(), vector(&x[2]), activation),
            |x| composed::linear(x[0].clone(), x[1].clone(), vector(&x[2]), activation),
        );
    }

    #[test]
    fn attention(
        lens in prop::collection::vec(1..30_usize, 1..6),
        heads in 1..4_usize,
        head_width in 2..20_usize,
        causal: bool,
        window in prop::option::of(0..20_usize),
        global in 0..3_usize,
        dropped: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let sight = Sight { causal, window, global };
        let dropout = if dropped { DROPOUT } else { Dropout::NONE };
        assert_mirror_of_products(
            "attention",
            &[[lens.iter().sum(), 3 * heads * head_width]],
            seed,
            |x| op::attention(x[0].clone(), &offsets, heads, sight, dropout),
            |x| composed::attention(x[0].clone(), &offsets, heads, sight, dropout),
        );
    }

    #[test]
    fn turn(
        lens in prop::collection::vec(1..30_usize, 1..6),
        heads in 1..4_usize,
        pairs in 1..10_usize,
        unturned in 0..3_usize,
        interleaved: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let frequencies = (0..pairs).map(|pair| 0.5_f32.powi(pair as i32)).collect();
        let rotary = Rotary { frequencies, amplitude: 1.25, interleaved };
        assert_mirror(
            "turn",
            &[[lens.iter().sum(), 3 * heads * (2 * pairs + unturned)]],
            seed,
            |x| op::turn(x[0].clone(), &offsets, heads, &rotary),
            |x| composed::turn(x[0].clone(), &offsets, heads, &rotary),
        );
    }

    #[test]
    fn recurrent(
        // Of one token alone no state comes back, and the weights of states have no gradient.
        lens in prop::collection::vec(2..30_usize, 1..6),
        width in 1..20_usize,
        reversed: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        assert_mirror_of_products(
            "recurrent",
            &[[lens.iter().sum(), 3 * width], [3 * width, width], [1, 3 * width]],
            seed,
            |x| op::recurrent(x[0].clone(), x[1].clone(), vector(&x[2]), &offsets, reversed),
            |x| composed::recurrent(x[0].clone(), x[1].clone(), vector(&x[2]), &offsets, reversed),
        );
    }

    #[test]
    fn selective_scan(
        // Some longer than two stretches between kept states.
        lens in prop::collection::vec(1..150_usize, 1..5),
        width in 1..9_usize,
        state in 1..7_usize,
        reversed: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let rows = lens.iter().sum();
        // Steps are not below 0, rates not above.
        let step = |x: &[Tensor<2>]| x[1].clone().abs();
        let rate = |x: &[Tensor<2>]| x[3].clone().abs().neg();
        assert_mirror(
            "selective_scan",
            &[[rows, width], [rows, width], [rows, 2 * state], [width, state]],
            seed,
            |x| op::selective_scan(x[0].clone(), step(x), x[2].clone(), rate(x), &offsets, reversed),
            |x| composed::selective_scan(x[0].clone(), step(x), x[2].clone(), rate(x), &offsets, reversed),
        );
    }

    #[test]
    fn softplus(rows in 1..40_usize, width in 1..20_usize, seed in 0..1000_u64) {
        assert_mirror(
            "softplus",
            &[[rows, width]],
            seed,
            |x| op::softplus(x[0].clone()),
            |x| composed::softplus(x[0].clone()),
        );
    }

    #[test]
    fn delta_rule(
        // Some of more than one chunk and one stretch.
        lens in prop::collection::vec(1..150_usize, 1..5),
        heads in 1..4_usize,
        head_width in 2..20_usize,
        both: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let rows = lens.iter().sum();
        let strength = |x: &[Tensor<2>]| activation::sigmoid(x[1].clone());
        assert_mirror_of_products(
            "delta_rule",
            &[[rows, 3 * heads * head_width], [rows, if both { 2 * heads } else { heads }]],
            seed,
            |x| op::delta_rule(x[0].clone(), strength(x), &offsets, heads, 16),
            |x| composed::delta_rule(x[0].clone(), strength(x), &offsets, heads, 16),
        );
    }

    #[test]
    fn quasiseparable(
        // Some of more than one chunk and one stretch.
        lens in prop::collection::vec(1..150_usize, 1..5),
        heads in 3..7_usize,
        head_width in 1..10_usize,
        state in 1..10_usize,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let rows = lens.iter().sum();
        // Steps are not below 0, rates not above.
        let step = |x: &[Tensor<2>]| x[1].clone().abs();
        let rate = |x: &[Tensor<2>]| vector(&x[3]).abs().neg();
        assert_mirror_of_products(
            "quasiseparable",
            &[[rows, heads * head_width + 4 * state], [rows, 2 * heads], [rows, heads], [1, heads]],
            seed,
            |x| op::quasiseparable(x[0].clone(), step(x), x[2].clone(), rate(x), &offsets, head_width, 16),
            |x| composed::quasiseparable(x[0].clone(), step(x), x[2].clone(), rate(x), &offsets, head_width, 16),
        );
    }

    #[test]
    fn depthwise(
        lens in prop::collection::vec(1..30_usize, 1..6),
        width in 1..40_usize,
        before in 0..4_usize,
        after in 0..4_usize,
        biased: bool,
        silu: bool,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let sides = [[lens.iter().sum(), width], [before + 1 + after, width], [1, width]];
        let bias = |x: &[Tensor<2>]| x.get(2).map(vector);
        let reach = [before, after];
        assert_mirror(
            "depthwise",
            if biased { &sides } else { &sides[..2] },
            seed,
            |x| op::depthwise(x[0].clone(), x[1].clone(), bias(x), &offsets, reach, silu),
            |x| composed::depthwise(x[0].clone(), x[1].clone(), bias(x), &offsets, reach, silu),
        );
    }

    #[test]
    fn granular_pool(
        lens in prop::collection::vec(1..60_usize, 1..5),
        heads in 1..4_usize,
        head_width in 1..20_usize,
        segment in 1..20_usize,
        radius in 0..4_usize,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let grain = Grain { heads, segment, radius };
        assert_mirror(
            "granular_pool",
            &[[lens.iter().sum(), 5 * heads * head_width]],
            seed,
            |x| op::granular_pool(x[0].clone(), &offsets, grain),
            |x| composed::granular_pool(x[0].clone(), &offsets, grain),
        );
    }

    #[test]
    fn pool(
        lens in prop::collection::vec(1..30_usize, 1..6),
        width in 1..40_usize,
        before in 0..4_usize,
        after in 0..4_usize,
        seed in 0..1000_u64,
    ) {
        let offsets = offsets(&lens);
        let sides = [before, after];
        // Without neighbours there is nothing, and no gradient of it.
        prop_assume!(before + after > 0 && lens.iter().any(|&len| len > 1));
        assert_mirror(
            "pool",
            &[[lens.iter().sum(), width]],
            seed,
            |x| op::pool(x[0].clone(), &offsets, sides),
            |x| composed::pool(x[0].clone(), &offsets, sides),
        );
    }

    #[test]
    fn rms(rows in 1..70_usize, width in 4..40_usize, gated: bool, seed in 0..1000_u64) {
        let sides = [[rows, width], [1, width], [rows, width]];
        let gate = |x: &[Tensor<2>]| x.get(2).cloned();
        // As large as the mean square: where it is forgotten or misplaced, it shows.
        let eps = 0.1;
        assert_mirror(
            "rms",
            if gated { &sides } else { &sides[..2] },
            seed,
            |x| op::rms(x[0].clone(), vector(&x[1]), gate(x), eps),
            |x| composed::rms(x[0].clone(), vector(&x[1]), gate(x), eps),
        );
    }

    #[test]
    fn add_norm(rows in 1..70_usize, width in 4..40_usize, residual: bool, dropped: bool, seed in 0..1000_u64) {
        let dropout = if dropped { DROPOUT } else { Dropout::NONE };
        // As large as the variance: where it is forgotten or misplaced, it shows, and no row is divided by almost 0.
        let eps = 0.1;
        let mut sides = vec![[rows, width], [1, width], [1, width]];
        if residual {
            sides.push([rows, width]);
        }
        assert_mirror(
            "add_norm",
            &sides,
            seed,
            |x| op::add_norm(x[0].clone(), x.get(3).cloned(), vector(&x[1]), vector(&x[2]), eps, dropout),
            |x| composed::add_norm(x[0].clone(), x.get(3).cloned(), vector(&x[1]), vector(&x[2]), eps, dropout),
        );
    }

    #[test]
    fn dropout_add(rows in 1..70_usize, width in 4..40_usize, residual: bool, dropped: bool, seed in 0..1000_u64) {
        let dropout = if dropped { DROPOUT } else { Dropout::NONE };
        let sides = [[rows, width]; 2];
        assert_mirror(
            "dropout_add",
            if residual { &sides } else { &sides[..1] },
            seed,
            |x| op::dropout_add(x[0].clone(), x.get(1).cloned(), dropout),
            |x| composed::dropout_add(x[0].clone(), x.get(1).cloned(), dropout),
        );
    }

    #[test]
    fn embed(tokens in 1..90_usize, width in 4..40_usize, positions: bool, seed in 0..1000_u64) {
        let (items, places) = (17, 9);
        let token_ids: Arc<[u32]> = ids(seed, tokens, items).into();
        let place_ids: Arc<[u32]> = ids(seed + 1, tokens, places).into();
        let sides = [[items, width], [places, width]];
        let with = |x: &[Tensor<2>]| x.get(1).cloned().map(|table| (table, place_ids.clone()));
        assert_mirror(
            "embed",
            if positions { &sides } else { &sides[..1] },
            seed,
            |x| op::embed(x[0].clone(), &token_ids, with(x)),
            |x| composed::embed(x[0].clone(), &token_ids, with(x)),
        );
    }

    #[test]
    fn select_rows(rows in 1..70_usize, width in 4..40_usize, picked in 1..70_usize, seed in 0..1000_u64) {
        let picked: Arc<[u32]> = ids(seed, picked, rows).into();
        assert_mirror(
            "select_rows",
            &[[rows, width]],
            seed,
            |x| op::select_rows(x[0].clone(), &picked),
            |x| composed::select_rows(x[0].clone(), &picked),
        );
    }

    #[test]
    fn cross_entropy(
        rows in 1..70_usize,
        width in 4..40_usize,
        classes in 5..200_usize,
        // Rows of the table that are no class, such as the blank.
        beyond in 0..3_usize,
        bias: bool,
        seed in 0..1000_u64,
    ) {
        let targets: Arc<[u32]> = ids(seed, rows, classes).into();
        let sides = [[rows, width], [classes + beyond, width], [1, classes]];
        assert_mirror_of_products(
            "cross_entropy",
            if bias { &sides } else { &sides[..2] },
            seed,
            |x| op::cross_entropy(x[0].clone(), x[1].clone(), x.get(2).map(vector), classes, &targets).unsqueeze(),
            |x| composed::cross_entropy(x[0].clone(), x[1].clone(), x.get(2).map(vector), classes, &targets).unsqueeze(),
        );
    }

    #[test]
    fn candidate_loss(
        rows in 1..70_usize,
        width in 4..40_usize,
        // Few enough for a negative to be the right item, or drawn twice.
        items in 5..40_usize,
        negatives in 1..12_usize,
        bias: bool,
        corrected: bool,
        kind in 0..3_usize,
        seed in 0..1000_u64,
    ) {
        let loss = [CandidateLoss::SampledSoftmax, CandidateLoss::Bce, CandidateLoss::Gbce { beta: 0.3 }][kind];
        let mut candidates = ids(seed, rows * (1 + negatives), items);
        // One row at least has something to tell apart: sampled softmax leaves out negatives equal to the positive.
        candidates[1] = (candidates[0] + 1) % items as u32;
        let candidates: Arc<[u32]> = candidates.into();
        let correction: Option<Arc<[f32]>> = corrected.then(|| numbers(seed, candidates.len()).into());
        let sides = [[rows, width], [items + 1, width], [1, items]];
        assert_mirror_of_products(
            "candidate_loss",
            if bias { &sides } else { &sides[..2] },
            seed,
            |x| {
                let bias = x.get(2).map(vector);
                op::candidate_loss(x[0].clone(), x[1].clone(), bias, &candidates, correction.as_ref(), loss).unsqueeze()
            },
            |x| {
                let bias = x.get(2).map(vector);
                composed::candidate_loss(x[0].clone(), x[1].clone(), bias, &candidates, correction.as_ref(), loss)
                    .unsqueeze()
            },
        );
    }

    #[test]
    fn adamw(rows in 1..70_usize, width in 4..40_usize, decay: bool, clipped: bool, seed in 0..1000_u64) {
        let sides = [rows, width];
        let start = |device: &Device| {
            let zeros = || Tensor::<2>::zeros(sides, device);
            (leaf(seed, sides, device), zeros(), zeros())
        };
        let devices = [Device::flex(), device_under_test()];
        let [mut fused, mut composed] = devices.each_ref().map(start);
        for step in 1..=3 {
            let config = AdamW {
                lr: 0.01,
                beta1: 0.9,
                beta2: 0.98,
                eps: 1e-3,
                weight_decay: if decay { 0.1 } else { 0.0 },
                step,
                grad_scale: if clipped { 0.25 } else { 1.0 },
            };
            let [here, there] = devices.each_ref().map(|device| leaf(seed + step, sides, device));
            fused = op::adamw(&config, fused.0, here, fused.1, fused.2);
            composed = composed::adamw(&config, composed.0, there, composed.1, composed.2);
        }
        let moved = |param: Tensor<2>| {
            let start = leaf(seed, sides, &param.device());
            read(&(param - start))
        };
        // The difference of two parameters keeps their rounding, 3e-8 at each step, and is a move of 0.01 or so.
        assert_close("adamw: move", &moved(fused.0), &moved(composed.0), 3e-5, 1e-5);
        assert_close("adamw: mean", &read(&fused.1), &read(&composed.1), LARGEST, RMS);
        assert_close("adamw: mean square", &read(&fused.2), &read(&composed.2), LARGEST, RMS);
    }

    #[test]
    fn adamw_of_read_rows(rows in 1..20_usize, width in 1..40_usize, seed in 0..1000_u64) {
        let config = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.98, eps: 1e-3, weight_decay: 0.1, step: 3, grad_scale: 0.5 };
        let read_row = |row: usize| row % 3 == 1;
        let found = [Device::flex(), device_under_test()].map(|device| {
            let part = |more| leaf(seed + more, [rows, width], &device);
            let read_rows = (0..rows).map(|row| if read_row(row) { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
            let gradient = part(1) * Tensor::from_data(TensorData::new(read_rows, [rows, 1]), &device);
            let (param, mean, square) = (part(0), part(2), part(3).abs());
            let whole = op::adamw(&config, param.clone(), gradient.clone(), mean.clone(), square.clone());
            let some = op::adamw_of_read_rows(&config, param.clone(), gradient, mean.clone(), square.clone());
            let before = [param, mean, square];
            [some.0, some.1, some.2].iter().zip([whole.0, whole.1, whole.2]).zip(before).map(|((some, whole), before)| {
                (read(some), read(&whole), read(&before))
            }).collect::<Vec<_>>()
        });
        for parts in found {
            for (some, whole, before) in parts {
                for row in 0..rows {
                    let at = row * width..(row + 1) * width;
                    if read_row(row) {
                        assert_close("a row that was read", &some[at.clone()], &whole[at], 1e-6, 1e-6);
                    } else {
                        prop_assert_eq!(&some[at.clone()], &before[at]);
                    }
                }
            }
        }
    }

    /// Each worker has some of the tokens, and meets the keys of the others from its own on, round the ring.
    #[test]
    fn parts_of_attention_give_the_whole(
        lens in prop::collection::vec(0..14_usize, 1..6),
        heads in 1..4_usize,
        head_width in 1..12_usize,
        causal: bool,
        seed in 0..1000_u64,
    ) {
        // Two sums of a few dozen terms, one cut into parts.
        const EXACT: f64 = 1e-6;
        let tokens: usize = lens.iter().sum();
        prop_assume!(tokens > 0);
        let width = heads * head_width;
        let device = Device::flex().autodiff();
        let qkv = leaf(seed, [tokens, 3 * width], &device).require_grad();
        let cotangent = leaf(seed + 1, [tokens, width], &device);
        let whole = op::attention(qkv.clone(), &offsets(&[tokens]), heads, Sight { causal, ..Sight::default() }, Dropout { prob: 0.0, seed: 0 });
        let d_whole = qkv.grad(&(whole.clone() * cotangent.clone()).sum().backward()).expect("a gradient");

        let mut first = 0;
        let blocks: Vec<(usize, usize)> = lens.iter().map(|&len| { first += len; (first - len, len) }).filter(|b| b.1 > 0).collect();
        let by_head = |x: Tensor<2>| {
            let rows = x.dims()[0];
            x.reshape([rows, heads, head_width]).swap_dims(0, 1)
        };
        let block = |x: &Tensor<2>, part: usize, (first, len): (usize, usize)| {
            by_head(x.clone().slice([first..first + len, part * width..(part + 1) * width]))
        };
        let may = |(query, queries): (usize, usize), (key, keys): (usize, usize)| {
            let pairs = (0..queries * keys).map(|at| if causal && key + at % keys > query + at / keys { 0.0 } else { 1.0_f32 });
            Tensor::<3>::from_data(TensorData::new(pairs.collect(), [1, queries, keys]), &device)
        };
        let ring = |worker: usize| (worker..blocks.len()).chain(0..worker).map(|at| blocks[at]);
        let merged = |qkv: &Tensor<2>, worker: usize| {
            let own = blocks[worker];
            let parts = ring(worker).map(|other| PartialAttention::of(
                block(qkv, 0, own), block(qkv, 1, other), block(qkv, 2, other), may(own, other),
            ));
            parts.reduce(PartialAttention::merge).expect("a block")
        };
        let join = |parts: Vec<Tensor<3>>| Tensor::cat(parts, 1).swap_dims(0, 1).reshape([tokens, width]);
        let outputs = (0..blocks.len()).map(|worker| merged(&qkv, worker).output).collect();
        let output = join(outputs);
        assert_close("output", &read(&output), &read(&whole), EXACT, EXACT);
        let d_qkv = qkv.grad(&(output * cotangent.clone()).sum().backward()).expect("a gradient");
        assert_close("gradient", &read(&d_qkv), &read(&d_whole), EXACT, EXACT);

        // The way back block by block, from the whole's result alone.
        let plain = qkv.inner();
        let mut sums: Vec<[Tensor<3>; 3]> = blocks.iter().map(|&own| [0, 1, 2].map(|part| block(&plain, part, own).zeros_like())).collect();
        for (worker, &own) in blocks.iter().enumerate() {
            let whole = merged(&plain, worker);
            let d_output = block(&cotangent.clone().inner(), 0, own);
            for at in (worker..blocks.len()).chain(0..worker) {
                let other = blocks[at];
                let [d_query, d_key, d_value] = whole.backward(
                    block(&plain, 0, own), block(&plain, 1, other), block(&plain, 2, other), may(own, other).inner(), d_output.clone(),
                );
                sums[worker][0] = sums[worker][0].clone() + d_query;
                sums[at][1] = sums[at][1].clone() + d_key;
                sums[at][2] = sums[at][2].clone() + d_value;
            }
        }
        let parts = [0, 1, 2].map(|part| join(sums.iter().map(|sums| sums[part].clone()).collect()));
        assert_close("gradient by blocks", &read(&Tensor::cat(parts.to_vec(), 1)), &read(&d_whole), EXACT, EXACT);
    }

    #[test]
    fn sum_of_squares(rows in 1..70_usize, width in 4..40_usize, seed in 0..1000_u64) {
        for device in [Device::flex(), device_under_test()] {
            let (x, y) = (leaf(seed, [1, rows], &device), leaf(seed + 1, [1, width], &device));
            let want: f64 = [read(&x), read(&y)].concat().iter().map(|&x| f64::from(x).powi(2)).sum();
            prop_assert!((op::sum_of_squares(&[&vector(&x), &vector(&y)]) - want).abs() <= 1e-6 * want);
        }
    }
}

#[test]
fn cross_entropy_of_more_rows_than_are_composed_at_once() {
    let (rows, width, classes) = (1500, 7, 11);
    let targets: Arc<[u32]> = ids(3, rows, classes).into();
    assert_mirror_of_products(
        "cross_entropy",
        &[[rows, width], [classes, width], [1, classes]],
        3,
        |x| {
            op::cross_entropy(
                x[0].clone(),
                x[1].clone(),
                Some(vector(&x[2])),
                classes,
                &targets,
            )
            .unsqueeze()
        },
        |x| {
            composed::cross_entropy(
                x[0].clone(),
                x[1].clone(),
                Some(vector(&x[2])),
                classes,
                &targets,
            )
            .unsqueeze()
        },
    );
}

#[test]
fn attention_over_sequences_longer_than_a_kernels_block() {
    let (lens, heads, width) = ([1, 150, 3, 201], 2, 32);
    let offsets = offsets(&lens);
    let sights = [
        (false, None, 0),
        (true, None, 0),
        (true, Some(40), 0),
        (false, Some(64), 0),
        (true, Some(20), 2),
        (false, Some(20), 40),
    ];
    for (index, (causal, window, global)) in sights.into_iter().enumerate() {
        let sight = Sight {
            causal,
            window,
            global,
        };
        let dropout = [DROPOUT, Dropout::NONE][index % 2];
        assert_mirror_of_products(
            "attention",
            &[[lens.iter().sum(), 3 * width]],
            1,
            |x| op::attention(x[0].clone(), &offsets, heads, sight, dropout),
            |x| composed::attention(x[0].clone(), &offsets, heads, sight, dropout),
        );
    }
}

#[test]
fn views_are_read_by_their_strides() {
    let device = Device::flex();
    let (rows, inputs, outputs) = (6, 5, 4);
    let bias = || vector(&leaf(3, [1, outputs], &device));
    let want = |x: &Tensor<2>, weight: &Tensor<2>| {
        let (x, weight, bias) = (read(x), read(weight), read(&bias()));
        let cell = |row: usize, col: usize| -> f32 {
            let products = (0..inputs).map(|k| x[row * inputs + k] * weight[col * inputs + k]);
            products.sum::<f32>() + bias[col]
        };
        (0..rows * outputs)
            .map(|i| cell(i / outputs, i % outputs))
            .collect::<Vec<f32>>()
    };
    let weight = leaf(2, [inputs, outputs], &device).transpose();
    for (what, x) in [
        ("transposed", leaf(1, [inputs, rows], &device).transpose()),
        (
            "rows of a taller",
            leaf(1, [rows + 3, inputs], &device).slice([2..2 + rows, 0..inputs]),
        ),
        (
            "columns of a wider",
            leaf(1, [rows, inputs + 3], &device).slice([0..rows, 2..2 + inputs]),
        ),
    ] {
        let got = op::linear(x.clone(), weight.clone(), bias(), Activation::Identity);
        assert_close(what, &read(&got), &want(&x, &weight), LARGEST, RMS);
    }
}

#[test]
fn a_step_on_part_of_a_tensor_leaves_the_rest_alone() {
    let device = Device::flex();
    let whole = leaf(1, [6, 4], &device);
    let part = || whole.clone().slice([2..4, 0..4]);
    let config = AdamW {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        grad_scale: 1.0,
    };
    let zeros = || Tensor::<2>::zeros([2, 4], &device);
    let before = read(&whole);
    let gradient = Tensor::ones([2, 4], &device);
    let (param, ..) = op::adamw(&config, part(), gradient, zeros(), zeros());
    let want: Vec<f32> = before[8..16].iter().map(|x| x - 0.1).collect();
    assert_close("parameter", &read(&param), &want, LARGEST, RMS);
    assert_eq!(read(&whole), before);
    let squares: f64 = before[8..16].iter().map(|&x| f64::from(x).powi(2)).sum();
    let flat = whole.reshape([24]).narrow(0, 8, 8);
    assert!((op::sum_of_squares(&[&flat]) - squares).abs() <= 1e-6 * squares);
}

#[test]
fn an_input_used_twice_gets_both_gradients() {
    let (rows, width) = (5, 8);
    let sides = [[rows, width], [1, width], [1, width]];
    let norm = |x: &[Tensor<2>], composed: bool| {
        let (x, gain, bias) = (x[0].clone(), vector(&x[1]), vector(&x[2]));
        let add_norm = if composed {
            composed::add_norm
        } else {
            op::add_norm
        };
        add_norm(x.clone(), Some(x), gain, bias, 0.1, DROPOUT)
    };
    assert_mirror(
        "add_norm(x, x)",
        &sides,
        2,
        |x| norm(x, false),
        |x| norm(x, true),
    );
}

#[test]
fn constants_do_not_change_the_gradients_of_the_others() {
    let device = Device::flex().autodiff();
    let inputs = || {
        [
            leaf(1, [7, 5], &device),
            leaf(2, [6, 5], &device),
            leaf(3, [1, 6], &device),
        ]
    };
    let gradients = |tracked: [bool; 3]| {
        let inputs = inputs();
        let inputs: Vec<Tensor<2>> = inputs
            .into_iter()
            .zip(tracked)
            .map(|(x, tracked)| if tracked { x.require_grad() } else { x })
            .collect();
        let out = op::linear(
            inputs[0].clone(),
            inputs[1].clone(),
            vector(&inputs[2]),
            Activation::Gelu,
        );
        let gradients = out.powi_scalar(2).sum().backward();
        inputs
            .iter()
            .map(|x| x.grad(&gradients).map(|g| read(&g)))
            .collect::<Vec<_>>()
    };
    let all = gradients([true; 3]);
    for index in 0..3 {
        let mut tracked = [false; 3];
        tracked[index] = true;
        let one = gradients(tracked);
        assert_eq!(one[index], all[index], "input {index} alone");
        assert_eq!(
            one.iter().flatten().count(),
            1,
            "constants have no gradient"
        );
        let others = gradients(tracked.map(|t| !t));
        assert_eq!(others.iter().flatten().count(), 2);
        assert!(
            (0..3).all(|i| i == index || others[i] == all[i]),
            "all but input {index}"
        );
    }
}

#[test]
fn the_two_sides_are_two_computations() {
    // Sums of many terms in different orders cannot round alike everywhere; were they one computation, they would.
    let device = Device::flex().autodiff();
    let output = |composed: bool| {
        let (x, weight) = (leaf(1, [20, 300], &device), leaf(2, [30, 300], &device));
        let linear = if composed {
            composed::linear
        } else {
            op::linear
        };
        tiny::bits(&read(&linear(
            x,
            weight,
            vector(&leaf(3, [1, 30], &device)),
            Activation::Gelu,
        )))
    };
    assert_ne!(output(false), output(true));
}
