//! Softmax attention with options, from Burn's operations: over the whole sequence, or by blocks of it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, activation};
use cloze_spec::encoder::alibi_slopes;
use cloze_spec::mixer::{Attention, Blocks, Position, Score};

use super::block_pattern;
use crate::layout::Layout;
use crate::op::{self, Dropout, HIDDEN, floats};

/// What the options learn.
pub(super) struct Learned {
    /// A further score a head, `[H]`.
    pub sink: Option<Tensor<1>>,
    /// A row a distance: numbers of heads, `[R, H]`, or what the layer's maps make of vectors, `[R, 3D]`.
    pub table: Option<Tensor<2>>,
}

/// Attention as `settings` say; `name` tells layers apart.
///
/// With a window of `W`, queries are taken by blocks of `W` and meet the block before, their own and, unless causal, the
/// one after: scores take `3W` numbers a token, whatever the length. With blocks they meet copies of those that they see.
///
/// # Shapes
/// `qkv: [N, 3D]`, turned already → `[N, D]`
pub(super) fn attend(
    settings: &Attention,
    name: &str,
    qkv: Tensor<2>,
    offsets: &[u32],
    learned: &Learned,
    dropout: Dropout,
) -> Tensor<2> {
    let heads = settings.heads;
    let width = qkv.dims()[1] / 3;
    let head_width = width / heads;
    let block = settings.blocks.as_ref().map(|blocks| blocks.size);
    let layout = Layout::padded(offsets, settings.window.or(block).unwrap_or(1));
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
    let (query, key, value) = (part(0), part(1), part(2));
    let terms = match &settings.position {
        Some(Position::Disentangled(_)) => 3,
        _ => 1,
    };
    let scale = 1.0 / ((terms * head_width) as f32).sqrt();
    let query = query.mul_scalar(scale);
    let weigh = Weigh {
        settings,
        lens: &layout.lens,
        learned,
        scale,
        dropout,
    };

    let mixed = match (settings.window, &settings.blocks) {
        (None, None) => weigh.all(&query, &key, &value),
        (None, Some(blocks)) => weigh.blocks(blocks, name, &query, &key, &value),
        (Some(window), _) => weigh.window(window, &query, &key, &value),
    };
    layout.pack(mixed.swap_dims(1, 2).reshape([rows, places, width]))
}

/// What scores of blocks have in common.
struct Weigh<'a> {
    settings: &'a Attention,
    lens: &'a [usize],
    learned: &'a Learned,
    scale: f32,
    dropout: Dropout,
}

