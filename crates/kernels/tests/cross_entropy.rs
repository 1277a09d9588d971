//! Cross-entropy against plain loops, and the loops against finite differences.

use cloze_kernels::op::cross_entropy::{Grads, Shape, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

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

struct Case {
    shape: Shape,
    hidden: Vec<f32>,
    table: Vec<f32>,
    bias: Vec<f32>,
    targets: Vec<u32>,
}

impl Case {
    fn new(rows: usize, width: usize, classes: usize) -> Self {
        Self {
            shape: Shape {
                rows,
                width,
                classes,
            },
            hidden: numbers(1, rows * width),
            table: numbers(2, classes * width),
            bias: numbers(3, classes),
            targets: (0..rows).map(|row| (row * 7919 % classes) as u32).collect(),
        }
    }

    /// Against the loops in `f64`, so that the tolerance is for the kernel alone.
    fn check(&self, isa: Isa, with_bias: bool) {
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let Shape {
            rows,
            width,
            classes,
        } = self.shape;
        let what = format!("{isa:?} {rows}×{width}→{classes}");
        let (hidden, table, bias) = (wide(&self.hidden), wide(&self.table), wide(&self.bias));
        let bias = with_bias.then_some(bias.as_slice());
        let scale = 0.25;
        let want =
            reference::cross_entropy::forward(self.shape, &hidden, &table, bias, &self.targets);
        let slopes = reference::cross_entropy::backward(
            self.shape,
            &hidden,
            &table,
            bias,
            &self.targets,
            f64::from(scale),
        );
        // Logits are sums of `width` products of numbers in −1..1; a gradient adds `rows` or weighted `classes` of them.
        let tolerance = (width as f64 + 32.0) * f64::from(f32::EPSILON);
        let close = |name: &str, got: &[f32], want: &[f64], tolerance: f64| {
            assert_eq!(got.len(), want.len());
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                let off = (f64::from(got) - want).abs();
                assert!(off <= tolerance, "{what}: {name}[{i}] = {got}, not {want}");
            }
        };
        let bias = with_bias.then_some(self.bias.as_slice());
        let mut losses = vec![f32::NAN; rows];
        forward(
            isa,
            self.shape,
            &self.hidden,
            &self.table,
            bias,
            &self.targets,
            scale,
            None,
            &mut losses,
        );
        close("loss", &losses, &want, tolerance);

        let mut d_hidden = vec![f32::NAN; rows * width + 1];
        let mut d_table = vec![f32::NAN; classes * width + 1];
        let mut d_bias = vec![f32::NAN; classes];
        let grads = Grads {
            d_hidden: &mut d_hidden[1..],
            d_table: &mut d_table[1..],
            d_bias: Some(&mut d_bias),
        };
        losses.fill(f32::NAN);
        forward(
            isa,
            self.shape,
            &self.hidden,
            &self.table,
            bias,
            &self.targets,
            scale,
            Some(grads),
            &mut losses,
        );
        close("loss beside gradients", &losses, &want, tolerance);
        close("d_hidden", &d_hidden[1..], &slopes.d_hidden, tolerance);
        let over_rows = tolerance * (rows as f64 / classes as f64 + 1.0);
        close("d_table", &d_table[1..], &slopes.d_table, over_rows);
        close("d_bias", &d_bias, &slopes.d_bias, over_rows);
    }
}

#[test]
fn pieces_of_rows_and_classes_agree_with_loops() {
    for isa in Isa::available() {
        for (rows, width, classes) in [
            (0, 4, 3),
            (1, 2, 3),
            (1, 1, 1),
            (49, 8, 1025),
            (97, 5, 2049),
            (50, 64, 512),
        ] {
            Case::new(rows, width, classes).check(isa, true);
            Case::new(rows, width, classes).check(isa, false);
        }
    }
}

