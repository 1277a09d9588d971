//! Training encoders of texts: from a pretrained one or from nothing, for blanks, labels, words or answers.
//!
//! [`Preparation::new`] reads all that a recipe names; [`TextRun::train`] learns and leaves a folder that `transformers`
//! opens; [`judge::Judged`] says how good it is, and [`baseline::Baselines`] what it has to beat.

pub mod baseline;
mod evolution;
pub mod features;
pub mod judge;
mod trained;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Gradients, Tensor};
use cloze_data::prefetch::Prefetch;
use cloze_data::text::Tokenizer;
use cloze_data::text::batch::TextBatch;
use cloze_data::text::examples::{Growth, TextPlan};
use cloze_data::text::learn::{Ask, TextData};
use cloze_data::text::store;
use cloze_nn::Noise;
use cloze_nn::pretrained::{self, LabelLoss, Pretrained, TRANSITIONS};
use cloze_nn::weights::{self, Values};
use cloze_runtime::model::Checkpoint;
use cloze_spec::TextRecipe;
use cloze_spec::encoder::{self, DropoutRates, Task};
use cloze_spec::folder::{self, copy_into, write_text};
use cloze_spec::hugging_face::{self, Draft};
use cloze_spec::inventory::{Parameter, encoder_parameters, encoder_starts};
use cloze_spec::recipe::Document;
use cloze_spec::text::{
    Chunked, Decode, Evolution, Generator, Objective, ReadOut, Readout, RecurrentReadout, Scaffold,
    Train, Transcribed, Transcriber, lower_is_better,
};

use crate::fit::{Event, Fit, Job, Outcome, Plan};
use crate::safetensors::{self, Tensors};
use crate::{Error, checkpoint};
use judge::{Aim, Judged, Predictions};

pub use trained::{Trained, parts};

/// All that a recipe over texts names, read.
pub struct Preparation {
    /// The recipe.
    pub recipe: TextRecipe,
    /// Texts to learn from and to judge by.
    pub data: TextData,
    tokenizer: Tokenizer,
    tokenizer_files: Vec<PathBuf>,
    draft: Draft,
    scaffold: Scaffold,
    /// What puts tokens in the place of others, as a folder of its own.
    generator: Option<Draft>,
    base: Option<Checkpoint>,
}

/// Parameters that the encoder in a folder does without, for judging it as it was judged when it learned.
const SCAFFOLD: &str = "scaffold.safetensors";
/// The folder of a generator, within that of the encoder.
const GENERATOR: &str = "generator";

