//! Softmax cross-entropy of rows against a table of classes, which is often the embedding table itself.
//!
//! loss(m) = log Σᵥ exp zₘᵥ − zₘ,ₜ with z = hidden·tableᵀ + bias; ∂/∂z = scale·(softmax(z) − onehot(t)).
//!
//! Logits are made in pieces of 48 rows by 1024 classes (192 KiB, with the table's piece inside L2) and turned
//! into exponentials, each piece relative to its own maximum, while they are there. Once a row's pieces are
//! done its sum is known: a second visit scales them to gradients and multiplies them by the table. The
//! gradients of up to 32 MiB of rows are kept, so that the table's gradient is one product over the classes,
//! cut by class: no partial tables, and one order of summation. Without gradients nothing is kept at all.

use rayon::prelude::*;

use super::linear::add_rows;
use super::matmul::{Mat, Packed};
use crate::Isa;
use crate::arch::gemm::{self, Output, SCRATCH, View};
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::{Scratch, Shared};

/// Rows of a task; a multiple of every tile's height.
const ROWS: usize = 48;
/// Classes of a piece; a multiple of every tile's width.
const CLASSES: usize = 1024;
/// Floats of gradients of logits kept at once.
const KEPT: usize = 1 << 23;
/// Classes of a task of the table's gradient; a multiple of every tile's height.
const TABLE_ROWS: usize = 96;

/// The sides of the problem.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// M
    pub rows: usize,
    /// D
    pub width: usize,
    /// V
    pub classes: usize,
}

/// Where gradients go; they are overwritten.
#[derive(Debug)]
pub struct Grads<'a> {
    /// `[M, D]`
    pub d_hidden: &'a mut [f32],
    /// `[V, D]`
    pub d_table: &'a mut [f32],
    /// `[V]`
    pub d_bias: Option<&'a mut [f32]>,
}

/// Loss of each row, and the gradients of `scale · Σ losses` if asked for.
///
/// # Shapes
/// `hidden: [M, D]`, `table: [V, D]`, `bias: [V]`, `targets, losses: [M]`
/// # Panics
/// If a length does not fit, a target is not a class, the width is zero, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    shape: Shape,
    hidden: &[f32],
    table: &[f32],
    bias: Option<&[f32]>,
    targets: &[u32],
    scale: f32,
    grads: Option<Grads>,
    losses: &mut [f32],
) {
    require(isa);
    let Shape {
        rows,
        width,
        classes,
    } = shape;
    assert!(width > 0, "rows and classes must have a width");
    check("losses", losses.len(), rows);
    check("targets", targets.len(), rows);
    check("bias", bias.map_or(classes, <[f32]>::len), classes);
    if let Some(row) = targets
        .iter()
        .position(|&target| target as usize >= classes)
    {
        panic!(
            "row {row} has target {}, there are {classes} classes",
            targets[row]
        );
    }
    let (hidden, table) = (
        Mat::new(hidden, rows, width),
        Mat::new(table, classes, width),
    );
    // SAFETY: `Mat` checked the lengths.
    let packed = unsafe { Packed::new(isa, width, classes, table.t().view()) };
    let logits = Logits {
        isa,
        shape,
        hidden: hidden.view(),
        packed,
        bias,
        targets,
        scale,
    };

    let Some(Grads {
        d_hidden,
        d_table,
        d_bias,
    }) = grads
    else {
        losses
            .par_chunks_mut(ROWS)
            .enumerate()
            .for_each(|(task, losses)| {
                let mut piece = Scratch::take(ROWS * PIECE_STRIDE);
                logits.losses(task * ROWS, losses, &mut piece);
            });
        return;
    };
    check("d_hidden", d_hidden.len(), rows * width);
    check("d_table", d_table.len(), classes * width);
    check(
        "d_bias",
        d_bias.as_ref().map_or(classes, |d| d.len()),
        classes,
    );
    if rows == 0 {
        d_table.fill(0.0);
        if let Some(d_bias) = d_bias {
            d_bias.fill(0.0);
        }
        return;
    }
    let pieces = pack_pieces(isa, classes, width, table.view());
    // Whole lines, and no power of two that would put every row into the same cache sets.
    let stride = classes.next_multiple_of(16);
    let stride = if stride.is_multiple_of(256) {
        stride + 16
    } else {
        stride
    };
    let most = (KEPT / stride).clamp(ROWS, rows.max(ROWS));
    let at_once = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(ROWS);
    let mut kept = Scratch::take(at_once.min(rows) * stride);
    let d_bias = d_bias.map(Shared::new);

    for start in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - start);
        let part = start..start + count;
        kept[..count * stride]
            .par_chunks_mut(ROWS * stride)
            .zip(losses[part.clone()].par_chunks_mut(ROWS))
            .zip(d_hidden[part.start * width..part.end * width].par_chunks_mut(ROWS * width))
            .enumerate()
            .for_each(|(task, ((kept, losses), d_hidden))| {
                logits.gradients(start + task * ROWS, losses, &pieces, kept, stride, d_hidden);
            });
        let d_logits = View {
            data: kept.as_ptr(),
            row: 1,
            col: stride,
        };
        // SAFETY: the part's rows are inside `hidden`, and `kept` holds their gradients for all classes.
        unsafe {
            let packed = Packed::new(isa, count, width, hidden.view().at(start, 0));
            let fresh = start == 0;
            add_table_gradient(isa, count, width, d_logits, &packed, fresh, d_table, d_bias);
        }
    }
}

