//! Softmax attention with options, from Burn's operations: over the whole sequence, or by blocks of a window.

use burn::tensor::{Tensor, activation};
use cloze_spec::encoder::alibi_slopes;
use cloze_spec::mixer::{Attention, Position, Score};

use crate::layout::Layout;
use crate::op::{self, Dropout, HIDDEN, floats};

/// Attention as `settings` say.
///
/// With a window of `W`, queries are taken by blocks of `W` and meet the block before, their own and, unless causal, the
/// one after: scores take `3W` numbers a token, whatever the length.
///
/// # Shapes
/// `qkv: [N, 3D]`, `sink: [H]` → `[N, D]`
pub(super) fn attend(
    settings: &Attention,
    qkv: Tensor<2>,
    offsets: &[u32],
    sink: Option<&Tensor<1>>,
    dropout: Dropout,
) -> Tensor<2> {
    let heads = settings.heads;
    let width = qkv.dims()[1] / 3;
    let head_width = width / heads;
    let layout = Layout::padded(offsets, settings.window.unwrap_or(1));
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
    let (mut query, mut key, value) = (part(0), part(1), part(2));
    if let Some(Position::Rotary(rotary)) = &settings.position {
        (query, key) = (turn(&query, rotary.base), turn(&key, rotary.base));
    }
    let query = query.div_scalar((head_width as f32).sqrt());
    let weigh = Weigh {
        settings,
        lens: &layout.lens,
        sink,
        dropout,
    };

    let all: Vec<usize> = (0..places).collect();
    let mixed = match settings.window {
        None => {
            let one = |x: Tensor<4>| x.unsqueeze_dim::<5>(2); // [B, H, 1, T, K]
            let seen = |query: usize, key: usize, _| !settings.causal || key <= query;
            weigh
                .forward(one(query), &one(key), one(value), &all, &all, seen)
                .reshape([rows, heads, places, head_width])
        }
        Some(window) => {
            let blocks = places / window;
            let global = settings.global.unwrap_or(0).min(places);
            let near = if settings.causal { 2 } else { 3 };
            // [B, H, T, K] → [B, H, n, near · W + G, K]
            let around = |x: &Tensor<4>| {
                let none = Tensor::zeros([rows, heads, window, head_width], &x.device());
                let wide = Tensor::cat(vec![none.clone(), x.clone(), none], 2);
                let shift = |index: usize| {
                    wide.clone()
                        .slice([0..rows, 0..heads, index * window..index * window + places])
                        .reshape([rows, heads, blocks, window, head_width])
                };
                let mut parts: Vec<Tensor<5>> = (0..near).map(shift).collect();
                if global > 0 {
                    let first = x.clone().slice([0..rows, 0..heads, 0..global]);
                    parts.push(
                        first
                            .unsqueeze_dim::<5>(2)
                            .expand([rows, heads, blocks, global, head_width]),
                    );
                }
                Tensor::cat(parts, 3)
            };
            let local = near * window;
            // A place before the first is none: beyond the last.
            let keys: Vec<usize> = (0..blocks)
                .flat_map(|block| {
                    let near = (0..local).map(move |slot| {
                        (block * window + slot)
                            .checked_sub(window)
                            .unwrap_or(places)
                    });
                    near.chain(0..global)
                })
                .collect();
            let seen = |query: usize, key: usize, slot: usize| {
                let near = slot >= local || key >= global && query.abs_diff(key) <= window;
                near && !(settings.causal && key > query)
            };
            let blocked = query
                .clone()
                .reshape([rows, heads, blocks, window, head_width]);
            let mixed = weigh
                .forward(blocked, &around(&key), around(&value), &all, &keys, seen)
                .reshape([rows, heads, places, head_width]);
            if global == 0 {
                mixed
            } else {
                let one = |x: Tensor<4>| x.unsqueeze_dim::<5>(2);
                let first = query.slice([0..rows, 0..heads, 0..global]);
                let seen = |query: usize, key: usize, _| !settings.causal || key <= query;
                let first = weigh
                    .forward(
                        one(first),
                        &one(key),
                        one(value),
                        &all[..global],
                        &all,
                        seen,
                    )
                    .reshape([rows, heads, global, head_width]);
                let rest = mixed.slice([0..rows, 0..heads, global..places]);
                Tensor::cat(vec![first, rest], 2)
            }
        }
    };
    layout.pack(mixed.swap_dims(1, 2).reshape([rows, places, width]))
}

