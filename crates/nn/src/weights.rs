//! Weights by name: made, read, written.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use cloze_spec::init::Init;
use cloze_spec::inventory::{Parameter, Start, parameters, starts};
use cloze_spec::{Faults, Model};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values of every parameter, by the names of the inventory.
pub type Values = BTreeMap<String, Vec<f32>>;

/// Fresh weights of `model` over `items` items; the same seed gives the same bits.
pub fn init(model: &Model, items: usize, seed: u64) -> Values {
    let Init::TruncatedNormal(normal) = &model.init;
    let mut values = fresh(&parameters(model, items), normal.std, seed);
    begin(&mut values, &starts(model, items), seed);
    values
}

/// Gives the parameters that begin otherwise than [`fresh`] makes them what they begin with.
pub fn begin(values: &mut Values, starts: &[(String, Start)], seed: u64) {
    // Streams that no parameter of `fresh` has.
    for (stream, (name, start)) in (1 << 32..).zip(starts) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let mut share = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let values = values.get_mut(name).expect("a parameter that is listed");
        match *start {
            Start::Constant(constant) => values.fill(constant),
            Start::Uniform(bound) => values
                .iter_mut()
                .for_each(|value| *value = (2.0 * share() as f32 - 1.0) * bound),
            Start::Logarithms { row } => values
                .iter_mut()
                .enumerate()
                .for_each(|(index, value)| *value = ((index % row + 1) as f32).ln()),
            Start::Steps => values.iter_mut().for_each(|value| {
                // From 0.001 to 0.1; softplus⁻¹(y) = ln(eʸ − 1).
                let step = 10_f64.powf(2.0 * share() - 3.0);
                *value = step.exp_m1().ln() as f32;
            }),
        }
    }
}

/// Fresh values of `parameters`: gains 1, biases 0, all others normal with deviation `std`, cut off at two of these; the
/// same seed gives the same bits.
pub fn fresh(parameters: &[Parameter], std: f32, seed: u64) -> Values {
    let values = (1..).zip(parameters).map(|(stream, parameter)| {
        let count = parameter.shape.iter().product();
        let values = match parameter.name.rsplit('.').next() {
            Some("gain") => vec![1.0; count],
            Some("bias") => vec![0.0; count],
            _ => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream);
                (0..count)
                    .map(|_| truncated_normal(&mut rng) * std)
                    .collect()
            }
        };
        (parameter.name.clone(), values)
    });
    values.collect()
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

/// The names of a module's parameters, in the order in which it shows them to a visitor.
pub fn names(module: &impl Module) -> Vec<String> {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.names
}

/// A module's weights by name.
pub fn values(module: &impl Module) -> Values {
    let mut reader = Reader {
        values: Some(Values::new()),
        ..Reader::default()
    };
    module.visit(&mut reader);
    reader.values.unwrap_or_default()
}

/// The gradient of each parameter.
#[cfg(test)]
pub(crate) fn gradients(module: &impl Module, loss: &Tensor<1>) -> Values {
    summed(module, [loss.backward()])
}

/// The sum of what each part has of a parameter.
#[cfg(test)]
pub(crate) fn summed(
    module: &impl Module,
    parts: impl IntoIterator<Item = burn::tensor::Gradients>,
) -> Values {
    struct Collect<'a>(
        burn::tensor::Gradients,
        std::vec::IntoIter<String>,
        &'a mut Values,
    );
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.1.next().expect("a name a parameter");
            if let Some(gradient) = param.val().grad(&self.0) {
                let values = gradient.into_data().try_into_vec::<f32>();
                let values = values.expect("parameters are f32");
                let sum = self
                    .2
                    .entry(name)
                    .or_insert_with(|| vec![0.0; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, g)| *sum += g);
            }
        }
    }
    let mut found = Values::new();
    for part in parts {
        let names = names(module).into_iter();
        module.visit(&mut Collect(part, names, &mut found));
    }
    found
}

#[derive(Default)]
struct Reader {
    path: Vec<String>,
    names: Vec<String>,
    values: Option<Values>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        // An enum of kinds is no part of the name: a layer has one mixer, whichever it is.
        let kind = container.starts_with("Enum");
        self.path
            .push(if kind { String::new() } else { name.to_owned() });
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name: Vec<&str> = self
            .path
            .iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        let name = name.join(".");
        if let Some(values) = &mut self.values {
            values.insert(
                name.clone(),
                param
                    .val()
                    .into_data()
                    .try_into_vec::<f32>()
                    .expect("parameters are f32"),
            );
        }
        self.names.push(name);
    }
}

/// Compares what a file holds, names with shapes, with the parameters that are `needed`.
///
/// # Errors
/// Every missing, extra and misshapen tensor, in one list.
pub fn check(
    needed: &[Parameter],
    found: &BTreeMap<String, Vec<usize>>,
    place: &str,
) -> Result<(), cloze_spec::Error> {
    let mut faults = Faults::default();
    for parameter in needed {
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
    /// What updates of low rank are multiplied with.
    pub lora_scale: f32,
}

/// A parameter of any rank.
pub(crate) type Weight<const D: usize> = Param<Tensor<D>>;

impl Source<'_> {
    pub fn parameter<const D: usize>(&self, name: &str) -> Weight<D> {
        Param::from_tensor(self.tensor(name))
    }

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
