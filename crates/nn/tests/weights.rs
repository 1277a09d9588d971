//! Weights by name: fresh ones, and files that do not fit.

mod tiny;

use std::collections::BTreeMap;

use cloze_nn::weights::{check, init};
use cloze_spec::inventory::parameters;
use tiny::{ITEMS, assert_close, last_part, model, wide_model};

#[test]
fn every_missing_extra_and_misshapen_tensor_is_named_at_once() {
    let model = model();
    let mut found: BTreeMap<String, Vec<usize>> = parameters(&model, ITEMS)
        .into_iter()
        .map(|p| (p.name, p.shape))
        .collect();
    assert!(check(&parameters(&model, ITEMS), &found, "model.safetensors").is_ok());

    found.remove("head.bias");
    found.remove("layer.1.ffn.up.weight");
    found.insert("embed.item.weight".to_owned(), vec![ITEMS, 12]);
    found.insert("embed.norm.gain".to_owned(), vec![1, 12]);
    found.insert("layer.2.ffn.up.weight".to_owned(), vec![19, 12]);
    found.insert("pooler.weight".to_owned(), vec![12, 12]);
    let error = check(&parameters(&model, ITEMS), &found, "model.safetensors").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"model.safetensors: 6 faults
  tensor "embed.item.weight": has shape [23, 12], the model needs [24, 12]
  tensor "embed.norm.gain": has shape [1, 12], the model needs [12]
  tensor "layer.1.ffn.up.weight": is missing
  tensor "head.bias": is missing
  tensor "layer.2.ffn.up.weight": is none of the model's
  tensor "pooler.weight": is none of the model's"#
    );
}

#[test]
fn fresh_matrices_are_truncated_normal_and_vectors_neutral() {
    let model = wide_model();
    let values = init(&model, 5000, 42);
    let needed: BTreeMap<String, usize> = parameters(&model, 5000)
        .into_iter()
        .map(|p| (p.name, p.shape.iter().product()))
        .collect();
    assert!(
        values
            .iter()
            .map(|(name, x)| (name, x.len()))
            .eq(needed.iter().map(|(name, &n)| (name, n)))
    );
    for (name, x) in &values {
        let part = last_part(name);
        if part == "gain" {
            assert_eq!(*x, vec![1.0; x.len()], "{name}");
        } else if part == "bias" {
            assert_eq!(*x, vec![0.0; x.len()], "{name}");
        } else {
            let scaled: Vec<f64> = x.iter().map(|&x| f64::from(x) / 0.02).collect();
            let n = scaled.len() as f64;
            let mean = scaled.iter().sum::<f64>() / n;
            let std = (scaled.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
            let near = scaled.iter().filter(|x| x.abs() < 1.0).count() as f64 / n;
            // A normal distribution cut at two standard deviations: its own is √(1 − 4 φ(2) / (2 Φ(2) − 1)) = 0.8796,
            // and 0.6827 / 0.9545 of it lie within one. Five times what chance leaves of n draws.
            let chance = 5.0 / n.sqrt();
            assert!(mean.abs() < 0.88 * chance, "{name}: mean {mean}");
            assert!(
                (std - 0.8796).abs() < 0.6 * chance,
                "{name}: standard deviation {std}"
            );
            assert!(
                (near - 0.7152).abs() < 0.46 * chance,
                "{name}: {near} within one"
            );
            assert!(
                scaled.iter().all(|x| x.abs() < 2.000_001),
                "{name}: cut at two"
            );
        }
    }
}

#[test]
fn fresh_weights_follow_from_the_seed() {
    let model = model();
    assert_eq!(init(&model, ITEMS, 1), init(&model, ITEMS, 1));
    let (one, other) = (init(&model, ITEMS, 1), init(&model, ITEMS, 2));
    for (name, x) in &one {
        assert_eq!(
            x == &other[name],
            ["gain", "bias"].contains(&last_part(name)),
            "{name}"
        );
    }
    // Parameters of one shape are drawn each by itself.
    assert_ne!(
        one["layer.0.mixer.qkv.weight"],
        one["layer.1.mixer.qkv.weight"]
    );
    // What a seed in a recipe means; the logarithm of another platform may round otherwise.
    let want = [
        -0.029_344_08,
        0.002_668_458_5,
        0.015_097_751,
        0.006_575_201_6,
    ];
    assert_close(
        "first item",
        &one["embed.item.weight"][..4],
        &want,
        1e-6,
        1e-6,
    );
}
