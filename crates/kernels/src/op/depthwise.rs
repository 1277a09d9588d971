//! A convolution of each channel by itself along every sequence of a packed batch, bent by `SiLU` if wanted.
//!
//! `y_t = f(b + Σ_j w_j ∘ x_(t + j − before))`, over the tokens that the sequence has. Backward computes what f took again rather
//! than keep it. Rows go to threads in pieces; the gradients of weights are summed within pieces, then over pieces in order.
//!
//! # Source
//! `SiLU`, x·sigmoid(x): Elfwing et al., Neural Networks 107, 2018, arXiv:1702.03118.

use super::neighbours::{Seen, each_row};
use super::split::{block_rows, each_piece};
use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};
use crate::scratch::Shared;

/// What is convolved, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`; starts at 0 and ends at N.
    pub offsets: &'a [u32],
    /// Channels, D.
    pub width: usize,
    /// Tokens seen before and after a token, itself not counted.
    pub sides: [usize; 2],
    /// Whether the sum goes through `SiLU`.
    pub silu: bool,
}

impl Depthwise<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    /// Weights of a channel.
    pub fn taps(&self) -> usize {
        self.sides[0] + 1 + self.sides[1]
    }

    fn check(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) {
        let width = self.width;
        assert!(self.offsets.is_sorted(), "depthwise: offsets fall");
        assert_eq!(x.len(), self.tokens() * width, "depthwise: length of x");
        assert_eq!(
            weight.len(),
            self.taps() * width,
            "depthwise: length of weight"
        );
        if let Some(bias) = bias {
            assert_eq!(bias.len(), width, "depthwise: length of bias");
        }
    }
}

/// # Shapes
/// `x`, `output: [N, D]`; `weight: [before + 1 + after, D]`, first the furthest before; `bias: [D]`
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    with: &Depthwise<'_>,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    require(isa);
    with.check(x, weight, bias);
    assert_eq!(output.len(), x.len(), "depthwise: length of output");
    let output = Shared::new(output);
    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let bias = Shared::from_ptr(bias.cast_mut());
    each_piece(with.tokens(), with.width, |_, rows| {
        // SAFETY: lengths and instruction set checked above; pieces own disjoint rows.
        each_row(with.offsets, rows, |row, sequence| unsafe {
            let seen = Seen::new(row, sequence, with.sides);
            sum(
                isa,
                with.width,
                seen,
                x.as_ptr(),
                weight.as_ptr(),
                bias.at(0),
                with.silu,
                output.at(row * with.width),
            );
        });
    });
}

/// Gradients of every input.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, D]`
    pub x: Vec<f32>,
    /// `[before + 1 + after, D]`
    pub weight: Vec<f32>,
    /// `[D]`
    pub bias: Vec<f32>,
}

/// The gradients, given that of the output.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    isa: Isa,
    with: &Depthwise<'_>,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    d_output: &[f32],
) -> Gradients {
    require(isa);
    with.check(x, weight, bias);
    assert_eq!(d_output.len(), x.len(), "depthwise: length of d_output");
    let (width, taps) = (with.width, with.taps());
    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let bias = Shared::from_ptr(bias.cast_mut());
    // The gradient of what SiLU took.
    let mut bent = vec![0.0; if with.silu { x.len() } else { 0 }];
    let inner = if with.silu {
        let to = Shared::new(&mut bent);
        each_piece(with.tokens(), with.width, |_, rows| {
            // SAFETY: as in forward; `bent` is as long as `x`.
            each_row(with.offsets, rows, |row, sequence| unsafe {
                let seen = Seen::new(row, sequence, with.sides);
                let to = to.at(row * width);
                sum(
                    isa,
                    width,
                    seen,
                    x.as_ptr(),
                    weight.as_ptr(),
                    bias.at(0),
                    false,
                    to,
                );
                unbend(isa, width, d_output[row * width..].as_ptr(), to);
            });
        });
        &bent
    } else {
        d_output
    };
    let mut d_x = vec![0.0; x.len()];
    let pieces = with.tokens().div_ceil(block_rows(width));
    // Each piece's share of the weights' gradient, then of the bias's.
    let share = (taps + 1) * width;
    let mut shares = vec![0.0; pieces * share];
    let (to_x, to_shares) = (Shared::new(&mut d_x), Shared::new(&mut shares));
    // What a token sees is seen the other way round by the gradient.
    let turned: Vec<f32> = weight
        .chunks(width.max(1))
        .rev()
        .flatten()
        .copied()
        .collect();
    let sides = [with.sides[1], with.sides[0]];
    each_piece(with.tokens(), with.width, |piece, rows| {
        // SAFETY: as above; pieces own disjoint rows and shares.
        each_row(with.offsets, rows, |row, sequence| unsafe {
            let seen = Seen::new(row, sequence, sides);
            sum(
                isa,
                width,
                seen,
                inner.as_ptr(),
                turned.as_ptr(),
                std::ptr::null(),
                false,
                to_x.at(row * width),
            );
            let seen = Seen::new(row, sequence, with.sides);
            let d = inner[row * width..].as_ptr();
            let to = to_shares.at(piece * share);
            add_products(isa, width, seen, d, x.as_ptr(), to, to.add(taps * width));
        });
    });
    let mut summed = vec![0.0; share];
    for share in shares.chunks(share.max(1)) {
        summed.iter_mut().zip(share).for_each(|(sum, x)| *sum += x);
    }
    let bias = summed.split_off(taps * width);
    Gradients {
        x: d_x,
        weight: summed,
        bias,
    }
}

