//! `AdamW` by plain loops.
//!
//! # Source
//! Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101, algorithm 2.

use super::Float;
use crate::op::adamw::AdamW;

/// One step over all of `param`; `m` and `v` are the running means of the gradient and of its square.
pub fn step<T: Float>(config: &AdamW, param: &mut [T], grad: &[T], m: &mut [T], v: &mut [T]) {
    let of = |x: f32| T::from_f64(f64::from(x));
    let (beta1, beta2) = (of(config.beta1), of(config.beta2));
    let unbias = |beta: f32| T::from_f64(1.0 - f64::from(beta).powf(config.step as f64));
    for i in 0..param.len() {
        let g = grad[i] * of(config.grad_scale);
        m[i] = beta1 * m[i] + (T::ONE - beta1) * g;
        v[i] = beta2 * v[i] + (T::ONE - beta2) * g * g;
        let mean = m[i] / unbias(config.beta1);
        let spread = (v[i] / unbias(config.beta2)).sqrt();
        param[i] = param[i] * (T::ONE - of(config.lr) * of(config.weight_decay));
        param[i] -= of(config.lr) * mean / (spread + of(config.eps));
    }
}
