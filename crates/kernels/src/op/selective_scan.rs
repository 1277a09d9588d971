//! A state of each channel that decays, is written and read as each token says, along every sequence of a packed batch.
//!
//! `h_t = e^(Δ_t·A) h_(t−1) + Δ_t x_t B_t`, `y_t = Σ_s C_t h_t`, for each channel with `S` numbers of state. The forward
//! pass keeps the states of every [`KEEP`]-th step; the backward pass computes those between again, so that memory grows
//! with the tokens and not with tokens times states. Sequences go to threads, channels to vector lanes: states lie as
//! `[S, E]`, so that a vector takes neighbouring channels.
//!
//! # Source
//! Gu & Dao, Mamba, 2023, arXiv:2312.00752, §3.2 and §3.3.2.

use rayon::prelude::*;

use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};

/// Steps between kept states: a sequence of thousands keeps about as many states as one stretch has steps.
pub const KEEP: usize = 64;

/// What a scan is over.
#[derive(Debug, Clone, Copy)]
pub struct SelectiveScan<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`.
    pub offsets: &'a [u32],
    /// Channels, `E`.
    pub width: usize,
    /// Numbers of state a channel, `S`.
    pub state: usize,
    /// Sequences are read from their end.
    pub backward: bool,
}

/// Inputs of a scan.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `x: [N, E]`
    pub x: &'a [f32],
    /// `Δ: [N, E]`, not negative.
    pub step: &'a [f32],
    /// `B` and `C` side by side: `[N, 2S]`.
    pub write_read: &'a [f32],
    /// `A: [E, S]`, not positive.
    pub rate: &'a [f32],
}

impl SelectiveScan<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    /// Numbers of kept states, for [`forward`].
    pub fn kept(&self) -> usize {
        let kept = |w: &[u32]| ((w[1] - w[0]) as usize).div_ceil(KEEP);
        let kept: usize = self.offsets.windows(2).map(kept).sum();
        kept * self.width * self.state
    }

    fn check(&self, inputs: &Inputs<'_>) {
        let (tokens, width, state) = (self.tokens(), self.width, self.state);
        assert_eq!(
            inputs.x.len(),
            tokens * width,
            "selective_scan: length of x"
        );
        assert_eq!(
            inputs.step.len(),
            tokens * width,
            "selective_scan: length of step"
        );
        assert_eq!(
            inputs.write_read.len(),
            tokens * 2 * state,
            "selective_scan: length of write_read"
        );
        assert_eq!(
            inputs.rate.len(),
            width * state,
            "selective_scan: length of rate"
        );
    }

    /// The token at a step of a sequence of `len` tokens.
    fn at(&self, step: usize, len: usize) -> usize {
        if self.backward { len - 1 - step } else { step }
    }
}

/// The scan's output, and the states before every [`KEEP`]-th step of each sequence.
///
/// # Shapes
/// `output: [N, E]`; `kept`: as [`SelectiveScan::kept`] says, sequence by sequence
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    scan: &SelectiveScan<'_>,
    inputs: &Inputs<'_>,
    output: &mut [f32],
    kept: &mut [f32],
) {
    require(isa);
    scan.check(inputs);
    assert_eq!(
        output.len(),
        inputs.x.len(),
        "selective_scan: length of output"
    );
    assert_eq!(kept.len(), scan.kept(), "selective_scan: length of kept");
    let states = scan.width * scan.state;
    let rate = turned(inputs.rate, scan.state);
    let (mut jobs, mut output, mut kept) = (Vec::new(), output, kept);
    for w in scan.offsets.windows(2) {
        let (from, len) = (w[0] as usize, (w[1] - w[0]) as usize);
        let (mine, rest) = output.split_at_mut(len * scan.width);
        let (held, others) = kept.split_at_mut(len.div_ceil(KEEP) * states);
        jobs.push((part(scan, inputs, &rate, from, len), len, mine, held));
        (output, kept) = (rest, others);
    }
    jobs.into_par_iter()
        .for_each(|(inputs, len, output, kept)| {
            let mut held = vec![0.0; states];
            for step in 0..len {
                if step % KEEP == 0 {
                    kept[step / KEEP * states..][..states].copy_from_slice(&held);
                }
                let at = scan.at(step, len);
                let output = &mut output[at * scan.width..][..scan.width];
                advance(isa, &inputs.row(scan, at), &mut held, output);
            }
        });
}

/// Gradients of every input.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, E]`
    pub x: Vec<f32>,
    /// `[N, E]`
    pub step: Vec<f32>,
    /// `[N, 2S]`
    pub write_read: Vec<f32>,
    /// `[E, S]`
    pub rate: Vec<f32>,
}

