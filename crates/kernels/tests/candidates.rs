//! Candidate losses against plain loops, and the loops against finite differences.

use cloze_kernels::op::candidates::{CandidateLoss, Shape, forward};
use cloze_kernels::op::cross_entropy::Grads;
use cloze_kernels::{Isa, reference::candidates::forward_backward};
use proptest::prelude::*;

const LOSSES: [CandidateLoss; 3] = [
    CandidateLoss::SampledSoftmax,
    CandidateLoss::Bce,
    CandidateLoss::Gbce { beta: 0.3 },
];

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

struct Case {
    shape: Shape,
    hidden: Vec<f32>,
    table: Vec<f32>,
    bias: Vec<f32>,
    ids: Vec<u32>,
    correction: Vec<f32>,
}

impl Case {
    fn new(rows: usize, width: usize, classes: usize, candidates: usize) -> Self {
        let ids = numbers(5, rows * candidates);
        Self {
            shape: Shape {
                rows,
                width,
                classes,
                candidates,
            },
            hidden: numbers(1, rows * width),
            table: numbers(2, classes * width),
            bias: numbers(3, classes),
            // Few classes: negatives equal to the positive, and to each other, are among them.
            ids: ids
                .iter()
                .map(|x| ((x + 1.0) * 0.499 * classes as f32) as u32)
                .collect(),
            correction: numbers(4, rows * candidates),
        }
    }

    fn check(&self, isa: Isa, loss: CandidateLoss, extras: bool) {
        let Shape {
            rows,
            width,
            classes,
            candidates,
        } = self.shape;
        let what = format!("{isa:?} {rows}×{width}→{candidates} of {classes} {loss:?}");
        let (bias, correction) = (wide(&self.bias), wide(&self.correction));
        let scale = 0.25;
        let (want, slopes) = forward_backward(
            self.shape,
            &wide(&self.hidden),
            &wide(&self.table),
            extras.then_some(bias.as_slice()),
            &self.ids,
            extras.then_some(correction.as_slice()),
            loss,
            f64::from(scale),
        );
        let (bias, correction) = (
            extras.then_some(self.bias.as_slice()),
            extras.then_some(self.correction.as_slice()),
        );
        let mut losses = vec![f32::NAN; rows];
        let mut d_hidden = vec![f32::NAN; rows * width + 1];
        let (mut d_table, mut d_bias) = (vec![f32::NAN; classes * width], vec![f32::NAN; classes]);
        // Each candidate's term is off by the rounding of its logit, a sum of `width` products in −1..1.
        let tolerance = (width + 16) as f64 * (candidates + 4) as f64 * f64::from(f32::EPSILON);
        let close = |name: &str, got: &[f32], want: &[f64], tolerance: f64| {
            assert_eq!(got.len(), want.len());
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                let off = (f64::from(got) - want).abs();
                assert!(off <= tolerance, "{what}: {name}[{i}] = {got}, not {want}");
            }
        };
        forward(
            isa,
            self.shape,
            &self.hidden,
            &self.table,
            bias,
            &self.ids,
            correction,
            loss,
            scale,
            None,
            &mut losses,
        );
        close("loss", &losses, &want, tolerance);
        losses.fill(f32::NAN);
        let grads = Grads {
            d_hidden: &mut d_hidden[1..],
            d_table: &mut d_table,
            d_bias: Some(&mut d_bias),
        };
        forward(
            isa,
            self.shape,
            &self.hidden,
            &self.table,
            bias,
            &self.ids,
            correction,
            loss,
            scale,
            Some(grads),
            &mut losses,
        );
        close("loss beside gradients", &losses, &want, tolerance);
        close("d_hidden", &d_hidden[1..], &slopes.d_hidden, tolerance);
        close(
            "d_table",
            &d_table,
            &slopes.d_table,
            tolerance * (rows + 1) as f64,
        );
        close(
            "d_bias",
            &d_bias,
            &slopes.d_bias,
            tolerance * (rows + 1) as f64,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape_agrees_with_loops(
        rows in 0_usize..40, width in 1_usize..80, classes in 1_usize..150, candidates in 1_usize..40,
    ) {
        let case = Case::new(rows, width, classes, candidates);
        for isa in Isa::available() {
            for loss in LOSSES {
                case.check(isa, loss, rows % 2 == 0);
            }
        }
    }
}

#[test]
fn a_negative_equal_to_the_positive_does_not_count_in_the_softmax() {
    let shape = Shape {
        rows: 1,
        width: 1,
        classes: 3,
        candidates: 3,
    };
    for isa in Isa::available() {
        let mut losses = [f32::NAN];
        forward(
            isa,
            shape,
            &[1.0],
            &[0.5, 0.5, 9.0],
            None,
            &[0, 0, 1],
            None,
            CandidateLoss::SampledSoftmax,
            1.0,
            None,
            &mut losses,
        );
        assert!(
            (losses[0] - std::f32::consts::LN_2).abs() < 1e-6,
            "{isa:?}: {}",
            losses[0]
        );
    }
}

#[test]
fn the_reference_backward_is_the_slope_of_the_forward() {
    const STEP: f64 = 1e-5;
    let case = Case::new(3, 4, 5, 6);
    let parts = [wide(&case.hidden), wide(&case.table), wide(&case.bias)];
    let correction = wide(&case.correction);
    for loss in LOSSES {
        let run = |p: &[Vec<f64>; 3]| {
            forward_backward(
                case.shape,
                &p[0],
                &p[1],
                Some(&p[2]),
                &case.ids,
                Some(&correction),
                loss,
                0.5,
            )
        };
        let got = run(&parts).1;
        for (which, got) in [got.d_hidden, got.d_table, got.d_bias]
            .into_iter()
            .enumerate()
        {
            assert_eq!(got.len(), parts[which].len());
            for (i, got) in got.into_iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = parts.clone();
                    moved[which][i] += step;
                    0.5 * run(&moved).0.iter().sum::<f64>()
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!(
                    (got - slope).abs() < 1e-8,
                    "{loss:?} {which} {i}: {got}, not {slope}"
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::new(200, 24, 90, 17);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (mut d_hidden, mut d_table) = (vec![0.0; 200 * 24], vec![0.0; 90 * 24]);
        let (mut d_bias, mut losses) = (vec![0.0; 90], vec![0.0; 200]);
        let grads = Grads {
            d_hidden: &mut d_hidden,
            d_table: &mut d_table,
            d_bias: Some(&mut d_bias),
        };
        pool.install(|| {
            forward(
                Isa::detect(),
                case.shape,
                &case.hidden,
                &case.table,
                None,
                &case.ids,
                None,
                CandidateLoss::Bce,
                0.1,
                Some(grads),
                &mut losses,
            );
        });
        [d_hidden, d_table, d_bias, losses]
            .concat()
            .into_iter()
            .map(f32::to_bits)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "row 1 has candidate 7, there are 3 classes")]
fn a_candidate_that_is_no_class_is_refused() {
    let shape = Shape {
        rows: 2,
        width: 1,
        classes: 3,
        candidates: 1,
    };
    let mut losses = [0.0; 2];
    forward(
        Isa::Scalar,
        shape,
        &[0.0; 2],
        &[0.0; 3],
        None,
        &[0, 7],
        None,
        CandidateLoss::Bce,
        1.0,
        None,
        &mut losses,
    );
}
