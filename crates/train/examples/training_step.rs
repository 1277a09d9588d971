//! One side of `bench/training`: does training steps when told to and says how long each took.
//!
//! The protocol is in `bench/training/README.md`.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::Device;
use cloze_data::batch::PackedBatch;
use cloze_nn::{Encoder, Noise, objective, weights};
use cloze_spec::Model;
use cloze_spec::objective::Loss;
use cloze_spec::optim::AdamW;
use cloze_train::optim::Optimizer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Case {
    model: Model,
    items: usize,
    masked: f64,
}

fn case(name: &str) -> Case {
    let (max_len, width, layers, heads, ffn, items, masked, dropout) = match name {
        "bert4rec" => (200, 64, 2, 2, 256, 3420, 0.2, 0.2),
        "masked-language" => (128, 256, 4, 4, 1024, 8192, 0.15, 0.1),
        other => panic!("--case: expected bert4rec or masked-language, found {other}"),
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
        model: serde_json::from_value(config).expect("a model"),
        items,
        masked,
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
    let values = weights::init(&case.model, case.items, 1);
    let parameters: usize = values.values().map(Vec::len).sum();
    let mut encoder = Encoder::new(&case.model, case.items, &values, &Device::flex().autodiff());
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
    let mut optimizer = Optimizer::new(settings, &encoder);
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
        let loss = objective::loss(&encoder, &batches[index], &Loss::Softmax, &mut noise);
        let gradients = loss.backward();
        optimizer.accumulate(&encoder, [gradients]);
        (encoder, _) = optimizer.step(encoder, 1.0);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("ms={ms:.3} loss={:.4}", loss.into_scalar::<f32>());
        std::io::stdout().flush().expect("an open standard output");
    }
}
