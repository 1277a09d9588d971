use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use cloze_spec::mixer::{self, Spans};
use cloze_spec::norm::{Layer, Norm};

use super::{Mixer, read_shares, sum_by};
use crate::layout::Layout;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::norm::AnyNorm;
use crate::op::{Activation, HIDDEN, floats};
use crate::sequences::Sequences;
use crate::weights::Source;

/// Attention to near tokens directly and to all others through summaries of the spans they stand in.
///
/// A span's key and query are the largest value of each channel in it, its value what that query gets of its tokens. A
/// grid's row has such a triple for each column: that of the token there.
///
/// # Source
/// Ren et al., `NeurIPS` 2021, arXiv:2107.05768, §3 and §4.
#[derive(Module, Debug)]
pub(crate) struct SummaryAttention {
    qkv: Linear,
    output: Linear,
    summary: Option<Summary>,
    heads: usize,
    causal: bool,
    #[module(skip)]
    spans: Spans,
}

/// What makes keys of a grid's rows.
#[derive(Module, Debug)]
struct Summary {
    map: Linear,
    norm: AnyNorm,
    key: Linear,
}

impl SummaryAttention {
    pub fn new(settings: &mixer::SummaryAttention, source: &Source<'_>, name: &str) -> Self {
        Self {
            qkv: Linear::new(source, &format!("{name}.qkv")),
            output: Linear::new(source, &format!("{name}.output")),
            summary: matches!(settings.spans, Spans::Axial(_)).then(|| {
                let part = |part: &str| format!("{name}.summary.{part}");
                Summary {
                    map: Linear::unbiased(source, &part("map")),
                    norm: AnyNorm::new(&Norm::Layer(Layer { eps: 1e-6 }), source, &part("norm")),
                    key: Linear::unbiased(source, &part("key")),
                }
            }),
            heads: settings.heads,
            causal: settings.causal,
            spans: settings.spans.clone(),
        }
    }
}

impl SummaryAttention {
    /// What each token takes from the others, before the output map: `qkv: [N, 3D]` of `x: [N, D]` → `[N, D]`.
    fn take(&self, qkv: Tensor<2>, x: Tensor<2>, offsets: &[u32]) -> Tensor<2> {
        let heads = self.heads;
        let [_, width] = x.dims();
        let head_width = width / heads;
        let layout = match &self.spans {
            Spans::Fixed(fixed) => Layout::padded(offsets, fixed.block),
            Spans::Doubling(_) => {
                let longest = Layout::padded(offsets, 1).places;
                Layout::padded(offsets, longest.next_power_of_two())
            }
            Spans::Axial(axial) => Layout::padded(offsets, axial.columns),
        };
        let (rows, places) = (layout.rows, layout.places);
        let grid = layout
            .spread(qkv)
            .reshape([rows, places, 3, heads, head_width])
            .permute([2, 0, 3, 1, 4]); // [3, B, H, T, K]
        let part = |index: usize| {
            grid.clone()
                .narrow(0, index, 1)
                .reshape([rows, heads, places, head_width])
        };
        let parts = Parts {
            query: part(0),
            key: part(1),
            value: part(2),
            taken: layout.taken(&grid.device()).unsqueeze_dim(1),
        };
        let mixed = match &self.spans {
            Spans::Fixed(fixed) => parts.fixed(fixed.block, self.causal),
            Spans::Doubling(_) => parts.doubling(self.causal),
            Spans::Axial(axial) => {
                let columns = axial.columns;
                let row = parts.direct(columns, false, None);
                let row = layout.pack(row.swap_dims(1, 2).reshape([rows, places, width])); // h
                let summary = self.summary.as_ref().expect("made with the layer");
                let key = x + summary.map.forward(row.clone(), Activation::Identity);
                let key = summary
                    .key
                    .forward(summary.norm.forward(key), Activation::Identity);
                let filled = layout.filled(columns);
                let [key, value] = [key, row].map(|x| {
                    filled
                        .spread(x)
                        .reshape([rows, places, heads, head_width])
                        .swap_dims(1, 2)
                });
                parts.direct(columns, self.causal, Some((key, value)))
            }
        };
        layout.pack(mixed.swap_dims(1, 2).reshape([rows, places, width]))
    }
}

