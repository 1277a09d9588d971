//! The depthwise convolution against plain loops, its gradients against differences of them.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, offsets, slopes, wide};
use cloze_kernels::op::depthwise::{Depthwise, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// A few products, and a sigmoid.
const TOLERANCE: f64 = 1e-6;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 2e-5;

struct Case {
    offsets: Vec<u32>,
    width: usize,
    sides: [usize; 2],
    silu: bool,
    /// Tokens, weights, bias.
    inputs: [Vec<f32>; 3],
}

impl Case {
    fn new(lens: &[usize], width: usize, sides: [usize; 2], silu: bool) -> Self {
        let tokens: usize = lens.iter().sum();
        let taps = sides[0] + 1 + sides[1];
        Self {
            offsets: offsets(lens),
            width,
            sides,
            silu,
            inputs: [
                numbers(1, tokens * width),
                numbers(2, taps * width),
                numbers(3, width),
            ],
        }
    }

    fn with(&self) -> Depthwise<'_> {
        Depthwise {
            offsets: &self.offsets,
            width: self.width,
            sides: self.sides,
            silu: self.silu,
        }
    }

    fn loops(&self, inputs: &[Vec<f64>; 3]) -> Vec<f64> {
        reference::depthwise::forward(&self.with(), &inputs[0], &inputs[1], &inputs[2])
    }

    fn gradients(&self, isa: Isa, d_output: &[f32]) -> [Vec<f32>; 3] {
        let [x, weight, bias] = &self.inputs;
        let found = backward(isa, &self.with(), x, weight, Some(bias), d_output);
        [found.x, found.weight, found.bias]
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..40, 0..5),
        width in 1_usize..40,
        sides in [0_usize..5, 0_usize..5],
        silu: bool,
        biased: bool,
    ) {
        let mut case = Case::new(&lens, width, sides, silu);
        if !biased {
            case.inputs[2].fill(0.0);
        }
        let want = case.loops(&case.inputs.each_ref().map(|x| wide(x)));
        let [x, weight, bias] = case.inputs.each_ref().map(|x| Odd::new(x));
        for isa in Isa::available() {
            let mut output = Odd::blank(x.len());
            let bias = biased.then_some(&*bias);
            forward(isa, &case.with(), &x, &weight, bias, &mut output);
            assert_close("output", &output, &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    for (width, sides, silu) in [(3, [1, 1], false), (17, [3, 0], true), (5, [0, 6], true)] {
        let case = Case::new(&[1, 11, 0, 4], width, sides, silu);
        let d_output = numbers(9, case.inputs[0].len());
        let whole = case.inputs.each_ref().map(|x| wide(x));
        for index in 0..3 {
            let slopes = slopes(1e-5, &whole, index, 0..whole[index].len(), &d_output, |x| {
                case.loops(x)
            });
            for isa in Isa::available() {
                let found = case.gradients(isa, &d_output);
                let what = format!("gradient of input {index}");
                assert_close(&what, &found[index], &slopes, GRADIENT);
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    // More than one piece of rows.
    let case = Case::new(&[300, 1, 0, 400], 67, [2, 1], true);
    let d_output = numbers(9, case.inputs[0].len());
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || case.gradients(isa, &d_output).concat());
    }
}
