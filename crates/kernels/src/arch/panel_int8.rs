//! Products of 8-bit integers with a matrix that was packed into panels once: the bodies under [`crate::op::packed`].
//!
//! Both sides are symmetric, −127..127 times a scale: one for each output of the weights, one for each row of the input, made
//! anew from its largest value. The sums are exact 32-bit integers (k up to 133,000), so that every instruction set has the same;
//! only then come the scales, bias and activation, in floats.
//!
//! A panel holds pairs along k: `[k/2][NR][2]` bytes, odd k filled with a zero. A step widens two vectors of it to 16 bits on
//! the way from L1, and multiplies pairs of them with a broadcast pair of the row, kept as 16 bits:
//!
//! | set                 | step for 8 (16) columns and one row    |
//! |---------------------|----------------------------------------|
//! | AVX2, AVX-512 BW    | `vpmaddwd`, `vpaddd`                   |
//! | AVX-VNNI, AVX-512 VNNI | `vpdpwssd`                          |
//! | others              | the compiler's choice                  |
//!
//! `vpmaddubsw` takes bytes as they are, but its 16-bit sums of two products saturate unless one side gives up a bit; with the
//! `vpmaddwd` it needs to widen them, it uses the multipliers exactly as long as this. So nothing is gained by the loss.
//! A panel of 1536 is 24 KiB with AVX2, within L1: k is not cut.

use super::panel::{Finish, close};
use super::{Vector, dispatch};
use crate::Isa;

/// `sums[rows][NR] = a·b` over `pairs` of k: rows of `a` are `stride` apart, `b` is a panel.
///
/// # Safety
/// `a` must be valid for `rows ≤ MR` rows of `2·pairs`, `b` for a panel, `sums` for the tile; the machine must have the
/// instruction set that [`tile`] was asked for.
pub(crate) type Tile = unsafe fn(
    rows: usize,
    pairs: usize,
    a: *const i16,
    stride: usize,
    b: *const i8,
    sums: *mut i32,
);

/// The best of the machine within `isa`.
pub(crate) fn tile(isa: Isa) -> Tile {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if is_x86_feature_detected!("avxvnni") => x86::avx_vnni,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => x86::avx512_vnni,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => x86::avx512,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => plain::<16>,
        _ => plain::<8>,
    }
}

/// Calls `$body` with the number of rows as a constant.
macro_rules! by_rows {
    ($rows:ident, $body:ident, [$($count:literal)*], $most:literal, $args:tt) => {
        match $rows {
            $($count => $body::<$count> $args,)*
            _ => $body::<$most> $args,
        }
    };
}

/// Any machine.
unsafe fn plain<const NR: usize>(
    rows: usize,
    pairs: usize,
    a: *const i16,
    stride: usize,
    b: *const i8,
    sums: *mut i32,
) {
    for i in 0..rows {
        let mut total = [0; NR];
        for p in 0..pairs {
            let a = a.add(i * stride + 2 * p);
            let (first, second) = (i32::from(*a), i32::from(*a.add(1)));
            let b = b.add(p * 2 * NR);
            for (j, total) in total.iter_mut().enumerate() {
                *total += first * i32::from(*b.add(2 * j)) + second * i32::from(*b.add(2 * j + 1));
            }
        }
        sums.add(i * NR).cast::<[i32; NR]>().write_unaligned(total);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::wildcard_imports,
    clippy::cast_ptr_alignment,
    reason = "a dozen intrinsics, each named for what it is; loads and stores are unaligned ones"
)]
mod x86 {
    use std::arch::x86_64::*;

