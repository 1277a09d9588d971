//! Vectors of `f32` lanes: one trait, one thin file per instruction set.
//!
//! A kernel body is an `#[inline(always)] unsafe fn body<V: Vector>(…)`; `dispatch!` compiles it once per
//! instruction set and makes the function that picks one at run time.

pub(crate) mod gemm;
pub mod math;
pub(crate) mod panel;
pub(crate) mod panel_int8;
mod scalar;
pub(crate) mod small;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;

/// A register of `LANES` floats, with the integer lanes and masks that go with it.
///
/// # Safety
/// An implementation must read and write exactly the lanes its methods name. Every method may be called only
/// on a machine that has the instruction set, and, to be fast, only inlined into a function compiled for it.
/// Pointers need no alignment beyond that of `f32` and must be valid for the lanes read or written.
#[expect(
    clippy::missing_safety_doc,
    clippy::return_self_not_must_use,
    reason = "the duties of every method are those of the trait, stated once; arithmetic speaks for itself"
)]
pub unsafe trait Vector: Copy {
    /// Floats in a vector.
    const LANES: usize;
    /// As many `u32` lanes; arithmetic wraps.
    type Int: Copy;
    /// One truth value per lane.
    type Mask: Copy;

    /// Every lane is `x`.
    unsafe fn splat(x: f32) -> Self;
    /// `LANES` floats from `p`.
    unsafe fn load(p: *const f32) -> Self;
    /// `LANES` floats to `p`.
    unsafe fn store(self, p: *mut f32);
    /// The first `n < LANES` lanes from `p`, the rest zero. Touches no memory past `n`.
    unsafe fn load_partial(p: *const f32, n: usize) -> Self;
    /// The first `n < LANES` lanes to `p`. Touches no memory past `n`.
    unsafe fn store_partial(self, p: *mut f32, n: usize);

    /// `self + other`
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`
    unsafe fn div(self, other: Self) -> Self;
    /// The larger; with a NaN on either side, `other` or NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; with a NaN on either side, `other` or NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `self * a + b`, rounded once except on [`Scalar`].
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `b - self * a`, rounded once except on [`Scalar`].
    unsafe fn fnma(self, a: Self, b: Self) -> Self;
    /// Square root.
    unsafe fn sqrt(self) -> Self;
    /// Absolute value.
    unsafe fn abs(self) -> Self;

    /// Sum of the lanes, halves onto halves: one order, always.
    unsafe fn reduce_sum(self) -> f32;
    /// Largest lane; unspecified if one is NaN.
    unsafe fn reduce_max(self) -> f32;

    /// `self < other`; false where either is NaN.
    unsafe fn lt(self, other: Self) -> Self::Mask;
    /// `a` where the mask is true, else `b`.
    unsafe fn select(mask: Self::Mask, a: Self, b: Self) -> Self;

    /// Nearest integer, ties to even, as two's complement; unspecified beyond `i32`.
    unsafe fn round_to_int(self) -> Self::Int;
    /// Two's complement lanes as floats.
    unsafe fn from_int(n: Self::Int) -> Self;
    /// 2ⁿ for `n` in −126..=127, by its bits.
    unsafe fn pow2(n: Self::Int) -> Self;
    /// The bits of the floats.
    unsafe fn to_bits(self) -> Self::Int;
    /// Floats with these bits.
    unsafe fn from_bits(bits: Self::Int) -> Self;

    /// Every lane is `x`.
    unsafe fn splat_int(x: u32) -> Self::Int;
    /// `base, base + 1, base + 2, …`
    unsafe fn iota(base: u32) -> Self::Int;
    /// `a + b`, wrapping.
    unsafe fn add_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a * b`, the low 32 bits.
    unsafe fn mul_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a ^ b`
    unsafe fn xor_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a & b`
    unsafe fn and_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a >> N`, filling with zeros; `N` in 0..32.
    unsafe fn shr_int<const N: u32>(a: Self::Int) -> Self::Int;
    /// `a << N`; `N` in 0..32.
    unsafe fn shl_int<const N: u32>(a: Self::Int) -> Self::Int;
    /// `a < b`, both unsigned.
    unsafe fn lt_int(a: Self::Int, b: Self::Int) -> Self::Mask;

    /// A square of `LANES` rows, the first floats of each, to its transpose, whose rows lie `stride` floats apart.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, to: *mut f32, stride: usize) {
        for j in 0..Self::LANES {
            let from = row(j);
            for p in 0..Self::LANES {
                *to.add(p * stride + j) = *from.add(p);
            }
        }
    }

    /// Every lane zero.
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self::splat(0.0)
    }
    /// The first `n ≤ LANES` lanes from `p`, the rest zero.
    #[inline(always)]
    unsafe fn load_up_to(p: *const f32, n: usize) -> Self {
        if n >= Self::LANES {
            Self::load(p)
        } else {
            Self::load_partial(p, n)
        }
    }
    /// The first `n ≤ LANES` lanes to `p`.
    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize) {
        if n >= Self::LANES {
            self.store(p);
        } else {
            self.store_partial(p, n);
        }
    }
}

/// Makes `name(isa, args…)` from a generic body, compiled for every instruction set of the target.
///
/// ```text
/// dispatch! {
///     /// Duties of the caller.
///     pub(crate) unsafe fn scale(x: *mut f32, n: usize, by: f32) = scale_body;
/// }
/// ```
/// `scale_body` is `#[inline(always)] unsafe fn scale_body<V: Vector>(x: *mut f32, n: usize, by: f32)`.
/// The machine must have `isa`: operations call [`require`](crate::arch::require) before.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        $vis unsafe fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                $body::<$crate::arch::Avx2>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                $body::<$crate::arch::Avx512>($($arg),*)
            }
            match isa {
                $crate::Isa::Scalar => $body::<$crate::arch::Scalar>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx2 => avx2($($arg),*),
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512 => avx512($($arg),*),
                // Neon belongs to the baseline of 64-bit Arm: no attribute needed.
                #[cfg(target_arch = "aarch64")]
                $crate::Isa::Neon => $body::<$crate::arch::Neon>($($arg),*),
                #[allow(unreachable_patterns)]
                _ => unreachable!("{isa:?} is not an instruction set of this machine"),
            }
        }
    };
}
pub(crate) use dispatch;

/// Panics unless this machine has `isa`; every safe entry starts with it.
#[inline]
pub(crate) fn require(isa: crate::Isa) {
    assert!(
        isa.is_available(),
        "this machine has no {isa:?}; ask Isa::detect()"
    );
}
