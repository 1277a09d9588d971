//! `AdamW` in one pass over parameter, gradient and both moments, and the norm for clipping.
//!
//! # Source
//! Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101, algorithm 2.

use super::split::{BLOCK, each};
use crate::Isa;
use crate::arch::{Vector, dispatch, require};
use crate::scratch::Shared;
use rayon::prelude::*;

/// The settings of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the gradient's running mean.
    pub beta1: f32,
    /// Decay of the squared gradient's running mean.
    pub beta2: f32,
    /// Added to the root of the squared gradient's running mean.
    pub eps: f32,
    /// Fraction of a parameter, times `lr`, that each step takes away.
    pub weight_decay: f32,
    /// Which step this is, from 1.
    pub step: u64,
    /// What gradients are multiplied by first: 1, or the factor that clips their norm.
    pub grad_scale: f32,
}

/// One step: updates `param` and the moments `m` and `v`, all of one length.
///
/// # Panics
/// Where lengths differ, `config.step` is 0, or the machine lacks `isa`.
pub fn step(
    isa: Isa,
    config: &AdamW,
    param: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    require(isa);
    let len = param.len();
    assert!(config.step > 0, "adamw: step is 0, the first is 1");
    assert_eq!(grad.len(), len, "adamw: length of grad");
    assert_eq!(m.len(), len, "adamw: length of m");
    assert_eq!(v.len(), len, "adamw: length of v");
    let (param, m, v) = (Shared::new(param), Shared::new(m), Shared::new(v));
    let rates = Rates::new(config);
    each(len.div_ceil(BLOCK), |piece| {
        let at = piece * BLOCK;
        let n = BLOCK.min(len - at);
        // SAFETY: lengths and instruction set checked above; pieces are disjoint.
        unsafe {
            let grad = grad.as_ptr().add(at);
            update(isa, rates, n, param.at(at), grad, m.at(at), v.at(at));
        }
    });
}

/// The sum of the squares of `x`, in `f64` and in one order on every instruction set.
///
/// # Panics
/// Where the machine lacks `isa`.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    require(isa);
    // SAFETY: the instruction set was checked above.
    let sums: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|x| unsafe { squares(isa, x) })
        .collect();
    sums.iter().sum()
}

/// What a step multiplies by, worked out once in `f64`.
#[derive(Clone, Copy)]
struct Rates {
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    /// 1 − beta1 and 1 − beta2.
    fresh1: f32,
    fresh2: f32,
    /// 1 − lr · decay
    kept: f32,
    /// lr / (1 − beta1^step)
    rate: f32,
    /// 1 / √(1 − beta2^step)
    unbias: f32,
    eps: f32,
}

impl Rates {
    fn new(config: &AdamW) -> Self {
        let (beta1, beta2) = (f64::from(config.beta1), f64::from(config.beta2));
        let lr = f64::from(config.lr);
        Self {
            grad_scale: config.grad_scale,
            beta1: config.beta1,
            beta2: config.beta2,
            fresh1: (1.0 - beta1) as f32,
            fresh2: (1.0 - beta2) as f32,
            kept: (1.0 - lr * f64::from(config.weight_decay)) as f32,
            rate: (lr / (1.0 - beta1.powf(config.step as f64))) as f32,
            unbias: (1.0 / (1.0 - beta2.powf(config.step as f64)).sqrt()) as f32,
            eps: config.eps,
        }
    }
}

dispatch! {
    /// [`step`] over `n` elements.
    ///
    /// # Safety
    /// The machine has `isa`; the pointers are valid for `n` floats that do not overlap and that no other thread writes.
    unsafe fn update(
        rates: Rates, n: usize, param: *mut f32, grad: *const f32, m: *mut f32, v: *mut f32,
    ) = update_body;
}

#[inline(always)]
unsafe fn update_body<V: Vector>(
    rates: Rates,
    n: usize,
    param: *mut f32,
    grad: *const f32,
    m: *mut f32,
    v: *mut f32,
) {
    let (beta1, beta2) = (V::splat(rates.beta1), V::splat(rates.beta2));
    let (fresh1, fresh2) = (V::splat(rates.fresh1), V::splat(rates.fresh2));
    let (kept, rate) = (V::splat(rates.kept), V::splat(rates.rate));
    let (unbias, eps) = (V::splat(rates.unbias), V::splat(rates.eps));
    let grad_scale = V::splat(rates.grad_scale);
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let g = V::load_up_to(grad.add(i), lanes).mul(grad_scale);
        let mean = V::load_up_to(m.add(i), lanes).mul(beta1);
        let mean = g.fma(fresh1, mean);
        mean.store_up_to(m.add(i), lanes);
        let square = V::load_up_to(v.add(i), lanes).mul(beta2);
        let square = g.mul(g).fma(fresh2, square);
        square.store_up_to(v.add(i), lanes);
        let spread = square.sqrt().fma(unbias, eps);
        let param = param.add(i);
        let value = V::load_up_to(param, lanes).mul(kept);
        mean.div(spread).fnma(rate, value).store_up_to(param, lanes);
        i += V::LANES;
    }
}

dispatch! {
    /// [`sum_of_squares`] of one block.
    ///
    /// # Safety
    /// The machine has `isa`.
    unsafe fn squares(x: &[f32]) -> f64 = squares_body;
}

/// Eight sums side by side, whatever the lanes, so that every instruction set adds in the same order; the compiler widens it.
#[expect(
    clippy::extra_unused_type_parameters,
    reason = "named by `dispatch!`, like every body"
)]
#[inline(always)]
unsafe fn squares_body<V: Vector>(x: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let whole = x.chunks_exact(8);
    for (sum, &x) in sums.iter_mut().zip(whole.remainder()) {
        *sum = f64::from(x) * f64::from(x);
    }
    for eight in whole {
        for (sum, &x) in sums.iter_mut().zip(eight) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum()
}
