//! Weights by name: made, read, written.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use cloze_spec::init::Init;
use cloze_spec::inventory::{Parameter, parameters};
use cloze_spec::{Faults, Model};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values of every parameter, by the names of the inventory.
pub type Values = BTreeMap<String, Vec<f32>>;

/// Fresh weights of `model` over `items` items; the same seed gives the same bits.
pub fn init(model: &Model, items: usize, seed: u64) -> Values {
    let Init::TruncatedNormal(normal) = &model.init;
    let mut stream = 0;
    let mut fresh = |parameter: &Parameter| -> Vec<f32> {
        stream += 1;
        let count = parameter.shape.iter().product();
        match parameter.name.rsplit('.').next() {
            Some("gain") => vec![1.0; count],
            Some("bias") => vec![0.0; count],
            _ => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream);
                (0..count)
                    .map(|_| truncated_normal(&mut rng) * normal.std)
                    .collect()
            }
        }
    };
    parameters(model, items)
        .iter()
        .map(|p| (p.name.clone(), fresh(p)))
        .collect()
}

/// Standard normal, redrawn beyond two standard deviations; by the polar method (Marsaglia and Bray, 1964).
fn truncated_normal(rng: &mut impl Rng) -> f32 {
    let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
    loop {
        let (x, y) = (uniform(), uniform());
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            let value = x * (-2.0 * square.ln() / square).sqrt();
            if value.abs() <= 2.0 {
                return value as f32;
            }
        }
    }
}

/// Compares what a file holds, names with shapes, with what `model` needs.
///
/// # Errors
/// Every missing, extra and misshapen tensor, in one list.
pub fn check(
    model: &Model,
    items: usize,
    found: &BTreeMap<String, Vec<usize>>,
    place: &str,
) -> Result<(), cloze_spec::Error> {
    let needed = parameters(model, items);
    let mut faults = Faults::default();
    for parameter in &needed {
        let shape = found.get(&parameter.name);
        faults.check(
            shape.is_some(),
            &format!("tensor {:?}", parameter.name),
            || "is missing".to_owned(),
        );
        if let Some(shape) = shape {
            faults.check(
                *shape == parameter.shape,
                &format!("tensor {:?}", parameter.name),
                || format!("has shape {shape:?}, the model needs {:?}", parameter.shape),
            );
        }
    }
    for name in found.keys() {
        let known = needed.iter().any(|parameter| parameter.name == *name);
        faults.check(known, &format!("tensor {name:?}"), || {
            "is none of the model's".to_owned()
        });
    }
    faults.into_result(place)
}

/// Hands out tensors by name while a model is put together.
pub(crate) struct Source<'a> {
    pub values: &'a Values,
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub device: &'a Device,
}

impl Source<'_> {
    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let shape = self
            .shapes
            .get(name)
            .unwrap_or_else(|| panic!("the inventory lists {name}"));
        let values = self
            .values
            .get(name)
            .unwrap_or_else(|| panic!("values hold {name}"));
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), self.device)
    }
}
