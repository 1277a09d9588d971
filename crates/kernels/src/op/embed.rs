//! Rows looked up in a table, and their gradient.

use super::split::{block_rows, each};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::Shared;
use rayon::prelude::*;

/// `out[n] = table[ids[n]]`, or `+=` when `accumulate`.
///
/// # Shapes
/// `table: [V, D]`, `ids: [N]`, `out: [N, D]`; D is `width`.
/// # Panics
/// Where a slice has another length, an id is not below V, or the machine lacks `isa`.
pub fn gather(
    isa: Isa,
    width: usize,
    table: &[f32],
    ids: &[u32],
    out: &mut [f32],
    accumulate: bool,
) {
    require(isa);
    check(width, table, ids);
    assert_eq!(out.len(), ids.len() * width, "gather: length of out");
    let block = block_rows(width);
    let out = Shared::new(out);
    each(ids.len().div_ceil(block), |piece| {
        let first = piece * block;
        for (n, &id) in (first..).zip(ids[first..].iter().take(block)) {
            // SAFETY: lengths, ids and instruction set checked above; pieces own disjoint rows of `out`.
            unsafe {
                let row = table.as_ptr().add(id as usize * width);
                let out = out.at(n * width);
                if accumulate {
                    add(isa, row, out, width);
                } else {
                    row.copy_to_nonoverlapping(out, width);
                }
            }
        }
    });
}

/// `d_table[ids[n]] += d_out[n]`, each row's terms in the order of `n`.
///
/// # Shapes
/// `d_out: [N, D]`, `ids: [N]`, `d_table: [V, D]`; D is `width`.
/// # Panics
/// As [`gather`].
pub fn scatter_add(isa: Isa, width: usize, d_out: &[f32], ids: &[u32], d_table: &mut [f32]) {
    require(isa);
    check(width, d_table, ids);
    assert_eq!(
        d_out.len(),
        ids.len() * width,
        "scatter_add: length of d_out"
    );
    if width == 0 {
        return;
    }
    // Sorted by id, then by place: the rows of a block of the table are then one run, and each row's terms keep their order.
    let mut places: Vec<(u32, u32)> = ids.iter().copied().zip(0..).collect();
    places.par_sort_unstable();
    let block = block_rows(width);
    d_table
        .par_chunks_mut(block * width)
        .enumerate()
        .for_each(|(piece, rows)| {
            let from = piece * block;
            let start = places.partition_point(|&(id, _)| (id as usize) < from);
            let here = places[start..]
                .iter()
                .take_while(|&&(id, _)| (id as usize) < from + block);
            for &(id, n) in here {
                let row = &mut rows[(id as usize - from) * width..][..width];
                let term = &d_out[n as usize * width..][..width];
                // SAFETY: the instruction set was checked above; both slices are `width` long.
                unsafe { add(isa, term.as_ptr(), row.as_mut_ptr(), width) };
            }
        });
}

fn check(width: usize, table: &[f32], ids: &[u32]) {
    if width == 0 {
        return;
    }
    assert!(
        table.len().is_multiple_of(width),
        "table has {} floats, needs a multiple of width {width}",
        table.len()
    );
    let classes = table.len() / width;
    if let Some(n) = ids.iter().position(|&id| id as usize >= classes) {
        panic!("ids[{n}] is {}, the table has {classes} rows", ids[n]);
    }
}

dispatch! {
    /// `to += from`, over `n` floats.
    ///
    /// # Safety
    /// The machine has `isa`; both pointers are valid for `n` floats that do not overlap, and no other thread uses those of `to`.
    unsafe fn add(from: *const f32, to: *mut f32, n: usize) = add_body;
}

#[inline(always)]
unsafe fn add_body<V: Vector>(from: *const f32, to: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let sum = V::load_up_to(to.add(i), lanes).add(V::load_up_to(from.add(i), lanes));
        sum.store_up_to(to.add(i), lanes);
        i += V::LANES;
    }
}
