use cloze_data::text::{Encoding, Input, Long};
use cloze_kernels::op::encode::score::softmax;
use cloze_kernels::reference::packed::activate;
use cloze_spec::encoder::{Activation, Problem, Sequence};
use cloze_spec::hugging_face::ScoreActivation;

use super::Predict;
use crate::Error;
use crate::cpu::activation_of;
use crate::engine::sequence_vectors;
use crate::model::TextModel;

/// Labels texts, or pairs of them; with one label it scores them, as cross-encoders do.
pub struct Classifier {
    /// What makes scores of the head's outputs.
    ///
    /// By default what a cross-encoder's folder names; else, by the kind of problem, shares of labels of which one is true,
    /// a sigmoid of each where several may be or there is one, and numbers as they are.
    /// # Source
    /// `CrossEncoder` of `sentence-transformers`; else the text classification pipeline of `transformers`.
    pub activation: ScoreActivation,
    /// Most labels of a text; all if none.
    pub top: Option<usize>,
    model: TextModel,
    labels: Vec<String>,
}

/// A label and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The name.
    pub label: String,
    /// The score, by [`Classifier::activation`].
    pub score: f32,
}

impl Classifier {
    pub(super) fn new(
        model: TextModel,
        sequence: Sequence,
        stated: Option<ScoreActivation>,
    ) -> Self {
        let activation = stated.unwrap_or(match sequence.problem {
            Problem::SingleLabel => ScoreActivation::Softmax,
            Problem::MultiLabel => ScoreActivation::Each(Activation::Sigmoid),
            Problem::Regression => ScoreActivation::Each(Activation::Identity),
        });
        Self {
            activation,
            top: None,
            model,
            labels: sequence.labels,
        }
    }

    /// Names of the labels, in the order of the head's outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Scores of one text's outputs, in their order.
    ///
    /// # Shapes
    /// `logits: [C]` → `[C]`
    pub fn scores(&self, logits: &[f32]) -> Vec<f32> {
        match self.activation {
            ScoreActivation::Each(activation) => {
                let activation = activation_of(activation);
                let score = |&x: &f32| activate(activation, f64::from(x)) as f32;
                logits.iter().map(score).collect()
            }
            ScoreActivation::Softmax => {
                let mut scores = logits.to_vec();
                softmax(self.model.isa(), scores.len(), &mut scores);
                scores
            }
        }
    }

    /// All labels, from the highest of their `scores: [C]` down.
    pub fn ranked(&self, scores: Vec<f32>) -> Vec<Label> {
        ranked(&self.labels, scores)
    }
}

/// Labels with their scores, from the highest down.
pub(super) fn ranked(labels: &[String], scores: impl IntoIterator<Item = f32>) -> Vec<Label> {
    let labels = labels.iter().cloned().zip(scores);
    let mut labels: Vec<_> = labels
        .map(|(label, score)| Label { label, score })
        .collect();
    labels.sort_by(|a, b| b.score.total_cmp(&a.score));
    labels
}

impl Predict for Classifier {
    /// Logits of the labels.
    type Output = Vec<f32>;
    /// From the highest score down.
    type Prediction = Vec<Label>;

    fn model(&self) -> &TextModel {
        &self.model
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        if matches!(long, Long::Chunk { .. }) {
            let message = "labels of a whole text cannot be put together from chunks; truncate it, or label its parts";
            return Err(Error::Input(message.to_owned()));
        }
        self.model.windows(input, long)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        let engine = self.model.engine();
        let mut logits = Vec::new();
        let vectors = sequence_vectors(engine, &self.model.batch(windows))?;
        engine.head(&vectors, &mut logits)?;
        let rows = logits.chunks_exact(self.labels.len());
        Ok(rows.map(<[f32]>::to_vec).collect())
    }

    fn decode(
        &self,
        _: Input<'_>,
        _: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Label>, Error> {
        let mut labels = self.ranked(self.scores(&outputs[0]));
        labels.truncate(self.top.unwrap_or(usize::MAX));
        Ok(labels)
    }
}
