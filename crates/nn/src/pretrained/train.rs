use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Int, Tensor, TensorData, activation};
use cloze_data::text::batch::{Documents, TextBatch, Wanted};
use cloze_runtime::Batch;
use cloze_spec::encoder::{Activation, DropoutRates, Pool};
use cloze_spec::text::{self, ChunkPool};

use super::{Pretrained, chain, ctc, readout};
use crate::noise::Noise;
use crate::op;
use crate::site::Hook;
use crate::weights::names;

/// How labels are judged.
#[derive(Debug, Clone, Copy)]
pub struct LabelLoss<'a> {
    /// What the recipe says.
    pub settings: &'a text::LabelLoss,
    /// What each class weighs, `[C]`; all the same if none.
    pub class_weights: Option<&'a [f32]>,
}

impl Pretrained {
    /// The same encoder, those of its parameters left as they are whose names `is_frozen` takes.
    #[must_use]
    pub fn freeze(self, is_frozen: impl Fn(&str) -> bool) -> Self {
        let frozen: Vec<bool> = names(&self).iter().map(|name| is_frozen(name)).collect();
        self.map(&mut Freeze {
            frozen: frozen.into_iter(),
        })
    }

    /// The head's outputs where `batch` asks for them: for its rows, or else for whole sequences, or documents made of them.
    ///
    /// # Shapes
    /// `[M, C]`
    ///
    /// # Panics
    /// If the encoder has no head.
    pub fn outputs(&self, batch: &TextBatch, rates: DropoutRates, noise: &mut Noise) -> Tensor<2> {
        self.outputs_and_pairs(batch, rates, noise).0
    }

    /// The same, and scores of the segments of each sequence belonging together or not, `[B, 2]`, where `batch` asks for them.
    ///
    /// # Panics
    /// As [`Self::outputs`], or if the encoder does not learn from pairs.
    pub fn outputs_and_pairs(
        &self,
        batch: &TextBatch,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let (mut x, pairs) = match &self.scaffold.readout {
            Some(reader) => {
                let tokens = self.tokens(batch);
                let states = self.pass(&tokens, None, rates, noise, &mut Hook::none());
                let texts = readout::Texts {
                    offsets: &batch.offsets,
                    segments: &batch.segments,
                    beside: &batch.beside,
                };
                (reader.forward(&states, texts, rates, noise), None)
            }
            None => self.hidden(batch, false, rates, noise),
        };
        if let Some(documents) = &batch.documents {
            x = self.pooled(&x, documents);
        }
        let dropout = noise.dropout(rates.head);
        let head = self.head.as_ref().expect("the encoder has a head");
        (head.forward(x, &self.embed.token.weight, dropout), pairs)
    }

    /// One vector a document, of those of its windows.
    ///
    /// # Shapes
    /// `x: [B, D]` → `[documents, D]`
    fn pooled(&self, x: &Tensor<2>, documents: &Documents) -> Tensor<2> {
        let each = documents.offsets.windows(2).map(|windows| {
            let rows = x.clone().narrow(0, windows[0], windows[1] - windows[0]);
            match documents.pool {
                ChunkPool::Max => rows.max_dim(0),
                ChunkPool::Mean => rows.mean_dim(0),
                ChunkPool::Attention => {
                    let scores = self.scaffold.chunks.as_ref();
                    scores.expect("there are scores of windows").mean(rows)
                }
            }
        });
        Tensor::cat(each.collect(), 0)
    }

    /// How labels follow each other, `[C + 1, C + 1]`, if that is learned.
    pub fn transitions(&self) -> Option<Vec<f32>> {
        let table = self.head.as_ref()?.transition.as_ref()?;
        let values = table.weight.val().into_data().try_into_vec();
        Some(values.expect("encoders compute in f32"))
    }

    /// The mean loss of what `batch` asks for, `[1]`.
    ///
    /// # Panics
    /// As [`Self::outputs`].
    pub fn loss(
        &self,
        batch: &TextBatch,
        how: LabelLoss<'_>,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        let loss = self.own_loss(batch, how, rates, noise);
        noise.with_owed(loss)
    }

