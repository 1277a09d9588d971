//! Model folders to be written, so that they open in `transformers` and here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::family::{self, Family};
use super::head::{self, Kind, PROBLEMS};
use super::keys::{Keys, shown};
use super::names::{self, Prefix, head_names};
use super::{CONFIG, Folder};
use crate::encoder::{DropoutRates, Encoder, Layer, Relative, Task};
use crate::recipe::nearest;
use crate::{Error, Faults};

/// What families have where settings leave it out, in the names and with the values of the classes of transformers 4.57.6,
/// `nomic_bert` and `gte` of 5.23.0; `null` for what may be said and has no value of its own.
const DEFAULTS: &str = include_str!("defaults.json");

/// What stands before the keys of a new model's settings: where recipes have them.
const RECIPE: &str = "model.config.";

/// And of a folder's.
const FOLDER: &str = "config.json: ";

/// Settings that the vocabulary and the task give.
const GIVEN: [&str; 8] = [
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "torch_dtype",
    "vocab_size",
];

/// A model folder to be written: settings as `transformers` saves them, and the tensors that its parameters become.
///
/// Names are those of the family's own classes, so that `AutoModelFor…` opens the folder and finds every tensor it looks for.
/// Of `NomicBERT`, `JinaBERT` and GTE as their authors publish them, the classes are code in other repositories:
/// `auto_map` stays, and `transformers` asks whether to trust it. A BERT whose positions are vectors per distance opens in
/// transformers 4 alone, which finds that a table it does not read is missing. Encoders with mixers of the recipes open here
/// alone: their type is unknown elsewhere, and said to be so.
#[derive(Debug, Clone)]
pub struct Draft {
    family: Family,
    config: Map<String, Value>,
    encoder: Encoder,
    dropout: DropoutRates,
    /// Of heads of pre-training, which no engine computes.
    further: Vec<Target>,
}

/// A tensor to be written, and the rows of a parameter that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the tensor.
    pub tensor: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Name of the parameter.
    pub parameter: String,
    /// Which rows of its outermost dimension, one range after the other.
    pub rows: Vec<Range<usize>>,
}

impl Draft {
    /// What `folder` has, its encoder being `encoder`, under a new head for `task`; a masked-token head stays as it is if
    /// the task is its own. The token table may have grown.
    ///
    /// # Errors
    /// If the family has no class for the task, if labels are missing or alike, or if the encoder is not the folder's: all
    /// at once.
    pub fn of(folder: &Folder, encoder: &Encoder, task: Task) -> Result<Self, Error> {
        // What spoke of the folder, its head or how it was loaded.
        const GONE: [&str; 10] = [
            "_num_labels",
            crate::text::Chunked::KEY,
            crate::text::ReadOut::KEY,
            crate::text::Transcribed::KEY,
            "finetuning_task",
            "quantization_config",
            "sbert_ce_default_activation_function",
            "sentence_transformers",
            "task_specific_params",
            "transformers_version",
        ];
        let faults = RefCell::new(Faults::default());
        let mut config = folder.config.clone();
        let model_type = family::model_type(&Keys::new(CONFIG, &config, &faults));
        let is_published = is_published(folder.family, &config);
        config.retain(|key, _| {
            let is_origin = key == "auto_map" || key == "_name_or_path";
            !GONE.contains(&key.as_str()) && (!is_origin || is_published)
        });
        config.insert("model_type".to_owned(), model_type.into());
        let old_head = encoder.head.as_ref();
        let old_head = old_head.filter(|head| head.task == task && task == Task::MaskedToken);
        if let Some(Relative::Bias { buckets, .. }) = encoder.relative {
            let rows = "relative_attention_num_buckets".to_owned();
            config.insert(rows, buckets.into());
        }
        if folder.family == Family::New {
            config.insert("pack_qkv".to_owned(), true.into());
        }
        if let Some(output) = old_head.and_then(|head| head.output) {
            config.insert("tie_word_embeddings".to_owned(), output.tied.into());
        }
        let draft = Self::build(
            folder.family,
            config,
            encoder.embed.vocab,
            task,
            (FOLDER, &faults),
        );
        let body = |encoder: &Encoder| Encoder {
            head: None,
            ..encoder.clone()
        };
        let is_ours = body(&draft.encoder) == body(encoder)
            && (old_head.is_none() || draft.encoder.head.as_ref() == old_head);
        let mut faults = faults.into_inner();
        faults.check(is_ours, "encoder", || {
            "expected the one that the folder's settings describe, found another".to_owned()
        });
        faults.into_result(&folder.path.display().to_string())?;
        Ok(draft)
    }

