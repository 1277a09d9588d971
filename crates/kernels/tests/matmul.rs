//! Matrix products against plain loops.

use cloze_kernels::op::matmul::{Mat, matmul};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Sums of `k` products of numbers in −1..1 differ by rounding alone: each step by at most half a unit of the sum.
fn tolerance(k: usize) -> f32 {
    (k as f32 + 4.0) * f32::EPSILON
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// `numbers` one float off any alignment.
fn unaligned(seed: u64, n: usize) -> Vec<f32> {
    numbers(seed, n + 1)
}

fn check(isa: Isa, m: usize, k: usize, n: usize, a_t: bool, b_t: bool) {
    let (a, b) = (unaligned(1, m * k), unaligned(2, k * n));
    let (a, b) = (&a[1..], &b[1..]);
    let want = reference::matmul::matmul(m, k, n, a, a_t, b, b_t);
    let left = if a_t {
        Mat::new(a, k, m).t()
    } else {
        Mat::new(a, m, k)
    };
    let right = if b_t {
        Mat::new(b, n, k).t()
    } else {
        Mat::new(b, k, n)
    };

    let mut c = vec![f32::NAN; m * n + 1];
    matmul(isa, 1.0, left, right, false, &mut c[1..]);
    let close = |got: f32, want: f32| (got - want).abs() <= tolerance(k);
    for (i, (&got, &want)) in c[1..].iter().zip(&want).enumerate() {
        assert!(
            close(got, want),
            "{isa:?} {m}×{k}×{n} {a_t} {b_t}: c[{i}] = {got}, not {want}"
        );
    }
    assert!(c[0].is_nan(), "{isa:?}: wrote before the output");

    let mut c = numbers(3, m * n);
    let old = c.clone();
    matmul(isa, -0.5, left, right, true, &mut c);
    for ((&got, &old), &want) in c.iter().zip(&old).zip(&want) {
        assert!(
            close(got, old - 0.5 * want),
            "{isa:?} {m}×{k}×{n}: accumulated {got}"
        );
    }
}

#[test]
fn edges_of_tiles_agree_with_loops() {
    for isa in Isa::available() {
        for m in [0, 1, 5, 6, 7, 11, 12, 13, 97] {
            for k in [0, 1, 7, 64, 385] {
                for n in [0, 1, 15, 16, 17, 31, 32, 33, 67] {
                    check(isa, m, k, n, false, false);
                    check(isa, m, k, n, m % 2 == 0, true);
                }
            }
        }
    }
}

#[test]
fn long_inner_dimensions_and_many_columns_agree_with_loops() {
    for isa in Isa::available() {
        check(isa, 13, 4099, 19, true, false);
        check(isa, 64, 1500, 64, true, false);
        check(isa, 3, 65, 1549, false, true);
        check(isa, 30, 1025, 601, false, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_agrees_with_loops(
        m in 0_usize..150, k in 0_usize..150, n in 0_usize..150, a_t: bool, b_t: bool,
    ) {
        for isa in Isa::available() {
            check(isa, m, k, n, a_t, b_t);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    for (m, k, n) in [(64, 5000, 96), (1200, 70, 130), (300, 900, 1100)] {
        let (a, b) = (numbers(1, m * k), numbers(2, k * n));
        let run = |threads: usize| {
            let mut c = vec![0.0; m * n];
            let (a, b) = (Mat::new(&a, k, m).t(), Mat::new(&b, k, n));
            pool(threads).install(|| matmul(Isa::detect(), 1.0, a, b, false, &mut c));
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3), "{m}×{k}×{n}");
    }
}

#[test]
#[should_panic(expected = "a is 2×3, b is 4×2")]
fn sides_that_do_not_fit_are_refused() {
    let data = [0.0; 8];
    matmul(
        Isa::Scalar,
        1.0,
        Mat::new(&data[..6], 2, 3),
        Mat::new(&data, 4, 2),
        false,
        &mut [0.0; 4],
    );
}
