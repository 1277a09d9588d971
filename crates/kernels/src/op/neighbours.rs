//! Rows of a packed batch with those of their sequence that stand near.

use std::ops::Range;

/// Calls `f` for every row of a range with the rows of its sequence.
pub(super) fn each_row(
    offsets: &[u32],
    rows: Range<usize>,
    mut f: impl FnMut(usize, &Range<usize>),
) {
    let mut end = offsets.partition_point(|&at| at as usize <= rows.start);
    for row in rows {
        while offsets[end] as usize <= row {
            end += 1;
        }
        f(row, &(offsets[end - 1] as usize..offsets[end] as usize));
    }
}

/// Rows that stand no further from a row than its sides are.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub first: usize,
    pub count: usize,
    /// How many of the rows before it are missing.
    pub missing: usize,
}

impl Seen {
    pub fn new(row: usize, sequence: &Range<usize>, [before, after]: [usize; 2]) -> Self {
        let first = sequence.start.max(row.saturating_sub(before));
        Self {
            first,
            count: sequence.end.min(row + after + 1) - first,
            missing: first + before - row,
        }
    }
}
