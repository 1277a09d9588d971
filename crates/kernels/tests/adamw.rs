//! `AdamW` and the sum of squares against plain loops.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, wide};
use cloze_kernels::op::adamw::{AdamW, step, sum_of_squares};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// A handful of roundings.
const TOLERANCE: f64 = 1e-6;

fn config(step: u64) -> AdamW {
    AdamW {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.05,
        step,
        grad_scale: 0.5,
    }
}

proptest! {
    #[test]
    fn three_steps_agree_with_loops(n in 0_usize..200, first in 1_u64..2000) {
        let start = numbers(1, n);
        let squares: Vec<f32> = numbers(2, n).iter().map(|x| x * x).collect();
        let [mut param, mut m, mut v] = [&start, &numbers(3, n), &squares].map(|x| wide(x));
        for at in 0..3 {
            let grad = wide(&numbers(4 + at, n));
            reference::adamw::step(&config(first + at), &mut param, &grad, &mut m, &mut v);
        }
        for isa in Isa::available() {
            let [mut got, mut got_m, mut got_v] = [&start, &numbers(3, n), &squares].map(|x| Odd::new(x));
            for at in 0..3 {
                let grad = Odd::new(&numbers(4 + at, n));
                step(isa, &config(first + at), &mut got, &grad, &mut got_m, &mut got_v);
            }
            assert_close(&format!("{isa:?}: m"), &got_m, &m, TOLERANCE);
            assert_close(&format!("{isa:?}: v"), &got_v, &v, TOLERANCE);
            // A step is lr·m/√v: where v is tiny, its relative error is what counts, and grows with the step.
            let size = start.iter().zip(&param).fold(1.0, |size: f64, (a, b)| size.max((f64::from(*a) - b).abs()));
            assert_close(&format!("{isa:?}: param"), &got, &param, TOLERANCE * size);
        }
    }

    #[test]
    fn sum_of_squares_is_that_of_loops(n in 0_usize..40_000) {
        let x = Odd::new(&numbers(9, n));
        let want: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        for isa in Isa::available() {
            let got = sum_of_squares(isa, &x);
            prop_assert!((got - want).abs() <= 1e-12 * want, "{:?}: {} not {}", isa, got, want);
            prop_assert_eq!(got.to_bits(), sum_of_squares(Isa::Scalar, &x).to_bits());
        }
    }
}

#[test]
fn first_step_moves_by_the_learning_rate_against_the_gradient() {
    // Bias correction makes m̂ = g and v̂ = g², whatever the betas.
    for isa in Isa::available() {
        let (mut param, mut m, mut v) = ([1.0, 1.0, 1.0], [0.0; 3], [0.0; 3]);
        let plain = AdamW {
            weight_decay: 0.0,
            grad_scale: 1.0,
            ..config(1)
        };
        step(isa, &plain, &mut param, &[0.3, -20.0, 0.0], &mut m, &mut v);
        assert_close(&format!("{isa:?}"), &param, &[0.9, 1.1, 1.0], TOLERANCE);
    }
}

#[test]
fn decay_shrinks_without_a_gradient() {
    for isa in Isa::available() {
        let (mut param, mut m, mut v) = ([2.0, -2.0], [0.0; 2], [0.0; 2]);
        step(isa, &config(1), &mut param, &[0.0; 2], &mut m, &mut v);
        assert_close(&format!("{isa:?}"), &param, &[1.99, -1.99], TOLERANCE);
    }
}

#[test]
fn threads_do_not_matter() {
    let x = numbers(1, 100_003);
    for isa in Isa::available() {
        assert_threads_do_not_matter("adamw", || {
            let (mut param, mut m, mut v) = (x.clone(), x.clone(), vec![1.0; x.len()]);
            step(isa, &config(3), &mut param, &x, &mut m, &mut v);
            let squares = sum_of_squares(isa, &x).to_bits();
            param.extend([
                f32::from_bits(squares as u32),
                f32::from_bits((squares >> 32) as u32),
            ]);
            param
        });
    }
}