impl Preparation {
    /// Opens the encoder to begin with, in the folder `base` if the recipe names one, and reads the texts. Tokens that are not to
    /// be held in memory go to `out`, the folder of the run.
    ///
    /// # Errors
    /// If the recipe names nothing to begin with, if a folder or file cannot be read, if settings do not fit together, or if the texts are not what the recipe says.
    pub fn new(mut recipe: TextRecipe, base: Option<&Path>, out: &Path) -> Result<Self, Error> {
        let model = &recipe.model;
        if base.is_none() && (model.config.is_empty() || model.tokenizer.is_none()) {
            return Err(Error::Empty(
                if model.config.is_empty() {
                    "the recipe names no encoder to begin with; name its folder, or its name on the hub, with --model"
                } else {
                    "a new encoder needs a tokenizer; name its folder with --tokenizer (`cloze tokenizer train` makes one)"
                }
                .to_owned(),
            ));
        }
        let base = base.map(Checkpoint::open).transpose()?;
        let files = match (&base, &recipe.model.tokenizer) {
            (Some(base), _) => base.folder.tokenizer.clone(),
            (None, Some(folder)) => hugging_face::tokenizer_files(folder),
            (None, None) => Vec::new(),
        };
        let home = files.first().and_then(|file| file.parent());
        let home = home.or(recipe.model.tokenizer.as_deref());
        let tokenizer = Tokenizer::open(home.unwrap_or(Path::new(".")))?;
        let train = recipe.train();
        let longest = base
            .as_ref()
            .map_or(usize::MAX, |base| base.encoder.max_len);
        let data = TextData::prepare(&Ask {
            texts: &recipe.data,
            objective: &train.objective,
            tokenizer: &tokenizer,
            max_len: recipe.model.max_len.min(longest),
            seed: recipe.seed,
            place: store::Place {
                folder: out,
                tokenizer: &files,
            },
        })?;
        let task = task(&train.objective, &data.labels);
        let labels = data.labels.len();
        if let Some(tags) = data.tags() {
            recipe.settle(tags);
        }
        let objective = &recipe.train().objective;
        let draft = if let Some(base) = &base {
            Draft::of(&base.folder, &base.encoder, task)?
        } else {
            let config = serde_json::to_value(&recipe.model.config);
            let Ok(serde_json::Value::Object(mut config)) = config else {
                unreachable!("a table of TOML is an object of JSON");
            };
            if let Some(pad) = tokenizer.pad() {
                config.entry("pad_token_id").or_insert(pad.into());
            }
            Draft::new(config, tokenizer.vocabulary_len(), task)?
        };
        let (draft, generator) = match objective {
            Objective::MaskedToken(masked) if masked.pair.is_some() => (draft.with_pair()?, None),
            Objective::ReplacedToken(replaced) => {
                let generator = draft.generator(replaced.generator_share)?;
                (draft.discriminator()?, Some(generator))
            }
            Objective::Position(_) => {
                check_without_positions(draft.encoder())?;
                (draft, None)
            }
            Objective::MaskedToken(_)
            | Objective::Sequence(_)
            | Objective::Token(_)
            | Objective::Transcript(_)
            | Objective::Span(_) => (draft, None),
        };
        let scaffold = Scaffold::of(
            objective,
            recipe.model.max_len.min(longest),
            labels,
            &data.table,
            generator.as_ref().map(|draft| draft.encoder().clone()),
        );
        if let Some(fault) = scaffold.fault(draft.encoder()) {
            return Err(refused(format!("objective.{fault}")));
        }
        check_codes(recipe.train(), draft.encoder())?;
        let (found, fits) = (recipe.model.max_len, draft.encoder().max_len);
        if base.is_none() && found > fits {
            return Err(refused(format!(
                "model.max_len: expected at most {fits}, as model.config has it, found {found}"
            )));
        }
        Ok(Self {
            recipe,
            data,
            tokenizer,
            tokenizer_files: files,
            draft,
            scaffold,
            generator,
            base,
        })
    }

    /// What is computed.
    pub fn encoder(&self) -> &encoder::Encoder {
        self.draft.encoder()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What is to be learned.
    pub fn aim(&self) -> Aim<'_> {
        Aim {
            objective: self.recipe.objective(),
            batch: self.recipe.batch(),
            labels: &self.data.labels,
            blanks: self.data.blanks.as_ref(),
        }
    }

    /// Of the encoder, without updates.
    fn parameters(&self) -> Vec<Parameter> {
        encoder_parameters(self.draft.encoder())
    }

    /// Of what stands around the encoder.
    fn further(&self) -> Vec<Parameter> {
        self.scaffold.parameters(self.draft.encoder())
    }

    /// The parameters of updates of low rank.
    fn updates(&self) -> Vec<Parameter> {
        let lora = self.recipe.model.lora.as_ref();
        lora.map_or_else(Vec::new, |lora| lora.parameters(&self.parameters()))
    }

    /// How labels follow each other, where that is learned.
    fn transitions(&self) -> Option<Parameter> {
        match self.recipe.train().objective.decode() {
            Decode::Greedy | Decode::Constrained => None,
            Decode::Crf(_) => Some(pretrained::transitions(self.draft.encoder())),
        }
    }

    /// New values, those of the base put over them where it has the same part.
    fn values(&self) -> Result<Values, Error> {
        let parameters = self.parameters();
        let model = &self.recipe.model;
        let all = [parameters.clone(), self.further()].concat();
        let encoder = self.draft.encoder();
        let deviation = model.deviation(encoder.width);
        let mut values = weights::fresh(&all, deviation, self.recipe.seed);
        let starts = [encoder_starts(encoder), self.scaffold.starts(encoder)].concat();
        weights::begin(&mut values, &starts, self.recipe.seed);
        // Updates begin as nothing: `b` is 0.
        let updates = self.updates();
        let fresh = weights::fresh(&updates, deviation, self.recipe.seed);
        values.extend(fresh.into_iter().map(|(name, mut of)| {
            if name.rsplit('.').next() == Some("b") {
                of.fill(0.0);
            }
            (name, of)
        }));
        // Every sequence is as likely as any other.
        let transitions = self.transitions().into_iter();
        values.extend(transitions.map(|of| (of.name, vec![0.0; of.shape.iter().product()])));
        let Some(base) = &self.base else {
            self.take_positions(&mut values);
            return Ok(values);
        };
        let old = encoder_parameters(&base.encoder);
        for parameter in parameters {
            let is_head = parameter.name.starts_with("head.");
            if old.contains(&parameter) && (!is_head || self.keeps_head(&parameter.name)) {
                let values = values.get_mut(&parameter.name).expect("all were made");
                base.read(&parameter, values)?;
            }
        }
        self.take_positions(&mut values);
        Ok(values)
    }

