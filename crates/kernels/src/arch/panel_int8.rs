//! Products of 8-bit integers with a matrix that was packed into panels once: the bodies under [`crate::op::packed`].
//!
//! Weights are symmetric, −127..127 times a scale for each output. Rows of the input are made anew, 256 steps from their least
//! to their largest value and zero among them, as what GELU leaves has hardly anything below zero: a row is
//! `scale·(q + offset)`, q in −128..127, so that its product with a column is `scale·(Σ q·w + offset·Σ w)`. The sums are exact
//! 32-bit integers (k up to 66,000), so that every instruction set has the same; only then come the scales, bias and activation,
//! in floats.
//!
//! A step multiplies a word of the row, broadcast, with as much of each column and adds up the products. A word is 2 or 4 values,
//! along k: a panel is `[k/word][NR][word]` bytes, a row `[k/word][word]` values of 16 or 8 bits, both filled up with zeros.
//!
//! | set                    | word | step for 8 (16) columns and one row            |
//! |------------------------|------|------------------------------------------------|
//! | AVX-VNNI, AVX-512 VNNI | 4    | `vpdpbusd`                                     |
//! | AVX2, AVX-512 BW       | 2    | `vpmaddwd`, `vpaddd`, on a panel widened to 16 bits on the way from L1 |
//! | others                 | 2    | the compiler's choice                          |
//!
//! `vpdpbusd` takes one side without sign: there 128 is added to q and taken from the offset. Where a sum passes 32 bits on the way,
//! it wraps and comes back.
//! `vpmaddubsw` takes bytes as they are, but its 16-bit sums of two products saturate unless one side gives up a bit; with the
//! `vpmaddwd` it needs to widen them, it uses the multipliers exactly as long as this. So nothing is gained by the loss.
//! A panel of 1536 is 24 KiB with AVX2, within L1: k is not cut.

use super::panel::{Finish, close};
use super::{Vector, dispatch};
use crate::Isa;

/// `sums[rows][NR] = a·b` over `words` of k: rows of `a` are `words` apart, `b` is a panel.
///
/// # Safety
/// `a` must be valid for `rows ≤ MR` rows of `words`, `b` for a panel, `sums` for the tile; the machine must have the instruction set that [`Dot::best`] was asked for.
type Tile = unsafe fn(rows: usize, words: usize, a: *const i32, b: *const i8, sums: *mut i32);

/// How bytes are multiplied.
#[derive(Clone, Copy)]
pub(crate) struct Dot {
    tile: Tile,
    /// Values of a word: 4 of the input, 128 added, in 8 bits, or 2 as they are in 16.
    pub word: usize,
}

