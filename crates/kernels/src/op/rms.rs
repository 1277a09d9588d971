//! Each row over the root of its mean square, times a gain, and times `SiLU` of a gate if there is one.
//!
//! x̂ = x / √(mean x² + ε), y = γ ∘ x̂ ∘ f(z). Backward takes x̂ anew, and with g = γ ∘ f(z) ∘ dy: dx = (g − x̂ mean(g ∘ x̂)) /
//! √(mean x² + ε). dγ is summed within pieces of rows, then over pieces in order.
//!
//! # Source
//! Zhang & Sennrich, `NeurIPS` 2019, arXiv:1910.07467.

use super::split::{block_rows, each_piece};
use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::Shared;

/// # Shapes
/// `x, gate, output: [N, D]`; `gain: [D]`
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    x: &[f32],
    gain: &[f32],
    gate: Option<&[f32]>,
    eps: f32,
    output: &mut [f32],
) {
    require(isa);
    let width = gain.len();
    check(x, width, gate, output);
    let output = Shared::new(output);
    each_piece(x.len() / width.max(1), width, |_, rows| {
        let at = rows.start * width;
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows.
        unsafe {
            go_on(
                isa,
                rows.len(),
                width,
                x[at..].as_ptr(),
                gain.as_ptr(),
                gate.map(|gate| gate[at..].as_ptr()),
                eps,
                output.at(at),
            );
        }
    });
}

/// Gradients of every input.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, D]`
    pub x: Vec<f32>,
    /// `[D]`
    pub gain: Vec<f32>,
    /// `[N, D]`, or empty without a gate.
    pub gate: Vec<f32>,
}

/// The gradients, given that of the output.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    x: &[f32],
    gain: &[f32],
    gate: Option<&[f32]>,
    eps: f32,
    d_output: &[f32],
) -> Gradients {
    require(isa);
    let width = gain.len();
    check(x, width, gate, d_output);
    let mut found = Gradients {
        x: vec![0.0; x.len()],
        gain: vec![0.0; width],
        gate: vec![0.0; gate.map_or(0, <[f32]>::len)],
    };
    let rows = x.len() / width.max(1);
    let mut shares = vec![0.0; rows.div_ceil(block_rows(width)) * width];
    let [d_x, d_gate, to_shares] =
        [&mut found.x, &mut found.gate, &mut shares].map(|d| Shared::new(d));
    each_piece(rows, width, |piece, rows| {
        let at = rows.start * width;
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows and shares.
        unsafe {
            go_back(
                isa,
                rows.len(),
                width,
                x[at..].as_ptr(),
                gain.as_ptr(),
                gate.map(|gate| (gate[at..].as_ptr(), d_gate.at(at))),
                eps,
                d_output[at..].as_ptr(),
                d_x.at(at),
                to_shares.at(piece * width),
            );
        }
    });
    for share in shares.chunks(width.max(1)) {
        let sums = found.gain.iter_mut().zip(share);
        sums.for_each(|(sum, x)| *sum += x);
    }
    found
}

fn check(x: &[f32], width: usize, gate: Option<&[f32]>, output: &[f32]) {
    assert!(
        x.is_empty() || x.len().is_multiple_of(width),
        "rms: length of x"
    );
    assert_eq!(output.len(), x.len(), "rms: length of output");
    if let Some(gate) = gate {
        assert_eq!(gate.len(), x.len(), "rms: length of gate");
    }
}

dispatch! {
    /// # Safety
    /// The machine has `isa`; `gain` is valid for `width` floats, all others for `count` rows of as many.
    unsafe fn go_on(
        count: usize,
        width: usize,
        x: *const f32,
        gain: *const f32,
        gate: Option<*const f32>,
        eps: f32,
        y: *mut f32,
    ) = go_on_body;
}

#[inline(always)]
unsafe fn go_on_body<V: Vector>(
    count: usize,
    width: usize,
    x: *const f32,
    gain: *const f32,
    gate: Option<*const f32>,
    eps: f32,
    y: *mut f32,
) {
    for row in 0..count {
        let x = x.add(row * width);
        let scale = V::splat(scale::<V>(width, x, eps));
        for column in (0..width).step_by(V::LANES) {
            let n = V::LANES.min(width - column);
            let gain = V::load_up_to(gain.add(column), n);
            let mut value = V::load_up_to(x.add(column), n).mul(scale).mul(gain);
            if let Some(gate) = gate {
                let gate = V::load_up_to(gate.add(row * width + column), n);
                value = value.mul(gate.mul(math::sigmoid(gate)));
            }
            value.store_up_to(y.add(row * width + column), n);
        }
    }
}

/// One over the root of the mean square.
#[inline(always)]
unsafe fn scale<V: Vector>(width: usize, x: *const f32, eps: f32) -> f32 {
    let mut square = V::zero();
    for column in (0..width).step_by(V::LANES) {
        let x = V::load_up_to(x.add(column), V::LANES.min(width - column));
        square = x.fma(x, square);
    }
    1.0 / (square.reduce_sum() / width as f32 + eps).sqrt()
}

dispatch! {
    /// # Safety
    /// As of [`go_on`]; `share`, to which the gradient of `gain` is added, is valid for `width` floats; what is written
    /// overlaps nothing else.
    unsafe fn go_back(
        count: usize,
        width: usize,
        x: *const f32,
        gain: *const f32,
        gate: Option<(*const f32, *mut f32)>,
        eps: f32,
        d_y: *const f32,
        d_x: *mut f32,
        share: *mut f32,
    ) = go_back_body;
}

#[inline(always)]
unsafe fn go_back_body<V: Vector>(
    count: usize,
    width: usize,
    x: *const f32,
    gain: *const f32,
    gate: Option<(*const f32, *mut f32)>,
    eps: f32,
    d_y: *const f32,
    d_x: *mut f32,
    share: *mut f32,
) {
    let one = V::splat(1.0);
    for row in 0..count {
        let at = row * width;
        let scale = V::splat(scale::<V>(width, x.add(at), eps));
        let mut along = V::zero();
        for column in (0..width).step_by(V::LANES) {
            let n = V::LANES.min(width - column);
            let load = |p: *const f32| V::load_up_to(p.add(column), n);
            let normal = load(x.add(at)).mul(scale);
            let gain = load(gain);
            let mut d = load(d_y.add(at));
            if let Some((gate, d_gate)) = gate {
                let gate = load(gate.add(at));
                let sigmoid = math::sigmoid(gate);
                let slope = sigmoid.mul(gate.fma(one.sub(sigmoid), one));
                let d_gate = d_gate.add(at + column);
                d.mul(normal.mul(gain)).mul(slope).store_up_to(d_gate, n);
                d = d.mul(gate.mul(sigmoid));
            }
            let share = share.add(column);
            d.fma(normal, V::load_up_to(share, n)).store_up_to(share, n);
            let d = d.mul(gain);
            d.store_up_to(d_x.add(at + column), n);
            along = d.fma(normal, along);
        }
        let along = V::splat(along.reduce_sum() / width as f32);
        for column in (0..width).step_by(V::LANES) {
            let n = V::LANES.min(width - column);
            let normal = V::load_up_to(x.add(at + column), n).mul(scale);
            let to = d_x.add(at + column);
            let d = normal.fnma(along, V::load_up_to(to, n)).mul(scale);
            d.store_up_to(to, n);
        }
    }
}
