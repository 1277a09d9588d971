//! One vector per sequence, of its tokens' vectors.
//!
//! Sums run over stretches of `STRETCH` tokens and then over stretches, so that rounding stays small in long sequences.

use super::tokens;
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::op::split::{block_rows, each};
use crate::scratch::Shared;

/// Tokens summed before their sum is added to the others'.
const STRETCH: usize = 64;

/// What is taken of the token vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// The largest, channel by channel.
    Max,
    /// The mean.
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean, token `i` (from 0) of the sequence weighing `i + 1`.
    WeightedMean,
}

/// Writes one vector per sequence into columns `column..column + D` of `out`.
///
/// The first `skip[b]` tokens of sequence `b` take no part, but for [`Pool::First`], which is the sequence's first token all the
/// same; where nothing is left, sums are zero, and so is the largest.
///
/// # Shapes
/// `x: [N, D]`; `offsets: [B + 1]`, from 0 to N; `skip: [B]`, or empty for none; `out: [B, stride]`.
/// # Panics
/// Where a slice has another length, a sequence is empty, the columns leave `out`, or the machine lacks `isa`.
pub fn pool(
    isa: Isa,
    how: Pool,
    width: usize,
    x: &[f32],
    offsets: &[u32],
    skip: &[u32],
    out: &mut [f32],
    stride: usize,
    column: usize,
) {
    require(isa);
    let tokens = tokens("pool", offsets);
    let sequences = offsets.len() - 1;
    assert!(
        offsets.is_sorted_by(|a, b| a < b),
        "pool: an empty sequence"
    );
    assert_eq!(x.len(), tokens * width, "pool: length of x");
    assert!(
        skip.is_empty() || skip.len() == sequences,
        "pool: length of skip"
    );
    assert!(
        column + width <= stride,
        "pool: columns {column}..{} of {stride}",
        column + width
    );
    assert_eq!(out.len(), sequences * stride, "pool: length of out");
    let out = Shared::new(out);
    each(sequences, |sequence| {
        let count = (offsets[sequence + 1] - offsets[sequence]) as usize;
        let skip = skip.get(sequence).map_or(0, |&skip| skip as usize);
        let from = x[offsets[sequence] as usize * width..].as_ptr();
        let out = out.at(sequence * stride + column);
        // SAFETY: lengths and instruction set checked above; every sequence has its own row of `out`.
        unsafe { pool_one(isa, how, width, count, skip.min(count), from, out) };
    });
}

dispatch! {
    /// One sequence of `count` tokens, less the first `skip`.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for `count` rows of `width`, `out` for one, of which no other thread uses any;
    /// `count` is not 0 and `skip` not more.
    unsafe fn pool_one(
        how: Pool, width: usize, count: usize, skip: usize, x: *const f32, out: *mut f32,
    ) = pool_body;
}

#[inline(always)]
unsafe fn pool_body<V: Vector>(
    how: Pool,
    width: usize,
    count: usize,
    skip: usize,
    x: *const f32,
    out: *mut f32,
) {
    let (from, to) = match how {
        Pool::First => (0, 1),
        Pool::Last => (count - 1, count),
        Pool::Max | Pool::Mean | Pool::MeanSqrtLen | Pool::WeightedMean => (skip, count),
    };
    // In f64: a long sequence's weights sum to more than 2²⁴.
    let number = (to - from) as f64;
    let weight = match how {
        Pool::First | Pool::Last | Pool::Max => 1.0,
        Pool::Mean => number,
        Pool::MeanSqrtLen => number.sqrt(),
        Pool::WeightedMean => (from + 1 + to) as f64 * number / 2.0,
    };
    let share = if from == to { 0.0 } else { 1.0 / weight };
    let share = V::splat(share as f32);
    let mut col = 0;
    while col < width {
        let n = V::LANES.min(width - col);
        let mut result = V::zero();
        if how == Pool::Max && from < to {
            result = V::load_up_to(x.add(from * width + col), n);
            for token in from + 1..to {
                result = V::load_up_to(x.add(token * width + col), n).max(result);
            }
        } else {
            let mut first = from;
            while first < to {
                let last = to.min(first + STRETCH);
                let mut sum = V::zero();
                for token in first..last {
                    let value = V::load_up_to(x.add(token * width + col), n);
                    sum = if how == Pool::WeightedMean {
                        value.fma(V::splat((token + 1) as f32), sum)
                    } else {
                        sum.add(value)
                    };
                }
                result = result.add(sum);
                first = last;
            }
        }
        result.mul(share).store_up_to(out.add(col), n);
        col += V::LANES;
    }
}

/// Divides each row by its Euclidean norm, or by 10⁻¹² if that is larger.
///
/// # Shapes
/// `x: [N, D]`, D being `width`.
/// # Panics
/// Where there are no whole rows, or the machine lacks `isa`.
pub fn normalize(isa: Isa, width: usize, x: &mut [f32]) {
    require(isa);
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "normalize: x has {} floats, needs a multiple of width {width}",
        x.len()
    );
    let rows = x.len() / width;
    let block = block_rows(width);
    let x = Shared::new(x);
    each(rows.div_ceil(block), |piece| {
        for row in piece * block..rows.min((piece + 1) * block) {
            // SAFETY: lengths and instruction set checked above; pieces own disjoint rows.
            unsafe { normalize_row(isa, width, x.at(row * width)) };
        }
    });
}

dispatch! {
    /// One row.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for `n` floats that no other thread uses.
    unsafe fn normalize_row(n: usize, x: *mut f32) = normalize_body;
}

#[inline(always)]
unsafe fn normalize_body<V: Vector>(n: usize, x: *mut f32) {
    let mut squares = V::zero();
    let mut i = 0;
    while i < n {
        let value = V::load_up_to(x.add(i), V::LANES.min(n - i));
        squares = value.fma(value, squares);
        i += V::LANES;
    }
    let norm = V::splat(squares.reduce_sum().sqrt().max(1e-12));
    i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let value = V::load_up_to(x.add(i), lanes);
        value.div(norm).store_up_to(x.add(i), lanes);
        i += V::LANES;
    }
}
