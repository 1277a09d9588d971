//! Normalisation of rows, alone or of a sum.
//!
//! Layer: (x − mean x) / √(var x + ε); root mean square: x / √(mean x² + ε); then times the gain, plus the bias. The variance
//! is that of the centred row, in a second pass while the row lies in L1, which also mends the mean.
//!
//! # Source
//! Ba, Kiros & Hinton, Layer Normalization, 2016, arXiv:1607.06450; Zhang & Sennrich, arXiv:1910.07467.

use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::op::split::{block_rows, each};
use crate::scratch::Shared;

/// What a row is made to be.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `[D]`
    pub gain: &'a [f32],
    /// `[D]`
    pub bias: Option<&'a [f32]>,
    /// Added to the variance, or to the mean square.
    pub eps: f32,
    /// Whether the mean is taken out first.
    pub centred: bool,
}

impl Norm<'_> {
    /// Panics unless the fields fit each other, and tells D.
    pub(super) fn check(&self) -> usize {
        let width = self.gain.len();
        assert!(width > 0, "norm: no channels");
        assert!(
            self.bias.is_none_or(|bias| bias.len() == width),
            "norm: length of bias"
        );
        width
    }
}

/// `x = norm(x)`, row by row.
///
/// # Shapes
/// `x: [N, D]`
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn norm(isa: Isa, norm: &Norm, x: &mut [f32]) {
    let rows = check(isa, norm, x.len());
    let x = Shared::new(x);
    // SAFETY: lengths and instruction set checked above; every row is its own.
    unsafe { sum_and_norm(isa, norm, rows, x, None, x, x) };
}

/// [`norm`] on this thread alone: for rows that lie in its cache.
///
/// # Shapes
/// `x: [N, D]`
/// # Panics
/// As [`norm`].
pub fn norm_here(isa: Isa, norm: &Norm, x: &mut [f32]) {
    check(isa, norm, x.len());
    for row in x.chunks_exact_mut(norm.gain.len()) {
        let row = row.as_mut_ptr();
        // SAFETY: length and instruction set checked above.
        unsafe { norm_row(isa, norm, row, std::ptr::null(), row, row) };
    }
}

/// `out = norm(x)`, row by row.
///
/// # Shapes
/// `x`, `out`: `[N, D]`
/// # Panics
/// As [`norm`].
pub fn norm_into(isa: Isa, norm: &Norm, x: &[f32], out: &mut [f32]) {
    let rows = check(isa, norm, x.len());
    assert_eq!(out.len(), x.len(), "norm: length of out");
    let x = Shared::from_ptr(x.as_ptr().cast_mut());
    let out = Shared::new(out);
    // SAFETY: lengths and instruction set checked above; rows of `out` are disjoint, and `x` is only read.
    unsafe { sum_and_norm(isa, norm, rows, x, None, out, out) };
}

/// `x = norm(x + y)`, row by row: a layer with its norm behind.
///
/// # Shapes
/// `x`, `y`: `[N, D]`
/// # Panics
/// As [`norm`].
pub fn add_norm(isa: Isa, norm: &Norm, y: &[f32], x: &mut [f32]) {
    let rows = check(isa, norm, x.len());
    assert_eq!(y.len(), x.len(), "norm: length of y");
    let x = Shared::new(x);
    // SAFETY: lengths and instruction set checked above; every row is its own.
    unsafe { sum_and_norm(isa, norm, rows, x, Some(y), x, x) };
}

/// `x = x + y`, `out = norm(x)`, row by row: a layer with the next one's norm in front.
///
/// # Shapes
/// `x`, `y`, `out`: `[N, D]`
/// # Panics
/// As [`norm`].
pub fn add_norm_into(isa: Isa, norm: &Norm, y: &[f32], x: &mut [f32], out: &mut [f32]) {
    let rows = check(isa, norm, x.len());
    assert_eq!(y.len(), x.len(), "norm: length of y");
    assert_eq!(out.len(), x.len(), "norm: length of out");
    let (x, out) = (Shared::new(x), Shared::new(out));
    // SAFETY: lengths and instruction set checked above; rows of `x` and `out` are disjoint.
    unsafe { sum_and_norm(isa, norm, rows, x, Some(y), x, out) };
}

