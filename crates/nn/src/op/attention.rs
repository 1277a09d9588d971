use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::attention::{Attention, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::{Dropout, floats, on_host};

/// Multi-head softmax attention within each sequence of a packed batch, scores scaled by `1/√K`.
///
/// # Shapes
/// `qkv: [N, 3D]`, queries, keys and values side by side; `offsets: B + 1` row numbers, sequence `b` being rows
/// `offsets[b]..offsets[b + 1]` → `[N, D]`
///
/// # Source
/// Vaswani et al., NeurIPS 2017, §3.2; computed without a score matrix as in Dao, `FlashAttention-2`, 2023,
/// arXiv:2307.08691.
pub fn attention(
    qkv: Tensor<2>,
    offsets: &Arc<[u32]>,
    heads: usize,
    causal: bool,
    dropout: Dropout,
) -> Tensor<2> {
    if !on_host(&qkv.device()) {
        return composed(qkv, offsets, heads, causal, dropout);
    }
    let op = Op {
        offsets: offsets.clone(),
        heads,
        causal,
        dropout,
    };
    apply(Operands::One(qkv.into_dispatch()), op)
}

/// [`attention`] from Burn's operations, one sequence after the other.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(
    qkv: Tensor<2>,
    offsets: &Arc<[u32]>,
    heads: usize,
    causal: bool,
    dropout: Dropout,
) -> Tensor<2> {
    let device = qkv.device();
    let width = qkv.dims()[1] / 3;
    let head_width = width / heads;
    let sequences = offsets.windows(2).filter(|w| w[0] < w[1]).map(|w| {
        let (from, to) = (w[0] as usize, w[1] as usize);
        let len = to - from;
        // [T, 3D] → [3, H, T, K]
        let parts = qkv
            .clone()
            .slice([from..to, 0..3 * width])
            .reshape([len, 3, heads, head_width])
            .permute([1, 2, 0, 3]);
        let part = |index: usize| {
            parts
                .clone()
                .slice([index..index + 1, 0..heads, 0..len, 0..head_width])
                .reshape([heads, len, head_width])
        };
        let mut scores = part(0)
            .matmul(part(1).transpose())
            .mul_scalar(1.0 / (head_width as f32).sqrt());
        if causal {
            let future = (0..len * len)
                .map(|i| {
                    if i % len > i / len {
                        f32::NEG_INFINITY
                    } else {
                        0.0
                    }
                })
                .collect();
            scores = scores + floats(future, [1, len, len], &device);
        }
        let mut probabilities = activation::softmax(scores, 2);
        if dropout.prob > 0.0 {
            let kept = 1.0 / (1.0 - dropout.prob);
            let factor = |head: usize, query: usize, key: usize| {
                let row = ((from + query) * heads + head) as u64;
                if dropout.keep(row, key as u32) {
                    kept
                } else {
                    0.0
                }
            };
            let factors = (0..heads * len * len)
                .map(|i| factor(i / (len * len), i / len % len, i % len))
                .collect();
            probabilities = probabilities * floats(factors, [heads, len, len], &device);
        }
        // [H, T, K] → [T, D]
        probabilities
            .matmul(part(2))
            .permute([1, 0, 2])
            .reshape([len, width])
    });
    Tensor::cat(sequences.collect(), 0)
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    heads: usize,
    causal: bool,
    dropout: Dropout,
}

impl Op {
    fn shape(&self, qkv: &View<'_>) -> Attention<'_> {
        Attention {
            offsets: &self.offsets,
            heads: self.heads,
            width: qkv.shape[1] / 3,
            causal: self.causal,
            dropout: self.dropout,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward {
        let qkv = &inputs[0];
        let (rows, width) = (qkv.shape[0], qkv.shape[1] / 3);
        let mut output = vec![0.0; rows * width];
        let mut lse = vec![0.0; rows * self.heads];
        forward(
            Isa::detect(),
            &self.shape(qkv),
            qkv.data,
            &mut output,
            &mut lse,
        );
        Forward {
            shape: vec![rows, width],
            output,
            saved: if tracked { vec![lse] } else { Vec::new() },
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let qkv = &past.inputs[0];
        let mut d_qkv = vec![0.0; qkv.data.len()];
        let shape = self.shape(qkv);
        backward(
            Isa::detect(),
            &shape,
            qkv.data,
            past.output,
            &past.saved[0],
            d_output,
            &mut d_qkv,
        );
        vec![Some(d_qkv)]
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }

    fn keeps_output(&self) -> bool {
        true
    }
}