    /// Where tokens are to say where they stand, the table of positions is 0 and stays so: the encoder that is written computes
    /// what it did when it learned, until it learns positions.
    fn take_positions(&self, values: &mut Values) {
        if self.scaffold.positions.is_some()
            && let Some(table) = values.get_mut("embed.position.weight")
        {
            table.fill(0.0);
        }
    }

    /// Whether a part of the base's head means the same in the new one.
    fn keeps_head(&self, name: &str) -> bool {
        let task = |encoder: &encoder::Encoder| encoder.head.as_ref().map(|head| head.task.clone());
        let old = self.base.as_ref().and_then(|base| task(&base.encoder));
        match (old, task(self.draft.encoder())) {
            (Some(Task::Vector), Some(Task::Sequence(_))) => name.starts_with("head.transform."),
            (Some(old), Some(new)) => std::mem::discriminant(&old) == std::mem::discriminant(&new),
            _ => false,
        }
    }

    /// What is dropped in training: as the recipe says, or else as the encoder's settings say.
    fn rates(&self) -> DropoutRates {
        let own = self.recipe.model.dropout;
        own.unwrap_or_else(|| self.draft.dropout())
    }
}

/// What the head is for.
fn task(objective: &Objective, labels: &[String]) -> Task {
    match objective {
        Objective::MaskedToken(_) | Objective::ReplacedToken(_) => Task::MaskedToken,
        Objective::Position(_) => Task::Vector,
        Objective::Sequence(sequence) => Task::Sequence(encoder::Sequence {
            labels: labels.to_vec(),
            problem: sequence.problem,
        }),
        Objective::Token(_) => Task::Token {
            labels: labels.to_vec(),
        },
        Objective::Transcript(transcript) => match transcript.decode {
            Transcriber::Ctc => Task::Token {
                labels: [labels, &[Transcribed::BLANK.to_owned()]].concat(),
            },
            Transcriber::Attention(_) => Task::Vector,
        },
        Objective::Span(_) => Task::Span,
    }
}

/// Refuses an encoder that knows where tokens stand without a table of positions.
fn check_without_positions(encoder: &encoder::Encoder) -> Result<(), Error> {
    let knows = encoder.embed.positions.is_none()
        || encoder.relative.is_some()
        || encoder.layers.iter().any(|layer| {
            // Mixers of the recipes know more or less of order, each in its own way.
            layer.attention().is_none_or(|layer| {
                layer.attention.position != encoder::Position::None
                    || layer.attention.window.is_some()
                    || layer.convolution.is_some()
            })
        });
    if !knows {
        return Ok(());
    }
    Err(refused(
        "model: expected an encoder whose positions are a table, such as bert or roberta, so that tokens can be without, \
         found one with others"
            .to_owned(),
    ))
}

/// Refuses codes where layers are computed twice: they are chosen once.
fn check_codes(train: &Train, encoder: &encoder::Encoder) -> Result<(), Error> {
    let speaks_in_codes = |layer: &encoder::Layer| match layer {
        encoder::Layer::Mixer(layer) => layer.parts.codebook.is_some(),
        encoder::Layer::Attention(_) => false,
    };
    if !train.gradient_checkpointing || !encoder.layers.iter().any(speaks_in_codes) {
        return Ok(());
    }
    Err(refused(
        "stage.gradient_checkpointing: expected false beside a codebook, whose codes are chosen once, found true"
            .to_owned(),
    ))
}

/// A recipe that does not fit what it is of.
pub(crate) fn refused(message: String) -> Error {
    let place = "recipe".to_owned();
    cloze_spec::Error::Recipe { place, message }.into()
}

/// A training run on texts.
pub struct TextRun<'a> {
    /// What is learned, and from what.
    pub preparation: &'a Preparation,
    /// Where the model folder goes.
    pub out: &'a Path,
    /// Where to compute: what [`Place::in_precision`](crate::Place::in_precision) gives for that of the recipe.
    pub device: Device,
    /// Stop after the step under way once this is set.
    pub interrupt: &'a AtomicBool,
    /// Stop after this many steps in all, as if interrupted; none: go on.
    pub max_steps: Option<u64>,
}

