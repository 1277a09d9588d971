//! Multi-head attention over packed sequences, for every way to tell attention of distance.
//!
//! S = scale·Q·Kᵀ + what the position adds, O = softmax(S)·V. One piece of work is one head of up to `PIECE` queries of a
//! sequence. It goes through the keys `BLOCK` at a time: packs them and their values once, then takes its queries `TILE` at
//! a time through scores, exponentials and the sum of values, while the scores lie in L1 and L2 and the packed block in L2.
//! A query keeps its largest score and its sums from block to block and scales them down when a larger score turns up
//! (online softmax), so memory does not grow with the square of the length, and with a window time does not either.
//!
//! Blocks begin at multiples of `BLOCK` in the sequence, lanes of a sum are keys modulo the lanes, and a key that a query
//! may not see adds nothing but zeros: how queries are grouped into tiles and pieces changes no bit of their results.
//! So pieces are as large as the number of threads allows, and only some queries may be asked for.
//!
//! The inner functions have one duty in common: a machine with the instruction set of `V`, and pointers valid for the
//! shapes they name.
//!
//! # Source
//! Vaswani et al., Attention Is All You Need, NIPS 2017, arXiv:1706.03762, §3.2; the softmax by blocks: Milakov &
//! Gimelshein, arXiv:1805.02867, and Dao, FlashAttention-2, ICLR 2024, arXiv:2307.08691.

use super::{sequence, tokens};
use crate::Isa;
use crate::arch::math::exp;
use crate::arch::{Vector, dispatch, require};
use crate::op::attention::product::{Left, Packed, multiply, pack, pack_transposed};
use crate::op::split::each;
use crate::scratch::{Scratch, Shared};
use std::ops::Range;

/// Queries whose scores are in flight: a multiple of every register tile's rows.
const TILE: usize = 48;
/// Keys between two scalings of the sums; scores of a tile fill 48 KiB.
const BLOCK: usize = 256;
/// Most queries that use one packing of keys, which costs as much as about ten of them; their sums lie in L2.
const PIECE: usize = 384;
/// Keys at which a panel begins on every instruction set.
const PANEL: usize = 32;
/// Floats between rows of scores: not a power of two, whose rows would share few cache sets.
const STRIDE: usize = BLOCK + 16;
/// Lanes of the widest vector; scratch is measured for it.
const MAX_LANES: usize = 16;
/// Multiply-adds below which waking other threads costs more than they save.
const ALONE: usize = 1 << 18;

/// What attends to what, and in how many heads.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// `[B + 1]`: sequence `b` is tokens `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// H
    pub heads: usize,
    /// K, of one head.
    pub head_width: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// How far a token sees to each side, itself not counted; everything if none.
    pub window: Option<usize>,
    /// Scores grow by `ln n / ln m` for a sequence of `n > m` tokens, where this is `m`.
    pub log_scale: Option<usize>,
    /// What attention knows of distance; queries and keys that are [turned](super::rotary) come turned.
    pub position: Position<'a>,
    /// `[S]`: tokens whose output is wanted, ascending; all if none.
    pub queries: Option<&'a [u32]>,
}

/// What scores are told of the distance between key and query.
#[derive(Debug, Clone, Copy)]
pub enum Position<'a> {
    /// Nothing.
    None,
    /// Scores fall by a slope per head for each place of distance: `slopes: [H]` (Press et al., arXiv:2108.12409).
    Alibi {
        /// `[H]`
        slopes: &'a [f32],
    },
    /// A number per head and distance is added (Raffel et al., arXiv:1910.10683).
    Bias {
        /// `[H, 2·max + 1]`: column `key − query + max`, farther ones as the outermost; `max` is told by the length.
        table: &'a [f32],
    },
}

