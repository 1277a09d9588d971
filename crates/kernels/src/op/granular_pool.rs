//! Pooling of every sequence of a packed batch as a whole, by segments and by neighbours.
//!
//! Five maps of each token stand side by side: query, key, gate, segment and local. Of each head, the mean query attends to the
//! keys, which are values too: `c = Σ w_t k_t`, `w = softmax(k_t·q̄ / √K)`. Of each channel, s is the largest of the segment's, l the
//! largest of the neighbours': out = (c + s) ∘ gate + l. Backward finds the largest again; of equals, the first has the gradient.
//!
//! One task is one head of one sequence; channels go to lanes.
//!
//! # Source
//! Tan et al., ICLR 2022, arXiv:2110.02442, §3.

use super::split::each;
use crate::Isa;
use crate::arch::small::carve;
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::{Scratch, Shared};

/// What is pooled, and how far.
#[derive(Debug, Clone, Copy)]
pub struct GranularPool<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// D
    pub width: usize,
    /// H, divides `width`.
    pub heads: usize,
    /// Tokens of a segment; the last of a sequence may have fewer.
    pub segment: usize,
    /// Neighbours to each side.
    pub radius: usize,
}

/// What [`forward`] leaves for [`backward`].
#[derive(Debug, Clone)]
pub struct Kept {
    /// w, `[H, N]`
    pub weights: Vec<f32>,
    /// q̄, then c: `[2, B, D]`
    pub whole: Vec<f32>,
}

