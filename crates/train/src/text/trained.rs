use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use cloze_data::text::Tokenizer;
use cloze_data::text::examples::{Blanks, Examples};
use cloze_data::text::learn::{Ask, Part};
use cloze_data::text::store;
use cloze_nn::pretrained::{BurnParts, Pretrained, TRANSITIONS};
use cloze_nn::weights::Values;
use cloze_runtime::model::Checkpoint;
use cloze_runtime::predict::{FeatureClassifier, Parts, Predict, read_out, transcribed};
use cloze_spec::TextRecipe;
use cloze_spec::encoder::Task;
use cloze_spec::inventory::{Parameter, encoder_parameters};
use cloze_spec::text::{Objective, Scaffold, Stage, Table, Texts};

use super::judge::{Aim, Predictions};
use super::{GENERATOR, SCAFFOLD};
use crate::{Error, checkpoint, options};

/// An encoder of texts in the folder that training left, to be judged.
pub struct Trained {
    recipe: TextRecipe,
    tokenizer: Tokenizer,
    max_len: usize,
    labels: Vec<String>,
    table: Table,
    blanks: Option<Arc<Blanks>>,
    folder: PathBuf,
    tokenizer_files: Vec<PathBuf>,
    model: Model,
}

/// What predicts.
enum Model {
    Encoder(Box<Pretrained>),
    Features(Box<FeatureClassifier>),
}

impl Trained {
    /// Opens a folder that was trained by `recipe`.
    ///
    /// # Errors
    /// If something is missing from the folder, or does not fit the rest.
    pub fn open(folder: &Path, recipe: TextRecipe, device: &Device) -> Result<Self, Error> {
        if let Stage::Fit(_) = &recipe.stage[0] {
            let model = FeatureClassifier::open(folder, options())?;
            return Ok(Self {
                max_len: recipe.model.max_len.min(model.model().max_len()),
                tokenizer: model.model().tokenizer().clone(),
                labels: model.labels().to_vec(),
                table: Table::default(),
                model: Model::Features(Box::new(model)),
                blanks: None,
                folder: folder.to_owned(),
                tokenizer_files: Vec::new(),
                recipe,
            });
        }
        let checkpoint = Checkpoint::open(folder)?;
        let tokenizer = Tokenizer::open(folder)?;
        let encoder = checkpoint.encoder.clone();
        let table = read_out(&checkpoint.folder)?.map_or_else(Table::default, |own| own.table);
        let transcribed = transcribed(&checkpoint.folder)?;
        let labels = match encoder.head.as_ref().map(|head| &head.task) {
            Some(Task::Sequence(sequence)) => sequence.labels.clone(),
            Some(Task::Token { labels }) => labels.clone(),
            Some(Task::MaskedToken | Task::Span | Task::Vector) | None => Vec::new(),
        };
        let labels = transcribed.map_or(labels, |own| own.labels);
        let mut values = values(&checkpoint, encoder_parameters(&encoder))?;
        let max_len = recipe.model.max_len.min(encoder.max_len);
        let objective = &recipe.train().objective;
        let generator = match objective {
            Objective::ReplacedToken(_) => Some(Checkpoint::open(&folder.join(GENERATOR))?.encoder),
            _ => None,
        };
        let scaffold = Scaffold::of(objective, max_len, labels.len(), &table, generator).judged();
        values.extend(further(folder, &scaffold.parameters(&encoder))?);
        let mut trained = Self {
            max_len,
            model: Model::Encoder(Box::new(Pretrained::in_scaffold(
                Arc::new(encoder),
                &scaffold,
                None,
                &values,
                device,
            ))),
            blanks: None,
            folder: folder.to_owned(),
            tokenizer_files: checkpoint.folder.tokenizer.clone(),
            recipe,
            tokenizer,
            labels,
            table,
        };
        trained.blanks = trained
            .ask(&trained.recipe.data, trained.recipe.seed)
            .blanks()?;
        Ok(trained)
    }

    /// The recipe that it was trained by.
    pub fn recipe(&self) -> &TextRecipe {
        &self.recipe
    }

    /// What it was trained for.
    pub fn aim(&self) -> Aim<'_> {
        Aim {
            objective: self.recipe.objective(),
            batch: self.recipe.batch(),
            labels: &self.labels,
            blanks: self.blanks.as_ref(),
        }
    }

    /// What it says of `examples`.
    ///
    /// # Errors
    /// If an encoder has no room for a text.
    pub fn predictions(&self, examples: &Arc<Examples>) -> Result<Predictions, Error> {
        match &self.model {
            Model::Encoder(model) => Ok(Predictions::of(self.aim(), model, examples)),
            Model::Features(model) => {
                Predictions::of_features(model, examples, self.recipe.batch().max_tokens)
            }
        }
    }

    /// A part of `texts`, as this encoder reads it; `seed` says what is held out where there are no files for it.
    ///
    /// # Errors
    /// As [`Ask::part`].
    pub fn part(&self, texts: &Texts, seed: u64, part: Part<'_>) -> Result<Examples, Error> {
        Ok(self
            .ask(texts, seed)
            .part(part, &self.labels, &self.table)?)
    }

    fn ask<'a>(&'a self, texts: &'a Texts, seed: u64) -> Ask<'a> {
        Ask {
            texts,
            objective: self.recipe.objective(),
            tokenizer: &self.tokenizer,
            max_len: self.max_len,
            seed,
            place: store::Place {
                folder: &self.folder,
                tokenizer: &self.tokenizer_files,
            },
        }
    }
}

/// The values of `parameters`, as a folder has them, and how labels follow each other if it says so.
pub(super) fn values(checkpoint: &Checkpoint, parameters: Vec<Parameter>) -> Result<Values, Error> {
    let mut values = Values::new();
    for parameter in parameters {
        let mut of = vec![0.0; parameter.shape.iter().product()];
        checkpoint.read(&parameter, &mut of)?;
        values.insert(parameter.name, of);
    }
    let transitions = checkpoint.transitions()?;
    values.extend(transitions.map(|of| (TRANSITIONS.to_owned(), of)));
    Ok(values)
}

/// The parts that a folder has behind its encoder, in Burn: what [`Predictor::open_with`](cloze_runtime::predict::Predictor::open_with)
/// asks for.
///
/// # Errors
/// If the folder lacks them, or they do not fit its encoder.
pub fn parts(
    checkpoint: &Checkpoint,
    scaffold: &Scaffold,
) -> Result<Box<dyn Parts>, cloze_runtime::Error> {
    let (encoder, folder) = (&checkpoint.encoder, &checkpoint.folder.path);
    let values = further(folder, &scaffold.parameters(encoder));
    let values = values.map_err(|error| cloze_runtime::Error::Input(error.to_string()))?;
    Ok(Box::new(BurnParts::new(
        encoder,
        scaffold,
        &values,
        &Device::flex(),
    )))
}

/// The values of `parameters` that a folder has beside its encoder.
pub(super) fn further(folder: &Path, parameters: &[Parameter]) -> Result<Values, Error> {
    if parameters.is_empty() {
        return Ok(Values::new());
    }
    checkpoint::read_values(&folder.join(SCAFFOLD), parameters)
}
