//! Sixteen lanes of AVX-512.
#![allow(
    clippy::wildcard_imports,
    reason = "half a hundred intrinsics, each named for what it is"
)]

use super::Vector;
use std::arch::x86_64::*;

/// Sixteen floats.
#[derive(Clone, Copy)]
pub struct Avx512(__m512);

// SAFETY: loads and stores are unaligned, and masked ones touch only the lanes of their mask.
unsafe impl Vector for Avx512 {
    const LANES: usize = 16;
    type Int = __m512i;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm512_storeu_ps(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> Self {
        Self(_mm512_maskz_loadu_ps((1 << n) - 1, p))
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(p, (1 << n) - 1, self.0);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm512_div_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, a.0, b.0))
    }
    #[inline(always)]
    unsafe fn fnma(self, a: Self, b: Self) -> Self {
        Self(_mm512_fnmadd_ps(self.0, a.0, b.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm512_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm512_abs_ps(self.0))
    }

    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        let x = _mm256_add_ps(
            _mm512_castps512_ps256(self.0),
            _mm512_extractf32x8_ps::<1>(self.0),
        );
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        let x = _mm256_max_ps(
            _mm512_castps512_ps256(self.0),
            _mm512_extractf32x8_ps::<1>(self.0),
        );
        let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> __mmask16 {
        _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0)
    }
    #[inline(always)]
    unsafe fn select(mask: __mmask16, a: Self, b: Self) -> Self {
        Self(_mm512_mask_blend_ps(mask, b.0, a.0))
    }

    #[inline(always)]
    unsafe fn round_to_int(self) -> __m512i {
        _mm512_cvtps_epi32(self.0)
    }
    #[inline(always)]
    unsafe fn from_int(n: __m512i) -> Self {
        Self(_mm512_cvtepi32_ps(n))
    }
    #[inline(always)]
    unsafe fn pow2(n: __m512i) -> Self {
        let exponent = _mm512_add_epi32(n, _mm512_set1_epi32(127));
        Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
    }
    #[inline(always)]
    unsafe fn to_bits(self) -> __m512i {
        _mm512_castps_si512(self.0)
    }
    #[inline(always)]
    unsafe fn from_bits(bits: __m512i) -> Self {
        Self(_mm512_castsi512_ps(bits))
    }

    #[inline(always)]
    unsafe fn splat_int(x: u32) -> __m512i {
        _mm512_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn iota(base: u32) -> __m512i {
        let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        _mm512_add_epi32(Self::splat_int(base), steps)
    }
    #[inline(always)]
    unsafe fn add_int(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn mul_int(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mullo_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn xor_int(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }
    #[inline(always)]
    unsafe fn and_int(a: __m512i, b: __m512i) -> __m512i {
        _mm512_and_si512(a, b)
    }
    #[inline(always)]
    unsafe fn shr_int<const N: u32>(a: __m512i) -> __m512i {
        _mm512_srli_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn shl_int<const N: u32>(a: __m512i) -> __m512i {
        _mm512_slli_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn lt_int(a: __m512i, b: __m512i) -> __mmask16 {
        _mm512_cmplt_epu32_mask(a, b)
    }

    #[expect(clippy::needless_range_loop, reason = "a column of every four")]
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, to: *mut f32, stride: usize) {
        // Of four rows, quarter q of fours[c] is column 4·q + c.
        let mut fours = [[_mm512_setzero_ps(); 4]; 4];
        for (g, four) in fours.iter_mut().enumerate() {
            let (a, b) = (_mm512_loadu_ps(row(4 * g)), _mm512_loadu_ps(row(4 * g + 1)));
            let (c, d) = (
                _mm512_loadu_ps(row(4 * g + 2)),
                _mm512_loadu_ps(row(4 * g + 3)),
            );
            let ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            let cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
            four[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            four[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            let ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
            let cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
            four[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            four[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        }
        for c in 0..4 {
            let (x, y) = (fours[0][c], fours[1][c]);
            let (z, w) = (fours[2][c], fours[3][c]);
            // Quarters 0 and 2 of both, and 1 and 3.
            let (xy, zw) = (
                _mm512_shuffle_f32x4::<0x88>(x, y),
                _mm512_shuffle_f32x4::<0x88>(z, w),
            );
            let (xy_odd, zw_odd) = (
                _mm512_shuffle_f32x4::<0xdd>(x, y),
                _mm512_shuffle_f32x4::<0xdd>(z, w),
            );
            let to = to.add(c * stride);
            _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(xy, zw));
            _mm512_storeu_ps(
                to.add(4 * stride),
                _mm512_shuffle_f32x4::<0x88>(xy_odd, zw_odd),
            );
            _mm512_storeu_ps(to.add(8 * stride), _mm512_shuffle_f32x4::<0xdd>(xy, zw));
            _mm512_storeu_ps(
                to.add(12 * stride),
                _mm512_shuffle_f32x4::<0xdd>(xy_odd, zw_odd),
            );
        }
    }
}