    /// A new encoder, from settings in the names of transformers, with `vocab` tokens, under a head for `task`.
    ///
    /// `model_type` must be there; what else is left out has the default of the family's class. Ids of special tokens beyond
    /// the vocabulary are left out too; where the first position depends on the padding token's, as with `RoBERTa`,
    /// `pad_token_id` should be the tokenizer's.
    ///
    /// # Errors
    /// If a key is not known, if a value cannot stand, if the family has no class for the task, or if labels are missing or
    /// alike: all at once.
    pub fn new(config: Map<String, Value>, vocab: usize, task: Task) -> Result<Self, Error> {
        let place = "a new model".to_owned();
        let faults = RefCell::new(Faults::default());
        let keys = Keys::under(RECIPE, &config, &faults);
        let model_type = keys.text("model_type").unwrap_or_default();
        let Some(defaults) = defaults(model_type) else {
            let found = keys
                .get("model_type")
                .map_or_else(|| "nothing".to_owned(), shown);
            let types = types_with_defaults().join(", ");
            let mut faults = Faults::default();
            faults.check(false, "model.config.model_type", || {
                format!("expected one of {types}, found {found}")
            });
            return Err(Error::Invalid { place, faults });
        };
        for (key, value) in keys.entries().filter(|(key, _)| *key != "model_type") {
            if GIVEN.contains(&key.as_str()) {
                keys.fault(
                    key,
                    "follows from the vocabulary and the task; leave it out",
                );
            } else if !defaults.contains_key(key) {
                let near = nearest(key, defaults.keys().cloned());
                let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                keys.fault(
                    key,
                    format_args!(
                        "{model_type} has no such setting, found {}{hint}",
                        shown(value)
                    ),
                );
            }
            if key.ends_with("_token_id") {
                keys.optional_count(key, &(0..=vocab.saturating_sub(1)));
            }
        }
        // Others are code of authors, or gone from release 5, which would leave them out without a word.
        if model_type != family::MIXER {
            keys.one_of("position_embedding_type", &[("absolute", ())]);
        }
        keys.positive("initializer_range", 0.02);
        let mut whole = defaults;
        whole.retain(|_, value| !value.is_null());
        for (key, value) in &mut whole {
            let is_beyond = value.as_u64().is_some_and(|id| id >= vocab as u64);
            if key.ends_with("_token_id") && is_beyond {
                *value = Value::Null;
            }
        }
        drop(keys);
        whole.extend(config);
        for (component, replaced) in family::COMPONENTS {
            if whole.contains_key(component) {
                whole.retain(|key, _| !replaced.contains(&key.as_str()));
            }
        }
        let family = family::family(&Keys::under(RECIPE, &whole, &faults));
        let draft = family.map(|family| Self::build(family, whole, vocab, task, (RECIPE, &faults)));
        faults.into_inner().into_result(&place)?;
        Ok(draft.expect("a family that is not known is a fault"))
    }

    /// The draft of settings whose head is yet to be described; it stands only if there are no faults.
    fn build(
        family: Family,
        mut config: Map<String, Value>,
        vocab: usize,
        task: Task,
        (prefix, faults): (&str, &RefCell<Faults>),
    ) -> Self {
        let kind = Kind::of(&task);
        for key in GIVEN {
            config.remove(key);
        }
        let model_type = config["model_type"].as_str().unwrap_or_default().to_owned();
        let class = family::class(family, &model_type);
        let class = format!("{class}{}", kind.class());
        config.insert("architectures".to_owned(), json!([&class]));
        config.insert("torch_dtype".to_owned(), "float32".into());
        config.insert("vocab_size".to_owned(), vocab.into());
        let mut problem = None;
        let labels = match task {
            Task::Sequence(sequence) => {
                problem = Some(sequence.problem);
                Some(sequence.labels)
            }
            Task::Token { labels } => Some(labels),
            Task::Vector | Task::MaskedToken | Task::Span => None,
        };
        let named = PROBLEMS.iter().find(|(_, known)| Some(*known) == problem);
        if let Some((name, _)) = named {
            config.insert("problem_type".to_owned(), (*name).into());
        }
        if family == Family::DebertaV2 {
            // The newer head is the same map under other names.
            config.insert("legacy".to_owned(), true.into());
        }
        if let Some(labels) = &labels {
            let numbered = || labels.iter().enumerate();
            let by_id = numbered().map(|(id, label)| (id.to_string(), label.as_str().into()));
            let by_label = numbered().map(|(id, label)| (label.clone(), id.into()));
            config.insert("id2label".to_owned(), Value::Object(by_id.collect()));
            config.insert("label2id".to_owned(), Value::Object(by_label.collect()));
        }
        let keys = Keys::under(prefix, &config, faults);
        if let Some(labels) = labels
            && labels.iter().collect::<BTreeSet<_>>().len() < labels.len()
        {
            keys.fault(
                "id2label",
                format_args!(
                    "expected labels that differ, found {}",
                    shown(&format_args!("{labels:?}"))
                ),
            );
        }
        if !has_class(family, kind, &config) {
            keys.fault(
                "architectures",
                format_args!(
                    "expected one of the families that have such a class, {}, found {class}",
                    family::types(|family| has_class(family, kind, &Map::new()))
                ),
            );
        }
        let mut encoder = family::encoder(&keys, family, None);
        if kind == Kind::Vector && has_class(family, kind, &config) {
            encoder.head = Some(head::of_kind(kind, &keys, family, &encoder, None));
        }
        let dropout = dropout(&keys, family, kind, &model_type, &encoder);
        Self {
            family,
            config,
            encoder,
            dropout,
            further: Vec::new(),
        }
    }

