//! Multi-head attention over packed sequences, forward and backward, without a stored matrix of scores.
//!
//! S = Q·Kᵀ / √K, P = softmax(S), O = (P ∘ M)·V with the dropout mask M. One task is one head of one sequence. It packs its keys
//! and values, then goes through its queries `TILE` at a time: the scores of a tile, [TILE, T], stay in L2 (40 KiB at T = 200)
//! from the first product to the last. Forward keeps each row's L = ln Σ exp S. Backward makes P = exp(S − L) again and needs no
//! second pass over a row, because Σ dP ∘ P over a row is D = Σ dO ∘ O:
//!
//! dV = (P ∘ M)ᵀ·dO, dS = P ∘ (M ∘ dO·Vᵀ − D) / √K, dQ = dS·K, dK = dSᵀ·Q.
//!
//! A tile's products begin and end with the keys that one of its queries sees, where `causal` or a window hides some, and its
//! scores take room for those alone; the keys that all see are a span of their own before them, if the window does not begin among
//! these. A head's result depends on nothing outside its sequence, dropout
//! apart, whose mask counts tokens of the batch; the order of every sum is fixed.
//!
//! The inner functions have one duty in common: a machine with the instruction set of `V`, and pointers valid for the shapes they name.
//!
//! # Source
//! Vaswani et al., Attention Is All You Need, NIPS 2017, arXiv:1706.03762, §3.2; the backward without stored probabilities:
//! Dao, FlashAttention-2, ICLR 2024, arXiv:2307.08691, §3.1.

pub(super) mod product;

use std::ops::Range;

use self::product::{Left, Packed, multiply, pack, pack_transposed, unpack};
use super::dropout::Mask;
use super::split::each;
use crate::Isa;
use crate::arch::math::exp;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::{Scratch, Shared};

pub use super::dropout::Dropout;

/// Queries whose scores are in flight: a multiple of every register tile's rows, and scores of 200 keys fill 40 KiB.
const TILE: usize = 48;
/// Lanes of the widest vector; scratch is measured for it.
const MAX_LANES: usize = 16;
/// Columns of the widest panel of a product: a tile's keys begin with a whole number of any machine's.
const PANEL: usize = 2 * MAX_LANES;

/// What attends to what, and in how many heads.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// `[B + 1]`: sequence `b` is tokens `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// H, divides `width`.
    pub heads: usize,
    /// D, of all heads together.
    pub width: usize,
    /// Whether a token sees none after it.
    pub causal: bool,
    /// How far a token sees to each side, itself not counted; everything if none.
    pub window: Option<usize>,
    /// Tokens at the start of each sequence that see and are seen whatever the window is.
    pub global: usize,
    /// Of probabilities: row `token * H + head`, where tokens count through the batch; column, the key's place in its sequence.
    pub dropout: Dropout,
}

impl Attention<'_> {
    /// Panics unless the fields fit each other, and tells N.
    fn tokens(&self) -> usize {
        self.dropout.check();
        assert!(
            self.heads > 0 && self.width.is_multiple_of(self.heads),
            "attention: width {} does not divide into {} heads",
            self.width,
            self.heads
        );
        assert_eq!(
            self.offsets.first(),
            Some(&0),
            "attention: first of offsets"
        );
        assert!(self.offsets.is_sorted(), "attention: offsets fall");
        self.offsets[self.offsets.len() - 1] as usize
    }

    /// Calls `f` for every head of every sequence that has tokens, over the pool.
    fn each_head(&self, f: impl Fn(Head) + Sync + Send) {
        each((self.offsets.len() - 1) * self.heads, |task| {
            let sequence = task / self.heads;
            let start = self.offsets[sequence] as usize;
            let tokens = self.offsets[sequence + 1] as usize - start;
            if tokens > 0 {
                f(Head {
                    start,
                    tokens,
                    index: task % self.heads,
                    heads: self.heads,
                    width: self.width,
                    causal: self.causal,
                    window: self.window.map_or(tokens, |window| window.min(tokens)),
                    global: self.window.map_or(0, |_| self.global.min(tokens)),
                    dropout: self.dropout,
                });
            }
        });
    }
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    /// First token in the batch.
    start: usize,
    /// T
    tokens: usize,
    /// Which of `heads`.
    index: usize,
    heads: usize,
    /// D
    width: usize,
    causal: bool,
    window: usize,
    /// 0 where no window hides anything.
    global: usize,
    dropout: Dropout,
}

