//! The mean of the tokens around each, less the token itself, along every sequence of a packed batch.
//!
//! `y_t = Σ_s x_s / n_t − x_t` over the `n_t` tokens within reach that the sequence has; `dx_s = Σ_t dy_t / n_t − dy_s` over
//! the tokens within whose reach s is.
//!
//! # Source
//! Yu et al., CVPR 2022, arXiv:2111.11418, §3.2.

use super::neighbours::{Seen, each_row};
use super::split::each_piece;
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::Shared;

/// What is pooled, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// Channels, D.
    pub width: usize,
    /// Tokens within reach before and after a token, itself not counted.
    pub sides: [usize; 2],
}

/// # Shapes
/// `x`, `output: [N, D]`
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(isa: Isa, pool: &Pool<'_>, x: &[f32], output: &mut [f32]) {
    run(isa, pool, pool.sides, false, x, output);
}

/// The gradient of `x`, given that of the output.
///
/// # Panics
/// As [`forward`].
pub fn backward(isa: Isa, pool: &Pool<'_>, d_output: &[f32], d_x: &mut [f32]) {
    let [before, after] = pool.sides;
    run(isa, pool, [after, before], true, d_output, d_x);
}

/// `by_their_own`: each row counts by the number that it sees, not by that of the row it is summed into.
fn run(
    isa: Isa,
    pool: &Pool<'_>,
    sides: [usize; 2],
    by_their_own: bool,
    x: &[f32],
    output: &mut [f32],
) {
    require(isa);
    assert!(pool.offsets.is_sorted(), "pool: offsets fall");
    let (rows, width) = (
        pool.offsets.last().map_or(0, |&end| end as usize),
        pool.width,
    );
    assert_eq!(x.len(), rows * width, "pool: length of x");
    assert_eq!(output.len(), x.len(), "pool: length of output");
    let output = Shared::new(output);
    each_piece(rows, width, |_, rows| {
        let mut shares = vec![0.0; sides[0] + 1 + sides[1]];
        each_row(pool.offsets, rows, |row, sequence| {
            let seen = Seen::new(row, sequence, sides);
            for (at, share) in shares[..seen.count].iter_mut().enumerate() {
                let of = if by_their_own { seen.first + at } else { row };
                *share = 1.0 / Seen::new(of, sequence, pool.sides).count as f32;
            }
            // SAFETY: lengths and instruction set checked above; pieces own disjoint rows.
            unsafe {
                sum(
                    isa,
                    width,
                    &shares[..seen.count],
                    x[seen.first * width..].as_ptr(),
                    x[row * width..].as_ptr(),
                    output.at(row * width),
                );
            }
        });
    });
}

dispatch! {
    /// Rows from `x` on, each times its share, less `own`.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for as many rows as there are shares, `own` and `y` for one.
    unsafe fn sum(
        width: usize,
        shares: &[f32],
        x: *const f32,
        own: *const f32,
        y: *mut f32,
    ) = sum_body;
}

#[inline(always)]
unsafe fn sum_body<V: Vector>(
    width: usize,
    shares: &[f32],
    x: *const f32,
    own: *const f32,
    y: *mut f32,
) {
    for column in (0..width).step_by(V::LANES) {
        let lanes = V::LANES.min(width - column);
        let mut sum = V::zero();
        for (row, &share) in shares.iter().enumerate() {
            let x = V::load_up_to(x.add(row * width + column), lanes);
            sum = x.fma(V::splat(share), sum);
        }
        let own = V::load_up_to(own.add(column), lanes);
        sum.sub(own).store_up_to(y.add(column), lanes);
    }
}
