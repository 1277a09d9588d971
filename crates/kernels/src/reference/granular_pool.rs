//! Pooling as a whole, by segments and by neighbours, by plain loops.
//!
//! # Source
//! Tan et al., ICLR 2022, arXiv:2110.02442, §3.

use super::{Float, sum};
use crate::op::granular_pool::GranularPool;

/// # Shapes
/// `maps: [N, 5D]`, query, key, gate, segment and local → `[N, D]`
pub fn forward<T: Float>(pool: &GranularPool<'_>, maps: &[T]) -> Vec<T> {
    let (width, size) = (pool.width, pool.width / pool.heads);
    let mut output = vec![T::ZERO; maps.len() / 5];
    for w in pool.offsets.windows(2) {
        let (start, tokens) = (w[0] as usize, (w[1] - w[0]) as usize);
        let count = T::from_f64(tokens as f64);
        let map = |map: usize, token: usize, channel: usize| {
            maps[((start + token) * 5 + map) * width + channel]
        };
        let mean: Vec<T> = (0..width)
            .map(|c| sum(tokens, |token| map(0, token, c)) / count)
            .collect();
        for channel in 0..width {
            let first = channel / size * size;
            let weights: Vec<T> = (0..tokens)
                .map(|token| {
                    let score = sum(size, |i| map(1, token, first + i) * mean[first + i]);
                    (score / T::from_f64(size as f64).sqrt()).exp()
                })
                .collect();
            let total = sum(tokens, |token| weights[token]);
            let whole = sum(tokens, |token| weights[token] * map(1, token, channel)) / total;
            let largest = |part: usize, from: usize, to: usize| {
                (from..to.min(tokens)).fold(T::NEG_INFINITY, |most, token| {
                    most.max(map(part, token, channel))
                })
            };
            for token in 0..tokens {
                let segment = token / pool.segment * pool.segment;
                let segment = largest(3, segment, segment + pool.segment);
                let local = largest(
                    4,
                    token.saturating_sub(pool.radius),
                    token + pool.radius + 1,
                );
                output[(start + token) * width + channel] =
                    (whole + segment) * map(2, token, channel) + local;
            }
        }
    }
    output
}
