//! Matrix product.

use super::{Float, sum};

/// `op(a)·op(b)`, `[m, n]`, where `op(a)` is `[m, k]` and `op(b)` `[k, n]`; a transposed operand is stored
/// with its sides exchanged.
pub fn matmul<T: Float>(
    m: usize,
    k: usize,
    n: usize,
    a: &[T],
    a_transposed: bool,
    b: &[T],
    b_transposed: bool,
) -> Vec<T> {
    let at = |i, p| {
        if a_transposed {
            a[p * m + i]
        } else {
            a[i * k + p]
        }
    };
    let bt = |p, j| {
        if b_transposed {
            b[j * k + p]
        } else {
            b[p * n + j]
        }
    };
    (0..m * n)
        .map(|c| sum(k, |p| at(c / n, p) * bt(p, c % n)))
        .collect()
}
