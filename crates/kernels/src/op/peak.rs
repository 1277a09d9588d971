//! The most multiply-adds that a core does: what the speed of everything else is set against.
//!
//! sums[i] = sums[i] · x + y, over and over, with as many independent sums as hide the latency of the operation and fit into
//! registers beside x and y (4 cycles and two a cycle on x86-64, four a cycle on large Arm cores). No memory is touched.

use std::hint::black_box;

use crate::Isa;
use crate::arch::{Vector, dispatch, require};

/// Vectors of sums.
const SUMS: usize = if cfg!(target_arch = "aarch64") {
    20
} else {
    12
};

/// Does `rounds` rounds of multiply-adds on this thread; gives how many multiplications and additions that were.
///
/// # Panics
/// Where the machine lacks `isa`.
pub fn multiply_adds(isa: Isa, rounds: usize) -> usize {
    require(isa);
    let mut sums = [0.0; 16];
    // SAFETY: the instruction set was checked above, and no vector has more than 16 lanes.
    let lanes = unsafe {
        sum(
            isa,
            rounds,
            black_box(0.999),
            black_box(1e-3),
            sums.as_mut_ptr(),
        )
    };
    black_box(sums);
    2 * rounds * SUMS * lanes
}

dispatch! {
    /// Writes the total of the sums to `out`; gives the lanes of a vector.
    ///
    /// # Safety
    /// The machine has `isa`, and `out` is valid for a vector.
    unsafe fn sum(rounds: usize, x: f32, y: f32, out: *mut f32) -> usize = sum_body;
}

#[inline(always)]
unsafe fn sum_body<V: Vector>(rounds: usize, x: f32, y: f32, out: *mut f32) -> usize {
    let (x, y) = (V::splat(x), V::splat(y));
    let mut sums = [V::zero(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.fma(x, y);
        }
    }
    let mut total = V::zero();
    for sum in sums {
        total = total.add(sum);
    }
    total.store(out);
    V::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_done_on_every_lane() {
        for isa in Isa::available() {
            let lanes = multiply_adds(isa, 3) / (2 * 3 * SUMS);
            let mut out = [f32::NAN; 16];
            // SAFETY: the machine has `isa`, and no vector has more lanes.
            let found = unsafe { sum(isa, 3, 0.5, 2.0, out.as_mut_ptr()) };
            assert_eq!(found, lanes, "{isa:?}");
            // 2, then 3, then 3.5 in each of the sums.
            let expected = 3.5 * SUMS as f32;
            assert!(
                out[..lanes]
                    .iter()
                    .all(|&x| x.to_bits() == expected.to_bits()),
                "{isa:?}: {out:?}"
            );
        }
    }
}