impl Attention<'_> {
    /// Panics unless the fields fit each other, and tells N.
    fn check(&self) -> usize {
        assert!(
            self.heads > 0 && self.head_width > 0,
            "attention: {} heads of {} channels",
            self.heads,
            self.head_width
        );
        let tokens = tokens("attention", self.offsets);
        if let Some(queries) = self.queries {
            assert!(
                queries.is_sorted_by(|a, b| a < b),
                "attention: queries do not rise"
            );
            assert!(
                queries.last().is_none_or(|&last| (last as usize) < tokens),
                "attention: a query past the last token"
            );
        }
        match self.position {
            Position::None => {}
            Position::Alibi { slopes } => {
                assert_eq!(slopes.len(), self.heads, "attention: length of slopes");
            }
            Position::Bias { table } => {
                let columns = table.len() / self.heads;
                assert!(
                    table.len().is_multiple_of(self.heads) && columns % 2 == 1,
                    "attention: a table of {} distances does not divide into {} heads of an odd number",
                    table.len(),
                    self.heads
                );
            }
        }
        tokens
    }

    /// D, of all heads together.
    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Rows of the output.
    fn rows(&self) -> usize {
        self.queries
            .map_or(self.offsets[self.offsets.len() - 1] as usize, <[u32]>::len)
    }

    /// Token of row `row` of the output.
    fn token(&self, row: usize) -> usize {
        self.queries.map_or(row, |queries| queries[row] as usize)
    }

    /// First row of the output whose token is `token` or later.
    fn row(&self, token: usize) -> usize {
        self.queries.map_or(token, |queries| {
            queries.partition_point(|&query| (query as usize) < token)
        })
    }

    /// Factor on the scores of a sequence.
    fn factor(&self, tokens: usize) -> f32 {
        match self.log_scale {
            Some(most) if tokens > most => {
                let growth = (tokens as f64).ln() / (most as f64).ln();
                (f64::from(self.scale) * growth) as f32
            }
            _ => self.scale,
        }
    }

    /// Calls `f` for every piece that begins in rows `rows`; pieces of a sequence begin `size` rows apart.
    fn each_piece(&self, rows: Range<usize>, size: usize, mut f: impl FnMut(usize, Range<usize>)) {
        let mut sequence = sequence(self.offsets, self.token(rows.start));
        while sequence + 1 < self.offsets.len() {
            let start = self.row(self.offsets[sequence] as usize);
            if start >= rows.end {
                break;
            }
            let end = self.row(self.offsets[sequence + 1] as usize);
            // The first of start, start + size, … that is not before `rows`.
            let mut first = start + rows.start.saturating_sub(start).next_multiple_of(size);
            while first < end.min(rows.end) {
                f(sequence, first..end.min(first + size));
                first += size;
            }
            sequence += 1;
        }
    }
}

/// Some queries of one head of one sequence.
#[derive(Clone, Copy)]
struct Piece<'a> {
    shape: &'a Attention<'a>,
    head: usize,
    /// First token of the sequence in the batch.
    start: usize,
    /// T
    tokens: usize,
    /// Rows of the output.
    first: usize,
    count: usize,
}

impl Piece<'_> {
    /// Place in the sequence of the piece's query `i`.
    fn place(&self, i: usize) -> usize {
        self.shape.token(self.first + i) - self.start
    }

    /// Keys that queries at `places` see, one or another.
    fn seen(&self, places: Range<usize>) -> Range<usize> {
        match self.shape.window {
            Some(window) => {
                places.start.saturating_sub(window)
                    ..(places.end.saturating_add(window)).min(self.tokens)
            }
            None => 0..self.tokens,
        }
    }

    /// Queries from the piece's query `from` on that make a tile: neighbours, where what a tile costs grows with its span.
    fn tile(&self, from: usize) -> Range<usize> {
        let mut to = self.count.min(from + TILE);
        let spread = self.shape.window.is_some();
        if spread && self.shape.queries.is_some() {
            let last = self.place(from) + TILE;
            while self.place(to - 1) >= last {
                to -= 1;
            }
        }
        from..to
    }

    /// Places of the queries `tile`, from the first to the last.
    fn places(&self, tile: &Range<usize>) -> Range<usize> {
        self.place(tile.start)..self.place(tile.end - 1) + 1
    }
}

/// Each asked-for token becomes the mean of its sequence's values, weighted by the softmax of its scores.
///
/// # Shapes
/// `qkv: [N, 3·H·K]` (queries, keys, values, each H heads of K), `out: [N, H·K]`, or `[S, H·K]` where S queries are named.
/// # Panics
/// Where a slice has another length, the fields of `shape` do not fit each other, or the machine lacks `isa`.
pub fn forward(isa: Isa, shape: &Attention, qkv: &[f32], out: &mut [f32]) {
    require(isa);
    let tokens = shape.check();
    let (rows, width) = (shape.rows(), shape.width());
    assert_eq!(qkv.len(), tokens * 3 * width, "attention: length of qkv");
    assert_eq!(out.len(), rows * width, "attention: length of out");
    if rows == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let wanted = (rows * shape.heads).div_ceil(4 * threads);
    let size = wanted.next_multiple_of(TILE).clamp(TILE, PIECE);
    let out = Shared::new(out);
    let work = |task: usize| {
        let (chunk, head) = (task / shape.heads, task % shape.heads);
        let begin = chunk * size;
        shape.each_piece(begin..rows.min(begin + size), size, |sequence, rows| {
            let start = shape.offsets[sequence] as usize;
            let piece = Piece {
                shape,
                head,
                start,
                tokens: shape.offsets[sequence + 1] as usize - start,
                first: rows.start,
                count: rows.len(),
            };
            // SAFETY: lengths and instruction set checked above; pieces own disjoint rows, or columns of them.
            unsafe { forward_piece(isa, isa, piece, qkv.as_ptr(), out.at(0)) };
        });
    };
    let tasks = rows.div_ceil(size) * shape.heads;
    if rows * tokens.min(BLOCK) * width < ALONE {
        (0..tasks).for_each(work);
    } else {
        each(tasks, work);
    }
}

