//! What tests of kernels share: numbers, awkward slices, comparison, finite differences.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::ops::{Deref, DerefMut};

/// `n` numbers in −1..1, the same for the same seed.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let step = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(step).take(n).collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// Floats that start four bytes off any alignment, with a guard on either side.
pub struct Odd(Vec<f32>);

const GUARD: f32 = 12345.0;

impl Odd {
    pub fn new(x: &[f32]) -> Self {
        let mut all = vec![GUARD];
        all.extend_from_slice(x);
        all.push(GUARD);
        Self(all)
    }

    /// An output that nobody has written.
    pub fn blank(n: usize) -> Self {
        Self::new(&vec![f32::NAN; n])
    }
}

impl Deref for Odd {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0[1..self.0.len() - 1]
    }
}

impl DerefMut for Odd {
    fn deref_mut(&mut self) -> &mut [f32] {
        let last = self.0.len() - 1;
        &mut self.0[1..last]
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(
                self.0[0] == GUARD && self.0[self.0.len() - 1] == GUARD,
                "wrote out of bounds"
            );
        }
    }
}

/// The largest error is within `tolerance` of the largest value (or of 1), and the root mean square error within a third of that:
/// one element may be unlucky, not all.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let size = want.iter().fold(1.0, |size: f64, w| size.max(w.abs()));
    let mut squares = 0.0;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs() / size;
        assert!(
            error <= tolerance,
            "{what}[{i}] is {got}, needs {want}; off by {error:e}"
        );
        squares += error * error;
    }
    let rms = (squares / got.len().max(1) as f64).sqrt();
    assert!(
        rms <= tolerance / 3.0,
        "{what}: root mean square error is {rms:e}"
    );
}

/// `gradient` is that of `f` at `x`, by central differences.
#[track_caller]
pub fn assert_gradient(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{what}: length");
    let mut moved = x.to_vec();
    for (i, (&x, &gradient)) in x.iter().zip(gradient).enumerate() {
        moved[i] = x + STEP;
        let above = f(&moved);
        moved[i] = x - STEP;
        let below = f(&moved);
        moved[i] = x;
        let slope = (above - below) / (2.0 * STEP);
        // Rounding leaves 1e-16 / STEP, the third derivative STEP².
        let error = (slope - gradient).abs();
        assert!(
            error < 1e-8 * slope.abs().max(1.0),
            "{what}[{i}] is {gradient}, the slope is {slope}"
        );
    }
}

/// Where sequences of these lengths begin and end in a packed batch.
pub fn offsets(lens: &[usize]) -> Vec<u32> {
    let mut offsets = vec![0];
    for &len in lens {
        offsets.push(offsets[offsets.len() - 1] + len as u32);
    }
    offsets
}

/// How much `d_output · f(inputs)` changes with the numbers at `places` of input `index`, by central differences.
pub fn slopes<const N: usize>(
    step: f64,
    inputs: &[Vec<f64>; N],
    index: usize,
    places: impl IntoIterator<Item = usize>,
    d_output: &[f32],
    f: impl Fn(&[Vec<f64>; N]) -> Vec<f64>,
) -> Vec<f64> {
    let mut moved = inputs.clone();
    let slope = |i: usize| {
        let mut at = |by: f64| -> f64 {
            moved[index][i] = inputs[index][i] + by;
            let output = f(&moved);
            let terms = output.iter().zip(d_output);
            terms.map(|(y, d)| y * f64::from(*d)).sum()
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        moved[index][i] = inputs[index][i];
        slope
    };
    places.into_iter().map(slope).collect()
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// `f` gives the same bits on 1, 2 and 3 threads.
#[track_caller]
pub fn assert_threads_do_not_matter(what: &str, f: impl Fn() -> Vec<f32> + Sync + Send) {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        bits(&pool.expect("a pool").install(&f))
    };
    let one = on(1);
    assert!(
        one == on(2) && one == on(3),
        "{what}: bits change with the number of threads"
    );
}