    /// A function of the type [`super::Tile`] for one way to multiply and add pairs.
    macro_rules! tile {
        (
            $(#[$meta:meta])* $name:ident, $features:literal, $vector:ty, $lanes:literal, [$($count:literal)*], $most:literal,
            zero $zero:ident, widen $half:ty, $load:ident, $widen:ident, splat $splat:ident, store $store:ident,
            $dot:expr
        ) => {
            $(#[$meta])*
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                rows: usize, pairs: usize, a: *const i16, stride: usize, b: *const i8, sums: *mut i32,
            ) {
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn body<const R: usize>(
                    pairs: usize, a: *const i16, stride: usize, b: *const i8, sums: *mut i32,
                ) {
                    let mut tile = [[$zero(); 2]; R];
                    for p in 0..pairs {
                        let b = b.add(p * 4 * $lanes);
                        let columns = [
                            $widen($load(b.cast::<$half>())),
                            $widen($load(b.add(2 * $lanes).cast::<$half>())),
                        ];
                        for (i, sums) in tile.iter_mut().enumerate() {
                            let x = $splat(a.add(i * stride + 2 * p).cast::<i32>().read_unaligned());
                            for (sum, column) in sums.iter_mut().zip(columns) {
                                *sum = $dot(*sum, x, column);
                            }
                        }
                    }
                    for (i, tile) in tile.into_iter().enumerate() {
                        for (j, sum) in tile.into_iter().enumerate() {
                            $store(sums.add((i * 2 + j) * $lanes).cast::<$vector>(), sum);
                        }
                    }
                }
                by_rows!(rows, body, [$($count)*], $most, (pairs, a, stride, b, sums));
            }
        };
    }

    tile! {
        avx2, "avx2", __m256i, 8, [1 2 3 4 5], 6,
        zero _mm256_setzero_si256, widen __m128i, _mm_loadu_si128, _mm256_cvtepi8_epi16,
        splat _mm256_set1_epi32, store _mm256_storeu_si256,
        |sum, x, column| _mm256_add_epi32(sum, _mm256_madd_epi16(x, column))
    }
    tile! {
        avx_vnni, "avx2,avxvnni", __m256i, 8, [1 2 3 4 5], 6,
        zero _mm256_setzero_si256, widen __m128i, _mm_loadu_si128, _mm256_cvtepi8_epi16,
        splat _mm256_set1_epi32, store _mm256_storeu_si256,
        |sum, x, column| _mm256_dpwssd_avx_epi32(sum, x, column)
    }
    tile! {
        avx512, "avx512f,avx512bw", __m512i, 16, [1 2 3 4 5 6 7 8 9 10 11], 12,
        zero _mm512_setzero_si512, widen __m256i, _mm256_loadu_si256, _mm512_cvtepi8_epi16,
        splat _mm512_set1_epi32, store _mm512_storeu_si512,
        |sum, x, column| _mm512_add_epi32(sum, _mm512_madd_epi16(x, column))
    }
    tile! {
        avx512_vnni, "avx512f,avx512bw,avx512vnni", __m512i, 16, [1 2 3 4 5 6 7 8 9 10 11], 12,
        zero _mm512_setzero_si512, widen __m256i, _mm256_loadu_si256, _mm512_cvtepi8_epi16,
        splat _mm512_set1_epi32, store _mm512_storeu_si512,
        |sum, x, column| _mm512_dpwssd_epi32(sum, x, column)
    }
}

/// Panels of bytes, and the scale of each column.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub panels: *const i8,
    /// Whole panels, as they are packed.
    pub scales: *const f32,
    pub tile: Tile,
}

/// Rows of 16-bit values, and the scale of each row.
#[derive(Clone, Copy)]
pub(crate) struct Quantised {
    pub values: *const i16,
    pub scales: *const f32,
}

/// Floats of scratch that [`rows`] needs for tiles of `height` by `width`.
pub(crate) fn scratch(height: usize, width: usize) -> usize {
    3 * height * width
}

dispatch! {
    /// `m` rows of `a`, `2·pairs` long, with as many panels as the columns fill.
    ///
    /// # Safety
    /// `a` must be valid for `m` rows, `b` for the columns' panels, what `finish` points to for the rows and columns,
    /// `scratch` for [`scratch`]`(MR, NR)` floats; the machine must have `isa`, for which `b.tile` is.
    pub(crate) unsafe fn rows(
        m: usize, pairs: usize, a: Quantised, b: Bytes, finish: Finish, scratch: *mut f32,
    ) = rows_body;
}

