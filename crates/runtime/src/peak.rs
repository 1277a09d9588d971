use std::time::Instant;

use cloze_kernels::Isa;
use cloze_kernels::op::peak::multiply_adds;

/// Rounds of one try: some milliseconds.
const ROUNDS: usize = 2_000_000;
const TRIES: usize = 10;

/// The most operations a second that the threads of the current pool do with multiply-adds in registers: the best of a few
/// tries, since other work on the machine only ever takes away from it.
pub fn peak(isa: Isa) -> f64 {
    let tries = (0..TRIES).map(|_| {
        let start = Instant::now();
        let operations: usize = rayon::broadcast(|_| multiply_adds(isa, ROUNDS))
            .iter()
            .sum();
        operations as f64 / start.elapsed().as_secs_f64()
    });
    tries.fold(0.0, f64::max)
}