/// `d_table = or += d_logits·hidden`, `d_bias` likewise, over `count` rows; `d_logits` is `[V, count]`.
///
/// # Safety
/// `d_logits` must be valid for as many classes as `d_table` and `d_bias` have, the machine must have `isa`.
unsafe fn add_table_gradient(
    isa: Isa,
    count: usize,
    width: usize,
    d_logits: View,
    hidden: &Packed,
    fresh: bool,
    d_table: &mut [f32],
    d_bias: Option<Shared>,
) {
    let task = |(task, d_table): (usize, &mut [f32])| {
        let (class, height) = (task * TABLE_ROWS, d_table.len() / width);
        let mut scratch = Scratch::take(SCRATCH);
        let out = Output {
            data: d_table.as_mut_ptr(),
            stride: width,
            alpha: 1.0,
            accumulate: !fresh,
            bias: std::ptr::null(),
        };
        // SAFETY: the caller's promise; each task has classes of its own.
        unsafe {
            let d_logits = d_logits.at(class, 0);
            if let Some(d_bias) = d_bias {
                let sums = d_bias.at(class);
                if fresh {
                    sums.write_bytes(0, height);
                }
                add_rows(isa, count, height, d_logits.col, d_logits.data, sums);
            }
            let (b, scratch) = (hidden.from(0), scratch.as_mut_ptr());
            gemm::block(isa, height, count, width, d_logits, b, out, scratch);
        }
    };
    let tasks = d_table.par_chunks_mut(TABLE_ROWS * width);
    tasks.enumerate().for_each(task);
}

/// Floats from row to row where one piece is all there is; off a power of two, for the cache's sake.
const PIECE_STRIDE: usize = CLASSES + 16;

fn check(name: &str, len: usize, want: usize) {
    assert_eq!(len, want, "{name} must hold {want} values, has {len}");
}

/// The table once more, as the right side of `d_logits · table`, piece by piece.
fn pack_pieces(isa: Isa, classes: usize, width: usize, table: View) -> Vec<Packed> {
    let pack = |class: usize| {
        // SAFETY: the classes are inside the table.
        unsafe { Packed::new(isa, CLASSES.min(classes - class), width, table.at(class, 0)) }
    };
    (0..classes).step_by(CLASSES).map(pack).collect()
}

