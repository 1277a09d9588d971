//! What comes next, for histories of users known or never seen.

use std::collections::HashSet;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use cloze_data::ItemVocabulary;
use cloze_data::cases::next_item_batch;
use cloze_kernels::op::rank::top_k;
use cloze_nn::op::{self, Activation};
use cloze_nn::{Encoder, Noise, Sequences};
use cloze_spec::folder::{self, Config};
use cloze_spec::inventory::parameters;
use rayon::prelude::*;

use crate::{Error, checkpoint};

/// An encoder that scores the next item of histories.
#[derive(Debug)]
pub struct Scorer {
    encoder: Encoder,
    /// The item vectors without the blank's, `[V, D]`.
    table: Tensor<2>,
    bias: Tensor<1>,
    max_len: usize,
    /// The next item is a blank to be filled; else the last item's vector foretells it.
    appends_blank: bool,
}

impl Scorer {
    /// Scores with `encoder`, made of `model`, on a device without autodiff.
    pub fn new(encoder: Encoder, model: &cloze_spec::Model) -> Self {
        let items = encoder.items();
        let table = encoder.table().slice([0..items, 0..model.width]);
        let bias = encoder
            .bias()
            .unwrap_or_else(|| Tensor::zeros([items], &table.device()));
        let appends_blank = model.stack.mixer.sees_future();
        Self {
            encoder,
            table,
            bias,
            max_len: model.max_len,
            appends_blank,
        }
    }

    /// Number of items, `V`.
    pub fn items(&self) -> usize {
        self.encoder.items()
    }

    /// A score an item for each history, into `scores`: `[histories, V]`. Only the newest items of a long history count.
    ///
    /// # Panics
    /// If a history is empty while the model needs a last item, or `scores` has another length.
    pub fn score(&self, histories: &[&[u32]], scores: &mut [f32]) {
        assert_eq!(
            scores.len(),
            histories.len() * self.items(),
            "a row of scores a history"
        );
        if histories.is_empty() {
            return;
        }
        let blank = self.appends_blank.then_some(self.items() as u32);
        let batch = next_item_batch(histories.iter().copied(), self.max_len, blank);
        let hidden = self
            .encoder
            .forward(&Sequences::new(&batch), &mut Noise::none()); // [M, D]
        let found = op::linear(
            hidden,
            self.table.clone(),
            self.bias.clone(),
            Activation::Identity,
        ); // [M, V]
        let found = found.into_data();
        scores.copy_from_slice(found.as_slice::<f32>().expect("scores are f32"));
    }
}

/// What may be recommended, and how much.
#[derive(Debug, Clone)]
pub struct Request {
    /// Recommendations a history.
    pub top: usize,
    /// Leave the history's own items out.
    pub exclude_seen: bool,
    /// Nothing but these; none: anything.
    pub allow: Option<HashSet<u32>>,
    /// None of these.
    pub deny: HashSet<u32>,
}

/// A model folder, ready to recommend.
#[derive(Debug)]
pub struct Recommender {
    /// The folder's architecture.
    pub config: Config,
    /// The items.
    pub vocabulary: ItemVocabulary,
    scorer: Scorer,
}

/// What a model folder holds: its architecture, its items, and its encoder on a device.
///
/// # Errors
/// If any of its files is missing, broken, or does not fit the others.
pub(crate) fn open(
    folder: &Path,
    device: &Device,
) -> Result<(Config, ItemVocabulary, Encoder), Error> {
    let config = Config::read(folder)?;
    let vocabulary = ItemVocabulary::read(&folder.join(folder::ITEMS))?;
    let path = folder.join(folder::WEIGHTS);
    if vocabulary.len() != config.items {
        return Err(Error::Weights {
            path: folder.join(folder::ITEMS),
            message: format!(
                "has {} items, {} says {}",
                vocabulary.len(),
                folder::CONFIG,
                config.items
            ),
        });
    }
    let values = checkpoint::read_values(&path, &parameters(&config.model, config.items))?;
    let encoder = Encoder::new(&config.model, config.items, &values, device);
    Ok((config, vocabulary, encoder))
}

/// Histories scored together.
const BATCH: usize = 256;
/// Scores in memory at once, so that a large vocabulary takes smaller batches.
const MAX_SCORES: usize = 1 << 24;

impl Recommender {
    /// Opens a model folder.
    ///
    /// # Errors
    /// If any of its files is missing, broken, or does not fit the others.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, Error> {
        let (config, vocabulary, encoder) = open(folder, device)?;
        let scorer = Scorer::new(encoder, &config.model);
        Ok(Self {
            config,
            vocabulary,
            scorer,
        })
    }

    /// The model alone.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The best items for each history, best first, with their scores; equal scores in the order of the vocabulary.
    /// A history without items gets none.
    pub fn recommend(&self, histories: &[&[u32]], request: &Request) -> Vec<Vec<(u32, f32)>> {
        let items = self.scorer.items();
        let known: Vec<usize> = (0..histories.len())
            .filter(|&i| !histories[i].is_empty())
            .collect();
        let mut best = vec![Vec::new(); histories.len()];
        for part in known.chunks((MAX_SCORES / items).clamp(1, BATCH)) {
            let rows: Vec<&[u32]> = part.iter().map(|&i| histories[i]).collect();
            let mut scores = vec![0.0; rows.len() * items];
            self.scorer.score(&rows, &mut scores);
            let found: Vec<_> = scores
                .par_chunks(items)
                .zip(&rows)
                .map(|(scores, history)| {
                    let seen: HashSet<u32> = if request.exclude_seen {
                        history.iter().copied().collect()
                    } else {
                        HashSet::new()
                    };
                    let skip = |item: u32| {
                        seen.contains(&item)
                            || request.deny.contains(&item)
                            || request
                                .allow
                                .as_ref()
                                .is_some_and(|allow| !allow.contains(&item))
                    };
                    top_k(scores, request.top, skip)
                })
                .collect();
            for (&index, found) in part.iter().zip(found) {
                best[index] = found;
            }
        }
        best
    }
}
