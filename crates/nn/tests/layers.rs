//! Channel mixers, norms and wirings: agreement with plain loops, and gradients.

mod reference;
mod tiny;

use burn::tensor::{Device, Tensor, TensorData};
use cloze_data::batch::PackedBatch;
use cloze_nn::weights::{self, Values};
use cloze_nn::{Encoder, Noise, Sequences};
use cloze_spec::Model;
use cloze_spec::block::{Block, Residual};
use cloze_spec::embed::{Embed, Item, Positions};
use cloze_spec::ffn::{Absent, Activation, Ffn, Gated, Memory, Mlp, Polynomial, PowersOf, Sparse};
use cloze_spec::head::{Head, Tied};
use cloze_spec::inventory::parameters;
use cloze_spec::mixer::{Identity, Mixer};
use cloze_spec::norm::{DynamicTanh, Layer, Norm, Rms};
use reference::Point;
use tiny::{ITEMS, by_name, model, numbers, read, values};

/// The small model without anything but its layers, and these without mixing.
fn bare() -> Model {
    let mut model = model();
    model.embed = Embed::Item(Item {
        positions: Positions::None,
        norm: false,
        dropout: 0.0,
    });
    model.head = Head::Tied(Tied {
        transform: false,
        bias: false,
    });
    model.stack.mixer = Mixer::Identity(Identity {});
    model
}

fn ffns() -> Vec<Ffn> {
    let mlp = |activation| {
        Ffn::Mlp(Mlp {
            width: 19,
            activation,
        })
    };
    let gated = |activation| {
        Ffn::Gated(Gated {
            width: 11,
            activation,
        })
    };
    let polynomial = |of, order| {
        Ffn::Polynomial(Polynomial {
            width: 13,
            of,
            order,
        })
    };
    vec![
        mlp(Activation::Gelu),
        mlp(Activation::Relu),
        mlp(Activation::Silu),
        gated(Activation::Gelu),
        gated(Activation::Silu),
        polynomial(PowersOf::Relu, 3),
        polynomial(PowersOf::Norm, 3),
        Ffn::Memory(Memory {
            bits: 3,
            extra_bits: 2,
        }),
        Ffn::Sparse(Sparse {
            step: 0.3,
            threshold: 0.2,
        }),
        Ffn::Absent(Absent {}),
    ]
}

fn cases() -> Vec<(String, Model)> {
    let norms = [
        Norm::Layer(Layer { eps: 1e-6 }),
        Norm::Rms(Rms { eps: 1e-6 }),
        Norm::DynamicTanh(DynamicTanh { slope: 0.5 }),
    ];
    let wirings: [fn(Residual) -> Block; 3] = [Block::PostNorm, Block::PreNorm, Block::Sandwich];
    let mut cases = Vec::new();
    let mut add = |ffn: &Ffn, norm: &Norm, wiring: fn(Residual) -> Block, scale| {
        let mut model = bare();
        model.stack.ffn = ffn.clone();
        model.stack.norm = norm.clone();
        model.stack.block = wiring(Residual {
            dropout: 0.0,
            layer_scale: scale,
        });
        model.validate("test").expect("a model that can be");
        let what = format!("{ffn:?}, {norm:?}, {:?}", model.stack.block);
        cases.push((what, model));
    };
    for (index, ffn) in ffns().iter().enumerate() {
        add(ffn, &norms[index % 3], wirings[index / 3 % 3], None);
    }
    for norm in &norms {
        for wiring in wirings {
            for scale in [None, Some(0.1)] {
                add(&ffns()[0], norm, wiring, scale);
            }
        }
    }
    cases
}

const TOKENS: [u32; 5] = [3, 8, 0, 22, 15];

fn sequences() -> Sequences {
    let mut batch = PackedBatch::new();
    batch.push(&TOKENS);
    batch.rows = (0..TOKENS.len() as u32).collect();
    Sequences::new(&batch)
}

