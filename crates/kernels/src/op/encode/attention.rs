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
use crate::arch::math::exp_of_negative;
use crate::arch::{Vector, dispatch, require};
use crate::op::attention::product::{Left, Packed, multiply, pack, pack_columns, pack_transposed};
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
/// Floats between rows of scores by distance: those of a block's keys from a tile's queries, up to whole panels.
const LONG_STRIDE: usize = BLOCK + TILE + 2 * PANEL + 16;
/// Keys whose products with vectors of distances are in flight: the fewer, the fewer products nobody asks for.
const KEYS: usize = 24;
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
    /// Queries, and keys if so set, meet a vector per distance (Shaw et al., arXiv:1803.02155; Huang et al., arXiv:2009.13658).
    Key {
        /// `[2·max + 1, K]`: row `query − key + max`, farther ones as the outermost; `max` is told by the length.
        table: &'a [f32],
        /// Keys meet the vector too.
        keys: bool,
    },
    /// Queries of content meet keys of position, and keys of content queries of position (He et al., arXiv:2006.03654).
    Disentangled {
        /// `[R, H·K]`
        keys: Option<&'a [f32]>,
        /// `[R, H·K]`
        queries: Option<&'a [f32]>,
        /// `[2·max + 1]`: the row of both at distance `query − key + max`, farther ones as the outermost.
        rows: &'a [u32],
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
            Position::Key { table, .. } => {
                let rows = table.len() / self.head_width;
                assert!(
                    table.len().is_multiple_of(self.head_width) && rows % 2 == 1,
                    "attention: a table of {} is not an odd number of vectors of {}",
                    table.len(),
                    self.head_width
                );
            }
            Position::Disentangled {
                keys,
                queries,
                rows,
            } => {
                assert!(
                    rows.len() % 2 == 1,
                    "attention: rows of {} distances, not an odd number",
                    rows.len()
                );
                let needed = rows.iter().max().map_or(0, |&last| last as usize + 1);
                for table in [keys, queries].into_iter().flatten() {
                    assert!(
                        table.len() >= needed * self.width(),
                        "attention: length of a table of positions"
                    );
                }
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

impl Position<'_> {
    /// Whether a number is added for each distance.
    fn has_numbers(&self) -> bool {
        match self {
            Self::Alibi { .. } | Self::Bias { .. } => true,
            Self::None | Self::Key { .. } | Self::Disentangled { .. } => false,
        }
    }

    /// Whether queries or keys meet vectors of distances.
    fn has_vectors(&self) -> bool {
        match self {
            Self::None | Self::Alibi { .. } | Self::Bias { .. } => false,
            Self::Key { .. } | Self::Disentangled { .. } => true,
        }
    }
}

/// A vector per distance for one head.
#[derive(Clone, Copy)]
struct Vectors<'a> {
    /// Where the head's part of row 0 lies.
    data: *const f32,
    /// Floats from row to row.
    stride: usize,
    /// Row of distance `query − key + max`; that number itself if empty.
    rows: &'a [u32],
    max: isize,
}

impl Vectors<'_> {
    /// The vector for a key `distance` after the query.
    fn at(&self, distance: isize) -> *const f32 {
        let column = (self.max - distance).clamp(0, 2 * self.max) as usize;
        let row = self.rows.get(column).map_or(column, |&row| row as usize);
        self.data.wrapping_add(row * self.stride)
    }
}

/// Heads `first..first + count`.
#[derive(Clone, Copy)]
struct Held {
    first: usize,
    count: usize,
}

/// Some queries of one head of one sequence.
#[derive(Clone, Copy)]
struct Piece<'a> {
    shape: &'a Attention<'a>,
    head: usize,
    /// Heads whose queries, keys and values there are.
    held: Held,
    /// First token of the sequence in the batch.
    start: usize,
    /// T
    tokens: usize,
    /// Rows of the output.
    first: usize,
    count: usize,
}

impl<'a> Piece<'a> {
    /// K, in whole vectors of any instruction set.
    fn wide(&self) -> usize {
        self.shape.head_width.next_multiple_of(MAX_LANES)
    }

