//! ln(1 + eˣ) of every number; its gradient is the sigmoid.

use super::split::each_piece;
use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::Shared;

/// # Panics
/// If the lengths differ, or the machine lacks `isa`.
pub fn forward(isa: Isa, x: &[f32], output: &mut [f32]) {
    require(isa);
    assert_eq!(output.len(), x.len(), "softplus: length of output");
    let output = Shared::new(output);
    each_piece(x.len(), 1, |_, piece| {
        let (start, count) = (piece.start, piece.len());
        // SAFETY: lengths and instruction set checked above; pieces are disjoint.
        unsafe { bend(isa, count, x[start..].as_ptr(), output.at(start)) };
    });
}

/// The gradient of `x`, given that of the output.
///
/// # Panics
/// As [`forward`].
pub fn backward(isa: Isa, x: &[f32], d_output: &[f32], d_x: &mut [f32]) {
    require(isa);
    assert_eq!(d_output.len(), x.len(), "softplus: length of d_output");
    assert_eq!(d_x.len(), x.len(), "softplus: length of d_x");
    let d_x = Shared::new(d_x);
    each_piece(x.len(), 1, |_, piece| {
        let (start, count) = (piece.start, piece.len());
        let (x, d_output) = (x[start..].as_ptr(), d_output[start..].as_ptr());
        // SAFETY: lengths and instruction set checked above; pieces are disjoint.
        unsafe { unbend(isa, count, x, d_output, d_x.at(start)) };
    });
}

dispatch! {
    /// # Safety
    /// The machine has `isa`; `x` and `y` are valid for `n` floats and do not overlap.
    unsafe fn bend(n: usize, x: *const f32, y: *mut f32) = bend_body;
}

#[inline(always)]
unsafe fn bend_body<V: Vector>(n: usize, x: *const f32, y: *mut f32) {
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let (bent, _) = math::softplus(V::load_up_to(x.add(i), lanes));
        bent.store_up_to(y.add(i), lanes);
        i += V::LANES;
    }
}

dispatch! {
    /// # Safety
    /// The machine has `isa`; `x`, `d_y` and `d_x` are valid for `n` floats, and `d_x` overlaps neither.
    unsafe fn unbend(n: usize, x: *const f32, d_y: *const f32, d_x: *mut f32) = unbend_body;
}

#[inline(always)]
unsafe fn unbend_body<V: Vector>(n: usize, x: *const f32, d_y: *const f32, d_x: *mut f32) {
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let slope = math::sigmoid(V::load_up_to(x.add(i), lanes));
        let d = slope.mul(V::load_up_to(d_y.add(i), lanes));
        d.store_up_to(d_x.add(i), lanes);
        i += V::LANES;
    }
}
