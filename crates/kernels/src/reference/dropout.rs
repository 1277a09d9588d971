//! Dropout by plain loops.

use super::Float;
use crate::op::dropout::Dropout;

/// What element (`row`, `col`) is multiplied by: 0, or 1 / (1 - prob).
pub fn factor<T: Float>(dropout: Dropout, row: u64, col: u32) -> T {
    if dropout.prob == 0.0 {
        T::ONE
    } else if dropout.keep(row, col) {
        T::ONE / (T::ONE - T::from_f64(f64::from(dropout.prob)))
    } else {
        T::ZERO
    }
}

/// `out = residual + dropout(x)`, all `[rows, width]`.
pub fn add_forward<T: Float>(
    rows: usize,
    width: usize,
    x: &[T],
    residual: Option<&[T]>,
    dropout: Dropout,
    out: &mut [T],
) {
    for row in 0..rows {
        for col in 0..width {
            let at = row * width + col;
            let added = residual.map_or(T::ZERO, |residual| residual[at]);
            out[at] = added + x[at] * factor(dropout, row as u64, col as u32);
        }
    }
}

/// `d_x = d_out` where kept, scaled as in [`add_forward`]; the residual's gradient is `d_out` itself.
pub fn backward<T: Float>(rows: usize, width: usize, dropout: Dropout, d_out: &[T], d_x: &mut [T]) {
    add_forward(rows, width, d_out, None, dropout, d_x);
}
