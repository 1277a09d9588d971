//! Recipes over texts: what a text encoder learns from, what it is made of, and what it learns.

mod corpus;
mod features;
mod folds;
mod objective;
mod readout;
mod scaffold;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::encoder::DropoutRates;
use crate::inventory::Parameter;
use crate::optim::Optim;
use crate::recipe::{Document, Paper};
use crate::schedule::Schedule;
use crate::stage::{Validate, check_training};
use crate::{Error, Faults};

pub use corpus::{Corpus, Mix, Temperature};
pub use features::{
    Classifier, Cost, Feature, Fit, Forest, Grams, Pooled, Pooling, Rbf, TermUnit, WordList,
};
pub use folds::Folds;
pub use objective::{
    ChunkPool, Chunked, Chunks, ClassWeights, Crf, Decode, Decoder, DecoderMix, LabelDecoder,
    LabelLoss, MaskedToken, MixShare, Objective, Pair, Position, Problem, ReplacedToken, Segments,
    Sequence, Span, SpanLength, Tags, Token, Transcribed, Transcriber, Transcript, Unit,
    lower_is_better,
};
pub use readout::{
    ColumnReadout, Evolution, Placed, ReadOut, Readout, RecurrentReadout, Table, TableColumn,
    TableValues, number,
};
pub use scaffold::{Generator, Scaffold, Transcribing};

/// A system over texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// Where all randomness flows from.
    pub seed: u64,
    /// The publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<Paper>,
    /// What it learns from.
    pub data: Texts,
    /// What it is made of.
    pub model: TextModel,
    /// What is done, in order.
    pub stage: Vec<Stage>,
}

/// What tells a recipe over texts from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Texts.
    Text,
}

/// Files of texts, and what is true of them.
///
/// Labelled texts are tables (Parquet, CSV, TSV, JSON Lines), labelled words are files as of `CoNLL`, questions are JSON as
/// of `SQuAD`; texts to fill blanks in may be tables or plain lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Always `text`.
    pub kind: Kind,
    /// To learn from; relative to the working folder. None: the caller names them.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Or corpora with names and files of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpus: Vec<Corpus>,
    /// How often texts of each corpus are learned from.
    #[serde(default, skip_serializing_if = "Mix::is_natural")]
    pub mix: Mix,
    /// To choose by while training; none: the share [`Self::validation_share`] of the training files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<PathBuf>,
    /// To judge the chosen model by; none: the validation files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<PathBuf>,
    /// Share of the training examples that is held out where there are no validation files.
    #[serde(default = "tenth")]
    pub validation_share: f64,
    /// Judge by cross-validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folds: Option<Folds>,
    /// Learn from so many texts of each class, drawn at random, or from all of a class that has fewer; none: from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
    /// Columns of tables.
    #[serde(default)]
    pub columns: Columns,
    /// Whether the first line of a CSV or TSV names the columns; if not, columns are named by number, counted from 0.
    #[serde(default = "yes")]
    pub header: bool,
    /// Whether quotes around a value of a CSV or TSV belong to the format; if not, they are characters like others, as in
    /// the files of GLUE.
    #[serde(default = "yes")]
    pub quotes: bool,
    /// What parts the labels of a text that has several, where they are written as one.
    #[serde(default = "comma")]
    pub label_separator: char,
    /// Labels in the order of the head's outputs; none: all that occur, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What makes one text of the lines of a file without columns.
    #[serde(default)]
    pub documents: Documents,
    /// Keep tokens in files of the run's folder instead of memory, for texts of blanks that are more than memory holds. What is
    /// learned is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

fn tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn comma() -> char {
    ','
}

/// What makes one text of plain lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Documents {
    /// Each line is one.
    #[default]
    Lines,
    /// Lines up to an empty one are one.
    Paragraphs,
}

/// Columns of tables of texts. Of files as of `CoNLL`, columns are numbers from 0 or have the names of `CoNLL-U`, such as
/// `upos`; `text` is the first, or `form`, and `label` the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The text, or the first of a pair.
    #[serde(default = "text")]
    pub text: String,
    /// The second of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// What is true.
    #[serde(default = "label")]
    pub label: String,
    /// Numbers beside the text, for a readout that takes columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// Classes beside the text, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

