//! Dropout with a mask that is computed where it is needed and stored nowhere.
//!
//! Element (row, col) is kept when a hash of (seed, row, col) is not below prob · 2³². The row is mixed with the seed in 64 bits
//! once per row; columns cost one 32-bit hash each, which every instruction set computes alike. Forward and backward, and any
//! order of rows, see one mask.
//!
//! # Source
//! Srivastava et al., Dropout, JMLR 15 (2014). Row mix: the finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
//! Column hash: `lowbias32` (Wellons, Hash Prospector, 2018).

use super::split::{block_rows, each};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::Shared;

/// 2³² and 2⁶⁴ over the golden ratio, made odd: consecutive rows and columns land far apart.
pub const COLUMN_STEP: u32 = 0x9E37_79B9;
const ROW_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// The factors of `lowbias32`.
pub const LOWBIAS: [u32; 2] = [0x7FEB_352D, 0x846C_A68B];

/// Zeroes elements with probability `prob` and multiplies the others by 1 / (1 − prob).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// In [0, 1); 0 keeps everything and costs nothing.
    pub prob: f32,
    /// Chooses the mask.
    pub seed: u64,
}

impl Dropout {
    /// Keeps everything.
    pub const NONE: Self = Self { prob: 0.0, seed: 0 };

    /// Whether element (`row`, `col`) is kept.
    pub fn keep(self, row: u64, col: u32) -> bool {
        let mut h = col.wrapping_mul(COLUMN_STEP) ^ self.row_key(row);
        h = (h ^ (h >> 16)).wrapping_mul(LOWBIAS[0]);
        h = (h ^ (h >> 15)).wrapping_mul(LOWBIAS[1]);
        h ^ (h >> 16) >= self.threshold()
    }

    pub(crate) fn check(self) {
        assert!(
            (0.0..1.0).contains(&self.prob),
            "dropout probability is {}, needs to be at least 0 and below 1",
            self.prob
        );
    }

    pub(crate) fn is_active(self) -> bool {
        self.prob > 0.0
    }

    /// What a row's columns are hashed with.
    pub fn row_key(self, row: u64) -> u32 {
        let mut z = self.seed ^ row.wrapping_mul(ROW_STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u32
    }

    /// Hashes below it are dropped.
    pub fn threshold(self) -> u32 {
        (f64::from(self.prob) * 2_f64.powi(32)) as u32
    }
}

/// Whether element (`row`, `col`) is kept: [`Dropout::keep`] as a function.
pub fn keep(prob: f32, seed: u64, row: u64, col: u32) -> bool {
    Dropout { prob, seed }.keep(row, col)
}

/// The constants of a mask, in registers.
#[derive(Clone, Copy)]
pub(crate) struct Mask<V: Vector> {
    steps: V::Int,
    threshold: V::Int,
    scale: V,
}

impl<V: Vector> Mask<V> {
    /// # Safety
    /// The machine must have the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn new(dropout: Dropout) -> Self {
        Self {
            steps: V::mul_int(V::iota(0), V::splat_int(COLUMN_STEP)),
            threshold: V::splat_int(dropout.threshold()),
            scale: V::splat((1.0 / (1.0 - f64::from(dropout.prob))) as f32),
        }
    }

    /// What columns `col`, `col + 1`, … of the row with this key are multiplied by.
    ///
    /// # Safety
    /// The machine must have the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn factor(self, row_key: u32, col: u32) -> V {
        let base = V::splat_int(col.wrapping_mul(COLUMN_STEP));
        let mut h = V::xor_int(V::add_int(base, self.steps), V::splat_int(row_key));
        h = V::mul_int(V::xor_int(h, V::shr_int::<16>(h)), V::splat_int(LOWBIAS[0]));
        h = V::mul_int(V::xor_int(h, V::shr_int::<15>(h)), V::splat_int(LOWBIAS[1]));
        h = V::xor_int(h, V::shr_int::<16>(h));
        V::select(V::lt_int(h, self.threshold), V::zero(), self.scale)
    }
}

/// `out = residual + dropout(x)`.
///
/// # Shapes
/// All `[N, D]`: `rows` by `width`.
/// # Panics
/// Where a slice has another length, `dropout.prob` lies outside [0, 1), or the machine lacks `isa`.
pub fn add_forward(
    isa: Isa,
    rows: usize,
    width: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    dropout: Dropout,
    out: &mut [f32],
) {
    require(isa);
    dropout.check();
    assert_eq!(x.len(), rows * width, "dropout: length of x");
    assert_eq!(out.len(), rows * width, "dropout: length of out");
    if let Some(residual) = residual {
        assert_eq!(residual.len(), rows * width, "dropout: length of residual");
    }
    let block = block_rows(width);
    let out = Shared::new(out);
    each(rows.div_ceil(block), |piece| {
        let first = piece * block;
        let count = block.min(rows - first);
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows of `out`.
        unsafe { add_rows(isa, first, count, width, x, residual, dropout, out.at(0)) };
    });
}

/// Gradient of [`add_forward`] by `x`; that by the residual is `d_out` itself.
///
/// # Shapes
/// `d_out`, `d_x`: `[N, D]`. `d_x` is overwritten.
/// # Panics
/// As [`add_forward`].
pub fn backward(
    isa: Isa,
    rows: usize,
    width: usize,
    dropout: Dropout,
    d_out: &[f32],
    d_x: &mut [f32],
) {
    add_forward(isa, rows, width, d_out, None, dropout, d_x);
}

dispatch! {
    /// Rows `first..first + count` of [`add_forward`].
    ///
    /// # Safety
    /// The machine has `isa`; slices and `out` hold `[first + count, width]`, and no other thread uses these rows of `out`.
    unsafe fn add_rows(
        first: usize, count: usize, width: usize,
        x: &[f32], residual: Option<&[f32]>, dropout: Dropout, out: *mut f32,
    ) = add_rows_body;
}

#[inline(always)]
unsafe fn add_rows_body<V: Vector>(
    first: usize,
    count: usize,
    width: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    dropout: Dropout,
    out: *mut f32,
) {
    let mask = Mask::<V>::new(dropout);
    for row in first..first + count {
        let key = dropout.row_key(row as u64);
        let mut col = 0;
        while col < width {
            let (at, n) = (row * width + col, V::LANES.min(width - col));
            let sum = dropped(mask, dropout, key, col, x, residual, at, n);
            sum.store_up_to(out.add(at), n);
            col += V::LANES;
        }
    }
}

/// `n` elements of `residual + dropout(x)` from place `at`, which is column `col` of the row with this key.
///
/// # Safety
/// The machine has the instruction set of `V`; slices hold `at + n` elements.
#[inline(always)]
pub(crate) unsafe fn dropped<V: Vector>(
    mask: Mask<V>,
    dropout: Dropout,
    row_key: u32,
    col: usize,
    x: &[f32],
    residual: Option<&[f32]>,
    at: usize,
    n: usize,
) -> V {
    let x = V::load_up_to(x.as_ptr().add(at), n);
    let added = match residual {
        Some(residual) => V::load_up_to(residual.as_ptr().add(at), n),
        None => V::zero(),
    };
    let factor = if dropout.is_active() {
        mask.factor(row_key, col as u32)
    } else {
        V::splat(1.0)
    };
    x.fma(factor, added)
}