impl Mixer for SummaryAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let qkv = self.qkv.forward(x.clone(), Activation::Identity); // [N, 3D]
        let mixed = self.take(qkv, x, &sequences.offsets);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }

    fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        match self.spans {
            Spans::Fixed(_) | Spans::Doubling(_) => {}
            // Keys of rows are made of values.
            Spans::Axial(_) => return None,
        }
        let [tokens, width] = x.dims();
        let qkv = self.qkv.forward(x.clone(), Activation::Identity);
        let query_key = qkv.narrow(1, 0, 2 * width);
        let sides = [tokens, self.heads, width / self.heads];
        Some(read_shares(sides, &x.device(), |values| {
            let qkv = Tensor::cat(vec![query_key.clone(), values], 1);
            self.take(qkv, x.clone(), &[0, tokens as u32])
        }))
    }

    fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        if let Spans::Axial(_) = self.spans {
            return None;
        }
        let width = x.dims()[1];
        let qkv = self.qkv.forward(x, Activation::Identity);
        let mixed = sum_by(shares, qkv.narrow(1, 2 * width, width));
        Some(self.output.forward(mixed, Activation::Identity))
    }
}

/// `[B, H, T, K]` each; where tokens stand, `[B, 1, T, 1]`.
struct Parts {
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    taken: Tensor<4>,
}

/// Key and value of each span `[B, H, n, 1, K]`, and which spans have tokens, `[B, 1, n, 1, 1]`.
struct Summaries {
    key: Tensor<5>,
    value: Tensor<5>,
    taken: Tensor<5>,
}

impl Parts {
    /// `[B, H, T, K]` → `[B, H, n, block, K]`
    fn blocks(x: &Tensor<4>, block: usize) -> Tensor<5> {
        let [rows, heads, places, width] = x.dims();
        x.clone()
            .reshape([rows, heads, places / block, block, width])
    }

    fn scale(&self) -> f32 {
        1.0 / (self.query.dims()[3] as f32).sqrt()
    }

    fn summaries(&self, block: usize) -> Summaries {
        let taken = Self::blocks(&self.taken, block); // [B, 1, n, block, 1]
        let absent = taken.clone().sub_scalar(1.0).mul_scalar(-HIDDEN);
        let any = taken.max_dim(3);
        // Spans without tokens get 0 instead of the mark that no token stands there.
        let largest = |x: &Tensor<4>| {
            (Self::blocks(x, block) + absent.clone()).max_dim(3) * any.clone() // [B, H, n, 1, K]
        };
        let (query, key) = (largest(&self.query), largest(&self.key));
        let inner = Self::blocks(&self.key, block)
            .matmul(query.transpose())
            .mul_scalar(self.scale())
            + absent; // [B, H, n, block, 1]
        let value = activation::softmax(inner, 3)
            .transpose()
            .matmul(Self::blocks(&self.value, block));
        Summaries {
            key,
            value,
            taken: any,
        }
    }

    /// Attention within each block and, if they have `summaries` (key and value of each place, `[B, H, T, K]`), to those
    /// of the same place of every other, earlier ones if causal.
    fn direct(
        &self,
        block: usize,
        causal: bool,
        summaries: Option<(Tensor<4>, Tensor<4>)>,
    ) -> Tensor<4> {
        let device = self.query.device();
        let [rows, heads, places, width] = self.query.dims();
        let count = places / block;
        let hidden = |seen, shape| hidden(seen, shape, &device);
        let query = Self::blocks(&self.query, block).mul_scalar(self.scale());
        let value = Self::blocks(&self.value, block);
        let taken = Self::blocks(&self.taken, block); // [B, 1, n, block, 1]
        let absent = |taken: Tensor<5>| taken.sub_scalar(1.0).mul_scalar(-HIDDEN);
        let mut near = query
            .clone()
            .matmul(Self::blocks(&self.key, block).transpose())
            + absent(taken.clone().transpose()); // [B, H, n, block, block]
        if causal {
            let past = (0..block * block).map(|pair| share(pair % block <= pair / block));
            near = near + hidden(past.collect(), [1, 1, 1, block, block]);
        }
        let Some((far_key, far_value)) = summaries else {
            let mixed = activation::softmax(near, 4).matmul(value);
            return mixed.reshape([rows, heads, places, width]);
        };
        // By column: [B, H, block, n, K]
        let column = |x: &Tensor<4>| Self::blocks(x, block).swap_dims(2, 3);
        let others = (0..count * count).map(|pair| {
            let (own, other) = (pair / count, pair % count);
            share(own != other && !(causal && other > own))
        });
        // A block has its first token, or none.
        let any = taken.slice([0..rows, 0..1, 0..count, 0..1]); // [B, 1, n, 1, 1]
        let far = query.swap_dims(2, 3).matmul(column(&far_key).transpose())
            + hidden(others.collect(), [1, 1, 1, count, count])
            + absent(any.swap_dims(2, 4)); // [B, H, block, n, n]
        let scores = Tensor::cat(vec![near, far.swap_dims(2, 3)], 4);
        let weights = activation::softmax(scores, 4);
        let part = |from: usize, to: usize| {
            weights
                .clone()
                .slice([0..rows, 0..heads, 0..count, 0..block, from..to])
        };
        let far = part(block, block + count)
            .swap_dims(2, 3)
            .matmul(column(&far_value));
        (part(0, block).matmul(value) + far.swap_dims(2, 3)).reshape([rows, heads, places, width])
    }

