//! Predictions of a pretrained encoder's head, from texts.
//!
//! [`Predictor::open`] tells by the head which of the four it is; each is a [`Predict`], so that one loop runs them all:
//!
//! ```no_run
//! use cloze_data::text::{Long, Shorten};
//! use cloze_runtime::predict::{Predict, Predictor};
//! # fn main() -> Result<(), cloze_runtime::Error> {
//! let model = Predictor::open("bert-base-uncased".as_ref(), Default::default())?;
//! if let Predictor::FillMask(model) = model {
//!     let texts = ["Paris is the [MASK] of France.".into()];
//!     let filled = model.predict(&texts, Long::Truncate(Shorten::LongestFirst), 8192)?;
//!     println!("{}", filled[0].text());
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod classify;
pub mod features;
mod fill;
mod label;
mod sparse;
mod transcribe;

use std::path::Path;

use cloze_data::records::length;
use cloze_data::text::{Chain, Encoding, Input, Long};
use cloze_spec::encoder::Task;
use cloze_spec::text::{ChunkPool, Placed, Scaffold, Transcriber, Transcribing};

use crate::Error;
use crate::cpu::Options;
use crate::model::{Checkpoint, TextModel};

pub use answer::Answerer;
use classify::ranked;
pub use classify::{Classifier, Label, read_out};
pub use features::{FEATURES, FeatureClassifier};
pub use fill::{Fill, FillMask, Filled, own_masks};
pub use label::TokenClassifier;
pub use transcribe::{Transcript, Transcripts, transcribed};

/// A model folder's head, by what it predicts.
pub enum Predictor {
    /// The tokens behind masks.
    FillMask(FillMask),
    /// Labels of texts or pairs.
    Classifier(Classifier),
    /// The same, by a classifier on their features.
    Features(FeatureClassifier),
    /// Labels of tokens, and of the stretches that they make.
    TokenClassifier(TokenClassifier),
    /// Answers to questions, as stretches of a context.
    Answerer(Answerer),
    /// Sequences of labels of texts.
    Transcripts(Transcripts),
}

/// Parts of a model behind its encoder that have no kernels here, computed by another room.
pub trait Parts: Send + Sync {
    /// The sequence of labels of each text, and how likely it is.
    ///
    /// # Shapes
    /// `states: [N, D]`, `offsets: [B + 1]` → `B`
    fn transcripts(&self, states: &[f32], offsets: &[u32]) -> Vec<(Vec<u32>, f64)>;

    /// One vector of a text's states, its segments, and the values beside it.
    ///
    /// # Shapes
    /// `states: [T, D]`, `segments: [T]` → `[D]`
    fn vector(&self, states: &[f32], segments: &[u32], beside: &[Placed]) -> Vec<f32>;

    /// One vector of those of a text's windows.
    ///
    /// # Shapes
    /// `[M, D]` → `[D]`
    fn pooled(&self, windows: &[f32]) -> Vec<f32>;
}

/// Opens the parts that a folder has behind its encoder.
pub type OpenParts<'a> = &'a dyn Fn(&Checkpoint, &Scaffold) -> Result<Box<dyn Parts>, Error>;

