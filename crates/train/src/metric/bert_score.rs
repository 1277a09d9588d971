//! How alike two texts are to an encoder: each token is matched with the one whose vector is most like its own.
//!
//! # Source
//! Zhang et al., `BERTScore`, ICLR 2020, arXiv:1904.09675; version 0.3.13 of its package `bert-score`.
//! # Departures
//! A text whose tokens all weigh nothing scores 0; the package gives no number. Nothing is padded; in the package, a token that
//! is unlike every other one scores 0 instead of less where its batch has padding.

use std::collections::{BTreeSet, HashMap};

use cloze_data::text::{Encoding, Long, Shorten};
use cloze_runtime::Batch;
use cloze_runtime::model::{Checkpoint, TextModel};
use rayon::prelude::*;

use super::counts::{Prf, ratio};
use crate::{Error, options};

/// An encoder, and which of its layers' vectors are compared.
pub struct BertScore {
    model: TextModel,
    layer: usize,
    /// `RoBERTa` reads the first word as if a blank stood before it.
    blank: bool,
    idf: Option<Idf>,
}

/// How much the tokens of a text weigh: `ln((n + 1) / (c + 1))` if `c` of `n` references have them.
struct Idf {
    texts: usize,
    counts: HashMap<u32, usize>,
}

/// A text, read.
struct Read {
    /// `[N, D]`, of length 1 each.
    vectors: Vec<f32>,
    weights: Vec<f64>,
    /// Whether it has a token that is not special.
    has_own: bool,
}

/// Tokens of a batch: what is between the layers stays small.
const BATCH_TOKENS: usize = 4096;

impl BertScore {
    /// Compares by the vectors after so many layers: all of them if none is named.
    ///
    /// # Errors
    /// If there is no such layer, or the folder has no tokenizer or does not fit its settings.
    pub fn new(checkpoint: Checkpoint, layer: Option<usize>) -> Result<Self, Error> {
        let layers = checkpoint.encoder.layers.len();
        let layer = layer.unwrap_or(layers);
        if layer > layers {
            return Err(Error::Empty(format!(
                "{}: expected one of its {layers} layers, found {layer}",
                checkpoint.folder.path.display()
            )));
        }
        let family = checkpoint.folder.config.get("model_type");
        let blank = family.is_some_and(|family| family == "roberta");
        let (_, model) = TextModel::new(checkpoint, options())?;
        Ok(Self {
            model,
            layer,
            blank,
            idf: None,
        })
    }

    /// The layer that is compared.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Weighs tokens by how rare they are in `references`.
    ///
    /// # Errors
    /// If the tokenizer cannot take one.
    pub fn weigh(&mut self, references: &[&str]) -> Result<(), Error> {
        let mut counts = HashMap::new();
        let encodings = references.par_iter().map(|text| self.encode(text));
        for encoding in encodings.collect::<Result<Vec<_>, Error>>()? {
            for id in encoding.ids.into_iter().collect::<BTreeSet<u32>>() {
                *counts.entry(id).or_insert(0) += 1;
            }
        }
        let texts = references.len();
        self.idf = Some(Idf { texts, counts });
        Ok(())
    }