/// Turns channel `i` with `i + K/2` by `place · base^(−2i/K)`: `[B, H, T, K]` → the same.
fn turn(x: &Tensor<4>, base: f32) -> Tensor<4> {
    let device = x.device();
    let [rows, heads, places, width] = x.dims();
    let half = width / 2;
    let angles: Vec<f32> = (0..places * half)
        .map(|index| {
            let pair = (index % half) as f64;
            ((index / half) as f64 * f64::from(base).powf(-2.0 * pair / width as f64)) as f32
        })
        .collect();
    let angles = floats(angles, [1, 1, places, half], &device);
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    let part = |from: usize| {
        x.clone()
            .slice([0..rows, 0..heads, 0..places, from..from + half])
    };
    let (first, second) = (part(0), part(half));
    Tensor::cat(
        vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ],
        3,
    )
}

/// What scores of blocks have in common.
struct Weigh<'a> {
    settings: &'a Attention,
    lens: &'a [usize],
    sink: Option<&'a Tensor<1>>,
    dropout: Dropout,
}

impl Weigh<'_> {
    /// `seen(query's place, key's place, key's number in its block)` tells who sees whom within a sequence.
    ///
    /// # Shapes
    /// `query: [B, H, n, Q, K]`, already scaled; `key, value: [B, H, n, M, K]`; places `[n · Q]` and `[n · M]`
    /// → `[B, H, n, Q, K]`
    fn forward(
        &self,
        query: Tensor<5>,
        key: &Tensor<5>,
        value: Tensor<5>,
        query_places: &[usize],
        key_places: &[usize],
        seen: impl Fn(usize, usize, usize) -> bool,
    ) -> Tensor<5> {
        let device = query.device();
        let [rows, heads, blocks, queries, _] = query.dims();
        let keys = key.dims()[3];
        let pairs = || {
            (0..blocks).flat_map(move |block| {
                (0..queries * keys).map(move |pair| {
                    let (query, key) = (pair / keys, pair % keys);
                    (
                        query_places[block * queries + query],
                        key_places[block * keys + key],
                        key,
                    )
                })
            })
        };
        let share = |may: bool| if may { 1.0 } else { 0.0 };
        let by_place = pairs().map(|(query, key, slot)| share(seen(query, key, slot)));
        let by_place = floats(by_place.collect(), [1, 1, blocks, queries, keys], &device);
        let by_len: Vec<f32> = self
            .lens
            .iter()
            .flat_map(|&len| key_places.iter().map(move |&key| share(key < len)))
            .collect();
        let by_len = floats(by_len, [rows, 1, blocks, 1, keys], &device);
        let may = by_place * by_len; // [B, 1, n, Q, M]

        let mut scores = query.matmul(key.clone().transpose());
        if let Some(Position::Alibi(_)) = self.settings.position {
            let apart = pairs().map(|(query, key, _)| -(query.abs_diff(key) as f32));
            let apart = floats(apart.collect(), [1, 1, blocks, queries, keys], &device);
            let slopes = floats(alibi_slopes(heads), [1, heads, 1, 1, 1], &device);
            scores = scores + apart * slopes;
        }
        scores = scores + may.clone().sub_scalar(1.0).mul_scalar(-HIDDEN);
        let weights = match &self.settings.score {
            None => activation::softmax(scores, 4),
            Some(Score::Clipped(clipped)) => {
                let seen = may.sum_dim(4).clamp_min(1.0);
                let low = seen.recip().mul_scalar(-clipped.alpha); // γ
                let soft = activation::softmax(scores, 4);
                (soft * low.clone().neg().add_scalar(clipped.stretch) + low).clamp(0.0, 1.0)
            }
            Some(Score::TopK(top)) => {
                let keep = top.keep.min(keys);
                let least = scores.clone().detach().topk(keep, 4).slice([
                    0..rows,
                    0..heads,
                    0..blocks,
                    0..queries,
                    keep - 1..keep,
                ]);
                let below = scores.clone().detach().lower(least.expand(scores.shape()));
                activation::softmax(scores.mask_fill(below, HIDDEN), 4)
            }
            Some(Score::Sink(_)) => {
                let sink = self.sink.expect("a parameter of this kind").clone();
                let sink = sink
                    .reshape([1, heads, 1, 1, 1])
                    .expand([rows, heads, blocks, queries, 1]);
                activation::softmax(Tensor::cat(vec![scores, sink], 4), 4).slice([
                    0..rows,
                    0..heads,
                    0..blocks,
                    0..queries,
                    0..keys,
                ])
            }
        };
        let flat = weights.reshape([rows * heads * blocks * queries, keys]);
        op::dropout_add(flat, None, self.dropout)
            .reshape([rows, heads, blocks, queries, keys])
            .matmul(value)
    }
}
