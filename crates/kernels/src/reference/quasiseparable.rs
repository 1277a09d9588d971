//! Two states that decay, are written and read as each token says, by plain loops.
//!
//! # Source
//! Hwang et al., `NeurIPS` 2024, arXiv:2407.09941, §4.

use super::{Float, sum};
use crate::op::quasiseparable::Quasiseparable;

/// `h_t = e^(Δ_t r) h_(t−1) + Δ_t B_t v_tᵀ`; the next token gets `h_tᵀ C_t`, from both ends, and its own share of itself.
///
/// # Shapes
/// `mixed: [N, H·P + 4S]`, `steps: [N, 2H]`, `own: [N, H]`, `rate: [H]` → `[N, H·P]`
pub fn forward<T: Float>(
    scan: &Quasiseparable<'_>,
    [mixed, steps, own, rate]: [&[T]; 4],
) -> Vec<T> {
    let (heads, size, state) = (scan.heads, scan.head_width, scan.state);
    let (width, stride) = (heads * size, heads * size + 4 * state);
    let mut output = vec![T::ZERO; own.len() * size];
    for w in scan.offsets.windows(2) {
        let tokens = w[0] as usize..w[1] as usize;
        for (at, channel) in tokens
            .clone()
            .flat_map(|at| (0..width).map(move |c| (at, c)))
        {
            let share = own[at * heads + channel / size];
            output[at * width + channel] = share * mixed[at * stride + channel];
        }
        for (head, direction) in (0..heads).flat_map(|head| [(head, 0), (head, 1)]) {
            let mut tokens: Vec<usize> = tokens.clone().collect();
            if direction == 1 {
                tokens.reverse();
            }
            let mut held = vec![T::ZERO; state * size];
            for (step, &at) in tokens.iter().enumerate() {
                let side = |part: usize| {
                    &mixed[at * stride + width + (2 * direction + part) * state..][..state]
                };
                let (write, read) = (side(0), side(1));
                let delta = steps[at * 2 * heads + direction * heads + head];
                for i in 0..state {
                    for j in 0..size {
                        let written = delta * write[i] * mixed[at * stride + head * size + j];
                        let h = &mut held[i * size + j];
                        *h = (delta * rate[head]).exp() * *h + written;
                    }
                }
                if let Some(next) = tokens.get(step + 1) {
                    for j in 0..size {
                        output[next * width + head * size + j] +=
                            sum(state, |i| held[i * size + j] * read[i]);
                    }
                }
            }
        }
    }
    output
}
