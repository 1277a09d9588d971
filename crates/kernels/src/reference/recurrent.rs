//! A gated recurrent unit by plain loops.
//!
//! # Source
//! Cho et al., EMNLP 2014, arXiv:1406.1078, with the reset gate after the product.

use super::{Float, sum};
use crate::op::recurrent::Recurrent;

/// The states.
///
/// # Shapes
/// `input: [N, 3U]`; `weight: [3U, U]`; `bias: [3U]` → `[N, U]`
pub fn forward<T: Float>(unit: &Recurrent<'_>, input: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let width = unit.width;
    let sigmoid = |x: T| T::ONE / (T::ONE + (-x).exp());
    // tanh(x) = 2σ(2x) − 1
    let tanh = |x: T| {
        let half = sigmoid(x + x);
        half + half - T::ONE
    };
    let mut output = vec![T::ZERO; input.len() / 3];
    for w in unit.offsets.windows(2) {
        let mut tokens: Vec<usize> = (w[0] as usize..w[1] as usize).collect();
        if unit.backward {
            tokens.reverse();
        }
        let mut held = vec![T::ZERO; width];
        for at in tokens {
            let product =
                |row: usize| sum(width, |i| weight[row * width + i] * held[i]) + bias[row];
            let given = |row: usize| input[at * 3 * width + row];
            let next = (0..width).map(|i| {
                let reset = sigmoid(given(i) + product(i));
                let update = sigmoid(given(width + i) + product(width + i));
                let new = tanh(given(2 * width + i) + reset * product(2 * width + i));
                (T::ONE - update) * new + update * held[i]
            });
            held = next.collect();
            output[at * width..(at + 1) * width].copy_from_slice(&held);
        }
    }
    output
}