fn text() -> String {
    "text".to_owned()
}

fn label() -> String {
    "label".to_owned()
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            text: text(),
            second: None,
            label: label(),
            numbers: Vec::new(),
            categories: Vec::new(),
        }
    }
}

/// What an encoder of texts is made of: a pretrained one, or settings for a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextModel {
    /// The pretrained encoder to begin with: its folder, or its name on the hub. None, nor [`Self::config`]: the caller names
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The folder of the tokenizer of a new encoder; a pretrained one brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Settings of a new encoder, by the names that the `transformers` package has for them: `model_type`, `hidden_size`, ….
    /// With the type `cloze-mixer` also components of recipes of items: `mixer`, `ffn`, `norm` and `block`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, toml::Value>,
    /// Longest sequence in tokens, special ones included; longer texts are cut, or become several windows.
    pub max_len: usize,
    /// Shares dropped in training; absent: what the encoder's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<DropoutRates>,
    /// Learn small updates of the layers' maps, and the head, instead of all parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// Parameters that stay as they are: those whose names begin with one of these, such as `embed.` or `layer.0.`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Deviation of new weights; absent: what [`TextModel::deviation`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f32>,
}

/// Updates of low rank: a map `W` of `I` inputs and `O` outputs becomes `W + alpha/rank · B·A`, where only `A: [rank, I]` and
/// `B: [O, rank]` learn. What is written has them put into `W`.
///
/// # Source
/// Hu et al., `LoRA`, ICLR 2022, arXiv:2106.09685, §4.1; on all maps as in Dettmers et al., `QLoRA`, arXiv:2305.14314, §4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of an update.
    pub rank: usize,
    /// An update counts this much, divided by its rank.
    pub alpha: f32,
    /// Which maps of each layer learn.
    #[serde(default = "all_maps")]
    pub maps: Vec<LayerMap>,
}

/// A map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerMap {
    /// Queries, keys and values.
    Qkv,
    /// Attention's output.
    Output,
    /// The first of the feed-forward part.
    Up,
    /// The second of the feed-forward part.
    Down,
}

fn all_maps() -> Vec<LayerMap> {
    vec![
        LayerMap::Qkv,
        LayerMap::Output,
        LayerMap::Up,
        LayerMap::Down,
    ]
}

impl LayerMap {
    /// The end of its parameter's name.
    fn part(self) -> &'static str {
        match self {
            Self::Qkv => "mixer.qkv",
            Self::Output => "mixer.output",
            Self::Up => "ffn.up",
            Self::Down => "ffn.down",
        }
    }
}

impl Lora {
    /// The parameters of the updates of those of `parameters` that have one: of `NAME.weight`, `NAME.lora.a` and `NAME.lora.b`.
    pub fn parameters(&self, parameters: &[Parameter]) -> Vec<Parameter> {
        let updated = parameters.iter().filter_map(|parameter| {
            let name = parameter.name.strip_suffix(".weight")?;
            let rest = name.strip_prefix("layer.")?.split_once('.')?.1;
            let is_updated = self.maps.iter().any(|map| map.part() == rest);
            is_updated.then_some((name, &parameter.shape))
        });
        updated
            .flat_map(|(name, shape)| {
                [
                    ("a", vec![self.rank, shape[1]]),
                    ("b", vec![shape[0], self.rank]),
                ]
                .map(|(part, shape)| Parameter {
                    name: format!("{name}.lora.{part}"),
                    shape,
                })
            })
            .collect()
    }

    /// What `B·A` is multiplied with.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// A stage, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Stage {
    /// Learn from texts.
    Train(Box<Train>),
    /// Leave the encoder as it is, and fit a classifier to features of texts.
    Fit(Box<Fit>),
}

