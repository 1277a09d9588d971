//! Reference outputs: what another implementation gave, stored in a file, and how far an engine is from it.
//!
//! `tools/golden/README.md` describes the file. A [`Difference`] is told per root mean square of the reference, so that one
//! tolerance suits every model.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cloze_data::text::{Encoding, Input, Long, Shorten};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::engine::sequence_vectors;
use crate::model::TextEncoder;
use crate::predict::{Classifier, Predict};
use crate::weights::safetensors::header;
use crate::{Batch, Engine, Error, Rows};

/// Inputs, and what they should give. What the file does not have is empty.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// What made the numbers.
    pub source: String,
    /// The sequences.
    pub batch: Batch,
    /// The embedding, then each layer's output before any final norm: `L + 1` times `[N, D]`.
    pub hidden: Vec<Vec<f32>>,
    /// The vectors of every token, `[N, D]`.
    pub output: Vec<f32>,
    /// What the head gives each row, or the tokens at `logit_rows` if there are any.
    pub logits: Vec<f32>,
    /// Places of tokens in the batch.
    pub logit_rows: Vec<u32>,
    /// What a cross-encoder makes of the logits, `[B, C]`.
    pub scores: Vec<f32>,
    /// The embedding of each text, `[B, E]`.
    pub embeddings: Vec<f32>,
    /// What the sequences were made of.
    pub texts: Vec<Text>,
    /// For each text the name of its prompt; the folder's default if none.
    pub prompts: Vec<Option<String>>,
}

/// One input of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// A text.
    One(String),
    /// Two of them, in one sequence.
    Pair(String, String),
}

/// How far one stage is from its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which: `embedding`, `layer 0`, …, `output`, `head`, `embeddings`, `scores`.
    pub stage: String,
    /// Largest absolute difference, per root mean square of the reference.
    pub largest: f32,
    /// Root mean square of the difference, per that of the reference.
    pub rms: f32,
}

impl Difference {
    /// Compares what is `found` with what is `wanted`; a difference that is not a number is infinite.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(stage: impl Into<String>, found: &[f32], wanted: &[f32]) -> Self {
        assert_eq!(found.len(), wanted.len(), "values of a stage");
        let (mut largest, mut squares, mut size) = (0.0_f64, 0.0_f64, 0.0_f64);
        for (&found, &wanted) in found.iter().zip(wanted) {
            let difference = (f64::from(found) - f64::from(wanted)).abs();
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            largest = largest.max(difference);
            squares += difference * difference;
            size += f64::from(wanted).powi(2);
        }
        let count = wanted.len().max(1) as f64;
        let size = (size / count).sqrt().max(f64::from(f32::MIN_POSITIVE));
        Self {
            stage: stage.into(),
            largest: (largest / size) as f32,
            rms: ((squares / count).sqrt() / size) as f32,
        }
    }
}