/// What every task reads.
struct Logits<'a> {
    isa: Isa,
    shape: Shape,
    hidden: View,
    packed: Packed,
    bias: Option<&'a [f32]>,
    targets: &'a [u32],
    scale: f32,
}

/// The exponentials of one row in one piece, relative to their largest logit.
#[derive(Clone, Copy)]
struct Part {
    max: f32,
    sum: f32,
}

impl Logits<'_> {
    /// Logits of the piece that starts at `class`, for `rows` rows from `row` on; then their exponentials.
    ///
    /// # Safety
    /// `z` must be valid for `rows` rows, `stride` apart, of the piece's classes.
    unsafe fn piece(
        &self,
        row: usize,
        class: usize,
        z: *mut f32,
        stride: usize,
        at_target: &mut [f32],
        parts: &mut [Part],
        scratch: &mut Scratch,
    ) {
        let Shape { width, classes, .. } = self.shape;
        let (rows, count) = (parts.len(), CLASSES.min(classes - class));
        let bias = self
            .bias
            .map_or(std::ptr::null(), |bias| bias[class..].as_ptr());
        let out = Output {
            data: z,
            stride,
            alpha: 1.0,
            accumulate: false,
            bias,
        };
        let (a, b) = (self.hidden.at(row, 0), self.packed.from(class));
        gemm::block(
            self.isa,
            rows,
            width,
            count,
            a,
            b,
            out,
            scratch.as_mut_ptr(),
        );
        for (i, part) in parts.iter_mut().enumerate() {
            let z = z.add(i * stride);
            let target = self.targets[row + i] as usize;
            if (class..class + count).contains(&target) {
                at_target[i] = *z.add(target - class);
            }
            let (max, sum) = exponentials(self.isa, count, z);
            *part = Part { max, sum };
        }
    }

    /// Losses of up to [`ROWS`] rows from `row` on; `z` is room for one piece.
    fn losses(&self, row: usize, losses: &mut [f32], z: &mut [f32]) {
        let rows = losses.len();
        let mut scratch = Scratch::take(SCRATCH);
        let mut at_target = [0.0; ROWS];
        let mut totals = [Part {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        }; ROWS];
        for class in (0..self.shape.classes).step_by(CLASSES) {
            let mut parts = totals;
            // SAFETY: `z` has ROWS rows of PIECE_STRIDE floats.
            unsafe {
                let (z, parts) = (z.as_mut_ptr(), &mut parts[..rows]);
                self.piece(
                    row,
                    class,
                    z,
                    PIECE_STRIDE,
                    &mut at_target,
                    parts,
                    &mut scratch,
                );
            }
            for (total, part) in totals.iter_mut().zip(&parts[..rows]) {
                *total = join(*total, *part);
            }
        }
        for (i, loss) in losses.iter_mut().enumerate() {
            *loss = totals[i].sum.ln() + (totals[i].max - at_target[i]);
        }
    }

    /// As [`Self::losses`]; `kept` receives the gradients of the logits, `d_hidden` those of the rows.
    fn gradients(
        &self,
        row: usize,
        losses: &mut [f32],
        pieces: &[Packed],
        kept: &mut [f32],
        stride: usize,
        d_hidden: &mut [f32],
    ) {
        let Shape { width, classes, .. } = self.shape;
        let rows = losses.len();
        let mut scratch = Scratch::take(SCRATCH);
        let mut at_target = [0.0; ROWS];
        let none = Part {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        };
        let mut parts = vec![none; pieces.len() * rows];
        let kept = kept.as_mut_ptr();
        for (piece, parts) in parts.chunks_exact_mut(rows).enumerate() {
            let class = piece * CLASSES;
            // SAFETY: `kept` has `rows` rows of at least all classes.
            unsafe {
                self.piece(
                    row,
                    class,
                    kept.add(class),
                    stride,
                    &mut at_target,
                    parts,
                    &mut scratch,
                );
            }
        }
        let mut totals = [none; ROWS];
        for parts in parts.chunks_exact(rows) {
            for (total, part) in totals.iter_mut().zip(parts) {
                *total = join(*total, *part);
            }
        }
        for (i, loss) in losses.iter_mut().enumerate() {
            *loss = totals[i].sum.ln() + (totals[i].max - at_target[i]);
        }
        for (piece, parts) in parts.chunks_exact(rows).enumerate() {
            let class = piece * CLASSES;
            let count = CLASSES.min(classes - class);
            let out = Output {
                data: d_hidden.as_mut_ptr(),
                stride: width,
                alpha: 1.0,
                accumulate: piece > 0,
                bias: std::ptr::null(),
            };
            // SAFETY: as above; `d_hidden` has `rows` rows.
            unsafe {
                let data = kept.add(class);
                for (i, part) in parts.iter().enumerate() {
                    let z = data.add(i * stride);
                    let factor = self.scale * (part.max - totals[i].max).exp() / totals[i].sum;
                    multiply(self.isa, count, z, factor);
                    let target = self.targets[row + i] as usize;
                    if (class..class + count).contains(&target) {
                        *z.add(target - class) -= self.scale;
                    }
                }
                let (a, b) = (
                    View {
                        data,
                        row: stride,
                        col: 1,
                    },
                    pieces[piece].from(0),
                );
                gemm::block(
                    self.isa,
                    rows,
                    count,
                    width,
                    a,
                    b,
                    out,
                    scratch.as_mut_ptr(),
                );
            }
        }
    }
}

