//! States that decay, are written and read as each token says, from both ends of every sequence of a packed batch, each read a
//! token late, plus a share of the token itself.
//!
//! Of each head, with `v′_t = Δ_t v_t`: `h_t = e^(Δ_t r) h_(t−1) + B_t v′_tᵀ`, `y_t = h_tᵀ C_t`, which the next token gets. Sixteen
//! tokens are taken at a time. With the state h before them, `a_t = Σ_(s≤t) Δ_s r`, and `f_t = e^(a_last − a_t)` left at the end,
//!
//! `L_ts = e^(a_t − a_s)` for s ≤ t, M = C·Bᵀ ∘ L; Y = M·V′ + (e^a ∘ C)·h; h ← e^a of the last · h + (f ∘ B)ᵀ·V′.
//!
//! B and C are those of all heads, so C·Bᵀ is made once for a group of heads. Forward keeps the state before each
//! [stretch](Quasiseparable::stretch) but the first; backward computes those between again. With G, the gradient of the state after
//! the chunk, and X = dY·V′ᵀ ∘ L:
//!
//! dV′ = Mᵀ·dY + (f ∘ B)·G, dC = X·B + e^a ∘ (dY·hᵀ), dB = Xᵀ·C + f ∘ (V′·Gᵀ), G ← e^a of the last · G + (e^a ∘ C)ᵀ·dY.
//!
//! What goes through the decay of a token is what is written before and read after it: the gradient of `Δ_t r` is
//! `Σ_(s≥t) (C_s·dC_s − B_s·dB_s)` over the rest of the chunk, plus G·h after the chunk.
//!
//! # Source
//! Hwang et al., `NeurIPS` 2024, arXiv:2407.09941, §4; chunks as in Dao & Gu, ICML 2024, arXiv:2405.21060, §6.

use super::split::each;
use crate::Isa;
use crate::arch::small::{
    CHUNK, Rows, carve, dot, gather, multiply, padded, scatter, times, transpose, turned, whole,
};
use crate::arch::{Scalar, Vector, dispatch, math, require};
use crate::scratch::{Scratch, Shared};

/// Most groups of heads that go to threads apart; each has gradients of B and C of its own.
const GROUPS: usize = 4;

/// What the scans are over.
#[derive(Debug, Clone, Copy)]
pub struct Quasiseparable<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// H
    pub heads: usize,
    /// Channels of a head, P.
    pub head_width: usize,
    /// Numbers of state a channel, S.
    pub state: usize,
}

/// Inputs of the scans.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Values, then B and C of the scan forward, then of the scan backward: `[N, H·P + 4S]`.
    pub mixed: &'a [f32],
    /// `Δ: [N, 2H]`, not negative; those of the scan forward first.
    pub steps: &'a [f32],
    /// Each token's share of itself, `[N, H]`.
    pub own: &'a [f32],
    /// `r: [H]`, not positive.
    pub rate: &'a [f32],
}

