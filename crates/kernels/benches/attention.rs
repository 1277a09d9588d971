//! Attention of BERT4Rec's size: 64 sequences of 200 tokens, width 64, two heads.

use cloze_kernels::Isa;
use cloze_kernels::op::attention::{Attention, Dropout, backward, forward};
use divan::Bencher;
use divan::counter::ItemsCount;

const SEQUENCES: usize = 64;
const TOKENS: usize = 200;
const WIDTH: usize = 64;
const HEADS: usize = 2;

fn main() {
    divan::main();
}

struct Case {
    isa: Isa,
    offsets: Vec<u32>,
    causal: bool,
    prob: f32,
    qkv: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
    d_qkv: Vec<f32>,
}

impl Case {
    fn new(isa: Isa, causal: bool, prob: f32) -> Self {
        let tokens = SEQUENCES * TOKENS;
        Self {
            isa,
            offsets: (0..=SEQUENCES).map(|b| (b * TOKENS) as u32).collect(),
            causal,
            prob,
            qkv: (0..tokens * 3 * WIDTH)
                .map(|i| (i as f32 * 0.37).sin())
                .collect(),
            out: vec![0.0; tokens * WIDTH],
            lse: vec![0.0; tokens * HEADS],
            d_qkv: vec![0.0; tokens * 3 * WIDTH],
        }
    }

    fn run(&mut self, with_backward: bool) {
        let shape = Attention {
            offsets: &self.offsets,
            heads: HEADS,
            width: WIDTH,
            causal: self.causal,
            window: None,
            global: 0,
            dropout: Dropout {
                prob: self.prob,
                seed: 1,
            },
        };
        forward(self.isa, &shape, &self.qkv, &mut self.out, &mut self.lse);
        if with_backward {
            let (qkv, out, lse) = (&self.qkv, &self.out, &self.lse);
            backward(self.isa, &shape, qkv, out, lse, out, &mut self.d_qkv);
        }
    }
}

/// Multiply-adds count two; the softmax is not counted.
fn flops(products: usize) -> ItemsCount {
    ItemsCount::new(2 * products * SEQUENCES * TOKENS * TOKENS * WIDTH)
}

/// The vector instruction sets; plain Rust takes its time.
fn sets() -> Vec<Isa> {
    Isa::available()
        .into_iter()
        .filter(|&isa| isa != Isa::Scalar)
        .collect()
}

#[divan::bench(args = sets())]
fn forward_only(bencher: Bencher, isa: Isa) {
    let mut case = Case::new(isa, false, 0.0);
    bencher.counter(flops(2)).bench_local(|| case.run(false));
}

#[divan::bench(args = sets())]
fn forward_and_backward(bencher: Bencher, isa: Isa) {
    let mut case = Case::new(isa, false, 0.0);
    bencher.counter(flops(7)).bench_local(|| case.run(true));
}

#[divan::bench(args = sets())]
fn forward_and_backward_with_dropout(bencher: Bencher, isa: Isa) {
    let mut case = Case::new(isa, false, 0.2);
    bencher.counter(flops(7)).bench_local(|| case.run(true));
}

#[divan::bench(args = sets())]
fn causal_forward_and_backward(bencher: Bencher, isa: Isa) {
    let mut case = Case::new(isa, true, 0.0);
    bencher.bench_local(|| case.run(true));
}
