//! Pretrained encoders in Burn against their authors' numbers, and so against the CPU engine, which meets the same; and
//! what they learn, against finite differences.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod tiny;

use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::text::batch::{Documents, TextBatch, Wanted};
use cloze_nn::pretrained::{BurnEngine, LabelLoss, Pretrained, TRANSITIONS};
use cloze_nn::weights::{Values, fresh};
use cloze_nn::{Hook, Noise};
use cloze_runtime::golden::Golden;
use cloze_runtime::model::Checkpoint;
use cloze_runtime::{Batch, Engine, Rows};
use cloze_spec::encoder::{DropoutRates, Problem, Task};
use cloze_spec::hugging_face::Draft;
use cloze_spec::inventory::encoder_parameters;
use cloze_spec::text::{self, ChunkPool};
use tiny::{COARSER, device_under_test};

/// Largest difference of any value, per root mean square of its stage: as for the CPU engine.
const LARGEST: f32 = 2e-5 * COARSER as f32;

/// How far a slope by finite differences may be from the gradient, as a share of it: what is rounded more than f32 weighs more where
/// the loss moves little.
const SLOPE: f64 = if COARSER > 1.0 { 0.25 } else { 0.03 };

#[test]
fn every_family_gives_what_its_authors_code_gives() {
    let mut faults = Vec::new();
    let mut compared = 0;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let values = values(&checkpoint);
        let engine = BurnEngine::new(checkpoint.encoder.clone(), &values, &device_under_test());
        let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
        let differences = golden.compare(&engine).unwrap();
        let far = differences.iter().filter(|found| found.largest > LARGEST);
        faults.extend(far.map(|found| format!("{}: {found:?}", folder.display())));
        compared += differences.len();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared > 200, "{compared} stages compared");
}

