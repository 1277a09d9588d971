//! The encoder and its losses: parameters, gradients, and what must not change an output.

mod tiny;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use cloze_data::batch::PackedBatch;
use cloze_nn::weights::{self, Values};
use cloze_nn::{Encoder, Noise, Sequences, objective, op};
use cloze_spec::Model;
use cloze_spec::block::{Block, Residual};
use cloze_spec::embed::{Embed, Positions};
use cloze_spec::head::{Head, Tied};
use cloze_spec::inventory::parameters;
use cloze_spec::objective::Loss;
use rayon::ThreadPoolBuilder;
use tiny::{
    BLANK, ITEMS, MAX_LEN, NEGATIVES, assert_close, attention, batch, bits, by_name, causal,
    device_under_test, ids, losses, model, numbers, read, values, wide_model, with_candidates,
    with_dropout, with_positions,
};

/// Every wiring of the small model, with its description.
fn variants() -> Vec<(String, Model)> {
    let mut variants = Vec::new();
    for pre_norm in [false, true] {
        for positions in [Positions::FromStart, Positions::FromEnd, Positions::None] {
            for (norm, causal) in [(true, false), (false, true)] {
                for (transform, bias) in
                    [(true, true), (true, false), (false, true), (false, false)]
                {
                    let mut model = with_positions(model(), positions);
                    if pre_norm {
                        model.stack.block = Block::PreNorm(Residual::plain(0.0));
                    }
                    if causal {
                        model = self::causal(model);
                    }
                    let Embed::Item(embed) = &mut model.embed;
                    embed.norm = norm;
                    model.head = Head::Tied(Tied { transform, bias });
                    let what = format!(
                        "pre-norm {pre_norm}, {positions:?}, norm {norm}, causal {causal}, \
                         transform {transform}, bias {bias}"
                    );
                    variants.push((what, model));
                }
            }
        }
    }
    variants
}

fn encoder(model: &Model, seed: u64) -> Encoder {
    Encoder::new(
        model,
        ITEMS,
        &values(model, ITEMS, seed),
        &device_under_test(),
    )
}

fn loss_of(encoder: &Encoder, batch: &PackedBatch, loss: &Loss, noise: &Noise) -> f32 {
    objective::loss(encoder, batch, loss, &mut noise.clone()).into_scalar()
}

/// The loss and the gradient of every parameter.
fn loss_and_gradients(
    model: &Model,
    items: usize,
    values: &Values,
    batch: &PackedBatch,
    loss: &Loss,
    noise: &Noise,
) -> (f32, Values) {
    let encoder = Encoder::new(model, items, values, &device_under_test().autodiff());
    let loss = objective::loss(&encoder, batch, loss, &mut noise.clone());
    let gradients = loss.backward();
    (loss.into_scalar(), by_name(&encoder, gradients))
}

/// The vector of every token of each sequence, all sequences in one batch.
fn outputs(encoder: &Encoder, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let mut batch = PackedBatch::new();
    for sequence in sequences {
        batch.push(sequence);
    }
    batch.rows = (0..batch.tokens.len() as u32).collect();
    let all = read(&encoder.forward(&Sequences::new(&batch), &mut Noise::none()));
    let width = all.len() / batch.tokens.len();
    let span = |w: &[u32]| all[w[0] as usize * width..w[1] as usize * width].to_vec();
    batch.offsets.windows(2).map(span).collect()
}

/// Random sequences of all lengths up to the longest, each ending with a blank.
fn sequences(seed: u64, count: usize) -> Vec<Vec<u32>> {
    (0..count as u64)
        .map(|index| {
            let mut sequence = ids(seed + index, 1 + (index * 5) as usize % MAX_LEN, ITEMS);
            *sequence.last_mut().expect("not empty") = BLANK;
            sequence
        })
        .collect()
}

#[test]
fn parameters_are_those_of_the_inventory() {
    struct Shapes(Vec<Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().dims().to_vec());
        }
    }
    for (what, model) in variants() {
        let given = values(&model, ITEMS, 1);
        let encoder = Encoder::new(&model, ITEMS, &given, &device_under_test());
        let mut shapes = Shapes(Vec::new());
        encoder.visit(&mut shapes);
        let found: Vec<_> = weights::names(&encoder).into_iter().zip(shapes.0).collect();
        let needed: Vec<_> = parameters(&model, ITEMS)
            .into_iter()
            .map(|p| (p.name, p.shape))
            .collect();
        assert_eq!(found, needed, "{what}");
        assert_eq!(weights::values(&encoder), given, "{what}");
        assert_eq!(encoder.items(), ITEMS);
    }
}

