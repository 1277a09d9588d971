use std::path::Path;

use cloze_data::text::{Encoding, Input, Long, Shorten, Tokenizer};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::{Checkpoint, TextEncoder};
use cloze_runtime::predict::{
    Answerer, Classifier, FeatureClassifier, FillMask, Label, Predict, Predictor, TokenClassifier,
    transcribed,
};
use cloze_runtime::{Engine, Error};
use cloze_spec::encoder;

use crate::queue::Wanted;
use crate::recommend::{Choice, Recommend};

/// What a model does for clients.
pub enum Task {
    /// Vectors of texts.
    Embed(TextEncoder),
    /// Labels of texts or pairs; with one label, their score.
    Label(Classifier),
    /// Labels of texts by what their windows say together, or by their features; names of the labels before.
    Windows(Vec<String>, Labeller),
    /// Tokens behind masks, and which tokens a text is about; vectors too, the means of those of tokens.
    Fill(FillMask, TextEncoder),
    /// The same of a model that is made to say which tokens a text is about, by SPLADE, and whose vectors say nothing.
    Sparse(FillMask, TextEncoder),
    /// Labels of stretches of texts.
    Entities(TokenClassifier),
    /// Answers to questions, in contexts.
    Answer(Answerer),
    /// Items that come next in histories.
    Recommend(Box<dyn Recommend>),
}

/// Labels texts by what is known of their windows.
pub type Labeller = Box<dyn Predict<Output = Vec<f32>, Prediction = Vec<Label>> + Send>;