impl TextRun<'_> {
    /// Trains to the end, from the newest checkpoint of the folder if there is one; the folder holds the best weights so
    /// far as soon as there has been a validation.
    ///
    /// # Errors
    /// If the loss is no longer a number, a checkpoint does not fit, or a file cannot be written.
    pub fn train(&self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome, Error> {
        let fit = Fit {
            job: self,
            out: self.out,
            device: &self.device,
            interrupt: self.interrupt,
            max_steps: self.max_steps,
        };
        fit.train(observe)
    }

    /// Which texts an epoch takes, in which order.
    fn epoch(&self, epoch: u64) -> TextPlan {
        let Preparation { recipe, data, .. } = self.preparation;
        let train = recipe.train();
        TextPlan::shuffled(
            &data.train,
            data.blanks.as_ref(),
            data.mixture.as_ref(),
            train.batch,
            train.batch_warmup.map(|warmup| Growth {
                warmup,
                epochs: train.epochs,
            }),
            (recipe.seed, epoch),
        )
    }

    /// The same values, those behind the encoder searched for: what has the smallest loss on the run's first batch.
    fn evolved(&self, values: &Values, start: Evolution) -> Values {
        let Preparation { recipe, .. } = self.preparation;
        let is_new = |name: &str| name.starts_with("scaffold.") || name.starts_with("head.");
        let mut parameters = self.parameters();
        parameters.retain(|parameter| is_new(&parameter.name));
        let joined = |values: &Values| -> Vec<f32> {
            let own = parameters.iter().map(|parameter| &values[&parameter.name]);
            own.flatten().copied().collect()
        };
        let with = |all: &[f32]| {
            let (mut values, mut rest) = (values.clone(), all);
            for Parameter { name, shape } in &parameters {
                let (own, others) = rest.split_at(shape.iter().product());
                values.insert(name.clone(), own.to_vec());
                rest = others;
            }
            values
        };
        let width = self.preparation.encoder().width;
        let deviation = recipe.model.deviation(width);
        // The draw that learning would begin with, and wider ones, up to eight times.
        let others = (1..start.population).map(|at| {
            let wider = 8_f32.powf(at as f32 / (start.population - 1) as f32);
            let seed = recipe.seed.wrapping_add(at as u64);
            joined(&weights::fresh(&parameters, deviation * wider, seed))
        });
        let population = std::iter::once(joined(values)).chain(others).collect();
        let batch = self.epoch(0).build(0);
        let best = evolution::evolve(start, population, recipe.seed, &mut |all| {
            let model = self.model(&with(all), &self.device);
            let loss = self.loss_at(&model, &batch, DropoutRates::NONE, &mut Noise::none());
            f64::from(loss.into_scalar::<f32>())
        });
        with(&best)
    }

    fn loss_at(
        &self,
        model: &Pretrained,
        batch: &TextBatch,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        let Preparation { recipe, data, .. } = self.preparation;
        let settings = recipe.train().objective.label_loss();
        let how = LabelLoss {
            settings: &settings,
            class_weights: data.class_weights.as_deref(),
        };
        model.loss(batch, how, rates, noise)
    }

    /// The encoder with the best weights that the run has found.
    ///
    /// # Errors
    /// If the run has not validated yet, or the folder is damaged.
    pub fn best(&self) -> Result<Pretrained, Error> {
        let best = Checkpoint::open(self.out)?;
        let Preparation {
            scaffold, draft, ..
        } = self.preparation;
        let scaffold = scaffold.judged();
        let mut values = trained::values(&best, self.preparation.parameters())?;
        values.extend(trained::further(
            self.out,
            &scaffold.parameters(draft.encoder()),
        )?);
        let encoder = Arc::new(draft.encoder().clone());
        Ok(Pretrained::in_scaffold(
            encoder,
            &scaffold,
            None,
            &values,
            &self.device,
        ))
    }
}

