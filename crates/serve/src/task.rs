use std::path::Path;

use cloze_data::text::{Encoding, Input, Long, Tokenizer};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::{Checkpoint, TextEncoder};
use cloze_runtime::predict::{Classifier, Predict, Predictor};
use cloze_runtime::{Engine, Error};
use cloze_spec::encoder;

use crate::queue::Wanted;

/// What a model does for clients.
pub enum Task {
    /// Vectors of texts.
    Embed(TextEncoder),
    /// Labels of texts or pairs; with one label, their score.
    Label(Classifier),
}

impl Task {
    /// Loads a folder: a classifier if its head is one, and it is not made for embeddings.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let head = checkpoint.encoder.head.as_ref();
        let labels = head.is_some_and(|head| matches!(head.task, encoder::Task::Sequence(_)));
        if labels && checkpoint.folder.embedder.is_none() {
            drop(checkpoint);
            if let Predictor::Classifier(classifier) = Predictor::open(path, options)? {
                return Ok(Self::Label(classifier));
            }
        }
        Ok(Self::Embed(TextEncoder::open(path, options)?))
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Embed(model) => model.tokenizer(),
            Self::Label(model) => model.model().tokenizer(),
        }
    }

    /// Longest input in tokens, special ones included.
    pub fn max_len(&self) -> usize {
        match self {
            Self::Embed(model) => model.max_len(),
            Self::Label(model) => model.model().max_len(),
        }
    }

    /// Token ids there are.
    pub fn vocabulary(&self) -> usize {
        let engine = match self {
            Self::Embed(model) => model.engine(),
            Self::Label(model) => model.model().engine(),
        };
        engine.encoder().embed.vocab
    }

    /// The tokens of a text, or of a pair where the task takes pairs.
    pub fn encode(
        &self,
        input: Input<'_>,
        prompt: Option<&str>,
        long: Long,
    ) -> Result<Encoding, Error> {
        let windows = match (self, input.second, prompt) {
            (Self::Embed(model), None, prompt) => model.windows(input.first, prompt, long)?,
            (Self::Embed(_), Some(_), _) => {
                return Err(Error::Input("expected one text, found a pair".to_owned()));
            }
            (Self::Label(_), _, Some(_)) => {
                let message = "`prompt_name`: the model labels texts and has no prompts";
                return Err(Error::Input(message.to_owned()));
            }
            (Self::Label(model), ..) => model.encode(input, long)?,
        };
        let only = windows.into_iter().next();
        Ok(only.expect("a text that is not chunked is one window"))
    }

    /// What it is there for.
    pub fn own(&self) -> Wanted {
        match self {
            Self::Embed(_) => Wanted::Pooled,
            Self::Label(_) => Wanted::Logits,
        }
    }

    /// What is wanted of each of some texts.
    pub fn run(&self, wanted: Wanted, texts: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        match (self, wanted) {
            (Self::Embed(model), Wanted::Pooled) => {
                let vectors = model.pooled(texts)?;
                let width = vectors.len() / texts.len();
                Ok(vectors.chunks_exact(width).map(<[f32]>::to_vec).collect())
            }
            (Self::Embed(model), Wanted::Tokens) => {
                let vectors = model.token_vectors(texts)?;
                let width = model.engine().encoder().width;
                let mut rest = vectors.as_slice();
                let each = texts.iter().map(|text| {
                    let (here, after) = rest.split_at(text.len() * width);
                    rest = after;
                    here.to_vec()
                });
                Ok(each.collect())
            }
            (Self::Label(model), Wanted::Logits) => model.run(texts),
            (Self::Embed(_), Wanted::Logits)
            | (Self::Label(_), Wanted::Pooled | Wanted::Tokens) => {
                unreachable!("routes ask a model for what it does")
            }
        }
    }
}
