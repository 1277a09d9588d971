//! Packed linear maps of encoders: GFLOP/s, and the share of the multiply-add peak measured beside them, on one thread and two.
#![allow(unsafe_code, reason = "the peak is measured with intrinsics")]
#![allow(clippy::print_stdout, reason = "a table is what this is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use cloze_kernels::Isa;
use cloze_kernels::op::packed::{Activation, PackedLinear, Residual, Storage};
use rayon::ThreadPool;

/// Tokens, inputs, outputs.
const SHAPES: &[(usize, usize, usize)] = &[
    (4096, 384, 384),
    (4096, 384, 1152),
    (480, 384, 1536),
    (480, 1536, 384),
    (480, 768, 3072),
    (4096, 384, 1536),
    (4096, 1536, 384),
    (4096, 768, 3072),
    (128, 384, 1536),
    (16, 384, 384),
    (16, 384, 1536),
    (16, 1536, 384),
    (1, 384, 1536),
];

const STORAGES: [Storage; 4] = [Storage::F32, Storage::Bf16, Storage::F16, Storage::Int8];

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--test") {
        1
    } else {
        15
    };
    let isa = Isa::detect();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads");
        println!("\n{isa:?}, {threads} threads: bias and GELU; best of {rounds} rounds");
        println!(
            "{:>20} {:>9} {:>16} {:>16} {:>16} {:>16}",
            "shape", "peak", "f32", "bf16", "f16", "int8"
        );
        for &shape in SHAPES {
            row(isa, &pool, threads, shape, rounds);
        }
    }
}

fn row(isa: Isa, pool: &ThreadPool, threads: usize, shape: (usize, usize, usize), rounds: usize) {
    let (n, i, o) = shape;
    let floats =
        |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 37 % 101) as f32 * 0.02 - 1.0).collect() };
    let (x, weight, bias) = (floats(n * i), floats(o * i), floats(o));
    let mut out = vec![0.0; n * o];
    let maps = STORAGES.map(|storage| {
        PackedLinear::new(
            isa,
            i,
            &weight,
            Some(&bias),
            Activation::Gelu,
            false,
            storage,
        )
    });
    // Each sample is some milliseconds, all kinds in turn: what else the machine does then meets all of them alike.
    let repeats = (50_000_000 / (n * i * o)).clamp(1, 1000);
    let mut best = [Duration::MAX; 4];
    let mut peak: f64 = 0.0;
    for _ in 0..rounds {
        peak = peak.max(pool.install(|| peak_gflops(isa, threads)));
        for (map, best) in maps.iter().zip(&mut best) {
            pool.install(|| {
                let start = Instant::now();
                for _ in 0..repeats {
                    map.forward(&x, Residual::None, black_box(&mut out));
                }
                *best = start.elapsed().min(*best);
            });
        }
    }
    print!("{:>20} {peak:>9.1}", format!("{n}×{i}×{o}"));
    for best in best {
        let rate = (2 * n * i * o * repeats) as f64 / best.as_secs_f64() / 1e9;
        print!(" {rate:>9.1} {:>5.1}%", 100.0 * rate / peak);
    }
    println!();
}

/// Fused multiply-adds without memory, as many chains as hide their latency.
fn peak_gflops(isa: Isa, threads: usize) -> f64 {
    const STEPS: usize = 400_000;
    let start = Instant::now();
    let lanes: usize = rayon::broadcast(|_| {
        // SAFETY: the machine has the instruction set.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => chains_avx512(STEPS),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => chains_avx2(STEPS),
                _ => chains(STEPS),
            }
        }
    })[0];
    (2 * 12 * lanes * STEPS * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn chains_avx2(steps: usize) -> usize {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(1.0));
    let mut sums = [b; 12];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
    8
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn chains_avx512(steps: usize) -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(1.0));
    let mut sums = [b; 12];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
    16
}

fn chains(steps: usize) -> usize {
    let a = black_box(0.5_f32);
    let mut sums = [[1.0_f32; 4]; 12];
    for _ in 0..steps {
        for sum in sums.as_flattened_mut() {
            *sum = sum.mul_add(a, 1.0);
        }
    }
    black_box(sums);
    4
}