impl Job for TextRun<'_> {
    type Model = Pretrained;
    type Batch = TextBatch;

    fn plan(&self) -> Plan<'_> {
        let recipe = &self.preparation.recipe;
        let train = recipe.train();
        Plan {
            seed: recipe.seed,
            fingerprint: self.preparation.data.fingerprint,
            epochs: train.epochs,
            accumulate: train.accumulate,
            optim: &train.optim,
            schedule: &train.schedule,
            validate: &train.validate,
            lower_is_better: lower_is_better(&train.validate.metric),
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.preparation.parameters();
        parameters.extend(self.preparation.further());
        parameters.extend(self.preparation.updates());
        parameters.extend(self.preparation.transitions());
        parameters
    }

    fn fresh(&self) -> Result<Values, Error> {
        let values = self.preparation.values()?;
        match self.preparation.recipe.objective().readout() {
            Some(Readout::Recurrent(RecurrentReadout {
                start: Some(start), ..
            })) => Ok(self.evolved(&values, start)),
            Some(_) | None => Ok(values),
        }
    }

    fn model(&self, values: &Values, device: &Device) -> Pretrained {
        let encoder = Arc::new(self.preparation.encoder().clone());
        let model = &self.preparation.recipe.model;
        let lora = model.lora.as_ref();
        let scaffold = &self.preparation.scaffold;
        let built = Pretrained::in_scaffold(encoder, scaffold, lora, values, device);
        let built = if self.preparation.recipe.train().gradient_checkpointing {
            built.with_checkpoints()
        } else {
            built
        };
        built.freeze(|name| {
            let is_new = [".lora.", "head.", "scaffold."]
                .iter()
                .any(|part| name.contains(part));
            let stays = lora.is_some() && !is_new;
            stays || model.freeze.iter().any(|start| name.starts_with(&**start))
        })
    }

    fn rate(&self, parameter: &str) -> f64 {
        if let (TRANSITIONS, Decode::Crf(crf)) = (
            parameter,
            self.preparation.recipe.train().objective.decode(),
        ) {
            return crf.rate;
        }
        let decay = self.preparation.recipe.train().layer_decay;
        let layers = self.preparation.encoder().layers.len();
        let layer = parameter
            .strip_prefix("layer.")
            .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let below = match layer {
            Some(layer) => layers - layer,
            None if parameter.starts_with("embed.") || parameter.starts_with("relative.") => {
                layers + 1
            }
            None => 0,
        };
        decay.powi(below as i32)
    }

    fn first_lens(&self) -> Vec<usize> {
        let train = self.preparation.recipe.train();
        let growing = train.batch_warmup.map_or(0.0, |warmup| warmup.share);
        let growing = (growing * train.epochs as f64).ceil() as u64;
        let epochs = 0..train.epochs.min(growing + 1);
        epochs.map(|epoch| self.epoch(epoch).len()).collect()
    }

    fn batches(&self, epoch: u64, start: usize) -> Prefetch<TextBatch> {
        Prefetch::of_texts(self.epoch(epoch), start)
    }

    fn size(&self, batch: &TextBatch) -> (usize, usize) {
        (batch.len(), batch.tokens.len())
    }

    fn loss(&self, model: &Pretrained, batch: &TextBatch, noise: &mut Noise) -> Tensor<1> {
        self.loss_at(model, batch, self.preparation.rates(), noise)
    }

    fn gradients(&self, model: &Pretrained, loss: &Tensor<1>) -> Vec<Gradients> {
        model.gradients(loss)
    }

    fn validate(&self, model: &Pretrained) -> Result<Vec<(String, f64)>, Error> {
        let (aim, examples) = (self.preparation.aim(), &self.preparation.data.validation);
        let predictions = Predictions::of(aim, model, examples);
        let judged = Judged::new(aim.labels, examples, predictions)?;
        let mut metrics = judged.metrics();
        let decisive = self.preparation.recipe.metric();
        for corpus in &self.preparation.data.corpora {
            let own = judged.part(corpus.validation.clone()).into_iter();
            metrics.extend(
                own.filter(|(name, _)| name == decisive)
                    .map(|(name, value)| (format!("{name} of {}", corpus.name), value)),
            );
        }
        Ok(metrics)
    }

    /// Settings, tokenizer and recipe. The weights come with validation.
    fn write_folder(&self) -> Result<(), Error> {
        let Preparation {
            recipe,
            tokenizer_files,
            draft,
            generator,
            base,
            ..
        } = self.preparation;
        let inner = self.out.join(GENERATOR);
        let folders =
            std::iter::once((self.out, draft)).chain(generator.as_ref().map(|of| (&*inner, of)));
        for (out, draft) in folders {
            std::fs::create_dir_all(out).map_err(|source| cloze_spec::Error::Io {
                path: out.to_owned(),
                source,
            })?;
            copy_into(tokenizer_files, out)?;
            // A pretrained folder says so itself.
            if base.is_none()
                && draft
                    .encoder()
                    .embed
                    .segments
                    .is_none_or(|segments| segments < 2)
            {
                hugging_face::leave_segments_out(out)?;
            }
            let mut config = draft.config().clone();
            if let Some(chunks) = recipe.objective().chunks() {
                let max_len = recipe.model.max_len.min(draft.encoder().max_len);
                let chunked = serde_json::to_value(Chunked { max_len, chunks });
                let chunked = chunked.expect("numbers and a name");
                config.insert(Chunked::KEY.to_owned(), chunked);
            }
            if let Some(readout) = recipe.objective().readout() {
                let table = self.preparation.data.table.clone();
                let readout = serde_json::to_value(ReadOut { readout, table });
                let readout = readout.expect("names and numbers");
                config.insert(ReadOut::KEY.to_owned(), readout);
            }
            if let Objective::Transcript(transcript) = recipe.objective() {
                let transcribed = serde_json::to_value(Transcribed {
                    labels: self.preparation.data.labels.clone(),
                    separator: recipe.data.label_separator,
                    decode: transcript.decode,
                });
                let transcribed = transcribed.expect("names and numbers");
                config.insert(Transcribed::KEY.to_owned(), transcribed);
            }
            let config = serde_json::to_string_pretty(&config);
            let config = config.expect("an object of JSON can be written");
            write_text(&out.join(folder::CONFIG), &config)?;
        }
        write_text(&self.out.join(folder::RECIPE), &recipe.to_toml())?;
        Ok(())
    }

    fn keep(&self, values: &Values) -> Result<(), Error> {
        let mut values = values.clone();
        if let Some(lora) = &self.preparation.recipe.model.lora {
            merge(&mut values, lora.scale(), &self.preparation.updates());
        }
        if self.preparation.recipe.train().objective.decode() != Decode::Greedy {
            let shape = pretrained::transitions(self.preparation.encoder()).shape;
            // Where none are learned, the scheme of the labels alone says what follows what.
            let none = || vec![0.0; shape.iter().product()];
            let steps = values.get(TRANSITIONS).cloned().unwrap_or_else(none);
            let tensors = [("transitions".to_owned(), (shape, steps))].into();
            safetensors::write(&self.out.join(hugging_face::TRANSITIONS), &tensors)?;
        }
        let Preparation {
            draft,
            scaffold,
            generator,
            ..
        } = self.preparation;
        let judged = scaffold.judged().parameters(draft.encoder());
        if !judged.is_empty() {
            let tensors = checkpoint::tensors(&judged, &values);
            safetensors::write(&self.out.join(SCAFFOLD), &tensors)?;
        }
        let all = [self.preparation.parameters(), self.preparation.further()].concat();
        let inventory = checkpoint::tensors(&all, &values);
        if let Some(draft) = generator {
            let tensors = tensors(draft, &inventory, Generator::source);
            safetensors::write(&self.out.join(GENERATOR).join(folder::WEIGHTS), &tensors)?;
        }
        let tensors = tensors(draft, &inventory, str::to_owned);
        safetensors::write(&self.out.join(folder::WEIGHTS), &tensors)
    }
}