/// Central differences of the loss along each parameter's gradient, dropout on: the slope is the gradient's length,
/// and anything in the gradient that is not the loss's would make it less.
#[test]
fn every_parameters_gradient_is_the_slope_of_the_loss() {
    // Differences of a loss of about 3 keep 2e-7 · 3 of rounding, over a step of 0.05; what the formula leaves out
    // grows with the fourth power of the step and is below that.
    const STEP: f32 = 0.05;
    const ABSOLUTE: f32 = 1e-4;
    const RELATIVE: f32 = 0.01;
    // Less would hide in the rounding.
    const SHORTEST: f32 = 1e-3;
    let losses = losses();
    let noise = Noise::new(9);
    for (index, (what, model)) in variants().into_iter().enumerate() {
        // The head changes fastest, so the loss moves on once more with every round of heads: each meets all.
        let loss = &losses[(index + index / 4) % losses.len()];
        let what = format!("{what}, {loss:?}");
        let model = with_dropout(model, 0.1);
        let batch = with_candidates(batch(4, ITEMS, &[9, 1, 4, 7]), 5, ITEMS, NEGATIVES);
        let values = values(&model, ITEMS, 2);
        let (_, gradients) = loss_and_gradients(&model, ITEMS, &values, &batch, loss, &noise);
        assert!(
            gradients.keys().eq(values.keys()),
            "{what}: gradients of {:?}",
            gradients.keys()
        );
        for (name, gradient) in &gradients {
            let length = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(
                length > SHORTEST,
                "{what}: {name} has a gradient of length {length}"
            );
            let at = |step: f32| {
                let mut values = values.clone();
                let moved = values.get_mut(name).expect("a parameter");
                moved
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(x, g)| *x += step * g / length);
                let encoder = Encoder::new(&model, ITEMS, &values, &device_under_test());
                loss_of(&encoder, &batch, loss, &noise)
            };
            let near = at(STEP) - at(-STEP);
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            let slope = (8.0 * near - far) / (12.0 * STEP);
            assert!(
                (slope - length).abs() <= ABSOLUTE + RELATIVE * length,
                "{what}: {name} has a gradient of length {length}, the slope along it is {slope}"
            );
        }
    }
}

#[test]
fn keys_of_attention_alone_have_no_use_for_a_bias() {
    // The same vector added to every key changes no softmax; queries and values do feel theirs.
    let model = model();
    let batch = batch(4, ITEMS, &[9, 4, 7]);
    let (_, gradients) = loss_and_gradients(
        &model,
        ITEMS,
        &values(&model, ITEMS, 2),
        &batch,
        &Loss::Softmax,
        &Noise::none(),
    );
    let bias = &gradients["layer.0.mixer.qkv.bias"];
    let largest = |part: &[f32]| part.iter().fold(0.0_f32, |max, g| max.max(g.abs()));
    let [query, key, value] =
        [0, 1, 2].map(|part| largest(&bias[part * model.width..][..model.width]));
    assert!(
        query > 1e-4 && value > 1e-3 && key < 1e-6,
        "{query} {key} {value}"
    );
}

#[test]
fn neighbours_and_order_in_a_batch_do_not_change_an_output() {
    for model in [
        model(),
        wide_model(),
        causal(wide_model()),
        with_positions(model(), Positions::FromEnd),
    ] {
        let encoder = encoder(&model, 3);
        let together = sequences(1, 60);
        let alone: Vec<Vec<u32>> = together
            .iter()
            .map(|s| bits(&outputs(&encoder, std::slice::from_ref(s))[0]))
            .collect();
        let check = |order: &[usize]| {
            let batch: Vec<Vec<u32>> = order.iter().map(|&i| together[i].clone()).collect();
            for (output, &i) in outputs(&encoder, &batch).iter().zip(order) {
                assert!(
                    bits(output) == alone[i],
                    "sequence {i} among {}",
                    order.len()
                );
            }
        };
        let forward: Vec<usize> = (0..together.len()).collect();
        check(&forward);
        check(&forward.iter().rev().copied().collect::<Vec<_>>());
        for few in forward.chunks(7) {
            check(few);
        }
    }
}

#[test]
fn only_a_bidirectional_model_sees_what_comes_after() {
    let before = vec![3, 5, BLANK, 7, 11, BLANK, 2];
    let mut after = before.clone();
    after[4] = 12;
    let last_equal = |model: &Model| {
        let encoder = encoder(model, 4);
        let (a, b) = (
            outputs(&encoder, std::slice::from_ref(&before)),
            outputs(&encoder, std::slice::from_ref(&after)),
        );
        let row =
            |out: &Vec<Vec<f32>>, row: usize| bits(&out[0][row * model.width..][..model.width]);
        (0..before.len())
            .map(|i| row(&a, i) == row(&b, i))
            .collect::<Vec<bool>>()
    };
    assert_eq!(last_equal(&model()), [false; 7]);
    assert_eq!(
        last_equal(&causal(model())),
        [true, true, true, true, false, false, false]
    );
}