    /// Lengths of the parts of [`Room`], where blocks have up to `keys` keys.
    fn room(&self, keys: usize) -> [usize; 12] {
        let wide = self.wide();
        let rows = self.count.min(TILE);
        let count = self.count.next_multiple_of(MAX_LANES);
        let distances = (self.places(&(0..self.count)).len() + keys).next_multiple_of(PANEL);
        let [met_by_queries, met_by_keys] = self.vectors().map(|vectors| vectors.is_some());
        [
            wide * keys,
            wide * keys,
            wide * rows,
            wide * self.count,
            STRIDE * rows,
            count,
            count,
            distances * usize::from(self.shape.position.has_numbers()),
            wide * distances * usize::from(met_by_queries),
            wide * distances * usize::from(met_by_keys),
            LONG_STRIDE * rows * usize::from(met_by_queries),
            LONG_STRIDE * KEYS * usize::from(met_by_keys),
        ]
    }

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
        let spread = self.shape.window.is_some() || self.shape.position.has_vectors();
        if spread && self.shape.queries.is_some() {
            let last = self.place(from) + TILE;
            while self.place(to - 1) >= last {
                to -= 1;
            }
        }
        from..to
    }

    /// The vectors that queries meet, and those that keys meet.
    fn vectors(&self) -> [Option<Vectors<'a>>; 2] {
        match self.shape.position {
            Position::None | Position::Alibi { .. } | Position::Bias { .. } => [None; 2],
            Position::Key { table, keys } => {
                let vectors = Vectors {
                    data: table.as_ptr(),
                    stride: self.shape.head_width,
                    rows: &[],
                    max: (table.len() / self.shape.head_width) as isize / 2,
                };
                [Some(vectors), keys.then_some(vectors)]
            }
            Position::Disentangled {
                keys,
                queries,
                rows,
            } => [keys, queries].map(|table| {
                table.map(|table| Vectors {
                    data: table[self.head * self.shape.head_width..].as_ptr(),
                    stride: self.shape.width(),
                    rows,
                    max: rows.len() as isize / 2,
                })
            }),
        }
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
    forward_heads(isa, shape, 0..shape.heads, qkv, out);
}

/// [`forward`] for G of the heads: the others' columns of `out` stay.
///
/// # Shapes
/// `qkv: [N, 3·G·K]`, `out` as there
/// # Panics
/// As [`forward`], or where there are no such heads.
pub fn forward_heads(
    isa: Isa,
    shape: &Attention,
    heads: Range<usize>,
    qkv: &[f32],
    out: &mut [f32],
) {
    require(isa);
    let tokens = shape.check();
    let rows = shape.rows();
    assert!(
        heads.start < heads.end && heads.end <= shape.heads,
        "attention: heads {heads:?} of {}",
        shape.heads
    );
    let held = Held {
        first: heads.start,
        count: heads.len(),
    };
    let width = held.count * shape.head_width;
    assert_eq!(qkv.len(), tokens * 3 * width, "attention: length of qkv");
    assert_eq!(out.len(), rows * shape.width(), "attention: length of out");
    if rows == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let wanted = (rows * held.count).div_ceil(4 * threads);
    let size = wanted.next_multiple_of(TILE).clamp(TILE, PIECE);
    let out = Shared::new(out);
    let work = |task: usize| {
        let (chunk, head) = (task / held.count, held.first + task % held.count);
        let begin = chunk * size;
        shape.each_piece(begin..rows.min(begin + size), size, |sequence, rows| {
            let start = shape.offsets[sequence] as usize;
            let piece = Piece {
                shape,
                head,
                held,
                start,
                tokens: shape.offsets[sequence + 1] as usize - start,
                first: rows.start,
                count: rows.len(),
            };
            // SAFETY: lengths and instruction set checked above; pieces own disjoint rows, or columns of them.
            unsafe { forward_piece(isa, isa, piece, qkv.as_ptr(), out.at(0)) };
        });
    };
    let tasks = rows.div_ceil(size) * held.count;
    if rows * tokens.min(BLOCK) * width < ALONE {
        (0..tasks).for_each(work);
    } else {
        each(tasks, work);
    }
}

dispatch! {
    /// One piece of [`forward_heads`].
    ///
    /// # Safety
    /// The machine has `isa`, also given as `same`; the pointers have the shapes of [`forward_heads`], and no other thread uses the
    /// piece's places in `out`.
    unsafe fn forward_piece(same: Isa, piece: Piece, qkv: *const f32, out: *mut f32) = piece_body;
}

