use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use cloze_data::text::Tokenizer;
use cloze_data::text::examples::{Blanks, Examples};
use cloze_data::text::learn::{Ask, Part};
use cloze_nn::pretrained::{Pretrained, TRANSITIONS};
use cloze_nn::weights::Values;
use cloze_runtime::model::Checkpoint;
use cloze_spec::TextRecipe;
use cloze_spec::encoder::Task;
use cloze_spec::inventory::{Parameter, encoder_parameters};
use cloze_spec::text::Texts;

use super::judge::Aim;
use crate::Error;

/// An encoder of texts in the folder that training left, to be judged.
pub struct Trained {
    recipe: TextRecipe,
    tokenizer: Tokenizer,
    max_len: usize,
    labels: Vec<String>,
    blanks: Option<Arc<Blanks>>,
    /// The encoder.
    pub model: Pretrained,
}

impl Trained {
    /// Opens a folder that was trained by `recipe`.
    ///
    /// # Errors
    /// If something is missing from the folder, or does not fit the rest.
    pub fn open(folder: &Path, recipe: TextRecipe, device: &Device) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(folder)?;
        let tokenizer = Tokenizer::open(folder)?;
        let encoder = checkpoint.encoder.clone();
        let labels = match encoder.head.as_ref().map(|head| &head.task) {
            Some(Task::Sequence(sequence)) => sequence.labels.clone(),
            Some(Task::Token { labels }) => labels.clone(),
            Some(Task::MaskedToken | Task::Span | Task::Vector) | None => Vec::new(),
        };
        let values = values(&checkpoint, encoder_parameters(&encoder))?;
        let mut trained = Self {
            max_len: recipe.model.max_len.min(encoder.max_len),
            model: Pretrained::new(Arc::new(encoder), &values, device),
            blanks: None,
            recipe,
            tokenizer,
            labels,
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
            train: self.recipe.train(),
            labels: &self.labels,
            blanks: self.blanks.as_ref(),
        }
    }

    /// A part of `texts`, as this encoder reads it; `seed` says what is held out where there are no files for it.
    ///
    /// # Errors
    /// As [`Ask::part`].
    pub fn part(&self, texts: &Texts, seed: u64, part: Part<'_>) -> Result<Examples, Error> {
        Ok(self.ask(texts, seed).part(part, &self.labels)?)
    }

    fn ask<'a>(&'a self, texts: &'a Texts, seed: u64) -> Ask<'a> {
        Ask {
            texts,
            objective: &self.recipe.train().objective,
            tokenizer: &self.tokenizer,
            max_len: self.max_len,
            seed,
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
