//! Normalisation of rows by plain loops.
//!
//! # Source
//! Ba, Kiros & Hinton, 2016, arXiv:1607.06450; Zhang & Sennrich, arXiv:1910.07467.

use crate::op::encode::norm::Norm;
use crate::reference::{Float, sum};

/// Every row of `x: [N, D]` normed.
pub fn norm<T: Float>(norm: &Norm, x: &[T]) -> Vec<T> {
    let width = norm.gain.len();
    let count = T::from_f64(width as f64);
    let row = |row: &[T]| {
        let mean = if norm.centred {
            sum(width, |i| row[i]) / count
        } else {
            T::ZERO
        };
        let square = sum(width, |i| (row[i] - mean) * (row[i] - mean)) / count;
        let scale = T::ONE / (square + T::from_f64(norm.eps.into())).sqrt();
        let out = |i: usize| {
            let bias = norm.bias.map_or(0.0, |bias| bias[i]);
            (row[i] - mean) * scale * T::from_f64(norm.gain[i].into()) + T::from_f64(bias.into())
        };
        (0..width).map(out).collect::<Vec<T>>()
    };
    x.chunks_exact(width).flat_map(row).collect()
}