/// The tensors of a folder, of the parameters that `source` names.
fn tensors(draft: &Draft, inventory: &Tensors, source: impl Fn(&str) -> String) -> Tensors {
    let targets = draft.tensors().into_iter();
    targets
        .map(|target| {
            let (shape, of) = &inventory[&source(&target.parameter)];
            let row: usize = shape.iter().skip(1).product();
            let rows = target.rows.iter();
            let values = rows.flat_map(|rows| &of[rows.start * row..rows.end * row]);
            (target.tensor, (target.shape, values.copied().collect()))
        })
        .collect()
}

/// Puts updates of low rank into the weights that they are of.
fn merge(values: &mut Values, scale: f32, updates: &[Parameter]) {
    for pair in updates.chunks(2) {
        let [a, b] = pair else {
            unreachable!("updates come in pairs");
        };
        let (rank, inputs) = (a.shape[0], a.shape[1]);
        let name = a
            .name
            .strip_suffix(".lora.a")
            .expect("as updates are named");
        let (of_a, of_b) = (values[&a.name].clone(), values[&b.name].clone());
        let weight = values.get_mut(&format!("{name}.weight"));
        let weight = weight.expect("an update is of a weight");
        for (row, of_b) in weight.chunks_mut(inputs).zip(of_b.chunks(rank)) {
            for (of_a, b) in of_a.chunks(inputs).zip(of_b) {
                for (value, a) in row.iter_mut().zip(of_a) {
                    *value += scale * b * a;
                }
            }
        }
    }
}
