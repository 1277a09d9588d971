//! Linear layers against plain loops, and the loops against finite differences.

use cloze_kernels::op::linear::{Activation, Linear, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 2] = [Activation::Identity, Activation::Gelu];

/// Off by the rounding of a sum of `terms` products of numbers in −1..1, and of the activation.
fn close(got: f32, want: f32, terms: usize) -> bool {
    (got - want).abs() <= (terms as f32 + 16.0) * f32::EPSILON
}

fn assert_close(what: &str, got: &[f32], want: &[f32], terms: usize) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        assert!(close(got, want, terms), "{what}[{i}] = {got}, not {want}");
    }
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

struct Case {
    shape: Linear,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    d_out: Vec<f32>,
}

impl Case {
    fn new(rows: usize, inputs: usize, outputs: usize) -> Self {
        Self {
            shape: Linear {
                rows,
                inputs,
                outputs,
            },
            x: numbers(1, rows * inputs),
            weight: numbers(2, outputs * inputs),
            bias: numbers(3, outputs),
            d_out: numbers(4, rows * outputs),
        }
    }

    fn check(&self, isa: Isa, act: Activation) {
        let Self {
            shape,
            x,
            weight,
            bias,
            d_out,
        } = self;
        let Linear {
            rows,
            inputs,
            outputs,
        } = *shape;
        let what = |name: &str| format!("{isa:?} {rows}×{inputs}→{outputs} {act:?}: {name}");
        let (want, want_pre) = reference::linear::forward(*shape, x, weight, Some(bias), act);

        let mut out = vec![f32::NAN; rows * outputs];
        forward(isa, *shape, x, weight, Some(bias), act, None, &mut out);
        assert_close(&what("out"), &out, &want, inputs);
        let mut pre = vec![f32::NAN; rows * outputs];
        out.fill(f32::NAN);
        forward(
            isa,
            *shape,
            x,
            weight,
            Some(bias),
            act,
            Some(&mut pre),
            &mut out,
        );
        assert_close(&what("out"), &out, &want, inputs);
        assert_close(&what("pre"), &pre, &want_pre, inputs);
        let (plain, _) = reference::linear::forward(*shape, x, weight, None, act);
        forward(isa, *shape, x, weight, None, act, None, &mut out);
        assert_close(&what("out without bias"), &out, &plain, inputs);

        let want = reference::linear::backward(*shape, x, weight, act, &want_pre, d_out);
        let mut d_x = vec![f32::NAN; x.len()];
        let mut d_weight = vec![f32::NAN; weight.len()];
        let mut d_bias = vec![f32::NAN; outputs];
        let mut run = |all: bool| {
            let pre = Some(want_pre.as_slice());
            let (d_x, d_weight) = (Some(d_x.as_mut_slice()), Some(d_weight.as_mut_slice()));
            let d_bias = Some(d_bias.as_mut_slice());
            if all {
                backward(
                    isa, *shape, x, weight, act, pre, d_out, d_x, d_weight, d_bias,
                );
            } else {
                backward(
                    isa, *shape, x, weight, act, pre, d_out, None, d_weight, None,
                );
                backward(isa, *shape, x, weight, act, pre, d_out, d_x, None, None);
                backward(isa, *shape, x, weight, act, pre, d_out, None, None, d_bias);
            }
        };
        run(true);
        run(false);
        assert_close(&what("d_x"), &d_x, &want.d_x, outputs);
        assert_close(&what("d_weight"), &d_weight, &want.d_weight, rows);
        assert_close(&what("d_bias"), &d_bias, &want.d_bias, rows);
    }
}

#[test]
fn every_path_agrees_with_loops() {
    for isa in Isa::available() {
        for act in ACTIVATIONS {
            Case::new(0, 3, 5).check(isa, act);
            Case::new(3, 0, 5).check(isa, act);
            Case::new(3, 5, 0).check(isa, act);
            Case::new(1100, 16, 33).check(isa, act); // several chunks of rows
            Case::new(40, 521, 509).check(isa, act); // too large for shares
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shape_agrees_with_loops(rows in 0_usize..80, inputs in 0_usize..80, outputs in 0_usize..80) {
        let case = Case::new(rows, inputs, outputs);
        for isa in Isa::available() {
            for act in ACTIVATIONS {
                case.check(isa, act);
            }
        }
    }
}

#[test]
fn the_reference_backward_is_the_slope_of_the_forward() {
    const STEP: f64 = 1e-5;
    let case = Case::new(3, 4, 5);
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let d_out = wide(&case.d_out);
    for act in ACTIVATIONS {
        let parts = [wide(&case.x), wide(&case.weight), wide(&case.bias)];
        let loss = |p: &[Vec<f64>; 3]| -> f64 {
            let (out, _) = reference::linear::forward(case.shape, &p[0], &p[1], Some(&p[2]), act);
            out.iter().zip(&d_out).map(|(y, d)| y * d).sum()
        };
        let (_, pre) =
            reference::linear::forward(case.shape, &parts[0], &parts[1], Some(&parts[2]), act);
        let got = reference::linear::backward(case.shape, &parts[0], &parts[1], act, &pre, &d_out);
        for (which, got) in [got.d_x, got.d_weight, got.d_bias].into_iter().enumerate() {
            assert_eq!(got.len(), parts[which].len());
            for (i, got) in got.into_iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = parts.clone();
                    moved[which][i] += step;
                    loss(&moved)
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!(
                    (got - slope).abs() < 1e-8,
                    "{act:?} {which} {i}: {got}, not {slope}"
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::new(2500, 40, 72);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (mut d_x, mut d_w, mut d_b) = (vec![0.0; 2500 * 40], vec![0.0; 40 * 72], vec![0.0; 72]);
        pool.install(|| {
            backward(
                Isa::detect(),
                case.shape,
                &case.x,
                &case.weight,
                Activation::Gelu,
                Some(&case.d_out),
                &case.d_out,
                Some(&mut d_x),
                Some(&mut d_w),
                Some(&mut d_b),
            );
        });
        [d_x, d_w, d_b]
            .concat()
            .into_iter()
            .map(f32::to_bits)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}