    fn own_loss(
        &self,
        batch: &TextBatch,
        how: LabelLoss<'_>,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        match &batch.wanted {
            Wanted::Tokens(targets) => self.masked_loss(batch, targets, rates, noise),
            Wanted::Replaced(targets) => self.replaced_loss(batch, targets, rates, noise),
            Wanted::Places(places) => self.position_loss(batch, places, rates, noise),
            Wanted::Classes(classes) => {
                let logits = self.outputs(batch, rates, noise);
                let head = self.head.as_ref().expect("the encoder has a head");
                match &head.transition {
                    Some(steps) => {
                        let rows = batch.rows.as_deref().expect("words are labelled");
                        let lengths: Vec<usize> = rows_of_texts(&batch.offsets, rows).collect();
                        chain::loss(&logits, steps.weight.val(), &lengths, classes)
                    }
                    None => label_loss(logits, classes, how),
                }
            }
            Wanted::Sets(sets) => {
                let logits = self.outputs(batch, rates, noise);
                let truth = Tensor::from_data(
                    TensorData::new(sets.clone(), logits.dims()),
                    &logits.device(),
                );
                set_loss(logits, truth, how)
            }
            Wanted::Numbers(numbers) => {
                let found = self.outputs(batch, rates, noise);
                let truth = Tensor::from_data(
                    TensorData::new(numbers.clone(), found.dims()),
                    &found.device(),
                );
                (found - truth).powi_scalar(2).mean()
            }
            Wanted::Transcripts(labels) => match &self.scaffold.transcript {
                Some(writer) => {
                    let tokens = self.tokens(batch);
                    let states = self.pass(&tokens, None, rates, noise, &mut Hook::none());
                    writer.loss(&states, &batch.offsets, labels, how, (rates, noise))
                }
                None => ctc::loss(self.outputs(batch, rates, noise), &batch.offsets, labels),
            },
            Wanted::Spans(spans) => {
                span_loss(&self.outputs(batch, rates, noise), &batch.offsets, spans)
            }
        }
    }

    /// The tokens of a batch.
    pub(super) fn tokens(&self, batch: &TextBatch) -> Batch {
        Batch {
            tokens: batch.tokens.clone(),
            segments: if self.embed.segment.is_some() {
                batch.segments.clone()
            } else {
                Vec::new()
            },
            offsets: batch.offsets.clone(),
        }
    }

    /// Vectors of the batch's rows, or of its sequences where it has none; and scores of pairs, where it asks for them. Through
    /// the decoder, if there is one and it is to `decode`.
    fn hidden(
        &self,
        batch: &TextBatch,
        decode: bool,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let tokens = self.tokens(batch);
        let pool = self.settings.head.as_ref().and_then(|head| head.pool);
        let firsts = &tokens.offsets[..tokens.len()];
        let rows: Option<Arc<[u32]>> = match (pool, &batch.pairs) {
            (Some(Pool::First), _) => Some(firsts.into()),
            (Some(Pool::Mean), _) => None,
            (None, None) => batch.rows.as_deref().map(Into::into),
            (None, Some(_)) => {
                let rows = batch.rows.iter().flatten();
                Some(rows.chain(firsts).copied().collect())
            }
        };
        let x = match (&rows, &batch.rows) {
            (Some(rows), Some(hidden)) if decode && self.scaffold.decodes() => {
                self.decoded(&tokens, hidden, rows, rates, noise)
            }
            _ => self.pass(&tokens, rows.as_ref(), rates, noise, &mut Hook::none()),
        };
        if batch.pairs.is_some() {
            let [all, width] = x.dims();
            let own = all - batch.len();
            let head = self.scaffold.pair.as_ref().expect("it learns from pairs");
            let firsts = x.clone().slice([own..all, 0..width]);
            let pairs = head.forward(firsts, Activation::Tanh);
            return (x.slice([0..own, 0..width]), Some(pairs));
        }
        if pool != Some(Pool::Mean) {
            return (x, None);
        }
        let width = x.dims()[1];
        let means = (0..tokens.len()).map(|index| {
            let rows = x.clone().slice([tokens.range(index), 0..width]);
            rows.mean_dim(0)
        });
        (Tensor::cat(means.collect(), 0), None)
    }

    /// The output map's scores never lie in memory whole: there is one for each token of the vocabulary.
    fn masked_loss(
        &self,
        batch: &TextBatch,
        targets: &[u32],
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        let head = self.head.as_ref().expect("the encoder has a head");
        let (table, bias) = head
            .output_map(&self.embed.token.weight)
            .expect("the head has an output map");
        let (x, pairs) = self.hidden(batch, true, rates, noise);
        let hidden = head.transformed(x);
        let vocab = table.dims()[0];
        let loss = op::cross_entropy(hidden, table, bias, vocab, &targets.into());
        match (pairs, &batch.pairs) {
            (Some(scores), Some(classes)) => {
                let settings = text::LabelLoss::default();
                let how = LabelLoss {
                    settings: &settings,
                    class_weights: None,
                };
                loss + label_loss(scores, classes, how)
            }
            _ => loss,
        }
    }
}