/// The gradients, given those of the output; `kept` as [`forward`] left it.
///
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn backward(
    isa: Isa,
    scan: &SelectiveScan<'_>,
    inputs: &Inputs<'_>,
    kept: &[f32],
    d_output: &[f32],
) -> Gradients {
    require(isa);
    scan.check(inputs);
    assert_eq!(kept.len(), scan.kept(), "selective_scan: length of kept");
    assert_eq!(
        d_output.len(),
        inputs.x.len(),
        "selective_scan: length of d_output"
    );
    let (width, state) = (scan.width, scan.state);
    let mut all = Gradients {
        x: vec![0.0; inputs.x.len()],
        step: vec![0.0; inputs.step.len()],
        write_read: vec![0.0; inputs.write_read.len()],
        rate: vec![0.0; inputs.rate.len()],
    };
    let rate = turned(inputs.rate, state);
    let mut jobs = Vec::new();
    {
        let (mut x, mut step, mut write_read) = (
            all.x.as_mut_slice(),
            all.step.as_mut_slice(),
            all.write_read.as_mut_slice(),
        );
        let mut kept = kept;
        for w in scan.offsets.windows(2) {
            let (from, len) = (w[0] as usize, (w[1] - w[0]) as usize);
            let rows = from * width..(from + len) * width;
            let (d_x, rest) = x.split_at_mut(len * width);
            let (d_step, others) = step.split_at_mut(len * width);
            let (d_write_read, more) = write_read.split_at_mut(len * 2 * state);
            (x, step, write_read) = (rest, others, more);
            let held;
            (held, kept) = kept.split_at(len.div_ceil(KEEP) * width * state);
            jobs.push(Job {
                inputs: part(scan, inputs, &rate, from, len),
                len,
                kept: held,
                d_output: &d_output[rows],
                d_x,
                d_step,
                d_write_read,
            });
        }
    }
    let rates: Vec<Vec<f32>> = jobs.into_par_iter().map(|job| job.run(isa, scan)).collect();
    // In the order of the sequences, whichever thread had them.
    for rate in rates {
        let rate = turned(&rate, width);
        all.rate.iter_mut().zip(rate).for_each(|(sum, r)| *sum += r);
    }
    all
}

/// One sequence's backward pass.
struct Job<'a> {
    inputs: Inputs<'a>,
    len: usize,
    kept: &'a [f32],
    d_output: &'a [f32],
    d_x: &'a mut [f32],
    d_step: &'a mut [f32],
    d_write_read: &'a mut [f32],
}