impl Quasiseparable<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Tokens between kept states: so many that the states of a direction take no more room than the values do.
    pub fn stretch(&self) -> usize {
        self.state.next_multiple_of(CHUNK).max(4 * CHUNK)
    }

    /// Floats of states of a sequence of `len` tokens: before all stretches but the first, before which there is nothing.
    fn held(&self, len: usize) -> usize {
        2 * (len.saturating_sub(1) / self.stretch()) * self.width() * self.state
    }

    /// Floats of kept states, for [`forward`].
    pub fn kept(&self) -> usize {
        let sequences = self.offsets.windows(2);
        sequences.map(|w| self.held((w[1] - w[0]) as usize)).sum()
    }

    fn groups(&self) -> usize {
        self.heads.min(GROUPS)
    }

    fn check(&self, inputs: &Inputs<'_>) {
        let (tokens, heads) = (self.tokens(), self.heads);
        assert!(self.offsets.is_sorted(), "quasiseparable: offsets fall");
        for (name, slice, len) in [
            (
                "mixed",
                inputs.mixed,
                tokens * (self.width() + 4 * self.state),
            ),
            ("steps", inputs.steps, tokens * 2 * heads),
            ("own", inputs.own, tokens * heads),
            ("rate", inputs.rate, heads),
        ] {
            assert_eq!(slice.len(), len, "quasiseparable: length of {name}");
        }
    }

    /// Calls `f` for every group of heads of every sequence that has tokens, over the pool.
    fn each_group(&self, f: impl Fn(Group) + Sync + Send) {
        let mut held = 0;
        let mut sequences = Vec::new();
        for (index, w) in self.offsets.windows(2).enumerate() {
            let (start, tokens) = (w[0] as usize, (w[1] - w[0]) as usize);
            if tokens > 0 {
                sequences.push((index, start, tokens, held));
                held += self.held(tokens);
            }
        }
        let groups = self.groups();
        each(sequences.len() * groups, |task| {
            let (sequence, start, tokens, held) = sequences[task / groups];
            let index = task % groups;
            f(Group {
                sequence,
                start,
                tokens,
                index,
                heads: self.heads,
                first: index * self.heads / groups,
                end: (index + 1) * self.heads / groups,
                size: self.head_width,
                state: self.state,
                stretch: self.stretch(),
                held,
            });
        });
    }
}

/// Some heads of one sequence.
#[derive(Clone, Copy)]
struct Group {
    sequence: usize,
    /// First token in the batch.
    start: usize,
    /// T
    tokens: usize,
    /// Which of the groups.
    index: usize,
    heads: usize,
    /// The heads `first..end` of all.
    first: usize,
    end: usize,
    /// P
    size: usize,
    /// S
    state: usize,
    stretch: usize,
    /// Where the sequence's kept states begin.
    held: usize,
}

impl Group {
    fn width(&self) -> usize {
        self.heads * self.size
    }

    /// Rows of `stride` floats, from `step` on in a direction.
    fn rows(&self, data: *const f32, stride: usize, direction: usize, step: usize) -> Rows {
        let back = direction == 1;
        // A step past the last has no row; its pointer is made and not read.
        let token = if back {
            (self.start + self.tokens - 1).wrapping_sub(step)
        } else {
            self.start + step
        };
        Rows::new(data.cast_mut(), stride, token, back)
    }

    /// The states of all heads before a stretch, not the first.
    fn kept(&self, states: *mut f32, direction: usize, stretch: usize) -> *mut f32 {
        let stretches = (self.tokens - 1) / self.stretch;
        let before = (direction * stretches + stretch - 1) * self.width() * self.state;
        states.wrapping_add(self.held + before)
    }
}

/// The scans' output; `kept`, if there, is filled for [`backward`].
///
/// # Shapes
/// `output: [N, H·P]`; `kept`: as [`Quasiseparable::kept`] says
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    scan: &Quasiseparable<'_>,
    inputs: &Inputs<'_>,
    output: &mut [f32],
    kept: Option<&mut [f32]>,
) {
    require(isa);
    scan.check(inputs);
    assert_eq!(
        output.len(),
        scan.tokens() * scan.width(),
        "quasiseparable: length of output"
    );
    if let Some(kept) = &kept {
        assert_eq!(kept.len(), scan.kept(), "quasiseparable: length of kept");
    }
    let (output, kept) = (Shared::new(output), kept.map(Shared::new));
    scan.each_group(|group| {
        // SAFETY: lengths and instruction set checked above; groups own disjoint channels of the output and their states.
        unsafe {
            let kept = kept.map(|kept| kept.at(0));
            run(isa, group, Pointers::new(inputs), output.at(0), kept);
        }
    });
}

/// Gradients of every input.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, H·P + 4S]`
    pub mixed: Vec<f32>,
    /// `[N, 2H]`
    pub steps: Vec<f32>,
    /// `[N, H]`
    pub own: Vec<f32>,
    /// `[H]`
    pub rate: Vec<f32>,
}