impl Dot {
    /// The best of the machine within `isa`.
    pub(crate) fn best(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("avxvnni") => Self::new(4, x86::avx_vnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::new(2, x86::avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => Self::new(4, x86::avx512_vnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::new(2, x86::avx512),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self::new(2, plain::<16>),
            _ => Self::new(2, plain::<8>),
        }
    }

    fn new(word: usize, tile: Tile) -> Self {
        Self { tile, word }
    }

    /// A row of the input in words, which are filled up to `k.div_ceil(word)`: its scale and offset.
    ///
    /// # Safety
    /// `x` must be valid for `k` floats, `words` for as many as they fill; the machine must have `isa`.
    pub(crate) unsafe fn quantise(
        self,
        isa: Isa,
        k: usize,
        x: *const f32,
        words: *mut i32,
    ) -> (f32, i32) {
        if self.word == 4 {
            quantise_bytes(isa, k, x, words.cast())
        } else {
            quantise_pairs(isa, k, x, words.cast())
        }
    }
}

/// Calls `$body` with the number of rows as a constant.
#[cfg(target_arch = "x86_64")]
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
    words: usize,
    a: *const i32,
    b: *const i8,
    sums: *mut i32,
) {
    for i in 0..rows {
        let mut total = [0; NR];
        for p in 0..words {
            let a = a.add(i * words + p).cast::<i16>();
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

    /// A function of the type [`super::Tile`] for one way to multiply and add words. `$column` makes a vector of `$bytes` bytes
    /// of a panel, `$dot` adds a word's products to the sums.
    macro_rules! tile {
        (
            $(#[$meta:meta])* $name:ident, $features:literal, $vector:ty, $lanes:literal, [$($count:literal)*], $most:literal,
            zero $zero:ident, store $store:ident, splat $splat:ident, $bytes:literal, $column:expr, $dot:expr
        ) => {
            $(#[$meta])*
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                rows: usize, words: usize, a: *const i32, b: *const i8, sums: *mut i32,
            ) {
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn body<const R: usize>(
                    words: usize, a: *const i32, b: *const i8, sums: *mut i32,
                ) {
                    let mut tile = [[$zero(); 2]; R];
                    for p in 0..words {
                        let b = b.add(p * 2 * $bytes);
                        let columns = [$column(b), $column(b.add($bytes))];
                        for (i, sums) in tile.iter_mut().enumerate() {
                            let x = $splat(a.add(i * words + p).read_unaligned());
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
                by_rows!(rows, body, [$($count)*], $most, (words, a, b, sums));
            }
        };
    }

    tile! {
        avx2, "avx2", __m256i, 8, [1 2 3 4 5], 6,
        zero _mm256_setzero_si256, store _mm256_storeu_si256, splat _mm256_set1_epi32,
        16, |b: *const i8| _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast())),
        |sum, x, column| _mm256_add_epi32(sum, _mm256_madd_epi16(x, column))
    }
    tile! {
        avx_vnni, "avx2,avxvnni", __m256i, 8, [1 2 3 4 5], 6,
        zero _mm256_setzero_si256, store _mm256_storeu_si256, splat _mm256_set1_epi32,
        32, |b: *const i8| _mm256_loadu_si256(b.cast()),
        |sum, x, column| _mm256_dpbusd_avx_epi32(sum, x, column)
    }
    tile! {
        avx512, "avx512f,avx512bw", __m512i, 16, [1 2 3 4 5 6 7 8 9 10 11], 12,
        zero _mm512_setzero_si512, store _mm512_storeu_si512, splat _mm512_set1_epi32,
        32, |b: *const i8| _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.cast())),
        |sum, x, column| _mm512_add_epi32(sum, _mm512_madd_epi16(x, column))
    }
    tile! {
        avx512_vnni, "avx512f,avx512bw,avx512vnni", __m512i, 16, [1 2 3 4 5 6 7 8 9 10 11], 12,
        zero _mm512_setzero_si512, store _mm512_storeu_si512, splat _mm512_set1_epi32,
        64, |b: *const i8| _mm512_loadu_si512(b.cast()),
        |sum, x, column| _mm512_dpbusd_epi32(sum, x, column)
    }
}

/// Panels of bytes, and the total and scale of each column: whole panels, as they are packed.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub panels: *const i8,
    pub totals: *const i32,
    pub scales: *const f32,
    pub dot: Dot,
}

/// Rows of words, and the scale and offset of each row.
#[derive(Clone, Copy)]
pub(crate) struct Quantised {
    pub words: *const i32,
    pub scales: *const f32,
    pub offsets: *const i32,
}

/// Floats of scratch that [`rows`] needs for tiles of `height` by `width`.
pub(crate) fn scratch(height: usize, width: usize) -> usize {
    3 * height * width
}

dispatch! {
    /// `m` rows of `a`, `words` long, with as many panels as the columns fill.
    ///
    /// # Safety
    /// `a` must be valid for `m` rows, `b` for the columns' panels, what `finish` points to for the rows and columns,
    /// `scratch` for [`scratch`]`(MR, NR)` floats; the machine must have `isa`, for which `b.dot` is.
    pub(crate) unsafe fn rows(
        m: usize, words: usize, a: Quantised, b: Bytes, finish: Finish, scratch: *mut f32,
    ) = rows_body;
}

#[inline(always)]
unsafe fn rows_body<V: Vector>(
    m: usize,
    words: usize,
    a: Quantised,
    b: Bytes,
    finish: Finish,
    scratch: *mut f32,
) {
    match V::LANES {
        16 => sweep::<V, 12, 2>(m, words, a, b, finish, scratch),
        8 => sweep::<V, 6, 2>(m, words, a, b, finish, scratch),
        4 => sweep::<V, 6, 4>(m, words, a, b, finish, scratch),
        _ => sweep::<V, 4, 8>(m, words, a, b, finish, scratch),
    }
}

#[inline(always)]
unsafe fn sweep<V: Vector, const MR: usize, const NV: usize>(
    m: usize,
    words: usize,
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
            let from = a.words.add(row * words);
            for half in 0..halves {
                let panel = index * halves + half;
                let bytes = b.panels.add(panel * width * words * b.dot.word);
                (b.dot.tile)(rows, words, from, bytes, ints.cast());
                let scales = b.scales.add(panel * width);
                let totals = b.totals.add(panel * width).cast::<f32>();
                for i in 0..rows {
                    let scale = V::splat(*a.scales.add(row + i));
                    let offset = V::splat_int((*a.offsets.add(row + i)).cast_unsigned());
                    for j in (0..width).step_by(V::LANES) {
                        let at = i * width + j;
                        let total = V::to_bits(V::load(totals.add(j)));
                        let sum = V::to_bits(V::load(ints.add(at)));
                        let sum = V::from_int(V::add_int(sum, V::mul_int(total, offset)));
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
    /// A row of the input as 16-bit values of −128..127, a zero more if `k` is odd: its scale and offset. A row that is not
    /// finite has a scale that is not a number.
    ///
    /// # Safety
    /// `x` must be valid for `k` floats, `values` for `k` and one more if that is odd; the machine must have `isa`.
    unsafe fn quantise_pairs(k: usize, x: *const f32, values: *mut i16) -> (f32, i32) = quantise_pairs_body;
}

dispatch! {
    /// As [`quantise_pairs`], with 128 added to the values and to a multiple of four of them.
    ///
    /// # Safety
    /// `x` must be valid for `k` floats, `values` for the next multiple of four; the machine must have `isa`.
    unsafe fn quantise_bytes(k: usize, x: *const f32, values: *mut u8) -> (f32, i32) = quantise_bytes_body;
}

#[inline(always)]
unsafe fn quantise_pairs_body<V: Vector>(k: usize, x: *const f32, values: *mut i16) -> (f32, i32) {
    let values = std::slice::from_raw_parts_mut(values, k.next_multiple_of(2));
    let (scale, zero) = spread::<V, _>(std::slice::from_raw_parts(x, k), values, |step| {
        (step - 128) as i16
    });
    (scale, 128 - zero)
}

#[inline(always)]
unsafe fn quantise_bytes_body<V: Vector>(k: usize, x: *const f32, values: *mut u8) -> (f32, i32) {
    let values = std::slice::from_raw_parts_mut(values, k.next_multiple_of(4));
    let (scale, zero) = spread::<V, _>(std::slice::from_raw_parts(x, k), values, |step| step as u8);
    (scale, -zero)
}

/// Adding it leaves a number's nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer of a number of fewer than 22 bits, ties to even.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}

/// Below such a range, its inverse would overflow; what has it is zero.
const NOTHING: f32 = 1e-35;

/// A row in steps of 0..255, filled up with zeros: its scale, and which step is zero.
#[expect(
    clippy::extra_unused_type_parameters,
    reason = "compiled for every set like the others, but the compiler makes the vectors: the trait has no narrow lanes"
)]
#[inline(always)]
fn spread<V: Vector, T: Copy>(
    x: &[f32],
    values: &mut [T],
    narrow: impl Fn(i32) -> T,
) -> (f32, i32) {
    // Floats are ordered as these integers are, infinities and NaN outside of all others; the map is its own inverse.
    let place = |bits: i32| bits ^ ((bits >> 31) & 0x7fff_ffff);
    let (mut least, mut largest) = (0, 0);
    for x in x {
        let place = place(x.to_bits() as i32);
        least = least.min(place);
        largest = largest.max(place);
    }
    let [least, largest] = [least, largest].map(|end| f32::from_bits(place(end) as u32));
    // Divided first: the range of finite numbers may not be finite.
    let scale = largest / 255.0 - least / 255.0;
    let (inverse, scale) = if scale < NOTHING {
        (0.0, 0.0)
    } else if least.is_finite() && largest.is_finite() {
        (1.0 / scale, scale)
    } else {
        (0.0, f32::NAN)
    };
    let zero = nearest(-least * inverse);
    let (whole, rest) = values.split_at_mut(x.len());
    for (value, x) in whole.iter_mut().zip(x) {
        // Where both ends are rounded up, the range is a step too long.
        *value = narrow((nearest(x * inverse) + zero).min(255));
    }
    // Where a row ends, weights are zero.
    rest.fill(narrow(0));
    (scale, zero)
}

/// A row of weights as values of −127..127: its scale. A row that is not finite has a scale that is not a number.
///
/// # Panics
/// If there are other than as many values.
pub(crate) fn quantise_weights(row: &[f32], values: &mut [i8]) -> f32 {
    assert_eq!(row.len(), values.len(), "a value for each weight");
    // Sizes of floats are ordered as their bits are, infinity and NaN above all others.
    let sizes = row.iter().map(|x| x.to_bits() & 0x7fff_ffff);
    let largest = f32::from_bits(sizes.fold(0, u32::max));
    let (inverse, scale) = if largest < NOTHING {
        (0.0, 0.0)
    } else if largest.is_finite() {
        (127.0 / largest, largest / 127.0)
    } else {
        (0.0, f32::NAN)
    };
    for (value, x) in values.iter_mut().zip(row) {
        *value = nearest(x * inverse) as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to multiply of this machine, with its tile.
    #[allow(unused_mut, reason = "only x86-64 has more than these")]
    fn ways() -> Vec<(Dot, usize, usize)> {
        let mut ways = vec![
            (Dot::new(2, plain::<8>), 4, 8),
            (Dot::new(2, plain::<16>), 6, 16),
        ];
        #[cfg(target_arch = "x86_64")]
        {
            if Isa::Avx2.is_available() {
                ways.push((Dot::new(2, x86::avx2), 6, 16));
            }
            if is_x86_feature_detected!("avxvnni") {
                ways.push((Dot::new(4, x86::avx_vnni), 6, 16));
            }
            if Isa::Avx512.is_available() {
                ways.push((Dot::new(2, x86::avx512), 12, 32));
                if is_x86_feature_detected!("avx512vnni") {
                    ways.push((Dot::new(4, x86::avx512_vnni), 12, 32));
                }
            }
        }
        ways
    }

    #[test]
    fn every_way_to_multiply_gives_the_sums_of_plain_loops() {
        for (dot, height, width) in ways() {
            for k in [1_usize, 2, 3, 4, 5, 31, 384, 1009] {
                let words = k.div_ceil(dot.word);
                // The largest values of either sign, then a mixture.
                for step in [0, 254, 37] {
                    let value = |i: usize, sign: i32| sign * ((i * step) as i32 % 255 - 127);
                    let shift = if dot.word == 4 { 128 } else { 0 };
                    let a: Vec<i32> = (0..height * k).map(|i| value(i, 1) + shift).collect();
                    let b: Vec<i32> = (0..width * k).map(|i| value(i * 3, -1)).collect();
                    let mut row_words = vec![0_i32; height * words];
                    let mut panel = vec![0_i8; width * words * dot.word];
                    for p in 0..words * dot.word {
                        let (word, part) = (p / dot.word, p % dot.word);
                        for i in 0..height {
                            let value = if p < k { a[i * k + p] } else { 0 };
                            let bits = if dot.word == 4 {
                                i32::from(value as u8) << (8 * part)
                            } else {
                                i32::from(value as u16) << (16 * part)
                            };
                            row_words[i * words + word] |= bits;
                        }
                        for j in 0..width {
                            let value = if p < k { b[j * k + p] } else { 0 };
                            panel[(word * width + j) * dot.word + part] = value as i8;
                        }
                    }
                    for rows in 1..=height {
                        let mut sums = vec![i32::MIN; rows * width];
                        // SAFETY: the machine has the instruction set, and every slice is as long as it has to be.
                        unsafe {
                            let b = panel.as_ptr();
                            (dot.tile)(rows, words, row_words.as_ptr(), b, sums.as_mut_ptr());
                        }
                        for (at, &sum) in sums.iter().enumerate() {
                            let (i, j) = (at / width, at % width);
                            let want: i32 = (0..k).map(|p| a[i * k + p] * b[j * k + p]).sum();
                            assert_eq!(
                                sum, want,
                                "word {}, tile {height}×{width}, k {k}",
                                dot.word
                            );
                        }
                    }
                }
            }
        }
    }
}