#[test]
fn positions_from_the_end_are_those_from_the_start_turned_round() {
    let start = model();
    let end = with_positions(model(), Positions::FromEnd);
    let len = 6;
    let sequence = vec![ids(7, len, ITEMS)];
    let given = values(&start, ITEMS, 5);
    let mut turned = given.clone();
    let table = turned
        .get_mut("embed.position.weight")
        .expect("a position table");
    let rows: Vec<f32> = table[..len * start.width]
        .chunks(start.width)
        .rev()
        .flatten()
        .copied()
        .collect();
    table[..rows.len()].copy_from_slice(&rows);
    let from = |model: &Model, values: &Values| {
        bits(
            &outputs(
                &Encoder::new(model, ITEMS, values, &device_under_test()),
                &sequence,
            )[0],
        )
    };
    assert_eq!(from(&start, &given), from(&end, &turned));
    assert_ne!(from(&start, &given), from(&end, &given));
}

#[test]
fn without_positions_the_order_of_items_is_not_seen() {
    // The sums over a sequence have another order.
    const LARGEST: f64 = 1e-5;
    const RMS: f64 = 3e-6;
    let blank = |positions: Positions, history: [u32; 4]| {
        let model = with_positions(model(), positions);
        let mut sequence = history.to_vec();
        sequence.push(BLANK);
        let all = outputs(&encoder(&model, 6), &[sequence]).remove(0);
        all[4 * model.width..].to_vec()
    };
    let (one, other) = ([3, 8, 1, 20], [20, 1, 3, 8]);
    assert_close(
        "blank",
        &blank(Positions::None, one),
        &blank(Positions::None, other),
        LARGEST,
        RMS,
    );
    for seen in [Positions::FromStart, Positions::FromEnd] {
        let (one, other) = (blank(seen, one), blank(seen, other));
        assert!(
            one.iter().zip(&other).any(|(a, b)| (a - b).abs() > 0.01),
            "{seen:?}"
        );
    }
}

#[test]
fn rows_chosen_in_the_last_layer_are_those_of_the_whole() {
    for model in [model(), wide_model(), causal(model())] {
        let mut pre_norm = model.clone();
        pre_norm.stack.block = Block::PreNorm(Residual::plain(0.0));
        for model in [model, pre_norm] {
            let encoder = encoder(&model, 7);
            let mut batch = batch(2, ITEMS, &[9, 2, 1, 6, 8]);
            let chosen = read(&encoder.forward(&Sequences::new(&batch), &mut Noise::none()));
            let rows = batch.rows.as_slice().into();
            batch.rows = (0..batch.tokens.len() as u32).collect();
            let whole = encoder.forward(&Sequences::new(&batch), &mut Noise::none());
            assert_eq!(bits(&chosen), bits(&read(&op::select_rows(whole, &rows))));
        }
    }
}

#[test]
fn the_loss_is_the_mean_over_the_rows_asked_for() {
    let model = model();
    let encoder = encoder(&model, 8);
    let batch = with_candidates(batch(3, ITEMS, &[9, 9, 5]), 2, ITEMS, NEGATIVES);
    assert!(batch.rows.len() > 4);
    for loss in losses() {
        let single = |row: usize| {
            let mut one = batch.clone();
            one.rows = vec![batch.rows[row]];
            one.labels = vec![batch.labels[row]];
            let all = batch.candidates.as_ref().expect("candidates");
            let part = row * (1 + NEGATIVES)..(row + 1) * (1 + NEGATIVES);
            let few = one.candidates.as_mut().expect("candidates");
            few.ids = all.ids[part.clone()].to_vec();
            few.correction = all
                .correction
                .as_ref()
                .map(|correction| correction[part].to_vec());
            one.assert_valid(ITEMS);
            loss_of(&encoder, &one, &loss, &Noise::none())
        };
        let singles: Vec<f32> = (0..batch.rows.len()).map(single).collect();
        let mean = singles.iter().sum::<f32>() / singles.len() as f32;
        let all = loss_of(&encoder, &batch, &loss, &Noise::none());
        assert!(
            (all - mean).abs() <= 1e-5 * mean,
            "{loss:?}: {all}, mean of rows {mean}"
        );
        assert!(
            singles.iter().any(|single| (single - mean).abs() > 0.01),
            "{loss:?}: rows differ"
        );
    }
}

