//! Looking into a model: how its layers mix tokens, and what can be read where.
//!
//! A [`Subject`] is a model folder of texts or of items, opened to be looked into; each file beside this one asks it something
//! through the sites of its stack ([`Site`]).

pub mod codes;
pub mod lens;
pub mod mixing;
pub mod pattern;
pub mod probe;
pub mod swap;
pub mod walk;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use cloze_data::batch::PackedBatch;
use cloze_data::text::batch::TextBatch;
use cloze_data::text::{Input, Limit, Long, Tokenizer};
use cloze_data::{ItemVocabulary, cases};
use cloze_nn::pretrained::Pretrained;
use cloze_nn::{Encoder, Hook, Noise, Sequences};
use cloze_runtime::model::Checkpoint;
use cloze_runtime::predict::own_masks;
use cloze_runtime::{Batch, check};
use cloze_spec::codebook::{Branch, Codebook};
use cloze_spec::encoder::{self, Task};
use cloze_spec::folder::Config;
use cloze_spec::hugging_face::Folder;
use cloze_spec::mixer::Mixer;

pub use cloze_nn::Site;

use crate::report::scores::Table;
use crate::{Error, recommend};

/// A model to be looked into.
pub struct Subject {
    model: Model,
}

enum Model {
    Texts(Box<OfTexts>),
    Items(Box<OfItems>),
}

struct OfTexts {
    encoder: Pretrained,
    tokenizer: Tokenizer,
    max_len: usize,
}

struct OfItems {
    encoder: Encoder,
    config: Config,
    vocabulary: ItemVocabulary,
}

/// A sequence as a model takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids, `[T]`.
    pub ids: Vec<u32>,
    /// Segment of each token, `[T]`.
    pub segments: Vec<u32>,
    /// What each token is called, `[T]`.
    pub names: Vec<String>,
    /// Whether it is there whatever the sequence is of, `[T]`.
    pub is_special: Vec<bool>,
}

/// A sequence of which something is hidden.
struct Hidden {
    sequence: Sequence,
    /// Where hidden words or items are foretold.
    at: Vec<usize>,
    /// What they are.
    words: Vec<usize>,
}

