//! Matrix product on one thread: the bodies under [`crate::op::matmul`].
//!
//! C (m×n) = or += α·A·B (+ bias), A and B with any strides. B is packed once per call into panels of `NR`
//! columns, k-major and zero-filled at the right edge, so that the inner loop reads it in order. Tiles of
//! `MR` rows by `NR` columns stay in registers:
//!
//! | set     | MR×NR | registers for C, B, A |
//! |---------|-------|-----------------------|
//! | AVX2    | 6×16  | 12, 2, 1 of 16        |
//! | AVX-512 | 12×32 | 24, 2, (memory) of 32 |
//! | Neon    | 6×16  | 24, 4, 2 of 32        |
//! | scalar  | 4×8   | the compiler's choice |
//!
//! A sweep over `COLUMNS` columns reuses `MR` rows of A from L1 (12·384·4 B = 18 KiB) while a block of B
//! (384·512·4 B = 768 KiB at most, 64 KiB at the usual width of 64) stays in L2. Rows of A that lie in memory
//! as they are needed are read in place: at widths of 64..256 copying them would cost a tenth of the product.

use super::{Vector, dispatch};
use crate::Isa;

/// Longest stretch of the inner dimension done at once.
const DEPTH: usize = 384;
/// Columns of B swept with one panel of A; a multiple of every `NR`.
const COLUMNS: usize = 512;
/// Rows a multiple of this many floats apart (2 KiB) share so few cache sets that they evict each other.
pub(crate) const CROWDED_STRIDE: usize = 512;

/// Rows and columns of the register tile.
pub(crate) const fn tile(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Scalar => (4, 8),
        Isa::Avx2 | Isa::Neon => (6, 16),
        Isa::Avx512 => (12, 32),
    }
}

/// Floats of scratch that [`block`] needs.
pub(crate) const SCRATCH: usize = 12 * DEPTH + 16;

/// A matrix by its strides, in floats.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub data: *const f32,
    pub row: usize,
    pub col: usize,
}

// SAFETY: a view is a shared slice by another name; whoever makes one keeps the slice borrowed while it lives.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// The view from row `row` and column `col` on.
    ///
    /// # Safety
    /// The place must be within the matrix or one past it.
    pub(crate) unsafe fn at(self, row: usize, col: usize) -> Self {
        Self {
            data: self.data.wrapping_add(row * self.row + col * self.col),
            ..self
        }
    }
}

/// What [`block`] does with the product.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub data: *mut f32,
    /// Floats from row to row.
    pub stride: usize,
    pub alpha: f32,
    /// Adds to what is there.
    pub accumulate: bool,
    /// Null for none, else one float per column.
    pub bias: *const f32,
}

dispatch! {
    /// Packs `n ≤ NR` columns of `k` rows into one panel of `NR·k` floats.
    ///
    /// # Safety
    /// `b` must be valid for `k×n` and `panel` for `NR·k` floats; the machine must have `isa`.
    pub(crate) unsafe fn pack_panel(k: usize, n: usize, b: View, panel: *mut f32) = pack_panel_body;
}

dispatch! {
    /// The product of `m` rows of `a` with `n` packed columns.
    ///
    /// # Safety
    /// `a` must be valid for `m×k`, `packed` must hold ⌈n/NR⌉ panels of depth `k`, `out` must be valid for `m×n`,
    /// `scratch` for [`SCRATCH`] floats; the machine must have `isa`.
    pub(crate) unsafe fn block(
        m: usize, k: usize, n: usize, a: View, packed: *const f32, out: Output, scratch: *mut f32,
    ) = block_body;
}

#[inline(always)]
unsafe fn pack_panel_body<V: Vector>(k: usize, n: usize, b: View, panel: *mut f32) {
    match V::LANES {
        16 | 8 => pack_columns::<V, 2>(k, n, b, panel),
        4 => pack_columns::<V, 4>(k, n, b, panel),
        _ => pack_columns::<V, 8>(k, n, b, panel),
    }
}

#[inline(always)]
unsafe fn pack_columns<V: Vector, const NV: usize>(k: usize, n: usize, b: View, panel: *mut f32) {
    let width = NV * V::LANES;
    if b.col == 1 {
        for p in 0..k {
            let (from, to) = (b.data.add(p * b.row), panel.add(p * width));
            for j in 0..NV {
                let left = n.saturating_sub(j * V::LANES);
                // `wrapping_add`: past the right edge the pointer is made but not read.
                V::load_up_to(from.wrapping_add(j * V::LANES), left).store(to.add(j * V::LANES));
            }
        }
        return;
    }
    // Eight rows at a time: a transposed B is read along its columns, a cache line before the next.
    for first in (0..k).step_by(8) {
        let last = k.min(first + 8);
        for j in 0..width {
            for p in first..last {
                *panel.add(p * width + j) = if j < n {
                    *b.data.add(p * b.row + j * b.col)
                } else {
                    0.0
                };
            }
        }
    }
}

