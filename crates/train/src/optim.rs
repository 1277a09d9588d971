//! Adam with decoupled weight decay over the parameters of a model.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use cloze_nn::op::{AdamW, adamw, adamw_of_read_rows, sum_of_squares};
use cloze_nn::{Renewed, weights};
use cloze_spec::optim;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Norm of the gradient over all parameters, before clipping.
    pub gradient_norm: f64,
}

/// The optimiser's memory: two moments a parameter, and the gradients summed so far.
#[derive(Debug)]
pub struct Optimizer {
    settings: optim::AdamW,
    /// Steps taken.
    steps: u64,
    /// In the order in which the model shows its parameters; none before the first gradient.
    slots: Vec<Slot>,
    /// Batches whose gradients are summed in the slots.
    summed: usize,
}

#[derive(Debug)]
struct Slot {
    mean: Tensor<1>,
    square: Tensor<1>,
    gradient: Option<Tensor<1>>,
    /// Factor on the learning rate.
    rate: f64,
    /// Whether rows that were not read stay as they are.
    read_rows_only: bool,
}

/// Moments by parameter name, as stored.
#[derive(Debug, Default)]
pub struct Moments {
    /// Means of gradients.
    pub mean: weights::Values,
    /// Means of squared gradients.
    pub square: weights::Values,
}

impl Optimizer {
    /// An optimiser for `model`, its moments 0.
    pub fn new(settings: optim::AdamW, model: &impl Module) -> Self {
        Self::with_rates(settings, model, |_| 1.0)
    }

    /// As [`Self::new`]; a parameter learns at `rate` of its name times the learning rate.
    pub fn with_rates(
        settings: optim::AdamW,
        model: &impl Module,
        rate: impl Fn(&str) -> f64,
    ) -> Self {
        let mut shapes = Shapes(Vec::new());
        model.visit(&mut shapes);
        for (slot, name) in shapes.0.iter_mut().zip(weights::names(model)) {
            slot.rate = rate(&name);
            slot.read_rows_only =
                settings.read_rows_only && name.rsplit('.').next() == Some("table");
        }
        Self {
            settings,
            steps: 0,
            slots: shapes.0,
            summed: 0,
        }
    }

    /// Goes on from stored moments.
    ///
    /// # Panics
    /// If the moments are not those of the model's parameters; the checkpoint is checked when it is read.
    pub fn restore(&mut self, model: &impl Module, steps: u64, moments: &Moments) {
        self.steps = steps;
        for (slot, name) in self.slots.iter_mut().zip(weights::names(model)) {
            let device = slot.mean.device();
            let load =
                |values: &weights::Values| Tensor::from_floats(values[&name].as_slice(), &device);
            slot.mean = load(&moments.mean);
            slot.square = load(&moments.square);
        }
    }

    /// The moments, to store.
    pub fn moments(&self, model: &impl Module) -> Moments {
        let mut moments = Moments::default();
        let read = |tensor: &Tensor<1>| {
            tensor
                .to_data()
                .try_into_vec::<f32>()
                .expect("moments are f32")
        };
        for (slot, name) in self.slots.iter().zip(weights::names(model)) {
            moments.square.insert(name.clone(), read(&slot.square));
            moments.mean.insert(name, read(&slot.mean));
        }
        moments
    }

    /// Adds the gradients of one batch, given in parts, to those that wait for [`Self::step`].
    pub fn accumulate(&mut self, model: &impl Module, parts: impl IntoIterator<Item = Gradients>) {
        for gradients in parts {
            model.visit(&mut Collect {
                gradients,
                slots: self.slots.iter_mut(),
            });
        }
        self.summed += 1;
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves the parameters against the mean of the summed gradients, at `lr_factor` of the learning rate.
    pub fn step<M: Module>(&mut self, model: M, lr_factor: f64) -> (M, Step) {
        self.steps += 1;
        let mean = 1.0 / self.summed.max(1) as f64;
        self.summed = 0;
        let gradients = self.slots.iter().filter_map(|slot| slot.gradient.as_ref());
        let gradients: Vec<&Tensor<1>> = gradients.collect();
        let gradient_norm = sum_of_squares(&gradients).sqrt() * mean;
        let clip = match self.settings.clip_norm {
            Some(limit) if gradient_norm > limit => limit / gradient_norm,
            _ => 1.0,
        };
        let config = AdamW {
            lr: (self.settings.lr * lr_factor) as f32,
            beta1: self.settings.beta1 as f32,
            beta2: self.settings.beta2 as f32,
            eps: self.settings.eps as f32,
            weight_decay: self.settings.weight_decay as f32,
            step: self.steps,
            grad_scale: (mean * clip) as f32,
        };
        let model = model.map(&mut Apply {
            config,
            slots: self.slots.iter_mut(),
        });
        (model, Step { gradient_norm })
    }
}

impl Optimizer {
    /// Puts rows into parameters, by name, and forgets what was learned of those that stood there.
    pub fn renew<M: Module>(&mut self, model: M, rows: &BTreeMap<String, Renewed>) -> M {
        let names = weights::names(&model);
        model.map(&mut Renew {
            rows: names
                .iter()
                .map(|name| rows.get(name))
                .collect::<Vec<_>>()
                .into_iter(),
            slots: self.slots.iter_mut(),
        })
    }
}

struct Renew<'a> {
    rows: std::vec::IntoIter<Option<&'a Renewed>>,
    slots: std::slice::IterMut<'a, Slot>,
}

