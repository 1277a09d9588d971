//! Packed multi-head attention by plain loops.
//!
//! # Source
//! Vaswani et al., Attention Is All You Need, NIPS 2017, arXiv:1706.03762, §3.2.

use super::{Float, dropout, sum};
use crate::op::attention::Attention;

/// Where the parts of one head of one sequence lie.
struct Head<'a> {
    shape: &'a Attention<'a>,
    /// First token of the sequence.
    start: usize,
    tokens: usize,
    /// Which head.
    index: usize,
    /// K: width of the head.
    width: usize,
}

impl Head<'_> {
    /// Places in `[N, 3D]`: `part` 0 is the query, 1 the key, 2 the value.
    fn qkv(&self, part: usize, token: usize, i: usize) -> usize {
        (self.start + token) * 3 * self.shape.width
            + part * self.shape.width
            + self.index * self.width
            + i
    }

    /// Places in `[N, D]`.
    fn out(&self, token: usize, i: usize) -> usize {
        (self.start + token) * self.shape.width + self.index * self.width + i
    }

    /// Places in `[N, H]`.
    fn row(&self, token: usize) -> usize {
        (self.start + token) * self.shape.heads + self.index
    }

    /// Keys that `query` may attend to.
    fn keys(&self, query: usize) -> impl Iterator<Item = usize> + Clone {
        let (causal, window, global) = (self.shape.causal, self.shape.window, self.shape.global);
        (0..self.tokens).filter(move |&key| {
            let is_near = window.is_none_or(|window| key.abs_diff(query) <= window);
            !(causal && key > query) && (is_near || key < global || query < global)
        })
    }

    fn score<T: Float>(&self, qkv: &[T], query: usize, key: usize) -> T {
        let dot = sum(self.width, |i| {
            qkv[self.qkv(0, query, i)] * qkv[self.qkv(1, key, i)]
        });
        dot / T::from_f64(self.width as f64).sqrt()
    }

    fn factor<T: Float>(&self, query: usize, key: usize) -> T {
        dropout::factor(self.shape.dropout, self.row(query) as u64, key as u32)
    }
}

fn each_head(shape: &Attention, mut f: impl FnMut(&Head)) {
    for bounds in shape.offsets.windows(2) {
        for index in 0..shape.heads {
            f(&Head {
                shape,
                start: bounds[0] as usize,
                tokens: (bounds[1] - bounds[0]) as usize,
                index,
                width: shape.width / shape.heads,
            });
        }
    }
}

/// Each token becomes the mean of its sequence's values, weighted by the softmax of its scores.
///
/// # Shapes
/// `qkv: [N, 3D]`, `out: [N, D]`, `lse: [N, H]`, the logarithm of each softmax's denominator.
pub fn forward<T: Float>(shape: &Attention, qkv: &[T], out: &mut [T], lse: &mut [T]) {
    each_head(shape, |head| {
        for query in 0..head.tokens {
            let keys = head.keys(query);
            let scores = keys.map(|key| (key, head.score(qkv, query, key)));
            let scores: Vec<(usize, T)> = scores.collect();
            let top = scores.iter().fold(T::NEG_INFINITY, |top, s| top.max(s.1));
            let total = sum(scores.len(), |at| (scores[at].1 - top).exp());
            lse[head.row(query)] = top + total.ln();
            for i in 0..head.width {
                out[head.out(query, i)] = sum(scores.len(), |at| {
                    let (key, score) = scores[at];
                    (score - top).exp() / total * head.factor(query, key) * qkv[head.qkv(2, key, i)]
                });
            }
        }
    });
}

/// Gradient of [`forward`], overwriting `d_qkv: [N, 3D]`.
pub fn backward<T: Float>(
    shape: &Attention,
    qkv: &[T],
    out: &[T],
    lse: &[T],
    d_out: &[T],
    d_qkv: &mut [T],
) {
    d_qkv.fill(T::ZERO);
    let scale = |width: usize| T::ONE / T::from_f64(width as f64).sqrt();
    each_head(shape, |head| {
        for query in 0..head.tokens {
            let own = sum(head.width, |i| {
                d_out[head.out(query, i)] * out[head.out(query, i)]
            });
            for key in head.keys(query) {
                let prob = (head.score(qkv, query, key) - lse[head.row(query)]).exp();
                let factor = head.factor(query, key);
                let d_prob = factor
                    * sum(head.width, |i| {
                        d_out[head.out(query, i)] * qkv[head.qkv(2, key, i)]
                    });
                let d_score = prob * (d_prob - own) * scale(head.width);
                for i in 0..head.width {
                    d_qkv[head.qkv(0, query, i)] += d_score * qkv[head.qkv(1, key, i)];
                    d_qkv[head.qkv(1, key, i)] += d_score * qkv[head.qkv(0, query, i)];
                    d_qkv[head.qkv(2, key, i)] += prob * factor * d_out[head.out(query, i)];
                }
            }
        }
    });
}
