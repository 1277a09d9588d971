//! Products with a matrix that was packed into panels once: the bodies under [`crate::op::packed`].
//!
//! A panel is `NR` columns of B, `k` deep. A block of rows of A waits in L2 while one panel after the other passes: of each, a
//! stretch of at most `DEPTH` (384·16·4 B = 24 KiB with AVX2) stays in L1 for all tiles of the block. A tile is `MR` rows by
//! one panel (see [`super::gemm`] for the sizes). Its sums live in registers for a stretch and in a few KiB of scratch
//! between stretches; after the last, bias, activation, gate and residual are applied on the way from there to the output.
//!
//! Each output is one chain of fused multiply-adds over k, first to last: cutting k stores and reloads the chain without
//! rounding it again, and a tile with fewer rows runs the same chain. So a row has the same bits whatever is beside it.
//!
//! Rows are read in place, save where their stride makes them evict each other; those are copied once per block. Panels of
//! 16-bit floats are widened one at a time, once per block.

use super::gemm::CROWDED_STRIDE;
use super::{Vector, dispatch, math};
use crate::op::packed::Activation;

/// Longest stretch of the inner dimension done at once.
const DEPTH: usize = 384;
/// Floats between copied rows, beyond their length.
const APART: usize = 16;

/// Panels, by how their weights are kept.
#[derive(Clone, Copy)]
pub(crate) enum Weights {
    F32(*const f32),
    Bf16(*const u16),
    F16(*const u16),
}

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

impl Finish {
    /// Panels that make one of the output's.
    pub fn halves(&self) -> usize {
        1 + usize::from(self.gated)
    }
}

/// Floats of scratch that [`rows`] needs for `m` rows of `k` and tiles of `width` columns.
pub(crate) fn scratch(m: usize, k: usize, width: usize) -> usize {
    m * (k + APART) + 2 * width * (k + m)
}

dispatch! {
    /// `m` rows of `a`, `stride` floats apart, with as many panels as the columns fill.
    ///
    /// # Safety
    /// `a` must be valid for `m` rows of `k`, `panels` for the columns' panels of depth `k`, what `finish` points to for
    /// the rows and columns, `scratch` for [`scratch`]`(m, k, NR)` floats; the machine must have `isa`.
    pub(crate) unsafe fn rows(
        m: usize, k: usize, a: *const f32, stride: usize, panels: Weights, finish: Finish, scratch: *mut f32,
    ) = rows_body;
}

#[inline(always)]
unsafe fn rows_body<V: Vector>(
    m: usize,
    k: usize,
    a: *const f32,
    stride: usize,
    panels: Weights,
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
    panels: Weights,
    finish: Finish,
    scratch: *mut f32,
) {
    let width = NV * V::LANES;
    let (sums, scratch) = (scratch, scratch.add(2 * width * m));
    let (wide, copies) = (scratch, scratch.add(2 * width * k));
    let (a, stride) = if stride.is_multiple_of(CROWDED_STRIDE) && m > 1 {
        for row in 0..m {
            let to = copies.add(row * (k + APART));
            to.copy_from_nonoverlapping(a.add(row * stride), k);
        }
        (copies.cast_const(), k + APART)
    } else {
        (a, stride)
    };
    let halves = finish.halves();
    // Equal stretches: 400 is 200 + 200, not 384 + 16.
    let depth = k.div_ceil(k.div_ceil(DEPTH));
    for (index, column) in (0..finish.columns).step_by(width).enumerate() {
        let (at, len) = (index * halves * width * k, halves * width * k);
        let panel = match panels {
            Weights::F32(all) => all.add(at),
            Weights::Bf16(all) => {
                for i in 0..len {
                    *wide.add(i) = from_bf16(*all.add(at + i));
                }
                wide
            }
            Weights::F16(all) => {
                for i in 0..len {
                    *wide.add(i) = from_f16(*all.add(at + i));
                }
                wide
            }
        };
        for half in 0..halves {
            let (panel, sums) = (panel.add(half * width * k), sums.add(half * width * m));
            for start in (0..k).step_by(depth) {
                let stretch = depth.min(k - start);
                let panel = panel.add(start * width);
                for row in (0..m).step_by(MR) {
                    let (a, sums) = (a.add(row * stride + start), sums.add(row * width));
                    let fresh = start == 0;
                    match m - row {
                        1 => product::<V, 1, NV>(stretch, a, stride, panel, sums, fresh),
                        2 => product::<V, 2, NV>(stretch, a, stride, panel, sums, fresh),
                        3 => product::<V, 3, NV>(stretch, a, stride, panel, sums, fresh),
                        4 if MR > 4 => product::<V, 4, NV>(stretch, a, stride, panel, sums, fresh),
                        5 if MR > 5 => product::<V, 5, NV>(stretch, a, stride, panel, sums, fresh),
                        left if left < MR => {
                            edge::<V, NV>(left, stretch, a, stride, panel, sums, fresh);
                        }
                        _ => product::<V, MR, NV>(stretch, a, stride, panel, sums, fresh),
                    }
                    if start + stretch == k && half + 1 == halves {
                        let first = sums.sub(half * width * m);
                        let rows = MR.min(m - row);
                        close::<V, NV>(
                            rows,
                            row,
                            column,
                            index * halves * width,
                            first,
                            sums,
                            &finish,
                        );
                    }
                }
            }
        }
    }
}

