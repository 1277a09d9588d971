//! Rotary positions: pairs of channels of every query and key are turned by angles that grow with the token's place.
//!
//! (a, b) becomes (a·cos − b·sin, b·cos + a·sin), the angle of pair `i` at place `p` being `p·frequencies[i]`. Cosines and sines
//! are made once for every place.
//!
//! # Source
//! Su et al., `RoFormer`, arXiv:2104.09864, §3.4; angles are rounded to `f32` before their cosine, as in the public code.

use super::{sequence, tokens};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::op::split::{block_rows, each};
use crate::scratch::Shared;

/// Cosines and sines of every place.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// `[places, R/2]`
    cos: Vec<f32>,
    /// `[places, R/2]`
    sin: Vec<f32>,
    pairs: usize,
    interleaved: bool,
}

impl Rotary {
    /// Tables for sequences of up to `max_len` tokens. Turned channels, twice as many as `frequencies`, come out `amplitude`
    /// times as large. Pairs are neighbours `(2i, 2i + 1)` if `interleaved`, else `(i, i + R/2)`.
    pub fn new(frequencies: &[f32], amplitude: f32, interleaved: bool, max_len: usize) -> Self {
        let angles =
            (0..max_len).flat_map(|place| frequencies.iter().map(move |f| f * place as f32));
        let table = |f: fn(f64) -> f64| {
            let scaled = |angle| (f(f64::from(angle)) * f64::from(amplitude)) as f32;
            angles.clone().map(scaled).collect()
        };
        Self {
            cos: table(f64::cos),
            sin: table(f64::sin),
            pairs: frequencies.len(),
            interleaved,
        }
    }

    /// The same angles the other way: what [`rotate`] does to gradients of what it turned.
    #[must_use]
    pub fn back(&self) -> Self {
        let mut back = self.clone();
        back.sin.iter_mut().for_each(|sin| *sin = -*sin);
        back
    }

    /// Longest sequence the tables are for.
    pub fn max_len(&self) -> usize {
        self.cos.len().checked_div(self.pairs).unwrap_or(usize::MAX)
    }

    /// R, how many channels of a head are turned.
    pub fn turned(&self) -> usize {
        2 * self.pairs
    }
}

/// Turns the first channels of every query and key, in place.
///
/// # Shapes
/// `qkv: [N, 3·H·K]`; `offsets: [B + 1]`, from 0 to N.
/// # Panics
/// Where a slice has another length, more channels are turned than a head has, a sequence is longer than the tables, or the
/// machine lacks `isa`.
pub fn rotate(
    isa: Isa,
    rotary: &Rotary,
    offsets: &[u32],
    heads: usize,
    head_width: usize,
    qkv: &mut [f32],
) {
    require(isa);
    let tokens = tokens("rotary", offsets);
    let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        longest.is_none_or(|longest| longest as usize <= rotary.max_len()),
        "rotary: a sequence of {longest:?} tokens, the tables are for {}",
        rotary.max_len()
    );
    assert!(
        rotary.turned() <= head_width,
        "rotary: {} channels turned of {head_width}",
        rotary.turned()
    );
    let stride = 3 * heads * head_width;
    assert_eq!(qkv.len(), tokens * stride, "rotary: length of qkv");
    let block = block_rows(stride);
    let qkv = Shared::new(qkv);
    each(tokens.div_ceil(block), |piece| {
        let first = piece * block;
        let mut sequence = sequence(offsets, first);
        for token in first..tokens.min(first + block) {
            while offsets[sequence + 1] as usize <= token {
                sequence += 1;
            }
            let place = token - offsets[sequence] as usize;
            let row = qkv.at(token * stride);
            // SAFETY: lengths, places and instruction set checked above; pieces own disjoint rows.
            unsafe { rotate_row(isa, rotary, place, row, 2 * heads, head_width) };
        }
    });
}

dispatch! {
    /// Turns `heads` heads of one token, `head_width` floats apart.
    ///
    /// # Safety
    /// The machine has `isa`; `place` is within the tables, `row` valid for the heads, of which no other thread uses any.
    unsafe fn rotate_row(
        rotary: &Rotary, place: usize, row: *mut f32, heads: usize, head_width: usize,
    ) = rotate_body;
}

#[inline(always)]
unsafe fn rotate_body<V: Vector>(
    rotary: &Rotary,
    place: usize,
    row: *mut f32,
    heads: usize,
    head_width: usize,
) {
    let pairs = rotary.pairs;
    let cos = rotary.cos.as_ptr().add(place * pairs);
    let sin = rotary.sin.as_ptr().add(place * pairs);
    for head in 0..heads {
        let head = row.add(head * head_width);
        if rotary.interleaved {
            for i in 0..pairs {
                let (cos, sin) = (*cos.add(i), *sin.add(i));
                let (a, b) = (*head.add(2 * i), *head.add(2 * i + 1));
                *head.add(2 * i) = a * cos - b * sin;
                *head.add(2 * i + 1) = b * cos + a * sin;
            }
            continue;
        }
        let mut i = 0;
        while i < pairs {
            let n = V::LANES.min(pairs - i);
            let (cos, sin) = (V::load_up_to(cos.add(i), n), V::load_up_to(sin.add(i), n));
            let (a, b) = (head.add(i), head.add(pairs + i));
            let (x, y) = (V::load_up_to(a, n), V::load_up_to(b, n));
            y.fnma(sin, x.mul(cos)).store_up_to(a, n);
            x.fma(sin, y.mul(cos)).store_up_to(b, n);
            i += V::LANES;
        }
    }
}