/// Settings of training on texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// What is to be predicted, and the loss.
    pub objective: Objective,
    /// How many tokens make a batch.
    pub batch: Batch,
    /// Smaller batches at first; absent: all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_warmup: Option<BatchWarmup>,
    /// Batches whose gradients are summed for one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Keep of each layer only what goes into it, and compute the rest once more on the way back: about a third more time, and the
    /// memory of one layer's inside instead of all of them.
    ///
    /// # Source
    /// Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// What matrices are multiplied in.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Passes over the data; early stopping may end sooner. The schedule ends with the last of these.
    pub epochs: u64,
    /// The optimiser.
    pub optim: Optim,
    /// The learning rate of a layer is this times that of the layer above it; 1: all learn alike.
    ///
    /// # Source
    /// Howard and Ruder, `ULMFiT`, ACL 2018, arXiv:1801.06146, §3.2.
    #[serde(default = "alike")]
    pub layer_decay: f64,
    /// The learning rate over the run.
    pub schedule: Schedule,
    /// When to look at the validation texts, and when to stop.
    pub validate: Validate,
}

/// What maps of tokens, products of attention and scores of a vocabulary are multiplied in. Weights, sums over tokens, norms, losses and
/// the optimiser stay in f32.
///
/// # Source
/// Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740; Kalamkar et al., A Study of `BFLOAT16` for Deep
/// Learning Training, 2019, arXiv:1905.12322, for why no loss needs to be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits throughout.
    #[default]
    F32,
    /// Factors of 16 bits, on GPUs that have them.
    Bf16,
}

impl Precision {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde calls"
    )]
    fn is_single(&self) -> bool {
        *self == Self::F32
    }
}

/// The most tokens of a batch grow in a straight line from here to what the batch says.
///
/// # Source
/// Brown et al., GPT-3, `NeurIPS` 2020, arXiv:2005.14165, appendix B.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchWarmup {
    /// Most tokens of the first batch; no less than the longest text has.
    pub from_tokens: usize,
    /// Share of the run, in tokens, until batches have their full size.
    pub share: f64,
}

impl BatchWarmup {
    /// Most tokens of a batch once a `done` share of the run is over, of batches of at most `max_tokens`.
    pub fn max_tokens(&self, done: f64, max_tokens: usize) -> usize {
        let grown = (done / self.share).min(1.0) * (max_tokens - self.from_tokens) as f64;
        self.from_tokens + grown as usize
    }
}

fn one() -> usize {
    1
}

fn alike() -> f64 {
    1.0
}

impl TextRecipe {
    /// The stage that trains the encoder.
    ///
    /// # Panics
    /// If the encoder stays as it is.
    pub fn train(&self) -> &Train {
        let Stage::Train(train) = &self.stage[0] else {
            panic!("the encoder of this recipe is not trained");
        };
        train
    }

    /// Says what the labels of words are, as the files have it.
    pub fn settle(&mut self, tags: Tags) {
        let (objective, metric) = match &mut self.stage[0] {
            Stage::Train(train) => (&mut train.objective, &mut train.validate.metric),
            Stage::Fit(fit) => (&mut fit.objective, &mut fit.metric),
        };
        if let Objective::Token(token) = objective {
            token.tags = Some(tags);
            let known = objective.metrics();
            if !known.contains(&&**metric) {
                known[0].clone_into(metric);
            }
        }
    }

    /// What is to be predicted.
    pub fn objective(&self) -> &Objective {
        self.stage[0].objective()
    }

    /// How many tokens make a batch.
    pub fn batch(&self) -> Batch {
        match &self.stage[0] {
            Stage::Train(train) => train.batch,
            Stage::Fit(fit) => fit.batch,
        }
    }

    /// The metric that decides.
    pub fn metric(&self) -> &str {
        match &self.stage[0] {
            Stage::Train(train) => &train.validate.metric,
            Stage::Fit(fit) => &fit.metric,
        }
    }
}

impl Stage {
    fn objective(&self) -> &Objective {
        match self {
            Self::Train(train) => &train.objective,
            Self::Fit(fit) => &fit.objective,
        }
    }
}

