//! Attention of encoders, beside the products around it, and the work row by row.
//!
//! Sizes: 32 texts of 128 tokens in `MiniLM`'s 12 heads of 32 channels, where a layer's six products take 14.5 GFLOP; single
//! texts; 8,192 tokens in 12 heads of 64, with and without a window.

use cloze_kernels::Isa;
use cloze_kernels::op::encode::attention::{Attention, Position, forward};
use cloze_kernels::op::encode::norm::{Norm, add_norm};
use cloze_kernels::op::encode::rotary::{Rotary, rotate};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// Texts, tokens of each, heads, channels of a head, window.
type Size = (usize, usize, usize, usize, Option<usize>);

const SIZES: [Size; 6] = [
    (32, 128, 12, 32, None),
    (1, 16, 12, 32, None),
    (1, 128, 12, 32, None),
    (4, 512, 12, 64, None),
    (1, 8192, 12, 64, None),
    (1, 8192, 12, 64, Some(64)),
];

fn waves(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// A table for each kind of position, of up to 512 distances to each side.
struct Tables {
    slopes: Vec<f32>,
    vectors: Vec<f32>,
    rows: Vec<u32>,
}

impl Tables {
    fn new(heads: usize, size: usize) -> Self {
        Self {
            slopes: waves(heads),
            vectors: waves(1023 * heads * size),
            rows: (0..1023).collect(),
        }
    }
}

fn run(bencher: Bencher, size: Size, position: impl Fn(&Tables) -> Position<'_>) {
    let (texts, tokens, heads, head_width, window) = size;
    let tables = Tables::new(heads, head_width);
    let offsets: Vec<u32> = (0..=texts).map(|text| (text * tokens) as u32).collect();
    let shape = Attention {
        offsets: &offsets,
        heads,
        head_width,
        scale: 1.0 / (head_width as f32).sqrt(),
        window,
        log_scale: None,
        position: position(&tables),
        queries: None,
    };
    let width = heads * head_width;
    let qkv = waves(texts * tokens * 3 * width);
    let mut out = vec![0.0; texts * tokens * width];
    let seen = window.map_or(tokens, |window| tokens.min(2 * window + 1));
    // Two products; multiply-adds count two, the softmax is not counted.
    bencher
        .counter(ItemsCount::new(4 * texts * tokens * seen * width))
        .bench_local(|| forward(Isa::detect(), &shape, &qkv, &mut out));
}

#[divan::bench(args = SIZES)]
fn attention(bencher: Bencher, size: Size) {
    run(bencher, size, |_| Position::None);
}

#[divan::bench(args = [SIZES[0], SIZES[3]])]
fn attention_with_slopes(bencher: Bencher, size: Size) {
    run(bencher, size, |tables| Position::Alibi {
        slopes: &tables.slopes,
    });
}

#[divan::bench(args = [SIZES[0], SIZES[3]])]
fn attention_with_vectors_of_distances(bencher: Bencher, size: Size) {
    run(bencher, size, |tables| Position::Disentangled {
        keys: Some(&tables.vectors),
        queries: Some(&tables.vectors),
        rows: &tables.rows,
    });
}

#[divan::bench(args = [384, 1024])]
fn norm_of_a_sum(bencher: Bencher, width: usize) {
    let (mut x, y) = (waves(4096 * width), waves(4096 * width));
    let gain = vec![1.0; width];
    let norm = Norm {
        gain: &gain,
        bias: Some(&gain),
        eps: 1e-12,
        centred: true,
    };
    bencher
        .counter(BytesCount::new(3 * x.len() * size_of::<f32>()))
        .bench_local(|| add_norm(Isa::detect(), &norm, &y, &mut x));
}

#[divan::bench]
fn rotary(bencher: Bencher) {
    let mut qkv = waves(4096 * 3 * 768);
    let rotary = Rotary::new(&waves(32), 1.0, false, 4096);
    bencher
        .counter(BytesCount::new(4 * 4096 * 768 * size_of::<f32>()))
        .bench_local(|| rotate(Isa::detect(), &rotary, &[0, 4096], 12, 64, &mut qkv));
}