#[test]
fn attention_as_a_mixer_is_attention_as_bert_has_it() {
    let settings = |text: &str| match serde_json::from_str(text).unwrap() {
        serde_json::Value::Object(map) => map,
        other => panic!("{other}"),
    };
    let sizes = r#""hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 40, "max_position_embeddings": 20"#;
    let bert = format!(r#"{{"model_type": "bert", "num_attention_heads": 4, {sizes}}}"#);
    let mixer = r#"{"kind": "attention", "heads": 4, "causal": false, "dropout": 0.1}"#;
    let mixed = format!(r#"{{"model_type": "cloze-mixer", "mixer": {mixer}, {sizes}}}"#);
    let [bert, mixed] = [bert, mixed].map(|config| {
        let draft = Draft::new(settings(&config), 50, Task::MaskedToken).unwrap();
        draft.encoder().clone()
    });
    let parameters = encoder_parameters(&bert);
    assert_eq!(parameters, encoder_parameters(&mixed));
    let mut values = fresh(&parameters, 0.3, 5);
    // Gains and biases too are to count.
    for values in values.values_mut() {
        for (at, value) in values.iter_mut().enumerate() {
            *value += 0.1 * (at as f32).sin();
        }
    }
    let mut texts = Batch::new();
    for len in [5_u32, 20, 1] {
        let tokens: Vec<u32> = (0..len).map(|at| (at * 7 + len) % 50).collect();
        let segments: Vec<u32> = (0..len).map(|at| at % 2).collect();
        texts.push(&tokens, &segments);
    }
    let [want, got] = [bert, mixed].map(|encoder| {
        let engine = BurnEngine::new(encoder, &values, &device_under_test());
        let (mut vectors, mut scores) = (Vec::new(), Vec::new());
        engine
            .run(&texts, Rows::Some(&[0, 4, 24, 25]), &mut vectors)
            .unwrap();
        engine.head(&vectors, &mut scores).unwrap();
        engine.run(&texts, Rows::All, &mut vectors).unwrap();
        [vectors, scores].concat()
    });
    assert_eq!(want.len(), 26 * 16 + 4 * 50);
    for (want, got) in want.iter().zip(&got) {
        assert!(
            (want - got).abs() <= 1e-5 * want.abs().max(1.0),
            "{got}, needs {want}"
        );
    }
}

fn folders() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
    let entries = std::fs::read_dir(home).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn values(checkpoint: &Checkpoint) -> Values {
    let parameters = encoder_parameters(&checkpoint.encoder).into_iter();
    parameters
        .map(|parameter| {
            let mut values = vec![0.0; parameter.shape.iter().product()];
            checkpoint.read(&parameter, &mut values).unwrap();
            (parameter.name, values)
        })
        .collect()
}

/// Three texts, and something to predict of them that `encoder` has a head for; none if it has no such head.
fn batch(encoder: &cloze_spec::Encoder) -> Option<TextBatch> {
    let head = encoder.head.as_ref()?;
    let vocab = encoder.embed.vocab as u32;
    let tokens: Vec<u32> = (0..14).map(|at| (at * 37 + 5) % vocab).collect();
    let segments = encoder.embed.segments.unwrap_or(1).min(2) as u32;
    let outputs = head.output.map_or(0, |output| output.outputs as u32);
    let (rows, wanted) = match &head.task {
        Task::Vector => return None,
        Task::MaskedToken => (
            Some(vec![1, 4, 6, 13]),
            Wanted::Tokens(vec![3, 0, vocab - 1, 8]),
        ),
        Task::Token { .. } => (
            Some(vec![0, 5, 7]),
            Wanted::Classes(vec![0, outputs - 1, 0]),
        ),
        Task::Span => (None, Wanted::Spans(vec![[1, 2], [0, 0], [2, 3]])),
        Task::Sequence(sequence) => {
            let wanted = match sequence.problem {
                Problem::SingleLabel => Wanted::Classes(vec![0, outputs - 1, 0]),
                Problem::MultiLabel => {
                    Wanted::Sets((0..3 * outputs).map(|at| f32::from(at % 2 == 0)).collect())
                }
                Problem::Regression => {
                    Wanted::Numbers((0..3 * outputs).map(|at| at as f32 - 1.0).collect())
                }
            };
            (None, wanted)
        }
    };
    Some(TextBatch {
        segments: (0..14)
            .map(|at| u32::from(at % 3 == 1) * (segments - 1))
            .collect(),
        tokens,
        offsets: vec![0, 5, 7, 14],
        rows,
        wanted,
        ..TextBatch::default()
    })
}

fn settings() -> text::LabelLoss {
    text::LabelLoss {
        label_smoothing: 0.1,
        focal_gamma: 1.5,
        ..text::LabelLoss::default()
    }
}

fn loss(model: &Pretrained, batch: &TextBatch) -> Tensor<1> {
    let settings = settings();
    let how = LabelLoss {
        settings: &settings,
        class_weights: None,
    };
    model.loss(batch, how, DropoutRates::NONE, &mut Noise::none())
}

fn gradients(model: &Pretrained, batch: &TextBatch) -> Values {
    tiny::by_name(model, loss(model, batch).backward())
}

/// How fast the loss changes a step along its gradient, and how long that is.
fn along_the_gradient(
    encoder: &cloze_spec::Encoder,
    start: &Values,
    batch: &TextBatch,
) -> (f64, f64) {
    let encoder = Arc::new(encoder.clone());
    let model = Pretrained::new(encoder.clone(), start, &device_under_test().autodiff());
    let gradients = gradients(&model, batch);
    let squares = gradients.values().flatten();
    let norm = squares.map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    // Short, as some heads have kinks, and long enough that f32 leaves something of a difference of losses.
    let step = 2e-3 / norm.max(1.0);
    let moved = |sign: f64| {
        let mut values = start.clone();
        for (name, gradient) in &gradients {
            for (value, g) in values.get_mut(name).unwrap().iter_mut().zip(gradient) {
                *value += (sign * step * f64::from(*g) / norm) as f32;
            }
        }
        let model = Pretrained::new(encoder.clone(), &values, &device_under_test());
        f64::from(loss(&model, batch).into_scalar::<f32>())
    };
    ((moved(1.0) - moved(-1.0)) / (2.0 * step), norm)
}

#[test]
fn the_loss_falls_along_its_gradient_as_fast_as_that_is_long() {
    let mut tasks = 0;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let Some(batch) = batch(&checkpoint.encoder) else {
            continue;
        };
        tasks += 1;
        let (slope, norm) = along_the_gradient(&checkpoint.encoder, &values(&checkpoint), &batch);
        assert!(
            (slope - norm).abs() <= SLOPE * norm + 1e-3,
            "{}: the loss changes by {slope} a step, the gradient is {norm} long",
            folder.display()
        );
    }
    assert!(tasks >= 15, "{tasks} heads");
}

/// The sum of what each part has of a parameter.
fn summed(parts: impl IntoIterator<Item = Values>) -> Values {
    let mut sum = Values::new();
    for (name, gradient) in parts.into_iter().flatten() {
        match sum.entry(name) {
            Entry::Vacant(place) => {
                place.insert(gradient);
            }
            Entry::Occupied(mut place) => {
                for (sum, g) in place.get_mut().iter_mut().zip(gradient) {
                    *sum += g;
                }
            }
        }
    }
    sum
}

#[test]
fn what_is_computed_once_more_on_the_way_back_has_the_same_gradients() {
    let mut tasks = 0;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let Some(batch) = batch(&checkpoint.encoder) else {
            continue;
        };
        tasks += 1;
        let (encoder, values) = (Arc::new(checkpoint.encoder.clone()), values(&checkpoint));
        let rates = DropoutRates {
            hidden: 0.1,
            attention: 0.1,
            head: 0.1,
        };
        // Once with the embedding table as it is: nothing lies below the first layer then.
        for frozen in ["", "embed."] {
            let device = device_under_test().autodiff();
            let model = Pretrained::new(encoder.clone(), &values, &device)
                .freeze(|name| !frozen.is_empty() && name.starts_with(frozen));
            let run = |model: Pretrained| {
                let settings = settings();
                let how = LabelLoss {
                    settings: &settings,
                    class_weights: None,
                };
                let loss = model.loss(&batch, how, rates, &mut Noise::new(3));
                let parts = model.gradients(&loss).into_iter();
                summed(parts.map(|part| tiny::by_name(&model, part)))
            };
            let (kept, again) = (run(model.clone()), run(model.with_checkpoints()));
            assert_eq!(
                kept.keys().collect::<Vec<_>>(),
                again.keys().collect::<Vec<_>>()
            );
            let largest = |values: &[f32]| values.iter().fold(0.0_f32, |size, w| size.max(w.abs()));
            let all = kept.values().map(|of| largest(of)).fold(0.0, f32::max);
            for (name, want) in &kept {
                let what = format!("{}: {name}", folder.display());
                // Sums that cancel out keep the rounding of what was summed.
                let size = largest(want).max(0.01 * all);
                for (got, want) in again[name].iter().zip(want) {
                    assert!(
                        (got - want).abs() <= 1e-6 * size,
                        "{what}: {got}, needs {want}"
                    );
                }
            }
        }
    }
    assert!(tasks >= 15, "{tasks} heads");
}