impl Document for TextRecipe {
    fn validate(&self, place: &str) -> Result<(), Error> {
        let mut faults = Faults::default();
        self.check_data(&mut faults);
        self.model.check(&mut faults);
        faults.check(self.stage.len() == 1, "stage", || {
            format!("expected one [[stage]], found {}", self.stage.len())
        });
        for (index, stage) in self.stage.iter().enumerate() {
            let path = &format!("stage.{index}");
            self.check_objective(path, stage.objective(), &mut faults);
            match stage {
                Stage::Train(train) => train.check(path, self.model.max_len, &mut faults),
                Stage::Fit(fit) => fit.check(path, &mut faults),
            }
        }
        faults.into_result(place)
    }
}

impl TextRecipe {
    /// Whether what the data is said to be fits what is learned.
    fn check_data(&self, faults: &mut Faults) {
        let share = self.data.validation_share;
        faults.check(
            (0.0..1.0).contains(&share) && share > 0.0,
            "data.validation_share",
            || format!("expected a share above 0 and below 1, found {share}"),
        );
        let mut seen = std::collections::BTreeSet::new();
        for label in &self.data.labels {
            faults.check(seen.insert(label), "data.labels", || {
                format!("{label:?} stands there twice")
            });
        }
        if let Some(count) = self.data.per_class {
            faults.check_positive("data.per_class", count);
            let has_classes = self.stage.iter().all(|stage| {
                matches!(
                    stage.objective(),
                    Objective::Sequence(sequence) if sequence.problem == Problem::SingleLabel
                )
            });
            faults.check(has_classes, "data.per_class", || {
                "expected an objective with one label a text, found another; leave it out"
                    .to_owned()
            });
        }
        self.data.check_corpora(faults);
        if let Some(folds) = &self.data.folds {
            let objective = self.stage.first().map(Stage::objective);
            folds.check(&self.data, objective, faults);
        }
        let objectives = || self.stage.iter().map(Stage::objective);
        let pairs = objectives().any(|objective| objective.pair().is_some());
        let masks = objectives().all(|objective| matches!(objective, Objective::MaskedToken(_)));
        faults.check(!self.data.stored || masks && !pairs, "data.stored", || {
            "expected an objective of masked tokens without pairs, found another; leave it out"
                .to_owned()
        });
        let joins = pairs || objectives().any(|objective| objective.chunks().is_some());
        faults.check(!joins || self.data.corpus.is_empty(), "data.corpus", || {
            "expected an objective without pairs or chunks, found one with; name the files in data.files"
                .to_owned()
        });
        let has_lines = self.data.documents == Documents::Paragraphs;
        faults.check(!pairs || has_lines, "data.documents", || {
            "expected \"paragraphs\", since pairs are made of lines that follow each other, found \"lines\""
                .to_owned()
        });
    }

    /// Whether an objective fits the model, the batches and the metric.
    fn check_objective(&self, path: &str, objective: &Objective, faults: &mut Faults) {
        let (max_len, max_tokens) = (self.model.max_len, self.batch().max_tokens);
        faults.check(
            max_tokens >= max_len,
            &format!("{path}.batch.max_tokens"),
            || format!("expected at least model.max_len {max_len}, found {max_tokens}"),
        );
        objective.check(&format!("{path}.objective"), faults);
        if let Some(chunks) = objective.chunks() {
            let fault = Chunked {
                max_len: self.model.max_len,
                chunks,
            };
            let path = format!("{path}.objective.chunks");
            faults.check(fault.fault().is_none(), &path, || {
                fault.fault().unwrap_or_default()
            });
            let tokens = chunks.most.saturating_mul(self.model.max_len);
            faults.check(max_tokens >= tokens, &path, || {
                format!("expected windows of at most batch.max_tokens {max_tokens} tokens together, found up to {tokens}")
            });
            faults.check(self.data.columns.second.is_none(), &path, || {
                "expected texts, found pairs of them; leave it out".to_owned()
            });
        }
        let beside = [&self.data.columns.numbers, &self.data.columns.categories];
        let readout = objective.readout();
        if let Some(readout) = readout {
            let path = format!("{path}.objective.readout");
            readout.check(&path, &self.data.columns, faults);
            faults.check(objective.chunks().is_none(), &path, || {
                "expected no chunks beside it, which are made one in a way of their own, found some"
                    .to_owned()
            });
        }
        for corpus in &self.data.corpus {
            let own = corpus.columns.as_ref().unwrap_or(&self.data.columns);
            let as_many = [&own.numbers, &own.categories].map(Vec::len) == beside.map(Vec::len);
            faults.check(as_many, "data.corpus", || {
                format!(
                    "corpus {:?}: expected as many numbers and categories as data.columns names, in the same order, found others",
                    corpus.name
                )
            });
        }
        let is_read = readout.is_some_and(|readout| readout.reads_columns());
        faults.check(
            is_read || beside.iter().all(|columns| columns.is_empty()),
            "data.columns",
            || {
                "expected an objective with readout = { kind = \"columns\", … } beside numbers or categories, found another"
                    .to_owned()
            },
        );
        let key = match &self.stage[0] {
            Stage::Train(_) => "validate.metric",
            Stage::Fit(_) => "metric",
        };
        let (metric, known) = (self.metric(), objective.metrics());
        faults.check(known.contains(&metric), &format!("{path}.{key}"), || {
            format!("expected one of {}, found {metric:?}", known.join(", "))
        });
    }
}