impl ModuleMapper for Renew<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let slot = self.slots.next().expect("a slot a parameter");
        let Some((places, values)) = self.rows.next().expect("an entry a parameter") else {
            return param;
        };
        let width = values.len() / places.len().max(1);
        let device = slot.mean.device();
        let with = |x: Tensor<1>, values: Option<&[f32]>| {
            let mut all: Vec<f32> = x.into_data().try_into_vec().expect("moments are f32");
            for (at, &place) in places.iter().enumerate() {
                let row = &mut all[place * width..(place + 1) * width];
                match values {
                    Some(values) => row.copy_from_slice(&values[at * width..][..width]),
                    None => row.fill(0.0),
                }
            }
            Tensor::<1>::from_floats(all.as_slice(), &device)
        };
        slot.mean = with(slot.mean.clone(), None);
        slot.square = with(slot.square.clone(), None);
        param.map(|tensor| {
            let shape = tensor.shape();
            let flat = tensor.inner().reshape([shape.num_elements()]);
            Tensor::from_inner(with(flat, Some(values)).reshape(shape)).require_grad()
        })
    }
}

struct Shapes(Vec<Slot>);

impl ModuleVisitor for Shapes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let count = tensor.shape().num_elements();
        let device = tensor.device().inner();
        let zeros = || Tensor::zeros([count], &device);
        self.0.push(Slot {
            mean: zeros(),
            square: zeros(),
            gradient: None,
            rate: 1.0,
            read_rows_only: false,
        });
    }
}

struct Collect<'a> {
    gradients: Gradients,
    slots: std::slice::IterMut<'a, Slot>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let slot = self.slots.next().expect("a slot a parameter");
        let count = slot.mean.shape().num_elements();
        // A parameter that the batch did not touch has no gradient: the same as 0.
        if let Some(gradient) = param.val().grad_remove(&mut self.gradients) {
            let gradient = gradient.reshape([count]);
            slot.gradient = Some(match slot.gradient.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }
}

struct Apply<'a> {
    config: AdamW,
    slots: std::slice::IterMut<'a, Slot>,
}

