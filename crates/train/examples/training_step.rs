//! One side of `bench/training`: does training steps when told to and says how long each took.
//!
//! The protocol is in `bench/training/README.md`.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cloze_data::batch::PackedBatch;
use cloze_data::text::batch::{TextBatch, Wanted};
use cloze_nn::pretrained::{LabelLoss, Pretrained};
use cloze_nn::weights::Values;
use cloze_nn::{Encoder, Noise, objective, weights};
use cloze_spec::hugging_face::Draft;
use cloze_spec::inventory::encoder_parameters;
use cloze_spec::objective::Loss;
use cloze_spec::optim::AdamW;
use cloze_spec::{Model, encoder, text};
use cloze_train::optim::Optimizer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Case {
    settings: Settings,
    items: usize,
    masked: f64,
}

/// A recommender's model, or a text encoder as other tools have it.
enum Settings {
    Items(Box<Model>),
    Text(Box<Draft>),
}

fn case(name: &str) -> Case {
    if name == "modernbert" {
        return modernbert();
    }
    let (max_len, width, layers, heads, ffn, items, masked, dropout) = match name {
        "bert4rec" => (200, 64, 2, 2, 256, 3420, 0.2, 0.2),
        "masked-language" => (128, 256, 4, 4, 1024, 8192, 0.15, 0.1),
        other => panic!("--case: expected bert4rec, masked-language or modernbert, found {other}"),
    };
    let config = serde_json::json!({
        "max_len": max_len,
        "width": width,
        "init": { "kind": "truncated-normal", "std": 0.02 },
        "embed": { "kind": "item", "positions": "from-start", "norm": true, "dropout": dropout },
        "head": { "kind": "tied", "transform": true, "bias": true },
        "stack": {
            "layers": layers,
            "block": { "kind": "post-norm", "dropout": dropout },
            "norm": { "kind": "layer", "eps": 1e-12 },
            "mixer": { "kind": "attention", "heads": heads, "causal": false, "dropout": dropout },
            "ffn": { "kind": "mlp", "width": ffn, "activation": "gelu" }
        }
    });
    Case {
        settings: Settings::Items(serde_json::from_value(config).expect("a model")),
        items,
        masked,
    }
}

fn modernbert() -> Case {
    let items = 8192;
    let config = serde_json::json!({
        "model_type": "modernbert",
        "hidden_size": 256,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
    });
    let config = serde_json::from_value(config).expect("an object");
    let draft = Draft::new(config, items + 1, encoder::Task::MaskedToken);
    Case {
        settings: Settings::Text(Box::new(draft.expect("an encoder"))),
        items,
        masked: 0.3,
    }
}

/// What learns, and how its loss is made.
trait Learner: Module {
    fn loss(&self, batch: &PackedBatch, noise: &mut Noise) -> Tensor<1>;
}

impl Learner for Encoder {
    fn loss(&self, batch: &PackedBatch, noise: &mut Noise) -> Tensor<1> {
        objective::loss(self, batch, &Loss::Softmax, noise)
    }
}

impl Learner for Pretrained {
    fn loss(&self, batch: &PackedBatch, noise: &mut Noise) -> Tensor<1> {
        let batch = TextBatch {
            tokens: batch.tokens.clone(),
            segments: vec![0; batch.tokens.len()],
            offsets: batch.offsets.clone(),
            rows: Some(batch.rows.clone()),
            wanted: Wanted::Tokens(batch.labels.clone()),
            pairs: None,
            keys: None,
            documents: None,
            beside: Vec::new(),
        };
        let settings = text::LabelLoss::default();
        let how = LabelLoss {
            settings: &settings,
            class_weights: None,
        };
        Pretrained::loss(self, &batch, how, encoder::DropoutRates::NONE, noise)
    }
}

fn batch(lengths: &[usize], case: &Case, rng: &mut impl Rng) -> PackedBatch {
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
    let mut batch = PackedBatch {
        offsets: vec![0],
        ..PackedBatch::default()
    };
    for &len in lengths {
        let first = batch.tokens.len();
        batch
            .tokens
            .extend((0..len).map(|_| below(case.items) as u32));
        let count = ((case.masked * len as f64).round() as usize).clamp(1, len);
        let mut places: Vec<usize> = (0..len).collect();
        for i in 0..count {
            places.swap(i, i + below(len - i));
        }
        places.truncate(count);
        places.sort_unstable();
        for place in places {
            batch.rows.push((first + place) as u32);
            batch.labels.push(batch.tokens[first + place]);
            batch.tokens[first + place] = case.items as u32;
        }
        batch.positions.extend(0..len as u32);
        batch.offsets.push(batch.tokens.len() as u32);
    }
    batch
}

/// Highest resident memory of this process so far, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let place = arguments
            .iter()
            .position(|a| a == name)
            .unwrap_or_else(|| panic!("expected {name} VALUE"));
        arguments[place + 1].clone()
    };
    let threads = value("--threads").parse().expect("--threads: a number");
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .expect("a thread pool");
    let base = peak_mib();
    let case = case(&value("--case"));
    let file = std::fs::read_to_string(value("--batches")).expect("--batches: a readable file");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let batches: Vec<PackedBatch> = file
        .lines()
        .map(|line| {
            let lengths: Vec<usize> = line
                .split_whitespace()
                .map(|n| n.parse().expect("a length"))
                .collect();
            batch(&lengths, &case, &mut rng)
        })
        .collect();
    let device = Device::flex().autodiff();
    match case.settings {
        Settings::Items(model) => {
            let values = weights::init(&model, case.items, 1);
            let encoder = Encoder::new(&model, case.items, &values, &device);
            steps(encoder, base, values, &batches);
        }
        Settings::Text(draft) => {
            let settings = draft.encoder().clone();
            let values = weights::fresh(&encoder_parameters(&settings), 0.02, 1);
            let encoder = Pretrained::new(settings.into(), &values, &device);
            steps(encoder, base, values, &batches);
        }
    }
}

/// Steps as they are told on standard input.
fn steps(mut learner: impl Learner, base: u64, values: Values, batches: &[PackedBatch]) {
    let parameters: usize = values.values().map(Vec::len).sum();
    drop(values);
    let settings = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        clip_norm: None,
        read_rows_only: false,
    };
    let mut optimizer = Optimizer::new(settings, &learner);
    println!(
        "ready parameters={parameters} base_mib={base} name=cloze-{}",
        env!("CARGO_PKG_VERSION")
    );
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("UTF-8 on standard input");
        let index: usize = line
            .strip_prefix("step ")
            .and_then(|n| n.parse().ok())
            .expect("`step NUMBER`");
        let start = Instant::now();
        let mut noise = Noise::new(optimizer.steps());
        let loss = learner.loss(&batches[index], &mut noise);
        optimizer.accumulate(&learner, [loss.backward()]);
        (learner, _) = optimizer.step(learner, 1.0);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("ms={ms:.3} loss={:.4}", loss.into_scalar::<f32>());
        std::io::stdout().flush().expect("an open standard output");
    }
}