impl GranularPool<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    fn check(&self, maps: &[f32], output: &[f32]) {
        let (tokens, width) = (self.tokens(), self.width);
        assert!(
            self.heads > 0 && width.is_multiple_of(self.heads),
            "granular_pool: width {width} does not divide into {} heads",
            self.heads
        );
        assert!(self.segment > 0, "granular_pool: segments of no token");
        assert!(self.offsets.is_sorted(), "granular_pool: offsets fall");
        assert_eq!(
            maps.len(),
            tokens * 5 * width,
            "granular_pool: length of maps"
        );
        assert_eq!(
            output.len(),
            tokens * width,
            "granular_pool: length of output"
        );
    }

    fn whole(&self) -> usize {
        2 * self.offsets.len().saturating_sub(1) * self.width
    }

    /// Calls `f` for every head of every sequence that has tokens, over the pool.
    fn each_head(&self, f: impl Fn(Head) + Sync + Send) {
        let sequences = self.offsets.len().saturating_sub(1);
        each(sequences * self.heads, |task| {
            let (sequence, index) = (task / self.heads, task % self.heads);
            let [start, end] = [sequence, sequence + 1].map(|at| self.offsets[at] as usize);
            let size = self.width / self.heads;
            if start < end {
                f(Head {
                    start,
                    tokens: end - start,
                    width: self.width,
                    size,
                    channel: index * size,
                    weights: index * self.tokens() + start,
                    mean: sequence * self.width + index * size,
                    context: (sequences + sequence) * self.width + index * size,
                    segment: self.segment,
                    radius: self.radius,
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
    /// D
    width: usize,
    /// K
    size: usize,
    /// First of its channels.
    channel: usize,
    /// Where its part of [`Kept`] begins: weights, mean query, c.
    weights: usize,
    mean: usize,
    context: usize,
    segment: usize,
    radius: usize,
}

impl Head {
    fn scale(&self) -> f32 {
        (1.0 / (self.size as f64).sqrt()) as f32
    }

    /// A token's channel of a map, in `[N, 5D]`.
    fn map(&self, map: usize, token: usize, column: usize) -> usize {
        ((self.start + token) * 5 + map) * self.width + self.channel + column
    }

    /// The same of the output, in `[N, D]`.
    fn out(&self, token: usize, column: usize) -> usize {
        (self.start + token) * self.width + self.channel + column
    }

    fn neighbours(&self, token: usize) -> std::ops::Range<usize> {
        token.saturating_sub(self.radius)..self.tokens.min(token + self.radius + 1)
    }
}

/// Pools `maps` into `output`, and tells what [`backward`] needs.
///
/// # Shapes
/// `maps: [N, 5D]`, `output: [N, D]`
/// # Panics
/// Where a slice has another length, the fields of `pool` do not fit each other, or the machine lacks `isa`.
pub fn forward(isa: Isa, pool: &GranularPool<'_>, maps: &[f32], output: &mut [f32]) -> Kept {
    require(isa);
    pool.check(maps, output);
    let mut kept = Kept {
        weights: vec![0.0; pool.heads * pool.tokens()],
        whole: vec![0.0; pool.whole()],
    };
    let [weights, whole, output] = [&mut kept.weights, &mut kept.whole, output].map(Shared::new);
    pool.each_head(|head| {
        let (weights, mean, context) = (
            weights.at(head.weights),
            whole.at(head.mean),
            whole.at(head.context),
        );
        // SAFETY: lengths and instruction set checked above; heads own disjoint parts of what is written.
        unsafe {
            let maps = maps.as_ptr();
            run(isa, head, maps, weights, mean, context, output.at(0));
        }
    });
    kept
}

/// The gradient of `maps`, given that of the output; `weights` and `whole` as [`forward`] left them in [`Kept`].
///
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    pool: &GranularPool<'_>,
    maps: &[f32],
    weights: &[f32],
    whole: &[f32],
    d_output: &[f32],
) -> Vec<f32> {
    require(isa);
    pool.check(maps, d_output);
    assert_eq!(
        weights.len(),
        pool.heads * pool.tokens(),
        "granular_pool: kept weights"
    );
    assert_eq!(whole.len(), pool.whole(), "granular_pool: kept whole");
    let mut d_maps = vec![0.0; maps.len()];
    let to = Shared::new(&mut d_maps);
    pool.each_head(|head| {
        // SAFETY: as in forward; heads own disjoint channels of the gradient.
        unsafe {
            go_back(
                isa,
                head,
                maps.as_ptr(),
                weights[head.weights..].as_ptr(),
                whole[head.mean..].as_ptr(),
                whole[head.context..].as_ptr(),
                d_output.as_ptr(),
                to.at(0),
            );
        }
    });
    d_maps
}

dispatch! {
    /// One head, forward.
    ///
    /// # Safety
    /// The machine has `isa`; `maps` and `output` are valid for the whole batch, `weights` for the sequence's tokens, `mean`
    /// and `context` for the head's channels; no one else touches what this head writes.
    unsafe fn run(
        head: Head,
        maps: *const f32,
        weights: *mut f32,
        mean: *mut f32,
        context: *mut f32,
        output: *mut f32,
    ) = run_body;
}

#[inline(always)]
unsafe fn run_body<V: Vector>(
    head: Head,
    maps: *const f32,
    weights: *mut f32,
    mean: *mut f32,
    context: *mut f32,
    output: *mut f32,
) {
    let (size, tokens) = (head.size, head.tokens);
    let share = V::splat(1.0 / tokens as f32);
    for column in (0..size).step_by(V::LANES) {
        let lanes = V::LANES.min(size - column);
        let mut sum = V::zero();
        for token in 0..tokens {
            sum = sum.add(V::load_up_to(maps.add(head.map(0, token, column)), lanes));
        }
        sum.mul(share).store_up_to(mean.add(column), lanes);
    }
    let mut most = f32::NEG_INFINITY;
    for token in 0..tokens {
        let score = dot::<V>(size, maps.add(head.map(1, token, 0)), mean) * head.scale();
        *weights.add(token) = score;
        most = most.max(score);
    }
    let mut sum = V::zero();
    for token in (0..tokens).step_by(V::LANES) {
        let lanes = V::LANES.min(tokens - token);
        let at = weights.add(token);
        let weight = math::exp_of_negative(V::load_up_to(at, lanes).sub(V::splat(most)));
        weight.store_up_to(at, lanes);
        // Through memory, so that lanes past the last token are zeros.
        sum = sum.add(V::load_up_to(at, lanes));
    }
    let by = 1.0 / sum.reduce_sum();
    for token in 0..tokens {
        *weights.add(token) *= by;
    }
    for column in (0..size).step_by(V::LANES) {
        let lanes = V::LANES.min(size - column);
        let load = |map, token| V::load_up_to(maps.add(head.map(map, token, column)), lanes);
        let mut whole = V::zero();
        for token in 0..tokens {
            whole = V::splat(*weights.add(token)).fma(load(1, token), whole);
        }
        whole.store_up_to(context.add(column), lanes);
        for first in (0..tokens).step_by(head.segment) {
            let segment = first..tokens.min(first + head.segment);
            let mut most = load(3, first);
            for token in segment.clone() {
                most = most.max(load(3, token));
            }
            let wide = whole.add(most);
            for token in segment {
                let mut most = load(4, token);
                for near in head.neighbours(token) {
                    most = most.max(load(4, near));
                }
                let mixed = wide.fma(load(2, token), most);
                mixed.store_up_to(output.add(head.out(token, column)), lanes);
            }
        }
    }
}

dispatch! {
    /// One head, backward; kept numbers as [`run`] left them.
    ///
    /// # Safety
    /// As of [`run`]; `d_maps` begins as zeros.
    unsafe fn go_back(
        head: Head,
        maps: *const f32,
        weights: *const f32,
        mean: *const f32,
        context: *const f32,
        d_output: *const f32,
        d_maps: *mut f32,
    ) = go_back_body;
}

#[inline(always)]
unsafe fn go_back_body<V: Vector>(
    head: Head,
    maps: *const f32,
    weights: *const f32,
    mean: *const f32,
    context: *const f32,
    d_output: *const f32,
    d_maps: *mut f32,
) {
    let (size, tokens) = (head.size, head.tokens);
    let mut room = Scratch::take(2 * size);
    let [d_context, d_mean] = carve(&mut room, [size; 2]);
    for column in (0..size).step_by(V::LANES) {
        let lanes = V::LANES.min(size - column);
        let load = |map, token| V::load_up_to(maps.add(head.map(map, token, column)), lanes);
        let to = |map, token| d_maps.add(head.map(map, token, column));
        let given = |token| V::load_up_to(d_output.add(head.out(token, column)), lanes);
        let whole = V::load_up_to(context.add(column), lanes);
        let mut d_whole = V::zero();
        for first in (0..tokens).step_by(head.segment) {
            let segment = first..tokens.min(first + head.segment);
            let mut most = load(3, first);
            for token in segment.clone() {
                most = most.max(load(3, token));
            }
            let wide = whole.add(most);
            let mut d_wide = V::zero();
            for token in segment.clone() {
                let d = given(token);
                d_wide = d.fma(load(2, token), d_wide);
                d.mul(wide).store_up_to(to(2, token), lanes);
            }
            d_whole = d_whole.add(d_wide);
            for token in segment {
                let less = load(3, token).lt(most);
                V::select(less, V::zero(), d_wide).store_up_to(to(3, token), lanes);
                d_wide = V::select(less, d_wide, V::zero());
            }
        }
        for token in 0..tokens {
            let mut most = load(4, token);
            for near in head.neighbours(token) {
                most = most.max(load(4, near));
            }
            let mut d = given(token);
            for near in head.neighbours(token) {
                let less = load(4, near).lt(most);
                let to = to(4, near);
                let sum = V::load_up_to(to, lanes).add(V::select(less, V::zero(), d));
                sum.store_up_to(to, lanes);
                d = V::select(less, d, V::zero());
            }
        }
        d_whole.store_up_to(d_context.add(column), lanes);
    }
    let along = dot::<V>(size, context, d_context);
    std::slice::from_raw_parts_mut(d_mean, size).fill(0.0);
    for token in 0..tokens {
        let key = maps.add(head.map(1, token, 0));
        let weight = *weights.add(token);
        let d_score = weight * (dot::<V>(size, key, d_context) - along) * head.scale();
        let (weight, d_score) = (V::splat(weight), V::splat(d_score));
        for column in (0..size).step_by(V::LANES) {
            let lanes = V::LANES.min(size - column);
            let load = |p: *const f32| V::load_up_to(p.add(column), lanes);
            let d_key = d_score.fma(load(mean), weight.mul(load(d_context)));
            d_key.store_up_to(d_maps.add(head.map(1, token, column)), lanes);
            let sum = d_score.fma(load(key), load(d_mean));
            sum.store_up_to(d_mean.add(column), lanes);
        }
    }
    let share = V::splat(1.0 / tokens as f32);
    for column in (0..size).step_by(V::LANES) {
        let lanes = V::LANES.min(size - column);
        let d_query = V::load_up_to(d_mean.add(column), lanes).mul(share);
        for token in 0..tokens {
            d_query.store_up_to(d_maps.add(head.map(0, token, column)), lanes);
        }
    }
}

#[inline(always)]
unsafe fn dot<V: Vector>(n: usize, a: *const f32, b: *const f32) -> f32 {
    let mut sum = V::zero();
    for column in (0..n).step_by(V::LANES) {
        let lanes = V::LANES.min(n - column);
        sum = V::load_up_to(a.add(column), lanes).fma(V::load_up_to(b.add(column), lanes), sum);
    }
    sum.reduce_sum()
}