impl Task {
    /// Loads a folder of texts: what its head does, unless it is made for embeddings.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        if FeatureClassifier::is_at(path) {
            let model = FeatureClassifier::open(path, options)?;
            return Ok(Self::Windows(model.labels().to_vec(), Box::new(model)));
        }
        let checkpoint = Checkpoint::open(path)?;
        let head = checkpoint.encoder.head.as_ref();
        let is_sparse = checkpoint.folder.is_sparse;
        let predicts = head.is_some_and(|head| head.task != encoder::Task::Vector)
            || transcribed(&checkpoint.folder)?.is_some();
        if !predicts || checkpoint.folder.embedder.is_some() {
            drop(checkpoint);
            return Ok(Self::Embed(TextEncoder::open(path, options)?));
        }
        drop(checkpoint);
        Ok(match Predictor::open(path, options)? {
            Predictor::Classifier(model) if model.is_chunked() => {
                Self::Windows(model.labels().to_vec(), Box::new(model))
            }
            Predictor::Classifier(model) => Self::Label(model),
            Predictor::Transcripts(_) => {
                return Err(Error::Input(format!(
                    "{}: expected a model that labels texts or tokens, fills masks or answers questions, found one that gives \
                     sequences of labels; cloze predict asks it",
                    path.display()
                )));
            }
            Predictor::Features(_) => unreachable!("refused above"),
            Predictor::FillMask(model) => {
                let encoder = TextEncoder::mean_of(model.model().clone());
                if is_sparse {
                    Self::Sparse(model, encoder)
                } else {
                    Self::Fill(model, encoder)
                }
            }
            Predictor::TokenClassifier(model) => Self::Entities(model),
            Predictor::Answerer(model) => Self::Answer(model),
        })
    }

    /// What it is called by others, the `pipeline_tag` of hubs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed(_) => "sentence-similarity",
            Self::Label(model) if model.labels().len() == 1 => "text-ranking",
            Self::Label(_) | Self::Windows(..) => "text-classification",
            Self::Fill(..) => "fill-mask",
            Self::Sparse(..) => "feature-extraction",
            Self::Entities(_) => "token-classification",
            Self::Answer(_) => "question-answering",
            Self::Recommend(_) => "recommendation",
        }
    }

    /// Where to ask for what it does.
    pub fn routes(&self) -> &'static str {
        match self {
            Self::Embed(_) => "/embed",
            Self::Label(_) => "/predict or /rerank",
            Self::Windows(..) => "/predict",
            Self::Fill(..) => "/v1/fill, /embed or /embed_sparse",
            Self::Sparse(..) => "/embed_sparse",
            Self::Entities(_) => "/v1/entities",
            Self::Answer(_) => "/v1/answer",
            Self::Recommend(_) => "/v1/recommend",
        }
    }

    /// The tokenizer, of a model of texts.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        Some(match self {
            Self::Embed(model) | Self::Fill(_, model) | Self::Sparse(_, model) => model.tokenizer(),
            Self::Label(model) => model.model().tokenizer(),
            Self::Windows(_, model) => model.model().tokenizer(),
            Self::Entities(model) => model.model().tokenizer(),
            Self::Answer(model) => model.model().tokenizer(),
            Self::Recommend(_) => return None,
        })
    }

    /// Longest input in tokens, special ones included, or in items.
    pub fn max_len(&self) -> usize {
        match self {
            Self::Embed(model) | Self::Fill(_, model) | Self::Sparse(_, model) => model.max_len(),
            Self::Label(model) => model.model().max_len(),
            Self::Windows(_, model) => model.model().max_len(),
            Self::Entities(model) => model.model().max_len(),
            Self::Answer(model) => model.model().max_len(),
            Self::Recommend(model) => model.max_len(),
        }
    }

    /// What runs the encoder, of a model of texts.
    pub fn engine(&self) -> Option<&dyn Engine> {
        Some(match self {
            Self::Embed(model) | Self::Fill(_, model) | Self::Sparse(_, model) => model.engine(),
            Self::Label(model) => model.model().engine(),
            Self::Windows(_, model) => model.model().engine(),
            Self::Entities(model) => model.model().engine(),
            Self::Answer(model) => model.model().engine(),
            Self::Recommend(_) => return None,
        })
    }

    /// Ids of tokens or items that there are.
    pub fn vocabulary(&self) -> usize {
        match (self, self.engine()) {
            (Self::Recommend(model), _) => model.vocabulary().len(),
            (_, engine) => engine.expect("a model of texts").encoder().embed.vocab,
        }
    }

    /// The tokens of a text, or of a pair where the task takes pairs.
    pub fn encode(
        &self,
        input: Input<'_>,
        prompt: Option<&str>,
        long: Long,
    ) -> Result<Encoding, Error> {
        let windows = match (self, input.second, prompt) {
            (Self::Embed(model) | Self::Fill(_, model) | Self::Sparse(_, model), None, prompt) => {
                model.windows(input.first, prompt, long)?
            }
            (Self::Embed(_) | Self::Fill(..) | Self::Sparse(..), Some(_), _) => {
                return Err(Error::Input("expected one text, found a pair".to_owned()));
            }
            (_, _, Some(_)) => {
                let message = "`prompt_name`: the model makes no embeddings and has no prompts";
                return Err(Error::Input(message.to_owned()));
            }
            (Self::Label(model), ..) => model.encode(input, long)?,
            (Self::Windows(_, model), ..) => model.encode(input, long)?,
            (Self::Entities(model), ..) => model.encode(input, long)?,
            (Self::Answer(model), ..) => model.model().windows(input, long)?,
            (Self::Recommend(_), ..) => {
                return Err(Error::Input("expected items, found a text".to_owned()));
            }
        };
        let only = windows.into_iter().next();
        Ok(only.expect("a text that is not chunked is one window"))
    }

    /// Computes something of so many texts at once, each of about so many tokens, as requests will.
    ///
    /// # Errors
    /// If it cannot.
    pub fn try_out(&self, texts: usize, tokens: usize) -> Result<(), Error> {
        let wanted: &[Wanted] = match self {
            Self::Embed(_) => &[Wanted::Pooled],
            Self::Fill(..) => &[Wanted::Pooled, Wanted::Sparse],
            Self::Sparse(..) => &[Wanted::Sparse],
            Self::Label(_) | Self::Windows(..) | Self::Entities(_) | Self::Answer(_) => {
                &[Wanted::Logits]
            }
            Self::Recommend(model) => {
                let choice = Choice {
                    top: 1,
                    exclude_seen: false,
                    allow: None,
                    deny: Vec::new(),
                };
                let history = vec![0; tokens];
                model.recommend(&vec![history.as_slice(); texts], &choice);
                return Ok(());
            }
        };
        let long = Long::Truncate(Shorten::LongestFirst);
        let text = "a ".repeat(tokens.saturating_sub(2).max(1)); // most models have two special tokens
        let text = self.encode(text.as_str().into(), None, long)?;
        let texts = vec![&text; texts];
        wanted
            .iter()
            .try_for_each(|wanted| self.run(wanted, &texts).map(drop))
    }

    /// What is wanted of each of some texts.
    pub fn run(&self, wanted: &Wanted, texts: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        match (self, wanted) {
            (Self::Embed(model) | Self::Fill(_, model), Wanted::Pooled) => {
                let vectors = model.pooled(texts)?;
                let width = vectors.len() / texts.len();
                Ok(vectors.chunks_exact(width).map(<[f32]>::to_vec).collect())
            }
            (Self::Embed(model) | Self::Fill(_, model), Wanted::Tokens) => {
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
            (Self::Windows(_, model), Wanted::Logits) => model.run(texts),
            (Self::Entities(model), Wanted::Logits) => model.run(texts),
            (Self::Answer(model), Wanted::Logits) => model.run(texts),
            (Self::Fill(model, _) | Self::Sparse(model, _), Wanted::Sparse) => {
                let weights = model.sparse(texts)?.into_iter();
                Ok(weights.map(|weights| flat(&weights)).collect())
            }
            (Self::Fill(model, _) | Self::Sparse(model, _), Wanted::Fills(fills)) => {
                let found = model.likeliest(texts, fills.top, &fills.candidates)?;
                let masks = found.into_iter().map(|masks| masks.concat());
                Ok(masks.map(|fills| flat(&fills)).collect())
            }
            (Self::Recommend(model), Wanted::Items(choice)) => {
                let histories: Vec<&[u32]> = texts.iter().map(|text| &*text.ids).collect();
                let found = model.recommend(&histories, choice).into_iter();
                Ok(found.map(|items| flat(&items)).collect())
            }
            _ => unreachable!("routes ask a model for what it does"),
        }
    }
}

/// Ids and values as the queue carries them: one after the other, an id as the float of the same value, which floats have
/// for each up to 2²⁴.
fn flat(pairs: &[(u32, f32)]) -> Vec<f32> {
    let number = |id: u32| {
        assert!(id < 1 << 24, "vocabularies are smaller");
        id as f32
    };
    let pairs = pairs.iter();
    pairs.flat_map(|&(id, value)| [number(id), value]).collect()
}

/// What [`flat`] made flat.
pub fn pairs(values: &[f32]) -> impl Iterator<Item = (u32, f32)> {
    let (pairs, _) = values.as_chunks();
    pairs.iter().map(|&[id, value]| (id as u32, value))
}
