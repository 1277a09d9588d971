//! Running a recipe over items.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};
use cloze_data::plan::BatchPlan;
use cloze_data::prefetch::Prefetch;
use cloze_data::{Dataset, batch::PackedBatch};
use cloze_nn::weights::Values;
use cloze_nn::{Encoder, Noise, objective, weights};
use cloze_spec::Recipe;
use cloze_spec::folder::{self, Config, write_text};
use cloze_spec::inventory::{Parameter, parameters};
use cloze_spec::recipe::Document;
use cloze_spec::stage::{Stage, Train};

use crate::fit::{Fit, Job, Plan};
use crate::{Error, checkpoint, evaluate, safetensors};

pub use crate::fit::{Event, Outcome, StepReport};

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
    pub fn train(&self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome, Error> {
        let first = BatchPlan::new(
            &self.dataset.split.train,
            self.items(),
            self.recipe.model.max_len,
            self.stage(),
            self.recipe.seed,
            0,
        );
        if first.is_empty() {
            return Err(Error::Empty(
                "no user has enough training items to predict one from another".to_owned(),
            ));
        }
        let fit = Fit {
            job: &Items { run: self, first },
            out: self.out,
            device: &self.device,
            interrupt: self.interrupt,
            max_steps: self.max_steps,
        };
        fit.train(observe)
    }

    fn items(&self) -> usize {
        self.dataset.vocabulary.len()
    }

    fn stage(&self) -> &Train {
        let Stage::Train(stage) = &self.recipe.stage[0];
        stage
    }
}

struct Items<'a> {
    run: &'a Run<'a>,
    /// The batches of the first epoch.
    first: BatchPlan,
}

impl Job for Items<'_> {
    type Model = Encoder;
    type Batch = PackedBatch;

    fn plan(&self) -> Plan<'_> {
        let stage = self.run.stage();
        Plan {
            seed: self.run.recipe.seed,
            fingerprint: self.run.dataset.fingerprint,
            epochs: stage.epochs,
            accumulate: stage.accumulate,
            optim: &stage.optim,
            schedule: &stage.schedule,
            validate: &stage.validate,
            lower_is_better: false,
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&self.run.recipe.model, self.run.items())
    }

    fn fresh(&self) -> Result<Values, Error> {
        let recipe = self.run.recipe;
        Ok(weights::init(&recipe.model, self.run.items(), recipe.seed))
    }

    fn model(&self, values: &Values, device: &Device) -> Encoder {
        Encoder::new(&self.run.recipe.model, self.run.items(), values, device)
    }

    fn first_lens(&self) -> Vec<usize> {
        vec![self.first.len()]
    }

    fn batches(&self, epoch: u64, start: usize) -> Prefetch<PackedBatch> {
        Prefetch::new(self.first.at_epoch(epoch), start)
    }

    fn size(&self, batch: &PackedBatch) -> (usize, usize) {
        (batch.len(), batch.tokens.len())
    }

    fn loss(&self, model: &Encoder, batch: &PackedBatch, noise: &mut Noise) -> Tensor<1> {
        objective::loss(model, batch, self.run.stage().objective.loss(), noise)
    }

    fn validate(&self, model: &Encoder) -> Result<Vec<(String, f64)>, Error> {
        let metrics = evaluate::validation(model, self.run.recipe, self.run.dataset);
        Ok(metrics.values().into_iter().collect())
    }

    /// Vocabulary, recipe and architecture. The weights come with validation.
    fn write_folder(&self) -> Result<(), Error> {
        let Run {
            recipe,
            dataset,
            out,
            ..
        } = self.run;
        let io = |source| cloze_spec::Error::Io {
            path: (*out).to_owned(),
            source,
        };
        std::fs::create_dir_all(out).map_err(io)?;
        let config = Config {
            model_type: Config::MODEL_TYPE.to_owned(),
            items: self.run.items(),
            model: recipe.model.clone(),
            exclude_seen: recipe.evaluate.exclude_seen,
        };
        write_text(&out.join(folder::RECIPE), &recipe.to_toml())?;
        write_text(&out.join(folder::CONFIG), &config.to_json())?;
        dataset.vocabulary.write(&out.join(folder::ITEMS))?;
        Ok(())
    }

    fn keep(&self, values: &Values) -> Result<(), Error> {
        let tensors = checkpoint::tensors(&self.parameters(), values);
        safetensors::write(&self.run.out.join(folder::WEIGHTS), &tensors)
    }
}
