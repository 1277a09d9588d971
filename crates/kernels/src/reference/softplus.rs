//! ln(1 + eˣ) by plain loops.

use super::Float;

/// Of every number.
pub fn forward<T: Float>(x: &[T]) -> Vec<T> {
    x.iter().map(|&x| of(x)).collect()
}

/// Of one.
pub(super) fn of<T: Float>(x: T) -> T {
    x.max(T::ZERO) + (-x.abs()).exp().ln_1p()
}
