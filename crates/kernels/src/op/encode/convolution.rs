//! A convolution along each sequence, as a product: rows of neighbouring tokens times the kernel.
//!
//! out[t, o] = bias[o] + Σ_{i, j} weight[o, i, j]·x[t + j − (kernel − 1)/2, i], where x is zero outside of the sequence, and
//! channels meet only those of their own group.

use super::{sequence, tokens};
use crate::Isa;
use crate::arch::gemm::{Output, View};
use crate::arch::require;
use crate::op::matmul::{Packed, wide};
use crate::op::split::each;
use crate::scratch::{Scratch, Shared};

/// Tokens whose neighbours are laid out at a time.
const ROWS: usize = 256;

/// A kernel, as wide in as out.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// D
    pub width: usize,
    /// Tokens seen, odd.
    pub kernel: usize,
    /// Divides `width`.
    pub groups: usize,
    /// `[D, D / groups, kernel]`
    pub weight: &'a [f32],
    /// `[D]`
    pub bias: &'a [f32],
}

/// Convolves each sequence; no token sees another sequence.
///
/// # Shapes
/// `x`, `out`: `[N, D]`; `offsets: [B + 1]`, from 0 to N.
/// # Panics
/// Where a slice has another length, the fields do not fit each other, or the machine lacks `isa`.
pub fn convolve(isa: Isa, with: &Convolution, offsets: &[u32], x: &[f32], out: &mut [f32]) {
    require(isa);
    let tokens = tokens("convolution", offsets);
    let &Convolution {
        width,
        kernel,
        groups,
        ..
    } = with;
    assert!(kernel % 2 == 1, "convolution: a kernel of {kernel} tokens");
    assert!(
        width > 0 && groups > 0 && width.is_multiple_of(groups),
        "convolution: {width} channels do not divide into {groups} groups"
    );
    let part = width / groups;
    let depth = part * kernel;
    assert_eq!(
        with.weight.len(),
        width * depth,
        "convolution: length of weight"
    );
    assert_eq!(with.bias.len(), width, "convolution: length of bias");
    assert_eq!(x.len(), tokens * width, "convolution: length of x");
    assert_eq!(out.len(), tokens * width, "convolution: length of out");
    let mut neighbours = Scratch::take(ROWS.min(tokens) * depth);
    for group in 0..groups {
        let weight = View {
            data: with.weight[group * part * depth..].as_ptr(),
            row: 1,
            col: depth,
        };
        // SAFETY: the group has `part` rows of `depth` weights.
        let weight = unsafe { Packed::new(isa, depth, part, weight) };
        for first in (0..tokens).step_by(ROWS) {
            let rows = ROWS.min(tokens - first);
            let to = Shared::new(&mut neighbours);
            each(rows.div_ceil(16), |piece| {
                for row in piece * 16..rows.min((piece + 1) * 16) {
                    // SAFETY: pieces own disjoint rows of `depth` floats.
                    let line = unsafe { std::slice::from_raw_parts_mut(to.at(row * depth), depth) };
                    lay_out(kernel, offsets, x, width, group * part, first + row, line);
                }
            });
            let a = View {
                data: neighbours.as_ptr(),
                row: depth,
                col: 1,
            };
            let output = Output {
                data: out[first * width + group * part..].as_mut_ptr(),
                stride: width,
                alpha: 1.0,
                accumulate: false,
                bias: with.bias[group * part..].as_ptr(),
            };
            // SAFETY: `neighbours` has `rows` rows of `depth`, and `out` that many rows of `width` from here on.
            unsafe { wide(isa, rows, depth, a, &weight, output, &|_| ()) };
        }
    }
}

/// `line[i·kernel + j]` is channel `first + i` of the token `j − (kernel − 1)/2` after `token`, or zero past the sequence.
fn lay_out(
    kernel: usize,
    offsets: &[u32],
    x: &[f32],
    width: usize,
    first: usize,
    token: usize,
    line: &mut [f32],
) {
    let sequence = sequence(offsets, token);
    let range = offsets[sequence] as usize..offsets[sequence + 1] as usize;
    for j in 0..kernel {
        let column = line.iter_mut().skip(j).step_by(kernel);
        match (token + j).checked_sub(kernel / 2) {
            Some(other) if range.contains(&other) => {
                for (to, from) in column.zip(&x[other * width + first..]) {
                    *to = *from;
                }
            }
            _ => column.for_each(|to| *to = 0.0),
        }
    }
}
