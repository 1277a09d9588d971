//! Four lanes of Neon, which every 64-bit Arm has.
#![allow(
    clippy::wildcard_imports,
    reason = "half a hundred intrinsics, each named for what it is"
)]

use super::Vector;
use std::arch::aarch64::*;

/// Four floats.
#[derive(Clone, Copy)]
pub struct Neon(float32x4_t);

// SAFETY: whole loads and stores are unaligned; partial ones go lane by lane.
unsafe impl Vector for Neon {
    const LANES: usize = 4;
    type Int = uint32x4_t;
    type Mask = uint32x4_t;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(vdupq_n_f32(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(vld1q_f32(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        vst1q_f32(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0_f32; 4];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
        Self::load(lanes.as_ptr())
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0_f32; 4];
        self.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(vaddq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(vsubq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(vmulq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(vdivq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(vmaxq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(vminq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(vfmaq_f32(b.0, self.0, a.0))
    }
    #[inline(always)]
    unsafe fn fnma(self, a: Self, b: Self) -> Self {
        Self(vfmsq_f32(b.0, self.0, a.0))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(vsqrtq_f32(self.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(vabsq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        let x = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
        vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        vmaxvq_f32(self.0)
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> uint32x4_t {
        vcltq_f32(self.0, other.0)
    }
    #[inline(always)]
    unsafe fn select(mask: uint32x4_t, a: Self, b: Self) -> Self {
        Self(vbslq_f32(mask, a.0, b.0))
    }

    #[inline(always)]
    unsafe fn round_to_int(self) -> uint32x4_t {
        vreinterpretq_u32_s32(vcvtnq_s32_f32(self.0))
    }
    #[inline(always)]
    unsafe fn from_int(n: uint32x4_t) -> Self {
        Self(vcvtq_f32_s32(vreinterpretq_s32_u32(n)))
    }
    #[inline(always)]
    unsafe fn pow2(n: uint32x4_t) -> Self {
        Self(vreinterpretq_f32_u32(vshlq_n_u32::<23>(vaddq_u32(
            n,
            vdupq_n_u32(127),
        ))))
    }
    #[inline(always)]
    unsafe fn to_bits(self) -> uint32x4_t {
        vreinterpretq_u32_f32(self.0)
    }
    #[inline(always)]
    unsafe fn from_bits(bits: uint32x4_t) -> Self {
        Self(vreinterpretq_f32_u32(bits))
    }

    #[inline(always)]
    unsafe fn splat_int(x: u32) -> uint32x4_t {
        vdupq_n_u32(x)
    }
    #[inline(always)]
    unsafe fn iota(base: u32) -> uint32x4_t {
        vaddq_u32(vdupq_n_u32(base), vld1q_u32([0_u32, 1, 2, 3].as_ptr()))
    }
    #[inline(always)]
    unsafe fn add_int(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        vaddq_u32(a, b)
    }
    #[inline(always)]
    unsafe fn mul_int(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        vmulq_u32(a, b)
    }
    #[inline(always)]
    unsafe fn xor_int(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        veorq_u32(a, b)
    }
    #[inline(always)]
    unsafe fn and_int(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        vandq_u32(a, b)
    }
    // Shifts by a register, right being a negative left: the immediate forms exclude a count of zero.
    #[inline(always)]
    unsafe fn shr_int<const N: u32>(a: uint32x4_t) -> uint32x4_t {
        vshlq_u32(a, vdupq_n_s32(-(N as i32)))
    }
    #[inline(always)]
    unsafe fn shl_int<const N: u32>(a: uint32x4_t) -> uint32x4_t {
        vshlq_u32(a, vdupq_n_s32(N as i32))
    }
    #[inline(always)]
    unsafe fn lt_int(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        vcltq_u32(a, b)
    }
}
