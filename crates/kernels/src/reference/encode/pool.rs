//! One vector per sequence by plain loops.

use crate::op::encode::pool::Pool;
use crate::reference::{Float, sum};

/// One vector per sequence of `x: [N, D]`, the first `skip` tokens of each left out.
pub fn pool<T: Float>(how: Pool, width: usize, x: &[T], offsets: &[u32], skip: &[u32]) -> Vec<T> {
    let mut out = Vec::new();
    for (b, bounds) in offsets.windows(2).enumerate() {
        let (start, end) = (bounds[0] as usize, bounds[1] as usize);
        let from = (start + skip.get(b).map_or(0, |&skip| skip as usize)).min(end);
        let number = T::from_f64((end - from) as f64);
        for i in 0..width {
            let at = |token: usize| x[token * width + i];
            let total = sum(end - from, |n| at(from + n));
            let place = |n: usize| T::from_f64((from + n + 1 - start) as f64);
            out.push(match how {
                Pool::First => at(start),
                Pool::Last => at(end - 1),
                _ if from == end => T::ZERO,
                Pool::Max => (from..end).map(at).fold(T::NEG_INFINITY, T::max),
                Pool::Mean => total / number,
                Pool::MeanSqrtLen => total / number.sqrt(),
                Pool::WeightedMean => {
                    sum(end - from, |n| at(from + n) * place(n)) / sum(end - from, place)
                }
            });
        }
    }
    out
}

/// Each row of `x: [N, D]` divided by its Euclidean norm, or by 10⁻¹² if that is larger.
pub fn normalize<T: Float>(width: usize, x: &[T]) -> Vec<T> {
    let row = |row: &[T]| {
        let norm = sum(width, |i| row[i] * row[i]).sqrt();
        let norm = norm.max(T::from_f64(1e-12));
        row.iter().map(|&x| x / norm).collect::<Vec<T>>()
    };
    x.chunks_exact(width).flat_map(row).collect()
}