impl Train {
    fn check(&self, path: &str, max_len: usize, faults: &mut Faults) {
        let max_tokens = self.batch.max_tokens;
        if let Some(warmup) = self.batch_warmup {
            let from = warmup.from_tokens;
            faults.check(
                (max_len..=max_tokens.max(max_len)).contains(&from),
                &format!("{path}.batch_warmup.from_tokens"),
                || {
                    format!(
                        "expected from model.max_len {max_len} to batch.max_tokens {max_tokens}, found {from}"
                    )
                },
            );
            faults.check(
                warmup.share > 0.0 && warmup.share <= 1.0,
                &format!("{path}.batch_warmup.share"),
                || format!("expected a share above 0, up to 1, found {}", warmup.share),
            );
        }
        faults.extend(self.batch.faults(&format!("{path}.batch")));
        check_training(
            path,
            self.accumulate,
            self.epochs,
            &self.optim,
            &self.schedule,
            faults,
        );
        let decay = self.layer_decay;
        faults.check(
            decay > 0.0 && decay <= 1.0,
            &format!("{path}.layer_decay"),
            || format!("expected a factor above 0, up to 1, found {decay}"),
        );
        faults.check_positive(
            &format!("{path}.validate.every_epochs"),
            self.validate.every_epochs as usize,
        );
    }
}

impl TextModel {
    /// Deviation of new weights of an encoder of `width` channels: what the recipe says, or BERT's 0.02 at 768 channels and as
    /// much wider as the root of the channels is smaller. Left at 0.02, narrow layers pass on so little of what they see that
    /// a small encoder hardly learns from its first token.
    pub fn deviation(&self, width: usize) -> f32 {
        let narrow = (768.0 / width as f32).sqrt().max(1.0);
        self.init_std.unwrap_or(0.02 * narrow)
    }

    fn check(&self, faults: &mut Faults) {
        faults.check(self.base.is_none() || self.config.is_empty(), "model", || {
            "expected base, the pretrained encoder to begin with, or config, settings of a new one, found both"
                .to_owned()
        });
        if let Some(lora) = &self.lora {
            faults.check_positive("model.lora.rank", lora.rank);
            faults.check(lora.alpha > 0.0, "model.lora.alpha", || {
                format!("expected a number above 0, found {}", lora.alpha)
            });
            faults.check(!lora.maps.is_empty(), "model.lora.maps", || {
                "expected one or more of qkv, output, up and down, found none".to_owned()
            });
        }
        faults.check(self.max_len >= 8, "model.max_len", || {
            format!("expected at least 8, found {}", self.max_len)
        });
        if let Some(dropout) = self.dropout {
            for (name, share) in [
                ("hidden", dropout.hidden),
                ("attention", dropout.attention),
                ("head", dropout.head),
            ] {
                faults.check_dropout(&format!("model.dropout.{name}"), share);
            }
        }
        if let Some(std) = self.init_std {
            faults.check(std > 0.0 && std < 1.0, "model.init_std", || {
                format!("expected a deviation above 0 and below 1, found {std}")
            });
        }
    }
}