/// Seven to eleven rows: those of a tile of six, and the rest.
#[inline(always)]
unsafe fn edge<V: Vector, const NV: usize>(
    rows: usize,
    k: usize,
    a: *const f32,
    stride: usize,
    b: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    let rest = (
        a.wrapping_add(6 * stride),
        sums.wrapping_add(6 * NV * V::LANES),
    );
    product::<V, 6, NV>(k, a, stride, b, sums, fresh);
    match rows - 6 {
        0 => {}
        1 => product::<V, 1, NV>(k, rest.0, stride, b, rest.1, fresh),
        2 => product::<V, 2, NV>(k, rest.0, stride, b, rest.1, fresh),
        3 => product::<V, 3, NV>(k, rest.0, stride, b, rest.1, fresh),
        4 => product::<V, 4, NV>(k, rest.0, stride, b, rest.1, fresh),
        _ => product::<V, 5, NV>(k, rest.0, stride, b, rest.1, fresh),
    }
}

/// `R` rows by one panel: `sums = or += a·b`, row by row.
#[inline(always)]
unsafe fn product<V: Vector, const R: usize, const NV: usize>(
    k: usize,
    a: *const f32,
    stride: usize,
    b: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    let mut tile = [[V::zero(); NV]; R];
    if !fresh {
        for (i, tile) in tile.iter_mut().enumerate() {
            for (j, sum) in tile.iter_mut().enumerate() {
                *sum = V::load(sums.add((i * NV + j) * V::LANES));
            }
        }
    }
    let (mut a, mut b) = (a, b);
    let step = |tile: &mut [[V; NV]; R], a: *const f32, b: *const f32| {
        let mut columns = [V::zero(); NV];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = V::load(b.add(j * V::LANES));
        }
        for (i, sums) in tile.iter_mut().enumerate() {
            let x = V::splat(*a.add(i * stride));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = x.fma(column, *sum);
            }
        }
    };
    for _ in 0..k / 4 {
        for p in 0..4 {
            step(&mut tile, a.add(p), b.add(p * NV * V::LANES));
        }
        a = a.wrapping_add(4);
        b = b.add(4 * NV * V::LANES);
    }
    for p in 0..k % 4 {
        step(&mut tile, a.add(p), b.add(p * NV * V::LANES));
    }
    for (i, tile) in tile.into_iter().enumerate() {
        for (j, sum) in tile.into_iter().enumerate() {
            sum.store(sums.add((i * NV + j) * V::LANES));
        }
    }
}

