//! Outputs into probabilities by plain loops.

use crate::reference::{Float, sum};

/// The softmax of each row of `x: [N, C]`.
pub fn softmax<T: Float>(width: usize, x: &[T]) -> Vec<T> {
    let row = |row: &[T]| {
        let top = row.iter().copied().fold(T::NEG_INFINITY, T::max);
        let total = sum(width, |i| (row[i] - top).exp());
        row.iter()
            .map(|&x| (x - top).exp() / total)
            .collect::<Vec<T>>()
    };
    x.chunks_exact(width).flat_map(row).collect()
}

/// 1 / (1 + e⁻ˣ) of each number.
pub fn sigmoid<T: Float>(x: &[T]) -> Vec<T> {
    x.iter().map(|&x| T::ONE / (T::ONE + (-x).exp())).collect()
}
