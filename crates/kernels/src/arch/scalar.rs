//! One lane of plain Rust.

use super::Vector;

/// One float.
#[derive(Clone, Copy)]
pub struct Scalar(f32);

// SAFETY: one lane, read and written through plain pointers; needs nothing of the machine.
unsafe impl Vector for Scalar {
    const LANES: usize = 1;
    type Int = u32;
    type Mask = bool;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(*p)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        *p = self.0;
    }
    #[inline(always)]
    unsafe fn load_partial(_: *const f32, _: usize) -> Self {
        Self(0.0)
    }
    #[inline(always)]
    unsafe fn store_partial(self, _: *mut f32, _: usize) {}

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }
    // Two roundings: without the instruction, a fused one is a library call.
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(self.0 * a.0 + b.0)
    }
    #[inline(always)]
    unsafe fn fnma(self, a: Self, b: Self) -> Self {
        Self(b.0 - self.0 * a.0)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.abs())
    }

    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        self.0
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        self.0
    }

    #[inline(always)]
    unsafe fn lt(self, other: Self) -> bool {
        self.0 < other.0
    }
    #[inline(always)]
    unsafe fn select(mask: bool, a: Self, b: Self) -> Self {
        if mask { a } else { b }
    }

    #[inline(always)]
    unsafe fn round_to_int(self) -> u32 {
        self.0.round_ties_even() as i32 as u32
    }
    #[inline(always)]
    unsafe fn from_int(n: u32) -> Self {
        Self(n as i32 as f32)
    }
    #[inline(always)]
    unsafe fn pow2(n: u32) -> Self {
        Self(f32::from_bits(n.wrapping_add(127) << 23))
    }
    #[inline(always)]
    unsafe fn to_bits(self) -> u32 {
        self.0.to_bits()
    }
    #[inline(always)]
    unsafe fn from_bits(bits: u32) -> Self {
        Self(f32::from_bits(bits))
    }

    #[inline(always)]
    unsafe fn splat_int(x: u32) -> u32 {
        x
    }
    #[inline(always)]
    unsafe fn iota(base: u32) -> u32 {
        base
    }
    #[inline(always)]
    unsafe fn add_int(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    unsafe fn mul_int(a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
    #[inline(always)]
    unsafe fn xor_int(a: u32, b: u32) -> u32 {
        a ^ b
    }
    #[inline(always)]
    unsafe fn and_int(a: u32, b: u32) -> u32 {
        a & b
    }
    #[inline(always)]
    unsafe fn shr_int<const N: u32>(a: u32) -> u32 {
        a >> N
    }
    #[inline(always)]
    unsafe fn shl_int<const N: u32>(a: u32) -> u32 {
        a << N
    }
    #[inline(always)]
    unsafe fn lt_int(a: u32, b: u32) -> bool {
        a < b
    }
}
