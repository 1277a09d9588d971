//! Division by the root of the mean square against plain loops, its gradients against differences of them.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, slopes, wide};
use cloze_kernels::op::rms::{backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// A sum of squares, a root, a sigmoid.
const TOLERANCE: f64 = 1e-6;
/// Sums of gradients run over all rows.
const GRADIENT: f64 = 2e-5;
const EPS: f32 = 0.01;

/// Rows, gain, gate.
fn inputs(rows: usize, width: usize) -> [Vec<f32>; 3] {
    [(1, rows * width), (2, width), (3, rows * width)].map(|(seed, n)| numbers(seed, n))
}

fn loops(inputs: &[Vec<f64>; 3], gated: bool) -> Vec<f64> {
    let [x, gain, gate] = inputs;
    let gate = gated.then_some(gate.as_slice());
    reference::rms::forward(x, gain, gate, f64::from(EPS))
}

fn gradients(isa: Isa, inputs: &[Vec<f32>; 3], gated: bool, d_output: &[f32]) -> [Vec<f32>; 3] {
    let [x, gain, gate] = inputs;
    let gate = gated.then_some(gate.as_slice());
    let found = backward(isa, x, gain, gate, EPS, d_output);
    [found.x, found.gain, found.gate]
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(rows in 0_usize..40, width in 1_usize..70, gated: bool) {
        let inputs = inputs(rows, width);
        let want = loops(&inputs.each_ref().map(|x| wide(x)), gated);
        let [x, gain, gate] = inputs.each_ref().map(|x| Odd::new(x));
        for isa in Isa::available() {
            let mut output = Odd::blank(x.len());
            forward(isa, &x, &gain, gated.then_some(&*gate), EPS, &mut output);
            assert_close("output", &output, &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    for (width, gated) in [(3, false), (17, true), (32, false), (5, true)] {
        let inputs = inputs(7, width);
        let d_output = numbers(9, 7 * width);
        let whole = inputs.each_ref().map(|x| wide(x));
        for index in 0..2 + usize::from(gated) {
            let slopes = slopes(1e-5, &whole, index, 0..whole[index].len(), &d_output, |x| {
                loops(x, gated)
            });
            for isa in Isa::available() {
                let found = gradients(isa, &inputs, gated, &d_output);
                let what = format!("gradient of input {index}");
                assert_close(&what, &found[index], &slopes, GRADIENT);
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    // More than one piece of rows.
    let inputs = inputs(700, 67);
    let d_output = numbers(9, 700 * 67);
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || {
            gradients(isa, &inputs, true, &d_output).concat()
        });
    }
}