#[test]
fn outputs_of_some_rows_are_those_of_all() {
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let Some(batch) = batch(&checkpoint.encoder) else {
            continue;
        };
        let has_rows = batch.rows.is_some();
        let model = Pretrained::new(
            Arc::new(checkpoint.encoder.clone()),
            &values(&checkpoint),
            &device_under_test(),
        );
        let few = model.outputs(&batch, DropoutRates::NONE, &mut Noise::none());
        let tokens = Batch {
            tokens: batch.tokens.clone(),
            segments: batch.segments.clone(),
            offsets: batch.offsets.clone(),
        };
        let all = model.head(model.forward(&tokens, &mut Hook::none()));
        let rows = match &batch.rows {
            Some(rows) => rows.clone(),
            None => vec![0, 5, 7],
        };
        // A span's outputs are of all tokens; a mean is of no one token.
        if all.dims() == few.dims() && !has_rows
            || checkpoint
                .encoder
                .head
                .as_ref()
                .is_some_and(|head| head.pool == Some(cloze_spec::encoder::Pool::Mean))
        {
            continue;
        }
        let width = all.dims()[1];
        let [few, all]: [Vec<f32>; 2] = [few, all].map(|x| x.into_data().try_into_vec().unwrap());
        for (few, row) in few.chunks(width).zip(rows) {
            let all = &all[row as usize * width..][..width];
            let far = few
                .iter()
                .zip(all)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(
                far < 1e-4,
                "{}: row {row} differs by {far}",
                folder.display()
            );
        }
    }
}

