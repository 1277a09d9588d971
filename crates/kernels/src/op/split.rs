//! Cutting work into pieces whose size no thread count changes.

use std::ops::Range;

use rayon::prelude::*;

/// Floats in a piece of elementwise work: 64 KiB, a fraction of L2, and microseconds of work against rayon's overhead.
pub(crate) const BLOCK: usize = 16 * 1024;

/// Rows of `width` in a piece of row-wise work.
pub(crate) fn block_rows(width: usize) -> usize {
    (BLOCK / width.max(1)).max(1)
}

/// Calls `f` for each of `0..n` on the current rayon pool, in no particular order; a single piece stays on this thread.
pub(crate) fn each(n: usize, f: impl Fn(usize) + Sync + Send) {
    if n == 1 {
        f(0);
    } else {
        (0..n).into_par_iter().for_each(f);
    }
}

/// Calls `f` with the number and the rows of every piece of `rows` rows of `width`, as [`each`] does.
pub(crate) fn each_piece(rows: usize, width: usize, f: impl Fn(usize, Range<usize>) + Sync + Send) {
    let block = block_rows(width);
    each(rows.div_ceil(block), |piece| {
        f(piece, piece * block..rows.min((piece + 1) * block));
    });
}
