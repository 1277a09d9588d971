//! Losses of rows over candidate classes: one positive and some negatives each, instead of every class.
//!
//! A row reads its candidates' table rows for the logits and again, now cached, for its own gradient. The
//! table's gradient gathers instead of scattering: pairs of row and candidate are sorted by class (a counting
//! sort, which keeps their order), and each class sums its pairs, so that no two tasks write the same row.

use rayon::prelude::*;

use super::cross_entropy::{Grads, exponentials, multiply};
use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::Scratch;

/// What a row's logits are turned into; `s₀` is the positive's, the others the negatives'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CandidateLoss {
    /// −log softmax at the positive, over the candidates; a negative equal to the positive is left out.
    SampledSoftmax,
    /// −log σ(s₀) − Σ log(1 − σ(s)).
    Bce,
    /// −β·log σ(s₀) − Σ log(1 − σ(s)) (Petrov & Macdonald, `RecSys` 2023, arXiv:2308.07192, there divided by C).
    Gbce {
        /// Power of the positive's probability; 1 is [`CandidateLoss::Bce`].
        beta: f32,
    },
}

/// The sides of the problem.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// M
    pub rows: usize,
    /// D
    pub width: usize,
    /// V
    pub classes: usize,
    /// C: the positive, then the negatives.
    pub candidates: usize,
}

/// Rows of a task, and classes of a task of the table's gradient.
const ROWS: usize = 16;
const TABLE_ROWS: usize = 64;

/// Loss of each row, and the gradients of `scale · Σ losses` if asked for, overwritten.
///
/// Logits are `hidden·table[id] + bias[id] − correction`; the correction is log Q, the log of how often
/// sampling proposes the candidate (Bengio & Senécal 2008), and has no gradient.
///
/// # Shapes
/// `hidden: [M, D]`, `table: [V, D]`, `bias: [V]`, `ids, correction: [M, C]` with the positive in column 0,
/// `losses: [M]`
/// # Panics
/// If a length does not fit, an id is not a class, D or C is zero, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    shape: Shape,
    hidden: &[f32],
    table: &[f32],
    bias: Option<&[f32]>,
    ids: &[u32],
    correction: Option<&[f32]>,
    loss: CandidateLoss,
    scale: f32,
    grads: Option<Grads>,
    losses: &mut [f32],
) {
    require(isa);
    let Shape {
        rows,
        width,
        classes,
        candidates,
    } = shape;
    assert!(
        width > 0 && candidates > 0,
        "rows need a width and a positive candidate each"
    );
    check("hidden", hidden.len(), rows * width);
    check("table", table.len(), classes * width);
    check("ids", ids.len(), rows * candidates);
    check("losses", losses.len(), rows);
    check("bias", bias.map_or(classes, <[f32]>::len), classes);
    check(
        "correction",
        correction.map_or(ids.len(), <[f32]>::len),
        ids.len(),
    );
    if let Some(at) = ids.iter().position(|&id| id as usize >= classes) {
        let (row, id) = (at / candidates, ids[at]);
        panic!("row {row} has candidate {id}, there are {classes} classes");
    }

    // Logits, then their gradients.
    let mut z = Scratch::take(rows * candidates);
    let row_loss = |row: usize, z: &mut [f32]| {
        let ids = &ids[row * candidates..(row + 1) * candidates];
        let hidden = &hidden[row * width..(row + 1) * width];
        // SAFETY: ids are rows of the table; `hidden` is one row of it, `z` one logit per id.
        unsafe {
            dots(
                isa,
                width,
                hidden.as_ptr(),
                table.as_ptr(),
                ids,
                z.as_mut_ptr(),
            );
        }
        for (c, z) in z.iter_mut().enumerate() {
            *z += bias.map_or(0.0, |bias| bias[ids[c] as usize]);
            *z -= correction.map_or(0.0, |correction| correction[row * candidates + c]);
        }
        differentiate(isa, loss, ids, scale, z)
    };
    let Some(Grads {
        d_hidden,
        d_table,
        d_bias,
    }) = grads
    else {
        z.par_chunks_exact_mut(candidates)
            .zip(losses.par_iter_mut())
            .with_min_len(ROWS)
            .enumerate()
            .for_each(|(row, (z, loss))| *loss = row_loss(row, z));
        return;
    };
    check("d_hidden", d_hidden.len(), rows * width);
    check("d_table", d_table.len(), classes * width);
    if let Some(d_bias) = &d_bias {
        check("d_bias", d_bias.len(), classes);
    }
    z.par_chunks_exact_mut(candidates)
        .zip(losses.par_iter_mut())
        .zip(d_hidden.par_chunks_exact_mut(width))
        .with_min_len(ROWS)
        .enumerate()
        .for_each(|(row, ((z, loss), d_hidden))| {
            *loss = row_loss(row, z);
            let ids = &ids[row * candidates..(row + 1) * candidates];
            // SAFETY: ids are rows of the table, each with its weight.
            unsafe { weighted_rows(isa, width, table.as_ptr(), ids, z, d_hidden.as_mut_ptr()) };
        });

    let pairs = Pairs::by_class(ids, candidates, classes, &z);
    d_table
        .par_chunks_mut(TABLE_ROWS * width)
        .enumerate()
        .for_each(|(task, d_table)| {
            for (i, d_row) in d_table.chunks_exact_mut(width).enumerate() {
                let range = pairs.of(task * TABLE_ROWS + i);
                let (rows, weights) = (&pairs.rows[range.clone()], &pairs.weights[range]);
                // SAFETY: the pairs' rows are rows of `hidden`.
                unsafe {
                    weighted_rows(
                        isa,
                        width,
                        hidden.as_ptr(),
                        rows,
                        weights,
                        d_row.as_mut_ptr(),
                    );
                }
            }
        });
    if let Some(d_bias) = d_bias {
        for (class, d_bias) in d_bias.iter_mut().enumerate() {
            *d_bias = pairs.weights[pairs.of(class)].iter().sum();
        }
    }
}