dispatch! {
    /// One row: the bias, if not null, and the rows seen, each times its weights.
    ///
    /// # Safety
    /// The machine has `isa`; `x` is valid for the rows seen, `weight` for their taps, `bias` and `y` for `width` floats.
    unsafe fn sum(
        width: usize,
        seen: Seen,
        x: *const f32,
        weight: *const f32,
        bias: *const f32,
        silu: bool,
        y: *mut f32,
    ) = sum_body;
}

#[inline(always)]
unsafe fn sum_body<V: Vector>(
    width: usize,
    seen: Seen,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    silu: bool,
    y: *mut f32,
) {
    let (x, weight) = (x.add(seen.first * width), weight.add(seen.missing * width));
    for column in (0..width).step_by(V::LANES) {
        let lanes = V::LANES.min(width - column);
        let mut sum = V::zero();
        if !bias.is_null() {
            sum = V::load_up_to(bias.add(column), lanes);
        }
        for tap in 0..seen.count {
            let at = tap * width + column;
            sum = V::load_up_to(x.add(at), lanes).fma(V::load_up_to(weight.add(at), lanes), sum);
        }
        if silu {
            sum = sum.mul(math::sigmoid(sum));
        }
        sum.store_up_to(y.add(column), lanes);
    }
}

dispatch! {
    /// What `SiLU` took becomes its gradient, given that of what `SiLU` gave.
    ///
    /// # Safety
    /// The machine has `isa`; both pointers are valid for `width` floats that do not overlap.
    unsafe fn unbend(width: usize, d: *const f32, x: *mut f32) = unbend_body;
}

#[inline(always)]
unsafe fn unbend_body<V: Vector>(width: usize, d: *const f32, x: *mut f32) {
    let one = V::splat(1.0);
    for column in (0..width).step_by(V::LANES) {
        let lanes = V::LANES.min(width - column);
        let inner = V::load_up_to(x.add(column), lanes);
        let share = math::sigmoid(inner);
        let slope = share.mul(inner.fma(one.sub(share), one));
        let d = V::load_up_to(d.add(column), lanes).mul(slope);
        d.store_up_to(x.add(column), lanes);
    }
}

dispatch! {
    /// `weight[tap] += d ∘ x` for every row seen, `bias += d`.
    ///
    /// # Safety
    /// As of [`sum`]; `d` is valid for `width` floats, and what is written overlaps nothing else.
    unsafe fn add_products(
        width: usize,
        seen: Seen,
        d: *const f32,
        x: *const f32,
        weight: *mut f32,
        bias: *mut f32,
    ) = add_products_body;
}

#[inline(always)]
unsafe fn add_products_body<V: Vector>(
    width: usize,
    seen: Seen,
    d: *const f32,
    x: *const f32,
    weight: *mut f32,
    bias: *mut f32,
) {
    let (x, weight) = (x.add(seen.first * width), weight.add(seen.missing * width));
    for column in (0..width).step_by(V::LANES) {
        let lanes = V::LANES.min(width - column);
        let d = V::load_up_to(d.add(column), lanes);
        let to = bias.add(column);
        V::load_up_to(to, lanes).add(d).store_up_to(to, lanes);
        for tap in 0..seen.count {
            let at = tap * width + column;
            let to = weight.add(at);
            let sum = d.fma(V::load_up_to(x.add(at), lanes), V::load_up_to(to, lanes));
            sum.store_up_to(to, lanes);
        }
    }
}