/// Keys of a tile whose scores lie side by side.
#[derive(Clone)]
struct Span {
    /// Begun with a panel.
    keys: Range<usize>,
    /// Place of the first among the scores of a query.
    at: usize,
}

impl Span {
    /// Where the score of key 0 would lie in a query's `line`.
    fn origin(&self, line: *mut f32) -> *mut f32 {
        line.wrapping_add(self.at).wrapping_sub(self.keys.start)
    }
}

impl Head {
    /// K
    fn size(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.size() as f64).sqrt()) as f32
    }

    /// Floats up to this head's first query in `[N, 3D]`; keys and values follow `width` and `2 * width` later.
    fn qkv(&self) -> usize {
        self.start * 3 * self.width + self.index * self.size()
    }

    /// Floats up to this head's first output in `[N, D]`.
    fn out(&self) -> usize {
        self.start * self.width + self.index * self.size()
    }

    /// Place of a query in `[N, H]`.
    fn row(&self, query: usize) -> usize {
        (self.start + query) * self.heads + self.index
    }

    /// Keys that `query` may attend to, the first `global` apart.
    fn keys(&self, query: usize) -> Range<usize> {
        let window = if query < self.global {
            self.tokens
        } else {
            self.window
        };
        let after = if self.causal { 0 } else { window };
        query.saturating_sub(window)..self.tokens.min(query + after + 1)
    }

    /// Keys of `rows` queries from `first` on, one or two spans.
    fn spans(&self, first: usize, rows: usize) -> impl Iterator<Item = Span> + Clone {
        let (start, last) = (self.keys(first).start, first + rows - 1);
        // One that sees all may stand before others that do not.
        let end = self.keys(first).end.max(self.keys(last).end);
        let (start, front) = (start - start % PANEL, self.front());
        let spans = if start <= front {
            let start = if front > 0 { 0 } else { start };
            [start..end, 0..0]
        } else {
            [0..self.global, start..end]
        };
        let places = [0, front];
        let spans = spans.into_iter().zip(places);
        spans
            .filter(|(keys, _)| !keys.is_empty())
            .map(|(keys, at)| Span { keys, at })
    }

    /// Room for the scores of the first `global` keys: whole panels.
    fn front(&self) -> usize {
        self.global.next_multiple_of(PANEL)
    }

    /// Floats that the scores of each of a tile's queries take, from `first` on: whole panels of the keys that such a tile may see.
    /// The first tile takes the most.
    fn room(&self, first: usize) -> usize {
        if first < self.global {
            return padded(self.tokens);
        }
        let most = self.front() + TILE + 2 * self.window + PANEL;
        padded(self.tokens).min(most.next_multiple_of(PANEL))
    }
}

/// Each token becomes the mean of its sequence's values, weighted by the softmax of its scores.
///
/// # Shapes
/// `qkv: [N, 3D]` (queries, keys, values, each H heads of K), `out: [N, D]`, `lse: [N, H]`, which only [`backward`] reads.
/// # Panics
/// Where a slice has another length, the fields of `shape` do not fit each other, or the machine lacks `isa`.
pub fn forward(isa: Isa, shape: &Attention, qkv: &[f32], out: &mut [f32], lse: &mut [f32]) {
    require(isa);
    let tokens = shape.tokens();
    assert_eq!(
        qkv.len(),
        tokens * 3 * shape.width,
        "attention: length of qkv"
    );
    assert_eq!(out.len(), tokens * shape.width, "attention: length of out");
    assert_eq!(lse.len(), tokens * shape.heads, "attention: length of lse");
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    shape.each_head(|head| {
        // SAFETY: lengths and instruction set checked above; heads own disjoint columns of their sequence's rows.
        unsafe { forward_head(isa, isa, head, qkv.as_ptr(), out.at(0), lse.at(0)) };
    });
}