impl Predictor {
    /// Opens a folder.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`TextModel::new`], and if there is no head that predicts.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        Self::open_with(path, options, &|checkpoint, _| {
            Err(Error::Input(format!(
                "{}: expected a model whose head this engine computes, found parts of training's own behind it; cloze predict \
                 asks it",
                checkpoint.folder.path.display()
            )))
        })
    }

    /// The same, `parts` opening what the engine does not compute.
    ///
    /// # Errors
    /// As there, and as `parts`.
    pub fn open_with(path: &Path, options: Options, parts: OpenParts<'_>) -> Result<Self, Error> {
        if FeatureClassifier::is_at(path) {
            return FeatureClassifier::open(path, options).map(Self::Features);
        }
        let checkpoint = Checkpoint::open(path)?;
        if let Some(settings) = transcribed(&checkpoint.folder)? {
            let head = checkpoint.encoder.head.as_ref();
            let output = head.and_then(|head| head.output);
            let outputs = output.map(|output| output.outputs);
            transcribe::check(&checkpoint.folder, &settings, outputs)?;
            let writer = match settings.decode {
                Transcriber::Ctc => None,
                Transcriber::Attention(decoder) => {
                    let labels = settings.labels.len();
                    let scaffold = Scaffold {
                        transcript: Some(Transcribing { labels, decoder }),
                        ..Scaffold::default()
                    };
                    Some(open_parts(&checkpoint, &scaffold, parts)?)
                }
            };
            let (_, model) = TextModel::new(checkpoint, options)?;
            return Ok(Self::Transcripts(Transcripts::new(model, settings, writer)));
        }
        let Some(head) = checkpoint.encoder.head.clone() else {
            return Err(no_prediction(&checkpoint));
        };
        if head.task == Task::Vector {
            return Err(no_prediction(&checkpoint));
        }
        let transitions = checkpoint.transitions()?;
        let chunked = classify::chunked(&checkpoint.folder)?;
        let pool = chunked.map(|chunked| chunked.chunks.pool);
        let readout = read_out(&checkpoint.folder)?;
        let scaffold = Scaffold {
            chunks: pool == Some(ChunkPool::Attention),
            readout: readout.as_ref().map(|own| (own.readout, own.table.size())),
            ..Scaffold::default()
        };
        let behind = if scaffold == Scaffold::default() {
            None
        } else {
            Some(open_parts(&checkpoint, &scaffold, parts)?)
        };
        let (folder, model) = TextModel::new(checkpoint, options)?;
        Ok(match head.task {
            Task::Vector => unreachable!("refused above"),
            Task::MaskedToken => Self::FillMask(FillMask::new(model, &folder.path)?),
            Task::Sequence(sequence) => {
                let activation = folder.score_activation;
                let pooling = classify::Pooling {
                    chunked,
                    table: readout.map(|own| own.table),
                    behind,
                };
                Self::Classifier(Classifier::new(model, sequence, activation, pooling))
            }
            Task::Token { labels } => {
                let chain = transitions.map(|learned| Chain::new(&labels, Some(&learned)));
                Self::TokenClassifier(TokenClassifier::new(model, labels, chain))
            }
            Task::Span => Self::Answerer(Answerer::new(model)),
        })
    }
}

/// The parts of a folder, if they fit its encoder.
fn open_parts(
    checkpoint: &Checkpoint,
    scaffold: &Scaffold,
    parts: OpenParts<'_>,
) -> Result<Box<dyn Parts>, Error> {
    if let Some(fault) = scaffold.fault(&checkpoint.encoder) {
        let place = checkpoint.folder.path.display();
        return Err(Error::Input(format!("{place}: config.json: {fault}")));
    }
    parts(checkpoint, scaffold)
}

/// The way from texts to predictions, in steps, so that a caller can run windows of similar length together.
pub trait Predict: Sync {
    /// What is kept of a window.
    type Output: Send;
    /// What is said of a text.
    type Prediction;

    /// Tokenizer and encoder.
    fn model(&self) -> &TextModel;

    /// The tokens of a text or pair, in one window or several.
    ///
    /// # Errors
    /// If the task takes no such text, or it is too long and may not be cut.
    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error>;

    /// Runs windows, of any texts, as one batch; a window's output is the same whatever the others are.
    ///
    /// # Errors
    /// If the encoder has no room for a window.
    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Self::Output>, Error>;

    /// What the windows of a text say together.
    ///
    /// # Errors
    /// If the tokenizer cannot put tokens together.
    fn decode(
        &self,
        input: Input<'_>,
        windows: &[Encoding],
        outputs: &[Self::Output],
    ) -> Result<Self::Prediction, Error>;

    /// As [`Self::decode`], of a text with the values of the columns that [`Self::columns`] names beside it, empty where they are
    /// missing.
    ///
    /// # Errors
    /// As there, or if a value is none of its column.
    fn decode_beside(
        &self,
        input: Input<'_>,
        _beside: &[String],
        windows: &[Encoding],
        outputs: &[Self::Output],
    ) -> Result<Self::Prediction, Error> {
        self.decode(input, windows, outputs)
    }

