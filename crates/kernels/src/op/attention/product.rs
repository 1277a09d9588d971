//! Products small enough that one thread does them in L1 and L2.
//!
//! The right side is packed once and used by many products; the left is read where it lies, by rows or, transposed, by columns.
//! Register tiles: 6 rows by 2 vectors of AVX2, else 8 by 2. Every element is one sum over the depth in order, so that neither the
//! tile nor how much of the right side is used changes its bits.
//!
//! The functions have one duty in common: a machine with the instruction set of `V`, and pointers valid for the shapes they name.

use crate::arch::{Vector, dispatch, gemm};

/// The left side of a product: element (i, p) lies `i * row + p * col` floats on.
#[derive(Clone, Copy)]
pub(in crate::op) struct Left {
    data: *const f32,
    row: usize,
    col: usize,
}

impl Left {
    /// Rows that lie `stride` floats apart.
    pub(in crate::op) fn new(data: *const f32, stride: usize) -> Self {
        Self {
            data,
            row: stride,
            col: 1,
        }
    }

    /// The transpose of [`Left::new`].
    pub(in crate::op) fn transposed(data: *const f32, stride: usize) -> Self {
        Self {
            data,
            row: 1,
            col: stride,
        }
    }
}

/// The right side: `depth` rows of `cols`, cut into panels two vectors wide, each row-major; the last is one vector wide if that is
/// enough. Columns past `cols` are zero.
#[derive(Clone, Copy)]
pub(in crate::op) struct Packed {
    data: *const f32,
    depth: usize,
    cols: usize,
    /// Rows passed over.
    skip: usize,
}

impl Packed {
    pub(in crate::op) fn new(data: *const f32, depth: usize, cols: usize) -> Self {
        Self {
            data,
            depth,
            cols,
            skip: 0,
        }
    }

    /// The same from row `row` on.
    pub(in crate::op) fn below(self, row: usize) -> Self {
        Self {
            skip: self.skip + row,
            ..self
        }
    }

    /// The same from column `col` on, at which a panel begins.
    pub(in crate::op) fn right_of(self, col: usize) -> Self {
        Self {
            data: self.data.wrapping_add(col * self.depth),
            cols: self.cols - col,
            ..self
        }
    }
}

/// Rows of `from`, `stride` floats apart, as a [`Packed`] of `depth` rows of `cols`.
#[inline(always)]
pub(in crate::op) unsafe fn pack<V: Vector>(
    from: *const f32,
    stride: usize,
    depth: usize,
    cols: usize,
    to: *mut f32,
) {
    let mut to = to;
    let mut col = 0;
    while col < cols {
        let left = cols - col;
        for p in 0..depth {
            let from = from.add(p * stride + col);
            V::load_up_to(from, V::LANES.min(left)).store(to);
            to = to.add(V::LANES);
            if left > V::LANES {
                let n = V::LANES.min(left - V::LANES);
                V::load_up_to(from.add(V::LANES), n).store(to);
                to = to.add(V::LANES);
            }
        }
        col += 2 * V::LANES;
    }
}

/// Columns of `from`, whose `cols` rows lie `stride` floats apart, as a [`Packed`] of `depth` rows of `cols`.
#[inline(always)]
pub(in crate::op) unsafe fn pack_transposed<V: Vector>(
    from: *const f32,
    stride: usize,
    cols: usize,
    depth: usize,
    to: *mut f32,
) {
    pack_columns::<V>(|j| from.wrapping_add(j * stride), cols, depth, to);
}

/// As [`pack_transposed`], where the row that becomes column `j` begins at `row(j)`.
#[inline(always)]
pub(in crate::op) unsafe fn pack_columns<V: Vector>(
    row: impl Fn(usize) -> *const f32,
    cols: usize,
    depth: usize,
    to: *mut f32,
) {
    let mut to = to;
    let mut col = 0;
    while col < cols {
        let left = cols - col;
        let panel = if left > V::LANES {
            2 * V::LANES
        } else {
            V::LANES
        };
        let full = panel.min(left);
        // Squares first, then what is left of the rows, and rows that fill no square.
        let (squares, deep) = (full - full % V::LANES, depth - depth % V::LANES);
        for j in (0..squares).step_by(V::LANES) {
            for p in (0..deep).step_by(V::LANES) {
                let row = |i: usize| row(col + j + i).wrapping_add(p);
                V::transpose(row, to.add(p * panel + j), panel);
            }
        }
        for j in 0..full {
            let from = row(col + j);
            for p in if j < squares { deep } else { 0 }..depth {
                *to.add(p * panel + j) = *from.add(p);
            }
        }
        for j in full..panel {
            for p in 0..depth {
                *to.add(p * panel + j) = 0.0;
            }
        }
        to = to.add(depth * panel);
        col += 2 * V::LANES;
    }
}

/// Copies rows of `cols` from one stride to another.
#[inline(always)]
pub(in crate::op) unsafe fn unpack(
    from: *const f32,
    from_stride: usize,
    rows: usize,
    cols: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for row in 0..rows {
        from.add(row * from_stride)
            .copy_to_nonoverlapping(to.add(row * to_stride), cols);
    }
}

dispatch! {
    /// `c = a · b`, or `+=` when `accumulate`: `rows` by `depth` times `depth` by `cols`, of which `b` may hold more.
    ///
    /// # Safety
    /// The machine has the instruction set; `b` holds at least `depth` rows after those passed over, and `cols` columns; rows of `c`, `stride` floats apart,
    /// have room for whole vectors up to the panel in which column `cols` lies or the end of `b`.
    pub(in crate::op) unsafe fn multiply(
        rows: usize, depth: usize, cols: usize, a: Left, b: Packed, c: *mut f32, stride: usize,
        accumulate: bool,
    ) = multiply_body;
}

#[inline(always)]
unsafe fn multiply_body<V: Vector>(
    rows: usize,
    depth: usize,
    cols: usize,
    a: Left,
    b: Packed,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let mut col = 0;
    while col < cols {
        let panel = b.data.add(col * b.depth);
        let c = c.add(col);
        if b.cols - col > V::LANES {
            let panel = panel.add(b.skip * 2 * V::LANES);
            panel_rows::<V, 2>(rows, depth, a, panel, c, stride, accumulate);
        } else {
            let panel = panel.add(b.skip * V::LANES);
            panel_rows::<V, 1>(rows, depth, a, panel, c, stride, accumulate);
        }
        col += 2 * V::LANES;
    }
}

/// All rows of one panel: as many at a time as registers hold, then by halves.
#[inline(always)]
unsafe fn panel_rows<V: Vector, const VECTORS: usize>(
    rows: usize,
    depth: usize,
    a: Left,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let mut row = 0;
    macro_rules! tiles {
        ($height:literal) => {
            while rows - row >= $height {
                let a = Left {
                    data: a.data.add(row * a.row),
                    ..a
                };
                let c = c.add(row * stride);
                tile::<V, $height, VECTORS>(depth, a, b, c, stride, accumulate);
                row += $height;
            }
        };
    }
    // Eight rows by two vectors want 19 registers; AVX2 has 16.
    if V::LANES == 8 {
        tiles!(6);
    } else {
        tiles!(8);
    }
    tiles!(4);
    tiles!(2);
    tiles!(1);
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    a: Left,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let product = gemm::product::<V, ROWS, VECTORS>(depth, a.data, a.row, a.col, b);
    for (i, sums) in product.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            let to = c.add(i * stride + j * V::LANES);
            let sum = if accumulate {
                V::load(to).add(sum)
            } else {
                sum
            };
            sum.store(to);
        }
    }
}
