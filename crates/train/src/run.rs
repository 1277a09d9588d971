//! Running a recipe's training stage: epochs of steps, validation, checkpoints.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use cloze_data::plan::BatchPlan;
use cloze_data::prefetch::Prefetch;
use cloze_data::{Dataset, batch::PackedBatch};
use cloze_nn::{Encoder, Noise, objective, weights};
use cloze_spec::Recipe;
use cloze_spec::folder::{self, Config, write_atomically};
use cloze_spec::optim::Optim;
use cloze_spec::stage::{Stage, Train};

use crate::checkpoint::{self, Best, State};
use crate::metric::RankingMetrics;
use crate::optim::Optimizer;
use crate::{Error, evaluate, safetensors};

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
        /// What was found.
        metrics: &'a RankingMetrics,
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

/// A training run: what to do, on what, and where to.
#[derive(Debug)]
pub struct Run<'a> {
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// The prepared data.
    pub dataset: &'a Dataset,
    /// Where the model folder goes.
    pub out: &'a Path,
    /// Where to compute.
    pub device: Device,
    /// Stop after the step under way once this is set.
    pub interrupt: &'a AtomicBool,
    /// Stop after this many steps in all, as if interrupted; none: go on.
    pub max_steps: Option<u64>,
}

impl Run<'_> {
    /// Trains to the end, from the newest checkpoint of `out` if there is one.
    ///
    /// The folder holds the best weights so far as soon as there has been a validation.
    ///
    /// # Errors
    /// If nothing is left to learn from, the loss is no longer a number, a checkpoint does not fit, or a file cannot be
    /// written.
    #[expect(clippy::too_many_lines, reason = "one loop, read from top to bottom")]
    pub fn train(&self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome, Error> {
        let Stage::Train(stage) = &self.recipe.stage[0];
        let items = self.dataset.vocabulary.len();
        let train = &self.dataset.split.train;
        let resumed = checkpoint::read(self.out, self.recipe, items)?;
        if resumed.is_none() {
            self.write_folder()?;
        }
        let mut state = resumed
            .as_ref()
            .map_or_else(|| self.fresh_state(), |c| c.state.clone());
        if state.fingerprint != self.dataset.fingerprint {
            return Err(Error::Resume {
                path: self.out.to_owned(),
                message: "the data is not what this run began with; restore it, or train into another folder".to_owned(),
            });
        }
        let device = self.device.clone().autodiff();
        let fresh = || weights::init(&self.recipe.model, items, self.recipe.seed);
        let values = resumed.as_ref().map_or_else(fresh, |c| c.values.clone());
        let parameters = values.values().map(Vec::len).sum();
        let mut encoder = Encoder::new(&self.recipe.model, items, &values, &device);
        let Optim::Adamw(optim) = &stage.optim;
        let mut optimizer = Optimizer::new(optim.clone(), &encoder);
        if let Some(checkpoint) = &resumed {
            optimizer.restore(&encoder, state.step, &checkpoint.moments);
        }
        drop((resumed, values));

        let first = BatchPlan::new(
            train,
            items,
            self.recipe.model.max_len,
            stage,
            self.recipe.seed,
            0,
        );
        let batches = first.len();
        if batches == 0 {
            return Err(Error::Empty(
                "no user has enough training items to predict one from another".to_owned(),
            ));
        }
        let total_steps = stage.epochs * batches.div_ceil(stage.accumulate) as u64;
        observe(&Event::Started {
            state: &state,
            total_steps,
            parameters,
        });

        while !state.finished {
            let plan = first.at_epoch(state.epoch);
            let count = plan.len();
            let mut since = Instant::now();
            let mut pending = Pending::default();
            for batch in Prefetch::new(plan, state.batch) {
                let seed = pass_seed(self.recipe.seed, state.epoch, state.batch);
                let loss = objective::loss(
                    &encoder,
                    &batch,
                    stage.objective.loss(),
                    &mut Noise::new(seed),
                );
                let gradients = loss.backward();
                let value = loss.into_scalar::<f32>();
                if !value.is_finite() {
                    return Err(Error::Diverged {
                        step: state.step + 1,
                        loss: value,
                    });
                }
                optimizer.accumulate(&encoder, gradients);
                pending.add(&batch, value);
                state.batch += 1;
                state.tokens += batch.tokens.len() as u64;
                if pending.batches < stage.accumulate && state.batch < count {
                    continue;
                }
                let factor = stage.schedule.factor(state.step, total_steps);
                let (moved, step) = optimizer.step(encoder, factor);
                encoder = moved;
                state.step += 1;
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
                    self.save(&state, &encoder, &optimizer, observe)?;
                    return Ok(Outcome::Interrupted);
                }
            }
            state.epoch += 1;
            state.batch = 0;
            let last = state.epoch >= stage.epochs;
            let validates = last || state.epoch.is_multiple_of(stage.validate.every_epochs);
            if validates {
                self.validate(stage, &encoder, &mut state, observe)?;
                state.finished = last
                    || stage
                        .validate
                        .patience
                        .is_some_and(|patience| state.validations_without_gain >= patience);
            }
            let stops = !state.finished && self.must_stop(state.step);
            if validates || stops {
                self.save(&state, &encoder, &optimizer, observe)?;
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

    fn fresh_state(&self) -> State {
        State {
            fingerprint: self.dataset.fingerprint,
            epoch: 0,
            batch: 0,
            step: 0,
            best: None,
            validations_without_gain: 0,
            tokens: 0,
            seconds: 0.0,
            finished: false,
        }
    }

    /// What does not change while training: vocabulary, recipe and architecture. The weights come with validation.
    fn write_folder(&self) -> Result<(), Error> {
        let io = |source| cloze_spec::Error::Io {
            path: self.out.to_owned(),
            source,
        };
        std::fs::create_dir_all(self.out).map_err(io)?;
        let config = Config {
            model_type: Config::MODEL_TYPE.to_owned(),
            items: self.dataset.vocabulary.len(),
            model: self.recipe.model.clone(),
            exclude_seen: self.recipe.evaluate.exclude_seen,
        };
        let text = |name: &str, text: String| {
            write_atomically(&self.out.join(name), |file| {
                std::io::Write::write_all(file, text.as_bytes())
            })
        };
        text(folder::RECIPE, self.recipe.to_toml())?;
        text(folder::CONFIG, config.to_json())?;
        self.dataset
            .vocabulary
            .write(&self.out.join(folder::ITEMS))?;
        Ok(())
    }

    fn validate(
        &self,
        stage: &Train,
        encoder: &Encoder,
        state: &mut State,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        let items = self.dataset.vocabulary.len();
        let values = encoder.values();
        let model = &self.recipe.model;
        let inner = Encoder::new(model, items, &values, &self.device);
        let metrics = evaluate::validation(&inner, self.recipe, self.dataset);
        let value = metrics
            .named(&stage.validate.metric)
            .expect("the recipe's metric is validated with its cutoffs");
        let is_best = state.best.is_none_or(|best| value > best.value);
        if is_best {
            state.best = Some(Best {
                value,
                epoch: state.epoch,
            });
            state.validations_without_gain = 0;
            safetensors::write(
                &self.out.join(folder::WEIGHTS),
                &checkpoint::tensors(model, items, &values),
            )?;
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
        state: &State,
        encoder: &Encoder,
        optimizer: &Optimizer,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        let items = self.dataset.vocabulary.len();
        checkpoint::write(
            self.out,
            self.recipe,
            items,
            state,
            &encoder.values(),
            &optimizer.moments(encoder),
        )?;
        observe(&Event::Saved { state });
        Ok(())
    }
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
    fn add(&mut self, batch: &PackedBatch, loss: f32) {
        self.batches += 1;
        self.loss += loss;
        self.sequences += batch.offsets.len() - 1;
        self.tokens += batch.tokens.len();
    }
}

/// The seed of one forward pass. Distinct passes get distinct seeds by an odd multiplier each.
fn pass_seed(seed: u64, epoch: u64, batch: usize) -> u64 {
    seed.wrapping_add(epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add((batch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
}