#[inline(always)]
unsafe fn block_body<V: Vector>(
    m: usize,
    k: usize,
    n: usize,
    a: View,
    packed: *const f32,
    out: Output,
    scratch: *mut f32,
) {
    match V::LANES {
        16 => tiles::<V, 12, 2>(m, k, n, a, packed, out, scratch),
        8 => tiles::<V, 6, 2>(m, k, n, a, packed, out, scratch),
        4 => tiles::<V, 6, 4>(m, k, n, a, packed, out, scratch),
        _ => tiles::<V, 4, 8>(m, k, n, a, packed, out, scratch),
    }
}

#[inline(always)]
unsafe fn tiles<V: Vector, const MR: usize, const NV: usize>(
    m: usize,
    k: usize,
    n: usize,
    a: View,
    packed: *const f32,
    out: Output,
    scratch: *mut f32,
) {
    let width = NV * V::LANES;
    // Equal stretches: 400 is 200 + 200, not 384 + 16. An empty product is one stretch of nothing.
    let depth = k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1);
    let mut start = 0;
    loop {
        let stretch = depth.min(k - start);
        let first = start == 0;
        let out = Output {
            accumulate: out.accumulate || !first,
            bias: if first { out.bias } else { std::ptr::null() },
            ..out
        };
        for column in (0..n).step_by(COLUMNS) {
            let columns = COLUMNS.min(n - column);
            for row in (0..m).step_by(MR) {
                let rows = MR.min(m - row);
                let from = a.at(row, start);
                let in_place =
                    from.col == 1 && rows == MR && !from.row.is_multiple_of(CROWDED_STRIDE);
                if !in_place {
                    pack_rows::<V, MR>(rows, stretch, from, scratch);
                }
                for panel in (column..column + columns).step_by(width) {
                    let b = packed.add(panel * k + start * width);
                    let to = Output {
                        data: out.data.add(row * out.stride + panel),
                        bias: out
                            .bias
                            .wrapping_add(if out.bias.is_null() { 0 } else { panel }),
                        ..out
                    };
                    let sums = if in_place {
                        product::<V, MR, NV>(stretch, from.data, from.row, 1, b)
                    } else {
                        product::<V, MR, NV>(stretch, scratch, 1, MR, b)
                    };
                    write::<V, MR, NV>(sums, rows, width.min(n - panel), to);
                }
            }
        }
        start += stretch;
        if start == k {
            break;
        }
    }
}

/// `MR` rows side by side, `MR` floats per step of k; missing rows are zero.
#[inline(always)]
unsafe fn pack_rows<V: Vector, const MR: usize>(rows: usize, k: usize, a: View, to: *mut f32) {
    if a.row == 1 && rows == MR {
        for p in 0..k {
            let (from, to) = (a.data.add(p * a.col), to.add(p * MR));
            let mut i = 0;
            while i < MR {
                // Whole stores: what spills over is written again in the next step, or is slack.
                V::load_up_to(from.add(i), MR - i).store(to.add(i));
                i += V::LANES;
            }
        }
        return;
    }
    for i in 0..MR {
        for p in 0..k {
            *to.add(p * MR + i) = if i < rows {
                *a.data.add(i * a.row + p * a.col)
            } else {
                0.0
            };
        }
    }
}

/// One register tile. `a` is read at `i·row + p·col`.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector, const MR: usize, const NV: usize>(
    k: usize,
    a: *const f32,
    row: usize,
    col: usize,
    b: *const f32,
) -> [[V; NV]; MR] {
    let mut sums = [[V::zero(); NV]; MR];
    let (mut a, mut b) = (a, b);
    for _ in 0..k {
        let mut columns = [V::zero(); NV];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = V::load(b.add(j * V::LANES));
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = V::splat(*a.add(i * row));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = x.fma(column, *sum);
            }
        }
        a = a.wrapping_add(col);
        b = b.add(NV * V::LANES);
    }
    sums
}

#[inline(always)]
unsafe fn write<V: Vector, const MR: usize, const NV: usize>(
    sums: [[V; NV]; MR],
    rows: usize,
    columns: usize,
    out: Output,
) {
    let alpha = V::splat(out.alpha);
    for (i, sums) in sums.into_iter().enumerate() {
        if i >= rows {
            break;
        }
        for (j, sum) in sums.into_iter().enumerate() {
            let done = j * V::LANES;
            if done >= columns {
                break;
            }
            let left = columns - done;
            let to = out.data.add(i * out.stride + done);
            let mut value = sum.mul(alpha);
            if out.accumulate {
                value = V::load_up_to(to, left).add(value);
            }
            if !out.bias.is_null() {
                value = value.add(V::load_up_to(out.bias.add(done), left));
            }
            value.store_up_to(to, left);
        }
    }
}
