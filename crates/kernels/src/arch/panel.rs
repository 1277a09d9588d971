//! Products with a matrix that was packed into panels once: the bodies under [`crate::op::packed`].
//!
//! A panel is `NR` columns of B, `k` deep, and stays in L1 while a block of rows of A passes by from L2; a register tile is
//! `MR` rows by one panel (or, gated, the two panels whose columns meet). What follows the product happens to the tile in
//! registers. Each output is one chain of fused multiply-adds over k, first to last, whatever the rows beside it.

use super::gemm::{CROWDED_STRIDE, product};
use super::{Vector, dispatch, math};
use crate::op::packed::Activation;

/// What becomes of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    /// First output of the first panel.
    pub out: *mut f32,
    /// Floats from row to row of `out`, and of `residual`.
    pub stride: usize,
    /// Outputs to write; gated ones count once.
    pub columns: usize,
    /// One per column, whole panels; gated, the second half's follow the first's panel by panel.
    pub bias: *const f32,
    pub activation: Activation,
    /// Two panels make one: `activation(a)·b`.
    pub gated: bool,
    /// Added last, laid out as `out`; may be `out`. Null for none.
    pub residual: *const f32,
}

/// Floats of scratch that [`rows`] needs for `m` rows of `k`.
pub(crate) fn scratch(m: usize, k: usize) -> usize {
    m.next_multiple_of(12) * k + 16
}

dispatch! {
    /// `m` rows of `a`, `stride` floats apart, with as many panels as the columns fill.
    ///
    /// # Safety
    /// `a` must be valid for `m` rows of `k`, `panels` for the columns' panels of depth `k`, what `finish` points to for
    /// the rows and columns, `scratch` for [`scratch`]`(m, k)` floats; the machine must have `isa`.
    pub(crate) unsafe fn rows(
        m: usize, k: usize, a: *const f32, stride: usize, panels: *const f32, finish: Finish, scratch: *mut f32,
    ) = rows_body;
}

#[inline(always)]
unsafe fn rows_body<V: Vector>(
    m: usize,
    k: usize,
    a: *const f32,
    stride: usize,
    panels: *const f32,
    finish: Finish,
    scratch: *mut f32,
) {
    match V::LANES {
        16 => sweep::<V, 12, 2>(m, k, a, stride, panels, finish, scratch),
        8 => sweep::<V, 6, 2>(m, k, a, stride, panels, finish, scratch),
        4 => sweep::<V, 6, 4>(m, k, a, stride, panels, finish, scratch),
        _ => sweep::<V, 4, 8>(m, k, a, stride, panels, finish, scratch),
    }
}

#[inline(always)]
unsafe fn sweep<V: Vector, const MR: usize, const NV: usize>(
    m: usize,
    k: usize,
    a: *const f32,
    stride: usize,
    panels: *const f32,
    finish: Finish,
    scratch: *mut f32,
) {
    let width = NV * V::LANES;
    let crowded = stride.is_multiple_of(CROWDED_STRIDE);
    // Tiles that are not whole, or whose rows would evict each other, are copied side by side once.
    let copied = |row: usize| crowded || m - row < MR;
    for row in (0..m).step_by(MR) {
        if copied(row) {
            let to = scratch.add(row * k);
            for i in 0..MR {
                for p in 0..k {
                    *to.add(p * MR + i) = if i < m - row {
                        *a.add((row + i) * stride + p)
                    } else {
                        0.0
                    };
                }
            }
        }
    }
    let each = if finish.gated { 2 } else { 1 };
    for (index, column) in (0..finish.columns).step_by(width).enumerate() {
        let panel = panels.add(index * each * width * k);
        for row in (0..m).step_by(MR) {
            let (from, by, step) = if copied(row) {
                (scratch.add(row * k).cast_const(), 1, MR)
            } else {
                (a.add(row * stride), stride, 1)
            };
            let mut sums = product::<V, MR, NV>(k, from, by, step, panel);
            let bias = finish.bias.add(index * each * width);
            add_bias(&mut sums, bias);
            activate(&mut sums, finish.activation);
            if finish.gated {
                let mut other = product::<V, MR, NV>(k, from, by, step, panel.add(width * k));
                add_bias(&mut other, bias.add(width));
                for (sums, other) in sums.iter_mut().zip(other) {
                    for (sum, other) in sums.iter_mut().zip(other) {
                        *sum = sum.mul(other);
                    }
                }
            }
            write(&sums, row, MR.min(m - row), column, &finish);
        }
    }
}

#[inline(always)]
unsafe fn add_bias<V: Vector, const MR: usize, const NV: usize>(
    sums: &mut [[V; NV]; MR],
    bias: *const f32,
) {
    for j in 0..NV {
        let bias = V::load(bias.add(j * V::LANES));
        for sums in sums.iter_mut() {
            sums[j] = sums[j].add(bias);
        }
    }
}

/// The tile into `finish.out`, with the residual.
#[inline(always)]
pub(crate) unsafe fn write<V: Vector, const MR: usize, const NV: usize>(
    sums: &[[V; NV]; MR],
    row: usize,
    rows: usize,
    column: usize,
    finish: &Finish,
) {
    for (i, sums) in sums.iter().enumerate().take(rows) {
        for (j, sum) in sums.iter().enumerate() {
            let done = column + j * V::LANES;
            if done >= finish.columns {
                break;
            }
            let left = finish.columns - done;
            let at = (row + i) * finish.stride + done;
            let mut value = *sum;
            if !finish.residual.is_null() {
                value = value.add(V::load_up_to(finish.residual.add(at), left));
            }
            value.store_up_to(finish.out.add(at), left);
        }
    }
}

/// The elementwise function on every vector of a tile.
#[inline(always)]
pub(crate) unsafe fn activate<V: Vector, const MR: usize, const NV: usize>(
    sums: &mut [[V; NV]; MR],
    activation: Activation,
) {
    match activation {
        Activation::Identity => {}
        Activation::Gelu => each(sums, |x| math::gelu(x)),
        Activation::GeluTanh => each(sums, |x| math::gelu_tanh(x)),
        Activation::QuickGelu => each(sums, |x| x.mul(math::sigmoid(x.mul(V::splat(1.702))))),
        Activation::Relu => each(sums, |x| V::zero().max(x)),
        Activation::Silu => each(sums, |x| x.mul(math::sigmoid(x))),
        Activation::Tanh => each(sums, |x| math::tanh(x)),
        Activation::Sigmoid => each(sums, |x| math::sigmoid(x)),
    }
}

#[inline(always)]
fn each<V: Vector, const MR: usize, const NV: usize>(
    sums: &mut [[V; NV]; MR],
    function: impl Fn(V) -> V,
) {
    for sums in sums {
        for sum in sums {
            *sum = function(*sum);
        }
    }
}
