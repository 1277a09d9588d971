//! Softplus against plain loops, its gradient against differences of them.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, wide};
use cloze_kernels::op::softplus::{backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Some units in the last place.
const TOLERANCE: f64 = 5e-7;

fn run(isa: Isa, x: &[f32]) -> Vec<f32> {
    let mut output = Odd::blank(x.len());
    forward(isa, &Odd::new(x), &mut output);
    output.to_vec()
}

fn gradient(isa: Isa, x: &[f32], d_output: &[f32]) -> Vec<f32> {
    let mut d_x = Odd::blank(x.len());
    backward(isa, &Odd::new(x), &Odd::new(d_output), &mut d_x);
    d_x.to_vec()
}

proptest! {
    #[test]
    fn any_length_agrees_with_loops(count in 0_usize..200, size in 0.1_f32..40.0) {
        let x: Vec<f32> = numbers(1, count).iter().map(|x| x * size).collect();
        let want = reference::softplus::forward(&wide(&x));
        for isa in Isa::available() {
            assert_close("output", &run(isa, &x), &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    const STEP: f64 = 1e-5;
    let (x, d_output) = (numbers(2, 50), numbers(3, 50));
    let [above, below] = [STEP, -STEP].map(|step| {
        let moved: Vec<f64> = x.iter().map(|&x| f64::from(x) + step).collect();
        reference::softplus::forward(&moved)
    });
    let slopes = above.iter().zip(below).zip(&d_output);
    let slopes = slopes.map(|((above, below), &d)| (above - below) / (2.0 * STEP) * f64::from(d));
    let slopes: Vec<f64> = slopes.collect();
    for isa in Isa::available() {
        let found = gradient(isa, &x, &d_output);
        assert_close("gradient", &found, &slopes, TOLERANCE);
    }
}

#[test]
fn far_from_zero_it_is_zero_or_the_number_itself() {
    let x = [-200.0, -100.0, 100.0, 3.0e38];
    for isa in Isa::available() {
        assert_eq!(run(isa, &x)[2..], x[2..]);
        assert!(run(isa, &x)[..2].iter().all(|y| (0.0..1e-40).contains(y)));
        assert_eq!(gradient(isa, &x, &[1.0; 4])[2..], [1.0; 2]);
    }
}

#[test]
fn threads_do_not_matter() {
    // More than one piece.
    let x = numbers(4, 40_000);
    for isa in Isa::available() {
        assert_threads_do_not_matter("output", || run(isa, &x));
    }
}
