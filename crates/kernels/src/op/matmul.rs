//! Matrix product over the rayon pool.
//!
//! Rows of C are cut into blocks and each is one task, columns too when there are few rows. Where C is small
//! and the inner dimension long (the gradient of a weight: thousands of tokens), the inner dimension is cut
//! into fixed chunks instead and their products are summed in order.

use rayon::prelude::*;

use crate::Isa;
use crate::arch::gemm::{self, Output, SCRATCH, View};
use crate::arch::require;
use crate::scratch::{Scratch, Shared};

/// A matrix as an operand: `rows`×`cols` after the transposition, if any.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a> Mat<'a> {
    /// A row-major matrix.
    ///
    /// # Panics
    /// If `data` does not hold `rows · cols` floats.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "a {rows}×{cols} matrix of {} floats",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            transposed: false,
        }
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            transposed: !self.transposed,
            ..self
        }
    }

    pub(crate) fn view(self) -> View {
        let data = self.data.as_ptr();
        if self.transposed {
            View {
                data,
                row: 1,
                col: self.rows,
            }
        } else {
            View {
                data,
                row: self.cols,
                col: 1,
            }
        }
    }
}

/// `c = alpha · a·b`, or `c += alpha · a·b` with `accumulate`; `c` is row-major.
///
/// # Shapes
/// `a: [m, k]`, `b: [k, n]`, `c: [m, n]`
/// # Panics
/// If the sides do not fit or the machine lacks `isa`.
pub fn matmul(isa: Isa, alpha: f32, a: Mat, b: Mat, accumulate: bool, c: &mut [f32]) {
    require(isa);
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "a is {m}×{k}, b is {}×{n}", b.rows);
    assert_eq!(
        c.len(),
        m * n,
        "c must hold {m}×{n} floats, has {}",
        c.len()
    );
    let out = Output {
        data: c.as_mut_ptr(),
        stride: n,
        alpha,
        accumulate,
        bias: std::ptr::null(),
    };
    // SAFETY: `Mat` holds data for its sides, which fit each other and `c`, as just checked.
    unsafe {
        match Chunks::of(m, n, k) {
            Some(chunks) => tall(isa, m, k, n, a.view(), b.view(), out, chunks),
            None => wide(
                isa,
                m,
                k,
                a.view(),
                &Packed::new(isa, k, n, b.view()),
                out,
                &|_| (),
            ),
        }
    }
}

/// A whole B in panels.
pub(crate) struct Packed {
    data: Scratch,
    k: usize,
    n: usize,
}

impl Packed {
    /// # Safety
    /// `b` must be valid for `k×n`; the machine must have `isa`.
    pub(crate) unsafe fn new(isa: Isa, k: usize, n: usize, b: View) -> Self {
        let width = gemm::tile(isa).1;
        let mut data = Scratch::take(n.div_ceil(width) * width * k);
        let pack = |(panel, to): (usize, &mut [f32])| {
            let column = panel * width;
            // SAFETY: the panel's columns are inside `b`, and `to` is NR·k floats.
            unsafe {
                gemm::pack_panel(
                    isa,
                    k,
                    width.min(n - column),
                    b.at(0, column),
                    to.as_mut_ptr(),
                );
            }
        };
        // Below this many floats, waking threads costs more than copying.
        if data.len() < 1 << 15 {
            data.chunks_exact_mut((width * k).max(1))
                .enumerate()
                .for_each(pack);
        } else {
            data.par_chunks_exact_mut(width * k)
                .enumerate()
                .for_each(pack);
        }
        Self { data, k, n }
    }

    /// Panels from column `column` on, which must be a multiple of NR.
    pub(crate) fn from(&self, column: usize) -> *const f32 {
        self.data[column * self.k..].as_ptr()
    }
}

