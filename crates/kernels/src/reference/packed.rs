//! Linear maps with weights in few bits, by plain loops.

use super::linear::gelu;
use crate::op::packed::{Activation, Storage};

/// `x·weightᵀ` as the storage has it, before the bias, in `f64`.
///
/// # Shapes
/// `x: [N, I]`, `weight: [O, I]` → `[N, O]`
pub fn product(
    rows: usize,
    inputs: usize,
    x: &[f32],
    weight: &[f32],
    storage: Storage,
) -> Vec<f64> {
    let weight = weight.chunks_exact(inputs);
    let weight: Vec<f64> = weight.flat_map(|row| store(row, storage)).collect();
    let x: Vec<f64> = match storage {
        Storage::Int8 => x.chunks_exact(inputs).flat_map(spread).collect(),
        Storage::F32 | Storage::Bf16 | Storage::F16 => x.iter().copied().map(f64::from).collect(),
    };
    let outputs = weight.len() / inputs;
    let dot = |n: usize, o: usize| {
        let (x, weight) = (&x[n * inputs..][..inputs], &weight[o * inputs..][..inputs]);
        x.iter().zip(weight).map(|(x, weight)| x * weight).sum()
    };
    (0..rows * outputs)
        .map(|i| dot(i / outputs, i % outputs))
        .collect()
}

/// A row as its storage keeps it.
fn store(row: &[f32], storage: Storage) -> Vec<f64> {
    match storage {
        Storage::F32 => row.iter().copied().map(f64::from).collect(),
        // Bits of the fraction, exponent of the smallest normal number.
        Storage::Bf16 => row.iter().map(|&x| round(x, 7, -126)).collect(),
        Storage::F16 => row.iter().map(|&x| round(x, 10, -14)).collect(),
        Storage::Int8 => {
            let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let (inverse, scale) = if largest == 0.0 {
                (0.0, 0.0)
            } else {
                (127.0 / largest, largest / 127.0)
            };
            let integer = |x: &f32| f64::from((x * inverse).round_ties_even());
            row.iter().map(|x| integer(x) * f64::from(scale)).collect()
        }
    }
}

/// A row of the input in 256 steps from its least to its largest value, zero among them.
fn spread(row: &[f32]) -> Vec<f64> {
    let least = row.iter().fold(0.0_f32, |least, &x| least.min(x));
    let largest = row.iter().fold(0.0_f32, |largest, &x| largest.max(x));
    let scale = largest / 255.0 - least / 255.0;
    if scale == 0.0 {
        return vec![0.0; row.len()];
    }
    let inverse = 1.0 / scale;
    let zero = (-least * inverse).round_ties_even();
    let step = |x: &f32| ((x * inverse).round_ties_even() + zero).min(255.0) - zero;
    row.iter()
        .map(|x| f64::from(step(x)) * f64::from(scale))
        .collect()
}

/// The nearest number of `bits` bits of fraction, ties to even.
fn round(x: f32, bits: i32, smallest: i32) -> f64 {
    let x = f64::from(x);
    if x == 0.0 {
        return x;
    }
    let exponent = (x.abs().log2().floor() as i32).max(smallest);
    let unit = f64::from(exponent - bits).exp2();
    (x / unit).round_ties_even() * unit
}

/// `activation(sums + bias) + residual`, or, gated, of the first half times the second.
///
/// # Shapes
/// `sums: [N, O]`, gated `[N, 2·O]`; `bias` as one row of it; `residual: [N, O]` → `[N, O]`
pub fn finish(
    rows: usize,
    outputs: usize,
    sums: &[f64],
    bias: Option<&[f64]>,
    activation: Activation,
    gated: bool,
    residual: Option<&[f64]>,
) -> Vec<f64> {
    let all = outputs * (1 + usize::from(gated));
    let linear = |n: usize, o: usize| sums[n * all + o] + bias.map_or(0.0, |bias| bias[o]);
    let mut out = Vec::with_capacity(rows * outputs);
    for n in 0..rows {
        for o in 0..outputs {
            let mut value = activate(activation, linear(n, o));
            if gated {
                value *= linear(n, outputs + o);
            }
            out.push(value + residual.map_or(0.0, |residual| residual[n * outputs + o]));
        }
    }
    out
}

/// The elementwise function.
pub fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Identity => x,
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}
