use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::encoder::{self, Activation};

use super::Linear;
use crate::op;
use crate::weights::Source;

/// Attention of some vectors to others, with a map before each of its three sides and one behind.
///
/// # Source
/// Vaswani et al., Attention Is All You Need, `NeurIPS` 2017, arXiv:1706.03762, §3.2.
#[derive(Module, Debug)]
pub(super) struct Cross {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

/// Of the layers that attention across makes.
pub(super) const NORM: encoder::Norm = encoder::Norm {
    kind: encoder::NormKind::Layer,
    eps: 1e-5,
    bias: true,
};

/// What is attended to.
#[derive(Clone)]
pub(super) struct Seen {
    /// Keys `[B, H, K, T]` and values `[B, H, T, K]`.
    key: Tensor<4>,
    value: Tensor<4>,
}

impl Seen {
    /// The same of some sequences, which may be named several times.
    pub fn select(&self, sequences: &[u32]) -> Self {
        let rows = op::indices(sequences, &self.key.device());
        Self {
            key: self.key.clone().select(0, rows.clone()),
            value: self.value.clone().select(0, rows),
        }
    }
}

impl Cross {
    pub fn new(heads: usize, source: &Source<'_>, name: &str) -> Self {
        let map = |part: &str| Linear::new(true, source, &format!("{name}.{part}"));
        Self {
            query: map("query"),
            key: map("key"),
            value: map("value"),
            output: map("output"),
            heads,
        }
    }

    /// `[B, T, D]` → `[B, H, T, K]`
    fn split(&self, x: Tensor<3>, map: &Linear) -> Tensor<4> {
        let [batch, tokens, width] = x.dims();
        let x = map.forward(x.reshape([batch * tokens, width]), Activation::Identity);
        x.reshape([batch, tokens, self.heads, width / self.heads])
            .swap_dims(1, 2)
    }

    /// # Shapes
    /// `x: [B, T, D]`
    pub fn see(&self, x: &Tensor<3>) -> Seen {
        Seen {
            key: self.split(x.clone(), &self.key).swap_dims(2, 3),
            value: self.split(x.clone(), &self.value),
        }
    }

    /// What is added to the scores, as of [`hidden`] or [`op::future`], says which of `T` are not seen.
    ///
    /// # Shapes
    /// `x: [B, U, D]` → `[B, U, D]`
    pub fn forward(&self, x: Tensor<3>, seen: &Seen, unseen: Tensor<4>) -> Tensor<3> {
        let [batch, count, width] = x.dims();
        let scale = ((width / self.heads) as f32).sqrt();
        let query = self.split(x, &self.query).div_scalar(scale);
        let shares = activation::softmax(query.matmul(seen.key.clone()) + unseen, 3);
        let mixed = shares.matmul(seen.value.clone()); // [B, H, U, K]
        let mixed = mixed.swap_dims(1, 2).reshape([batch * count, width]);
        let mixed = self.output.forward(mixed, Activation::Identity);
        mixed.reshape([batch, count, width])
    }
}

/// Sequences side by side, those that are shorter than the longest filled up with zeros.
///
/// # Shapes
/// `x: [N, D]`, `offsets: [B + 1]` → `[B, T, D]`
pub(super) fn padded(x: &Tensor<2>, offsets: &[u32]) -> Tensor<3> {
    let [rows, width] = x.dims();
    let longest = longest(offsets);
    let places = offsets.windows(2).flat_map(|ends| {
        let own = ends[0]..ends[1];
        let rest = longest - own.len();
        own.chain(std::iter::repeat_n(rows as u32, rest))
    });
    let places: Arc<[u32]> = places.collect();
    let x = Tensor::cat(vec![x.clone(), Tensor::zeros([1, width], &x.device())], 0);
    op::select_rows(x, &places).reshape([offsets.len() - 1, longest, width])
}

fn longest(offsets: &[u32]) -> usize {
    let lens = offsets.windows(2).map(|ends| ends[1] - ends[0]);
    lens.max().unwrap_or(0) as usize
}

/// What hides the filling of [`padded`]: `[B, 1, 1, T]`.
pub(super) fn hidden(offsets: &[u32], device: &burn::tensor::Device) -> Tensor<4> {
    let longest = longest(offsets);
    let all = offsets.windows(2).flat_map(|ends| {
        let own = (ends[1] - ends[0]) as usize;
        (0..longest).map(move |at| if at < own { 0.0 } else { op::HIDDEN })
    });
    op::floats(all.collect(), [offsets.len() - 1, 1, 1, longest], device)
}