    /// How alike each text is to its references: the best precision, recall and F1 of all of them, each by itself.
    ///
    /// # Errors
    /// If the tokenizer cannot take a text.
    pub fn scores(&self, texts: &[(&str, Vec<&str>)]) -> Result<Vec<Prf>, Error> {
        /// Texts that are in memory at a time, each with its references.
        const TEXTS: usize = 64;
        let mut scores = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TEXTS) {
            let sides = texts.iter().map(|(own, known)| (own, known.iter()));
            let all: BTreeSet<&str> = sides
                .flat_map(|(own, known)| std::iter::once(own).chain(known).copied())
                .collect();
            let read = self.read(&all.into_iter().collect::<Vec<_>>())?;
            scores.par_extend(texts.par_iter().map(|(own, known)| {
                let mut best = Prf::default();
                for (index, reference) in known.iter().enumerate() {
                    let prf = self.compare(&read[own], &read[reference]);
                    if index == 0 {
                        best = prf;
                    }
                    best.precision = best.precision.max(prf.precision);
                    best.recall = best.recall.max(prf.recall);
                    best.f1 = best.f1.max(prf.f1);
                }
                best
            }));
        }
        Ok(scores)
    }

    fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let text = text.trim();
        let with_blank;
        let text = if self.blank && !text.is_empty() {
            with_blank = format!(" {text}");
            &with_blank
        } else {
            text
        };
        let windows = self
            .model
            .windows(text.into(), Long::Truncate(Shorten::LongestFirst))?;
        Ok(windows.into_iter().next().expect("a text has a window"))
    }

    fn weight(&self, encoding: &Encoding, at: usize) -> f64 {
        match &self.idf {
            Some(idf) => {
                let count = idf.counts.get(&encoding.ids[at]).copied().unwrap_or(0);
                ((idf.texts + 1) as f64 / (count + 1) as f64).ln()
            }
            None => f64::from(u8::from(!encoding.is_special[at])),
        }
    }

    fn read<'a>(&self, texts: &[&'a str]) -> Result<HashMap<&'a str, Read>, Error> {
        let encodings = texts.par_iter().map(|text| self.encode(text));
        let encodings = encodings.collect::<Result<Vec<_>, Error>>()?;
        let mut all = HashMap::new();
        let mut start = 0;
        while start < texts.len() {
            let (mut end, mut tokens) = (start, 0);
            while end < texts.len()
                && (end == start || tokens + encodings[end].len() <= BATCH_TOKENS)
            {
                tokens += encodings[end].len();
                end += 1;
            }
            let parts: Vec<&Encoding> = encodings[start..end].iter().collect();
            let batch = self.model.batch(&parts);
            let vectors = self.vectors(&batch)?;
            let width = self.model.engine().encoder().width;
            for (index, encoding) in parts.iter().enumerate() {
                let range = batch.range(index);
                let weights = (0..encoding.len()).map(|at| self.weight(encoding, at));
                let read = Read {
                    vectors: vectors[range.start * width..range.end * width].to_vec(),
                    weights: weights.collect(),
                    has_own: encoding.is_special.contains(&false),
                };
                all.insert(texts[start + index], read);
            }
            start = end;
        }
        Ok(all)
    }

    /// The vectors of a batch's tokens after the layer that is compared, of length 1 each.
    fn vectors(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let engine = self.model.engine();
        let layers = engine.encoder().layers.len();
        // Behind the last layer may be a norm, which belongs to it.
        let wanted = if self.layer == layers {
            layers + 1
        } else {
            self.layer
        };
        let (mut stage, mut vectors) = (0, Vec::new());
        engine.trace(batch, &mut |found| {
            if stage == wanted {
                vectors = found.to_vec();
            }
            stage += 1;
        })?;
        for vector in vectors.chunks_mut(engine.encoder().width) {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            for x in vector {
                *x /= norm;
            }
        }
        Ok(vectors)
    }

    fn compare(&self, own: &Read, reference: &Read) -> Prf {
        if !own.has_own || !reference.has_own {
            return Prf::default();
        }
        let width = self.model.engine().encoder().width;
        let mut to = vec![f32::NEG_INFINITY; reference.weights.len()];
        let (mut precision, mut recall) = (0.0, 0.0);
        for (vector, weight) in own.vectors.chunks(width).zip(&own.weights) {
            let mut best = f32::NEG_INFINITY;
            for (other, to) in reference.vectors.chunks(width).zip(&mut to) {
                let likeness: f32 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                best = best.max(likeness);
                *to = to.max(likeness);
            }
            precision += weight * f64::from(best);
        }
        for (best, weight) in to.iter().zip(&reference.weights) {
            recall += weight * f64::from(*best);
        }
        let precision = ratio(precision, own.weights.iter().sum());
        let recall = ratio(recall, reference.weights.iter().sum());
        Prf {
            precision,
            recall,
            f1: ratio(2.0 * precision * recall, precision + recall),
        }
    }
}

/// Moves scores so that what texts share that have nothing to do with each other becomes 0, and equality stays 1.
pub fn rescale(score: Prf, nothing: Prf) -> Prf {
    let moved = |score: f64, nothing: f64| (score - nothing) / (1.0 - nothing);
    Prf {
        precision: moved(score.precision, nothing.precision),
        recall: moved(score.recall, nothing.recall),
        f1: moved(score.f1, nothing.f1),
    }
}
