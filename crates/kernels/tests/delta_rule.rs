//! The delta rule against plain loops, its gradients against differences of them.

mod agree;

use agree::{
    Odd, assert_close, assert_threads_do_not_matter, bits, numbers, offsets, slopes, wide,
};
use cloze_kernels::op::delta_rule::{DeltaRule, Kept, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// What is written at a key stays until it is replaced: errors of a few hundred steps add up.
const TOLERANCE: f64 = 1e-5;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 2e-5;

struct Case {
    offsets: Vec<u32>,
    width: usize,
    heads: usize,
    directions: usize,
    inputs: [Vec<f32>; 2],
}

impl Case {
    fn new(lens: &[usize], head_width: usize, heads: usize, directions: usize) -> Self {
        let (tokens, width) = (lens.iter().sum::<usize>(), head_width * heads);
        let strength = numbers(2, tokens * heads * directions);
        Self {
            offsets: offsets(lens),
            width,
            heads,
            directions,
            inputs: [
                numbers(1, tokens * 3 * width),
                strength.into_iter().map(f32::abs).collect(),
            ],
        }
    }

    fn rule(&self) -> DeltaRule<'_> {
        DeltaRule {
            offsets: &self.offsets,
            width: self.width,
            heads: self.heads,
            directions: self.directions,
        }
    }

    fn loops(&self, inputs: &[Vec<f64>; 2]) -> Vec<f64> {
        reference::delta_rule::forward(&self.rule(), &inputs[0], &inputs[1])
    }

    fn run(&self, isa: Isa, kept: Option<&mut Kept>) -> Vec<f32> {
        let [qkv, strength] = self.inputs.each_ref().map(|x| Odd::new(x));
        let mut output = Odd::blank(qkv.len() / 3);
        forward(isa, &self.rule(), &qkv, &strength, &mut output, kept);
        output.to_vec()
    }

    fn gradients(&self, isa: Isa, d_output: &[f32]) -> [Vec<f32>; 2] {
        let mut kept = Kept::default();
        let output = self.run(isa, Some(&mut kept));
        assert!(bits(&output) == bits(&self.run(isa, None)), "kept or not");
        let [qkv, strength] = &self.inputs;
        let Kept { errors, states } = &kept;
        backward(isa, &self.rule(), qkv, strength, errors, states, d_output)
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..150, 0..4),
        head_width in 1_usize..40,
        heads in 1_usize..4,
        directions in 1_usize..3,
    ) {
        let case = Case::new(&lens, head_width, heads, directions);
        let want = case.loops(&case.inputs.each_ref().map(|x| wide(x)));
        for isa in Isa::available() {
            assert_close("output", &case.run(isa, None), &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    // The second sequence has more than one stretch between kept states; heads of less and more than a vector.
    for (head_width, heads, directions) in [(3, 2, 1), (3, 2, 2), (16, 1, 1), (17, 1, 2)] {
        let case = Case::new(&[3, 70], head_width, heads, directions);
        let d_output = numbers(9, case.inputs[0].len() / 3);
        let whole = case.inputs.each_ref().map(|x| wide(x));
        for index in 0..2 {
            // Some numbers of a long input stand for the rest.
            let places: Vec<usize> = (0..whole[index].len())
                .step_by(whole[index].len().div_ceil(250))
                .collect();
            let slopes = slopes(
                1e-5,
                &whole,
                index,
                places.iter().copied(),
                &d_output,
                |x| case.loops(x),
            );
            for isa in Isa::available() {
                let found = &case.gradients(isa, &d_output)[index];
                let found: Vec<f32> = places.iter().map(|&i| found[i]).collect();
                let what = format!("{isa:?}, {head_width} channels: gradient of input {index}");
                assert_close(&what, &found, &slopes, GRADIENT);
            }
        }
    }
}

#[test]
fn neighbours_change_no_bit() {
    let lens = [40, 90, 1, 0, 200];
    let together = Case::new(&lens, 5, 3, 2);
    for isa in Isa::available() {
        let output = together.run(isa, None);
        for w in together.offsets.windows(2) {
            let (from, to) = (w[0] as usize, w[1] as usize);
            let part = |x: &[f32], wide: usize| x[from * wide..to * wide].to_vec();
            let alone = Case {
                offsets: vec![0, w[1] - w[0]],
                inputs: [part(&together.inputs[0], 45), part(&together.inputs[1], 6)],
                ..together
            };
            assert!(bits(&alone.run(isa, None)) == bits(&part(&output, 15)));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let case = Case::new(&[40, 90, 1, 0, 200], 11, 3, 2);
    let d_output = numbers(9, case.inputs[0].len() / 3);
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || case.gradients(isa, &d_output).concat());
    }
}