/// Gradient of [`forward`] by `qkv`.
///
/// # Shapes
/// `qkv`, `d_qkv`: `[N, 3D]`; `out`, `d_out`: `[N, D]`; `lse: [N, H]`. `out` and `lse` are those of [`forward`], `d_qkv` is overwritten.
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    shape: &Attention,
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
) {
    require(isa);
    let tokens = shape.tokens();
    assert_eq!(
        qkv.len(),
        tokens * 3 * shape.width,
        "attention: length of qkv"
    );
    assert_eq!(out.len(), tokens * shape.width, "attention: length of out");
    assert_eq!(lse.len(), tokens * shape.heads, "attention: length of lse");
    assert_eq!(
        d_out.len(),
        tokens * shape.width,
        "attention: length of d_out"
    );
    assert_eq!(
        d_qkv.len(),
        tokens * 3 * shape.width,
        "attention: length of d_qkv"
    );
    let d_qkv = Shared::new(d_qkv);
    shape.each_head(|head| {
        let (qkv, out, lse, d_out) = (qkv.as_ptr(), out.as_ptr(), lse.as_ptr(), d_out.as_ptr());
        // SAFETY: lengths and instruction set checked above; heads own disjoint columns of their sequence's rows.
        unsafe { backward_head(isa, isa, head, qkv, out, lse, d_out, d_qkv.at(0)) };
    });
}

dispatch! {
    /// One head of [`forward`].
    ///
    /// # Safety
    /// The machine has `isa`, also given as `same`; the pointers have the shapes of [`forward`] for at least this head's sequence,
    /// and no other thread uses its places in `out` and `lse`.
    unsafe fn forward_head(
        same: Isa, head: Head, qkv: *const f32, out: *mut f32, lse: *mut f32,
    ) = forward_body;
}

#[inline(always)]
unsafe fn forward_body<V: Vector>(
    isa: Isa,
    head: Head,
    qkv: *const f32,
    out: *mut f32,
    lse: *mut f32,
) {
    let (tokens, size, stride) = (head.tokens, head.size(), 3 * head.width);
    let (wide, high, most) = (padded(size), padded(tokens), head.room(0));
    let query = qkv.add(head.qkv());
    let needed = size * high + TILE * most + wide * (tokens + TILE);
    let mut scratch = Scratch::take(needed);
    let mut parts = Parts { rest: &mut scratch };
    let keys = parts.take(size * high);
    let values = parts.take(tokens * wide);
    let scores = parts.take(TILE * most);
    let sums = parts.take(TILE * wide);
    pack_transposed::<V>(query.add(head.width), stride, tokens, size, keys);
    pack::<V>(query.add(2 * head.width), stride, tokens, size, values);

    let mut totals = [0.0; TILE];
    for first in (0..tokens).step_by(TILE) {
        let rows = TILE.min(tokens - first);
        let (spans, room) = (head.spans(first, rows), head.room(first));
        // [rows, K] · [K, seen]
        let a = Left::new(query.add(first * stride), stride);
        for span in spans.clone() {
            let b = Packed::new(keys, size, tokens).right_of(span.keys.start);
            let to = scores.add(span.at);
            multiply(isa, rows, size, span.keys.len(), a, b, to, room, false);
        }
        for (r, total) in totals.iter_mut().enumerate().take(rows) {
            let row = head.row(first + r);
            let (line, spans) = (scores.add(r * room), spans.clone());
            let (top, sum) = match (head.dropout.is_active(), head.global > 0) {
                (false, false) => softmax::<V, false, false>(&head, line, first + r, spans),
                (false, true) => softmax::<V, false, true>(&head, line, first + r, spans),
                (true, false) => softmax::<V, true, false>(&head, line, first + r, spans),
                (true, true) => softmax::<V, true, true>(&head, line, first + r, spans),
            };
            *lse.add(row) = top + sum.ln();
            *total = 1.0 / sum;
        }
        // [rows, seen] · [seen, K]
        for (index, span) in spans.enumerate() {
            let a = Left::new(scores.add(span.at), room);
            let b = Packed::new(values, tokens, size).below(span.keys.start);
            let depth = span.keys.len();
            multiply(isa, rows, depth, size, a, b, sums, wide, index > 0);
        }
        for (r, &total) in totals.iter().enumerate().take(rows) {
            let to = out.add(head.out() + (first + r) * head.width);
            let from = sums.add(r * wide);
            let mut col = 0;
            while col < size {
                let sum = V::load(from.add(col)).mul(V::splat(total));
                sum.store_up_to(to.add(col), V::LANES.min(size - col));
                col += V::LANES;
            }
        }
    }
}

