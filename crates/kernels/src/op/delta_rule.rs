//! A state whose content at a key is replaced by a share, along every sequence of a packed batch, heads apart.
//!
//! With queries and keys of length 1, `e_t = v_t − S_(t−1)ᵀ k_t`, `S_t = S_(t−1) + β_t k_t e_tᵀ`, `o_t = S_tᵀ q_t / √K`. Sixteen
//! tokens are taken at a time. With the state S before them, and D = β ∘ E,
//!
//! E = V − K·S − tril(K·Kᵀ, −1)·D, row after row; O = Q·S + tril(Q·Kᵀ)·D; S ← S + Kᵀ·D:
//!
//! products of small matrices that lie in L1, one triangle to go down, and no inverse. Token by token the state would be
//! read and written for each; chunk by chunk it is for sixteen.
//!
//! Forward keeps E, and the state after each whole [stretch](DeltaRule::stretch). Backward makes the last state of those, and goes
//! chunk by chunk to the start, S ← S − Kᵀ·D. With G, the gradient of the state after the chunk:
//!
//! dE = K·G + tril(Q·Kᵀ)ᵀ·dO − triu(K·Kᵀ, 1)·(β ∘ dE), last row first; dV = β ∘ dE, dβ = Σ dE ∘ E, N = −β ∘ dE,
//! X = tril(dO·Dᵀ), Y = tril(N·Dᵀ, −1): dQ = dO·Sᵀ + X·K, dK = N·Sᵀ + D·Gᵀ + Xᵀ·Q + (Y + Yᵀ)·K, G ← G + Qᵀ·dO + Kᵀ·N.
//!
//! One task is one head of one sequence. Its result depends on nothing else.
//!
//! # Source
//! Yang et al., `NeurIPS` 2024, arXiv:2406.06484, §2 and §3.2.

use super::split::each;
use crate::Isa;
use crate::arch::small::{
    CHUNK, Rows, carve, dot, gather, multiply, padded, scatter, solve, times, transpose, turned,
    whole,
};
use crate::arch::{Scalar, Vector, dispatch, require};
use crate::scratch::{Scratch, Shared};

/// Added to the square of a query's or key's length.
pub const EPS: f64 = 1e-6;

/// What the rule runs over.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRule<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// D, of all heads together.
    pub width: usize,
    /// H, divides `width`.
    pub heads: usize,
    /// Passes over each sequence, summed: 1 from its start, 2 from its end too.
    pub directions: usize,
}

/// What [`forward`] leaves for [`backward`].
#[derive(Debug, Default)]
pub struct Kept {
    /// E of each direction: `[directions, N, D]`.
    pub errors: Vec<f32>,
    /// States after each whole stretch: `[K, K]` of each head of each sequence, direction by direction.
    pub states: Vec<f32>,
}

