//! Outputs of a head into probabilities.

use crate::Isa;
use crate::arch::math::exp;
use crate::arch::{Vector, dispatch, require};
use crate::op::split::{BLOCK, block_rows, each};
use crate::scratch::Shared;

/// Each row becomes its softmax.
///
/// # Shapes
/// `x: [N, C]`, C being `width`.
/// # Panics
/// Where there are no whole rows, or the machine lacks `isa`.
pub fn softmax(isa: Isa, width: usize, x: &mut [f32]) {
    require(isa);
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "softmax: x has {} floats, needs a multiple of width {width}",
        x.len()
    );
    let rows = x.len() / width;
    let block = block_rows(width);
    let x = Shared::new(x);
    each(rows.div_ceil(block), |piece| {
        for row in piece * block..rows.min((piece + 1) * block) {
            // SAFETY: lengths and instruction set checked above; pieces own disjoint rows.
            unsafe { softmax_row(isa, width, x.at(row * width)) };
        }
    });
}

/// Each number becomes 1 / (1 + e⁻ˣ).
///
/// # Panics
/// Where the machine lacks `isa`.
pub fn sigmoid(isa: Isa, x: &mut [f32]) {
    require(isa);
    let n = x.len();
    let x = Shared::new(x);
    each(n.div_ceil(BLOCK), |piece| {
        let first = piece * BLOCK;
        // SAFETY: instruction set checked above; pieces own disjoint floats.
        unsafe { sigmoid_piece(isa, BLOCK.min(n - first), x.at(first)) };
    });
}

dispatch! {
    /// One row.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for `n > 0` floats that no other thread uses.
    unsafe fn softmax_row(n: usize, x: *mut f32) = softmax_body;
}

#[inline(always)]
unsafe fn softmax_body<V: Vector>(n: usize, x: *mut f32) {
    let mut top = *x;
    for i in 1..n {
        top = top.max(*x.add(i));
    }
    let offset = V::splat(top);
    let mut sum = V::zero();
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let mut term = exp(V::load_up_to(x.add(i), lanes).sub(offset));
        if lanes < V::LANES {
            let is_inside = V::lt_int(V::iota(0), V::splat_int(lanes as u32));
            term = V::select(is_inside, term, V::zero());
        }
        sum = sum.add(term);
        term.store_up_to(x.add(i), lanes);
        i += V::LANES;
    }
    let total = V::splat(sum.reduce_sum());
    i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let term = V::load_up_to(x.add(i), lanes);
        term.div(total).store_up_to(x.add(i), lanes);
        i += V::LANES;
    }
}

dispatch! {
    /// Some numbers.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for `n` floats that no other thread uses.
    unsafe fn sigmoid_piece(n: usize, x: *mut f32) = sigmoid_body;
}

#[inline(always)]
unsafe fn sigmoid_body<V: Vector>(n: usize, x: *mut f32) {
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let value = V::load_up_to(x.add(i), lanes);
        // e of a number that is never positive: nothing overflows.
        let small = exp(V::zero().sub(value.abs()));
        let upper = V::splat(1.0).div(V::splat(1.0).add(small));
        let result = V::select(value.lt(V::zero()), small.mul(upper), upper);
        result.store_up_to(x.add(i), lanes);
        i += V::LANES;
    }
}