/// The vectors that hold a query's keys, and which lanes are its own: of the first and last alone, unless some keys are in `FRONT`.
struct Lines<V: Vector, const FRONT: bool> {
    /// Where the first begins.
    begin: usize,
    /// Where the last begins, if it is not whole; else where it ends.
    whole: usize,
    /// Lanes of the first that lie before the first key.
    before: V::Mask,
    /// Lanes of the last up to the last key.
    up_to: V::Mask,
    keys: Range<usize>,
    /// Keys before these that are seen too.
    front: usize,
}

impl<V: Vector, const FRONT: bool> Lines<V, FRONT> {
    #[inline(always)]
    unsafe fn new(head: &Head, query: usize) -> Self {
        let keys = head.keys(query);
        let lanes = |place| place - place % V::LANES;
        let (begin, whole) = (lanes(keys.start), lanes(keys.end));
        Self {
            begin,
            whole,
            before: V::lt_int(V::iota(begin as u32), V::splat_int(keys.start as u32)),
            up_to: V::lt_int(V::iota(whole as u32), V::splat_int(keys.end as u32)),
            front: head.global.min(keys.end),
            keys,
        }
    }

    /// Where the vectors of a span begin and end in which there may be keys.
    #[inline(always)]
    fn within(&self, span: &Span) -> (usize, usize) {
        if FRONT {
            (span.keys.start, span.keys.end)
        } else {
            (self.begin, self.keys.end)
        }
    }

    /// The vector at `col`, with `other` in lanes of no key.
    #[inline(always)]
    unsafe fn own(&self, col: usize, x: V, other: V) -> V {
        if FRONT {
            let places = V::iota(col as u32);
            let is_below = |end: usize| V::lt_int(places, V::splat_int(end as u32));
            let near = V::select(is_below(self.keys.end), x, other);
            let near = V::select(is_below(self.keys.start), other, near);
            return V::select(is_below(self.front), x, near);
        }
        let x = if col == self.whole {
            V::select(self.up_to, x, other)
        } else {
            x
        };
        if col < self.keys.start {
            V::select(self.before, other, x)
        } else {
            x
        }
    }

    /// Zeroes the vectors of a span that hold no key and were not gone through.
    #[inline(always)]
    unsafe fn clear_others(&self, line: *mut f32, span: &Span) {
        let (begin, end) = self.within(span);
        clear::<V>(line, span.keys.start, begin);
        clear::<V>(line, end.next_multiple_of(V::LANES), span.keys.end);
    }
}

/// Turns the scores of one query in `line` into exp(S − max S) times the dropout factor, zero for what else its tile sees. Returns
/// the scaled maximum and the sum before dropout.
#[inline(always)]
unsafe fn softmax<V: Vector, const DROP: bool, const FRONT: bool>(
    head: &Head,
    line: *mut f32,
    query: usize,
    spans: impl Iterator<Item = Span> + Clone,
) -> (f32, f32) {
    let lines = Lines::<V, FRONT>::new(head, query);
    let none = V::splat(f32::NEG_INFINITY);
    let mut top = none;
    for span in spans.clone() {
        let line = span.origin(line);
        let (mut col, end) = lines.within(&span);
        while col < end {
            let score = V::load(line.wrapping_add(col));
            top = lines.own(col, score, none).max(top);
            col += V::LANES;
        }
    }
    let top = top.reduce_max();
    let (offset, scale) = (V::splat(top), V::splat(head.scale()));
    let mask = Mask::<V>::new(head.dropout);
    let row_key = head.dropout.row_key(head.row(query) as u64);
    let mut sum = V::zero();
    for span in spans {
        let line = span.origin(line);
        let (mut col, end) = lines.within(&span);
        while col < end {
            let score = line.wrapping_add(col);
            let prob = exp(V::load(score).sub(offset).mul(scale));
            let mut prob = lines.own(col, prob, V::zero());
            sum = sum.add(prob);
            if DROP {
                prob = prob.mul(mask.factor(row_key, col as u32));
            }
            prob.store(score);
            col += V::LANES;
        }
        lines.clear_others(line, &span);
    }
    (top * head.scale(), sum.reduce_sum())
}

