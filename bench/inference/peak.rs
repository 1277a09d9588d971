//! The most multiply-adds a machine does: `rustc -O -C target-cpu=native peak.rs && ./peak THREADS` prints GFLOP/s.
//!
//! Each thread keeps ten independent vectors of sums in registers, as a matrix product does, and touches no memory.

use std::hint::black_box;
use std::time::Instant;

const LANES: usize = if cfg!(target_feature = "avx512f") {
    16
} else {
    8
};
const SUMS: usize = 10;
const ROUNDS: usize = 40_000_000;

fn sums() -> f64 {
    let (x, y) = (black_box([0.999f32; LANES]), black_box([1e-3f32; LANES]));
    let mut sums = [[0f32; LANES]; SUMS];
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            for lane in 0..LANES {
                sum[lane] = sum[lane].mul_add(x[lane], y[lane]);
            }
        }
    }
    black_box(sums);
    (2 * ROUNDS * SUMS * LANES) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn main() {
    let threads = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("the number of threads");
    let best = (0..3).map(|_| {
        let threads: Vec<_> = (0..threads).map(|_| std::thread::spawn(sums)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("sums do not fail"))
            .sum::<f64>()
    });
    println!("{:.1}", best.fold(0.0, f64::max));
}
