//! Layer normalisation of a residual sum by plain loops.
//!
//! # Source
//! Ba, Kiros & Hinton, Layer Normalization, 2016, arXiv:1607.06450.

use super::{Float, dropout, sum};
use crate::op::dropout::Dropout;

/// `out = gamma * normalized + beta`, where `normalized` is `residual + dropout(x)` with each row at mean 0 and variance 1.
///
/// # Shapes
/// `x`, `residual`, `out`, `normalized`: `[N, D]`; `gamma`, `beta`: `[D]`; `rstd`: `[N]`.
pub fn add_norm_forward<T: Float>(
    rows: usize,
    width: usize,
    x: &[T],
    residual: Option<&[T]>,
    dropout: Dropout,
    gamma: &[T],
    beta: &[T],
    eps: T,
    out: &mut [T],
    normalized: &mut [T],
    rstd: &mut [T],
) {
    dropout::add_forward(rows, width, x, residual, dropout, normalized);
    let count = T::from_f64(width as f64);
    for (row, rstd) in rstd.iter_mut().enumerate() {
        let line = row * width..(row + 1) * width;
        let values = &mut normalized[line.clone()];
        let mean = sum(width, |i| values[i]) / count;
        let variance = sum(width, |i| (values[i] - mean) * (values[i] - mean)) / count;
        *rstd = T::ONE / (variance + eps).sqrt();
        for (i, (value, out)) in values.iter_mut().zip(&mut out[line]).enumerate() {
            *value = (*value - mean) * *rstd;
            *out = *value * gamma[i] + beta[i];
        }
    }
}

/// Gradients of [`add_norm_forward`]; every output is overwritten.
pub fn add_norm_backward<T: Float>(
    rows: usize,
    width: usize,
    normalized: &[T],
    rstd: &[T],
    dropout: Dropout,
    gamma: &[T],
    d_out: &[T],
    d_x: &mut [T],
    d_residual: Option<&mut [T]>,
    d_gamma: &mut [T],
    d_beta: &mut [T],
) {
    let count = T::from_f64(width as f64);
    for i in 0..width {
        d_gamma[i] = sum(rows, |row| {
            d_out[row * width + i] * normalized[row * width + i]
        });
        d_beta[i] = sum(rows, |row| d_out[row * width + i]);
    }
    for (row, &rstd) in rstd.iter().enumerate() {
        let at = row * width;
        let mean = sum(width, |i| d_out[at + i] * gamma[i]) / count;
        let slope = sum(width, |i| d_out[at + i] * gamma[i] * normalized[at + i]) / count;
        for i in 0..width {
            d_x[at + i] = (d_out[at + i] * gamma[i] - mean - normalized[at + i] * slope) * rstd;
        }
    }
    if let Some(d_residual) = d_residual {
        d_residual.copy_from_slice(d_x);
    }
    for row in 0..rows {
        for col in 0..width {
            let d_x = &mut d_x[row * width + col];
            *d_x = *d_x * dropout::factor(dropout, row as u64, col as u32);
        }
    }
}