#[inline(always)]
unsafe fn rows_body<V: Vector>(
    m: usize,
    pairs: usize,
    a: Quantised,
    b: Bytes,
    finish: Finish,
    scratch: *mut f32,
) {
    match V::LANES {
        16 => sweep::<V, 12, 2>(m, pairs, a, b, finish, scratch),
        8 => sweep::<V, 6, 2>(m, pairs, a, b, finish, scratch),
        4 => sweep::<V, 6, 4>(m, pairs, a, b, finish, scratch),
        _ => sweep::<V, 4, 8>(m, pairs, a, b, finish, scratch),
    }
}

#[inline(always)]
unsafe fn sweep<V: Vector, const MR: usize, const NV: usize>(
    m: usize,
    pairs: usize,
    a: Quantised,
    b: Bytes,
    finish: Finish,
    scratch: *mut f32,
) {
    let width = NV * V::LANES;
    let whole = MR * width;
    let (ints, sums) = (scratch, scratch.add(whole));
    let halves = finish.halves();
    for (index, column) in (0..finish.columns).step_by(width).enumerate() {
        for row in (0..m).step_by(MR) {
            let rows = MR.min(m - row);
            let from = a.values.add(row * 2 * pairs);
            for half in 0..halves {
                let panel = index * halves + half;
                let bytes = b.panels.add(panel * width * 2 * pairs);
                (b.tile)(rows, pairs, from, 2 * pairs, bytes, ints.cast());
                let scales = b.scales.add(panel * width);
                for i in 0..rows {
                    let scale = V::splat(*a.scales.add(row + i));
                    for j in (0..width).step_by(V::LANES) {
                        let at = i * width + j;
                        let sum = V::from_int(V::to_bits(V::load(ints.add(at))));
                        sum.mul(V::load(scales.add(j)))
                            .mul(scale)
                            .store(sums.add(half * whole + at));
                    }
                }
            }
            let other = sums.add((halves - 1) * whole);
            close::<V, NV>(
                rows,
                row,
                column,
                index * halves * width,
                sums,
                other,
                &finish,
            );
        }
    }
}

dispatch! {
    /// `k` floats as 16-bit values of −127..127, a zero more if `k` is odd; returns the scale. A row that is not finite has a
    /// scale that is not a number.
    ///
    /// # Safety
    /// `x` must be valid for `k` floats, `values` for `k` and one more if that is odd; the machine must have `isa`.
    pub(crate) unsafe fn quantise(k: usize, x: *const f32, values: *mut i16) -> f32 = quantise_body;
}

/// Adding it leaves a number's nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

#[expect(
    clippy::extra_unused_type_parameters,
    reason = "compiled for every set like the others, but the compiler makes the vectors: the trait has no 16-bit lanes"
)]
#[inline(always)]
unsafe fn quantise_body<V: Vector>(k: usize, x: *const f32, values: *mut i16) -> f32 {
    let x = std::slice::from_raw_parts(x, k);
    let values = std::slice::from_raw_parts_mut(values, k.next_multiple_of(2));
    // Sizes of floats are ordered as their bits are, infinity and NaN above all others.
    let largest = x
        .iter()
        .fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(largest);
    // Below this, 127 / largest would overflow; such a row is zero.
    let (inverse, scale) = if largest < 1e-35 {
        (0.0, 0.0)
    } else if largest.is_finite() {
        (127.0 / largest, largest / 127.0)
    } else {
        (0.0, f32::NAN)
    };
    for (value, x) in values.iter_mut().zip(x) {
        *value =
            ((x * inverse + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32) as i16;
    }
    if k % 2 == 1 {
        values[k] = 0;
    }
    scale
}