/// C by blocks of rows (and columns); `finish` sees each finished block of whole rows.
///
/// # Safety
/// `a` must be valid for `m×k`, `out` for `m×n`; the machine must have `isa`.
pub(crate) unsafe fn wide(
    isa: Isa,
    m: usize,
    k: usize,
    a: View,
    b: &Packed,
    out: Output,
    finish: &(dyn Fn(std::ops::Range<usize>) + Sync),
) {
    debug_assert_eq!(k, b.k);
    let n = b.n;
    if m == 0 || n == 0 {
        return;
    }
    let rows = row_block(isa, m);
    let row_tasks = m.div_ceil(rows);
    // Few rows, many columns (scores of a few users): cut the columns, too.
    let columns = if row_tasks < 8 && n >= 1024 { 512 } else { n };
    let column_tasks = n.div_ceil(columns);
    let (c, bias) = (
        Shared::from_ptr(out.data),
        Shared::from_ptr(out.bias.cast_mut()),
    );
    let task = |task: usize| {
        let (row, column) = (task / column_tasks * rows, task % column_tasks * columns);
        let (height, length) = (rows.min(m - row), columns.min(n - column));
        let mut scratch = Scratch::take(SCRATCH);
        let out = Output {
            data: c.at(row * out.stride + column),
            bias: if bias.at(0).is_null() {
                std::ptr::null()
            } else {
                bias.at(column)
            },
            stride: out.stride,
            alpha: out.alpha,
            accumulate: out.accumulate,
        };
        // SAFETY: the block lies inside the operands, and no other task has it.
        unsafe {
            gemm::block(
                isa,
                height,
                k,
                length,
                a.at(row, 0),
                b.from(column),
                out,
                scratch.as_mut_ptr(),
            );
        }
        if column_tasks == 1 {
            finish(row..row + height);
        }
    };
    let tasks = row_tasks * column_tasks;
    // Under about 20 µs of arithmetic, one thread is as fast.
    if tasks == 1 || m * n * k < 1 << 20 {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
    if column_tasks > 1 {
        finish(0..m);
    }
}

/// Rows per task: about 96, fewer where that would leave threads idle; whole tiles.
pub(crate) fn row_block(isa: Isa, m: usize) -> usize {
    let height = gemm::tile(isa).0;
    (m / 16).clamp(1, 96).next_multiple_of(height)
}

/// How a long inner dimension is cut: by its length alone, so that the sums never depend on threads.
#[derive(Clone, Copy)]
pub(crate) struct Chunks {
    pub size: usize,
    pub count: usize,
}

impl Chunks {
    /// At most 16 chunks, none shorter than 512 but the last; none at all for a length of zero.
    pub(crate) fn new(k: usize) -> Self {
        let size = k.div_ceil(16).max(512).next_multiple_of(DEPTH);
        Self {
            size,
            count: k.div_ceil(size),
        }
    }

    /// `None` where C is large enough to be cut instead (16 shares are 16 MiB here), or `k` is short.
    fn of(m: usize, n: usize, k: usize) -> Option<Self> {
        (m * n > 0 && m * n <= 1 << 18 && k >= 1024.max(m)).then(|| Self::new(k))
    }

    pub(crate) fn range(self, chunk: usize, k: usize) -> std::ops::Range<usize> {
        chunk * self.size..((chunk + 1) * self.size).min(k)
    }
}

/// Rows of a chunk that are packed and multiplied at a time.
pub(crate) const DEPTH: usize = 256;

/// # Safety
/// As [`wide`], and `b` must be valid for `k×n`.
unsafe fn tall(
    isa: Isa,
    m: usize,
    k: usize,
    n: usize,
    a: View,
    b: View,
    out: Output,
    chunks: Chunks,
) {
    let mut partials = Scratch::take(chunks.count * m * n);
    partials
        .par_chunks_exact_mut(m * n)
        .enumerate()
        .for_each(|(chunk, partial)| {
            let range = chunks.range(chunk, k);
            let mut fresh = true;
            for start in range.clone().step_by(DEPTH) {
                let depth = DEPTH.min(range.end - start);
                // SAFETY: the stretch is inside both operands.
                unsafe {
                    add_outer(
                        isa,
                        m,
                        depth,
                        n,
                        a.at(0, start),
                        b.at(start, 0),
                        partial,
                        fresh,
                    );
                }
                fresh = false;
            }
        });
    let c = std::slice::from_raw_parts_mut(out.data, m * n);
    sum_partials(&partials, out.alpha, out.accumulate, c);
}

/// `sum = or += a·b` on this thread, for a short inner dimension.
///
/// # Safety
/// `a` must be valid for `m×k`, `b` for `k×n`; `sum` holds `m·n` floats; the machine must have `isa`.
pub(crate) unsafe fn add_outer(
    isa: Isa,
    m: usize,
    k: usize,
    n: usize,
    a: View,
    b: View,
    sum: &mut [f32],
    fresh: bool,
) {
    let width = gemm::tile(isa).1;
    let mut packed = Scratch::take(n.div_ceil(width) * width * k);
    for column in (0..n).step_by(width) {
        let panel = packed[column * k..].as_mut_ptr();
        gemm::pack_panel(isa, k, width.min(n - column), b.at(0, column), panel);
    }
    let mut scratch = Scratch::take(SCRATCH);
    let out = Output {
        data: sum.as_mut_ptr(),
        stride: n,
        alpha: 1.0,
        accumulate: !fresh,
        bias: std::ptr::null(),
    };
    gemm::block(isa, m, k, n, a, packed.as_ptr(), out, scratch.as_mut_ptr());
}

/// `out = or += alpha · Σ partials`, first to last.
pub(crate) fn sum_partials(partials: &[f32], alpha: f32, accumulate: bool, out: &mut [f32]) {
    const PIECE: usize = 4096;
    let len = out.len();
    out.par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(piece, out)| {
            let start = piece * PIECE;
            let mut total = [0.0_f32; PIECE];
            let total = &mut total[..out.len()];
            for partial in partials.chunks_exact(len) {
                for (total, x) in total.iter_mut().zip(&partial[start..]) {
                    *total += x;
                }
            }
            for (out, total) in out.iter_mut().zip(total) {
                *out = if accumulate {
                    *out + alpha * *total
                } else {
                    alpha * *total
                };
            }
        });
}
