//! Products of small matrices that lie in L1, read where they are.
//!
//! For sequences taken [`CHUNK`] tokens at a time: sides are [`CHUNK`], or channels of a head rounded up by [`padded`], and what
//! is past the last token or channel is 0. Eight rows by two vectors are in flight at most with AVX-512 (16 registers of 32),
//! four by two with fewer registers.
//!
//! The functions have one duty in common: a machine with the instruction set of `V`, and pointers valid for the shapes they
//! name; what is written overlaps nothing that is read.

use super::Vector;
use super::gemm::View;

/// Tokens taken at a time: a vector of AVX-512, two of AVX2.
pub(crate) const CHUNK: usize = 16;

/// Channels of scratch that `width` channels take with `lanes` of a vector: whole vectors, and whole tiles of eight.
pub(crate) fn padded(width: usize, lanes: usize) -> usize {
    width.next_multiple_of(lanes.max(8))
}

/// `c ← c + a·b`, or `c − a·b` to `SUBTRACT`, for `m` rows, a multiple of eight, and `n` columns, whole vectors; `c` counts as 0
/// if `fresh`. Rows of `b` and `c` lie `n` floats apart.
#[inline(always)]
pub(crate) unsafe fn multiply<V: Vector, const SUBTRACT: bool>(
    [m, k, n]: [usize; 3],
    a: View,
    b: *const f32,
    c: *mut f32,
    fresh: bool,
) {
    if V::LANES == 16 {
        rows::<V, 8, SUBTRACT>([m, k, n], a, b, c, fresh);
    } else {
        rows::<V, 4, SUBTRACT>([m, k, n], a, b, c, fresh);
    }
}

#[inline(always)]
unsafe fn rows<V: Vector, const MR: usize, const SUBTRACT: bool>(
    [m, k, n]: [usize; 3],
    a: View,
    b: *const f32,
    c: *mut f32,
    fresh: bool,
) {
    let mut column = 0;
    while column + 2 * V::LANES <= n {
        for row in (0..m).step_by(MR) {
            let (b, c) = (b.add(column), c.add(row * n + column));
            tile::<V, MR, 2, SUBTRACT>(k, n, a.at(row, 0), b, c, fresh);
        }
        column += 2 * V::LANES;
    }
    if column < n {
        for row in (0..m).step_by(MR) {
            let (b, c) = (b.add(column), c.add(row * n + column));
            tile::<V, MR, 1, SUBTRACT>(k, n, a.at(row, 0), b, c, fresh);
        }
    }
}

#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const SUBTRACT: bool>(
    k: usize,
    n: usize,
    a: View,
    b: *const f32,
    c: *mut f32,
    fresh: bool,
) {
    let mut sums = [[V::zero(); NV]; MR];
    if !fresh {
        for (i, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(c.add(i * n + j * V::LANES));
            }
        }
    }
    let (mut from, mut b) = (a.data, b);
    for _ in 0..k {
        let mut columns = [V::zero(); NV];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = V::load(b.add(j * V::LANES));
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = V::splat(*from.add(i * a.row));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = if SUBTRACT {
                    x.fnma(column, *sum)
                } else {
                    x.fma(column, *sum)
                };
            }
        }
        from = from.wrapping_add(a.col);
        b = b.add(n);
    }
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            sum.store(c.add(i * n + j * V::LANES));
        }
    }
}

/// Rows `n` floats apart, as [`multiply`] takes them.
pub(crate) fn whole(data: *const f32, n: usize) -> View {
    View {
        data,
        row: n,
        col: 1,
    }
}

/// The transpose of rows `n` floats apart, as [`multiply`] takes it.
pub(crate) fn turned(data: *const f32, n: usize) -> View {
    View {
        data,
        row: 1,
        col: n,
    }
}

/// The transpose of `m` rows of `n` floats, both whole vectors.
#[inline(always)]
pub(crate) unsafe fn transpose<V: Vector>(m: usize, n: usize, from: *const f32, to: *mut f32) {
    for row in (0..m).step_by(V::LANES) {
        for column in (0..n).step_by(V::LANES) {
            let from = from.add(row * n + column);
            V::transpose(|at| from.add(at * n), to.add(column * m + row), m);
        }
    }
}