    /// The same with the head that tells whether two segments belong together, of `scaffold.pair`, beside that of masked
    /// tokens.
    ///
    /// # Errors
    /// If the family has no such class.
    pub fn with_pair(mut self) -> Result<Self, Error> {
        let (pooler, output) = match self.family {
            Family::Bert => ("bert.pooler.dense", "cls.seq_relationship"),
            Family::Albert => ("albert.pooler", "sop_classifier.classifier"),
            _ => return Err(self.lacks("ForPreTraining", "bert, albert")),
        };
        let width = self.encoder.width;
        self.add_further(pooler, "scaffold.pair.transform", [width, width]);
        self.add_further(output, "scaffold.pair.output", [2, width]);
        self.name_class("ForPreTraining");
        Ok(self)
    }

    /// An encoder that fills blanks for this one to find: with `share` of its heads and feed-forward width.
    ///
    /// # Errors
    /// If the family has no class for such encoders.
    pub fn generator(&self, share: f64) -> Result<Self, Error> {
        if self.family != Family::Electra {
            return Err(self.lacks("ForPreTraining", "electra"));
        }
        let layer = self.encoder.layers[0].attention();
        let layer = layer.expect("ELECTRA has attention");
        let attention = &layer.attention;
        let part = |of: usize| ((of as f64 * share).round() as usize).max(1);
        let heads = part(attention.heads);
        let mut config = self.config.clone();
        for (key, value) in [
            ("num_attention_heads", heads),
            ("hidden_size", heads * attention.head_width),
            ("intermediate_size", part(layer.ffn.width)),
        ] {
            config.insert(key.to_owned(), value.into());
        }
        let (vocab, faults) = (self.encoder.embed.vocab, RefCell::new(Faults::default()));
        let draft = Self::build(
            self.family,
            config,
            vocab,
            Task::MaskedToken,
            (FOLDER, &faults),
        );
        faults.into_inner().into_result("a generator")?;
        Ok(draft)
    }

    /// The same, with a score of each token having been put there by a generator, of `scaffold.replaced`, in the place of the
    /// head.
    ///
    /// # Errors
    /// If the family has no such class.
    pub fn discriminator(mut self) -> Result<Self, Error> {
        if self.family != Family::Electra {
            return Err(self.lacks("ForPreTraining", "electra"));
        }
        let width = self.encoder.width;
        self.encoder.head = None;
        for (part, ours, shape) in [
            ("dense", "transform", [width, width]),
            ("dense_prediction", "output", [1, width]),
        ] {
            self.add_further(
                &format!("discriminator_predictions.{part}"),
                &format!("scaffold.replaced.{ours}"),
                shape,
            );
        }
        self.name_class("ForPreTraining");
        Ok(self)
    }