#[test]
fn what_is_frozen_has_no_gradient_and_dropout_follows_its_seed() {
    let folder = folders()
        .into_iter()
        .find(|folder| folder.ends_with("bert-mlm"))
        .unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let batch = batch(&checkpoint.encoder).unwrap();
    let device = device_under_test().autodiff();
    let model = Pretrained::new(
        Arc::new(checkpoint.encoder.clone()),
        &values(&checkpoint),
        &device,
    );
    let all = gradients(&model, &batch).len();
    let frozen = model
        .clone()
        .freeze(|name| name.starts_with("embed.") || name.starts_with("layer.0."));
    let left: Vec<String> = gradients(&frozen, &batch).into_keys().collect();
    assert!(left.len() < all && !left.is_empty());
    assert!(
        left.iter()
            .all(|name| !name.starts_with("embed.") && !name.starts_with("layer.0."))
    );
    let rates = DropoutRates {
        hidden: 0.3,
        attention: 0.3,
        head: 0.3,
    };
    let dropped = |seed| -> Vec<f32> {
        let outputs = model.outputs(&batch, rates, &mut Noise::new(seed));
        outputs.into_data().try_into_vec().unwrap()
    };
    assert_eq!(dropped(1), dropped(1));
    assert_ne!(dropped(1), dropped(2));
}

/// Of a sequence of `rows` and all others: how unlikely it is, in `f64`, one sequence after the other.
fn unlikely(rows: &[Vec<f64>], steps: &[f32], truth: &[u32]) -> f64 {
    let count = rows[0].len();
    let step = |from: usize, to: usize| f64::from(steps[from * (count + 1) + to]);
    let score = |sequence: &[u32]| {
        let mut from = count;
        let words = rows.iter().zip(sequence).map(|(row, &label)| {
            let label = label as usize;
            row[label] + step(std::mem::replace(&mut from, label), label)
        });
        let sum: f64 = words.sum();
        sum + step(from, count)
    };
    let all = (0..count.pow(rows.len() as u32)).map(|number| {
        let labels = (0..rows.len()).map(|at| (number / count.pow(at as u32) % count) as u32);
        score(&labels.collect::<Vec<u32>>()).exp()
    });
    all.sum::<f64>().ln() - score(truth)
}