impl Subject {
    /// Opens a model folder, of texts or of items, whose parameters have no gradients.
    ///
    /// # Errors
    /// If any of its files is missing, broken, or does not fit the others.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, Error> {
        if !Folder::is_at(folder) {
            let (config, vocabulary, encoder) = recommend::open(folder, device)?;
            return Ok(Self {
                model: Model::Items(Box::new(OfItems {
                    encoder: encoder.no_grad(),
                    config,
                    vocabulary,
                })),
            });
        }
        let checkpoint = Checkpoint::open(folder)?;
        let files = &checkpoint.folder.tokenizer;
        let home = files.first().and_then(|file| file.parent());
        let tokenizer = Tokenizer::open(home.unwrap_or(folder))?;
        let limits = [checkpoint.folder.tokenizer_max_len, tokenizer.max_len()];
        let longest = checkpoint.encoder.max_len;
        Ok(Self {
            model: Model::Texts(Box::new(OfTexts {
                encoder: Pretrained::open(&checkpoint, device)?.no_grad(),
                max_len: limits.into_iter().flatten().fold(longest, usize::min),
                tokenizer,
            })),
        })
    }

    /// Whether it is of texts; else it is of items.
    pub fn is_of_texts(&self) -> bool {
        matches!(self.model, Model::Texts(_))
    }

    /// Longest sequence in tokens.
    pub fn max_len(&self) -> usize {
        match &self.model {
            Model::Texts(model) => model.max_len,
            Model::Items(model) => model.config.model.max_len,
        }
    }

    /// Number of layers, `L`.
    pub fn layers(&self) -> usize {
        match &self.model {
            Model::Texts(model) => model.encoder.settings().layers.len(),
            Model::Items(model) => model.config.model.stack.layers,
        }
    }

    /// What a layer's mixer is called.
    pub fn mixer(&self, layer: usize) -> String {
        let kind = |mixer: &Mixer| {
            let settings = serde_json::to_value(mixer).expect("settings are plain values");
            let kind = settings["kind"].as_str().expect("tagged by kind");
            kind.to_owned()
        };
        match &self.model {
            Model::Texts(model) => match &model.encoder.settings().layers[layer] {
                encoder::Layer::Attention(_) => "attention".to_owned(),
                encoder::Layer::Mixer(layer) => kind(&layer.parts.mixer),
            },
            Model::Items(model) => kind(&model.config.model.stack.layer(layer).mixer),
        }
    }

    /// The tokens of a text; none of a model of items.
    ///
    /// # Errors
    /// If the model is of items, the tokenizer cannot take the text, or it has more than `most` tokens.
    pub fn text(&self, text: &str, most: usize) -> Result<Sequence, Error> {
        let Model::Texts(model) = &self.model else {
            return Err(Error::Asked(
                "expected items, as the model is of items, found a text; name them with --items"
                    .to_owned(),
            ));
        };
        let max_len = most.min(model.max_len);
        let limit = Limit {
            max_len: usize::MAX,
            long: Long::Error,
        };
        let tokenizer = &model.tokenizer;
        let mask = tokenizer.mask().and_then(|mask| tokenizer.token(mask));
        let text = match &mask {
            Some(mask) => own_masks(tokenizer, mask, text),
            None => text.into(),
        };
        let encoding = tokenizer.encode(Input::from(&*text), limit)?;
        let encoding = encoding.into_iter().next().unwrap_or_default();
        if encoding.len() > max_len {
            return Err(too_long(encoding.len(), max_len, "a shorter text"));
        }
        Ok(Sequence {
            names: encoding.ids.iter().map(|&id| self.name(id)).collect(),
            ids: encoding.ids,
            segments: encoding.segments,
            is_special: encoding.is_special,
        })
    }

    /// The tokens of a history, oldest item first, and for a model that fills blanks the blank where the next item comes.
    ///
    /// # Errors
    /// If the model is of texts, it does not know an item, or there are more than `most` tokens.
    pub fn history(&self, items: &[&str], most: usize) -> Result<Sequence, Error> {
        let Model::Items(model) = &self.model else {
            return Err(Error::Asked(
                "expected a text, as the model is of texts, found items; name it with --text"
                    .to_owned(),
            ));
        };
        let vocabulary = &model.vocabulary;
        let known = items.iter().map(|&id| {
            vocabulary.index(id).ok_or_else(|| {
                let near = vocabulary.nearest(id);
                let near =
                    near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                Error::Asked(format!("the model does not know item {id:?}{near}"))
            })
        });
        let items: Vec<u32> = known.collect::<Result<_, _>>()?;
        let spec = &model.config.model;
        let blank = spec
            .stack
            .mixer
            .sees_future()
            .then(|| vocabulary.len() as u32);
        let tokens = items.len() + usize::from(blank.is_some());
        let max_len = most.min(spec.max_len);
        if tokens > max_len {
            return Err(too_long(tokens, max_len, "fewer items"));
        }
        if tokens == 0 {
            return Err(Error::Asked("expected items, found none".to_owned()));
        }
        let batch = cases::next_item_batch([&*items], spec.max_len, blank);
        Ok(Sequence {
            names: batch.tokens.iter().map(|&token| self.name(token)).collect(),
            segments: vec![0; batch.tokens.len()],
            is_special: batch.tokens.iter().map(|&id| Some(id) == blank).collect(),
            ids: batch.tokens,
        })
    }

    /// The residual stream's end after the final norm, looked into on the way; of items, what the head makes of it.
    ///
    /// # Shapes
    /// `N` tokens → `[N, D]`
    ///
    /// # Errors
    /// If a token or a sequence's length is beyond what the model has.
    fn pass(&self, batch: &Batch, hook: &mut Hook<'_>) -> Result<Tensor<2>, Error> {
        match &self.model {
            Model::Texts(model) => {
                check(model.encoder.settings(), batch)?;
                Ok(model.encoder.forward(batch, hook))
            }
            Model::Items(model) => {
                let mut packed = PackedBatch::new();
                for index in 0..batch.len() {
                    packed.push(&batch.tokens[batch.range(index)]);
                }
                packed.rows = (0..batch.tokens.len() as u32).collect();
                let sequences = Sequences::new(&packed);
                Ok(model.encoder.hooked(&sequences, &mut Noise::none(), hook))
            }
        }
    }

    /// As of [`Pretrained::mixed`].
    fn mixed(&self, layer: usize, x: Tensor<2>, offsets: &[u32]) -> Tensor<2> {
        match &self.model {
            Model::Texts(model) => model.encoder.mixed(layer, x, offsets),
            Model::Items(model) => model.encoder.mixed(layer, x, offsets),
        }
    }

    /// As of [`Pretrained::shares`].
    fn shares(&self, layer: usize, x: Tensor<2>) -> Option<Tensor<3>> {
        match &self.model {
            Model::Texts(model) => model.encoder.shares(layer, x),
            Model::Items(model) => model.encoder.shares(layer, x),
        }
    }

    /// As of [`Pretrained::summed`].
    fn summed(&self, layer: usize, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        match &self.model {
            Model::Texts(model) => model.encoder.summed(layer, x, shares),
            Model::Items(model) => model.encoder.summed(layer, x, shares),
        }
    }

    /// Hides of a text the tokens for which `is_hidden` says so; of a history the last item, or all but the first where each is
    /// foretold from those before it. None if there is nothing to hide, or nothing is left to see.
    fn hide(&self, sequence: &Sequence, mut is_hidden: impl FnMut() -> bool) -> Option<Hidden> {
        let mut hidden = Hidden {
            sequence: sequence.clone(),
            at: Vec::new(),
            words: Vec::new(),
        };
        let Sequence {
            ids,
            segments,
            names,
            is_special,
        } = &mut hidden.sequence;
        let free: Vec<usize> = (0..ids.len()).filter(|&at| !is_special[at]).collect();
        match &self.model {
            Model::Texts(model) => {
                let mask = model.tokenizer.mask()?;
                let free = free.into_iter().filter(|&at| ids[at] != mask);
                hidden.at = free.filter(|_| is_hidden()).collect();
                for &at in &hidden.at {
                    hidden.words.push(ids[at] as usize);
                    ids[at] = mask;
                    names[at] = self.name(mask);
                }
            }
            Model::Items(_) if free.len() < 2 => {}
            // The blank takes the place of the last item.
            Model::Items(_) if free.len() < ids.len() => {
                let at = free.len() - 1;
                hidden.words.push(ids.remove(at) as usize);
                segments.remove(at);
                names.remove(at);
                is_special.remove(at);
                hidden.at.push(at);
            }
            Model::Items(_) => {
                hidden.at = (0..ids.len() - 1).collect();
                hidden.words = ids[1..].iter().map(|&id| id as usize).collect();
            }
        }
        (!hidden.at.is_empty()).then_some(hidden)
    }

    /// Whether the model says words of a vocabulary.
    ///
    /// # Errors
    /// If it does not.
    fn names_words(&self) -> Result<(), Error> {
        let Model::Texts(model) = &self.model else {
            return Ok(());
        };
        match model
            .encoder
            .settings()
            .head
            .as_ref()
            .map(|head| &head.task)
        {
            Some(Task::MaskedToken) => Ok(()),
            other => Err(Error::Asked(format!(
                "expected a model that fills masks, found one with {}; what it would say cannot be told",
                match other {
                    None | Some(Task::Vector) => "no head of tokens",
                    Some(Task::Sequence(_)) => "labels of texts",
                    Some(Task::Token { .. }) => "labels of words",
                    Some(Task::Span) => "answers",
                    Some(Task::MaskedToken) => unreachable!("as above"),
                }
            ))),
        }
    }

    /// A score for each word or item: `[M, D]` of the residual stream → `[M, V]`.
    fn scores(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.model {
            Model::Texts(model) => model.encoder.head(model.encoder.normed(x)),
            Model::Items(model) => model.encoder.scores(x),
        }
    }

    /// The id of a word or item.
    fn word(&self, word: &str) -> Result<usize, Error> {
        let found = match &self.model {
            Model::Texts(model) => model.tokenizer.single(word)?,
            Model::Items(model) => model.vocabulary.index(word),
        };
        found.map(|id| id as usize).ok_or_else(|| {
            Error::Asked(format!(
                "expected a word of one token, or an item, that the model knows, found {word:?}"
            ))
        })
    }

    /// What a token is called.
    fn name(&self, id: u32) -> String {
        match &self.model {
            Model::Texts(model) => {
                let token = model.tokenizer.token(id);
                token.unwrap_or_else(|| id.to_string())
            }
            Model::Items(model) => {
                let vocabulary = &model.vocabulary;
                if id as usize == vocabulary.len() {
                    return "(blank)".to_owned();
                }
                vocabulary
                    .title(id)
                    .unwrap_or_else(|| vocabulary.id(id))
                    .to_owned()
            }
        }
    }

    /// Where a sequence asks for something: at its masks, or else at all tokens; of items at the last.
    fn asked(&self, sequence: &Sequence) -> Vec<usize> {
        let all = 0..sequence.ids.len();
        match &self.model {
            Model::Texts(model) => {
                let mask = model.tokenizer.mask();
                let masks = all.clone().filter(|&at| Some(sequence.ids[at]) == mask);
                let masks: Vec<usize> = masks.collect();
                if masks.is_empty() {
                    all.collect()
                } else {
                    masks
                }
            }
            Model::Items(_) => all.rev().take(1).collect(),
        }
    }

    /// Whether the model tells first and second texts apart.
    fn has_segments(&self) -> bool {
        match &self.model {
            Model::Texts(model) => model.encoder.settings().embed.segments.is_some(),
            Model::Items(_) => false,
        }
    }

    /// Channels of a token, `D`.
    fn width(&self) -> usize {
        match &self.model {
            Model::Texts(model) => model.encoder.settings().width,
            Model::Items(model) => model.config.model.width,
        }
    }

    /// Its codebooks: the site of each, and how many codes each of how many groups has.
    fn codebooks(&self) -> Vec<(Site, [usize; 2])> {
        let parts: Vec<Option<Codebook>> = match &self.model {
            Model::Texts(model) => {
                let layers = model.encoder.settings().layers.iter();
                layers
                    .map(|layer| match layer {
                        encoder::Layer::Attention(_) => None,
                        encoder::Layer::Mixer(layer) => layer.parts.codebook.clone(),
                    })
                    .collect()
            }
            Model::Items(model) => {
                vec![model.config.model.stack.codebook.clone(); self.layers()]
            }
        };
        let of = |(layer, codebook): (usize, Option<Codebook>)| {
            let codebook = codebook?;
            let size = [codebook.groups, codebook.codes];
            let site = |branch: &Branch| match branch {
                Branch::Mixer => Site::Mixer(layer),
                Branch::Ffn => Site::Ffn(layer),
            };
            let mut sites: Vec<Site> = codebook.sites.iter().map(site).collect();
            sites.sort_unstable();
            sites.dedup();
            Some(sites.into_iter().map(move |site| (site, size)))
        };
        let all = parts.into_iter().enumerate().filter_map(of);
        all.flatten().collect()
    }

    /// The tokens of a batch of texts, and the rows that are asked about.
    fn text_batch(&self, batch: TextBatch) -> (Batch, Option<Vec<u32>>) {
        let segments = if self.has_segments() {
            batch.segments
        } else {
            Vec::new()
        };
        let tokens = Batch {
            tokens: batch.tokens,
            segments,
            offsets: batch.offsets,
        };
        (tokens, batch.rows)
    }

    fn batch(&self, sequence: &Sequence) -> Batch {
        let mut batch = Batch::new();
        let segments: &[u32] = if self.has_segments() {
            &sequence.segments
        } else {
            &[]
        };
        batch.push(&sequence.ids, segments);
        batch
    }
}

fn too_long(found: usize, most: usize, instead: &str) -> Error {
    Error::Asked(format!(
        "expected at most {most} tokens to look at, found {found}; give {instead}, or raise --max-tokens up to what the model takes"
    ))
}

/// Of how many equal shares the entropy would be the same as of these, which sum to 1.
fn breadth(shares: impl Iterator<Item = f64>) -> f64 {
    let terms = shares.map(|share| {
        if share > 0.0 {
            -share * share.ln()
        } else {
            0.0
        }
    });
    terms.sum::<f64>().exp()
}

/// A table for a page.
fn titled(title: &str, (header, rows): (Vec<&'static str>, Vec<Vec<String>>)) -> Table {
    Table {
        title: title.to_owned(),
        header: header.into_iter().map(str::to_owned).collect(),
        rows,
        leads: false,
    }
}

/// The numbers of a tensor, row after row.
fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data()
        .try_into_vec()
        .expect("encoders compute in f32")
}

fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape), device)
}
