//! Learning, whatever from: epochs of steps, validation, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use cloze_data::prefetch::Prefetch;
use cloze_nn::weights::{self, Values};
use cloze_nn::{Coded, Noise, Renewed};
use cloze_spec::inventory::Parameter;
use cloze_spec::optim::Optim;
use cloze_spec::schedule::Schedule;
use cloze_spec::stage::Validate;

use crate::Error;
use crate::checkpoint::{self, Best, State};
use crate::optim::Optimizer;

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins, or goes on from a checkpoint.
    Started {
        /// Where it stands.
        state: &'a State,
        /// Steps that the whole run is planned to have.
        total_steps: u64,
        /// Parameters of the model.
        parameters: usize,
    },
    /// A step was taken.
    Step(StepReport),
    /// Validation was done.
    Validated {
        /// Where the run stands.
        state: &'a State,
        /// What was found, by name.
        metrics: &'a [(String, f64)],
        /// Value of the metric that the recipe chooses by.
        value: f64,
        /// It is the best so far.
        is_best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// Where the run stands.
        state: &'a State,
    },
}

/// One step, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Epochs done, with the share of the one under way.
    pub epochs: f64,
    /// Mean loss of the step's batches.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Sequences of the step.
    pub sequences: usize,
    /// Tokens of the step.
    pub tokens: usize,
    /// Seconds of training so far, validation not counted.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done, or validation no longer got better.
    Finished,
    /// It was asked to stop; a checkpoint tells where.
    Interrupted,
}

/// What is learned, and from what.
pub(crate) trait Job {
    /// What learns.
    type Model: Module + Coded;
    /// What it learns from in one pass.
    type Batch: Send + 'static;

    /// The settings of learning.
    fn plan(&self) -> Plan<'_>;
    /// Names and shapes of all parameters.
    fn parameters(&self) -> Vec<Parameter>;
    /// Values to begin with.
    fn fresh(&self) -> Result<Values, Error>;
    /// The model with these values, on `device`.
    fn model(&self, values: &Values, device: &Device) -> Self::Model;
    /// Factor on the learning rate of a parameter.
    fn rate(&self, _parameter: &str) -> f64 {
        1.0
    }
    /// Numbers of batches of the first epochs, which the schedule goes by; later ones have as many as the last of these.
    fn first_lens(&self) -> Vec<usize>;
    /// The batches of an epoch from `start` on.
    fn batches(&self, epoch: u64, start: usize) -> Prefetch<Self::Batch>;
    /// Number of sequences and of tokens.
    fn size(&self, batch: &Self::Batch) -> (usize, usize);
    /// The mean loss of a batch, `[1]`.
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, noise: &mut Noise) -> Tensor<1>;
    /// The gradients of such a loss, in parts.
    fn gradients(&self, _: &Self::Model, loss: &Tensor<1>) -> Vec<Gradients> {
        vec![loss.backward()]
    }
    /// What the validation part says of a model, by the name of each metric.
    fn validate(&self, model: &Self::Model) -> Result<Vec<(String, f64)>, Error>;
    /// Writes what does not change while learning.
    fn write_folder(&self) -> Result<(), Error>;
    /// Keeps the best weights so far.
    fn keep(&self, values: &Values) -> Result<(), Error>;
}

/// The settings of learning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Where all randomness flows from.
    pub seed: u64,
    /// Hash of the data.
    pub fingerprint: u64,
    /// Passes over the data.
    pub epochs: u64,
    /// Batches whose gradients are summed for one step.
    pub accumulate: usize,
    /// The optimiser.
    pub optim: &'a Optim,
    /// The learning rate over the run.
    pub schedule: &'a Schedule,
    /// When to validate, by what, and when to stop.
    pub validate: &'a Validate,
    /// Whether less of the metric is better.
    pub lower_is_better: bool,
}

