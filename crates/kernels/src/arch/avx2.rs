//! Eight lanes of AVX2 with FMA.
#![allow(
    clippy::wildcard_imports,
    reason = "half a hundred intrinsics, each named for what it is"
)]

use super::Vector;
use std::arch::x86_64::*;

/// Eight floats.
#[derive(Clone, Copy)]
pub struct Avx2(__m256);

/// Eight ones, then eight zeros: a window that starts `8 - n` in has `n` ones first.
static WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    _mm256_loadu_si256(WINDOW.as_ptr().add(8 - n).cast())
}

// SAFETY: loads and stores are unaligned, and masked ones touch only the lanes of their mask.
unsafe impl Vector for Avx2 {
    const LANES: usize = 8;
    type Int = __m256i;
    type Mask = __m256;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm256_storeu_ps(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> Self {
        Self(_mm256_maskload_ps(p, first(n)))
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize) {
        _mm256_maskstore_ps(p, first(n), self.0);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm256_div_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, a.0, b.0))
    }
    #[inline(always)]
    unsafe fn fnma(self, a: Self, b: Self) -> Self {
        Self(_mm256_fnmadd_ps(self.0, a.0, b.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(_mm256_sqrt_ps(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0))
    }

    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        let x = _mm_add_ps(
            _mm256_castps256_ps128(self.0),
            _mm256_extractf128_ps::<1>(self.0),
        );
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        let x = _mm_max_ps(
            _mm256_castps256_ps128(self.0),
            _mm256_extractf128_ps::<1>(self.0),
        );
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> __m256 {
        _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0)
    }
    #[inline(always)]
    unsafe fn select(mask: __m256, a: Self, b: Self) -> Self {
        Self(_mm256_blendv_ps(b.0, a.0, mask))
    }

    #[inline(always)]
    unsafe fn round_to_int(self) -> __m256i {
        _mm256_cvtps_epi32(self.0)
    }
    #[inline(always)]
    unsafe fn from_int(n: __m256i) -> Self {
        Self(_mm256_cvtepi32_ps(n))
    }
    #[inline(always)]
    unsafe fn pow2(n: __m256i) -> Self {
        let exponent = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    }
    #[inline(always)]
    unsafe fn to_bits(self) -> __m256i {
        _mm256_castps_si256(self.0)
    }
    #[inline(always)]
    unsafe fn from_bits(bits: __m256i) -> Self {
        Self(_mm256_castsi256_ps(bits))
    }

    #[inline(always)]
    unsafe fn splat_int(x: u32) -> __m256i {
        _mm256_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn iota(base: u32) -> __m256i {
        _mm256_add_epi32(
            Self::splat_int(base),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        )
    }
    #[inline(always)]
    unsafe fn add_int(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn mul_int(a: __m256i, b: __m256i) -> __m256i {
        _mm256_mullo_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn xor_int(a: __m256i, b: __m256i) -> __m256i {
        _mm256_xor_si256(a, b)
    }
    #[inline(always)]
    unsafe fn and_int(a: __m256i, b: __m256i) -> __m256i {
        _mm256_and_si256(a, b)
    }
    // The count goes through a register: the immediate form wants a const of another type.
    #[inline(always)]
    unsafe fn shr_int<const N: u32>(a: __m256i) -> __m256i {
        _mm256_srl_epi32(a, _mm_cvtsi32_si128(N as i32))
    }
    #[inline(always)]
    unsafe fn shl_int<const N: u32>(a: __m256i) -> __m256i {
        _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32))
    }
    #[inline(always)]
    unsafe fn lt_int(a: __m256i, b: __m256i) -> __m256 {
        // The set compares signed: flipping the top bits maps unsigned order onto it.
        let top = _mm256_set1_epi32(i32::MIN);
        let less = _mm256_cmpgt_epi32(_mm256_xor_si256(b, top), _mm256_xor_si256(a, top));
        _mm256_castsi256_ps(less)
    }

    #[expect(clippy::needless_range_loop, reason = "a column of every four")]
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, to: *mut f32, stride: usize) {
        // Of four rows, half h of fours[c] is column 4·h + c.
        let mut fours = [[_mm256_setzero_ps(); 4]; 2];
        for (g, four) in fours.iter_mut().enumerate() {
            let (a, b) = (_mm256_loadu_ps(row(4 * g)), _mm256_loadu_ps(row(4 * g + 1)));
            let (c, d) = (
                _mm256_loadu_ps(row(4 * g + 2)),
                _mm256_loadu_ps(row(4 * g + 3)),
            );
            let ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
            let cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
            four[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
            four[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
            let ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
            let cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
            four[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
            four[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
        }
        for c in 0..4 {
            let (x, y) = (fours[0][c], fours[1][c]);
            _mm256_storeu_ps(to.add(c * stride), _mm256_permute2f128_ps::<0x20>(x, y));
            _mm256_storeu_ps(
                to.add((4 + c) * stride),
                _mm256_permute2f128_ps::<0x31>(x, y),
            );
        }
    }
}
