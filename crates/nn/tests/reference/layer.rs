use cloze_spec::Model;
use cloze_spec::block::Block;
use cloze_spec::ffn::{Activation, Ffn, PowersOf};
use cloze_spec::norm::Norm;

use super::{Point, dot, gelu, rms, silu};

/// What the layers make of one token of a model whose mixer leaves it as it is.
pub fn layers(model: &Model, point: &mut Point, x: &[f64]) -> Vec<f64> {
    let stack = &model.stack;
    let mut x = x.to_vec();
    for layer in 0..stack.layers {
        point.prefix = format!("layer.{layer}.");
        let parts: &[&str] = match stack.ffn {
            Ffn::Absent(_) => &["mixer"],
            _ => &["mixer", "ffn"],
        };
        for &part in parts {
            let name = |what: &str| format!("{part}_{what}");
            let before = |x: &[f64]| match stack.block {
                Block::PostNorm(_) => x.to_vec(),
                Block::PreNorm(_) | Block::Sandwich(_) => {
                    norm(&stack.norm, point, &name("norm"), x)
                }
            };
            let input = before(&x);
            let (mut branch, replaces) = if part == "mixer" {
                (input, false)
            } else {
                (ffn(&stack.ffn, point, &input), stack.ffn.replaces())
            };
            if let Block::Sandwich(_) = stack.block {
                branch = norm(&stack.norm, point, &name("after"), &branch);
            }
            if stack.block.residual().layer_scale.is_some() {
                let scale = point.get(&name("scale"));
                branch.iter_mut().zip(scale).for_each(|(b, s)| *b *= s);
            }
            if !replaces {
                branch.iter_mut().zip(&x).for_each(|(b, x)| *b += x);
            }
            x = match stack.block {
                Block::PostNorm(_) => norm(&stack.norm, point, &name("norm"), &branch),
                Block::PreNorm(_) | Block::Sandwich(_) => branch,
            };
        }
    }
    point.prefix = String::new();
    match stack.block {
        Block::PostNorm(_) => x,
        Block::PreNorm(_) | Block::Sandwich(_) => norm(&stack.norm, point, "final_norm", &x),
    }
}

fn norm(settings: &Norm, point: &Point, name: &str, x: &[f64]) -> Vec<f64> {
    let part = |part: &str| point.get(&format!("{name}.{part}"));
    let bias = |x: Vec<f64>| x.iter().zip(part("bias")).map(|(x, b)| x + b).collect();
    match settings {
        Norm::Layer(layer) => bias(centred(x, part("gain"), f64::from(layer.eps))),
        Norm::Rms(settings) => rms(x, part("gain"), f64::from(settings.eps)),
        Norm::DynamicTanh(_) => {
            let slope = part("slope")[0];
            bias(
                x.iter()
                    .zip(part("gain"))
                    .map(|(x, g)| (slope * x).tanh() * g)
                    .collect(),
            )
        }
    }
}

fn centred(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let x: Vec<f64> = x.iter().map(|x| x - mean).collect();
    rms(&x, gain, eps)
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => silu(x),
    }
}

fn ffn(settings: &Ffn, point: &Point, x: &[f64]) -> Vec<f64> {
    let up = || point.linear("ffn.up", x);
    let down = |inner: &[f64]| point.linear("ffn.down", inner);
    match settings {
        Ffn::Absent(_) => unreachable!("no part"),
        Ffn::Mlp(mlp) => {
            let inner: Vec<f64> = up().iter().map(|&x| activate(mlp.activation, x)).collect();
            down(&inner)
        }
        Ffn::Gated(gated) => {
            let both = up();
            let (open, value) = both.split_at(gated.width);
            let product = |(a, b): (&f64, &f64)| activate(gated.activation, *a) * b;
            let inner: Vec<f64> = open.iter().zip(value).map(product).collect();
            down(&inner)
        }
        Ffn::Polynomial(polynomial) => {
            let x = up();
            let mut sum = vec![point.get("ffn.polynomial.bias")[0]; x.len()];
            for (power, a) in (1..).zip(point.get("ffn.polynomial.weight")) {
                let of = |x: f64| match polynomial.of {
                    PowersOf::Relu => x.max(0.0).powi(power),
                    PowersOf::Norm => x.powi(power),
                };
                let mut powers: Vec<f64> = x.iter().map(|&x| of(x)).collect();
                if polynomial.of == PowersOf::Norm {
                    powers = rms(&powers, &vec![1.0; powers.len()], 1e-6);
                }
                sum.iter_mut().zip(powers).for_each(|(s, p)| *s += a * p);
            }
            down(&sum)
        }
        Ffn::Memory(memory) => {
            let inner = tables(point, "ffn.first", memory.bits, x);
            let mut normed = centred(&inner, point.get("ffn.norm.gain"), 1e-5);
            let bias = point.get("ffn.norm.bias");
            normed.iter_mut().zip(bias).for_each(|(n, b)| *n += b);
            tables(
                point,
                "ffn.second",
                memory.bits + memory.extra_bits,
                &normed,
            )
        }
        Ffn::Sparse(sparse) => {
            let dictionary = point.get("ffn.dictionary");
            let (step, threshold) = (f64::from(sparse.step), f64::from(sparse.threshold));
            // The gradient of half the squared error of x by the code z = x, written out.
            let mut code = x.to_vec();
            for (row, x_row) in dictionary.chunks(x.len()).zip(x) {
                super::add(&mut code, row, step * (x_row - dot(row, x)));
            }
            code.iter()
                .map(|z| (z - step * threshold).max(0.0))
                .collect()
        }
    }
}

/// Rows of tables chosen by the signs of groups of channels, by the definition: every row with its weight, all but one 0.
fn tables(point: &Point, name: &str, bits: usize, x: &[f64]) -> Vec<f64> {
    let table = point.get(&format!("{name}.table"));
    let mut sum = point.get(&format!("{name}.bias")).to_vec();
    let outputs = sum.len();
    for (group, z) in x.chunks(bits).enumerate() {
        let size: f64 = z.iter().map(|z| z.abs()).sum();
        for row in 0..1_usize << bits {
            let signs = z
                .iter()
                .rev()
                .enumerate()
                .all(|(bit, z)| (row >> bit & 1 == 1) == (*z >= 0.0));
            if signs {
                let sure: f64 = z
                    .iter()
                    .map(|z| 1.0 / (1.0 + (-2.0 * z.abs()).exp()))
                    .product();
                let found = &table[((group << bits) + row) * outputs..][..outputs];
                super::add(&mut sum, found, size * sure);
            }
        }
    }
    sum
}