impl DeltaRule<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Tokens between kept states: so many that states take no more room than the output does.
    pub fn stretch(&self) -> usize {
        self.head_width().next_multiple_of(CHUNK).max(4 * CHUNK)
    }

    /// Floats of states of a head of a sequence of `len` tokens, in one direction.
    fn held(&self, len: usize) -> usize {
        len / self.stretch() * self.head_width().pow(2)
    }

    fn all_held(&self) -> usize {
        let sequences = self.offsets.windows(2);
        let held: usize = sequences.map(|w| self.held((w[1] - w[0]) as usize)).sum();
        held * self.heads * self.directions
    }

    fn check(&self, qkv: &[f32], strength: &[f32]) {
        assert!(
            self.heads > 0 && self.width.is_multiple_of(self.heads),
            "delta_rule: width {} does not divide into {} heads",
            self.width,
            self.heads
        );
        assert!(
            (1..=2).contains(&self.directions),
            "delta_rule: {} directions",
            self.directions
        );
        assert!(self.offsets.is_sorted(), "delta_rule: offsets fall");
        let tokens = self.tokens();
        assert_eq!(
            qkv.len(),
            tokens * 3 * self.width,
            "delta_rule: length of qkv"
        );
        assert_eq!(
            strength.len(),
            tokens * self.directions * self.heads,
            "delta_rule: length of strength"
        );
    }

    /// Calls `f` for every head of every sequence that has tokens, over the pool.
    fn each_head(&self, f: impl Fn(Head) + Sync + Send) {
        let mut held = 0;
        let mut sequences = Vec::new();
        for w in self.offsets.windows(2) {
            let (start, tokens) = (w[0] as usize, (w[1] - w[0]) as usize);
            if tokens > 0 {
                sequences.push((start, tokens, held));
                held += self.held(tokens) * self.heads * self.directions;
            }
        }
        each(sequences.len() * self.heads, |task| {
            let (start, tokens, held) = sequences[task / self.heads];
            let index = task % self.heads;
            f(Head {
                start,
                tokens,
                index,
                heads: self.heads,
                width: self.width,
                directions: self.directions,
                all: self.tokens(),
                stretch: self.stretch(),
                states: held + index * self.held(tokens) * self.directions,
                held: self.held(tokens),
            });
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
    directions: usize,
    /// N
    all: usize,
    stretch: usize,
    /// Where its states begin, and floats of each direction's.
    states: usize,
    held: usize,
}

impl Head {
    /// K
    fn size(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.size() as f64).sqrt()) as f32
    }

    /// The state after so many steps, a whole number of stretches.
    fn state(&self, states: *mut f32, direction: usize, steps: usize) -> Rows {
        let before = (steps / self.stretch - 1) * self.size().pow(2);
        let states = states.wrapping_add(self.states + direction * self.held + before);
        Rows::new(states, self.size(), 0, false)
    }

    /// This head's channels of rows of `parts · D`, from `step` on in a direction.
    fn rows(&self, data: *mut f32, parts: usize, direction: usize, step: usize) -> Rows {
        let channel = self.index * self.size();
        self.tokens_from(data, parts * self.width, direction, step)
            .from(channel)
    }

    /// Its column of `[N, directions · H]`, from `step` on in a direction.
    fn strengths(&self, data: *mut f32, direction: usize, step: usize) -> Rows {
        let column = direction * self.heads + self.index;
        self.tokens_from(data, self.directions * self.heads, direction, step)
            .from(column)
    }

    fn tokens_from(&self, data: *mut f32, stride: usize, direction: usize, step: usize) -> Rows {
        let back = direction == 1;
        let token = if back { self.tokens - 1 - step } else { step };
        Rows::new(data, stride, self.start + token, back)
    }
}

/// The rule's output; `kept`, if there, is filled for [`backward`].
///
/// # Shapes
/// `qkv: [N, 3D]`, queries, keys and values side by side, each H heads of K; `strength: [N, directions · H]`, β; `output: [N, D]`
/// # Panics
/// Where a slice has another length, the fields of `rule` do not fit each other, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    rule: &DeltaRule<'_>,
    qkv: &[f32],
    strength: &[f32],
    output: &mut [f32],
    kept: Option<&mut Kept>,
) {
    require(isa);
    rule.check(qkv, strength);
    assert_eq!(3 * output.len(), qkv.len(), "delta_rule: length of output");
    let [mut errors, mut states] = [Shared::from_ptr(std::ptr::null_mut()); 2];
    let keep = kept.is_some();
    if let Some(kept) = kept {
        kept.errors = vec![0.0; rule.directions * output.len()];
        kept.states = vec![0.0; rule.all_held()];
        errors = Shared::new(&mut kept.errors);
        states = Shared::new(&mut kept.states);
    }
    let output = Shared::new(output);
    rule.each_head(|head| {
        let kept = keep.then(|| (errors.at(0), states.at(0)));
        // SAFETY: lengths and instruction set checked above; heads own disjoint parts of what is written.
        unsafe {
            run(
                isa,
                head,
                qkv.as_ptr(),
                strength.as_ptr(),
                output.at(0),
                kept,
            );
        }
    });
}

/// Gradients of `qkv` and `strength`, given that of the output; `errors` and `states` as [`forward`] left them in [`Kept`].
///
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    rule: &DeltaRule<'_>,
    qkv: &[f32],
    strength: &[f32],
    errors: &[f32],
    states: &[f32],
    d_output: &[f32],
) -> [Vec<f32>; 2] {
    require(isa);
    rule.check(qkv, strength);
    assert_eq!(
        3 * d_output.len(),
        qkv.len(),
        "delta_rule: length of d_output"
    );
    assert_eq!(
        errors.len(),
        rule.directions * d_output.len(),
        "delta_rule: kept errors"
    );
    assert_eq!(states.len(), rule.all_held(), "delta_rule: kept states");
    let mut d_qkv = vec![0.0; qkv.len()];
    let mut d_strength = vec![0.0; strength.len()];
    let [to_qkv, to_strength] = [&mut d_qkv, &mut d_strength].map(|d| Shared::new(d));
    rule.each_head(|head| {
        // SAFETY: lengths and instruction set checked above; heads own disjoint parts of both gradients.
        unsafe {
            go_back(
                isa,
                head,
                qkv.as_ptr(),
                strength.as_ptr(),
                (errors.as_ptr(), states.as_ptr()),
                d_output.as_ptr(),
                to_qkv.at(0),
                to_strength.at(0),
            );
        }
    });
    [d_qkv, d_strength]
}