    /// Names of the columns beside a text that predictions depend on.
    fn columns(&self) -> Vec<String> {
        Vec::new()
    }

    /// All steps, in batches of at most `batch_tokens` tokens; predictions in the order of the texts.
    ///
    /// # Errors
    /// As the steps.
    fn predict(
        &self,
        inputs: &[Input<'_>],
        long: Long,
        batch_tokens: usize,
    ) -> Result<Vec<Self::Prediction>, Error> {
        let encode = |input: &Input<'_>| self.encode(*input, long);
        let texts: Vec<Vec<Encoding>> = inputs.iter().map(encode).collect::<Result<_, _>>()?;
        let windows: Vec<&[Encoding]> = texts.iter().map(Vec::as_slice).collect();
        let outputs = self.run_all(&windows, batch_tokens, &mut |_| {})?;
        let texts = inputs.iter().zip(&texts).zip(outputs);
        texts
            .map(|((input, windows), outputs)| self.decode(*input, windows, &outputs))
            .collect()
    }

    /// [`Self::run`] of the windows of many texts, each text's together, in batches of at most `batch_tokens` tokens of similar length; `done` is
    /// told how many tokens each batch had.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn run_all(
        &self,
        texts: &[&[Encoding]],
        batch_tokens: usize,
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<Self::Output>>, Error> {
        let windows: Vec<&Encoding> = texts.iter().copied().flatten().collect();
        let lengths: Vec<usize> = windows.iter().map(|window| window.len()).collect();
        let batches = length::batches(&lengths, batch_tokens);
        let mut outputs = Vec::with_capacity(windows.len());
        for batch in &batches {
            let batch: Vec<&Encoding> = batch.iter().map(|&index| windows[index]).collect();
            outputs.extend(self.run(&batch)?);
            done(batch.iter().map(|window| window.len()).sum());
        }
        let mut outputs = length::in_order(&batches, outputs).into_iter();
        let of_text = |windows: &&[Encoding]| outputs.by_ref().take(windows.len()).collect();
        Ok(texts.iter().map(of_text).collect())
    }
}

/// For each token of a text, in order: the window in which it stands farthest from where the text was cut, and its place
/// there.
fn places(windows: &[Encoding]) -> Vec<(usize, usize)> {
    let start = windows[0].start;
    let mut best: Vec<(usize, usize, usize)> = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        let body = window.body();
        let is_last = index + 1 == windows.len();
        for at in body.clone() {
            let before = if index == 0 {
                usize::MAX
            } else {
                at - body.start
            };
            let after = if is_last {
                usize::MAX
            } else {
                body.end - 1 - at
            };
            let margin = before.min(after);
            match best.get_mut(window.start - start + at - body.start) {
                None => best.push((margin, index, at)),
                Some(found) if found.0 < margin => *found = (margin, index, at),
                Some(_) => {}
            }
        }
    }
    best.into_iter().map(|(_, index, at)| (index, at)).collect()
}

fn one_text<'a>(input: Input<'a>, task: &str) -> Result<&'a str, Error> {
    if input.second.is_some() {
        let message = format!("{task} takes one text, found a pair; leave the second out");
        return Err(Error::Input(message));
    }
    Ok(input.first)
}

fn no_prediction(checkpoint: &Checkpoint) -> Error {
    let folder = &checkpoint.folder;
    let class = folder.config.get("architectures");
    let class = class.and_then(|classes| classes.get(0)?.as_str());
    let found = match (&checkpoint.encoder.head, class) {
        (Some(_), _) => "a pooler, whose vectors predict nothing by themselves".to_owned(),
        (None, Some(class)) if class.ends_with("ForPreTraining") => {
            format!("{class}, which tells replaced tokens from those of the text")
        }
        (None, Some(class)) if class.contains("For") => {
            format!("an encoder alone: settings name {class}, but the weights have no such head")
        }
        (None, _) => "an encoder alone".to_owned(),
    };
    Error::NoPrediction {
        path: folder.path.clone(),
        found,
    }
}
