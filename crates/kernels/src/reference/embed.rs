//! Rows looked up in a table, by plain loops.

use super::Float;

/// `out[n] = table[ids[n]]`, or `+=` when `accumulate`; rows of `width`.
pub fn gather<T: Float>(width: usize, table: &[T], ids: &[u32], out: &mut [T], accumulate: bool) {
    for (n, &id) in ids.iter().enumerate() {
        for i in 0..width {
            let value = table[id as usize * width + i];
            let out = &mut out[n * width + i];
            *out = if accumulate { *out + value } else { value };
        }
    }
}

/// `d_table[ids[n]] += d_out[n]`, in the order of `n`.
pub fn scatter_add<T: Float>(width: usize, d_out: &[T], ids: &[u32], d_table: &mut [T]) {
    for (n, &id) in ids.iter().enumerate() {
        for i in 0..width {
            d_table[id as usize * width + i] += d_out[n * width + i];
        }
    }
}