/// Sums of exponentials relative to the larger of the two maxima.
fn join(a: Part, b: Part) -> Part {
    let max = a.max.max(b.max);
    // Where everything so far is exp(−∞), any reference will do; −∞ itself would make NaN.
    let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let sum = a.sum * (a.max - reference).exp() + b.sum * (b.max - reference).exp();
    Part { max, sum }
}

dispatch! {
    /// `z = exp(z − max z)`; returns the maximum and the sum.
    ///
    /// # Safety
    /// `z` must be valid for `n` floats; the machine must have `isa`.
    pub(crate) unsafe fn exponentials(n: usize, z: *mut f32) -> (f32, f32) = exponentials_body;
}

#[inline(always)]
unsafe fn exponentials_body<V: Vector>(n: usize, z: *mut f32) -> (f32, f32) {
    let whole = n - n % V::LANES;
    let mut maxima = V::splat(f32::NEG_INFINITY);
    for i in (0..whole).step_by(V::LANES) {
        maxima = maxima.max(V::load(z.add(i)));
    }
    let mut max = maxima.reduce_max();
    for i in whole..n {
        max = max.max(*z.add(i));
    }
    let shift = V::splat(if max == f32::NEG_INFINITY { 0.0 } else { max });
    let mut sums = V::zero();
    for i in (0..whole).step_by(V::LANES) {
        let e = math::exp(V::load(z.add(i)).sub(shift));
        e.store(z.add(i));
        sums = sums.add(e);
    }
    let mut sum = sums.reduce_sum();
    if whole < n {
        let left = n - whole;
        let e = math::exp(V::load_partial(z.add(whole), left).sub(shift));
        e.store_partial(z.add(whole), left);
        for i in whole..n {
            sum += *z.add(i);
        }
    }
    (max, sum)
}

dispatch! {
    /// `z *= by`
    ///
    /// # Safety
    /// `z` must be valid for `n` floats; the machine must have `isa`.
    pub(crate) unsafe fn multiply(n: usize, z: *mut f32, by: f32) = multiply_body;
}

#[inline(always)]
unsafe fn multiply_body<V: Vector>(n: usize, z: *mut f32, by: f32) {
    let by = V::splat(by);
    for i in (0..n).step_by(V::LANES) {
        V::load_up_to(z.add(i), n - i)
            .mul(by)
            .store_up_to(z.add(i), n - i);
    }
}