fn check(name: &str, len: usize, want: usize) {
    assert_eq!(len, want, "{name} must hold {want} values, has {len}");
}

/// Replaces the logits by `scale` times the loss's gradient and returns the loss.
fn differentiate(isa: Isa, loss: CandidateLoss, ids: &[u32], scale: f32, z: &mut [f32]) -> f32 {
    let positive = z[0];
    let beta = match loss {
        CandidateLoss::SampledSoftmax => {
            for (z, &id) in z.iter_mut().zip(ids).skip(1) {
                if id == ids[0] {
                    *z = f32::NEG_INFINITY;
                }
            }
            // SAFETY: `z` is a slice.
            let (max, sum) = unsafe { exponentials(isa, z.len(), z.as_mut_ptr()) };
            // SAFETY: as above.
            unsafe { multiply(isa, z.len(), z.as_mut_ptr(), scale / sum) };
            z[0] -= scale;
            return sum.ln() + (max - positive);
        }
        CandidateLoss::Bce => 1.0,
        CandidateLoss::Gbce { beta } => beta,
    };
    z[0] = -positive;
    let (first, rest) = z.split_at_mut(1);
    // SAFETY: both are slices.
    let (of_positive, of_negatives) = unsafe {
        (
            logistic(isa, 1, first.as_mut_ptr()),
            logistic(isa, rest.len(), rest.as_mut_ptr()),
        )
    };
    first[0] *= -beta * scale;
    for z in rest {
        *z *= scale;
    }
    beta * of_positive + of_negatives
}

/// Rows and gradients of all candidates, sorted by class; within a class in the order they came.
struct Pairs {
    starts: Vec<u32>,
    rows: Vec<u32>,
    weights: Vec<f32>,
}

impl Pairs {
    fn by_class(ids: &[u32], candidates: usize, classes: usize, weights: &[f32]) -> Self {
        assert!(
            u32::try_from(ids.len()).is_ok(),
            "{} candidates are more than u32 counts",
            ids.len()
        );
        let mut starts = vec![0_u32; classes + 1];
        for &id in ids {
            starts[id as usize + 1] += 1;
        }
        for class in 0..classes {
            starts[class + 1] += starts[class];
        }
        let mut next = starts.clone();
        let mut pairs = Self {
            starts,
            rows: vec![0; ids.len()],
            weights: vec![0.0; ids.len()],
        };
        for (at, (&id, &weight)) in ids.iter().zip(weights).enumerate() {
            let to = next[id as usize] as usize;
            next[id as usize] += 1;
            pairs.rows[to] = (at / candidates) as u32;
            pairs.weights[to] = weight;
        }
        pairs
    }