impl Job<'_> {
    /// The gradient of `rate`, `[S, E]`.
    fn run(self, isa: Isa, scan: &SelectiveScan<'_>) -> Vec<f32> {
        let (width, state, len) = (scan.width, scan.state, self.len);
        let states = width * state;
        let (mut d_rate, mut d_held) = (vec![0.0; states], vec![0.0; states]);
        // The states before each step of a stretch, and after its last.
        let mut before = vec![0.0; (KEEP.min(len) + 1) * states];
        let mut unread = vec![0.0; width];
        for stretch in (0..len.div_ceil(KEEP)).rev() {
            let first = stretch * KEEP;
            let steps = KEEP.min(len - first);
            before[..states].copy_from_slice(&self.kept[stretch * states..][..states]);
            for step in 0..steps {
                before.copy_within(step * states..(step + 1) * states, (step + 1) * states);
                let row = self.inputs.row(scan, scan.at(first + step, len));
                let held = &mut before[(step + 1) * states..][..states];
                advance(isa, &row, held, &mut unread);
            }
            for step in (0..steps).rev() {
                let at = scan.at(first + step, len);
                let row = self.inputs.row(scan, at);
                let (d_write, d_read) =
                    self.d_write_read[at * 2 * state..][..2 * state].split_at_mut(state);
                // SAFETY: the caller checked the instruction set; every slice holds E, S or S × E floats, as named.
                unsafe {
                    go_back(
                        isa,
                        width,
                        state,
                        row.x.as_ptr(),
                        row.step.as_ptr(),
                        row.write.as_ptr(),
                        row.read.as_ptr(),
                        row.rate.as_ptr(),
                        before[step * states..][..states].as_ptr(),
                        before[(step + 1) * states..][..states].as_ptr(),
                        self.d_output[at * width..][..width].as_ptr(),
                        self.d_x[at * width..][..width].as_mut_ptr(),
                        self.d_step[at * width..][..width].as_mut_ptr(),
                        d_write.as_mut_ptr(),
                        d_read.as_mut_ptr(),
                        d_rate.as_mut_ptr(),
                        d_held.as_mut_ptr(),
                    );
                }
            }
        }
        d_rate
    }
}

/// What one token brings.
struct Row<'a> {
    x: &'a [f32],
    step: &'a [f32],
    write: &'a [f32],
    read: &'a [f32],
    rate: &'a [f32],
}

impl<'a> Inputs<'a> {
    fn row(&self, scan: &SelectiveScan<'_>, at: usize) -> Row<'a> {
        let (width, state) = (scan.width, scan.state);
        let (write, read) = self.write_read[at * 2 * state..][..2 * state].split_at(state);
        Row {
            x: &self.x[at * width..][..width],
            step: &self.step[at * width..][..width],
            write,
            read,
            rate: self.rate,
        }
    }
}

/// The inputs of the `len` tokens of a sequence, rates as `[S, E]`.
fn part<'a>(
    scan: &SelectiveScan<'_>,
    inputs: &Inputs<'a>,
    rate: &'a [f32],
    from: usize,
    len: usize,
) -> Inputs<'a> {
    let rows = |x: &'a [f32], width: usize| &x[from * width..(from + len) * width];
    Inputs {
        x: rows(inputs.x, scan.width),
        step: rows(inputs.step, scan.width),
        write_read: rows(inputs.write_read, 2 * scan.state),
        rate,
    }
}

/// A matrix with `width` columns the other way round.
fn turned(x: &[f32], width: usize) -> Vec<f32> {
    let rows = x.len() / width.max(1);
    (0..x.len())
        .map(|index| x[index % rows * width + index / rows])
        .collect()
}

/// `h ← e^(Δ·A) h + Δ x B`, `y = Σ_s h C`.
fn advance(isa: Isa, row: &Row<'_>, held: &mut [f32], output: &mut [f32]) {
    let (width, state) = (row.x.len(), row.write.len());
    assert!(output.len() == width && held.len() == width * state && row.rate.len() == held.len());
    // SAFETY: the caller checked the instruction set; lengths are those checked here and where rows are cut.
    unsafe {
        go_on(
            isa,
            width,
            state,
            row.x.as_ptr(),
            row.step.as_ptr(),
            row.write.as_ptr(),
            row.read.as_ptr(),
            row.rate.as_ptr(),
            held.as_mut_ptr(),
            output.as_mut_ptr(),
        );
    }
}

