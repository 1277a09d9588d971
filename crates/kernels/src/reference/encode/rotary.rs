//! Rotary positions by plain loops.
//!
//! # Source
//! Su et al., `RoFormer`, arXiv:2104.09864, §3.4.

use crate::reference::Float;

/// Turns pairs of channels of every query and key of `qkv: [N, 3·H·K]` in place.
pub fn rotate<T: Float>(
    frequencies: &[f32],
    amplitude: f32,
    interleaved: bool,
    offsets: &[u32],
    heads: usize,
    head_width: usize,
    qkv: &mut [T],
) {
    let pairs = frequencies.len();
    for bounds in offsets.windows(2) {
        for token in bounds[0]..bounds[1] {
            for head in 0..2 * heads {
                let from = token as usize * 3 * heads * head_width + head * head_width;
                for (i, frequency) in frequencies.iter().enumerate() {
                    let angle = f64::from(frequency * (token - bounds[0]) as f32);
                    let amplitude = f64::from(amplitude);
                    let cos = T::from_f64(angle.cos() * amplitude);
                    let sin = T::from_f64(angle.sin() * amplitude);
                    let (a, b) = if interleaved {
                        (from + 2 * i, from + 2 * i + 1)
                    } else {
                        (from + i, from + pairs + i)
                    };
                    let (x, y) = (qkv[a], qkv[b]);
                    qkv[a] = x * cos - y * sin;
                    qkv[b] = y * cos + x * sin;
                }
            }
        }
    }
}
