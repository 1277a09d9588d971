//! Layer normalisation of a residual sum against plain loops.

mod agree;

use agree::{Odd, assert_close, assert_gradient, assert_threads_do_not_matter, numbers, wide};
use cloze_kernels::op::dropout::Dropout;
use cloze_kernels::op::norm::{add_norm_backward, add_norm_forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Rounding of means over a row, times the rstd of rows that differ little: up to some tens with rows of two or three.
const TOLERANCE: f64 = 2e-5;
const EPS: f32 = 1e-3;

/// `out`, `normalized`, `rstd`, `d_x`, `d_residual`, `d_gamma`, `d_beta`
fn run(
    isa: Isa,
    rows: usize,
    width: usize,
    residual: Option<&[f32]>,
    dropout: Dropout,
    x: &[f32],
    gamma: &[f32],
    d_out: &[f32],
) -> [Odd; 7] {
    let n = rows * width;
    let mut of = [n, n, rows, n, n, width, width].map(Odd::blank);
    let [out, normalized, rstd, d_x, d_residual, d_gamma, d_beta] = &mut of;
    let beta: Vec<f32> = gamma.iter().map(|g| g - 0.25).collect();
    add_norm_forward(
        isa, rows, width, x, residual, dropout, gamma, &beta, EPS, out, normalized, rstd,
    );
    add_norm_backward(
        isa,
        rows,
        width,
        normalized,
        rstd,
        dropout,
        gamma,
        d_out,
        d_x,
        Some(d_residual),
        d_gamma,
        d_beta,
    );
    of
}

fn reference(
    rows: usize,
    width: usize,
    residual: Option<&[f64]>,
    dropout: Dropout,
    x: &[f64],
    gamma: &[f64],
    d_out: &[f64],
) -> [Vec<f64>; 7] {
    let n = rows * width;
    let mut of = [n, n, rows, n, n, width, width].map(|n| vec![f64::NAN; n]);
    let [out, normalized, rstd, d_x, d_residual, d_gamma, d_beta] = &mut of;
    let beta: Vec<f64> = gamma.iter().map(|g| g - 0.25).collect();
    reference::norm::add_norm_forward(
        rows,
        width,
        x,
        residual,
        dropout,
        gamma,
        &beta,
        f64::from(EPS),
        out,
        normalized,
        rstd,
    );
    reference::norm::add_norm_backward(
        rows,
        width,
        normalized,
        rstd,
        dropout,
        gamma,
        d_out,
        d_x,
        Some(d_residual),
        d_gamma,
        d_beta,
    );
    of
}

fn check(rows: usize, width: usize, added: bool, dropout: Dropout) {
    let n = rows * width;
    let [x, residual, d_out] = [1, 2, 3].map(|seed| Odd::new(&numbers(seed, n)));
    let gamma = Odd::new(&numbers(4, width));
    let residual = added.then_some(&*residual);
    let residual_wide = residual.map(wide);
    let want = reference(
        rows,
        width,
        residual_wide.as_deref(),
        dropout,
        &wide(&x),
        &wide(&gamma),
        &wide(&d_out),
    );
    for isa in Isa::available() {
        let got = run(isa, rows, width, residual, dropout, &x, &gamma, &d_out);
        let names = [
            "out",
            "normalized",
            "rstd",
            "d_x",
            "d_residual",
            "d_gamma",
            "d_beta",
        ];
        for ((got, want), name) in got.iter().zip(&want).zip(names) {
            assert_close(
                &format!("{isa:?} {rows}×{width}: {name}"),
                got,
                want,
                TOLERANCE,
            );
        }
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        rows in 0_usize..40,
        width in 1_usize..100,
        prob in prop::sample::select(vec![0.0_f32, 0.2]),
        added: bool,
    ) {
        check(rows, width, added, Dropout { prob, seed: 9 });
    }
}

#[test]
fn several_blocks_agree_with_loops() {
    check(1031, 64, true, Dropout { prob: 0.1, seed: 1 });
    check(5, 16_411, true, Dropout::NONE);
}

#[test]
fn gradient_is_the_slope() {
    let (rows, width, dropout) = (3, 7, Dropout { prob: 0.3, seed: 2 });
    let [x, residual, d_out] = [5, 6, 7].map(|seed| wide(&numbers(seed, rows * width)));
    let gamma = wide(&numbers(8, width));
    // `run` ties beta to gamma, so the slope by gamma is that of both.
    let loss = |x: &[f64], residual: &[f64], gamma: &[f64]| -> f64 {
        let out = &reference(rows, width, Some(residual), dropout, x, gamma, &d_out)[0];
        out.iter().zip(&d_out).map(|(out, d)| out * d).sum()
    };
    let [_, _, _, d_x, d_residual, d_gamma, d_beta] =
        reference(rows, width, Some(&residual), dropout, &x, &gamma, &d_out);
    let d_both: Vec<f64> = d_gamma.iter().zip(&d_beta).map(|(g, b)| g + b).collect();
    assert_gradient("d_x", &x, &d_x, |x| loss(x, &residual, &gamma));
    assert_gradient("d_residual", &residual, &d_residual, |residual| {
        loss(&x, residual, &gamma)
    });
    assert_gradient("d_gamma and d_beta", &gamma, &d_both, |gamma| {
        loss(&x, &residual, gamma)
    });
}

#[test]
fn threads_do_not_matter() {
    let (rows, width) = (2000, 65);
    let [x, residual, d_out] = [1, 2, 3].map(|seed| numbers(seed, rows * width));
    let gamma = numbers(4, width);
    for isa in Isa::available() {
        assert_threads_do_not_matter("norm", || {
            let dropout = Dropout { prob: 0.2, seed: 3 };
            let of = run(
                isa,
                rows,
                width,
                Some(&residual),
                dropout,
                &x,
                &gamma,
                &d_out,
            );
            of.iter().flat_map(|part| part.to_vec()).collect()
        });
    }
}

#[test]
fn rows_far_from_zero_keep_their_variance() {
    // Mean 4096, deviations of 1: squares about the origin would lose all of them.
    let x: Vec<f32> = (0..64).map(|i| 4096.0 + (i % 2) as f32 * 2.0).collect();
    for isa in Isa::available() {
        let of = run(isa, 1, 64, None, Dropout::NONE, &x, &[1.0; 64], &[0.0; 64]);
        let want: Vec<f64> = (0..64).map(|i| f64::from(i % 2 * 2 - 1)).collect();
        // 1 / √(1 + eps) is within eps of 1.
        assert_close(&format!("{isa:?}"), &of[1], &want, 6e-4 * 3.0);
    }
}