/// How many of the rising `rows` each text has.
fn rows_of_texts(offsets: &[u32], rows: &[u32]) -> impl Iterator<Item = usize> {
    let before = |end: &u32| rows.partition_point(|row| row < end);
    offsets
        .windows(2)
        .map(move |text| before(&text[1]) - before(&text[0]))
}

/// Cross-entropy of rows of scores with their classes, smoothed and focused as the settings say: each row counts as much as its
/// class weighs, and the sum is divided by what all rows weigh.
pub(super) fn label_loss(logits: Tensor<2>, classes: &[u32], how: LabelLoss<'_>) -> Tensor<1> {
    let [rows, count] = logits.dims();
    let device = logits.device();
    let smoothing = how.settings.label_smoothing;
    let target = |row: usize, class: usize| {
        let own = if classes[row] as usize == class {
            1.0 - smoothing
        } else {
            0.0
        };
        own + smoothing / count as f32
    };
    let targets = (0..rows * count).map(|at| target(at / count, at % count));
    let targets = Tensor::<2>::from_data(
        TensorData::new(targets.collect::<Vec<f32>>(), [rows, count]),
        &device,
    );
    let log = activation::log_softmax(logits, 1);
    let mut terms = targets * log.clone();
    if how.settings.focal_gamma > 0.0 {
        let miss = log.exp().neg().add_scalar(1.0).clamp_min(1e-7);
        terms = terms * miss.powf_scalar(how.settings.focal_gamma);
    }
    let losses = terms.sum_dim(1).neg(); // [M, 1]
    let Some(weights) = how.class_weights else {
        return losses.mean();
    };
    let of_rows: Vec<f32> = classes
        .iter()
        .map(|&class| weights[class as usize])
        .collect();
    let total: f32 = of_rows.iter().sum();
    let of_rows = Tensor::from_data(TensorData::new(of_rows, [rows, 1]), &device);
    (losses * of_rows).sum().div_scalar(total)
}

/// Mean binary cross-entropy of scores with sets of labels, 1 where a label is in the set.
fn set_loss(logits: Tensor<2>, truth: Tensor<2>, how: LabelLoss<'_>) -> Tensor<1> {
    // log σ(x) and log σ(−x), each without overflow.
    let yes = activation::log_sigmoid(logits.clone());
    let no = activation::log_sigmoid(logits.neg());
    let smoothing = how.settings.label_smoothing;
    let truth = truth
        .mul_scalar(1.0 - smoothing)
        .add_scalar(0.5 * smoothing);
    let mut positive = truth.clone() * yes.clone();
    let mut negative = truth.neg().add_scalar(1.0) * no.clone();
    if how.settings.focal_gamma > 0.0 {
        positive = positive * no.exp().powf_scalar(how.settings.focal_gamma);
        negative = negative * yes.exp().powf_scalar(how.settings.focal_gamma);
    }
    (positive + negative).mean().neg()
}

/// Mean cross-entropy of where an answer begins and of where it ends, each among the tokens of its sequence.
///
/// # Source
/// Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, §4.2.
fn span_loss(logits: &Tensor<2>, offsets: &[u32], spans: &[[u32; 2]]) -> Tensor<1> {
    let device = logits.device();
    let ends = offsets.windows(2).zip(spans).map(|(range, span)| {
        let scores = logits
            .clone()
            .slice([range[0] as usize..range[1] as usize, 0..2]); // [T, 2]
        let places = TensorData::new(span.map(|place| place as i32).to_vec(), [1, 2]);
        let places = Tensor::<2, Int>::from_data(places, &device);
        activation::log_softmax(scores, 0).gather(0, places)
    });
    Tensor::cat(ends.collect(), 0).mean().neg()
}

struct Freeze {
    frozen: std::vec::IntoIter<bool>,
}

impl ModuleMapper for Freeze {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.frozen.next().expect("a name a parameter") {
            param.set_require_grad(false)
        } else {
            param
        }
    }
}
