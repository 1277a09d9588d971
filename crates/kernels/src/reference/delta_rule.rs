//! A state whose content at a key is replaced by a share, by plain loops.
//!
//! # Source
//! Yang et al., `NeurIPS` 2024, arXiv:2406.06484, §2.

use super::{Float, sum};
use crate::op::delta_rule::{DeltaRule, EPS};

/// `S ← S + β k (v − Sᵀk)ᵀ`, `o = Sᵀq / √K`, queries and keys made as long as 1.
///
/// # Shapes
/// `qkv: [N, 3D]`, `strength: [N, directions · H]` → `[N, D]`
pub fn forward<T: Float>(rule: &DeltaRule<'_>, qkv: &[T], strength: &[T]) -> Vec<T> {
    let (width, heads) = (rule.width, rule.heads);
    let size = width / heads;
    let mut output = vec![T::ZERO; qkv.len() / 3];
    for (w, head) in rule
        .offsets
        .windows(2)
        .flat_map(|w| (0..heads).map(move |head| (w, head)))
    {
        for direction in 0..rule.directions {
            let mut tokens: Vec<usize> = (w[0] as usize..w[1] as usize).collect();
            if direction == 1 {
                tokens.reverse();
            }
            let mut state = vec![T::ZERO; size * size];
            for at in tokens {
                let part =
                    |part: usize| &qkv[at * 3 * width + part * width + head * size..][..size];
                let unit = |x: &[T]| -> Vec<T> {
                    let length = (sum(size, |i| x[i] * x[i]) + T::from_f64(EPS)).sqrt();
                    x.iter().map(|&x| x / length).collect()
                };
                let (query, key, value) = (unit(part(0)), unit(part(1)), part(2));
                let share = strength[at * rule.directions * heads + direction * heads + head];
                for j in 0..size {
                    let error = value[j] - sum(size, |i| state[i * size + j] * key[i]);
                    for i in 0..size {
                        state[i * size + j] += share * key[i] * error;
                    }
                    output[at * width + head * size + j] +=
                        sum(size, |i| state[i * size + j] * query[i])
                            / T::from_f64(size as f64).sqrt();
                }
            }
        }
    }
    output
}
