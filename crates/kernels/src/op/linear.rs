//! Linear layer with its bias and activation: y = act(x·Wᵀ + b), W as Hugging Face stores it.
//!
//! Forward, the bias goes in with the product and the activation over each block of rows while it is in
//! cache. Backward, each fixed chunk of rows makes the gradient before the activation, its share of the
//! gradients of bias and weight, and its rows of the gradient of x in one visit; the shares are then summed
//! in order. Large weights, of which sixteen shares would be too much memory, are cut by their own rows.

use rayon::prelude::*;

use super::matmul::{self, Chunks, DEPTH, Mat, Packed, add_outer, matmul, sum_partials, wide};
use crate::Isa;
use crate::arch::gemm::{self, Output, SCRATCH};
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::{Scratch, Shared};

/// What follows the linear map, elementwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// x·Φ(x), exact (Hendrycks & Gimpel, arXiv:1606.08415).
    Gelu,
}

/// The sides of a linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// N
    pub rows: usize,
    /// I
    pub inputs: usize,
    /// O
    pub outputs: usize,
}

impl Linear {
    fn check(self, x: Option<&[f32]>, weight: &[f32], bias: Option<&[f32]>) {
        let Self {
            rows,
            inputs,
            outputs,
        } = self;
        if let Some(x) = x {
            check_len("x", x.len(), rows, inputs);
        }
        check_len("weight", weight.len(), outputs, inputs);
        if let Some(bias) = bias {
            check_len("bias", bias.len(), 1, outputs);
        }
    }
}

fn check_len(name: &str, len: usize, rows: usize, cols: usize) {
    assert_eq!(
        len,
        rows * cols,
        "{name} must hold {rows}×{cols} floats, has {len}"
    );
}

/// `out = act(x·weightᵀ + bias)`; `pre`, if given, receives what goes into the activation.
///
/// # Shapes
/// `x: [N, I]`, `weight: [O, I]`, `bias: [O]`, `pre, out: [N, O]`
/// # Panics
/// If a length does not fit or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    shape: Linear,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    act: Activation,
    pre: Option<&mut [f32]>,
    out: &mut [f32],
) {
    require(isa);
    shape.check(Some(x), weight, bias);
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("out", out.len(), rows, outputs);
    let out = Shared::new(out);
    let linear = match pre {
        Some(pre) => {
            check_len("pre", pre.len(), rows, outputs);
            Shared::new(pre)
        }
        None => out,
    };
    let finish = |rows: std::ops::Range<usize>| {
        let (start, len) = (rows.start * outputs, rows.len() * outputs);
        // SAFETY: the rows are inside both, and no other task has them.
        unsafe {
            match act {
                Activation::Gelu => gelu(isa, len, linear.at(start), out.at(start)),
                Activation::Identity if linear.at(0) != out.at(0) => {
                    out.at(start)
                        .copy_from_nonoverlapping(linear.at(start), len);
                }
                Activation::Identity => {}
            }
        }
    };
    let product = Output {
        data: linear.at(0),
        stride: outputs,
        alpha: 1.0,
        accumulate: false,
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
    };
    let (x, weight) = (
        Mat::new(x, rows, inputs),
        Mat::new(weight, outputs, inputs).t(),
    );
    // SAFETY: lengths were checked above.
    unsafe {
        let packed = Packed::new(isa, inputs, outputs, weight.view());
        wide(isa, rows, inputs, x.view(), &packed, product, &finish);
    }
}

/// Gradients of [`forward`]; outputs that are not wanted are `None`, the others are overwritten.
///
/// # Shapes
/// `x, d_x: [N, I]`, `weight, d_weight: [O, I]`, `d_bias: [O]`, `pre, d_out: [N, O]`
/// # Panics
/// If a length does not fit, the machine lacks `isa`, or `act` needs `pre` and it is missing.
pub fn backward(
    isa: Isa,
    shape: Linear,
    x: &[f32],
    weight: &[f32],
    act: Activation,
    pre: Option<&[f32]>,
    d_out: &[f32],
    d_x: Option<&mut [f32]>,
    d_weight: Option<&mut [f32]>,
    d_bias: Option<&mut [f32]>,
) {
    require(isa);
    shape.check(d_weight.is_some().then_some(x), weight, d_bias.as_deref());
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("d_out", d_out.len(), rows, outputs);
    if let Some(d_x) = &d_x {
        check_len("d_x", d_x.len(), rows, inputs);
    }
    if let Some(d_weight) = &d_weight {
        check_len("d_weight", d_weight.len(), outputs, inputs);
    }
    let pre = match act {
        Activation::Identity => None,
        Activation::Gelu => {
            Some(pre.expect("the backward of gelu needs what went into it: pass pre"))
        }
    };
    if let Some(pre) = pre {
        check_len("pre", pre.len(), rows, outputs);
    }
    let shares = outputs * inputs <= 1 << 18;
    if shares {
        by_chunks(isa, shape, x, weight, pre, d_out, d_x, d_weight, d_bias);
    } else {
        by_products(isa, shape, x, weight, pre, d_out, d_x, d_weight, d_bias);
    }
}