dispatch! {
    /// One head of [`backward`].
    ///
    /// # Safety
    /// The machine has `isa`, also given as `same`; the pointers have the shapes of [`backward`] for at least this head's sequence,
    /// and no other thread uses its places in `d_qkv`.
    unsafe fn backward_head(
        same: Isa, head: Head, qkv: *const f32, out: *const f32, lse: *const f32, d_out: *const f32,
        d_qkv: *mut f32,
    ) = backward_body;
}

#[inline(always)]
unsafe fn backward_body<V: Vector>(
    isa: Isa,
    head: Head,
    qkv: *const f32,
    out: *const f32,
    lse: *const f32,
    d_out: *const f32,
    d_qkv: *mut f32,
) {
    let (tokens, size, stride) = (head.tokens, head.size(), 3 * head.width);
    let (wide, high, most) = (padded(size), padded(tokens), head.room(0));
    let query = qkv.add(head.qkv());
    let (key, value) = (query.add(head.width), query.add(2 * head.width));
    let (out, d_out) = (out.add(head.out()), d_out.add(head.out()));
    let d_query = d_qkv.add(head.qkv());
    let (d_key, d_value) = (d_query.add(head.width), d_query.add(2 * head.width));
    let needed = 2 * (high * size + most * TILE) + wide * (3 * tokens + 3 * TILE);
    let mut scratch = Scratch::take(needed);
    let mut parts = Parts { rest: &mut scratch };
    let keys_transposed = parts.take(size * high);
    let values_transposed = parts.take(size * high);
    let keys = parts.take(tokens * wide);
    let d_keys = parts.take(tokens * wide);
    let d_values = parts.take(tokens * wide);
    let probs = parts.take(TILE * most);
    let d_scores = parts.take(TILE * most);
    let tile_queries = parts.take(TILE * wide);
    let tile_d_out = parts.take(TILE * wide);
    let sums = parts.take(TILE * wide);
    pack_transposed::<V>(key, stride, tokens, size, keys_transposed);
    pack_transposed::<V>(value, stride, tokens, size, values_transposed);
    pack::<V>(key, stride, tokens, size, keys);
    d_keys.write_bytes(0, tokens * wide);
    d_values.write_bytes(0, tokens * wide);

    for first in (0..tokens).step_by(TILE) {
        let rows = TILE.min(tokens - first);
        let (spans, room) = (head.spans(first, rows), head.room(first));
        let tile_query = query.add(first * stride);
        let tile_out = d_out.add(first * head.width);
        // Scores and the gradient of probabilities: [rows, K] · [K, seen]
        for span in spans.clone() {
            let (start, count) = (span.keys.start, span.keys.len());
            let a = Left::new(tile_query, stride);
            let b = Packed::new(keys_transposed, size, tokens).right_of(start);
            multiply(
                isa,
                rows,
                size,
                count,
                a,
                b,
                probs.add(span.at),
                room,
                false,
            );
            let a = Left::new(tile_out, head.width);
            let b = Packed::new(values_transposed, size, tokens).right_of(start);
            let to = d_scores.add(span.at);
            multiply(isa, rows, size, count, a, b, to, room, false);
        }
        for r in 0..rows {
            let query = first + r;
            let own = dot::<V>(
                d_out.add(query * head.width),
                out.add(query * head.width),
                size,
            );
            let stats = (*lse.add(head.row(query)), own);
            let (both, spans) = ([probs, d_scores].map(|x| x.add(r * room)), spans.clone());
            let head = &head;
            match (head.dropout.is_active(), head.global > 0) {
                (false, false) => differentiate::<V, false, false>(head, query, spans, stats, both),
                (false, true) => differentiate::<V, false, true>(head, query, spans, stats, both),
                (true, false) => differentiate::<V, true, false>(head, query, spans, stats, both),
                (true, true) => differentiate::<V, true, true>(head, query, spans, stats, both),
            }
        }
        // dV and dK: [seen, rows] · [rows, K]
        pack::<V>(tile_out, head.width, rows, size, tile_d_out);
        pack::<V>(tile_query, stride, rows, size, tile_queries);
        for (index, span) in spans.enumerate() {
            let (start, count) = (span.keys.start, span.keys.len());
            let (probs, d_scores) = (probs.add(span.at), d_scores.add(span.at));
            let a = Left::transposed(probs, room);
            let b = Packed::new(tile_d_out, rows, size);
            let to = d_values.add(start * wide);
            multiply(isa, count, rows, size, a, b, to, wide, true);
            let a = Left::transposed(d_scores, room);
            let b = Packed::new(tile_queries, rows, size);
            let to = d_keys.add(start * wide);
            multiply(isa, count, rows, size, a, b, to, wide, true);
            // dQ: [rows, seen] · [seen, K]
            let a = Left::new(d_scores, room);
            let b = Packed::new(keys, tokens, size).below(start);
            multiply(isa, rows, count, size, a, b, sums, wide, index > 0);
        }
        unpack(sums, wide, rows, size, d_query.add(first * stride), stride);
    }
    unpack(d_keys, wide, tokens, size, d_key, stride);
    unpack(d_values, wide, tokens, size, d_value, stride);
}