/// The gradients, given that of the output; `kept` as [`forward`] left it.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    scan: &Quasiseparable<'_>,
    inputs: &Inputs<'_>,
    kept: &[f32],
    d_output: &[f32],
) -> Gradients {
    require(isa);
    scan.check(inputs);
    let (tokens, width, sides) = (scan.tokens(), scan.width(), 4 * scan.state);
    assert_eq!(kept.len(), scan.kept(), "quasiseparable: length of kept");
    assert_eq!(
        d_output.len(),
        tokens * width,
        "quasiseparable: length of d_output"
    );
    let zeros = |like: &[f32]| vec![0.0; like.len()];
    let mut found = Gradients {
        mixed: zeros(inputs.mixed),
        steps: zeros(inputs.steps),
        own: zeros(inputs.own),
        rate: zeros(inputs.rate),
    };
    // What each group gives to the sides, B and C of both scans, and each sequence to the rates.
    let mut shares = vec![0.0; scan.groups() * tokens * sides];
    let mut rates = vec![0.0; scan.offsets.len() * scan.heads];
    let [mixed, steps, own, to_shares, to_rates] = [
        &mut found.mixed,
        &mut found.steps,
        &mut found.own,
        &mut shares,
        &mut rates,
    ]
    .map(|d| Shared::new(d));
    scan.each_group(|group| {
        let to = Targets {
            mixed: mixed.at(0),
            sides: to_shares.at(group.index * tokens * sides),
            steps: steps.at(0),
            own: own.at(0),
            rate: to_rates.at(group.sequence * scan.heads),
        };
        let (kept, d_output) = (kept.as_ptr(), d_output.as_ptr());
        // SAFETY: lengths and instruction set checked above; groups own disjoint parts of all targets.
        unsafe { go_back(isa, group, Pointers::new(inputs), kept, d_output, to) };
    });
    // In the order of the groups and sequences, whichever thread had them.
    for rate in rates.chunks(scan.heads.max(1)) {
        found
            .rate
            .iter_mut()
            .zip(rate)
            .for_each(|(sum, x)| *sum += x);
    }
    for (token, row) in found.mixed.chunks_mut((width + sides).max(1)).enumerate() {
        for share in shares.chunks((tokens * sides).max(1)) {
            let share = &share[token * sides..][..sides];
            row[width..]
                .iter_mut()
                .zip(share)
                .for_each(|(sum, x)| *sum += x);
        }
    }
    found
}

/// [`Inputs`] of a batch.
#[derive(Clone, Copy)]
struct Pointers {
    mixed: *const f32,
    steps: *const f32,
    own: *const f32,
    rate: *const f32,
}

impl Pointers {
    fn new(inputs: &Inputs<'_>) -> Self {
        Self {
            mixed: inputs.mixed.as_ptr(),
            steps: inputs.steps.as_ptr(),
            own: inputs.own.as_ptr(),
            rate: inputs.rate.as_ptr(),
        }
    }
}

/// Where gradients go: `mixed`, `steps` and `own` of a batch, `sides: [N, 4S]` of a group, `rate: [H]` of a sequence.
#[derive(Clone, Copy)]
struct Targets {
    mixed: *mut f32,
    sides: *mut f32,
    steps: *mut f32,
    own: *mut f32,
    rate: *mut f32,
}

/// How a head decays along a chunk.
struct Decay {
    /// Δ
    steps: *mut f32,
    /// a
    sums: *mut f32,
    /// e^a
    start: *mut f32,
    /// f
    end: *mut f32,
    /// L, rows of [`CHUNK`].
    between: *mut f32,
}

/// Floats of a [`Decay`].
const DECAY: usize = CHUNK * (CHUNK + 4);

impl Decay {
    fn new(room: *mut f32) -> Self {
        let [steps, sums, start, end, between] =
            [0, 1, 2, 3, 4].map(|part| room.wrapping_add(part * CHUNK));
        Self {
            steps,
            sums,
            start,
            end,
            between,
        }
    }

