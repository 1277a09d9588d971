//! Tokens into vectors: the sum of up to three tables' rows, and its norm, in one pass.
//!
//! The largest table may stay as a file has it, in 16 bits too: of a vocabulary, a batch needs few rows.

use super::norm::{Norm, norm_row};
use super::{sequence, tokens};
use crate::Isa;
use crate::arch::panel::{from_bf16, from_f16};
use crate::arch::{Vector, dispatch, require};
use crate::op::packed::Storage;
use crate::op::split::{block_rows, each};
use crate::scratch::Shared;

/// The tables.
#[derive(Debug, Clone, Copy)]
pub struct Embed<'a> {
    /// E, channels of every table.
    pub width: usize,
    /// `[V, E]`
    pub tokens: Table<'a>,
    /// `[rows, E]`, and the row of a sequence's first token.
    pub positions: Option<(&'a [f32], usize)>,
    /// `[rows, E]`
    pub segments: Option<&'a [f32]>,
    /// Of the sum, E wide.
    pub norm: Option<Norm<'a>>,
}

/// Numbers as they are kept.
#[derive(Debug, Clone, Copy)]
pub enum Table<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Bits of bfloat16.
    Bf16(&'a [u16]),
    /// Bits of IEEE half precision; infinities become 65536.
    F16(&'a [u16]),
}

impl<'a> Table<'a> {
    /// Little-endian floats, where this machine can read them as they lie.
    pub fn from_bytes(bytes: &'a [u8], storage: Storage) -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        match storage {
            Storage::F32 => cast(bytes).map(Self::F32),
            Storage::Bf16 => cast(bytes).map(Self::Bf16),
            Storage::F16 => cast(bytes).map(Self::F16),
            Storage::Int8 => None,
        }
    }

    /// How many numbers there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(floats) => floats.len(),
            Self::Bf16(bits) | Self::F16(bits) => bits.len(),
        }
    }

    /// Bytes of them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(floats) => size_of_val(*floats),
            Self::Bf16(bits) | Self::F16(bits) => size_of_val(*bits),
        }
    }
}

/// Bytes as numbers, if they begin and end where such numbers may.
fn cast<T: Number>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: any bits make a number of these types.
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

trait Number {}
impl Number for f32 {}
impl Number for u16 {}

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
    check("id", tables.tokens.len(), width, ids.iter().max());
    if let Some(table) = tables.segments {
        check(
            "segment",
            table.len(),
            width,
            segments.iter().max().or(Some(&0)),
        );
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
            let out = out.at(token * width);
            // SAFETY: lengths, rows and instruction set checked above; pieces own disjoint rows of `out`.
            unsafe {
                let token_row = token_row(isa, tables.tokens, width, id as usize, out);
                sum_rows(isa, width, token_row, position, segment, out);
                if let Some(norm) = &tables.norm {
                    norm_row(isa, norm, out, std::ptr::null(), out, out);
                }
            }
        }
    });
}

fn check(what: &str, numbers: usize, width: usize, last: Option<&u32>) {
    let rows = numbers / width;
    assert!(
        last.is_none_or(|&last| (last as usize) < rows),
        "embed: {what} {last:?}, the table has {rows} rows"
    );
}

/// Where a token's row lies: in the table, or in `out` if it had to be widened.
///
/// # Safety
/// The machine has `isa`; the table has the row; no other thread uses the `width` floats of `out`.
unsafe fn token_row(
    isa: Isa,
    table: Table<'_>,
    width: usize,
    row: usize,
    out: *mut f32,
) -> *const f32 {
    let at = row * width;
    match table {
        Table::F32(floats) => return floats[at..][..width].as_ptr(),
        Table::Bf16(bits) => widen_bf16(isa, &bits[at..][..width], out),
        Table::F16(bits) => widen_f16(isa, &bits[at..][..width], out),
    }
    out
}

dispatch! {
    /// # Safety
    /// The machine has `isa`; `out` is valid for as many floats, which no other thread uses.
    unsafe fn widen_bf16(bits: &[u16], out: *mut f32) = widen_bf16_body;
}

dispatch! {
    /// # Safety
    /// As [`widen_bf16`].
    unsafe fn widen_f16(bits: &[u16], out: *mut f32) = widen_f16_body;
}

#[expect(
    clippy::extra_unused_type_parameters,
    reason = "compiled for every set like the others, but the compiler makes the vectors"
)]
#[inline(always)]
unsafe fn widen_bf16_body<V: Vector>(bits: &[u16], out: *mut f32) {
    for (i, &bits) in bits.iter().enumerate() {
        *out.add(i) = from_bf16(bits);
    }
}

#[expect(
    clippy::extra_unused_type_parameters,
    reason = "compiled for every set like the others, but the compiler makes the vectors"
)]
#[inline(always)]
unsafe fn widen_f16_body<V: Vector>(bits: &[u16], out: *mut f32) {
    for (i, &bits) in bits.iter().enumerate() {
        *out.add(i) = from_f16(bits);
    }
}

dispatch! {
    /// `out = x + y + z`, over `n` floats; null adds nothing.
    ///
    /// # Safety
    /// The machine has `isa`; the pointers are null, `y` and `z` only, or valid for `n` floats; no other thread uses those of `out`,
    /// which may be `x`.
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