/// Solves `x_t = given_t − Σ_s weight[t, s]·x_s` in place, over the `s` before `t`, or after it if `back`.
///
/// # Shapes
/// `weight`: `m` rows of [`CHUNK`]; `x`: `m` rows of `n`; `m` a multiple of four, `n` whole vectors
#[inline(always)]
pub(crate) unsafe fn solve<V: Vector>(
    [m, n]: [usize; 2],
    weight: *const f32,
    x: *mut f32,
    back: bool,
) {
    // Four rows at once: what they owe to the rows already known, then to each other.
    for column in (0..n).step_by(V::LANES) {
        let x = x.add(column);
        for first in (0..m).step_by(4) {
            let row = |step: usize| if back { m - 1 - step } else { step };
            let rows = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            let mut sums = [V::zero(); 4];
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = V::load(x.add(row * n));
            }
            for step in 0..first {
                let known = V::load(x.add(row(step) * n));
                for (sum, at) in sums.iter_mut().zip(rows) {
                    *sum = V::splat(*weight.add(at * CHUNK + row(step))).fnma(known, *sum);
                }
            }
            for i in 0..4 {
                for j in i + 1..4 {
                    let weight = V::splat(*weight.add(rows[j] * CHUNK + rows[i]));
                    sums[j] = weight.fnma(sums[i], sums[j]);
                }
            }
            for (sum, row) in sums.into_iter().zip(rows) {
                sum.store(x.add(row * n));
            }
        }
    }
}

/// Rows of a packed batch, in the order in which they are gone through.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    /// The first.
    pub data: *mut f32,
    /// Floats from one to the next.
    pub step: isize,
}

impl Rows {
    /// The rows of `stride` floats from the token `first` on, or, if `back`, from it towards the start.
    pub(crate) fn new(data: *mut f32, stride: usize, first: usize, back: bool) -> Self {
        let step = stride as isize;
        Self {
            data: data.wrapping_add(first.wrapping_mul(stride)),
            step: if back { -step } else { step },
        }
    }

    /// The same from another channel on.
    pub(crate) fn from(self, channel: usize) -> Self {
        Self {
            data: self.data.wrapping_add(channel),
            ..self
        }
    }

    /// Row `index`.
    pub(crate) fn at(self, index: usize) -> *mut f32 {
        self.data.wrapping_offset(index as isize * self.step)
    }
}

/// The first `width` floats of `count` rows into `rows` rows of `n`, zeros in all other places.
#[inline(always)]
pub(crate) unsafe fn gather<V: Vector>(
    from: Rows,
    [count, width]: [usize; 2],
    to: *mut f32,
    [rows, n]: [usize; 2],
) {
    for row in 0..rows {
        let (from, to) = (from.at(row), to.add(row * n));
        let width = if row < count { width } else { 0 };
        for column in (0..n).step_by(V::LANES) {
            let left = width.saturating_sub(column);
            V::load_up_to(from.wrapping_add(column), left).store(to.add(column));
        }
    }
}

/// The first `width` floats of `count` rows of `n` to where they belong, or on top of what is there.
#[inline(always)]
pub(crate) unsafe fn scatter<V: Vector>(
    from: *const f32,
    n: usize,
    to: Rows,
    [count, width]: [usize; 2],
    add: bool,
) {
    for row in 0..count {
        let (from, to) = (from.add(row * n), to.at(row));
        for column in (0..width).step_by(V::LANES) {
            let left = width - column;
            let mut x = V::load(from.add(column));
            if add {
                x = V::load_up_to(to.add(column), left).add(x);
            }
            x.store_up_to(to.add(column), left);
        }
    }
}

/// Pointers to stretches of `room`, one after the other.
pub(crate) fn carve<const N: usize>(room: &mut [f32], sizes: [usize; N]) -> [*mut f32; N] {
    assert!(sizes.iter().sum::<usize>() <= room.len());
    let mut next = room.as_mut_ptr();
    sizes.map(|size| {
        let here = next;
        next = next.wrapping_add(size);
        here
    })
}

/// Each of `m` rows of `n` times its factor; `to` may be `from`.
#[inline(always)]
pub(crate) unsafe fn times<V: Vector>(
    [m, n]: [usize; 2],
    from: *const f32,
    factors: *const f32,
    to: *mut f32,
) {
    for row in 0..m {
        let by = V::splat(*factors.add(row));
        for at in (row * n..(row + 1) * n).step_by(V::LANES) {
            V::load(from.add(at)).mul(by).store(to.add(at));
        }
    }
}

/// Σ a ∘ b, of `n` floats, whole vectors.
#[inline(always)]
pub(crate) unsafe fn dot<V: Vector>(n: usize, a: *const f32, b: *const f32) -> f32 {
    let mut sum = V::zero();
    for at in (0..n).step_by(V::LANES) {
        sum = V::load(a.add(at)).fma(V::load(b.add(at)), sum);
    }
    sum.reduce_sum()
}
