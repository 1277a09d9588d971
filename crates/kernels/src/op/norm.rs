//! Layer normalisation of a residual sum, after dropout.
//!
//! s = residual + dropout(x); x̂ = (s − mean s) / √(var s + ε); out = γ x̂ + β, row by row. Each row is read from memory once: its
//! sum, its centred copy and its output are made while it lies in L1. Backward, with g = γ ∘ dout:
//! ds = (g − mean g − x̂ mean(g ∘ x̂)) / √(var s + ε). dγ and dβ are summed within blocks of rows, then over blocks in order.
//!
//! # Source
//! Ba, Kiros & Hinton, Layer Normalization, 2016, arXiv:1607.06450.

use super::dropout::{Dropout, Mask, dropped};
use super::split::{block_rows, each};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::Shared;

/// Normalises `residual + dropout(x)`, keeping what the backward pass needs.
///
/// # Shapes
/// `x`, `residual`, `out`, `normalized`: `[N, D]`; `gamma`, `beta`: `[D]`; `rstd`: `[N]`.
/// # Panics
/// Where a slice has another length, `dropout.prob` lies outside [0, 1), or the machine lacks `isa`.
pub fn add_norm_forward(
    isa: Isa,
    rows: usize,
    width: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    dropout: Dropout,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
    normalized: &mut [f32],
    rstd: &mut [f32],
) {
    require(isa);
    dropout.check();
    assert_eq!(x.len(), rows * width, "add_norm: length of x");
    if let Some(residual) = residual {
        assert_eq!(residual.len(), rows * width, "add_norm: length of residual");
    }
    assert_eq!(gamma.len(), width, "add_norm: length of gamma");
    assert_eq!(beta.len(), width, "add_norm: length of beta");
    assert_eq!(out.len(), rows * width, "add_norm: length of out");
    assert_eq!(
        normalized.len(),
        rows * width,
        "add_norm: length of normalized"
    );
    assert_eq!(rstd.len(), rows, "add_norm: length of rstd");
    let block = block_rows(width);
    let (out, normalized, rstd) = (Shared::new(out), Shared::new(normalized), Shared::new(rstd));
    each(rows.div_ceil(block), |piece| {
        let first = piece * block;
        let count = block.min(rows - first);
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows of the outputs.
        unsafe {
            forward_rows(
                isa,
                first,
                count,
                width,
                x,
                residual,
                dropout,
                gamma,
                beta,
                eps,
                out.at(0),
                normalized.at(0),
                rstd.at(0),
            );
        }
    });
}

/// Gradients of [`add_norm_forward`]; every output is overwritten.
///
/// # Shapes
/// `normalized`, `d_out`, `d_x`, `d_residual`: `[N, D]`; `rstd`: `[N]`; `gamma`, `d_gamma`, `d_beta`: `[D]`.
/// # Panics
/// As [`add_norm_forward`].
pub fn add_norm_backward(
    isa: Isa,
    rows: usize,
    width: usize,
    normalized: &[f32],
    rstd: &[f32],
    dropout: Dropout,
    gamma: &[f32],
    d_out: &[f32],
    d_x: &mut [f32],
    d_residual: Option<&mut [f32]>,
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
) {
    require(isa);
    dropout.check();
    assert_eq!(
        normalized.len(),
        rows * width,
        "add_norm: length of normalized"
    );
    assert_eq!(rstd.len(), rows, "add_norm: length of rstd");
    assert_eq!(gamma.len(), width, "add_norm: length of gamma");
    assert_eq!(d_out.len(), rows * width, "add_norm: length of d_out");
    assert_eq!(d_x.len(), rows * width, "add_norm: length of d_x");
    if let Some(d_residual) = &d_residual {
        assert_eq!(
            d_residual.len(),
            rows * width,
            "add_norm: length of d_residual"
        );
    }
    assert_eq!(d_gamma.len(), width, "add_norm: length of d_gamma");
    assert_eq!(d_beta.len(), width, "add_norm: length of d_beta");
    let block = block_rows(width);
    let pieces = rows.div_ceil(block);
    // [pieces, 2, D]: each piece's share of d_gamma, then of d_beta.
    let mut shares = vec![0.0; pieces * 2 * width];
    let (all_shares, d_x) = (Shared::new(&mut shares), Shared::new(d_x));
    let d_residual = d_residual.map(Shared::new);
    each(pieces, |piece| {
        let first = piece * block;
        let count = block.min(rows - first);
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows of the gradients and one row of shares.
        unsafe {
            backward_rows(
                isa,
                first,
                count,
                width,
                normalized,
                rstd,
                dropout,
                gamma,
                d_out,
                d_x.at(0),
                d_residual.map_or(std::ptr::null_mut(), |d| d.at(0)),
                all_shares.at(piece * 2 * width),
            );
        }
    });
    d_gamma.fill(0.0);
    d_beta.fill(0.0);
    if width > 0 {
        for share in shares.chunks_exact(2 * width) {
            let (of_gamma, of_beta) = share.split_at(width);
            d_gamma
                .iter_mut()
                .zip(of_gamma)
                .for_each(|(sum, part)| *sum += part);
            d_beta
                .iter_mut()
                .zip(of_beta)
                .for_each(|(sum, part)| *sum += part);
        }
    }
}

