//! Rows over the roots of their mean squares, by plain loops.
//!
//! # Source
//! Zhang & Sennrich, `NeurIPS` 2019, arXiv:1910.07467.

use super::{Float, sum};

/// # Shapes
/// `x, gate: [N, D]`, `gain: [D]` → `[N, D]`
pub fn forward<T: Float>(x: &[T], gain: &[T], gate: Option<&[T]>, eps: T) -> Vec<T> {
    let width = gain.len();
    let mut output = Vec::with_capacity(x.len());
    for (row, x) in x.chunks(width.max(1)).enumerate() {
        let square = sum(width, |i| x[i] * x[i]) / T::from_f64(width as f64);
        for i in 0..width {
            let mut value = x[i] / (square + eps).sqrt() * gain[i];
            if let Some(gate) = gate {
                let gate = gate[row * width + i];
                value = value * gate / (T::ONE + (-gate).exp());
            }
            output.push(value);
        }
    }
    output
}