impl ModuleMapper for Apply<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let slot = self.slots.next().expect("a slot a parameter");
        let Some(gradient) = slot.gradient.take() else {
            return param;
        };
        // Biases and norms are vectors; only matrices and embeddings decay.
        let weight_decay = if D == 1 {
            0.0
        } else {
            self.config.weight_decay
        };
        let config = AdamW {
            lr: (f64::from(self.config.lr) * slot.rate) as f32,
            weight_decay,
            ..self.config
        };
        let empty = || Tensor::zeros([0], &gradient.device());
        let (mean, square) = (
            std::mem::replace(&mut slot.mean, empty()),
            std::mem::replace(&mut slot.square, empty()),
        );
        param.map(|tensor| {
            let shape = tensor.shape();
            let flat = tensor.inner().reshape([mean.shape().num_elements()]);
            let (flat, mean, square) = if slot.read_rows_only {
                let rows = |x: Tensor<1>| x.reshape([shape[0] as i32, -1]);
                let parts = (rows(flat), rows(gradient), rows(mean), rows(square));
                let (param, mean, square) =
                    adamw_of_read_rows(&config, parts.0, parts.1, parts.2, parts.3);
                (
                    param.flatten(0, 1),
                    mean.flatten(0, 1),
                    square.flatten(0, 1),
                )
            } else {
                adamw(&config, flat, gradient, mean, square)
            };
            slot.mean = mean;
            slot.square = square;
            Tensor::from_inner(flat.reshape(shape)).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use cloze_data::batch::PackedBatch;
    use cloze_nn::{Encoder, Noise, objective};
    use cloze_spec::Model;
    use cloze_spec::objective::Loss;
    use serde_json::{from_value, json};

    use super::*;

    const ITEMS: usize = 11;

    /// A small model with tables after a step on one sequence and a step on another, with its moments, before and after the
    /// second; and the gradient of that.
    fn steps(read_rows_only: bool) -> [weights::Values; 3] {
        let model: Model = from_value(json!({
            "max_len": 4,
            "width": 8,
            "init": {"kind": "truncated-normal", "std": 0.5},
            "embed": {"kind": "item", "positions": "from-start", "norm": true, "dropout": 0.0},
            "stack": {
                "layers": 1,
                "block": {"kind": "pre-norm", "dropout": 0.0},
                "norm": {"kind": "layer", "eps": 1e-6},
                "mixer": {"kind": "attention", "heads": 2, "causal": false, "dropout": 0.0},
                "ffn": {"kind": "memory", "bits": 4, "extra_bits": 1},
            },
            "head": {"kind": "tied", "transform": false, "bias": true},
        }))
        .expect("a model");
        let settings = optim::AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            clip_norm: None,
            read_rows_only,
        };
        let values = weights::init(&model, ITEMS, 1);
        let mut encoder = Encoder::new(&model, ITEMS, &values, &Device::flex().autodiff());
        let mut optimizer = Optimizer::new(settings, &encoder);
        let mut found = Vec::new();
        for tokens in [[1, 2, 11, 4], [11, 6, 7, 8]] {
            let mut batch = PackedBatch::new();
            batch.push(&tokens);
            batch.rows = vec![if tokens[0] == 11 { 0 } else { 2 }];
            batch.labels = vec![3];
            let loss = objective::loss(&encoder, &batch, &Loss::Softmax, &mut Noise::none());
            optimizer.accumulate(&encoder, [loss.backward()]);
            let names = weights::names(&encoder).into_iter();
            let gradients = optimizer.slots.iter().map(|slot| {
                let gradient = slot.gradient.clone().expect("of every parameter");
                gradient.into_data().try_into_vec().expect("f32")
            });
            let gradients = names.zip(gradients).collect();
            let before = state(&encoder, &optimizer);
            encoder = optimizer.step(encoder, 1.0).0;
            found = vec![before, state(&encoder, &optimizer), gradients];
        }
        found.try_into().expect("three")
    }

    fn state(encoder: &Encoder, optimizer: &Optimizer) -> weights::Values {
        let moments = optimizer.moments(encoder);
        let parts = [
            ("value", weights::values(encoder)),
            ("mean", moments.mean),
            ("square", moments.square),
        ];
        let named = |(part, values): (&'static str, weights::Values)| {
            let values = values.into_iter();
            values.map(move |(name, values)| (format!("{part} {name}"), values))
        };
        parts.into_iter().flat_map(named).collect()
    }

    #[test]
    fn rows_that_no_token_read_stay_as_they_were() {
        let [_, whole, _] = steps(false);
        let [before, after, gradients] = steps(true);
        let [mut stayed, mut moved] = [0, 0];
        for (name, gradient) in &gradients {
            let width = match name.rsplit_once("ffn.") {
                Some((_, "first.table")) => 10,
                Some((_, "second.table")) => 8,
                _ => 1,
            };
            for part in ["value", "mean", "square"] {
                let key = format!("{part} {name}");
                let rows = |values: &weights::Values| -> Vec<Vec<u32>> {
                    let rows = values[&key].chunks(width);
                    rows.map(|row| row.iter().map(|x| x.to_bits()).collect())
                        .collect()
                };
                let (before, after, whole) = (rows(&before), rows(&after), rows(&whole));
                for (row, gradient) in gradient.chunks(width).enumerate() {
                    if width > 1 && gradient.iter().all(|&g| g == 0.0) {
                        assert_eq!(before[row], after[row], "{key}: row {row}");
                        stayed += usize::from(whole[row] != after[row]);
                    } else {
                        moved += usize::from(before[row] != after[row]);
                    }
                }
            }
        }
        assert!(stayed > 0, "some rows would have moved");
        assert!(moved > 0, "others moved");
    }
}
