//! A convolution of each channel by itself, by plain loops.

use super::Float;
use crate::op::depthwise::Depthwise;

/// # Shapes
/// `x: [N, D]`, `weight: [before + 1 + after, D]`, `bias: [D]` → `[N, D]`
pub fn forward<T: Float>(with: &Depthwise<'_>, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let width = with.width;
    let mut output = Vec::with_capacity(x.len());
    for w in with.offsets.windows(2) {
        for token in w[0] as usize..w[1] as usize {
            for channel in 0..width {
                let mut sum = bias[channel];
                for tap in 0..with.taps() {
                    let seen = (token + tap).checked_sub(with.sides[0]);
                    if let Some(seen) = seen
                        && (w[0] as usize..w[1] as usize).contains(&seen)
                    {
                        sum += weight[tap * width + channel] * x[seen * width + channel];
                    }
                }
                output.push(if with.silu {
                    sum / (T::ONE + (-sum).exp())
                } else {
                    sum
                });
            }
        }
    }
    output
}
