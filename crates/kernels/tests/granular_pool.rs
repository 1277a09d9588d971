//! Pooling of wholes, segments and neighbours against plain loops, its gradients against differences of them.

mod agree;

use agree::{
    Odd, assert_close, assert_threads_do_not_matter, bits, numbers, offsets, slopes, wide,
};
use cloze_kernels::op::granular_pool::{GranularPool, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Sums over a hundred tokens or so, and an exponential.
const TOLERANCE: f64 = 2e-6;
/// Sums of gradients run over all tokens.
const GRADIENT: f64 = 2e-5;

struct Case {
    offsets: Vec<u32>,
    width: usize,
    heads: usize,
    segment: usize,
    radius: usize,
    maps: Vec<f32>,
}

impl Case {
    fn new(lens: &[usize], [heads, head_width]: [usize; 2], segment: usize, radius: usize) -> Self {
        let tokens: usize = lens.iter().sum();
        let width = heads * head_width;
        Self {
            offsets: offsets(lens),
            width,
            heads,
            segment,
            radius,
            maps: numbers(1, tokens * 5 * width),
        }
    }

    fn pool(&self) -> GranularPool<'_> {
        GranularPool {
            offsets: &self.offsets,
            width: self.width,
            heads: self.heads,
            segment: self.segment,
            radius: self.radius,
        }
    }

    fn run(&self, isa: Isa) -> Vec<f32> {
        let mut output = Odd::blank(self.maps.len() / 5);
        forward(isa, &self.pool(), &Odd::new(&self.maps), &mut output);
        output.to_vec()
    }

    fn gradient(&self, isa: Isa, d_output: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; d_output.len()];
        let kept = forward(isa, &self.pool(), &self.maps, &mut output);
        let (weights, whole) = (&kept.weights, &kept.whole);
        backward(isa, &self.pool(), &self.maps, weights, whole, d_output)
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        lens in prop::collection::vec(0_usize..90, 0..4),
        heads in 1_usize..4,
        head_width in 1_usize..20,
        segment in 1_usize..20,
        radius in 0_usize..4,
    ) {
        let case = Case::new(&lens, [heads, head_width], segment, radius);
        let want = reference::granular_pool::forward(&case.pool(), &wide(&case.maps));
        for isa in Isa::available() {
            assert_close("output", &case.run(isa), &want, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    for (heads, head_width, segment, radius) in [(2, 3, 4, 1), (1, 17, 5, 2), (3, 1, 7, 0)] {
        let case = Case::new(&[1, 0, 23], [heads, head_width], segment, radius);
        let d_output = numbers(9, case.maps.len() / 5);
        let whole = [wide(&case.maps)];
        let slopes = slopes(1e-6, &whole, 0, 0..whole[0].len(), &d_output, |[maps]| {
            reference::granular_pool::forward(&case.pool(), maps)
        });
        for isa in Isa::available() {
            let found = case.gradient(isa, &d_output);
            assert_close("gradient", &found, &slopes, GRADIENT);
        }
    }
}

#[test]
fn of_equals_the_first_has_the_gradient() {
    let mut case = Case::new(&[4], [1, 1], 4, 1);
    case.maps.fill(1.0);
    for isa in Isa::available() {
        let gradient = case.gradient(isa, &[1.0; 4]);
        let of = |map: usize| [0, 1, 2, 3].map(|token| gradient[token * 5 + map]);
        assert_eq!(bits(&of(3)), bits(&[4.0, 0.0, 0.0, 0.0]));
        assert_eq!(bits(&of(4)), bits(&[2.0, 1.0, 1.0, 0.0]));
    }
}

#[test]
fn neighbours_change_no_bit() {
    let together = Case::new(&[40, 90, 1, 0, 33], [3, 5], 8, 2);
    for isa in Isa::available() {
        let output = together.run(isa);
        for w in together.offsets.windows(2) {
            let part = |x: &[f32], wide: usize| {
                let [from, to] = [w[0], w[1]].map(|at| at as usize * wide);
                x[from..to].to_vec()
            };
            let alone = Case {
                offsets: vec![0, w[1] - w[0]],
                maps: part(&together.maps, 75),
                ..together
            };
            assert!(bits(&alone.run(isa)) == bits(&part(&output, 15)));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let case = Case::new(&[40, 90, 1, 0, 33], [3, 5], 8, 2);
    let d_output = numbers(9, case.maps.len() / 5);
    for isa in Isa::available() {
        assert_threads_do_not_matter("gradient", || case.gradient(isa, &d_output));
    }
}