/// Where learning goes on, and until when.
pub(crate) struct Fit<'a, J> {
    /// What is learned.
    pub job: &'a J,
    /// Where the model folder goes.
    pub out: &'a Path,
    /// Where to compute.
    pub device: &'a Device,
    /// Stop after the step under way once this is set.
    pub interrupt: &'a AtomicBool,
    /// Stop after this many steps in all, as if interrupted; none: go on.
    pub max_steps: Option<u64>,
}

impl<J: Job> Fit<'_, J> {
    /// Trains to the end, from the newest checkpoint of `out` if there is one.
    ///
    /// # Errors
    /// If nothing is left to learn from, the loss is no longer a number, a checkpoint does not fit, or a file cannot be
    /// written.
    #[expect(clippy::too_many_lines, reason = "one loop, read from top to bottom")]
    pub fn train(&self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome, Error> {
        let (job, plan) = (self.job, self.job.plan());
        let parameters = job.parameters();
        let resumed = checkpoint::read(self.out, &parameters)?;
        if resumed.is_none() {
            job.write_folder()?;
        }
        let fresh = State::new(plan.fingerprint);
        let mut state = resumed.as_ref().map_or(fresh, |c| c.state.clone());
        if state.fingerprint != plan.fingerprint {
            return Err(Error::Resume {
                path: self.out.to_owned(),
                message: "the data is not what this run began with; restore it, or train into another folder".to_owned(),
            });
        }
        let values = match &resumed {
            Some(checkpoint) => checkpoint.values.clone(),
            None => job.fresh()?,
        };
        let count = values.values().map(Vec::len).sum();
        let mut model = job.model(&values, &self.device.clone().autodiff());
        let Optim::Adamw(optim) = plan.optim;
        let rate = |name: &str| job.rate(name);
        let mut optimizer = Optimizer::with_rates(optim.clone(), &model, rate);
        if let Some(checkpoint) = &resumed {
            optimizer.restore(&model, state.step, &checkpoint.moments);
        }
        for (name, codebook) in model.codebooks() {
            codebook.set_fired(state.fired.get(&name).cloned().unwrap_or_default());
        }
        drop((resumed, values));

        let lens = job.first_lens();
        let last = lens.last().copied().unwrap_or(0);
        if last == 0 {
            return Err(Error::Empty("there is nothing to learn from".to_owned()));
        }
        let steps = |len: &usize| len.div_ceil(plan.accumulate) as u64;
        let total_steps =
            lens.iter().map(steps).sum::<u64>() + (plan.epochs - lens.len() as u64) * steps(&last);
        observe(&Event::Started {
            state: &state,
            total_steps,
            parameters: count,
        });

        while !state.finished {
            let batches = job.batches(state.epoch, state.batch);
            let count = state.batch + batches.size_hint().0;
            let mut since = Instant::now();
            let mut pending = Pending::default();
            for batch in batches {
                let seed = pass_seed(plan.seed, state.epoch, state.batch);
                let loss = job.loss(&model, &batch, &mut Noise::new(seed));
                let gradients = job.gradients(&model, &loss);
                let value = loss.into_scalar::<f32>();
                if !value.is_finite() {
                    return Err(Error::Diverged {
                        step: state.step + 1,
                        loss: value,
                    });
                }
                optimizer.accumulate(&model, gradients);
                let size = job.size(&batch);
                pending.add(size, value);
                state.batch += 1;
                state.tokens += size.1 as u64;
                if pending.batches < plan.accumulate && state.batch < count {
                    continue;
                }
                let factor = plan.schedule.factor(state.step, total_steps);
                let (moved, step) = optimizer.step(model, factor);
                model = moved;
                state.step += 1;
                model = renewed(model, &mut optimizer, plan.seed, state.step);
                state.seconds += since.elapsed().as_secs_f64();
                since = Instant::now();
                observe(&Event::Step(StepReport {
                    step: state.step,
                    epochs: state.epoch as f64 + state.batch as f64 / count as f64,
                    loss: pending.loss / pending.batches as f32,
                    gradient_norm: step.gradient_norm,
                    lr: optim.lr * factor,
                    sequences: pending.sequences,
                    tokens: pending.tokens,
                    seconds: state.seconds,
                }));
                pending = Pending::default();
                if state.batch < count && self.must_stop(state.step) {
                    self.save(&parameters, &mut state, &model, &optimizer, observe)?;
                    return Ok(Outcome::Interrupted);
                }
            }
            state.epoch += 1;
            state.batch = 0;
            let last = state.epoch >= plan.epochs;
            let validates = last || state.epoch.is_multiple_of(plan.validate.every_epochs);
            if validates {
                self.validate(&model, &mut state, observe)?;
                state.finished = last
                    || plan
                        .validate
                        .patience
                        .is_some_and(|patience| state.validations_without_gain >= patience);
            }
            let stops = !state.finished && self.must_stop(state.step);
            if validates || stops {
                self.save(&parameters, &mut state, &model, &optimizer, observe)?;
            }
            if stops {
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Whether the run was asked to stop, or has taken the steps it was given.
    fn must_stop(&self, step: u64) -> bool {
        self.interrupt.load(Ordering::Relaxed) || self.max_steps.is_some_and(|max| step >= max)
    }

    fn validate(
        &self,
        model: &J::Model,
        state: &mut State,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        let plan = self.job.plan();
        let values = weights::values(model);
        let metrics = self.job.validate(&self.job.model(&values, self.device))?;
        let named = |(name, _): &&(String, f64)| *name == plan.validate.metric;
        let value = metrics.iter().find(named).map(|(_, value)| *value);
        let value = value.expect("the recipe's metric is one of those that are measured");
        let is_best = state.best.is_none_or(|best| {
            if plan.lower_is_better {
                value < best.value
            } else {
                value > best.value
            }
        });
        if is_best {
            state.best = Some(Best {
                value,
                epoch: state.epoch,
            });
            state.validations_without_gain = 0;
            self.job.keep(&values)?;
        } else {
            state.validations_without_gain += 1;
        }
        observe(&Event::Validated {
            state,
            metrics: &metrics,
            value,
            is_best,
        });
        Ok(())
    }

    fn save(
        &self,
        parameters: &[Parameter],
        state: &mut State,
        model: &J::Model,
        optimizer: &Optimizer,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        let codebooks = model.codebooks().into_iter();
        let fired = codebooks.map(|(name, codebook)| (name, codebook.fired()));
        state.fired = fired.collect();
        let (values, moments) = (weights::values(model), optimizer.moments(model));
        checkpoint::write(self.out, parameters, state, &values, &moments)?;
        observe(&Event::Saved { state });
        Ok(())
    }
}

/// The model with codes begun anew where it is time, and the optimiser without memory of them.
fn renewed<M: Module + Coded>(model: M, optimizer: &mut Optimizer, seed: u64, step: u64) -> M {
    let codebooks = model.codebooks().into_iter().zip(0..);
    let due = codebooks.filter(|((_, codebook), _)| {
        let every = codebook.dead_after();
        every.is_some_and(|every| step.is_multiple_of(every))
    });
    let renewed: BTreeMap<String, Renewed> = due
        .map(|((name, codebook), place)| (name, codebook.renewed(pass_seed(seed, step, place))))
        .collect();
    if renewed.values().all(|(codes, _)| codes.is_empty()) {
        return model;
    }
    optimizer.renew(model, &renewed)
}

/// Sums over the batches of a step.
#[derive(Default)]
struct Pending {
    batches: usize,
    loss: f32,
    sequences: usize,
    tokens: usize,
}

impl Pending {
    fn add(&mut self, (sequences, tokens): (usize, usize), loss: f32) {
        self.batches += 1;
        self.loss += loss;
        self.sequences += sequences;
        self.tokens += tokens;
    }
}

/// The seed of one forward pass. Distinct passes get distinct seeds by an odd multiplier each.
fn pass_seed(seed: u64, epoch: u64, batch: usize) -> u64 {
    seed.wrapping_add(epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add((batch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
}