#[inline(always)]
unsafe fn piece_body<V: Vector>(isa: Isa, piece: Piece, qkv: *const f32, out: *mut f32) {
    let shape = piece.shape;
    let (size, width) = (shape.head_width, shape.width());
    let seen = piece.seen(piece.places(&(0..piece.count)));
    let most = BLOCK.min(seen.len().next_multiple_of(PANEL) + PANEL);
    let sizes = piece.room(most);
    let mut scratch = Scratch::take(sizes.iter().sum());
    let mut rest = &mut *scratch;
    let room = sizes.map(|n| {
        let (part, others) = std::mem::take(&mut rest).split_at_mut(n);
        rest = others;
        part.as_mut_ptr()
    });
    // Floats from a token's queries to its keys, and to its values.
    let part = piece.held.count * size;
    let query = qkv.add(piece.start * 3 * part + (piece.head - piece.held.first) * size);
    let work = Work {
        isa,
        piece,
        query,
        key: query.add(part),
        value: query.add(2 * part),
        stride: 3 * part,
        wide: piece.wide(),
        factor: shape.factor(piece.tokens),
        vectors: piece.vectors(),
        room: Room::new(room),
    };
    for i in 0..piece.count {
        *work.room.tops.add(i) = f32::NEG_INFINITY;
        *work.room.totals.add(i) = 0.0;
    }
    let mut start = seen.start - seen.start % BLOCK;
    while start < seen.end {
        let block = Block::new(&piece, start, &seen);
        work.pack::<V>(&block);
        let mut next = 0;
        while next < piece.count {
            let rows = piece.tile(next);
            next = rows.end;
            if let Some(tile) = Tile::new(&piece, &block, rows) {
                work.tile::<V>(&block, &tile);
            }
        }
        start += BLOCK;
    }
    for i in 0..piece.count {
        let total = V::splat(1.0 / *work.room.totals.add(i));
        let out = out.add((piece.first + i) * width + piece.head * size);
        let sums = work.room.sums.add(i * work.wide);
        let mut col = 0;
        while col < size {
            // Plus zero: a sum of −0 would tell whether zeros were added to it.
            let mean = V::load(sums.add(col)).mul(total).add(V::zero());
            mean.store_up_to(out.add(col), V::LANES.min(size - col));
            col += V::LANES;
        }
    }
}

/// Scratch memory of a piece; the last parts are empty where the kind of position does not need them.
struct Room {
    /// [K, keys], packed.
    keys: *mut f32,
    /// [keys, K], packed.
    values: *mut f32,
    /// A tile's queries times the factor, [rows, K].
    queries: *mut f32,
    /// Each query's sum of values, [count, K].
    sums: *mut f32,
    /// A tile's scores, [rows, keys].
    scores: *mut f32,
    /// Each query's largest score.
    tops: *mut f32,
    /// Each query's sum of exponentials.
    totals: *mut f32,
    /// What is added at each distance.
    line: *mut f32,
    /// Vectors that queries meet, [K, distances], packed.
    for_queries: *mut f32,
    /// Vectors that keys meet, [K, distances], packed.
    for_keys: *mut f32,
    /// What queries make of them, [rows, distances].
    of_queries: *mut f32,
    /// What some keys make of them, [keys, distances].
    of_keys: *mut f32,
}

impl Room {
    /// Parts with the lengths of [`Piece::room`].
    fn new(parts: [*mut f32; 12]) -> Self {
        let [
            keys,
            values,
            queries,
            sums,
            scores,
            tops,
            totals,
            line,
            rest @ ..,
        ] = parts;
        let [for_queries, for_keys, of_queries, of_keys] = rest;
        Self {
            keys,
            values,
            queries,
            sums,
            scores,
            tops,
            totals,
            line,
            for_queries,
            for_keys,
            of_queries,
            of_keys,
        }
    }
}

/// Keys that are packed together.
struct Block {
    /// Where it would begin if every query saw everything.
    start: usize,
    /// Keys, by their places in the sequence.
    keys: Range<usize>,
    /// Place of the first key less that of the piece's last query: the first of its distances.
    nearest: isize,
    /// How many distances there are.
    distances: usize,
}