    fn of(&self, class: usize) -> std::ops::Range<usize> {
        self.starts[class] as usize..self.starts[class + 1] as usize
    }
}

dispatch! {
    /// `out[c] = x · table[ids[c]]`
    ///
    /// # Safety
    /// `x` must be valid for `width` floats, `table` for every row named, `out` for one float per id; the
    /// machine must have `isa`.
    unsafe fn dots(width: usize, x: *const f32, table: *const f32, ids: &[u32], out: *mut f32) = dots_body;
}

#[inline(always)]
unsafe fn dots_body<V: Vector>(
    width: usize,
    x: *const f32,
    table: *const f32,
    ids: &[u32],
    out: *mut f32,
) {
    for (c, &id) in ids.iter().enumerate() {
        let row = table.add(id as usize * width);
        // Two sums, for the adds not to wait for each other.
        let (mut even, mut odd) = (V::zero(), V::zero());
        let mut i = 0;
        while i + 2 * V::LANES <= width {
            even = V::load(x.add(i)).fma(V::load(row.add(i)), even);
            let next = i + V::LANES;
            odd = V::load(x.add(next)).fma(V::load(row.add(next)), odd);
            i += 2 * V::LANES;
        }
        while i < width {
            let left = width - i;
            even = V::load_up_to(x.add(i), left).fma(V::load_up_to(row.add(i), left), even);
            i += V::LANES;
        }
        *out.add(c) = even.add(odd).reduce_sum();
    }
}

dispatch! {
    /// `out = Σ weights[c] · table[ids[c]]`, in order.
    ///
    /// # Safety
    /// `table` must be valid for every row named, `out` for `width` floats; as many weights as ids; the machine
    /// must have `isa`.
    unsafe fn weighted_rows(width: usize, table: *const f32, ids: &[u32], weights: &[f32], out: *mut f32) = weighted_rows_body;
}

#[inline(always)]
unsafe fn weighted_rows_body<V: Vector>(
    width: usize,
    table: *const f32,
    ids: &[u32],
    weights: &[f32],
    out: *mut f32,
) {
    let group = 4 * V::LANES;
    let whole = width - width % group;
    for i in (0..whole).step_by(group) {
        let mut sums = [V::zero(); 4];
        for (&id, &weight) in ids.iter().zip(weights) {
            let (row, weight) = (table.add(id as usize * width + i), V::splat(weight));
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = weight.fma(V::load(row.add(j * V::LANES)), *sum);
            }
        }
        for (j, sum) in sums.into_iter().enumerate() {
            sum.store(out.add(i + j * V::LANES));
        }
    }
    for i in (whole..width).step_by(V::LANES) {
        let left = width - i;
        let mut sum = V::zero();
        for (&id, &weight) in ids.iter().zip(weights) {
            let row = table.add(id as usize * width + i);
            sum = V::splat(weight).fma(V::load_up_to(row, left), sum);
        }
        sum.store_up_to(out.add(i), left);
    }
}

dispatch! {
    /// `z = σ(z)`; returns Σ softplus(z).
    ///
    /// # Safety
    /// `z` must be valid for `n` floats; the machine must have `isa`.
    unsafe fn logistic(n: usize, z: *mut f32) -> f32 = logistic_body;
}

#[inline(always)]
unsafe fn logistic_body<V: Vector>(n: usize, z: *mut f32) -> f32 {
    let whole = n - n % V::LANES;
    let mut sums = V::zero();
    for i in (0..whole).step_by(V::LANES) {
        let (value, sigmoid) = math::softplus(V::load(z.add(i)));
        sigmoid.store(z.add(i));
        sums = sums.add(value);
    }
    let mut sum = sums.reduce_sum();
    for i in whole..n {
        let (value, sigmoid) = math::softplus(V::splat(*z.add(i)));
        sigmoid.store_up_to(z.add(i), 1);
        // Every lane holds the same: the mean of LANES equal numbers is exact, LANES being a power of two.
        sum += value.reduce_sum() / V::LANES as f32;
    }
    sum
}
