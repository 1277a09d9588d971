//! Losses over candidates.

use super::cross_entropy::Gradients;
use super::softplus::of as softplus;
use super::{Float, sum};
use crate::op::candidates::{CandidateLoss, Shape};

fn sigmoid<T: Float>(x: T) -> T {
    (-softplus(-x)).exp()
}

/// The losses, and the gradients of `scale` times their sum. See [`crate::op::candidates::forward`].
pub fn forward_backward<T: Float>(
    shape: Shape,
    hidden: &[T],
    table: &[T],
    bias: Option<&[T]>,
    ids: &[u32],
    correction: Option<&[T]>,
    loss: CandidateLoss,
    scale: T,
) -> (Vec<T>, Gradients<T>) {
    let Shape {
        rows,
        width,
        classes,
        candidates,
    } = shape;
    let mut losses = Vec::with_capacity(rows);
    let mut grads = Gradients {
        d_hidden: vec![T::ZERO; rows * width],
        d_table: vec![T::ZERO; classes * width],
        d_bias: vec![T::ZERO; classes],
    };
    for row in 0..rows {
        let ids = &ids[row * candidates..(row + 1) * candidates];
        let logit = |c: usize| {
            let id = ids[c] as usize;
            let dot = sum(width, |i| hidden[row * width + i] * table[id * width + i]);
            let dot = bias.map_or(dot, |bias| dot + bias[id]);
            correction.map_or(dot, |correction| dot - correction[row * candidates + c])
        };
        let z: Vec<T> = (0..candidates).map(logit).collect();
        let (value, d_z) = match loss {
            CandidateLoss::SampledSoftmax => softmax(&z, ids),
            CandidateLoss::Bce => logistic(&z, T::ONE),
            CandidateLoss::Gbce { beta } => logistic(&z, T::from_f64(f64::from(beta))),
        };
        losses.push(value);
        for (&id, d) in ids.iter().zip(d_z) {
            let (id, d) = (id as usize, scale * d);
            grads.d_bias[id] += d;
            for i in 0..width {
                grads.d_hidden[row * width + i] += d * table[id * width + i];
                grads.d_table[id * width + i] += d * hidden[row * width + i];
            }
        }
    }
    (losses, grads)
}

fn softmax<T: Float>(z: &[T], ids: &[u32]) -> (T, Vec<T>) {
    let counts = |c: usize| c == 0 || ids[c] != ids[0];
    let max = (0..z.len())
        .filter(|&c| counts(c))
        .fold(T::NEG_INFINITY, |max, c| max.max(z[c]));
    let weight = |c: usize| {
        if counts(c) {
            (z[c] - max).exp()
        } else {
            T::ZERO
        }
    };
    let total = sum(z.len(), weight);
    let d = |c: usize| weight(c) / total - if c == 0 { T::ONE } else { T::ZERO };
    (max + total.ln() - z[0], (0..z.len()).map(d).collect())
}

fn logistic<T: Float>(z: &[T], beta: T) -> (T, Vec<T>) {
    let value = beta * softplus(-z[0]) + sum(z.len() - 1, |c| softplus(z[c + 1]));
    let d = |c: usize| {
        if c == 0 {
            -beta * sigmoid(-z[0])
        } else {
            sigmoid(z[c])
        }
    };
    (value, (0..z.len()).map(d).collect())
}