dispatch! {
    /// Rows `first..first + count` of [`add_norm_forward`].
    ///
    /// # Safety
    /// The machine has `isa`; slices and pointers have the shapes of [`add_norm_forward`] for at least these rows, and no other
    /// thread uses these rows of the outputs.
    unsafe fn forward_rows(
        first: usize, count: usize, width: usize,
        x: &[f32], residual: Option<&[f32]>, dropout: Dropout, gamma: &[f32], beta: &[f32], eps: f32,
        out: *mut f32, normalized: *mut f32, rstd: *mut f32,
    ) = forward_body;
}

#[inline(always)]
unsafe fn forward_body<V: Vector>(
    first: usize,
    count: usize,
    width: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    dropout: Dropout,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: *mut f32,
    normalized: *mut f32,
    rstd: *mut f32,
) {
    let mask = Mask::<V>::new(dropout);
    for row in first..first + count {
        let key = dropout.row_key(row as u64);
        let line = normalized.add(row * width);
        let mut total = V::zero();
        let mut col = 0;
        while col < width {
            let n = V::LANES.min(width - col);
            let sum = dropped(mask, dropout, key, col, x, residual, row * width + col, n);
            sum.store_up_to(line.add(col), n);
            // Lanes past the row are zero: x and residual were loaded so.
            total = total.add(sum);
            col += V::LANES;
        }
        let mean = V::splat(total.reduce_sum() / width as f32);
        let mut squares = V::zero();
        let whole = width - width % V::LANES;
        col = 0;
        while col < whole {
            let centred = V::load(line.add(col)).sub(mean);
            centred.store(line.add(col));
            squares = centred.fma(centred, squares);
            col += V::LANES;
        }
        if whole < width {
            // Through memory, so that lanes past the row come back as zeros and not as minus the mean.
            let n = width - whole;
            V::load_partial(line.add(whole), n)
                .sub(mean)
                .store_partial(line.add(whole), n);
            let centred = V::load_partial(line.add(whole), n);
            squares = centred.fma(centred, squares);
        }
        let scale = 1.0 / (squares.reduce_sum() / width as f32 + eps).sqrt();
        *rstd.add(row) = scale;
        let scale = V::splat(scale);
        col = 0;
        while col < width {
            let n = V::LANES.min(width - col);
            let value = V::load_up_to(line.add(col), n).mul(scale);
            value.store_up_to(line.add(col), n);
            let gamma = V::load_up_to(gamma.as_ptr().add(col), n);
            let beta = V::load_up_to(beta.as_ptr().add(col), n);
            value
                .fma(gamma, beta)
                .store_up_to(out.add(row * width + col), n);
            col += V::LANES;
        }
    }
}

dispatch! {
    /// Rows `first..first + count` of [`add_norm_backward`]; adds to `share: [2, D]` their part of `d_gamma` and of `d_beta`.
    ///
    /// # Safety
    /// The machine has `isa`; slices and pointers have the shapes of [`add_norm_backward`] for at least these rows (`d_residual`
    /// may be null), and no other thread uses `share` or these rows of the gradients.
    unsafe fn backward_rows(
        first: usize, count: usize, width: usize,
        normalized: &[f32], rstd: &[f32], dropout: Dropout, gamma: &[f32], d_out: &[f32],
        d_x: *mut f32, d_residual: *mut f32, share: *mut f32,
    ) = backward_body;
}

#[inline(always)]
unsafe fn backward_body<V: Vector>(
    first: usize,
    count: usize,
    width: usize,
    normalized: &[f32],
    rstd: &[f32],
    dropout: Dropout,
    gamma: &[f32],
    d_out: &[f32],
    d_x: *mut f32,
    d_residual: *mut f32,
    share: *mut f32,
) {
    let mask = Mask::<V>::new(dropout);
    for row in first..first + count {
        let normalized = normalized.as_ptr().add(row * width);
        let d_out = d_out.as_ptr().add(row * width);
        let (mut total, mut slope) = (V::zero(), V::zero());
        let mut col = 0;
        while col < width {
            let n = V::LANES.min(width - col);
            let value = V::load_up_to(normalized.add(col), n);
            let d = V::load_up_to(d_out.add(col), n);
            let (d_gamma, d_beta) = (share.add(col), share.add(width + col));
            d.fma(value, V::load_up_to(d_gamma, n))
                .store_up_to(d_gamma, n);
            d.add(V::load_up_to(d_beta, n)).store_up_to(d_beta, n);
            let g = d.mul(V::load_up_to(gamma.as_ptr().add(col), n));
            total = total.add(g);
            slope = g.fma(value, slope);
            col += V::LANES;
        }
        let mean = V::splat(total.reduce_sum() / width as f32);
        let slope = V::splat(slope.reduce_sum() / width as f32);
        let scale = V::splat(*rstd.get_unchecked(row));
        let key = dropout.row_key(row as u64);
        col = 0;
        while col < width {
            let n = V::LANES.min(width - col);
            let value = V::load_up_to(normalized.add(col), n);
            let d = V::load_up_to(d_out.add(col), n);
            let g = d.mul(V::load_up_to(gamma.as_ptr().add(col), n));
            let d_sum = value.fnma(slope, g.sub(mean)).mul(scale);
            let at = row * width + col;
            if !d_residual.is_null() {
                d_sum.store_up_to(d_residual.add(at), n);
            }
            let d_sum = if dropout.is_active() {
                d_sum.mul(mask.factor(key, col as u32))
            } else {
                d_sum
            };
            d_sum.store_up_to(d_x.add(at), n);
            col += V::LANES;
        }
    }
}