    fn class(&self) -> &'static str {
        let model_type = self.config["model_type"].as_str().unwrap_or_default();
        family::class(self.family, model_type)
    }

    fn name_class(&mut self, end: &str) {
        let class = format!("{}{end}", self.class());
        self.config
            .insert("architectures".to_owned(), json!([class]));
    }

    fn lacks(&self, end: &str, families: &str) -> Error {
        let mut faults = Faults::default();
        faults.check(false, "architectures", || {
            let class = self.class();
            format!(
                "expected one of the families that have such a class, {families}, found {class}{end}"
            )
        });
        let place = "a new model".to_owned();
        Error::Invalid { place, faults }
    }

    fn add_further(&mut self, module: &str, parameter: &str, [outputs, inputs]: [usize; 2]) {
        for (end, shape) in [("weight", vec![outputs, inputs]), ("bias", vec![outputs])] {
            self.further.push(Target {
                tensor: format!("{module}.{end}"),
                shape,
                parameter: format!("{parameter}.{end}"),
                rows: vec![Range {
                    start: 0,
                    end: outputs,
                }],
            });
        }
    }

    /// What is computed.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The content of `config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Every tensor of `model.safetensors`, in the order of the parameters.
    ///
    /// An output map that is the token table is not written: readers know. The bias of one that is not is written twice
    /// where the family's class has it twice.
    pub fn tensors(&self) -> Vec<Target> {
        let faults = RefCell::new(Faults::default());
        let keys = Keys::new(CONFIG, &self.config, &faults);
        let head = self.encoder.head.as_ref();
        let has_class =
            head.is_some_and(|head| head.task != Task::Vector) || !self.further.is_empty();
        let base = family::base(&keys, self.family);
        let prefix = Prefix::usual(self.family, has_class.then_some(base));
        let mut targets = names::targets(
            self.family,
            family::inner_layers(&keys),
            &self.encoder,
            prefix,
        );
        targets.extend(self.further.iter().cloned());
        targets
    }

    /// What training drops.
    pub fn dropout(&self) -> DropoutRates {
        self.dropout
    }
}

/// Whether settings are those of code that the authors publish, rather than of a class of `transformers`.
fn is_published(family: Family, config: &Map<String, Value>) -> bool {
    match family {
        Family::Jina | Family::JinaQkNorm | Family::New => true,
        Family::NomicBert => config.contains_key("n_embd"),
        _ => false,
    }
}

/// Whether the family has a class for the task; release 5 gives the two that came with it no pooler and no spans.
fn has_class(family: Family, kind: Kind, config: &Map<String, Value>) -> bool {
    let is_few = matches!(family, Family::NomicBert | Family::Gte);
    let is_of_all = !matches!(kind, Kind::Vector | Kind::Span);
    head_names(family, kind).is_some() && (!is_few || is_of_all || is_published(family, config))
}

fn all_defaults() -> Map<String, Value> {
    serde_json::from_str(DEFAULTS).expect("the table is JSON")
}

fn types_with_defaults() -> Vec<String> {
    let tables = all_defaults();
    let names = tables.keys().flat_map(|names| names.split(' '));
    names.map(str::to_owned).collect()
}

/// What a family's class has where settings leave it out.
pub(super) fn defaults(model_type: &str) -> Option<Map<String, Value>> {
    let mut tables = all_defaults().into_iter();
    let table = tables.find(|(names, _)| names.split(' ').any(|name| name == model_type));
    match table?.1 {
        Value::Object(table) => Some(table),
        other => unreachable!("the table of {model_type} is {other}"),
    }
}

fn dropout(
    keys: &Keys,
    family: Family,
    kind: Kind,
    model_type: &str,
    encoder: &Encoder,
) -> DropoutRates {
    let model_type = if family == Family::New {
        "gte"
    } else {
        model_type
    };
    let defaults = defaults(model_type).unwrap_or_default();
    let share = |key: &str| {
        let default = || Some(defaults.get(key)?.as_f64()? as f32);
        keys.optional_share(key).or_else(default)
    };
    let (hidden, attention) = match family {
        Family::DistilBert => ("dropout", "attention_dropout"),
        Family::ModernBert => ("mlp_dropout", "attention_dropout"),
        Family::NomicBert if keys.has("n_embd") => ("resid_pdrop", "attn_pdrop"),
        _ => ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    };
    let hidden = match &encoder.layers[0] {
        Layer::Attention(_) => share(hidden).unwrap_or(0.0),
        Layer::Mixer(layer) => layer.parts.block.residual().dropout,
    };
    let own = match (kind, family) {
        (Kind::Sequence, Family::DistilBert) => Some("seq_classif_dropout"),
        (Kind::Span, Family::DistilBert) => Some("qa_dropout"),
        (Kind::Sequence, Family::DebertaV2) => Some("cls_dropout"),
        (Kind::Sequence | Kind::Token, Family::Albert) => Some("classifier_dropout_prob"),
        (Kind::Token, Family::DistilBert | Family::DebertaV2)
        | (Kind::Sequence | Kind::Token, Family::Mpnet) => None,
        (Kind::Sequence | Kind::Token | Kind::Span, Family::ModernBert)
        | (Kind::Sequence | Kind::Token, _) => Some("classifier_dropout"),
        (Kind::MaskedToken | Kind::Vector | Kind::Span, _) => None,
    };
    let drops = matches!(kind, Kind::Sequence | Kind::Token) || own.is_some();
    DropoutRates {
        hidden,
        attention: share(attention).unwrap_or(0.0),
        head: match own.and_then(share) {
            Some(share) => share,
            None if drops => hidden,
            None => 0.0,
        },
    }
}