impl Golden {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not of this format.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        parse(&bytes).map_err(|message| Error::Golden {
            path: path.to_owned(),
            message,
        })
    }

    /// How far `engine` is from every stage that the file has, first to last.
    ///
    /// # Errors
    /// If the engine cannot run the sequences, or has other stages, widths or outputs than the file.
    pub fn compare(&self, engine: &dyn Engine) -> Result<Vec<Difference>, Error> {
        let mut differences = Vec::new();
        let mut stages = Vec::new();
        engine.trace(&self.batch, &mut |stage| stages.push(stage.to_vec()))?;
        let output = stages.pop().unwrap_or_default();
        if !self.hidden.is_empty() {
            let wanted = self.hidden.iter().map(Vec::len);
            if !stages.iter().map(Vec::len).eq(wanted) {
                return Err(Error::Batch(format!(
                    "the model has {} layers of {} values, the reference {} of {}",
                    stages.len().saturating_sub(1),
                    stages.first().map_or(0, Vec::len),
                    self.hidden.len() - 1,
                    self.hidden[0].len(),
                )));
            }
            for (index, (found, wanted)) in stages.iter().zip(&self.hidden).enumerate() {
                let stage = match index {
                    0 => "embedding".to_owned(),
                    layer => format!("layer {}", layer - 1),
                };
                differences.push(Difference::of(stage, found, wanted));
            }
        }
        if !self.output.is_empty() {
            differences.push(compare("output", &output, &self.output)?);
        }
        if !self.logits.is_empty() {
            let vectors = self.head_inputs(engine)?;
            let mut logits = Vec::new();
            engine.head(&vectors, &mut logits)?;
            differences.push(compare("head", &logits, &self.logits)?);
        }
        Ok(differences)
    }

    /// How far the embeddings of the file's texts are from those of `model`, which must have the file's tokens for them.
    ///
    /// # Errors
    /// If a text has other tokens, or embeddings another width.
    pub fn compare_embeddings(&self, model: &TextEncoder) -> Result<Difference, Error> {
        let encode = |index: usize, text: &Text| match text {
            Text::One(text) => {
                let prompt = self.prompts.get(index).and_then(Option::as_deref);
                model.encode(text, prompt)
            }
            Text::Pair(..) => Err(Error::Batch(format!(
                "text {index}: an embedding is of one text, the reference has a pair"
            ))),
        };
        let windows = self.encode(encode)?;
        let windows: Vec<&Encoding> = windows.iter().collect();
        compare("embeddings", &model.embed(&windows)?, &self.embeddings)
    }

    /// How far the scores of the file's texts are from those of `model`, which must have the file's tokens for them.
    ///
    /// # Errors
    /// If a text has other tokens, or there are more or fewer labels.
    pub fn compare_scores(&self, model: &Classifier) -> Result<Difference, Error> {
        let long = Long::Truncate(Shorten::LongestFirst);
        let windows = self.encode(|_, text| {
            let input = match text {
                Text::One(text) => Input::from(&**text),
                Text::Pair(first, second) => Input::from((&**first, &**second)),
            };
            Ok(model.encode(input, long)?.remove(0))
        })?;
        let windows: Vec<&Encoding> = windows.iter().collect();
        let logits = model.run(&windows)?;
        let scores: Vec<f32> = logits.iter().flat_map(|row| model.scores(row)).collect();
        compare("scores", &scores, &self.scores)
    }

    /// The tokens of the file's texts, which must be those of the file.
    fn encode(
        &self,
        encode: impl Fn(usize, &Text) -> Result<Encoding, Error>,
    ) -> Result<Vec<Encoding>, Error> {
        if self.texts.len() != self.batch.len() {
            return Err(Error::Batch(format!(
                "the reference has {} texts for {} sequences",
                self.texts.len(),
                self.batch.len()
            )));
        }
        let encoded = self.texts.iter().enumerate().map(|(index, text)| {
            let found = encode(index, text)?;
            let wanted = &self.batch.tokens[self.batch.range(index)];
            if found.ids != wanted {
                let found = &found.ids;
                return Err(Error::Batch(format!(
                    "text {index}: the tokenizer gives {found:?}, the reference has {wanted:?}"
                )));
            }
            Ok(found)
        });
        encoded.collect()
    }

    /// The vectors that the engine's head is asked about.
    fn head_inputs(&self, engine: &dyn Engine) -> Result<Vec<f32>, Error> {
        let head = engine.encoder().head.as_ref();
        if head.is_some_and(|head| head.pool.is_some()) {
            return sequence_vectors(engine, &self.batch);
        }
        let rows = if self.logit_rows.is_empty() {
            Rows::All
        } else {
            Rows::Some(&self.logit_rows)
        };
        let mut vectors = Vec::new();
        engine.run(&self.batch, rows, &mut vectors)?;
        Ok(vectors)
    }
}