dispatch! {
    /// One piece of [`forward`].
    ///
    /// # Safety
    /// The machine has `isa`, also given as `same`; the pointers have the shapes of [`forward`], and no other thread uses the
    /// piece's places in `out`.
    unsafe fn forward_piece(same: Isa, piece: Piece, qkv: *const f32, out: *mut f32) = piece_body;
}

#[inline(always)]
unsafe fn piece_body<V: Vector>(isa: Isa, piece: Piece, qkv: *const f32, out: *mut f32) {
    let shape = piece.shape;
    let (size, width) = (shape.head_width, shape.width());
    let stride = 3 * width;
    let wide = size.next_multiple_of(MAX_LANES);
    let query = qkv.add(piece.start * stride + piece.head * size);
    let (key, value) = (query.add(width), query.add(2 * width));
    let places = piece.places(&(0..piece.count));
    let seen = piece.seen(places.clone());
    let deep = BLOCK.min(seen.len().next_multiple_of(PANEL) + PANEL);
    let lined = !matches!(shape.position, Position::None);
    let line_len = if lined {
        places.len() + deep + MAX_LANES
    } else {
        0
    };

    let high = piece.count.min(TILE);
    let many = piece.count.next_multiple_of(MAX_LANES);
    let needed = wide * (2 * deep + high + piece.count)
        + high * STRIDE
        + 2 * many
        + line_len.next_multiple_of(MAX_LANES);
    let mut scratch = Scratch::take(needed);
    let mut rest = &mut *scratch;
    let mut take = |n: usize| {
        let (part, others) = std::mem::take(&mut rest).split_at_mut(n);
        rest = others;
        part.as_mut_ptr()
    };
    let keys = take(wide * deep);
    let values = take(wide * deep);
    let queries = take(wide * high);
    let sums = take(wide * piece.count);
    let scores = take(high * STRIDE);
    let tops = take(many);
    let totals = take(many);
    let line = take(line_len.next_multiple_of(MAX_LANES));
    for i in 0..piece.count {
        *tops.add(i) = f32::NEG_INFINITY;
        *totals.add(i) = 0.0;
    }
    let factor = V::splat(shape.factor(piece.tokens));

    let mut block = seen.start - seen.start % BLOCK;
    while block < seen.end {
        let from = block.max(seen.start - seen.start % PANEL);
        let to = seen.end.min(block + BLOCK);
        pack_transposed::<V>(key.add(from * stride), stride, to - from, size, keys);
        pack::<V>(value.add(from * stride), stride, to - from, size, values);
        // The line's first number is for the first key and the last query.
        let nearest = from as isize - (places.end as isize - 1);
        if lined {
            fill_line(&piece, nearest, places.len() + (to - from), line);
        }
        let mut next = 0;
        while next < piece.count {
            let tile = piece.tile(next);
            next = tile.end;
            let rows = tile.len();
            let seen = piece.seen(piece.places(&tile));
            if seen.start >= to || seen.end <= from {
                continue;
            }
            let begin = seen.start.max(from) - from;
            let begin = begin - begin % PANEL;
            let end = seen.end.min(to) - from;
            let is_first = seen.start >= block;
            for (r, i) in tile.clone().enumerate() {
                let from = query.add(piece.place(i) * stride);
                let mut col = 0;
                while col < size {
                    let n = V::LANES.min(size - col);
                    let scaled = V::load_up_to(from.add(col), n).mul(factor);
                    scaled.store(queries.add(r * wide + col));
                    col += V::LANES;
                }
            }
            // [rows, K] · [K, keys]
            let a = Left::new(queries, wide);
            let b = Packed::new(keys, size, to - from).right_of(begin);
            multiply(isa, rows, size, end - begin, a, b, scores, STRIDE, false);
            for (r, i) in tile.clone().enumerate() {
                let place = piece.place(i);
                let own = piece.seen(place..place + 1);
                let row = Row {
                    scores: scores.add(r * STRIDE),
                    keys: end - begin,
                    low: own.start.saturating_sub(from + begin),
                    high: own.end.saturating_sub(from + begin).min(end - begin),
                    line: if lined {
                        let ahead = (from + begin) as isize - place as isize;
                        line.add((ahead - nearest) as usize)
                    } else {
                        std::ptr::null()
                    },
                };
                let scaling = row.softmax::<V>(&mut *tops.add(i), &mut *totals.add(i));
                if !is_first && scaling != 1.0 {
                    let mut col = 0;
                    while col < size {
                        let at = sums.add(i * wide + col);
                        V::load(at).mul(V::splat(scaling)).store(at);
                        col += V::LANES;
                    }
                }
            }
            // [rows, keys] · [keys, K]
            let a = Left::new(scores, STRIDE);
            let b = Packed::new(values, to - from, size).below(begin);
            let c = sums.add(tile.start * wide);
            multiply(isa, rows, end - begin, size, a, b, c, wide, !is_first);
        }
        block += BLOCK;
    }
    for i in 0..piece.count {
        let total = V::splat(1.0 / *totals.add(i));
        let out = out.add((piece.first + i) * width + piece.head * size);
        let mut col = 0;
        while col < size {
            // Plus zero: a sum of −0 would tell whether zeros were added to it.
            let mean = V::load(sums.add(i * wide + col)).mul(total).add(V::zero());
            mean.store_up_to(out.add(col), V::LANES.min(size - col));
            col += V::LANES;
        }
    }
}