impl Block {
    fn new(piece: &Piece, start: usize, seen: &Range<usize>) -> Self {
        let places = piece.places(&(0..piece.count));
        let keys = start.max(seen.start - seen.start % PANEL)..seen.end.min(start + BLOCK);
        Self {
            start,
            nearest: keys.start as isize - (places.end as isize - 1),
            distances: places.len() + keys.len() - 1,
            keys,
        }
    }

    /// Which of the distances lies between a key, counted from the block's first, and the query at `place`.
    fn distance(&self, key: usize, place: usize) -> usize {
        ((self.keys.start + key) as isize - place as isize - self.nearest) as usize
    }
}

/// Queries that meet a block's keys together.
struct Tile {
    /// Queries of the piece.
    rows: Range<usize>,
    /// From the first to the last, in the sequence.
    places: Range<usize>,
    /// Keys that they see, counted from the block's first, from the beginning of a panel on.
    keys: Range<usize>,
    /// Whether they saw none before.
    is_first: bool,
}

impl Tile {
    /// The tile, if it sees any of the block's keys.
    fn new(piece: &Piece, block: &Block, rows: Range<usize>) -> Option<Self> {
        let places = piece.places(&rows);
        let seen = piece.seen(places.clone());
        let low = seen.start.max(block.keys.start) - block.keys.start;
        let high = seen
            .end
            .min(block.keys.end)
            .saturating_sub(block.keys.start);
        (low < high).then(|| Self {
            rows,
            places,
            keys: low - low % PANEL..high,
            is_first: seen.start >= block.start,
        })
    }
}

/// What the steps of a piece share.
struct Work<'a> {
    isa: Isa,
    piece: Piece<'a>,
    /// The head's query, key and value of the sequence's first token.
    query: *const f32,
    key: *const f32,
    value: *const f32,
    /// Floats from token to token.
    stride: usize,
    /// K, in whole vectors.
    wide: usize,
    /// Of scores.
    factor: f32,
    /// What queries meet, and what keys meet.
    vectors: [Option<Vectors<'a>>; 2],
    room: Room,
}