fn vectors(model: &Model, point: &mut Point) -> Vec<f64> {
    let table = point.weights["embed.item.weight"].clone();
    let rows = TOKENS
        .iter()
        .map(|&token| &table[token as usize * model.width..][..model.width]);
    rows.flat_map(|row| reference::layer::layers(model, point, row))
        .collect()
}

/// The largest difference, as a share of the largest number wanted.
fn apart(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0.0_f64, |size, w| size.max(w.abs()));
    let differences = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
    differences.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most }) / size
}

fn point(values: &Values, width: usize) -> Point {
    Point::new(values, &[], width)
}

#[test]
fn every_layer_is_what_its_definition_says() {
    // f32 against f64, through two layers of products of a dozen terms.
    const VALUE: f64 = 1e-5;
    for (what, model) in cases() {
        let values = values(&model, ITEMS, 3);
        let encoder = Encoder::new(&model, ITEMS, &values, &Device::flex());
        let got = read(&encoder.forward(&sequences(), &mut Noise::none()));
        let off = apart(&got, &vectors(&model, &mut point(&values, model.width)));
        assert!(off <= VALUE, "{what}: off by {off}");
    }
}

/// Every number of every gradient against central differences of the definition.
#[test]
fn every_gradient_is_the_slope_of_the_definition() {
    const GRADIENT: f64 = 1e-4;
    const STEP: f64 = 1e-6;
    for (what, model) in cases() {
        let values = values(&model, ITEMS, 3);
        let device = Device::flex().autodiff();
        let encoder = Encoder::new(&model, ITEMS, &values, &device);
        let output = encoder.forward(&sequences(), &mut Noise::none());
        let cotangent = numbers(5, TOKENS.len() * model.width);
        let data = TensorData::new(cotangent.clone(), output.dims());
        let gradients = (output * Tensor::from_data(data, &device)).sum().backward();
        let found = by_name(&encoder, gradients);
        assert!(found.keys().eq(values.keys()), "{what}: of every parameter");
        let mut point = point(&values, model.width);
        for (name, gradient) in &found {
            // Of the table only what was looked up matters; the first numbers of a long parameter stand for the rest.
            let count = gradient.len().min(60);
            let want: Vec<f64> = (0..count)
                .map(|index| {
                    let mut at = |step: f64| -> f64 {
                        point.weights.get_mut(name).expect("a parameter")[index] += step;
                        let moved = vectors(&model, &mut point);
                        point.weights.get_mut(name).expect("a parameter")[index] -= step;
                        moved
                            .iter()
                            .zip(&cotangent)
                            .map(|(v, c)| v * f64::from(*c))
                            .sum()
                    };
                    (at(STEP) - at(-STEP)) / (2.0 * STEP)
                })
                .collect();
            let size = want.iter().fold(0.0_f64, |size, w| size.max(w.abs()));
            if size > 1e-4 {
                let off = apart(&gradient[..count], &want);
                assert!(off <= GRADIENT, "{what}: {name} is off by {off}");
            }
        }
    }
}

#[test]
fn fresh_weights_begin_as_the_settings_say() {
    let mut model = bare();
    model.stack.ffn = ffns()[6].clone();
    model.stack.norm = Norm::DynamicTanh(DynamicTanh { slope: 0.25 });
    model.stack.block = Block::Sandwich(Residual {
        dropout: 0.0,
        layer_scale: Some(0.125),
    });
    let values = weights::init(&model, ITEMS, 1);
    assert!(values.keys().count() == parameters(&model, ITEMS).len());
    for (name, want) in [
        ("layer.1.ffn_scale", 0.125),
        ("layer.0.mixer_norm.slope", 0.25),
        ("layer.0.ffn.polynomial.weight", 1.0 / 3.0),
        ("layer.0.ffn.polynomial.bias", 0.0),
        ("layer.1.ffn_after.gain", 1.0),
    ] {
        assert!(
            values[name].iter().all(|&x| (x - want).abs() < 1e-7),
            "{name}"
        );
    }
}