/// All heads' queries together become their norm, and so do the keys.
///
/// # Shapes
/// `qkv: [N, 3·D]` for norms of D channels; values stay.
/// # Panics
/// As [`norm`], or where the norms have different widths.
pub fn norm_queries_and_keys(isa: Isa, queries: &Norm, keys: &Norm, qkv: &mut [f32]) {
    require(isa);
    let width = queries.check();
    assert_eq!(keys.check(), width, "norm: channels of queries and keys");
    let stride = 3 * width;
    assert!(
        qkv.len().is_multiple_of(stride),
        "norm: qkv has {} floats, needs a multiple of {stride}",
        qkv.len()
    );
    let rows = qkv.len() / stride;
    let qkv = Shared::new(qkv);
    let block = block_rows(stride);
    each(rows.div_ceil(block), |piece| {
        for row in piece * block..rows.min((piece + 1) * block) {
            let (query, key) = (qkv.at(row * stride), qkv.at(row * stride + width));
            // SAFETY: lengths and instruction set checked above; every row is its own.
            unsafe {
                norm_row(isa, queries, query, std::ptr::null(), query, query);
                norm_row(isa, keys, key, std::ptr::null(), key, key);
            }
        }
    });
}

/// Panics unless there are whole rows, and tells how many.
fn check(isa: Isa, norm: &Norm, len: usize) -> usize {
    require(isa);
    let width = norm.check();
    assert!(
        len.is_multiple_of(width),
        "norm: x has {len} floats, needs a multiple of width {width}"
    );
    len / width
}

/// `sum = x + y`, `out = norm(sum)`, over the pool.
///
/// # Safety
/// The machine has `isa`; the pointers are valid for `rows` rows, of which nobody else uses those of `sum` and `out`.
unsafe fn sum_and_norm(
    isa: Isa,
    norm: &Norm,
    rows: usize,
    x: Shared,
    y: Option<&[f32]>,
    sum: Shared,
    out: Shared,
) {
    let width = norm.gain.len();
    let block = block_rows(width);
    each(rows.div_ceil(block), |piece| {
        for row in piece * block..rows.min((piece + 1) * block) {
            let at = row * width;
            let y = y.map_or(std::ptr::null(), |y| y[at..].as_ptr());
            // SAFETY: duties of the caller; pieces own disjoint rows.
            unsafe { norm_row(isa, norm, x.at(at), y, sum.at(at), out.at(at)) };
        }
    });
}

dispatch! {
    /// One row: `sum = x + y`, `out = norm(sum)`; nothing is added where `y` is null.
    ///
    /// # Safety
    /// The machine has `isa`; the pointers are valid for as many floats as the norm is wide, of which nobody else uses those of
    /// `sum` and `out`; `x`, `sum` and `out` may be the same.
    pub(super) unsafe fn norm_row(
        norm: &Norm, x: *const f32, y: *const f32, sum: *mut f32, out: *mut f32,
    ) = norm_body;
}

#[inline(always)]
unsafe fn norm_body<V: Vector>(
    norm: &Norm,
    x: *const f32,
    y: *const f32,
    sum: *mut f32,
    out: *mut f32,
) {
    let width = norm.gain.len();
    let mut total = V::zero();
    let mut squares = V::zero();
    let mut col = 0;
    while col < width {
        let n = V::LANES.min(width - col);
        let mut value = V::load_up_to(x.add(col), n);
        if !y.is_null() {
            value = value.add(V::load_up_to(y.add(col), n));
        }
        value.store_up_to(sum.add(col), n);
        total = total.add(value);
        squares = value.fma(value, squares);
        col += V::LANES;
    }
    let (mut mean, mut shift) = (V::zero(), 0.0);
    if norm.centred {
        mean = V::splat(total.reduce_sum() / width as f32);
        (total, squares) = (V::zero(), V::zero());
        col = 0;
        while col < width {
            let n = V::LANES.min(width - col);
            let mut value = V::load_up_to(sum.add(col), n).sub(mean);
            if n < V::LANES {
                // The lanes past the row's end are −mean by now.
                let is_inside = V::lt_int(V::iota(0), V::splat_int(n as u32));
                value = V::select(is_inside, value, V::zero());
            }
            total = total.add(value);
            squares = value.fma(value, squares);
            col += V::LANES;
        }
        // What rounding left of the mean, which may be large beside the deviation.
        shift = total.reduce_sum() / width as f32;
        mean = mean.add(V::splat(shift));
    }
    let square = squares.reduce_sum() / width as f32 - shift * shift;
    let scale = V::splat(1.0 / (square + norm.eps).sqrt());
    let gain = norm.gain.as_ptr();
    let bias = norm.bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    col = 0;
    while col < width {
        let n = V::LANES.min(width - col);
        let value = V::load_up_to(sum.add(col), n).sub(mean).mul(scale);
        let gain = V::load_up_to(gain.add(col), n);
        let value = if bias.is_null() {
            value.mul(gain)
        } else {
            value.fma(gain, V::load_up_to(bias.add(col), n))
        };
        value.store_up_to(out.add(col), n);
        col += V::LANES;
    }
}