    /// Of `count` steps, `m` with those that no token takes; tells e^a of the last.
    #[inline(always)]
    unsafe fn load<V: Vector>(&self, steps: Rows, [count, m]: [usize; 2], rate: f32) -> f32 {
        gather::<Scalar>(steps, [count, 1], self.steps, [CHUNK, 1]);
        let mut sum = 0.0;
        for at in 0..CHUNK {
            sum += *self.steps.add(at) * rate;
            *self.sums.add(at) = sum;
        }
        let last = V::splat(sum);
        for column in (0..CHUNK).step_by(V::LANES) {
            let sums = V::load(self.sums.add(column));
            math::exp_of_negative(sums).store(self.start.add(column));
            math::exp_of_negative(last.sub(sums)).store(self.end.add(column));
            for row in 0..m {
                let between = V::splat(*self.sums.add(row)).sub(sums);
                let seen = V::lt_int(V::iota(column as u32), V::splat_int(row as u32 + 1));
                // Nothing above 0 gets to `exp`, nor out.
                let between = math::exp_of_negative(between.min(V::zero()));
                let between = V::select(seen, between, V::zero());
                between.store(self.between.add(row * CHUNK + column));
            }
        }
        *self.start.add(CHUNK - 1)
    }
}

/// `x ← by · x` for `n` floats, whole vectors.
#[inline(always)]
unsafe fn scale<V: Vector>(n: usize, by: f32, x: *mut f32) {
    for at in (0..n).step_by(V::LANES) {
        V::load(x.add(at)).mul(V::splat(by)).store(x.add(at));
    }
}

/// `to = a ∘ b` for `m` rows of [`CHUNK`].
#[inline(always)]
unsafe fn product<V: Vector>(m: usize, a: *const f32, b: *const f32, to: *mut f32) {
    for at in (0..m * CHUNK).step_by(V::LANES) {
        V::load(a.add(at)).mul(V::load(b.add(at))).store(to.add(at));
    }
}

/// `to += x` for `n` floats, whole vectors.
#[inline(always)]
unsafe fn add<V: Vector>(n: usize, x: *const f32, to: *mut f32) {
    for at in (0..n).step_by(V::LANES) {
        V::load(to.add(at))
            .add(V::load(x.add(at)))
            .store(to.add(at));
    }
}

/// Each token's share of itself.
#[inline(always)]
unsafe fn share<V: Vector>(group: &Group, from: &Pointers, output: *mut f32) {
    let (size, stride) = (group.size, group.width() + 4 * group.state);
    for token in group.start..group.start + group.tokens {
        for head in group.first..group.end {
            let by = V::splat(*from.own.add(token * group.heads + head));
            let value = from.mixed.add(token * stride + head * size);
            let to = output.add(token * group.width() + head * size);
            for column in (0..size).step_by(V::LANES) {
                let lanes = V::LANES.min(size - column);
                let own = V::load_up_to(value.add(column), lanes).mul(by);
                own.store_up_to(to.add(column), lanes);
            }
        }
    }
}

/// [`share`], backward.
#[inline(always)]
unsafe fn share_back<V: Vector>(
    group: &Group,
    from: &Pointers,
    d_output: *const f32,
    to: &Targets,
) {
    let (size, stride) = (group.size, group.width() + 4 * group.state);
    for token in group.start..group.start + group.tokens {
        for head in group.first..group.end {
            let by = V::splat(*from.own.add(token * group.heads + head));
            let value = from.mixed.add(token * stride + head * size);
            let d = d_output.add(token * group.width() + head * size);
            let d_value = to.mixed.add(token * stride + head * size);
            let mut d_own = V::zero();
            for column in (0..size).step_by(V::LANES) {
                let lanes = V::LANES.min(size - column);
                let d = V::load_up_to(d.add(column), lanes);
                d.mul(by).store_up_to(d_value.add(column), lanes);
                d_own = d.fma(V::load_up_to(value.add(column), lanes), d_own);
            }
            *to.own.add(token * group.heads + head) = d_own.reduce_sum();
        }
    }
}

