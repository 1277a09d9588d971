//! What every mixer writes while it trains, in bytes, and how that grows with the tokens.
//!
//! Each of Burn's operations writes its result anew, so the bytes that a pass allocates in all count the numbers it
//! computes, whatever the machine does meanwhile. What a fused kernel computes without writing it is not in them: plain
//! attention is linear here, and its time is not.

mod kinds;

use std::alloc::System;

use burn::tensor::{Device, Distribution, Tensor};
use cap::Cap;
use cloze_data::batch::PackedBatch;
use cloze_nn::{Noise, Sequences};
use cloze_spec::mixer::Mixer;
use kinds::{WIDTH, exponent, kinds, single};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes allocated by one pass forward and backward, and how many more are held between the two than before.
fn bytes(mixer: &Mixer, tokens: usize) -> (f64, f64) {
    let device = Device::flex().autodiff();
    let single = single(mixer, tokens, &device);
    let mut batch = PackedBatch::new();
    batch.push(&vec![0; tokens]);
    let sequences = Sequences::new(&batch);
    let x = Tensor::<2>::random([tokens, WIDTH], Distribution::Default, &device).require_grad();
    let (before, held) = (ALLOCATOR.total_allocated(), ALLOCATOR.allocated());
    let output = single.forward(x, &sequences, false, &mut Noise::none());
    let after = ALLOCATOR.allocated().saturating_sub(held);
    drop(output.square().sum().backward());
    let total = ALLOCATOR.total_allocated() - before;
    (total as f64, after as f64)
}

#[test]
fn what_is_computed_grows_as_each_kind_claims() {
    // What does not grow, and rounding up to whole blocks, bend the line a little.
    const SLACK: f64 = 0.1;
    // As long as it takes for the square to show, as short as will do.
    const TOKENS: [usize; 4] = [512, 1024, 2048, 4096];
    println!(
        "{:40} claimed  computed  kept for the backward pass",
        "kind"
    );
    let mut faults = Vec::new();
    for index in 0..kinds(512).len() {
        let (mut computed, mut kept) = (Vec::new(), Vec::new());
        for tokens in TOKENS {
            let mixer = &kinds(tokens)[index].mixer;
            // What threads keep for themselves from the first pass on is not the second's cost.
            bytes(mixer, tokens);
            let (total, held) = bytes(mixer, tokens);
            computed.push((tokens as f64, total));
            kept.push((tokens as f64, held.max(1.0)));
        }
        let kind = &kinds(512)[index];
        let (computed, kept) = (exponent(&computed), exponent(&kept));
        println!(
            "{:40} {:7.1}  {computed:8.2}  {kept:8.2}",
            kind.name, kind.exponent
        );
        if computed > kind.exponent + SLACK || kept > kind.exponent + SLACK {
            faults.push(format!(
                "{}: claims {}, computed {computed:.2}, kept {kept:.2}",
                kind.name, kind.exponent
            ));
        }
        if kind.name == "attention, alibi" {
            assert!(computed > 1.7, "the count sees a square where there is one");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