dispatch! {
    /// One head of one sequence, forward; errors and states go to `kept`, if there.
    ///
    /// # Safety
    /// The machine has `isa`; pointers are valid for the whole batch, in the shapes of [`forward`] and [`Kept`]; no one
    /// else touches what this head writes.
    unsafe fn run(
        head: Head,
        qkv: *const f32,
        strength: *const f32,
        output: *mut f32,
        kept: Option<(*mut f32, *mut f32)>,
    ) = run_body;
}

#[inline(always)]
unsafe fn run_body<V: Vector>(
    head: Head,
    qkv: *const f32,
    strength: *const f32,
    output: *mut f32,
    kept: Option<(*mut f32, *mut f32)>,
) {
    let size = head.size();
    let n = padded(size, V::LANES);
    let mut room = Scratch::take(CHUNK * (6 * n + 2 * CHUNK + 1) + n * n);
    let [
        queries,
        turned_keys,
        errors,
        written,
        given,
        scores,
        strengths,
        state,
    ] = carve(
        &mut room,
        [2 * n, n, n, n, n, 2 * CHUNK, 1, n * n / CHUNK].map(|wide| wide * CHUNK),
    );
    for direction in 0..head.directions {
        for first in (0..head.tokens).step_by(CHUNK) {
            let count = CHUNK.min(head.tokens - first);
            let m = count.next_multiple_of(8);
            let rows =
                |data: *const f32, parts| head.rows(data.cast_mut(), parts, direction, first);
            let keys = queries.add(m * n);
            load::<V>(size, rows(qkv, 3), [count, m], head.scale(), queries);
            load::<V>(size, rows(qkv, 3).from(head.width), [count, m], 1.0, keys);
            let values = rows(qkv, 3).from(2 * head.width);
            gather::<V>(values, [count, size], errors, [m, n]);
            let from = head.strengths(strength.cast_mut(), direction, first);
            gather::<Scalar>(from, [count, 1], strengths, [CHUNK, 1]);
            transpose::<V>(CHUNK, n, keys, turned_keys);
            score::<V>([m, n], queries, turned_keys, strengths, scores);
            let (near, weights) = (scores, scores.add(m * CHUNK));
            // Before the first token the state is nothing.
            let empty = first == 0;
            if !empty {
                multiply::<V, true>([m, n, n], whole(keys, n), state, errors, false);
                multiply::<V, false>([m, n, n], whole(queries, n), state, given, true);
            }
            solve::<V>([m, n], weights, errors, false);
            times::<V>([m, n], errors, strengths, written);
            multiply::<V, false>([m, m, n], whole(near, CHUNK), written, given, empty);
            multiply::<V, false>([n, m, n], turned(keys, n), written, state, empty);
            scatter::<V>(given, n, rows(output, 1), [count, size], direction > 0);
            if let Some((to, states)) = kept {
                let to = to.wrapping_add(direction * head.all * head.width);
                scatter::<V>(errors, n, rows(to, 1), [count, size], false);
                let steps = first + count;
                if steps.is_multiple_of(head.stretch) {
                    let at = head.state(states, direction, steps);
                    scatter::<V>(state, n, at, [size, size], false);
                }
            }
        }
    }
}

dispatch! {
    /// One head of one sequence, backward; `kept` as [`run`] left it.
    ///
    /// # Safety
    /// As of [`run`].
    unsafe fn go_back(
        head: Head,
        qkv: *const f32,
        strength: *const f32,
        kept: (*const f32, *const f32),
        d_output: *const f32,
        d_qkv: *mut f32,
        d_strength: *mut f32,
    ) = go_back_body;
}

