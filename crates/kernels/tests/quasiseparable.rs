//! The two scans against plain loops, their gradients against differences of them.

mod agree;

use agree::{
    Odd, assert_close, assert_threads_do_not_matter, bits, numbers, offsets, slopes, wide,
};
use cloze_kernels::op::quasiseparable::{Inputs, Quasiseparable, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// States that decay by a share a step keep errors of some steps, each of a unit in the last place or two of `exp`.
const TOLERANCE: f64 = 4e-6;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 2e-5;

struct Case {
    offsets: Vec<u32>,
    heads: usize,
    head_width: usize,
    state: usize,
    /// Values and sides, steps, shares, rates.
    inputs: [Vec<f32>; 4],
}

impl Case {
    fn new(lens: &[usize], heads: usize, head_width: usize, state: usize) -> Self {
        let tokens: usize = lens.iter().sum();
        let stride = heads * head_width + 4 * state;
        let steps = numbers(2, tokens * 2 * heads);
        let rate = numbers(4, heads);
        Self {
            offsets: offsets(lens),
            heads,
            head_width,
            state,
            inputs: [
                numbers(1, tokens * stride),
                steps.into_iter().map(f32::abs).collect(),
                numbers(3, tokens * heads),
                rate.into_iter().map(|rate| -2.0 * rate.abs()).collect(),
            ],
        }
    }

    fn scan(&self) -> Quasiseparable<'_> {
        Quasiseparable {
            offsets: &self.offsets,
            heads: self.heads,
            head_width: self.head_width,
            state: self.state,
        }
    }

    fn loops(&self, inputs: &[Vec<f64>; 4]) -> Vec<f64> {
        let inputs = inputs.each_ref().map(Vec::as_slice);
        reference::quasiseparable::forward(&self.scan(), inputs)
    }

    fn run(&self, isa: Isa, kept: Option<&mut [f32]>) -> Vec<f32> {
        let odd = self.inputs.each_ref().map(|x| Odd::new(x));
        let [mixed, steps, own, rate] = odd.each_ref().map(|x| &**x);
        let mut output = Odd::blank(own.len() * self.head_width);
        let inputs = inputs([mixed, steps, own, rate]);
        forward(isa, &self.scan(), &inputs, &mut output, kept);
        output.to_vec()
    }

    fn gradients(&self, isa: Isa, d_output: &[f32]) -> [Vec<f32>; 4] {
        let mut kept = Odd::blank(self.scan().kept());
        let output = self.run(isa, Some(&mut kept));
        assert!(bits(&output) == bits(&self.run(isa, None)), "kept or not");
        let inputs = inputs(self.inputs.each_ref().map(Vec::as_slice));
        let found = backward(isa, &self.scan(), &inputs, &kept, d_output);
        [found.mixed, found.steps, found.own, found.rate]
    }
}

fn inputs([mixed, steps, own, rate]: [&[f32]; 4]) -> Inputs<'_> {
    Inputs {
        mixed,
        steps,
        own,
        rate,
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..150, 0..4),
        heads in 1_usize..7,
        head_width in 1_usize..20,
        state in 1_usize..20,
    ) {
        let case = Case::new(&lens, heads, head_width, state);
        let want = case.loops(&case.inputs.each_ref().map(|x| wide(x)));
        for isa in Isa::available() {
            assert_close("output", &case.run(isa, None), &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    // The second sequence has more than one stretch between kept states; sides of less and more than a vector.
    for (heads, head_width, state) in [(2, 3, 2), (5, 4, 3), (1, 17, 5), (2, 6, 18)] {
        let case = Case::new(&[3, 0, 70], heads, head_width, state);
        let d_output = numbers(9, case.inputs[2].len() * head_width);
        let whole = case.inputs.each_ref().map(|x| wide(x));
        for index in 0..4 {
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
                let what = format!("{isa:?}, {heads} heads: gradient of input {index}");
                assert_close(&what, &found, &slopes, GRADIENT);
            }
        }
    }
}

#[test]
fn neighbours_change_no_bit() {
    let together = Case::new(&[40, 90, 1, 0, 200], 3, 5, 4);
    for isa in Isa::available() {
        let output = together.run(isa, None);
        for w in together.offsets.windows(2) {
            let part = |x: &[f32], wide: usize| {
                let [from, to] = [w[0], w[1]].map(|at| at as usize * wide);
                x[from..to].to_vec()
            };
            let [mixed, steps, own, rate] = &together.inputs;
            let alone = Case {
                offsets: vec![0, w[1] - w[0]],
                inputs: [part(mixed, 31), part(steps, 6), part(own, 3), rate.clone()],
                ..together
            };
            assert!(bits(&alone.run(isa, None)) == bits(&part(&output, 15)));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let case = Case::new(&[40, 90, 1, 0, 200], 5, 4, 3);
    let d_output = numbers(9, case.inputs[2].len() * 4);
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || case.gradients(isa, &d_output).concat());
    }
}
