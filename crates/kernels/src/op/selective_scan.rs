//! A state of each channel that decays, is written and read as each token says, along every sequence of a packed batch.
//!
//! `h_t = e^(Δ_t·A) h_(t−1) + Δ_t x_t B_t`, `y_t = Σ_s C_t h_t`, for each channel with `S` numbers of state. The forward
//! pass keeps the states of every [`KEEP`]-th step; the backward pass computes those between again, so that memory grows
//! with the tokens and not with tokens times states. Sequences go to threads, channels to vector lanes.

use rayon::prelude::*;

/// Steps between kept states: their numbers, and those computed again at once, are then about as many for a long text.
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
/// Where a slice has another length.
pub fn forward(
    scan: &SelectiveScan<'_>,
    inputs: &Inputs<'_>,
    output: &mut [f32],
    kept: &mut [f32],
) {
    scan.check(inputs);
    assert_eq!(
        output.len(),
        inputs.x.len(),
        "selective_scan: length of output"
    );
    assert_eq!(kept.len(), scan.kept(), "selective_scan: length of kept");
    let states = scan.width * scan.state;
    let (mut jobs, mut output, mut kept) = (Vec::new(), output, kept);
    for w in scan.offsets.windows(2) {
        let (from, len) = (w[0] as usize, (w[1] - w[0]) as usize);
        let (mine, rest) = output.split_at_mut(len * scan.width);
        let (held, others) = kept.split_at_mut(len.div_ceil(KEEP) * states);
        jobs.push((part(scan, inputs, from, len), len, mine, held));
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
                let row = inputs.row(scan, at);
                advance(scan, &row, &mut held);
                let output = &mut output[at * scan.width..][..scan.width];
                for (y, held) in output.iter_mut().zip(held.chunks_exact(scan.state)) {
                    *y = held.iter().zip(row.read).map(|(h, c)| h * c).sum();
                }
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
/// Where a slice has another length.
pub fn backward(
    scan: &SelectiveScan<'_>,
    inputs: &Inputs<'_>,
    kept: &[f32],
    d_output: &[f32],
) -> Gradients {
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
            let job;
            (job, x) = x.split_at_mut(len * width);
            let d_x = job;
            let job;
            (job, step) = step.split_at_mut(len * width);
            let d_step = job;
            let job;
            (job, write_read) = write_read.split_at_mut(len * 2 * state);
            let held;
            (held, kept) = kept.split_at(len.div_ceil(KEEP) * width * state);
            jobs.push(Job {
                inputs: part(scan, inputs, from, len),
                len,
                kept: held,
                d_output: &d_output[rows],
                d_x,
                d_step,
                d_write_read: job,
            });
        }
    }
    let rates: Vec<Vec<f32>> = jobs.into_par_iter().map(|job| job.run(scan)).collect();
    // In the order of the sequences, whichever thread had them.
    for rate in rates {
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
    /// The gradient of `rate`.
    fn run(self, scan: &SelectiveScan<'_>) -> Vec<f32> {
        let (width, state, len) = (scan.width, scan.state, self.len);
        let states = width * state;
        let mut d_rate = vec![0.0; states];
        let mut d_held = vec![0.0; states];
        // The states before each step of a stretch, and after its last.
        let mut before = vec![0.0; (KEEP + 1) * states];
        for stretch in (0..len.div_ceil(KEEP)).rev() {
            let first = stretch * KEEP;
            let steps = KEEP.min(len - first);
            before[..states].copy_from_slice(&self.kept[stretch * states..][..states]);
            for step in 0..steps {
                before.copy_within(step * states..(step + 1) * states, (step + 1) * states);
                let row = self.inputs.row(scan, scan.at(first + step, len));
                advance(scan, &row, &mut before[(step + 1) * states..][..states]);
            }
            for step in (0..steps).rev() {
                let at = scan.at(first + step, len);
                let row = self.inputs.row(scan, at);
                let was = &before[step * states..][..states];
                let is = &before[(step + 1) * states..][..states];
                let (d_write, d_read) =
                    self.d_write_read[at * 2 * state..][..2 * state].split_at_mut(state);
                for channel in 0..width {
                    let here = channel * state..(channel + 1) * state;
                    let (x, delta) = (row.x[channel], row.step[channel]);
                    let d_y = self.d_output[at * width + channel];
                    let (mut d_x, mut d_delta) = (0.0, 0.0);
                    let d_held = &mut d_held[here.clone()];
                    let d_rate = &mut d_rate[here.clone()];
                    let (was, is) = (&was[here.clone()], &is[here.clone()]);
                    let rate = &self.inputs.rate[here];
                    for s in 0..state {
                        let d = d_held[s] + d_y * row.read[s];
                        d_read[s] += d_y * is[s];
                        d_write[s] += d * delta * x;
                        let decay = exp(delta * rate[s]);
                        let carried = d * decay * was[s];
                        d_x += d * row.write[s];
                        d_delta += carried * rate[s] + d * x * row.write[s];
                        d_rate[s] += carried * delta;
                        d_held[s] = d * decay;
                    }
                    self.d_x[at * width + channel] = d_x * delta;
                    self.d_step[at * width + channel] = d_delta;
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

/// The inputs of the `len` tokens of a sequence.
fn part<'a>(scan: &SelectiveScan<'_>, inputs: &Inputs<'a>, from: usize, len: usize) -> Inputs<'a> {
    let rows = |x: &'a [f32], width: usize| &x[from * width..(from + len) * width];
    Inputs {
        x: rows(inputs.x, scan.width),
        step: rows(inputs.step, scan.width),
        write_read: rows(inputs.write_read, 2 * scan.state),
        rate: inputs.rate,
    }
}

/// `h ← e^(Δ·A) h + Δ x B`
fn advance(scan: &SelectiveScan<'_>, row: &Row<'_>, held: &mut [f32]) {
    let channels = held
        .chunks_exact_mut(scan.state)
        .zip(row.rate.chunks_exact(scan.state))
        .zip(row.x.iter().zip(row.step));
    for ((held, rate), (x, step)) in channels {
        for ((h, a), b) in held.iter_mut().zip(rate).zip(row.write) {
            *h = exp(step * a) * *h + step * x * b;
        }
    }
}

/// `eˣ` for `x` up to 0, without a branch, so that a loop over it takes several lanes: `x = n ln 2 + r`, a polynomial
/// in `r`, and `n` added to the exponent (Cody and Waite, Software Manual for the Elementary Functions, 1980).
fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // Below, the result is under the smallest normal number, and as good as 0 beside any other.
    let x = x.max(-87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exponential_is_that_of_the_library() {
        for step in 0..=8700 {
            let x = -(step as f32) / 100.0;
            let (got, want) = (super::exp(x), f64::from(x).exp());
            let error = (f64::from(got) - want).abs() / want;
            assert!(error < 3e-7, "e^{x} is {got}, needs {want}");
        }
        assert!(super::exp(-1000.0) < 1e-37);
    }
}
