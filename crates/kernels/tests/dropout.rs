//! Dropout: the mask itself, and the passes over it.

mod agree;

use agree::{Odd, assert_close, assert_gradient, assert_threads_do_not_matter, numbers, wide};
use cloze_kernels::op::dropout::{Dropout, add_forward, backward, keep};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// One product and one sum.
const TOLERANCE: f64 = 4e-7;

proptest! {
    #[test]
    fn any_shape_agrees_with_loops(
        rows in 0_usize..40,
        width in 0_usize..70,
        prob in prop::sample::select(vec![0.0_f32, 0.1, 0.5, 0.9]),
        seed: u64,
        added: bool,
    ) {
        let n = rows * width;
        let (x, residual) = (Odd::new(&numbers(1, n)), Odd::new(&numbers(2, n)));
        let residual = added.then_some(&*residual);
        let dropout = Dropout { prob, seed };
        let (mut want, mut want_d) = (vec![f64::NAN; n], vec![f64::NAN; n]);
        let residual_wide = residual.map(wide);
        reference::dropout::add_forward(rows, width, &wide(&x), residual_wide.as_deref(), dropout, &mut want);
        reference::dropout::backward(rows, width, dropout, &wide(&x), &mut want_d);
        for isa in Isa::available() {
            let (mut out, mut d_x) = (Odd::blank(n), Odd::blank(n));
            add_forward(isa, rows, width, &x, residual, dropout, &mut out);
            backward(isa, rows, width, dropout, &x, &mut d_x);
            assert_close(&format!("{isa:?}: out"), &out, &want, TOLERANCE);
            assert_close(&format!("{isa:?}: d_x"), &d_x, &want_d, TOLERANCE);
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    let dropout = Dropout { prob: 0.4, seed: 5 };
    let (x, d_out) = (wide(&numbers(3, 35)), wide(&numbers(4, 35)));
    let mut d_x = vec![f64::NAN; 35];
    reference::dropout::backward(5, 7, dropout, &d_out, &mut d_x);
    assert_gradient("d_x", &x, &d_x, |x| {
        let mut out = vec![f64::NAN; 35];
        reference::dropout::add_forward(5, 7, x, None, dropout, &mut out);
        out.iter().zip(&d_out).map(|(out, d)| out * d).sum()
    });
}

type Pair<'a> = &'a dyn Fn(u64, u32) -> bool;

#[test]
fn mask_keeps_its_share_and_neither_rows_columns_nor_seeds_are_alike() {
    let (rows, cols) = (400_u64, 400_u32);
    let n = (rows * u64::from(cols)) as f64;
    for prob in [0.1_f32, 0.5, 0.8] {
        let share = 1.0 - f64::from(prob);
        // Five standard deviations of a count, and of a count of coincidences.
        let within = |p: f64| 5.0 * (p * (1.0 - p) / n).sqrt();
        let alike = share * share + (1.0 - share) * (1.0 - share);
        let mean = |f: Pair| {
            (0..rows)
                .map(|row| (0..cols).filter(|&col| f(row, col)).count())
                .sum::<usize>() as f64
                / n
        };
        let kept = |seed, row, col| keep(prob, seed, row, col);
        assert!((mean(&|r, c| kept(1, r, c)) - share).abs() < within(share));
        let pairs: [(&str, Pair); 4] = [
            ("rows", &|r, c| kept(1, r, c) == kept(1, r + 1, c)),
            ("columns", &|r, c| kept(1, r, c) == kept(1, r, c + 1)),
            ("seeds", &|r, c| kept(1, r, c) == kept(2, r, c)),
            ("transpose", &|r, c| {
                kept(1, r, c) == kept(1, u64::from(c) + 1000, r as u32)
            }),
        ];
        for (what, pair) in pairs {
            let measured = mean(pair);
            assert!(
                (measured - alike).abs() < within(alike),
                "{what} at {prob}: {measured} not {alike}"
            );
        }
    }
}

#[test]
fn mask_is_pinned() {
    // A resumed run must meet the mask of the run that was saved.
    let row: String = (0..32)
        .map(|col| if keep(0.5, 42, 7, col) { '1' } else { '0' })
        .collect();
    assert_eq!(row, "10001110100100011100101101001110");
}

#[test]
fn threads_do_not_matter() {
    let x = numbers(6, 3000 * 33);
    for isa in Isa::available() {
        assert_threads_do_not_matter("dropout", || {
            let mut out = vec![f32::NAN; x.len()];
            add_forward(
                isa,
                3000,
                33,
                &x,
                Some(&x),
                Dropout { prob: 0.2, seed: 3 },
                &mut out,
            );
            out
        });
    }
}

#[test]
#[should_panic(expected = "dropout probability is 1")]
fn dropping_everything_is_refused() {
    add_forward(
        Isa::Scalar,
        0,
        0,
        &[],
        None,
        Dropout { prob: 1.0, seed: 0 },
        &mut [],
    );
}