#[inline(always)]
#[expect(
    clippy::too_many_lines,
    reason = "the formulas above, one after the other"
)]
unsafe fn go_back_body<V: Vector>(
    head: Head,
    qkv: *const f32,
    strength: *const f32,
    kept: (*const f32, *const f32),
    d_output: *const f32,
    d_qkv: *mut f32,
    d_strength: *mut f32,
) {
    let size = head.size();
    let n = padded(size, V::LANES);
    let mut room = Scratch::take(CHUNK * (10 * n + 5 * CHUNK + 1) + 4 * n * n);
    // Queries and keys stand one below the other, and so do what belongs to each of them: both are multiplied at once.
    let [
        queries,
        d_given,
        d_queries,
        errors,
        written,
        d_errors,
        across,
        scores,
        pairs,
        other,
        strengths,
        state,
        turned_state,
        after,
        turned_after,
    ] = carve(
        &mut room,
        [
            2 * n,
            2 * n,
            2 * n,
            n,
            n,
            n,
            n,
            2 * CHUNK,
            2 * CHUNK,
            CHUNK,
            1,
            n * n / CHUNK,
            n * n / CHUNK,
            n * n / CHUNK,
            n * n / CHUNK,
        ]
        .map(|wide| wide * CHUNK),
    );
    for direction in 0..head.directions {
        let errors_of = |first| {
            let all = kept.0.wrapping_add(direction * head.all * head.width);
            head.rows(all.cast_mut(), 1, direction, first)
        };
        let strengths_of = |first| head.strengths(strength.cast_mut(), direction, first);
        let chunks = head.tokens.div_ceil(CHUNK);
        // After a part of a stretch no state is kept: it is that before, and what the part writes. One chunk needs none.
        let whole_stretches = head.tokens / head.stretch * head.stretch;
        if chunks > 1 {
            std::slice::from_raw_parts_mut(state, n * n).fill(0.0);
            if whole_stretches > 0 {
                let at = head.state(kept.1.cast_mut(), direction, whole_stretches);
                gather::<V>(at, [size, size], state, [n, n]);
            }
            for first in (whole_stretches..head.tokens).step_by(CHUNK) {
                let count = CHUNK.min(head.tokens - first);
                let m = count.next_multiple_of(8);
                let keys = head
                    .rows(qkv.cast_mut(), 3, direction, first)
                    .from(head.width);
                load::<V>(size, keys, [count, m], 1.0, queries);
                gather::<V>(errors_of(first), [count, size], errors, [m, n]);
                gather::<Scalar>(strengths_of(first), [count, 1], strengths, [CHUNK, 1]);
                times::<V>([m, n], errors, strengths, written);
                multiply::<V, false>([n, m, n], turned(queries, n), written, state, false);
            }
        }
        for chunk in (0..chunks).rev() {
            let first = chunk * CHUNK;
            let count = CHUNK.min(head.tokens - first);
            let m = count.next_multiple_of(8);
            let rows =
                |data: *const f32, parts| head.rows(data.cast_mut(), parts, direction, first);
            let [keys, d_state, d_keys] = [queries, d_given, d_queries].map(|both| both.add(m * n));
            load::<V>(size, rows(qkv, 3), [count, m], head.scale(), queries);
            load::<V>(size, rows(qkv, 3).from(head.width), [count, m], 1.0, keys);
            gather::<V>(errors_of(first), [count, size], errors, [m, n]);
            gather::<V>(rows(d_output, 1), [count, size], d_given, [m, n]);
            gather::<Scalar>(strengths_of(first), [count, 1], strengths, [CHUNK, 1]);
            transpose::<V>(CHUNK, n, keys, across);
            score::<V>([m, n], queries, across, strengths, scores);
            let (near, weights) = (scores, scores.add(m * CHUNK));
            times::<V>([m, n], errors, strengths, written);
            // Nothing is before the first chunk, and no gradient comes from after the last.
            let (empty, last) = (chunk == 0, chunk + 1 == chunks);
            if !empty {
                let steps = first + count;
                if steps.is_multiple_of(head.stretch) {
                    let at = head.state(kept.1.cast_mut(), direction, steps);
                    gather::<V>(at, [size, size], state, [n, n]);
                }
                multiply::<V, true>([n, m, n], turned(keys, n), written, state, false);
                transpose::<V>(n, n, state, turned_state);
            }
            if !last {
                multiply::<V, false>([m, n, n], whole(keys, n), after, d_errors, true);
            }
            let near = turned(near, CHUNK);
            multiply::<V, false>([m, m, n], near, d_given, d_errors, last);
            solve::<V>([m, n], weights, d_errors, true);
            let to = head.strengths(d_strength, direction, first);
            for row in 0..count {
                *to.at(row) = dot::<V>(n, errors.add(row * n), d_errors.add(row * n));
            }
            times::<V>([m, n], d_errors, strengths, d_state);
            let to = rows(d_qkv, 3);
            let add = direction > 0;
            scatter::<V>(d_state, n, to.from(2 * head.width), [count, size], add);
            negate::<V>(m * n, d_state);

            transpose::<V>(CHUNK, n, written, across);
            let both = [2 * m, n, CHUNK];
            multiply::<V, false>(both, whole(d_given, n), across, pairs, true);
            let (read, wrote) = (pairs, pairs.add(m * CHUNK));
            transpose::<V>(CHUNK, CHUNK, wrote, other);
            for row in 0..m {
                for column in (0..CHUNK).step_by(V::LANES) {
                    let at = row * CHUNK + column;
                    let lane = V::iota(column as u32);
                    let before = V::lt_int(lane, V::splat_int(row as u32));
                    let here = V::lt_int(lane, V::splat_int(row as u32 + 1));
                    V::select(here, V::load(read.add(at)), V::zero()).store(read.add(at));
                    let past = V::select(here, V::zero(), V::load(other.add(at)));
                    V::select(before, V::load(wrote.add(at)), past).store(wrote.add(at));
                }
            }
            if !empty {
                let both = [2 * m, n, n];
                multiply::<V, false>(both, whole(d_given, n), turned_state, d_queries, true);
            }
            multiply::<V, false>([2 * m, m, n], whole(pairs, CHUNK), keys, d_queries, empty);
            if !last {
                transpose::<V>(n, n, after, turned_after);
                multiply::<V, false>([m, n, n], whole(written, n), turned_after, d_keys, false);
            }
            multiply::<V, false>([m, m, n], turned(read, CHUNK), queries, d_keys, false);
            multiply::<V, false>([n, 2 * m, n], turned(queries, n), d_given, after, last);
            scatter::<V>(d_queries, n, to, [count, size], add);
            scatter::<V>(d_keys, n, to.from(head.width), [count, size], add);
        }
    }
    let rows = |data: *const f32| head.rows(data.cast_mut(), 3, 0, 0);
    for (part, scale) in [(0, head.scale()), (1, 1.0)] {
        let from = rows(qkv).from(part * head.width);
        let to = rows(d_qkv).from(part * head.width);
        for token in 0..head.tokens {
            lengthen::<V>(size, scale, from.at(token), to.at(token));
        }
    }
}