/// Turns a query's scores into its probabilities after dropout, and the gradient of those into that of the scores, in a line each;
/// both zero for what else its tile sees.
#[inline(always)]
unsafe fn differentiate<V: Vector, const DROP: bool, const FRONT: bool>(
    head: &Head,
    query: usize,
    spans: impl Iterator<Item = Span>,
    (lse, own): (f32, f32),
    both: [*mut f32; 2],
) {
    let lines = Lines::<V, FRONT>::new(head, query);
    let (scale, lse, own) = (V::splat(head.scale()), V::splat(lse), V::splat(own));
    let mask = Mask::<V>::new(head.dropout);
    let row_key = head.dropout.row_key(head.row(query) as u64);
    for span in spans {
        let [probs, d_scores] = both.map(|line| span.origin(line));
        let (mut col, end) = lines.within(&span);
        while col < end {
            let (prob, d_score) = (probs.wrapping_add(col), d_scores.wrapping_add(col));
            let p = exp(V::load(prob).mul(scale).sub(lse));
            let p = lines.own(col, p, V::zero());
            let mut d = lines.own(col, V::load(d_score), V::zero());
            if DROP {
                let factor = mask.factor(row_key, col as u32);
                p.mul(factor).store(prob);
                d = d.mul(factor);
            } else {
                p.store(prob);
            }
            p.mul(scale).mul(d.sub(own)).store(d_score);
            col += V::LANES;
        }
        lines.clear_others(probs, &span);
        lines.clear_others(d_scores, &span);
    }
}

/// Zeroes the vectors that begin in `from..to`.
#[inline(always)]
unsafe fn clear<V: Vector>(line: *mut f32, from: usize, to: usize) {
    let mut col = from;
    while col < to {
        V::zero().store(line.wrapping_add(col));
        col += V::LANES;
    }
}

/// Σ x ∘ y over `n` floats.
#[inline(always)]
unsafe fn dot<V: Vector>(x: *const f32, y: *const f32, n: usize) -> f32 {
    let mut sum = V::zero();
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        sum = V::load_up_to(x.add(i), lanes).fma(V::load_up_to(y.add(i), lanes), sum);
        i += V::LANES;
    }
    sum.reduce_sum()
}

/// `n` up to a whole number of vectors, of any instruction set.
fn padded(n: usize) -> usize {
    n.next_multiple_of(MAX_LANES)
}

/// Hands out scratch from the front, on cache lines.
struct Parts<'a> {
    rest: &'a mut [f32],
}

impl Parts<'_> {
    /// The next `n` floats, a whole number of lines.
    fn take(&mut self, n: usize) -> *mut f32 {
        let (part, rest) = std::mem::take(&mut self.rest).split_at_mut(n);
        self.rest = rest;
        part.as_mut_ptr()
    }
}
