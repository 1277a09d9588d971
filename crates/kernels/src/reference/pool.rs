//! The mean of the tokens around each, less the token itself, by plain loops.

use super::{Float, sum};
use crate::op::pool::Pool;

/// `x: [N, D]` → `[N, D]`
pub fn forward<T: Float>(pool: &Pool<'_>, x: &[T]) -> Vec<T> {
    let width = pool.width;
    let mut output = Vec::with_capacity(x.len());
    for w in pool.offsets.windows(2) {
        let (start, end) = (w[0] as usize, w[1] as usize);
        for token in start..end {
            let first = start.max(token.saturating_sub(pool.sides[0]));
            let count = end.min(token + pool.sides[1] + 1) - first;
            for channel in 0..width {
                let around = sum(count, |i| x[(first + i) * width + channel]);
                output.push(around / T::from_f64(count as f64) - x[token * width + channel]);
            }
        }
    }
    output
}