dispatch! {
    /// A group, forward; states before each stretch go to `kept`, if there.
    ///
    /// # Safety
    /// The machine has `isa`; pointers are valid for the whole batch, in the shapes of [`Inputs`] and [`forward`]; no one
    /// else touches the group's channels of `output` or its states.
    unsafe fn run(group: Group, from: Pointers, output: *mut f32, kept: Option<*mut f32>) = run_body;
}

#[inline(always)]
unsafe fn run_body<V: Vector>(
    group: Group,
    from: Pointers,
    output: *mut f32,
    kept: Option<*mut f32>,
) {
    let (size, width, heads) = (group.size, group.width(), group.end - group.first);
    let (n, s) = (padded(size, V::LANES), padded(group.state, V::LANES));
    let stride = width + 4 * group.state;
    let mut room = Scratch::take(CHUNK * (4 * s + 2 * n + 2 * CHUNK) + DECAY + heads * s * n);
    let [
        write,
        read,
        across,
        faded,
        value,
        given,
        overlap,
        near,
        decay,
        states,
    ] = carve(
        &mut room,
        [
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * n,
            CHUNK * n,
            CHUNK * CHUNK,
            CHUNK * CHUNK,
            DECAY,
            heads * s * n,
        ],
    );
    let decay = Decay::new(decay);
    share::<V>(&group, &from, output);
    for direction in 0..2 {
        std::slice::from_raw_parts_mut(states, heads * s * n).fill(0.0);
        for first in (0..group.tokens).step_by(CHUNK) {
            let count = CHUNK.min(group.tokens - first);
            let m = count.next_multiple_of(8);
            if let Some(kept) = kept
                && first > 0
                && first.is_multiple_of(group.stretch)
            {
                let kept = group.kept(kept, direction, first / group.stretch);
                for head in group.first..group.end {
                    let to = kept.add(head * group.state * size);
                    let state = states.add((head - group.first) * s * n);
                    let to = Rows::new(to, size, 0, false);
                    scatter::<V>(state, n, to, [group.state, size], false);
                }
            }
            let rows = group.rows(from.mixed, stride, direction, first);
            let sides = rows.from(width + 2 * direction * group.state);
            gather::<V>(sides, [count, group.state], write, [CHUNK, s]);
            gather::<V>(sides.from(group.state), [count, group.state], read, [m, s]);
            transpose::<V>(CHUNK, s, write, across);
            multiply::<V, false>([m, s, CHUNK], whole(read, s), across, overlap, true);
            for head in group.first..group.end {
                let state = states.add((head - group.first) * s * n);
                let column = direction * group.heads + head;
                let steps = group
                    .rows(from.steps, 2 * group.heads, direction, first)
                    .from(column);
                let whole_decay = decay.load::<V>(steps, [count, m], *from.rate.add(head));
                gather::<V>(rows.from(head * size), [count, size], value, [m, n]);
                times::<V>([m, n], value, decay.steps, value);
                product::<V>(m, overlap, decay.between, near);
                multiply::<V, false>([m, m, n], whole(near, CHUNK), value, given, true);
                if first > 0 {
                    times::<V>([m, s], read, decay.start, faded);
                    multiply::<V, false>([m, s, n], whole(faded, s), state, given, false);
                }
                times::<V>([m, s], write, decay.end, faded);
                scale::<V>(s * n, whole_decay, state);
                multiply::<V, false>([s, m, n], turned(faded, s), value, state, false);
                // The last of a sequence has none after it.
                let later = count.min(group.tokens - 1 - first);
                let to = group.rows(output, width, direction, first + 1);
                scatter::<V>(given, n, to.from(head * size), [later, size], true);
            }
        }
    }
}

dispatch! {
    /// A group, backward; `kept` as [`run`] left it.
    ///
    /// # Safety
    /// As of [`run`], and of the targets, which begin as zeros.
    unsafe fn go_back(
        group: Group,
        from: Pointers,
        kept: *const f32,
        d_output: *const f32,
        to: Targets,
    ) = go_back_body;
}