#[test]
fn a_chain_tells_the_true_labels_from_all_other_sequences() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/pipelines/tokens");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let encoder = Arc::new(checkpoint.encoder.clone());
    let count = encoder.head.as_ref().unwrap().output.unwrap().outputs;
    let mut start = values(&checkpoint);
    let steps: Vec<f32> = (0..(count + 1) * (count + 1))
        .map(|at| (at * 7 % 11) as f32 * 0.2 - 1.0)
        .collect();
    start.insert(TRANSITIONS.to_owned(), steps.clone());
    let mut batch = batch(&encoder).unwrap();
    // Four words of the first text, none of the second, three of the third.
    let words = [4, 0, 3];
    let truth: Vec<u32> = (0..7).map(|at| (at * 5 % count) as u32).collect();
    batch.rows = Some(vec![0, 1, 3, 4, 8, 9, 13]);
    batch.wanted = Wanted::Classes(truth.clone());

    let device = device_under_test().autodiff();
    let model = Pretrained::new(Arc::clone(&encoder), &start, &device);
    let logits = model.outputs(&batch, DropoutRates::NONE, &mut Noise::none());
    let logits: Vec<f32> = logits.into_data().try_into_vec().unwrap();
    let rows: Vec<Vec<f64>> = logits
        .chunks(count)
        .map(|row| row.iter().map(|&x| f64::from(x)).collect())
        .collect();
    let expected = |steps: &[f32]| {
        let mut first = 0;
        let each = words.iter().filter(|words| **words > 0).map(|words| {
            let of = first..first + words;
            first += words;
            unlikely(&rows[of.clone()], steps, &truth[of])
        });
        each.sum::<f64>() / 7.0
    };
    let found = f64::from(loss(&model, &batch).into_scalar::<f32>());
    assert!(
        (found - expected(&steps)).abs() < 1e-5,
        "{found}, not {}",
        expected(&steps)
    );
    // Steps into the place before the first word, and out of that after the last, are never taken alone.
    let gradient = &gradients(&model, &batch)[TRANSITIONS];
    for at in 0..steps.len() {
        let moved = |by: f32| {
            let mut steps = steps.clone();
            steps[at] += by;
            expected(&steps)
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        let off = (f64::from(gradient[at]) - slope).abs();
        assert!(off < 1e-4, "{at}: {}, not {slope}", gradient[at]);
    }
    let (slope, norm) = along_the_gradient(&encoder, &start, &batch);
    assert!((slope - norm).abs() <= SLOPE * norm, "{slope}, not {norm}");
}

#[test]
fn of_windows_neither_order_nor_repetition_counts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/pipelines/labels");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let start = values(&checkpoint);
    let model = Pretrained::new(
        Arc::new(checkpoint.encoder.clone()),
        &start,
        &device_under_test(),
    );
    let vocab = checkpoint.encoder.embed.vocab as u32;
    let window = |number: u32| (0..4 + number).map(move |at| (number * 31 + at * 7) % vocab);
    let batch = |windows: &[u32], offsets: &[usize], pool| {
        let mut batch = TextBatch {
            offsets: vec![0],
            wanted: Wanted::Classes(vec![0; offsets.len() - 1]),
            documents: Some(Documents {
                offsets: offsets.to_vec(),
                pool,
            }),
            ..TextBatch::default()
        };
        for &number in windows {
            batch.tokens.extend(window(number));
            batch.offsets.push(batch.tokens.len() as u32);
        }
        batch.segments = vec![0; batch.tokens.len()];
        batch
    };
    let outputs = |batch: &TextBatch| -> Vec<f32> {
        let outputs = model.outputs(batch, DropoutRates::NONE, &mut Noise::none());
        outputs.into_data().try_into_vec().unwrap()
    };
    let (max, mean) = (ChunkPool::Max, ChunkPool::Mean);
    let expected = outputs(&batch(&[0, 1, 2, 3], &[0, 3, 4], max));
    assert_eq!(outputs(&batch(&[2, 0, 1, 3], &[0, 3, 4], max)), expected);
    assert_eq!(outputs(&batch(&[0, 1, 2, 1, 3], &[0, 4, 5], max)), expected);
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    let of_mean = outputs(&batch(&[0, 1, 2, 3], &[0, 3, 4], mean));
    assert!(near(
        &outputs(&batch(&[2, 0, 1, 3], &[0, 3, 4], mean)),
        &of_mean
    ));
    assert!(!near(&of_mean, &expected));
    // A document of one window is that window.
    let mut alone = batch(&[3], &[0, 1], max);
    alone.documents = None;
    let count = expected.len() / 2;
    assert!(near(&outputs(&alone), &expected[count..]));
    assert!(near(&outputs(&alone), &of_mean[count..]));
    // Every window learns.
    let (slope, norm) = along_the_gradient(
        &checkpoint.encoder,
        &start,
        &batch(&[0, 1, 2, 3], &[0, 3, 4], mean),
    );
    assert!(
        (slope - norm).abs() <= SLOPE * norm + 1e-3,
        "{slope}, not {norm}"
    );
}