impl Weigh<'_> {
    /// Whether a query sees a key by their places.
    fn sees(&self, query: usize, key: usize) -> bool {
        !self.settings.causal || key <= query
    }

    /// The first queries of each sequence, or all, meet all of it.
    ///
    /// # Shapes
    /// `query: [B, H, Q, K]`, already scaled; `key, value: [B, H, T, K]` → `[B, H, Q, K]`
    fn all(&self, query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>) -> Tensor<4> {
        let one = |x: &Tensor<4>| x.clone().unsqueeze_dim::<5>(2); // [B, H, 1, T, K]
        let all: Vec<usize> = (0..key.dims()[2]).collect();
        let first = &all[..query.dims()[2]];
        let seen = |query: usize, key: usize, _| self.sees(query, key);
        self.forward(&one(query), &one(key), one(value), first, &all, seen)
            .reshape(query.dims())
    }

    /// Each block of `window` tokens meets its neighbours and the sequence's first tokens, these all of it.
    ///
    /// # Shapes
    /// `[B, H, T, K]` each, the query already scaled → the same
    fn window(
        &self,
        window: usize,
        query: &Tensor<4>,
        key: &Tensor<4>,
        value: &Tensor<4>,
    ) -> Tensor<4> {
        let [rows, heads, places, head_width] = query.dims();
        let blocks = places / window;
        let global = self.settings.global.unwrap_or(0).min(places);
        let near = if self.settings.causal { 2 } else { 3 };
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
        let all: Vec<usize> = (0..places).collect();
        let seen = |query: usize, key: usize, slot: usize| {
            let near = slot >= local || key >= global && query.abs_diff(key) <= window;
            near && self.sees(query, key)
        };
        let blocked = query
            .clone()
            .reshape([rows, heads, blocks, window, head_width]);
        let mixed = self
            .forward(&blocked, &around(key), around(value), &all, &keys, seen)
            .reshape([rows, heads, places, head_width]);
        if global == 0 {
            return mixed;
        }
        let first = query.clone().slice([0..rows, 0..heads, 0..global]);
        let first = self.all(&first, key, value);
        let rest = mixed.slice([0..rows, 0..heads, global..places]);
        Tensor::cat(vec![first, rest], 2)
    }

    /// Each block meets copies of the blocks that it sees, those at the ends all of the sequence.
    ///
    /// # Shapes
    /// `[B, H, T, K]` each, the query already scaled → the same
    fn blocks(
        &self,
        settings: &Blocks,
        name: &str,
        query: &Tensor<4>,
        key: &Tensor<4>,
        value: &Tensor<4>,
    ) -> Tensor<4> {
        let causal = self.settings.causal;
        let [rows, heads, places, width] = query.dims();
        let size = settings.size;
        let count = places / size;
        let wide = heads * size * width;
        // A row a block: [B, H, n · S, K] → [B · n, H · S · K]
        let flat = |x: Tensor<4>| {
            let count = x.dims()[2] / size;
            x.reshape([rows, heads, count, size, width])
                .swap_dims(1, 2)
                .reshape([rows * count, wide])
        };
        // `each` rows for each of n: [B · n · each, H · S · K] → [B, H, n, each · S, K]
        let unflat = |x: Tensor<2>, count: usize, each: usize| {
            x.reshape([rows, count, each, heads, size, width])
                .permute([0, 3, 1, 2, 4, 5])
                .reshape([rows, heads, count, each * size, width])
        };
        let pick = |x: Tensor<2>, numbers: Vec<usize>| {
            let numbers: Arc<[u32]> = numbers.iter().map(|&at| at as u32).collect();
            op::select_rows(x, &numbers)
        };
        let places_of = |block: usize| block * size..(block + 1) * size;
        let see = |query: usize, key: usize, _| self.sees(query, key);

        let counts = self.lens.iter().map(|len| len.div_ceil(size));
        let mut seen: Vec<Vec<usize>> = Vec::with_capacity(rows * count);
        for (row, own) in counts.clone().enumerate() {
            seen.extend(block_pattern::seen(settings, name, own, causal));
            seen.resize((row + 1) * count, Vec::new());
        }
        let each = seen.iter().map(Vec::len).max().unwrap_or(0).max(1);
        // A block that there is not stands beyond the last.
        let (mut chosen, mut key_places) = (Vec::new(), Vec::new());
        for (at, seen) in seen.iter().enumerate() {
            for slot in 0..each {
                let other = seen.get(slot).copied();
                chosen.push(at / count * count + other.unwrap_or(0));
                key_places.extend(places_of(other.unwrap_or(count)));
            }
        }
        let copies = |x: &Tensor<4>| unflat(pick(flat(x.clone()), chosen.clone()), count, each);
        let all: Vec<usize> = (0..places).collect();
        let mixed = self.forward(
            &query.clone().reshape([rows, heads, count, size, width]),
            &copies(key),
            copies(value),
            &all,
            &key_places,
            see,
        );
        let mixed = flat(mixed.reshape([rows, heads, places, width]));

        let ends: Vec<Vec<usize>> = counts
            .map(|own| block_pattern::ends(settings, own, causal))
            .collect();
        let most = ends.iter().map(Vec::len).max().unwrap_or(0);
        let mixed = if most == 0 {
            mixed
        } else {
            let (mut chosen, mut query_places) = (Vec::new(), Vec::new());
            let mut order: Vec<usize> = (0..rows * count).collect();
            for (row, ends) in ends.iter().enumerate() {
                for slot in 0..most {
                    let end = ends.get(slot).copied().unwrap_or(0);
                    chosen.push(row * count + end);
                    query_places.extend(places_of(end));
                    if slot < ends.len() {
                        order[row * count + end] = rows * count + row * most + slot;
                    }
                }
            }
            let one = |x: &Tensor<4>| x.clone().unsqueeze_dim::<5>(2);
            let query = unflat(pick(flat(query.clone()), chosen), 1, most);
            let ends = self.forward(&query, &one(key), one(value), &query_places, &all, see);
            let ends = flat(ends.reshape([rows, heads, most * size, width]));
            pick(Tensor::cat(vec![mixed, ends], 0), order)
        };
        unflat(mixed, count, 1).reshape([rows, heads, places, width])
    }

    /// What positions add to scores.
    ///
    /// # Shapes
    /// As in [`Self::forward`], `apart` query's place less key's: `[P, n, Q, M]` → `[B or P or 1, H, n, Q, M]`
    fn position(
        &self,
        query: &Tensor<5>,
        key: &Tensor<5>,
        apart: impl Iterator<Item = isize>,
        shape: [usize; 4],
    ) -> Option<Tensor<5>> {
        let device = query.device();
        let [rows, heads, ..] = query.dims();
        let [patterns, blocks, queries, keys] = shape;
        let position = self.settings.position.as_ref()?;
        let row = |apart| {
            let row = position.row(apart, self.settings.causal);
            row.expect("a table of distances") as u32
        };
        let table = || {
            let table = self.learned.table.as_ref();
            table.expect("a parameter of this kind").clone()
        };
        Some(match position {
            Position::Rotary(_) => return None,
            Position::Alibi(_) => {
                let apart = apart.map(|apart| -(apart.unsigned_abs() as f32));
                let apart = floats(
                    apart.collect(),
                    [patterns, 1, blocks, queries, keys],
                    &device,
                );
                apart * floats(alibi_slopes(heads), [1, heads, 1, 1, 1], &device)
            }
            Position::Buckets(_) => op::select_rows(table(), &apart.map(row).collect())
                .reshape([patterns, blocks, queries, keys, heads])
                .permute([0, 4, 1, 2, 3]),
            Position::Disentangled(_) => {
                let met: Vec<u32> = apart.map(row).collect();
                let met: Tensor<5, Int> =
                    op::indices(&met, &device).reshape([patterns, 1, blocks, queries, keys]);
                let met = met.expand([rows, heads, blocks, queries, keys]);
                let table = table(); // [R, 3D]
                let (distances, width) = (table.dims()[0], table.dims()[1] / 3);
                // Position vectors as queries (0) or keys (1): [1, H, 1, K, R]
                let vectors = |part: usize| {
                    table
                        .clone()
                        .slice([0..distances, part * width..(part + 1) * width])
                        .reshape([1, 1, distances, heads, width / heads])
                        .permute([0, 3, 1, 4, 2])
                };
                let forth = query.clone().matmul(vectors(1)).gather(4, met.clone());
                let back = key.clone().matmul(vectors(0).mul_scalar(self.scale));
                forth + back.gather(4, met.swap_dims(3, 4)).swap_dims(3, 4)
            }
        })
    }

    /// `seen(query's place, key's place, key's number in its block)` tells who sees whom within a sequence.
    ///
    /// # Shapes
    /// `query: [B, H, n, Q, K]`, already scaled; `key, value: [B, H, n, M, K]`; places `[P, n, Q]` and `[P, n, M]`, `P`
    /// being `B`, or 1 where all rows have the same → `[B, H, n, Q, K]`
    fn forward(
        &self,
        query: &Tensor<5>,
        key: &Tensor<5>,
        value: Tensor<5>,
        query_places: &[usize],
        key_places: &[usize],
        seen: impl Fn(usize, usize, usize) -> bool,
    ) -> Tensor<5> {
        let device = query.device();
        let [rows, heads, blocks, queries, _] = query.dims();
        let keys = key.dims()[3];
        let patterns = query_places.len() / (blocks * queries);
        let patterns = patterns.max(key_places.len() / (blocks * keys));
        // Places that all rows share come round again.
        let query_place = |at: usize| query_places[at % query_places.len()];
        let key_place = |at: usize| key_places[at % key_places.len()];
        let pairs = || {
            (0..patterns * blocks).flat_map(move |block| {
                (0..queries * keys).map(move |pair| {
                    let (query, key) = (pair / keys, pair % keys);
                    (
                        query_place(block * queries + query),
                        key_place(block * keys + key),
                        key,
                    )
                })
            })
        };
        let share = |may: bool| if may { 1.0 } else { 0.0 };
        let by_place = pairs().map(|(query, key, slot)| share(seen(query, key, slot)));
        let by_place = floats(
            by_place.collect(),
            [patterns, 1, blocks, queries, keys],
            &device,
        );
        let by_len: Vec<f32> = (0..rows * blocks * keys)
            .map(|at| share(key_place(at) < self.lens[at / (blocks * keys)]))
            .collect();
        let by_len = floats(by_len, [rows, 1, blocks, 1, keys], &device);
        let may = by_place * by_len; // [B, 1, n, Q, M]

        let mut scores = query.clone().matmul(key.clone().transpose());
        let apart = pairs().map(|(query, key, _)| query as isize - key as isize);
        let shape = [patterns, blocks, queries, keys];
        if let Some(added) = self.position(query, key, apart, shape) {
            scores = scores + added;
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
            Some(Score::Hard(_)) => {
                let soft = activation::softmax(scores, 4);
                let largest = soft.clone().detach().argmax(4).expand(soft.shape());
                let place = Tensor::<1, Int>::arange(0..keys as i64, &device);
                let hard = largest.equal(place.reshape([1, 1, 1, 1, keys]).expand(soft.shape()));
                hard.float() + (soft.clone() - soft.detach())
            }
            Some(Score::Sink(_)) => {
                let sink = self.learned.sink.as_ref();
                let sink = sink.expect("a parameter of this kind").clone();
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
