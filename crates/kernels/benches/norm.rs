//! The memory-bound passes around a layer of BERT4Rec: 64 × 200 tokens of width 64.

use cloze_kernels::Isa;
use cloze_kernels::op::adamw::{self, AdamW};
use cloze_kernels::op::dropout::Dropout;
use cloze_kernels::op::{embed, norm};
use divan::Bencher;
use divan::counter::BytesCount;

const ROWS: usize = 64 * 200;
const WIDTH: usize = 64;
const CLASSES: usize = 3420;

fn main() {
    divan::main();
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Passes over `[N, D]`, in bytes.
fn bytes(passes: usize) -> BytesCount {
    BytesCount::new(passes * ROWS * WIDTH * size_of::<f32>())
}

#[divan::bench(args = [0.0, 0.2])]
fn add_norm_forward(bencher: Bencher, prob: f32) {
    let (x, residual, gamma) = (wave(ROWS * WIDTH), wave(ROWS * WIDTH), wave(WIDTH));
    let (mut out, mut normalized, mut rstd) = (x.clone(), x.clone(), wave(ROWS));
    bencher.counter(bytes(4)).bench_local(|| {
        norm::add_norm_forward(
            Isa::detect(),
            ROWS,
            WIDTH,
            &x,
            Some(&residual),
            Dropout { prob, seed: 1 },
            &gamma,
            &gamma,
            1e-12,
            &mut out,
            &mut normalized,
            &mut rstd,
        );
    });
}

#[divan::bench(args = [0.0, 0.2])]
fn add_norm_backward(bencher: Bencher, prob: f32) {
    let (normalized, rstd, gamma) = (wave(ROWS * WIDTH), wave(ROWS), wave(WIDTH));
    let (mut d_x, mut d_residual) = (normalized.clone(), normalized.clone());
    let (mut d_gamma, mut d_beta) = (wave(WIDTH), wave(WIDTH));
    bencher.counter(bytes(4)).bench_local(|| {
        norm::add_norm_backward(
            Isa::detect(),
            ROWS,
            WIDTH,
            &normalized,
            &rstd,
            Dropout { prob, seed: 1 },
            &gamma,
            &normalized,
            &mut d_x,
            Some(&mut d_residual),
            &mut d_gamma,
            &mut d_beta,
        );
    });
}

#[divan::bench]
fn scatter_add(bencher: Bencher) {
    let d_out = wave(ROWS * WIDTH);
    let ids: Vec<u32> = (0..ROWS).map(|n| (n * n % CLASSES) as u32).collect();
    let mut d_table = wave(CLASSES * WIDTH);
    bencher.counter(bytes(1)).bench_local(|| {
        embed::scatter_add(Isa::detect(), WIDTH, &d_out, &ids, &mut d_table);
    });
}

#[divan::bench]
fn adamw_step(bencher: Bencher) {
    let config = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 1.0,
    };
    let n = ROWS * WIDTH;
    let (mut param, grad, mut m, mut v) = (wave(n), wave(n), wave(n), vec![0.1; n]);
    bencher.counter(bytes(7)).bench_local(|| {
        adamw::step(Isa::detect(), &config, &mut param, &grad, &mut m, &mut v);
    });
}
