//! Pooling of neighbours against plain loops, its gradient against the transposed loops.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, numbers, offsets, wide};
use cloze_kernels::op::pool::{Pool, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// A mean of a few numbers.
const TOLERANCE: f64 = 1e-6;

fn run(isa: Isa, pool: &Pool<'_>, x: &[f32], back: bool) -> Vec<f32> {
    let mut output = Odd::blank(x.len());
    let by = if back { backward } else { forward };
    by(isa, pool, &Odd::new(x), &mut output);
    output.to_vec()
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops_both_ways(
        lens in prop::collection::vec(0_usize..12, 0..5),
        width in 1_usize..40,
        sides in [0_usize..5, 0_usize..5],
    ) {
        let offsets = offsets(&lens);
        let pool = Pool { offsets: &offsets, width, sides };
        let rows: usize = lens.iter().sum();
        let x = numbers(1, rows * width);
        let want = reference::pool::forward(&pool, &wide(&x));
        // What is linear is its own slope: the gradient of a number is what the output does with a 1 in its place.
        let narrow = Pool { width: 1, ..pool };
        let slopes: Vec<Vec<f64>> = (0..rows)
            .map(|row| {
                let mut one = vec![0.0; rows];
                one[row] = 1.0;
                reference::pool::forward(&narrow, &one)
            })
            .collect();
        let gradient: Vec<f64> = (0..rows * width)
            .map(|at| {
                let terms = slopes[at / width].iter().enumerate();
                terms.map(|(row, slope)| slope * f64::from(x[row * width + at % width])).sum()
            })
            .collect();
        for isa in Isa::available() {
            assert_close("output", &run(isa, &pool, &x, false), &want, TOLERANCE);
            assert_close("gradient", &run(isa, &pool, &x, true), &gradient, TOLERANCE);
        }
    }
}

#[test]
fn threads_do_not_matter() {
    // More than one piece of rows.
    let offsets = offsets(&[300, 1, 0, 400]);
    let pool = Pool {
        offsets: &offsets,
        width: 67,
        sides: [2, 1],
    };
    let x = numbers(1, 701 * 67);
    for isa in Isa::available() {
        assert_threads_do_not_matter("output", || run(isa, &pool, &x, false));
    }
}