/// Queries or keys of `count` tokens, made as long as `scale`; zeros after them, up to `m`.
#[inline(always)]
unsafe fn load<V: Vector>(
    size: usize,
    from: Rows,
    [count, m]: [usize; 2],
    scale: f32,
    to: *mut f32,
) {
    let n = padded(size, V::LANES);
    gather::<V>(from, [count, size], to, [m, n]);
    for row in 0..count {
        let row = to.add(row * n);
        let by = V::splat(scale / (dot::<V>(n, row, row) + EPS as f32).sqrt());
        for column in (0..n).step_by(V::LANES) {
            V::load(row.add(column)).mul(by).store(row.add(column));
        }
    }
}

/// What [`load`] does to a query or a key, backward: the gradient of what it made becomes that of what it took.
#[inline(always)]
unsafe fn lengthen<V: Vector>(size: usize, scale: f32, x: *const f32, d: *mut f32) {
    let (mut square, mut along) = (V::zero(), V::zero());
    for column in (0..size).step_by(V::LANES) {
        let left = size - column;
        let x = V::load_up_to(x.add(column), left);
        square = x.fma(x, square);
        along = x.fma(V::load_up_to(d.add(column), left), along);
    }
    let square = square.reduce_sum() + EPS as f32;
    let along = V::splat(along.reduce_sum() / square);
    let by = V::splat(scale / square.sqrt());
    for column in (0..size).step_by(V::LANES) {
        let left = size - column;
        let x = V::load_up_to(x.add(column), left);
        let across = along.fnma(x, V::load_up_to(d.add(column), left));
        across.mul(by).store_up_to(d.add(column), left);
    }
}

/// tril(Q·Kᵀ), then K·Kᵀ ∘ β, one below the other as `m` queries and keys stand, too.
#[inline(always)]
unsafe fn score<V: Vector>(
    [m, n]: [usize; 2],
    queries: *const f32,
    turned_keys: *const f32,
    strengths: *const f32,
    scores: *mut f32,
) {
    let both = [2 * m, n, CHUNK];
    multiply::<V, false>(both, whole(queries, n), turned_keys, scores, true);
    for column in (0..CHUNK).step_by(V::LANES) {
        let strengths = V::load(strengths.add(column));
        for row in 0..m {
            let near = scores.add(row * CHUNK + column);
            let seen = V::lt_int(V::iota(column as u32), V::splat_int(row as u32 + 1));
            V::select(seen, V::load(near), V::zero()).store(near);
            let weight = near.add(m * CHUNK);
            V::load(weight).mul(strengths).store(weight);
        }
    }
}

#[inline(always)]
unsafe fn negate<V: Vector>(n: usize, x: *mut f32) {
    for at in (0..n).step_by(V::LANES) {
        V::zero().sub(V::load(x.add(at))).store(x.add(at));
    }
}