#[test]
fn softmax_is_over_items_and_never_the_blank() {
    // Scores from plain loops: the loss is that of a softmax over the items' rows of the table.
    let model = model();
    let encoder = encoder(&model, 9);
    let batch = batch(5, ITEMS, &[9, 3, 6]);
    let hidden = read(&encoder.forward(&Sequences::new(&batch), &mut Noise::none()));
    let table = read(&encoder.table());
    let bias = read(&encoder.bias().expect("a bias"));
    assert_eq!(table.len(), (ITEMS + 1) * model.width);
    let row_loss = |(hidden, &label): (&[f32], &u32)| {
        let score = |item: usize| -> f64 {
            let vector = &table[item * model.width..][..model.width];
            hidden
                .iter()
                .zip(vector)
                .map(|(h, v)| f64::from(h * v))
                .sum::<f64>()
                + f64::from(bias[item])
        };
        (0..ITEMS).map(|item| score(item).exp()).sum::<f64>().ln() - score(label as usize)
    };
    let losses: Vec<f64> = hidden
        .chunks(model.width)
        .zip(&batch.labels)
        .map(row_loss)
        .collect();
    let want = losses.iter().sum::<f64>() / losses.len() as f64;
    let got = f64::from(loss_of(&encoder, &batch, &Loss::Softmax, &Noise::none()));
    assert!(
        (got - want).abs() <= 1e-6 * want,
        "{got}, by plain loops {want}"
    );

    // Where no item is hidden by a blank, nothing leads to the blank's vector.
    let mut open = batch;
    open.tokens
        .iter_mut()
        .filter(|token| **token == BLANK)
        .for_each(|token| *token = 1);
    let (_, gradients) = loss_and_gradients(
        &model,
        ITEMS,
        &values(&model, ITEMS, 9),
        &open,
        &Loss::Softmax,
        &Noise::none(),
    );
    let (items, blank) = gradients["embed.item.weight"].split_at(ITEMS * model.width);
    assert!(blank.iter().all(|&g| g == 0.0));
    assert!(
        items
            .chunks(model.width)
            .all(|row| row.iter().any(|&g| g != 0.0)),
        "a softmax moves every item"
    );
}

#[test]
fn the_seed_of_the_noise_alone_decides_what_is_dropped() {
    let dropped = with_dropout(wide_model(), 0.2);
    let batch = batch(6, ITEMS, &[9, 4, 8, 7]);
    let out = |encoder: &Encoder, noise: Noise| {
        bits(&read(
            &encoder.forward(&Sequences::new(&batch), &mut noise.clone()),
        ))
    };
    let with = encoder(&dropped, 1);
    assert_eq!(out(&with, Noise::new(1)), out(&with, Noise::new(1)));
    assert_ne!(out(&with, Noise::new(1)), out(&with, Noise::new(2)));
    assert_ne!(out(&with, Noise::new(1)), out(&with, Noise::none()));
    let without = encoder(&wide_model(), 1);
    assert_eq!(out(&without, Noise::new(1)), out(&with, Noise::none()));
    // A second pass with the same noise goes on, it does not repeat.
    let mut noise = Noise::new(1);
    let mut pass = || bits(&read(&with.forward(&Sequences::new(&batch), &mut noise)));
    assert_ne!(pass(), pass());
}

#[test]
fn each_place_of_dropout_drops() {
    let batch = batch(6, ITEMS, &[9, 4, 8, 7]);
    let out = |model: &Model| {
        bits(&read(
            &encoder(model, 1).forward(&Sequences::new(&batch), &mut Noise::new(3)),
        ))
    };
    let clean = out(&model());
    let places: [fn(&mut Model); 3] = [
        |model| {
            let Embed::Item(embed) = &mut model.embed;
            embed.dropout = 0.5;
        },
        |model| model.stack.block = Block::PostNorm(Residual::plain(0.5)),
        |model| {
            attention(model).dropout = 0.5;
        },
    ];
    for (index, place) in places.into_iter().enumerate() {
        let mut model = model();
        place(&mut model);
        assert_ne!(out(&model), clean, "place {index}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Enough work for every operation to be split.
    let items = 700;
    let model = with_dropout(
        Model {
            max_len: 50,
            ..wide_model()
        },
        0.2,
    );
    let values = values(&model, items, 1);
    let lens: Vec<usize> = numbers(3, 24)
        .iter()
        .map(|x| 25 + (x * 24.0) as usize)
        .collect();
    let batch = with_candidates(batch(8, items, &lens), 9, items, NEGATIVES);
    for loss in losses() {
        let on = |threads| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            let (loss, gradients) = pool.install(|| {
                loss_and_gradients(&model, items, &values, &batch, &loss, &Noise::new(4))
            });
            let gradients: BTreeMap<_, _> = gradients
                .into_iter()
                .map(|(name, g)| (name, bits(&g)))
                .collect();
            (loss.to_bits(), gradients)
        };
        let one = on(1);
        for threads in [2, 3] {
            let many = on(threads);
            assert_eq!(many.0, one.0, "{loss:?}: loss on {threads} threads");
            for (name, gradient) in &one.1 {
                assert!(
                    many.1[name] == *gradient,
                    "{loss:?}: gradient of {name} on {threads} threads"
                );
            }
        }
    }
}