#[inline(always)]
#[expect(
    clippy::too_many_lines,
    reason = "the formulas above, one after the other"
)]
unsafe fn go_back_body<V: Vector>(
    group: Group,
    from: Pointers,
    kept: *const f32,
    d_output: *const f32,
    to: Targets,
) {
    let (size, width, heads) = (group.size, group.width(), group.end - group.first);
    let (n, s) = (padded(size, V::LANES), padded(group.state, V::LANES));
    let stride = width + 4 * group.state;
    let whole_states = heads * s * n;
    let in_stretch = group.stretch / CHUNK;
    let mut room = Scratch::take(
        CHUNK * (8 * s + 5 * n + 4 * CHUNK) + DECAY + 2 * s * n + (in_stretch + 2) * whole_states,
    );
    let [
        write,
        read,
        across,
        faded,
        d_write,
        d_read,
        d_writes,
        d_reads,
        value,
        written,
        d_given,
        d_value,
        turned_value,
        overlap,
        near,
        d_near,
        decay,
        turned_state,
        turned_after,
        after,
        states,
    ] = carve(
        &mut room,
        [
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * s,
            CHUNK * n,
            CHUNK * n,
            CHUNK * n,
            CHUNK * n,
            CHUNK * n,
            CHUNK * CHUNK,
            CHUNK * CHUNK,
            CHUNK * CHUNK,
            DECAY,
            s * n,
            s * n,
            whole_states,
            (in_stretch + 1) * whole_states,
        ],
    );
    let decay = Decay::new(decay);
    share_back::<V>(&group, &from, d_output, &to);
    for direction in 0..2 {
        let rows = |step| group.rows(from.mixed, stride, direction, step);
        let sides = |step| rows(step).from(width + 2 * direction * group.state);
        let steps = |head: usize, step: usize| {
            group
                .rows(from.steps, 2 * group.heads, direction, step)
                .from(direction * group.heads + head)
        };
        std::slice::from_raw_parts_mut(after, whole_states).fill(0.0);
        for stretch in (0..group.tokens.div_ceil(group.stretch)).rev() {
            let begin = stretch * group.stretch;
            let end = group.tokens.min(begin + group.stretch);
            if stretch == 0 {
                std::slice::from_raw_parts_mut(states, whole_states).fill(0.0);
            } else {
                let kept = group.kept(kept.cast_mut(), direction, stretch);
                for head in group.first..group.end {
                    let kept = Rows::new(kept.add(head * group.state * size), size, 0, false);
                    let state = states.add((head - group.first) * s * n);
                    gather::<V>(kept, [group.state, size], state, [s, n]);
                }
            }
            for (chunk, first) in (begin..end).step_by(CHUNK).enumerate() {
                let count = CHUNK.min(end - first);
                let m = count.next_multiple_of(8);
                gather::<V>(sides(first), [count, group.state], write, [m, s]);
                for head in group.first..group.end {
                    let at = chunk * whole_states + (head - group.first) * s * n;
                    let (before, state) = (states.add(at), states.add(at + whole_states));
                    let whole_decay =
                        decay.load::<V>(steps(head, first), [count, 0], *from.rate.add(head));
                    gather::<V>(rows(first).from(head * size), [count, size], value, [m, n]);
                    times::<V>([m, n], value, decay.steps, written);
                    times::<V>([m, s], write, decay.end, faded);
                    std::ptr::copy_nonoverlapping(before, state, s * n);
                    scale::<V>(s * n, whole_decay, state);
                    multiply::<V, false>([s, m, n], turned(faded, s), written, state, false);
                }
            }
            for (chunk, first) in (begin..end).step_by(CHUNK).enumerate().rev() {
                let count = CHUNK.min(end - first);
                let m = count.next_multiple_of(8);
                gather::<V>(sides(first), [count, group.state], write, [CHUNK, s]);
                let reads = sides(first).from(group.state);
                gather::<V>(reads, [count, group.state], read, [m, s]);
                transpose::<V>(CHUNK, s, write, across);
                multiply::<V, false>([m, s, CHUNK], whole(read, s), across, overlap, true);
                std::slice::from_raw_parts_mut(d_writes, CHUNK * s).fill(0.0);
                std::slice::from_raw_parts_mut(d_reads, CHUNK * s).fill(0.0);
                for head in group.first..group.end {
                    let at = (head - group.first) * s * n;
                    let after = after.add(at);
                    let before = states.add(chunk * whole_states + at);
                    let state = before.add(whole_states);
                    let rate = *from.rate.add(head);
                    let whole_decay = decay.load::<V>(steps(head, first), [count, m], rate);
                    gather::<V>(
                        rows(first).from(head * size),
                        [count, size],
                        value,
                        [CHUNK, n],
                    );
                    times::<V>([CHUNK, n], value, decay.steps, written);
                    let later = count.min(group.tokens - 1 - first);
                    let given = group.rows(d_output, width, direction, first + 1);
                    gather::<V>(given.from(head * size), [later, size], d_given, [m, n]);

                    product::<V>(m, overlap, decay.between, near);
                    transpose::<V>(CHUNK, n, written, turned_value);
                    let pairs = [m, n, CHUNK];
                    multiply::<V, false>(pairs, whole(d_given, n), turned_value, d_near, true);
                    product::<V>(m, d_near, decay.between, d_near);

                    let near = turned(near, CHUNK);
                    multiply::<V, false>([m, m, n], near, d_given, d_value, true);
                    times::<V>([m, s], write, decay.end, faded);
                    multiply::<V, false>([m, s, n], whole(faded, s), after, d_value, false);

                    transpose::<V>(s, n, before, turned_state);
                    let far = [m, n, s];
                    multiply::<V, false>(far, whole(d_given, n), turned_state, d_read, true);
                    times::<V>([m, s], d_read, decay.start, d_read);
                    multiply::<V, false>([m, m, s], whole(d_near, CHUNK), write, d_read, false);

                    transpose::<V>(s, n, after, turned_after);
                    multiply::<V, false>(far, whole(written, n), turned_after, d_write, true);
                    times::<V>([m, s], d_write, decay.end, d_write);
                    multiply::<V, false>([m, m, s], turned(d_near, CHUNK), read, d_write, false);

                    let mut through = dot::<V>(s * n, after, state);
                    let to_steps = group
                        .rows(to.steps, 2 * group.heads, direction, first)
                        .from(direction * group.heads + head);
                    let mut d_rate = 0.0;
                    for at in (0..count).rev() {
                        through += dot::<V>(s, read.add(at * s), d_read.add(at * s))
                            - dot::<V>(s, write.add(at * s), d_write.add(at * s));
                        d_rate += through * *decay.steps.add(at);
                        *to_steps.at(at) =
                            through * rate + dot::<V>(n, value.add(at * n), d_value.add(at * n));
                    }
                    *to.rate.add(head) += d_rate;
                    times::<V>([m, n], d_value, decay.steps, d_value);
                    let to = group.rows(to.mixed, stride, direction, first);
                    scatter::<V>(d_value, n, to.from(head * size), [count, size], true);
                    add::<V>(m * s, d_read, d_reads);
                    add::<V>(m * s, d_write, d_writes);

                    times::<V>([m, s], read, decay.start, faded);
                    scale::<V>(s * n, whole_decay, after);
                    multiply::<V, false>([s, m, n], turned(faded, s), d_given, after, false);
                }
                let to = group.rows(to.sides, 4 * group.state, direction, first);
                let to = to.from(2 * direction * group.state);
                scatter::<V>(d_writes, s, to, [count, group.state], false);
                let to = to.from(group.state);
                scatter::<V>(d_reads, s, to, [count, group.state], false);
            }
        }
    }
}