dispatch! {
    /// One step forward.
    ///
    /// # Safety
    /// The machine has `isa`; `x`, `step` and `y` are valid for `width` floats, `write` and `read` for `state`, `rate` and
    /// `held` for `state` rows of `width`; what is written overlaps nothing else.
    unsafe fn go_on(
        width: usize,
        state: usize,
        x: *const f32,
        step: *const f32,
        write: *const f32,
        read: *const f32,
        rate: *const f32,
        held: *mut f32,
        y: *mut f32,
    ) = go_on_body;
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one for each input and output")]
unsafe fn go_on_body<V: Vector>(
    width: usize,
    state: usize,
    x: *const f32,
    step: *const f32,
    write: *const f32,
    read: *const f32,
    rate: *const f32,
    held: *mut f32,
    y: *mut f32,
) {
    let mut i = 0;
    while i < width {
        let lanes = V::LANES.min(width - i);
        let delta = V::load_up_to(step.add(i), lanes);
        let moved = delta.mul(V::load_up_to(x.add(i), lanes));
        let mut sum = V::zero();
        for s in 0..state {
            let at = s * width + i;
            let decay = math::exp_of_negative(delta.mul(V::load_up_to(rate.add(at), lanes)));
            let kept = decay.mul(V::load_up_to(held.add(at), lanes));
            let h = moved.fma(V::splat(*write.add(s)), kept);
            h.store_up_to(held.add(at), lanes);
            sum = h.fma(V::splat(*read.add(s)), sum);
        }
        sum.store_up_to(y.add(i), lanes);
        i += V::LANES;
    }
}

dispatch! {
    /// One step back: `d_held` comes as the gradient of the state after it, and leaves as that of the state before.
    ///
    /// # Safety
    /// The machine has `isa`; `x`, `step`, `d_y`, `d_x` and `d_step` are valid for `width` floats, `write`, `read`, `d_write`
    /// and `d_read` for `state`, all others for `state` rows of `width`; what is written overlaps nothing else.
    unsafe fn go_back(
        width: usize,
        state: usize,
        x: *const f32,
        step: *const f32,
        write: *const f32,
        read: *const f32,
        rate: *const f32,
        was: *const f32,
        is: *const f32,
        d_y: *const f32,
        d_x: *mut f32,
        d_step: *mut f32,
        d_write: *mut f32,
        d_read: *mut f32,
        d_rate: *mut f32,
        d_held: *mut f32,
    ) = go_back_body;
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one for each input and output")]
unsafe fn go_back_body<V: Vector>(
    width: usize,
    state: usize,
    x: *const f32,
    step: *const f32,
    write: *const f32,
    read: *const f32,
    rate: *const f32,
    was: *const f32,
    is: *const f32,
    d_y: *const f32,
    d_x: *mut f32,
    d_step: *mut f32,
    d_write: *mut f32,
    d_read: *mut f32,
    d_rate: *mut f32,
    d_held: *mut f32,
) {
    for s in 0..state {
        let (write, read) = (V::splat(*write.add(s)), V::splat(*read.add(s)));
        let (mut to_write, mut to_read) = (V::zero(), V::zero());
        let mut i = 0;
        while i < width {
            let lanes = V::LANES.min(width - i);
            let at = s * width + i;
            let load = |p: *const f32| V::load_up_to(p, lanes);
            let (x, delta, d_y) = (load(x.add(i)), load(step.add(i)), load(d_y.add(i)));
            let rate = load(rate.add(at));
            let d = d_y.fma(read, load(d_held.add(at)));
            to_read = d_y.fma(load(is.add(at)), to_read);
            to_write = d.fma(delta.mul(x), to_write);
            let decay = d.mul(math::exp_of_negative(delta.mul(rate)));
            let carried = decay.mul(load(was.add(at)));
            let to_x = d.mul(write);
            let (mut sum_x, mut sum_step) = (V::zero(), V::zero());
            if s > 0 {
                (sum_x, sum_step) = (load(d_x.add(i)), load(d_step.add(i)));
            }
            to_x.fma(delta, sum_x).store_up_to(d_x.add(i), lanes);
            let to_step = to_x.fma(x, carried.mul(rate));
            to_step.add(sum_step).store_up_to(d_step.add(i), lanes);
            carried
                .fma(delta, load(d_rate.add(at)))
                .store_up_to(d_rate.add(at), lanes);
            decay.store_up_to(d_held.add(at), lanes);
            i += V::LANES;
        }
        *d_write.add(s) = to_write.reduce_sum();
        *d_read.add(s) = to_read.reduce_sum();
    }
}