/// A tile's sums, and gated those of the other half, into the output.
#[inline(always)]
pub(crate) unsafe fn close<V: Vector, const NV: usize>(
    rows: usize,
    row: usize,
    column: usize,
    bias: usize,
    sums: *const f32,
    other: *const f32,
    finish: &Finish,
) {
    match finish.activation {
        Activation::Identity => write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| x),
        Activation::Gelu => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                math::gelu_rational(x)
            });
        }
        Activation::GeluTanh => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                math::gelu_tanh(x)
            });
        }
        Activation::QuickGelu => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                x.mul(math::sigmoid(x.mul(V::splat(1.702))))
            });
        }
        Activation::Relu => {
            // Zero first: a NaN stays one.
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                V::zero().max(x)
            });
        }
        Activation::Silu => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                x.mul(math::sigmoid(x))
            });
        }
        Activation::Tanh => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                math::tanh(x)
            });
        }
        Activation::Sigmoid => {
            write::<V, NV>(rows, row, column, bias, sums, other, finish, |x| {
                math::sigmoid(x)
            });
        }
    }
}

#[inline(always)]
unsafe fn write<V: Vector, const NV: usize>(
    rows: usize,
    row: usize,
    column: usize,
    bias: usize,
    sums: *const f32,
    other: *const f32,
    finish: &Finish,
    activation: impl Fn(V) -> V,
) {
    let width = NV * V::LANES;
    let bias = finish.bias.add(bias);
    for i in 0..rows {
        let at = (row + i) * finish.stride + column;
        for j in (0..width.min(finish.columns - column)).step_by(V::LANES) {
            let left = finish.columns - column - j;
            let from = i * width + j;
            let mut value = activation(V::load(sums.add(from)).add(V::load(bias.add(j))));
            if finish.gated {
                let gate = V::load(other.add(from)).add(V::load(bias.add(width + j)));
                value = value.mul(gate);
            }
            if !finish.residual.is_null() {
                value = value.add(V::load_up_to(finish.residual.add(at + j), left));
            }
            value.store_up_to(finish.out.add(at + j), left);
        }
    }
}

#[inline(always)]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Weights are finite: an infinity becomes 65536, and no comparison is needed.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let (sign, size) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // 2^112 moves the exponent's bias from 15 to 127, for subnormal numbers too.
    let value = f32::from_bits(size << 13) * f32::from_bits((112 + 127) << 23);
    f32::from_bits(value.to_bits() | sign)
}

dispatch! {
    /// The elementwise function on `n` floats.
    ///
    /// # Safety
    /// `x` must be valid for `n` floats; the machine must have `isa`.
    pub(crate) unsafe fn activate_floats(activation: Activation, x: *mut f32, n: usize) = activate_floats_body;
}

#[inline(always)]
unsafe fn activate_floats_body<V: Vector>(activation: Activation, x: *mut f32, n: usize) {
    match activation {
        Activation::Identity => {}
        Activation::Gelu => map(x, n, |x: V| math::gelu_rational(x)),
        Activation::GeluTanh => map(x, n, |x: V| math::gelu_tanh(x)),
        Activation::QuickGelu => map(x, n, |x: V| x.mul(math::sigmoid(x.mul(V::splat(1.702))))),
        Activation::Relu => map(x, n, |x: V| V::zero().max(x)),
        Activation::Silu => map(x, n, |x: V| x.mul(math::sigmoid(x))),
        Activation::Tanh => map(x, n, |x: V| math::tanh(x)),
        Activation::Sigmoid => map(x, n, |x: V| math::sigmoid(x)),
    }
}

#[inline(always)]
unsafe fn map<V: Vector>(x: *mut f32, n: usize, function: impl Fn(V) -> V) {
    for done in (0..n).step_by(V::LANES) {
        let count = V::LANES.min(n - done);
        let at = x.add(done);
        function(V::load_up_to(at, count)).store_up_to(at, count);
    }
}
