//! Matrix products and linear layers at the shapes of encoders, beside the `gemm` crate. GFLOP/s is items per second.
#![allow(unsafe_code, reason = "the peer is called with raw pointers")]

use cloze_kernels::Isa;
use cloze_kernels::op::linear::{self, Activation, Linear};
use cloze_kernels::op::matmul::{Mat, matmul};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Tokens, inputs, outputs: the four layers of a small encoder over 64×200 items, then a large product.
const SHAPES: &[(usize, usize, usize)] = &[
    (12_800, 64, 192),
    (12_800, 64, 64),
    (12_800, 64, 256),
    (12_800, 256, 64),
    (4096, 384, 1536),
    (4096, 1536, 384),
];

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect()
}

fn flops((n, i, o): (usize, usize, usize), products: usize) -> ItemsCount {
    ItemsCount::new(2 * products * n * i * o)
}

#[divan::bench(args = SHAPES)]
fn ours(bencher: Bencher, shape: (usize, usize, usize)) {
    product(bencher, shape, Isa::detect());
}

#[divan::bench(args = SHAPES)]
fn ours_avx2(bencher: Bencher, shape: (usize, usize, usize)) {
    if Isa::Avx2.is_available() {
        product(bencher, shape, Isa::Avx2);
    }
}

fn product(bencher: Bencher, shape: (usize, usize, usize), isa: Isa) {
    let (n, i, o) = shape;
    let (x, w, mut c) = (floats(n * i), floats(o * i), floats(n * o));
    bencher.counter(flops(shape, 1)).bench_local(|| {
        matmul(
            isa,
            1.0,
            Mat::new(&x, n, i),
            Mat::new(&w, o, i).t(),
            false,
            black_box(&mut c),
        );
    });
}

#[divan::bench(args = SHAPES)]
fn gemm_crate(bencher: Bencher, shape: (usize, usize, usize)) {
    let (n, i, o) = shape;
    let (x, w, mut c) = (floats(n * i), floats(o * i), floats(n * o));
    bencher.counter(flops(shape, 1)).bench_local(|| {
        // SAFETY: strides are those of the three row-major matrices.
        unsafe {
            gemm::gemm(
                n,
                o,
                i,
                black_box(c.as_mut_ptr()),
                1,
                o as isize,
                false,
                x.as_ptr(),
                1,
                i as isize,
                w.as_ptr(),
                i as isize,
                1,
                0.0_f32,
                1.0_f32,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(rayon::current_num_threads()),
            );
        }
    });
}

#[divan::bench(args = SHAPES)]
fn linear_gelu(bencher: Bencher, shape: (usize, usize, usize)) {
    let (n, i, o) = shape;
    let layer = Linear {
        rows: n,
        inputs: i,
        outputs: o,
    };
    let (x, w, b) = (floats(n * i), floats(o * i), floats(o));
    let (mut pre, mut out) = (floats(n * o), floats(n * o));
    bencher.counter(flops(shape, 1)).bench_local(|| {
        let pre = Some(pre.as_mut_slice());
        linear::forward(
            Isa::detect(),
            layer,
            &x,
            &w,
            Some(&b),
            Activation::Gelu,
            pre,
            black_box(&mut out),
        );
    });
}

#[divan::bench(args = SHAPES)]
fn linear_gelu_backward(bencher: Bencher, shape: (usize, usize, usize)) {
    let (n, i, o) = shape;
    let layer = Linear {
        rows: n,
        inputs: i,
        outputs: o,
    };
    let (x, w, pre, d_out) = (floats(n * i), floats(o * i), floats(n * o), floats(n * o));
    let (mut d_x, mut d_w, mut d_b) = (floats(n * i), floats(o * i), floats(o));
    bencher.counter(flops(shape, 2)).bench_local(|| {
        linear::backward(
            Isa::detect(),
            layer,
            &x,
            &w,
            Activation::Gelu,
            Some(&pre),
            &d_out,
            Some(black_box(&mut d_x)),
            Some(&mut d_w),
            Some(&mut d_b),
        );
    });
}