impl Work<'_> {
    /// Packs a block's keys and values, and what is known of its distances.
    #[inline(always)]
    unsafe fn pack<V: Vector>(&self, block: &Block) {
        let (size, stride, room) = (self.piece.shape.head_width, self.stride, &self.room);
        let (from, count) = (block.keys.start * stride, block.keys.len());
        pack_transposed::<V>(self.key.add(from), stride, count, size, room.keys);
        pack::<V>(self.value.add(from), stride, count, size, room.values);
        if self.piece.shape.position.has_numbers() {
            fill_line(&self.piece, block.nearest, block.distances, room.line);
        }
        for (vectors, to) in self.vectors.iter().zip([room.for_queries, room.for_keys]) {
            if let Some(vectors) = vectors {
                let row = |distance: usize| vectors.at(block.nearest + distance as isize);
                pack_columns::<V>(row, block.distances, size, to);
            }
        }
    }

    /// Adds a block's keys to what a tile's queries know.
    #[inline(always)]
    unsafe fn tile<V: Vector>(&self, block: &Block, tile: &Tile) {
        let (size, wide, room) = (self.piece.shape.head_width, self.wide, &self.room);
        let (rows, count) = (tile.rows.len(), tile.keys.len());
        for (r, i) in tile.rows.clone().enumerate() {
            let from = self.query.add(self.piece.place(i) * self.stride);
            let mut col = 0;
            while col < size {
                let n = V::LANES.min(size - col);
                let scaled = V::load_up_to(from.add(col), n).mul(V::splat(self.factor));
                scaled.store(room.queries.add(r * wide + col));
                col += V::LANES;
            }
        }
        // [rows, K] · [K, keys]
        let a = Left::new(room.queries, wide);
        let b = Packed::new(room.keys, size, block.keys.len()).right_of(tile.keys.start);
        multiply(
            self.isa,
            rows,
            size,
            count,
            a,
            b,
            room.scores,
            STRIDE,
            false,
        );
        if self.vectors[1].is_some() {
            self.add_of_keys(block, tile);
        }
        let mut low = 0;
        if self.vectors[0].is_some() {
            low = block.distance(tile.keys.start, tile.places.end - 1) / PANEL * PANEL;
            let high = block.distance(tile.keys.end - 1, tile.places.start) + 1;
            // [rows, K] · [K, distances]
            let b = Packed::new(room.for_queries, size, block.distances).right_of(low);
            let c = room.of_queries;
            multiply(
                self.isa,
                rows,
                size,
                high - low,
                a,
                b,
                c,
                LONG_STRIDE,
                false,
            );
        }
        let first = block.keys.start + tile.keys.start;
        for (r, i) in tile.rows.clone().enumerate() {
            let place = self.piece.place(i);
            let seen = self.piece.seen(place..place + 1);
            let distance = block.distance(tile.keys.start, place);
            let row = Row {
                scores: room.scores.add(r * STRIDE),
                keys: count,
                low: seen.start.saturating_sub(first),
                high: seen.end.saturating_sub(first).min(count),
                line: if self.piece.shape.position.has_numbers() {
                    room.line.add(distance)
                } else if self.vectors[0].is_some() {
                    room.of_queries.add(r * LONG_STRIDE + distance - low)
                } else {
                    std::ptr::null()
                },
            };
            let scaling = row.softmax::<V>(&mut *room.tops.add(i), &mut *room.totals.add(i));
            if let Some(scaling) = scaling
                && !tile.is_first
            {
                let mut col = 0;
                while col < size {
                    let sum = room.sums.add(i * wide + col);
                    V::load(sum).mul(V::splat(scaling)).store(sum);
                    col += V::LANES;
                }
            }
        }
        // [rows, keys] · [keys, K]
        let a = Left::new(room.scores, STRIDE);
        let b = Packed::new(room.values, block.keys.len(), size).below(tile.keys.start);
        let c = room.sums.add(tile.rows.start * wide);
        multiply(self.isa, rows, count, size, a, b, c, wide, !tile.is_first);
    }

    /// Adds to a tile's scores what keys make of the vectors they meet, some keys at a time.
    #[inline(always)]
    unsafe fn add_of_keys(&self, block: &Block, tile: &Tile) {
        let (size, room) = (self.piece.shape.head_width, &self.room);
        let mut first = tile.keys.start;
        while first < tile.keys.end {
            let last = tile.keys.end.min(first + KEYS);
            let low = block.distance(first, tile.places.end - 1) / PANEL * PANEL;
            let high = block.distance(last - 1, tile.places.start) + 1;
            // [keys, K] · [K, distances]
            let key = self.key.add((block.keys.start + first) * self.stride);
            let a = Left::new(key, self.stride);
            let b = Packed::new(room.for_keys, size, block.distances).right_of(low);
            let (n, c) = (last - first, room.of_keys);
            multiply(self.isa, n, size, high - low, a, b, c, LONG_STRIDE, false);
            for (r, i) in tile.rows.clone().enumerate() {
                let from = c.add(block.distance(first, self.piece.place(i)) - low);
                let to = room.scores.add(r * STRIDE + first - tile.keys.start);
                for k in 0..n {
                    *to.add(k) += self.factor * *from.add(k * (LONG_STRIDE + 1));
                }
            }
            first = last;
        }
    }
}

/// What is added to scores at distances `nearest..nearest + n`, key less query.
#[inline(always)]
unsafe fn fill_line(piece: &Piece, nearest: isize, n: usize, line: *mut f32) {
    match piece.shape.position {
        Position::None | Position::Key { .. } | Position::Disentangled { .. } => {}
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
    /// added to `total`. Returns the factor of what was summed before, if that changes; it is already on `total`.
    #[inline(always)]
    unsafe fn softmax<V: Vector>(&self, top: &mut f32, total: &mut f32) -> Option<f32> {
        if self.low >= self.high {
            self.fill::<V>(0, self.keys, 0.0);
            return None;
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
            let term = exp_of_negative(V::load(at).sub(offset));
            sum = sum.add(term);
            term.store(at);
            col += V::LANES;
        }
        let scaling =
            (most > before).then(|| exp_of_negative(V::splat(before - *top)).reduce_max());
        *total = *total * scaling.unwrap_or(1.0) + sum.reduce_sum();
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
