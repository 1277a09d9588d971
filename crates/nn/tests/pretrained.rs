//! Pretrained encoders in Burn against their authors' numbers, and so against the CPU engine, which meets the same; and
//! what they learn, against finite differences.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod tiny;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use cloze_data::text::batch::{TextBatch, Wanted};
use cloze_nn::Noise;
use cloze_nn::pretrained::{BurnEngine, LabelLoss, Pretrained};
use cloze_nn::weights::Values;
use cloze_runtime::Batch;
use cloze_runtime::golden::Golden;
use cloze_runtime::model::Checkpoint;
use cloze_spec::encoder::{DropoutRates, Problem, Task};
use cloze_spec::inventory::encoder_parameters;
use cloze_spec::text;

/// Largest difference of any value, per root mean square of its stage: as for the CPU engine.
const LARGEST: f32 = 2e-5;

#[test]
fn every_family_gives_what_its_authors_code_gives() {
    let mut faults = Vec::new();
    let mut compared = 0;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let values = values(&checkpoint);
        let engine = BurnEngine::new(checkpoint.encoder.clone(), &values, &Device::flex());
        let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
        let differences = golden.compare(&engine).unwrap();
        let far = differences.iter().filter(|found| found.largest > LARGEST);
        faults.extend(far.map(|found| format!("{}: {found:?}", folder.display())));
        compared += differences.len();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared > 200, "{compared} stages compared");
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

#[test]
fn the_loss_falls_along_its_gradient_as_fast_as_that_is_long() {
    let mut tasks = 0;
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let Some(batch) = batch(&checkpoint.encoder) else {
            continue;
        };
        tasks += 1;
        let encoder = Arc::new(checkpoint.encoder.clone());
        let start = values(&checkpoint);
        let device = Device::flex().autodiff();
        let model = Pretrained::new(encoder.clone(), &start, &device);
        let gradients = gradients(&model, &batch);
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
            let model = Pretrained::new(encoder.clone(), &values, &Device::flex());
            f64::from(loss(&model, &batch).into_scalar::<f32>())
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        assert!(
            (slope - norm).abs() <= 0.03 * norm + 1e-3,
            "{}: the loss changes by {slope} a step, the gradient is {norm} long",
            folder.display()
        );
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
            &Device::flex(),
        );
        let few = model.outputs(&batch, DropoutRates::NONE, &mut Noise::none());
        let tokens = Batch {
            tokens: batch.tokens.clone(),
            segments: batch.segments.clone(),
            offsets: batch.offsets.clone(),
        };
        let all = model.head(model.forward(&tokens, |_| ()));
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
    let device = Device::flex().autodiff();
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
