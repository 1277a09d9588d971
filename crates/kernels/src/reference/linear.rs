//! Linear layer with activation, and the error function.

use super::{Float, sum};
use crate::op::linear::{Activation, Linear};

/// erf to the precision of `T`: its Maclaurin series near zero, the continued fraction of erfc beyond
/// (Abramowitz & Stegun 7.1.6 and 7.1.14).
pub fn erf<T: Float>(x: T) -> T {
    let z = x.to_f64().abs();
    let square = z * z;
    let scaled = std::f64::consts::FRAC_2_SQRT_PI * (-square).exp();
    let value = if z < 2.5 {
        let (mut term, mut total) = (z, z);
        for n in 1..100 {
            term *= 2.0 * square / f64::from(2 * n + 1);
            total += term;
        }
        scaled * total
    } else {
        let fraction = (1..100)
            .rev()
            .fold(z, |below, n| z + 0.5 * f64::from(n) / below);
        1.0 - 0.5 * scaled / fraction
    };
    T::from_f64(if x < T::ZERO { -value } else { value })
}

fn cumulative<T: Float>(x: T) -> T {
    let half = T::from_f64(0.5);
    half + half * erf(x / T::from_f64(std::f64::consts::SQRT_2))
}

/// x·Φ(x).
pub fn gelu<T: Float>(x: T) -> T {
    x * cumulative(x)
}

/// Φ(x) + x·φ(x).
pub fn gelu_derivative<T: Float>(x: T) -> T {
    let density = (-(x * x) / T::from_f64(2.0)).exp() / T::from_f64(std::f64::consts::TAU.sqrt());
    cumulative(x) + x * density
}

/// `act(x·weightᵀ + bias)`; also returns what goes into the activation. See [`crate::op::linear::forward`].
pub fn forward<T: Float>(
    shape: Linear,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    act: Activation,
) -> (Vec<T>, Vec<T>) {
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    let mut pre = Vec::with_capacity(rows * outputs);
    for n in 0..rows {
        for o in 0..outputs {
            let dot = sum(inputs, |i| x[n * inputs + i] * weight[o * inputs + i]);
            pre.push(bias.map_or(dot, |bias| dot + bias[o]));
        }
    }
    let out = pre.iter().map(|&z| activate(act, z)).collect();
    (out, pre)
}

fn activate<T: Float>(act: Activation, z: T) -> T {
    match act {
        Activation::Identity => z,
        Activation::Gelu => gelu(z),
    }
}

/// Gradients of [`forward`].
pub struct Gradients<T> {
    /// `[N, I]`
    pub d_x: Vec<T>,
    /// `[O, I]`
    pub d_weight: Vec<T>,
    /// `[O]`
    pub d_bias: Vec<T>,
}

/// Gradients from that of the output, `[N, O]`, and what went into the activation.
pub fn backward<T: Float>(
    shape: Linear,
    x: &[T],
    weight: &[T],
    act: Activation,
    pre: &[T],
    d_out: &[T],
) -> Gradients<T> {
    let Linear {
        rows,
        inputs,
        outputs,
    } = shape;
    let d_pre: Vec<T> = pre
        .iter()
        .zip(d_out)
        .map(|(&z, &d)| match act {
            Activation::Identity => d,
            Activation::Gelu => d * gelu_derivative(z),
        })
        .collect();
    let each = |count: usize, width: usize, f: &dyn Fn(usize, usize) -> T| -> Vec<T> {
        (0..count * width)
            .map(|i| f(i / width, i % width))
            .collect()
    };
    Gradients {
        d_x: each(rows, inputs, &|n, i| {
            sum(outputs, |o| d_pre[n * outputs + o] * weight[o * inputs + i])
        }),
        d_weight: each(outputs, inputs, &|o, i| {
            sum(rows, |n| d_pre[n * outputs + o] * x[n * inputs + i])
        }),
        d_bias: (0..outputs)
            .map(|o| sum(rows, |n| d_pre[n * outputs + o]))
            .collect(),
    }
}
