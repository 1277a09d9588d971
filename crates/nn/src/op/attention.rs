use std::sync::Arc;

use burn::tensor::{Device, Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::attention::{Attention, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::padded::{HIDDEN, Padded};
use super::{Dropout, dropout_factors, floats, on_host, product};

/// Which tokens of its sequence a token sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    /// None after it.
    pub causal: bool,
    /// Those no further away; all if none.
    pub window: Option<usize>,
    /// Tokens at the start of each sequence that see and are seen whatever the window is.
    pub global: usize,
}

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
    sight: Sight,
    dropout: Dropout,
) -> Tensor<2> {
    if !on_host(&qkv.device()) {
        return composed(qkv, offsets, heads, sight, dropout);
    }
    let op = Op {
        offsets: offsets.clone(),
        heads,
        sight,
        dropout,
    };
    apply(Operands::One(qkv.into_dispatch()), op)
}

/// [`attention`] from Burn's operations, for sequences of similar lengths at once.
pub fn composed(
    qkv: Tensor<2>,
    offsets: &Arc<[u32]>,
    heads: usize,
    sight: Sight,
    dropout: Dropout,
) -> Tensor<2> {
    let device = qkv.device();
    let width = qkv.dims()[1] / 3;
    let head_width = width / heads;
    let padded = Padded::new(offsets);
    let groups = padded.groups.iter().zip(padded.spread(qkv));
    let mixed = groups.map(|(group, qkv)| {
        let (count, len) = (group.sequences.len(), group.len);
        // [B·T, 3D] → [B, H, T, K]
        let part = |index: usize| {
            qkv.clone()
                .narrow(1, index * width, width)
                .reshape([count, len, heads, head_width])
                .swap_dims(1, 2)
        };
        let mut scores =
            product(part(0), part(1).transpose()).mul_scalar(1.0 / (head_width as f32).sqrt());
        scores = scores + group.unseen(None, &device);
        if sight.causal {
            scores = scores + future(len, &device);
        }
        if let Some(window) = sight.window {
            scores = scores + beyond(window, sight.global, len, &device);
        }
        let mut probabilities = activation::softmax(scores, 3);
        // Rows are numbered as they lie in the batch.
        let rows = group.sequences.iter().flat_map(|&(from, _)| {
            (0..heads).flat_map(move |head| {
                (0..len).map(move |query| ((from + query) * heads + head) as u64)
            })
        });
        if let Some(factors) = dropout_factors(dropout, rows, len, &device) {
            probabilities = probabilities * factors.reshape([count, heads, len, len]);
        }
        // [B, H, T, K] → [B·T, D]
        product(probabilities, part(2))
            .swap_dims(1, 2)
            .reshape([count * len, width])
    });
    padded.gather(mixed.collect())
}

/// [`HIDDEN`] for keys that come after the query, 0 for the others: `[1, 1, T, T]`.
pub(crate) fn future(len: usize, device: &Device) -> Tensor<4> {
    let hidden = (0..len * len).map(|at| if at % len > at / len { HIDDEN } else { 0.0 });
    floats(hidden.collect(), [1, 1, len, len], device)
}

/// [`HIDDEN`] for pairs of tokens that are further than `window` apart, neither of the first `global`, 0 for the others:
/// `[1, 1, T, T]`.
pub(crate) fn beyond(window: usize, global: usize, len: usize, device: &Device) -> Tensor<4> {
    let hidden = (0..len * len).map(|at| {
        let (query, key) = (at / len, at % len);
        if query.abs_diff(key) > window && query.min(key) >= global {
            HIDDEN
        } else {
            0.0
        }
    });
    floats(hidden.collect(), [1, 1, len, len], device)
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    heads: usize,
    sight: Sight,
    dropout: Dropout,
}

impl Op {
    fn shape(&self, qkv: &View<'_>) -> Attention<'_> {
        Attention {
            offsets: &self.offsets,
            heads: self.heads,
            width: qkv.shape[1] / 3,
            causal: self.sight.causal,
            window: self.sight.window,
            global: self.sight.global,
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