/// What is added to scores at distances `nearest..nearest + n`, key less query.
#[inline(always)]
unsafe fn fill_line(piece: &Piece, nearest: isize, n: usize, line: *mut f32) {
    match piece.shape.position {
        Position::None => {}
        Position::Alibi { slopes } => {
            let slope = slopes[piece.head];
            for i in 0..n {
                let distance = (nearest + i as isize).unsigned_abs();
                *line.add(i) = -(slope * distance as f32);
            }
        }
        Position::Bias { table } => {
            let columns = table.len() / piece.shape.heads;
            let table = &table[piece.head * columns..][..columns];
            let max = columns as isize / 2;
            for i in 0..n {
                let column = (nearest + i as isize + max).clamp(0, 2 * max);
                *line.add(i) = table[column as usize];
            }
        }
    }
}

/// Scores of one query.
struct Row {
    scores: *mut f32,
    /// How many, of which it sees `low..high`.
    keys: usize,
    low: usize,
    high: usize,
    /// Numbers to add to them; may be null.
    line: *const f32,
}

impl Row {
    /// Turns scores into exp(S − top), zero where the query does not see, with `top` raised to the largest score and their sum
    /// added to `total`. Returns the factor of what was summed before; it is already on `total`.
    #[inline(always)]
    unsafe fn softmax<V: Vector>(&self, top: &mut f32, total: &mut f32) -> f32 {
        if self.low >= self.high {
            self.fill::<V>(0, self.keys, 0.0);
            return 1.0;
        }
        let mut most = V::splat(f32::NEG_INFINITY);
        let mut col = 0;
        if !self.line.is_null() {
            while col < self.keys {
                let at = self.scores.add(col);
                let n = V::LANES.min(self.keys - col);
                V::load(at)
                    .add(V::load_up_to(self.line.add(col), n))
                    .store(at);
                col += V::LANES;
            }
        }
        self.fill::<V>(0, self.low, f32::NEG_INFINITY);
        self.fill::<V>(self.high, self.keys, f32::NEG_INFINITY);
        col = 0;
        while col < self.keys {
            most = V::load(self.scores.add(col)).max(most);
            col += V::LANES;
        }
        let before = *top;
        let most = most.reduce_max();
        if most > before {
            *top = most;
        }
        let offset = V::splat(*top);
        let mut sum = V::zero();
        col = 0;
        while col < self.keys {
            let at = self.scores.add(col);
            let term = exp(V::load(at).sub(offset));
            sum = sum.add(term);
            term.store(at);
            col += V::LANES;
        }
        let scaling = if most > before {
            exp(V::splat(before - *top)).reduce_max()
        } else {
            1.0
        };
        *total = *total * scaling + sum.reduce_sum();
        scaling
    }

    /// Every score of `from..to`, and of the rest of the last vector where `to` is the end, becomes `x`.
    #[inline(always)]
    unsafe fn fill<V: Vector>(&self, from: usize, to: usize, x: f32) {
        let to = if to == self.keys {
            to.next_multiple_of(V::LANES)
        } else {
            to
        };
        let mut col = from - from % V::LANES;
        while col < to {
            let at = self.scores.add(col);
            let columns = V::iota(col as u32);
            let mut value = V::splat(x);
            if col < from {
                let is_before = V::lt_int(columns, V::splat_int(from as u32));
                value = V::select(is_before, V::load(at), value);
            }
            if to - col < V::LANES {
                let is_inside = V::lt_int(columns, V::splat_int(to as u32));
                value = V::select(is_inside, value, V::load(at));
            }
            value.store(at);
            col += V::LANES;
        }
    }
}
