//! Adam with decoupled weight decay over the parameters of a model.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use cloze_nn::op::{AdamW, adamw, sum_of_squares};
use cloze_nn::weights;
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
            let (flat, mean, square) = adamw(&config, flat, gradient, mean, square);
            slot.mean = mean;
            slot.square = square;
            Tensor::from_inner(flat.reshape(shape)).require_grad()
        })
    }
}