#[test]
fn more_rows_than_are_kept_at_once_agree_with_loops() {
    // 180 rows of 50,021 classes: more than 2²³ gradients.
    Case::new(180, 3, 50_021).check(Isa::detect(), true);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shape_agrees_with_loops(rows in 0_usize..70, width in 1_usize..40, classes in 1_usize..200) {
        for isa in Isa::available() {
            Case::new(rows, width, classes).check(isa, rows % 2 == 0);
        }
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let shape = Shape {
        rows: 1,
        width: 1,
        classes: 3,
    };
    for isa in Isa::available() {
        let mut losses = [f32::NAN];
        forward(
            isa,
            shape,
            &[1.0],
            &[500.0, -500.0, 498.0],
            None,
            &[2],
            1.0,
            None,
            &mut losses,
        );
        let want = 2.0 + (-2.0_f32).exp().ln_1p();
        assert!((losses[0] - want).abs() < 1e-4, "{isa:?}: {}", losses[0]);
    }
}

#[test]
fn classes_ruled_out_by_their_bias_get_no_gradient() {
    let shape = Shape {
        rows: 1,
        width: 1,
        classes: 1500,
    };
    let bias: Vec<f32> = (0..1500)
        .map(|v| if v < 1498 { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    for isa in Isa::available() {
        let (mut d_hidden, mut d_table, mut losses) =
            ([f32::NAN], vec![f32::NAN; 1500], [f32::NAN]);
        let grads = Grads {
            d_hidden: &mut d_hidden,
            d_table: &mut d_table,
            d_bias: None,
        };
        forward(
            isa,
            shape,
            &[1.0],
            &[1.0; 1500],
            Some(&bias),
            &[1499],
            1.0,
            Some(grads),
            &mut losses,
        );
        assert!(
            (losses[0] - std::f32::consts::LN_2).abs() < 1e-6,
            "{isa:?}: {}",
            losses[0]
        );
        assert!(d_table[..1498].iter().all(|&d| d == 0.0), "{isa:?}");
        assert!(
            (d_table[1498] - 0.5).abs() < 1e-6 && (d_table[1499] + 0.5).abs() < 1e-6,
            "{isa:?}"
        );
    }
}

#[test]
fn the_reference_backward_is_the_slope_of_the_forward() {
    const STEP: f64 = 1e-5;
    let case = Case::new(3, 4, 5);
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let parts = [wide(&case.hidden), wide(&case.table), wide(&case.bias)];
    let loss = |p: &[Vec<f64>; 3]| -> f64 {
        let losses =
            reference::cross_entropy::forward(case.shape, &p[0], &p[1], Some(&p[2]), &case.targets);
        0.5 * losses.iter().sum::<f64>()
    };
    let got = reference::cross_entropy::backward(
        case.shape,
        &parts[0],
        &parts[1],
        Some(&parts[2]),
        &case.targets,
        0.5,
    );
    for (which, got) in [got.d_hidden, got.d_table, got.d_bias]
        .into_iter()
        .enumerate()
    {
        assert_eq!(got.len(), parts[which].len());
        for (i, got) in got.into_iter().enumerate() {
            let at = |step: f64| {
                let mut moved = parts.clone();
                moved[which][i] += step;
                loss(&moved)
            };
            let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!(
                (got - slope).abs() < 1e-8,
                "{which} {i}: {got}, not {slope}"
            );
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::new(300, 24, 1300);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (mut d_hidden, mut d_table) = (vec![0.0; 300 * 24], vec![0.0; 1300 * 24]);
        let (mut d_bias, mut losses) = (vec![0.0; 1300], vec![0.0; 300]);
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
                Some(&case.bias),
                &case.targets,
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
#[should_panic(expected = "row 1 has target 3, there are 3 classes")]
fn a_target_that_is_no_class_is_refused() {
    let shape = Shape {
        rows: 2,
        width: 1,
        classes: 3,
    };
    forward(
        Isa::Scalar,
        shape,
        &[0.0; 2],
        &[0.0; 3],
        None,
        &[0, 3],
        1.0,
        None,
        &mut [0.0; 2],
    );
}
