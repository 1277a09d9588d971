//! Time and peak memory of every mixer, forward and in training, over sequence lengths, with fitted exponents.
//!
//! One sequence of each length at a time; `bench/mixers/README.md` says more.

#[path = "../tests/kinds/mod.rs"]
mod kinds;

use std::alloc::System;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use cap::Cap;
use cloze_data::batch::PackedBatch;
use cloze_nn::{Noise, Sequences};
use cloze_spec::mixer::Mixer;
use kinds::{WIDTH, exponent, kinds, single};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Seconds and bytes of one pass.
#[derive(Clone, Copy)]
struct Cost {
    forward: f64,
    training: f64,
    peak: f64,
}

fn cost(mixer: &Mixer, tokens: usize, rounds: usize) -> Cost {
    let mut batch = PackedBatch::new();
    batch.push(&vec![0; tokens]);
    let sequences = Sequences::new(&batch);
    let input =
        |device: &Device| Tensor::<2>::random([tokens, WIDTH], Distribution::Default, device);
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let device = Device::flex();
    let (plain, x) = (single(mixer, tokens, &device), input(&device));
    let forward = (0..=rounds)
        .map(|_| {
            let start = Instant::now();
            let output = plain.forward(x.clone(), &sequences, false, &mut Noise::none());
            drop(output.into_data());
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();

    let device = Device::flex().autodiff();
    let (tracked, x) = (
        single(mixer, tokens, &device),
        input(&device).require_grad(),
    );
    let mut peak = 0;
    let training = (0..=rounds)
        .map(|_| {
            let held = ALLOCATOR.allocated();
            let start = Instant::now();
            let output = tracked.forward(x.clone(), &sequences, false, &mut Noise::none());
            // What is kept for the backward pass is most of what a step holds.
            peak = peak.max(ALLOCATOR.allocated().saturating_sub(held));
            drop(output.square().sum().backward());
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    Cost {
        forward: median(forward),
        training: median(training),
        peak: peak as f64,
    }
}

fn main() {
    let mut lengths: Vec<usize> = Vec::new();
    let (mut rounds, mut only, mut json) = (3, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--lengths" => {
                lengths = value
                    .split(',')
                    .map(|n| n.parse().expect("a length"))
                    .collect();
            }
            "--rounds" => rounds = value.parse().expect("a number of rounds"),
            "--only" => only = Some(value),
            "--json" => json = Some(value),
            other => {
                eprintln!("there is no {other:?}; expected --lengths, --rounds, --only or --json");
                std::process::exit(2);
            }
        }
    }
    if lengths.is_empty() {
        lengths = vec![1024, 2048, 4096, 8192, 16384];
    }
    let all = kinds(lengths[0]);
    // A whole name means that kind alone, though others begin with it.
    let is_whole = |only: &str| all.iter().any(|kind| kind.name == only);
    let mut rows = Vec::new();
    println!(
        "| kind | claimed | {} | exponents |",
        lengths
            .iter()
            .map(|n| format!("{n} tokens"))
            .collect::<Vec<_>>()
            .join(" | ")
    );
    println!("|---|--:|{}--:|", "--:|".repeat(lengths.len()));
    for (index, kind) in all.iter().enumerate() {
        let is_out = |only: &String| {
            kind.name != only.as_str() && (is_whole(only) || !kind.name.contains(only.as_str()))
        };
        if only.as_ref().is_some_and(is_out) {
            continue;
        }
        let costs: Vec<Cost> = lengths
            .iter()
            .map(|&tokens| cost(&kinds(tokens)[index].mixer, tokens, rounds))
            .collect();
        let fit = |of: fn(&Cost) -> f64| {
            let points: Vec<(f64, f64)> = lengths
                .iter()
                .zip(&costs)
                .map(|(&n, c)| (n as f64, of(c).max(1e-9)))
                .collect();
            exponent(&points)
        };
        let cells: Vec<String> = costs
            .iter()
            .map(|c| {
                format!(
                    "{:.1} / {:.1} / {:.1}",
                    c.forward * 1e3,
                    c.training * 1e3,
                    c.peak / 1_048_576.0
                )
            })
            .collect();
        println!(
            "| {} | {:.1} | {} | {:.2} / {:.2} / {:.2} |",
            kind.name,
            kind.exponent,
            cells.join(" | "),
            fit(|c| c.forward),
            fit(|c| c.training),
            fit(|c| c.peak)
        );
        let list = |of: fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<f64>>();
        rows.push(serde_json::json!({
            "kind": kind.name,
            "claimed": kind.exponent,
            "width": WIDTH,
            "rounds": rounds,
            "tokens": lengths,
            "forward_seconds": list(|c| c.forward),
            "training_seconds": list(|c| c.training),
            "kept_bytes": list(|c| c.peak),
        }));
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&rows).expect("numbers and names are JSON");
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    }
}
