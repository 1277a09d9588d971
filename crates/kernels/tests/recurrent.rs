//! The gated recurrent unit against plain loops, its gradients against differences of them.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, offsets, slopes, wide};
use cloze_kernels::op::recurrent::{Recurrent, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// A few units in the last place of gates and products of some dozen terms, kept by the state for some steps.
const TOLERANCE: f64 = 4e-6;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 1e-5;

struct Case {
    offsets: Vec<u32>,
    width: usize,
    backward: bool,
    /// What the tokens give, weights and bias.
    inputs: [Vec<f32>; 3],
}

impl Case {
    fn new(lens: &[usize], width: usize, backward: bool) -> Self {
        let tokens: usize = lens.iter().sum();
        let size = 1.0 / (width as f32).sqrt();
        let weight = numbers(2, 3 * width * width);
        Self {
            offsets: offsets(lens),
            width,
            backward,
            inputs: [
                numbers(1, tokens * 3 * width),
                weight.iter().map(|w| w * size).collect(),
                numbers(3, 3 * width),
            ],
        }
    }

    fn unit(&self) -> Recurrent<'_> {
        Recurrent {
            offsets: &self.offsets,
            width: self.width,
            backward: self.backward,
        }
    }

    fn loops(&self, [input, weight, bias]: &[Vec<f64>; 3]) -> Vec<f64> {
        reference::recurrent::forward(&self.unit(), input, weight, bias)
    }

    fn run(&self, isa: Isa) -> [Vec<f32>; 2] {
        let states = self.inputs[0].len() / 3;
        let (mut output, mut gates) = (Odd::blank(states), Odd::blank(4 * states));
        let [input, weight, bias] = self.inputs.each_ref().map(|x| Odd::new(x));
        let unit = self.unit();
        forward(isa, &unit, &input, &weight, &bias, &mut output, &mut gates);
        [output.to_vec(), gates.to_vec()]
    }

    fn gradients(&self, isa: Isa, d_output: &[f32]) -> [Vec<f32>; 3] {
        let [output, gates] = self.run(isa);
        let found = backward(
            isa,
            &self.unit(),
            &self.inputs[1],
            &output,
            &gates,
            d_output,
        );
        [found.input, found.weight, found.bias]
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..40, 0..4),
        width in 1_usize..40,
        backward: bool,
    ) {
        let case = Case::new(&lens, width, backward);
        let want = case.loops(&case.inputs.each_ref().map(|x| wide(x)));
        for isa in Isa::available() {
            assert_close("output", &case.run(isa)[0], &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    for (width, backward) in [(5, false), (5, true), (17, false)] {
        let case = Case::new(&[3, 0, 9], width, backward);
        let d_output = numbers(9, case.inputs[0].len() / 3);
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
    let case = Case::new(&[40, 90, 1, 0, 20], 33, true);
    let d_output = numbers(9, case.inputs[0].len() / 3);
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || case.gradients(isa, &d_output).concat());
    }
}
