//! Slow, plain loops: what every kernel has to agree with.
//!
//! Generic over [`Float`]: in `f32` they stand beside the kernels, in `f64` their backwards are held against finite differences.

pub mod adamw;
pub mod attention;
pub mod candidates;
pub mod cross_entropy;
pub mod delta_rule;
pub mod depthwise;
pub mod dropout;
pub mod embed;
pub mod encode;
pub mod granular_pool;
pub mod linear;
pub mod matmul;
pub mod norm;
pub mod packed;
pub mod pool;
pub mod quasiseparable;
pub mod rank;
pub mod recurrent;
pub mod rms;
pub mod selective_scan;
pub mod softplus;

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// The arithmetic the references need, of `f32` and `f64`.
pub trait Float:
    Copy
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// `self` as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// e to the power of `self`.
    #[must_use]
    fn exp(self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// Natural logarithm of `1 + self`.
    #[must_use]
    fn ln_1p(self) -> Self;
    /// Square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// Absolute value.
    #[must_use]
    fn abs(self) -> Self;
    /// The larger of the two.
    #[must_use]
    fn max(self, other: Self) -> Self;
}

macro_rules! float {
    ($t:ident) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $t::exp(self)
            }
            fn ln(self) -> Self {
                $t::ln(self)
            }
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            fn abs(self) -> Self {
                $t::abs(self)
            }
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
        }
    };
}

float!(f32);
float!(f64);

/// `0..n` summed in order.
pub(crate) fn sum<T: Float>(n: usize, term: impl Fn(usize) -> T) -> T {
    (0..n).fold(T::ZERO, |total, i| total + term(i))
}