/// All gradients of a chunk of rows in one visit.
#[expect(clippy::too_many_lines, reason = "one visit is one story")]
fn by_chunks(
    isa: Isa,
    shape: Linear,
    x: &[f32],
    weight: &[f32],
    pre: Option<&[f32]>,
    d_out: &[f32],
    d_x: Option<&mut [f32]>,
    d_weight: Option<&mut [f32]>,
    d_bias: Option<&mut [f32]>,
) {
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    let chunks = Chunks::new(rows);
    let mut weight_shares = Scratch::take(d_weight.as_ref().map_or(0, |d| d.len() * chunks.count));
    let mut bias_shares = Scratch::take(d_bias.as_ref().map_or(0, |d| d.len() * chunks.count));
    let (weights, biases) = (
        Shared::new(&mut weight_shares),
        Shared::new(&mut bias_shares),
    );
    let weight = Mat::new(weight, outputs, inputs).view();
    // SAFETY: lengths were checked by the caller.
    let packed = d_x
        .is_some()
        .then(|| unsafe { Packed::new(isa, outputs, inputs, weight) });
    let (with_weight, with_bias) = (d_weight.is_some(), d_bias.is_some());
    let d_x = d_x.map(Shared::new);

    (0..chunks.count).into_par_iter().for_each(|chunk| {
        let range = chunks.range(chunk, rows);
        let mut d_pre = Scratch::take(if pre.is_some() { DEPTH * outputs } else { 0 });
        let mut scratch = Scratch::take(SCRATCH);
        // SAFETY: every chunk has shares and rows of its own.
        let (weight_share, bias_share) = unsafe {
            let share = |of: Shared, wanted: bool, len: usize| {
                let len = if wanted { len } else { 0 };
                std::slice::from_raw_parts_mut(of.at(chunk * len), len)
            };
            (
                share(weights, with_weight, outputs * inputs),
                share(biases, with_bias, outputs),
            )
        };
        bias_share.fill(0.0);
        let mut fresh = true;
        for start in range.clone().step_by(DEPTH) {
            let height = DEPTH.min(range.end - start);
            let part = start * outputs..(start + height) * outputs;
            let d_out = &d_out[part.clone()];
            let d_pre = match pre {
                None => d_out,
                Some(pre) => {
                    let d_pre = &mut d_pre[..d_out.len()];
                    let pre = &pre[part];
                    // SAFETY: the three are equally long.
                    unsafe {
                        gelu_backward(
                            isa,
                            d_out.len(),
                            pre.as_ptr(),
                            d_out.as_ptr(),
                            d_pre.as_mut_ptr(),
                        );
                    }
                    d_pre
                }
            };
            let d_pre = Mat::new(d_pre, height, outputs);
            // SAFETY: the blocks are inside the operands, whose lengths the caller checked.
            unsafe {
                if with_bias {
                    add_rows(
                        isa,
                        height,
                        outputs,
                        outputs,
                        d_pre.view().data,
                        bias_share.as_mut_ptr(),
                    );
                }
                if let (Some(d_x), Some(packed)) = (d_x, &packed) {
                    let out = Output {
                        data: d_x.at(start * inputs),
                        stride: inputs,
                        alpha: 1.0,
                        accumulate: false,
                        bias: std::ptr::null(),
                    };
                    let (view, b) = (d_pre.view(), packed.from(0));
                    gemm::block(
                        isa,
                        height,
                        outputs,
                        inputs,
                        view,
                        b,
                        out,
                        scratch.as_mut_ptr(),
                    );
                }
                if with_weight {
                    let x = Mat::new(
                        &x[start * inputs..(start + height) * inputs],
                        height,
                        inputs,
                    );
                    let (a, b) = (d_pre.t().view(), x.view());
                    add_outer(isa, outputs, height, inputs, a, b, weight_share, fresh);
                }
            }
            fresh = false;
        }
    });
    if let Some(d_weight) = d_weight {
        sum_partials(&weight_shares, 1.0, false, d_weight);
    }
    if let Some(d_bias) = d_bias {
        sum_partials(&bias_shares, 1.0, false, d_bias);
    }
}

