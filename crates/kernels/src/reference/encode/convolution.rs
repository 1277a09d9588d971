//! A convolution along each sequence by plain loops.

use crate::op::encode::convolution::Convolution;
use crate::reference::Float;

/// Convolves each sequence of `x: [N, D]`, which is zero outside.
pub fn convolve<T: Float>(with: &Convolution, offsets: &[u32], x: &[T]) -> Vec<T> {
    let part = with.width / with.groups;
    let mut out = Vec::new();
    for bounds in offsets.windows(2) {
        for token in bounds[0]..bounds[1] {
            for channel in 0..with.width {
                let mut total = T::from_f64(with.bias[channel].into());
                for j in 0..with.kernel {
                    let other = i64::from(token) + j as i64 - (with.kernel / 2) as i64;
                    if other < i64::from(bounds[0]) || other >= i64::from(bounds[1]) {
                        continue;
                    }
                    for i in 0..part {
                        let weight = with.weight[(channel * part + i) * with.kernel + j];
                        let from = channel / part * part + i;
                        total += T::from_f64(weight.into()) * x[other as usize * with.width + from];
                    }
                }
                out.push(total);
            }
        }
    }
    out
}
