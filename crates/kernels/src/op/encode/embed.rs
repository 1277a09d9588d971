//! Tokens into vectors: the sum of up to three tables' rows, and its norm, in one pass.

use super::norm::{Norm, norm_row};
use super::{sequence, tokens};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::op::split::{block_rows, each};
use crate::scratch::Shared;

/// The tables.
#[derive(Debug, Clone, Copy)]
pub struct Embed<'a> {
    /// E, channels of every table.
    pub width: usize,
    /// `[V, E]`
    pub tokens: &'a [f32],
    /// `[rows, E]`, and the row of a sequence's first token.
    pub positions: Option<(&'a [f32], usize)>,
    /// `[rows, E]`
    pub segments: Option<&'a [f32]>,
    /// Of the sum, E wide.
    pub norm: Option<Norm<'a>>,
}

/// Each token becomes the sum of its rows, normed if so set.
///
/// # Shapes
/// `ids: [N]`; `segments: [N]`, or empty where all are 0; `offsets: [B + 1]`, from 0 to N; `out: [N, E]`.
/// # Panics
/// Where a slice has another length, a table lacks a row, or the machine lacks `isa`.
pub fn embed(
    isa: Isa,
    tables: &Embed,
    ids: &[u32],
    segments: &[u32],
    offsets: &[u32],
    out: &mut [f32],
) {
    require(isa);
    let tokens = tokens("embed", offsets);
    let width = tables.width;
    assert!(width > 0, "embed: no channels");
    assert_eq!(ids.len(), tokens, "embed: length of ids");
    assert!(
        segments.is_empty() || segments.len() == tokens,
        "embed: length of segments"
    );
    assert_eq!(out.len(), tokens * width, "embed: length of out");
    if let Some(norm) = &tables.norm {
        assert_eq!(norm.check(), width, "embed: width of the norm");
    }
    check("id", tables.tokens, width, ids.iter().max());
    if let Some(table) = tables.segments {
        check("segment", table, width, segments.iter().max().or(Some(&0)));
    }
    if let Some((table, offset)) = tables.positions {
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max();
        let rows = table.len() / width;
        assert!(
            longest.is_none_or(|longest| longest as usize + offset <= rows),
            "embed: a sequence of {longest:?} tokens, the table of positions has {rows} rows from {offset} on"
        );
    }
    let block = block_rows(width);
    let out = Shared::new(out);
    each(tokens.div_ceil(block), |piece| {
        let first = piece * block;
        let mut sequence = sequence(offsets, first);
        for (token, &id) in (first..).zip(ids[first..].iter().take(block)) {
            while offsets[sequence + 1] as usize <= token {
                sequence += 1;
            }
            let row = |table: &[f32], row: usize| table[row * width..][..width].as_ptr();
            let place = token - offsets[sequence] as usize;
            let position = tables.positions;
            let position = position.map_or(std::ptr::null(), |(table, offset)| {
                row(table, offset + place)
            });
            let index = segments.get(token).map_or(0, |&segment| segment as usize);
            let segment = tables.segments;
            let segment = segment.map_or(std::ptr::null(), |table| row(table, index));
            let token_row = row(tables.tokens, id as usize);
            let out = out.at(token * width);
            // SAFETY: lengths, rows and instruction set checked above; pieces own disjoint rows of `out`.
            unsafe {
                sum_rows(isa, width, token_row, position, segment, out);
                if let Some(norm) = &tables.norm {
                    norm_row(isa, norm, out, std::ptr::null(), out, out);
                }
            }
        }
    });
}

fn check(what: &str, table: &[f32], width: usize, last: Option<&u32>) {
    let rows = table.len() / width;
    assert!(
        last.is_none_or(|&last| (last as usize) < rows),
        "embed: {what} {last:?}, the table has {rows} rows"
    );
}

dispatch! {
    /// `out = x + y + z`, over `n` floats; null adds nothing.
    ///
    /// # Safety
    /// The machine has `isa`; the pointers are null, `y` and `z` only, or valid for `n` floats; no other thread uses those of `out`.
    unsafe fn sum_rows(n: usize, x: *const f32, y: *const f32, z: *const f32, out: *mut f32) = sum_body;
}

#[inline(always)]
unsafe fn sum_body<V: Vector>(
    n: usize,
    x: *const f32,
    y: *const f32,
    z: *const f32,
    out: *mut f32,
) {
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let mut sum = V::load_up_to(x.add(i), lanes);
        if !z.is_null() {
            sum = sum.add(V::load_up_to(z.add(i), lanes));
        }
        if !y.is_null() {
            sum = sum.add(V::load_up_to(y.add(i), lanes));
        }
        sum.store_up_to(out.add(i), lanes);
        i += V::LANES;
    }
}