/// One whole product after the other.
fn by_products(
    isa: Isa,
    shape: Linear,
    x: &[f32],
    weight: &[f32],
    pre: Option<&[f32]>,
    d_out: &[f32],
    d_x: Option<&mut [f32]>,
    d_weight: Option<&mut [f32]>,
    d_bias: Option<&mut [f32]>,
) {
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    let mut buffer = Scratch::take(pre.map_or(0, <[f32]>::len));
    let d_pre = match pre {
        None => d_out,
        Some(pre) => {
            let piece = 96 * outputs;
            buffer
                .par_chunks_mut(piece)
                .enumerate()
                .for_each(|(i, to)| {
                    let range = i * piece..i * piece + to.len();
                    let (pre, d_out) = (&pre[range.clone()], &d_out[range]);
                    // SAFETY: the three are equally long.
                    unsafe {
                        gelu_backward(isa, to.len(), pre.as_ptr(), d_out.as_ptr(), to.as_mut_ptr());
                    }
                });
            &buffer
        }
    };
    if let Some(d_bias) = d_bias {
        let chunks = Chunks::new(rows);
        let mut shares = Scratch::take(chunks.count * outputs);
        shares.fill(0.0);
        shares
            .par_chunks_exact_mut(outputs)
            .enumerate()
            .for_each(|(chunk, share)| {
                let range = chunks.range(chunk, rows);
                let part = &d_pre[range.start * outputs..range.end * outputs];
                // SAFETY: `part` holds the chunk's rows, `share` one row.
                unsafe {
                    add_rows(
                        isa,
                        range.len(),
                        outputs,
                        outputs,
                        part.as_ptr(),
                        share.as_mut_ptr(),
                    );
                }
            });
        sum_partials(&shares, 1.0, false, d_bias);
    }
    let d_pre = Mat::new(d_pre, rows, outputs);
    if let Some(d_x) = d_x {
        matmul(
            isa,
            1.0,
            d_pre,
            Mat::new(weight, outputs, inputs),
            false,
            d_x,
        );
    }
    if let Some(d_weight) = d_weight {
        matmul::matmul(
            isa,
            1.0,
            d_pre.t(),
            Mat::new(x, rows, inputs),
            false,
            d_weight,
        );
    }
}

dispatch! {
    /// `y = gelu(x)`; `x` and `y` may be the same.
    ///
    /// # Safety
    /// Both must be valid for `n` floats; the machine must have `isa`.
    unsafe fn gelu(n: usize, x: *const f32, y: *mut f32) = gelu_body;
}

#[inline(always)]
unsafe fn gelu_body<V: Vector>(n: usize, x: *const f32, y: *mut f32) {
    for i in (0..n).step_by(V::LANES) {
        let left = n - i;
        math::gelu(V::load_up_to(x.add(i), left)).store_up_to(y.add(i), left);
    }
}

dispatch! {
    /// `d_x = d_y · gelu'(x)`
    ///
    /// # Safety
    /// All must be valid for `n` floats; the machine must have `isa`.
    unsafe fn gelu_backward(n: usize, x: *const f32, d_y: *const f32, d_x: *mut f32) = gelu_backward_body;
}

#[inline(always)]
unsafe fn gelu_backward_body<V: Vector>(n: usize, x: *const f32, d_y: *const f32, d_x: *mut f32) {
    for i in (0..n).step_by(V::LANES) {
        let left = n - i;
        let slope = math::gelu_derivative(V::load_up_to(x.add(i), left));
        V::load_up_to(d_y.add(i), left)
            .mul(slope)
            .store_up_to(d_x.add(i), left);
    }
}

dispatch! {
    /// `sum += Σ rows of x`, in order; rows are `stride` apart.
    ///
    /// # Safety
    /// `x` must be valid for all rows, `sum` for `width` floats; the machine must have `isa`.
    pub(crate) unsafe fn add_rows(rows: usize, width: usize, stride: usize, x: *const f32, sum: *mut f32) = add_rows_body;
}

#[inline(always)]
unsafe fn add_rows_body<V: Vector>(
    rows: usize,
    width: usize,
    stride: usize,
    x: *const f32,
    sum: *mut f32,
) {
    // Four vectors side by side: adds in flight, and whole cache lines of each row.
    let group = 4 * V::LANES;
    let whole = width - width % group;
    for i in (0..whole).step_by(group) {
        let mut totals = [V::zero(); 4];
        for (j, total) in totals.iter_mut().enumerate() {
            *total = V::load(sum.add(i + j * V::LANES));
        }
        for row in 0..rows {
            let x = x.add(row * stride + i);
            for (j, total) in totals.iter_mut().enumerate() {
                *total = total.add(V::load(x.add(j * V::LANES)));
            }
        }
        for (j, total) in totals.into_iter().enumerate() {
            total.store(sum.add(i + j * V::LANES));
        }
    }
    for i in (whole..width).step_by(V::LANES) {
        let left = width - i;
        let mut total = V::load_up_to(sum.add(i), left);
        for row in 0..rows {
            total = total.add(V::load_up_to(x.add(row * stride + i), left));
        }
        total.store_up_to(sum.add(i), left);
    }
}