fn compare(stage: &str, found: &[f32], wanted: &[f32]) -> Result<Difference, Error> {
    if found.len() != wanted.len() {
        return Err(Error::Batch(format!(
            "{stage}: the model gives {} values, the reference has {}",
            found.len(),
            wanted.len()
        )));
    }
    Ok(Difference::of(stage, found, wanted))
}

fn parse(bytes: &[u8]) -> Result<Golden, String> {
    let (_, header) = header(bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let format = metadata.get("format").map_or("", String::as_str);
    if format != "golden 1" {
        return Err(format!(
            "the metadata has format {format:?}, expected \"golden 1\"; is this a file of reference outputs?"
        ));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let offsets = integers(&tensors, "offsets")?;
    let tokens = integers(&tensors, "tokens")?;
    let segments = integers(&tensors, "segments")?;
    let ascend = offsets.windows(2).all(|pair| pair[0] < pair[1]);
    if offsets.first() != Some(&0) || offsets.last() != Some(&(tokens.len() as u32)) || !ascend {
        return Err(format!(
            "offsets do not ascend from 0 to the number of tokens, {}",
            tokens.len()
        ));
    }
    if !segments.is_empty() && segments.len() != tokens.len() {
        let (segments, tokens) = (segments.len(), tokens.len());
        return Err(format!("{segments} segments for {tokens} tokens"));
    }
    let logit_rows = integers(&tensors, "logit_rows")?;
    let there = logit_rows.iter().all(|&row| (row as usize) < tokens.len());
    if !there || logit_rows.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("logit_rows are not ascending places of tokens".to_owned());
    }
    let hidden = floats(&tensors, "hidden")?;
    let stages = tensors
        .tensor("hidden")
        .map_or(1, |tensor| tensor.shape()[0]);
    let hidden: Vec<Vec<f32>> = match hidden.len().checked_div(stages) {
        None | Some(0) => Vec::new(),
        Some(stage) => hidden.chunks(stage).map(<[f32]>::to_vec).collect(),
    };
    let mut output = floats(&tensors, "final")?;
    if output.is_empty() {
        output = hidden.last().cloned().unwrap_or_default();
    }
    Ok(Golden {
        source: metadata.get("source").cloned().unwrap_or_default(),
        batch: Batch {
            tokens,
            segments,
            offsets,
        },
        hidden,
        output,
        logits: floats(&tensors, "logits")?,
        logit_rows,
        scores: floats(&tensors, "scores")?,
        embeddings: floats(&tensors, "embeddings")?,
        texts: list(&metadata, "texts")?,
        prompts: list(&metadata, "prompts")?,
    })
}

/// A list of the metadata; empty where there is none.
fn list<T: for<'a> Deserialize<'a>>(
    metadata: &HashMap<String, String>,
    key: &str,
) -> Result<Vec<T>, String> {
    let text = metadata.get(key).map_or("[]", String::as_str);
    serde_json::from_str(text).map_err(|e| format!("metadata {key:?}: {e}"))
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, String> {
    values(tensors, name, Dtype::F32, f32::from_le_bytes)
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<u32>, String> {
    let values = values(tensors, name, Dtype::I32, i32::from_le_bytes)?;
    let value = |value| u32::try_from(value).map_err(|_| format!("{name} has the entry {value}"));
    values.into_iter().map(value).collect()
}

/// The values of a tensor; none where it is absent.
fn values<T>(
    tensors: &SafeTensors<'_>,
    name: &str,
    kind: Dtype,
    value: impl Fn([u8; 4]) -> T,
) -> Result<Vec<T>, String> {
    let Ok(tensor) = tensors.tensor(name) else {
        return Ok(Vec::new());
    };
    if tensor.dtype() != kind || tensor.shape().is_empty() {
        return Err(format!(
            "{name} is {:?} of shape {:?}, expected {kind:?} with dimensions",
            tensor.dtype(),
            tensor.shape()
        ));
    }
    let (words, _) = tensor.data().as_chunks();
    Ok(words.iter().map(|&word| value(word)).collect())
}
