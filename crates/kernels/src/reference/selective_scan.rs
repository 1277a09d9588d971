//! A state that decays, is written and read as each token says, by plain loops.
//!
//! # Source
//! Gu & Dao, Mamba, 2023, arXiv:2312.00752, §3.2.

use super::Float;
use crate::op::selective_scan::SelectiveScan;

/// `h_t = e^(Δ_t·A) h_(t−1) + Δ_t x_t B_t`, `y_t = Σ_s C_t h_t`.
///
/// # Shapes
/// `x, step: [N, E]`; `write_read: [N, 2S]`; `rate: [E, S]` → `[N, E]`
pub fn forward<T: Float>(
    scan: &SelectiveScan<'_>,
    [x, step, write_read, rate]: [&[T]; 4],
) -> Vec<T> {
    let (width, state) = (scan.width, scan.state);
    let mut output = vec![T::ZERO; x.len()];
    for w in scan.offsets.windows(2) {
        let mut tokens: Vec<usize> = (w[0] as usize..w[1] as usize).collect();
        if scan.backward {
            tokens.reverse();
        }
        let mut held = vec![T::ZERO; width * state];
        for at in tokens {
            for channel in 0..width {
                let delta = step[at * width + channel];
                for s in 0..state {
                    let here = channel * state + s;
                    let [write, read] =
                        [0, state].map(|from| write_read[at * 2 * state + from + s]);
                    let written = delta * x[at * width + channel] * write;
                    held[here] = (delta * rate[here]).exp() * held[here] + written;
                    output[at * width + channel] += held[here] * read;
                }
            }
        }
    }
    output
}
