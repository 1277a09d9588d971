use cloze_data::text::{Encoding, Input, Long};
use cloze_kernels::op::encode::score::softmax;
use cloze_kernels::reference::packed::activate;
use cloze_spec::encoder::{Activation, Problem, Sequence};
use cloze_spec::hugging_face::{Folder, ScoreActivation};
use cloze_spec::text::{ChunkPool, Chunked, Placed, ReadOut, Table};
use serde::de::DeserializeOwned;

use super::{Parts, Predict, one_text};
use crate::cpu::activation_of;
use crate::engine::sequence_vectors;
use crate::model::TextModel;
use crate::{Error, Rows};

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
    pooling: Pooling,
}

/// What makes one vector of a text, where that is not the family's own way.
#[derive(Default)]
pub(super) struct Pooling {
    /// How long texts become windows.
    pub chunked: Option<Chunked>,
    /// The columns beside a text, perhaps none, where its vector is made of all states.
    pub table: Option<Table>,
    /// What stands behind the encoder and is not of its family.
    pub behind: Option<Box<dyn Parts>>,
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
        mut pooling: Pooling,
    ) -> Self {
        if let Some(chunked) = &mut pooling.chunked {
            chunked.max_len = chunked.max_len.min(model.max_len());
        }
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
            pooling,
        }
    }

    /// Whether long texts become windows, whose vectors are made one before the head.
    pub fn is_chunked(&self) -> bool {
        self.pooling.chunked.is_some()
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

/// How a folder takes long texts, if it says so.
///
/// # Errors
/// If it is not understood.
pub(super) fn chunked(folder: &Folder) -> Result<Option<Chunked>, Error> {
    let chunked: Option<Chunked> = stated(folder, Chunked::KEY)?;
    match chunked.as_ref().and_then(Chunked::fault) {
        Some(fault) => Err(misstated(folder, Chunked::KEY, &fault)),
        None => Ok(chunked),
    }
}

/// How a folder makes one vector of a text's states, if it says so.
///
/// # Errors
/// If it is not understood.
pub fn read_out(folder: &Folder) -> Result<Option<ReadOut>, Error> {
    stated(folder, ReadOut::KEY)
}

/// What a folder's settings say under a key of this project's own.
pub(super) fn stated<T: DeserializeOwned>(
    folder: &Folder,
    key: &'static str,
) -> Result<Option<T>, Error> {
    let stated = folder.config.get(key).cloned().map(serde_json::from_value);
    stated
        .transpose()
        .map_err(|error| misstated(folder, key, &error.to_string()))
}

fn misstated(folder: &Folder, key: &str, message: &str) -> Error {
    let place = folder.path.display();
    Error::Input(format!("{place}: config.json: {key}: {message}"))
}

/// One vector of those of all windows.
fn pooled(windows: &[Vec<f32>], pool: ChunkPool, behind: Option<&dyn Parts>) -> Vec<f32> {
    if pool == ChunkPool::Attention {
        let scores = behind.expect("opened with the folder");
        return scores.pooled(&windows.concat());
    }
    let (first, rest) = windows.split_first().expect("a text has a window");
    let mut vector = first.clone();
    for window in rest {
        for (x, &other) in vector.iter_mut().zip(window) {
            *x = match pool {
                ChunkPool::Max => x.max(other),
                ChunkPool::Mean | ChunkPool::Attention => *x + other,
            };
        }
    }
    if pool == ChunkPool::Mean {
        for x in &mut vector {
            *x /= windows.len() as f32;
        }
    }
    vector
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
    /// Logits of the labels; of windows whose vectors are yet to be made one, those.
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
        let Some(chunked) = self.pooling.chunked else {
            return self.model.windows(input, long);
        };
        let text = one_text(input, "labelling a text by its windows")?;
        let windows = self.model.tokenizer().chunks(text, chunked)?;
        if long == Long::Error && windows.iter().any(|window| window.cut > 0) {
            return Err(Error::Input(format!(
                "expected a text of at most {} windows of {} tokens, found a longer one; cut it",
                chunked.chunks.most, chunked.max_len
            )));
        }
        Ok(windows)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        let engine = self.model.engine();
        let mut logits = Vec::new();
        if self.pooling.table.is_some() {
            let batch = self.model.batch(windows);
            engine.run(&batch, Rows::All, &mut logits)?;
            let width = engine.encoder().width;
            let of = |index| {
                let tokens = batch.range(index);
                logits[tokens.start * width..tokens.end * width].to_vec()
            };
            return Ok((0..windows.len()).map(of).collect());
        }
        let vectors = sequence_vectors(engine, &self.model.batch(windows))?;
        if self.is_chunked() {
            let rows = vectors.chunks_exact(engine.encoder().width);
            return Ok(rows.map(<[f32]>::to_vec).collect());
        }
        engine.head(&vectors, &mut logits)?;
        let rows = logits.chunks_exact(self.labels.len());
        Ok(rows.map(<[f32]>::to_vec).collect())
    }

    fn decode(
        &self,
        input: Input<'_>,
        windows: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Label>, Error> {
        self.decode_beside(input, &[], windows, outputs)
    }

    fn decode_beside(
        &self,
        _: Input<'_>,
        beside: &[String],
        windows: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Label>, Error> {
        let Pooling {
            chunked,
            table,
            behind,
        } = &self.pooling;
        let vector = match (chunked, table, behind) {
            (_, Some(table), Some(behind)) => {
                let placed = placed(table, beside)?;
                Some(behind.vector(&outputs[0], &windows[0].segments, &placed))
            }
            (Some(chunked), ..) => Some(pooled(outputs, chunked.chunks.pool, behind.as_deref())),
            _ => None,
        };
        let scores = match vector {
            Some(vector) => {
                let mut logits = Vec::new();
                self.model.engine().head(&vector, &mut logits)?;
                self.scores(&logits)
            }
            None => self.scores(&outputs[0]),
        };
        let mut labels = self.ranked(scores);
        labels.truncate(self.top.unwrap_or(usize::MAX));
        Ok(labels)
    }

    fn columns(&self) -> Vec<String> {
        let columns = self.pooling.table.iter().flat_map(|table| &table.columns);
        columns.map(|column| column.name.clone()).collect()
    }
}

/// The places of the values beside a text.
fn placed(table: &Table, beside: &[String]) -> Result<Vec<Placed>, Error> {
    if beside.len() != table.columns.len() {
        let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
        return Err(Error::Input(format!(
            "expected a file with the columns {} beside the text, found a text alone",
            names.join(", ")
        )));
    }
    table.placed(beside).map_err(|(column, found)| {
        Error::Input(format!(
            "column {column:?}: expected a number, found {found:?}"
        ))
    })
}