    fn fixed(&self, block: usize, causal: bool) -> Tensor<4> {
        let device = self.query.device();
        let [rows, heads, places, width] = self.query.dims();
        let count = places / block;
        let hidden = |seen, shape| hidden(seen, shape, &device);
        let query = Self::blocks(&self.query, block);
        let taken = Self::blocks(&self.taken, block).transpose(); // [B, 1, n, 1, block]
        let mut near = query
            .clone()
            .matmul(Self::blocks(&self.key, block).transpose())
            .mul_scalar(self.scale())
            + taken.sub_scalar(1.0).mul_scalar(-HIDDEN); // [B, H, n, block, block]
        if causal {
            let past = (0..block * block).map(|pair| share(pair % block <= pair / block));
            near = near + hidden(past.collect(), [1, 1, 1, block, block]);
        }
        let summaries = self.summaries(block);
        let line = |x: Tensor<5>| x.reshape([rows, heads, 1, count, width]);
        let (key, value) = (line(summaries.key), line(summaries.value));
        let others = (0..count * count).map(|pair| {
            let (own, other) = (pair / count, pair % count);
            share(own != other && !(causal && other > own))
        });
        let far = query.matmul(key.transpose()).mul_scalar(self.scale())
            + hidden(others.collect(), [1, 1, count, 1, count])
            + summaries
                .taken
                .reshape([rows, 1, 1, 1, count])
                .sub_scalar(1.0)
                .mul_scalar(-HIDDEN); // [B, H, n, block, n]
        let weights = activation::softmax(Tensor::cat(vec![near, far], 4), 4);
        let direct = weights
            .clone()
            .slice([0..rows, 0..heads, 0..count, 0..block, 0..block]);
        let through = weights.slice([0..rows, 0..heads, 0..count, 0..block, block..block + count]);
        let mixed = direct.matmul(Self::blocks(&self.value, block)) + through.matmul(value);
        mixed.reshape([rows, heads, places, width])
    }

    /// The grid's length is a power of two; at every level a token's span is the other half of the block it stands in.
    fn doubling(&self, causal: bool) -> Tensor<4> {
        let device = self.query.device();
        let [rows, heads, places, width] = self.query.dims();
        let own = (self.query.clone() * self.key.clone()).sum_dim(3); // [B, H, T, 1]
        let mut scores = vec![own.mul_scalar(self.scale())];
        let mut values = vec![Self::blocks(&self.value, 1)];
        for level in 0..places.ilog2() {
            let block = 1 << level;
            let count = places / block;
            let spans = self.summaries(block);
            let sibling = |x: Tensor<5>| {
                let [rows, heads, _, _, width] = x.dims();
                x.reshape([rows, heads, count / 2, 2, width])
                    .flip([3])
                    .reshape([rows, heads, count, 1, width])
            };
            let seen = (0..count).map(|span| if causal && span % 2 == 0 { 0.0 } else { 1.0 });
            let seen = floats(seen.collect(), [1, 1, count, 1, 1], &device);
            let seen = sibling(spans.taken) * seen;
            let score = Self::blocks(&self.query, block)
                .matmul(sibling(spans.key).transpose())
                .mul_scalar(self.scale())
                + seen.sub_scalar(1.0).mul_scalar(-HIDDEN);
            scores.push(score.reshape([rows, heads, places, 1]));
            values.push(sibling(spans.value));
        }
        let weights = activation::softmax(Tensor::cat(scores, 3), 3);
        let mut mixed = Tensor::zeros([rows, heads, places, width], &device);
        for (column, value) in values.into_iter().enumerate() {
            let count = value.dims()[2];
            let weight = weights
                .clone()
                .slice([0..rows, 0..heads, 0..places, column..column + 1])
                .reshape([rows, heads, count, places / count, 1]);
            mixed = mixed + (weight * value).reshape([rows, heads, places, width]);
        }
        mixed
    }
}

/// 0 where `seen` is 1, and [`HIDDEN`] where it is 0.
fn hidden(seen: Vec<f32>, shape: [usize; 5], device: &Device) -> Tensor<5> {
    floats(seen, shape, device)
        .sub_scalar(1.0)
        .mul_scalar(-HIDDEN)
}

fn share(may: bool) -> f32 {
    if may { 1.0 } else { 0.0 }
}
