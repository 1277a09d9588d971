//! The selective scan against plain loops, its gradients against differences of them.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, offsets, slopes, wide};
use cloze_kernels::op::selective_scan::{Inputs, SelectiveScan, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// States that decay by a share a step keep errors of some steps, each of a unit in the last place or two of `exp`.
const TOLERANCE: f64 = 4e-6;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 2e-5;

struct Case {
    offsets: Vec<u32>,
    width: usize,
    state: usize,
    backward: bool,
    inputs: [Vec<f32>; 4],
}

impl Case {
    fn new(lens: &[usize], width: usize, state: usize, backward: bool) -> Self {
        let tokens: usize = lens.iter().sum();
        let sizes = [width, width, 2 * state];
        let mut inputs = [0, 1, 2, 3].map(|index| {
            let size = sizes.get(index).map_or(width * state, |size| tokens * size);
            numbers(index as u64 + 1, size)
        });
        inputs[1].iter_mut().for_each(|step| *step = step.abs());
        inputs[3]
            .iter_mut()
            .for_each(|rate| *rate = -2.0 * rate.abs());
        Self {
            offsets: offsets(lens),
            width,
            state,
            backward,
            inputs,
        }
    }

    fn scan(&self) -> SelectiveScan<'_> {
        SelectiveScan {
            offsets: &self.offsets,
            width: self.width,
            state: self.state,
            backward: self.backward,
        }
    }

    fn loops(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let [x, step, write_read, rate] = inputs else {
            unreachable!("four inputs")
        };
        reference::selective_scan::forward(&self.scan(), [x, step, write_read, rate])
    }

    fn run(&self, isa: Isa) -> (Vec<f32>, Vec<f32>) {
        let odd: Vec<Odd> = self.inputs.iter().map(|x| Odd::new(x)).collect();
        let scan = self.scan();
        let mut output = Odd::blank(self.inputs[0].len());
        let mut kept = Odd::blank(scan.kept());
        let inputs = inputs([&odd[0], &odd[1], &odd[2], &odd[3]]);
        forward(isa, &scan, &inputs, &mut output, &mut kept);
        (output.to_vec(), kept.to_vec())
    }

    fn gradients(&self, isa: Isa, d_output: &[f32]) -> [Vec<f32>; 4] {
        let (_, kept) = self.run(isa);
        let [x, step, write_read, rate] = &self.inputs;
        let inputs = inputs([x, step, write_read, rate]);
        let found = backward(isa, &self.scan(), &inputs, &kept, d_output);
        [found.x, found.step, found.write_read, found.rate]
    }
}

fn inputs([x, step, write_read, rate]: [&[f32]; 4]) -> Inputs<'_> {
    Inputs {
        x,
        step,
        write_read,
        rate,
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..150, 0..4),
        width in 1_usize..40,
        state in 1_usize..9,
        backward: bool,
    ) {
        let case = Case::new(&lens, width, state, backward);
        let want = case.loops(&case.inputs.each_ref().map(|x| wide(x)));
        for isa in Isa::available() {
            assert_close("output", &case.run(isa).0, &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    // The second has more than one stretch between kept states.
    for (width, backward) in [(3, false), (3, true), (17, false)] {
        let case = Case::new(&[3, 70], width, 2, backward);
        let d_output = numbers(9, case.inputs[0].len());
        let whole = case.inputs.each_ref().map(|x| wide(x));
        for index in 0..4 {
            // The first numbers of a long input stand for the rest.
            let count = whole[index].len().min(250);
            let slopes = slopes(1e-5, &whole, index, 0..count, &d_output, |x| case.loops(x));
            for isa in Isa::available() {
                let found = case.gradients(isa, &d_output);
                let what = format!("gradient of input {index}");
                assert_close(&what, &found[index][..count], &slopes, GRADIENT);
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let case = Case::new(&[40, 90, 1, 0, 200], 33, 4, false);
    let d_output = numbers(9, case.inputs[0].len());
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradients", || case.gradients(isa, &d_output).concat());
    }
}
