//! Softmax cross-entropy against a table.

use super::{Float, sum};
use crate::op::cross_entropy::Shape;

/// Gradients of `scale · Σ losses`.
pub struct Gradients<T> {
    /// `[M, D]`
    pub d_hidden: Vec<T>,
    /// `[V, D]`
    pub d_table: Vec<T>,
    /// `[V]`
    pub d_bias: Vec<T>,
}

fn logits<T: Float>(
    shape: Shape,
    hidden: &[T],
    table: &[T],
    bias: Option<&[T]>,
    row: usize,
) -> Vec<T> {
    let Shape { width, classes, .. } = shape;
    let logit = |v: usize| {
        let dot = sum(width, |i| hidden[row * width + i] * table[v * width + i]);
        bias.map_or(dot, |bias| dot + bias[v])
    };
    (0..classes).map(logit).collect()
}

fn log_sum_exp<T: Float>(z: &[T]) -> T {
    let max = z.iter().fold(T::NEG_INFINITY, |max, &z| max.max(z));
    max + sum(z.len(), |v| (z[v] - max).exp()).ln()
}

/// −log softmax at the target, for each row. See [`crate::op::cross_entropy::forward`].
pub fn forward<T: Float>(
    shape: Shape,
    hidden: &[T],
    table: &[T],
    bias: Option<&[T]>,
    targets: &[u32],
) -> Vec<T> {
    let loss = |row: usize| {
        let z = logits(shape, hidden, table, bias, row);
        log_sum_exp(&z) - z[targets[row] as usize]
    };
    (0..shape.rows).map(loss).collect()
}

/// Gradients of `scale` times the sum of [`forward`].
pub fn backward<T: Float>(
    shape: Shape,
    hidden: &[T],
    table: &[T],
    bias: Option<&[T]>,
    targets: &[u32],
    scale: T,
) -> Gradients<T> {
    let Shape {
        rows,
        width,
        classes,
    } = shape;
    let mut grads = Gradients {
        d_hidden: vec![T::ZERO; rows * width],
        d_table: vec![T::ZERO; classes * width],
        d_bias: vec![T::ZERO; classes],
    };
    for row in 0..rows {
        let z = logits(shape, hidden, table, bias, row);
        let total = log_sum_exp(&z);
        for v in 0..classes {
            let target = if v == targets[row] as usize {
                T::ONE
            } else {
                T::ZERO
            };
            let d = scale * ((z[v] - total).exp() - target);
            grads.d_bias[v] += d;
            for i in 0..width {
                grads.d_hidden[row * width + i] += d * table[v * width + i];
                grads.d_table[v * width + i] += d * hidden[row * width + i];
            }
        }
    }
    grads
}
