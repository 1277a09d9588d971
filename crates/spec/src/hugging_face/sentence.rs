//! Folders of the `sentence-transformers` package: which steps follow the encoder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{self, Keys, LENGTH, WIDTH, shown};
use super::{ScoreActivation, is_inside};
use crate::encoder::Activation;
use crate::sentence::{Dense, Embedder, Module, Pooling, PoolingMode};
use crate::{Error, Faults};

/// Name of the list of steps.
pub(super) const MODULES: &str = "modules.json";
/// Name of what belongs to the whole folder.
pub(super) const FURTHER: &str = "config_sentence_transformers.json";
/// Names of the encoder's own settings; the later ones are of the first releases.
pub(super) const ENCODER: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Channels of a pooling's output and of dense maps.
const DIMENSIONS: std::ops::RangeInclusive<usize> = 1..=8 * *WIDTH.end();

/// Pooling modes as one flag each, in the order in which their outputs stand.
const FLAGS: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::First),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    (
        "pooling_mode_mean_sqrt_len_tokens",
        PoolingMode::MeanSqrtLen,
    ),
    (
        "pooling_mode_weightedmean_tokens",
        PoolingMode::WeightedMean,
    ),
    ("pooling_mode_lasttoken", PoolingMode::Last),
];

/// Pooling modes by name.
const MODES: [(&str, PoolingMode); 6] = [
    ("cls", PoolingMode::First),
    ("max", PoolingMode::Max),
    ("mean", PoolingMode::Mean),
    ("mean_sqrt_len_tokens", PoolingMode::MeanSqrtLen),
    ("weightedmean", PoolingMode::WeightedMean),
    ("lasttoken", PoolingMode::Last),
];

/// The list of steps.
pub(super) struct Modules {
    /// Folder of the encoder, within the model's.
    pub(super) encoder: PathBuf,
    /// Class and folder of the steps after it.
    steps: Vec<(String, PathBuf)>,
}

impl Modules {
    /// What `modules.json` says, if there is one.
    pub(super) fn read(path: &Path, faults: &RefCell<Faults>) -> Result<Option<Self>, Error> {
        let file = path.join(MODULES);
        let Some(value) = keys::read(&file)? else {
            return Ok(None);
        };
        let fail = |message| Error::Config {
            path: file.clone(),
            message,
        };
        let Value::Array(list) = value else {
            return Err(fail(format!(
                "expected a list of modules, found {}",
                shown(&value)
            )));
        };
        let mut steps = Vec::new();
        for (place, module) in list.iter().enumerate() {
            let Value::Object(map) = module else {
                return Err(fail(format!(
                    "module {place}: expected an object, found {}",
                    shown(module)
                )));
            };
            let keys = Keys::new(format!("{MODULES}: module {place}"), map, faults);
            let kind = keys.text("type").unwrap_or_else(|| {
                keys.fault("type", "expected the name of a class, found nothing");
                ""
            });
            let class = kind.rsplit('.').next().unwrap_or(kind);
            let folder = Path::new(keys.text("path").unwrap_or(""));
            if !is_inside(folder) {
                return Err(fail(format!(
                    "module {place}: path: expected a folder within the model's, found {}",
                    shown(&folder.display())
                )));
            }
            steps.push((class.to_owned(), folder.to_owned()));
        }
        let first = if steps.is_empty() {
            None
        } else {
            Some(steps.remove(0))
        };
        match first {
            Some((class, encoder)) if class == "Transformer" => Ok(Some(Self { encoder, steps })),
            // The encoder with its masked-token head, whose outputs only a sparse pooling takes.
            Some((class, encoder)) if class == "MLMTransformer" && is_sparse(&steps) => {
                Ok(Some(Self { encoder, steps }))
            }
            first => {
                let found = first.map_or_else(|| "nothing".to_owned(), |(class, _)| shown(&class));
                Err(fail(format!(
                    "expected the class Transformer first, found {found}, which is not supported"
                )))
            }
        }
    }

    /// The folders of all modules, the encoder's first.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let steps = self.steps.iter().map(|(_, folder)| folder);
        std::iter::once(&self.encoder)
            .chain(steps)
            .cloned()
            .collect()
    }

    /// Whether the folder makes sparse vectors of a masked-token head's outputs, as SPLADE does.
    pub(super) fn is_sparse(&self) -> bool {
        is_sparse(&self.steps)
    }

    /// Checks the settings of a sparse pooling, and tells the longest text, if the folder names one.
    pub(super) fn sparse(
        &self,
        path: &Path,
        home: &Path,
        faults: &RefCell<Faults>,
    ) -> Result<Option<usize>, Error> {
        let file = self.steps[0].1.join("config.json");
        if let Some(map) = keys::read_object(&path.join(&file))? {
            let keys = Keys::new(file.display().to_string(), &map, faults);
            keys.unsupported("pooling_strategy", |value| value == "max");
            keys.unsupported("activation_function", |value| value == "relu");
        }
        Ok(encoder_settings(home, faults)?.0)
    }

    /// The steps after the encoder, if the first of them is a pooling.
    pub(super) fn embedder(
        self,
        path: &Path,
        home: &Path,
        width: Option<usize>,
        further: Further,
        tokenizer_max_len: Option<usize>,
        faults: &RefCell<Faults>,
    ) -> Result<Option<Embedder>, Error> {
        if self.steps.is_empty() {
            return Ok(None);
        }
        let mut embedder = Embedder {
            max_len: tokenizer_max_len,
            ..further.embedder
        };
        let (max_len, lowercase) = encoder_settings(home, faults)?;
        embedder.max_len = max_len.or(embedder.max_len);
        embedder.lowercase = lowercase;
        let mut width = width;
        for (class, folder) in &self.steps {
            let file = folder.join("config.json");
            let map = keys::read_object(&path.join(&file))?;
            let keys = map
                .as_ref()
                .map(|map| Keys::new(file.display().to_string(), map, faults));
            let is_first = embedder.modules.is_empty();
            let module = match (class.as_str(), keys) {
                ("Pooling", Some(keys)) if is_first => {
                    let (pooling, outputs) = pooling(&keys, width);
                    width = outputs;
                    Module::Pooling(pooling)
                }
                ("Dense", Some(keys)) if !is_first => {
                    let dense = dense(&keys, folder, width);
                    width = Some(dense.outputs);
                    Module::Dense(dense)
                }
                ("Normalize", _) if !is_first => Module::Normalize,
                // Does nothing outside training.
                ("Dropout", _) => continue,
                ("Pooling" | "Dense", None) => {
                    return Err(Error::Config {
                        path: path.join(file),
                        message: "expected the module's settings, found no such file".to_owned(),
                    });
                }
                _ => {
                    let fault = format!(
                        "{MODULES}: expected Pooling, then any of Dense and Normalize, found {}, which is not supported there",
                        shown(class)
                    );
                    faults.borrow_mut().extend([fault]);
                    return Ok(None);
                }
            };
            embedder.modules.push(module);
        }
        if let (Some(kept), Some(width)) = (embedder.truncate_dim, width)
            && kept > width
        {
            // As in the package, where a slice beyond the end is no fault.
            embedder.truncate_dim = None;
        }
        Ok(Some(embedder).filter(|embedder| !embedder.modules.is_empty()))
    }
}

/// Whether the steps after an encoder make sparse vectors.
fn is_sparse(steps: &[(String, PathBuf)]) -> bool {
    matches!(steps, [(class, _)] if class == "SpladePooling")
}

/// The longest text, and whether texts are lower-cased first, by the encoder's own settings.
fn encoder_settings(home: &Path, faults: &RefCell<Faults>) -> Result<(Option<usize>, bool), Error> {
    for name in ENCODER {
        if let Some(map) = keys::read_object(&home.join(name))? {
            let keys = Keys::new(name, &map, faults);
            let max_len = keys.optional_count("max_seq_length", &LENGTH);
            return Ok((max_len, keys.flag("do_lower_case", false)));
        }
    }
    Ok((None, false))
}

/// A pooling and its outputs.
fn pooling(keys: &Keys, width: Option<usize>) -> (Pooling, Option<usize>) {
    let dimension = keys
        .optional_count("embedding_dimension", &DIMENSIONS)
        .or_else(|| keys.optional_count("word_embedding_dimension", &DIMENSIONS));
    if let (Some(found), Some(width)) = (dimension, width)
        && found != width
    {
        keys.fault(
            "embedding_dimension",
            format_args!("expected the encoder's width, {width}, found {found}"),
        );
    }
    let mut modes = modes(keys);
    if modes.is_empty() {
        modes.push(PoolingMode::Mean);
    }
    let outputs = width.map(|width| width * modes.len());
    let include_prompt = keys.flag("include_prompt", true);
    (
        Pooling {
            modes,
            include_prompt,
        },
        outputs,
    )
}

fn modes(keys: &Keys) -> Vec<PoolingMode> {
    let names = match keys.get("pooling_mode") {
        None => {
            return FLAGS
                .into_iter()
                .filter(|(flag, _)| keys.flag(flag, false))
                .map(|(_, mode)| mode)
                .collect();
        }
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    };
    let mut modes = Vec::new();
    for name in names {
        let mode = MODES.iter().find(|(known, _)| name.as_str() == Some(known));
        match mode {
            Some((_, mode)) if !modes.contains(mode) => modes.push(*mode),
            _ => {
                let known: Vec<_> = MODES.iter().map(|(known, _)| *known).collect();
                keys.fault(
                    "pooling_mode",
                    format_args!(
                        "expected one or several of {}, found {}",
                        known.join(", "),
                        shown(name)
                    ),
                );
            }
        }
    }
    modes
}

fn dense(keys: &Keys, folder: &Path, width: Option<usize>) -> Dense {
    for key in ["module_input_name", "module_output_name"] {
        keys.unsupported(key, |value| value == "sentence_embedding");
    }
    // The class's default where the key is absent; null is what a release that saves no function means by none.
    let default = if keys.is_null("activation_function") {
        Activation::Identity
    } else {
        Activation::Tanh
    };
    let dense = Dense {
        folder: folder.to_owned(),
        inputs: keys.count("in_features", &DIMENSIONS),
        outputs: keys.count("out_features", &DIMENSIONS),
        bias: keys.flag("bias", true),
        activation: keys
            .torch_activation("activation_function")
            .unwrap_or(default),
        residual: keys.flag("use_residual", false),
    };
    if let Some(width) = width.filter(|width| *width != dense.inputs) {
        keys.fault(
            "in_features",
            format_args!(
                "expected the outputs of the step before, {width}, found {}",
                dense.inputs
            ),
        );
    }
    if dense.residual && dense.inputs != dense.outputs {
        keys.fault(
            "use_residual",
            "not supported where inputs and outputs differ",
        );
    }
    dense
}

/// What `config_sentence_transformers.json` says.
#[derive(Default)]
pub(super) struct Further {
    pub(super) is_cross_encoder: bool,
    pub(super) score_activation: Option<ScoreActivation>,
    embedder: Embedder,
}

impl Further {
    pub(super) fn read(path: &Path, faults: &RefCell<Faults>) -> Result<Self, Error> {
        let Some(map) = keys::read_object(&path.join(FURTHER))? else {
            return Ok(Self::default());
        };
        let keys = Keys::new(FURTHER, &map, faults);
        let kinds = [
            ("SentenceTransformer", false),
            ("SparseEncoder", false),
            ("CrossEncoder", true),
        ];
        let embedder = Embedder {
            prompts: prompts(&keys),
            default_prompt: keys.text("default_prompt_name").map(str::to_owned),
            truncate_dim: keys.optional_count("truncate_dim", &DIMENSIONS),
            similarity: keys
                .one_of("similarity_fn_name", &SIMILARITIES)
                .map(str::to_owned),
            ..Embedder::default()
        };
        if let Some(name) = &embedder.default_prompt
            && !embedder.prompts.contains_key(name)
        {
            keys.fault(
                "default_prompt_name",
                format_args!("expected one of the prompts, found {name:?}"),
            );
        }
        Ok(Self {
            is_cross_encoder: keys.one_of("model_type", &kinds).unwrap_or(false),
            score_activation: keys.score_activation("activation_fn"),
            embedder,
        })
    }
}

/// How embeddings are compared, by the names of old and new releases.
const SIMILARITIES: [(&str, &str); 7] = [
    ("cosine", "cosine"),
    ("cos_sim", "cosine"),
    ("dot", "dot"),
    ("dot_score", "dot"),
    ("euclidean", "euclidean"),
    ("manhattan", "manhattan"),
    ("dot_product", "dot"),
];

fn prompts(keys: &Keys) -> BTreeMap<String, String> {
    let Some(table) = keys.object("prompts") else {
        return BTreeMap::new();
    };
    let mut prompts = BTreeMap::new();
    for (name, text) in table.entries() {
        match text {
            Value::String(text) => {
                prompts.insert(name.clone(), text.clone());
            }
            other => table.fault(
                name,
                format_args!("expected a text, found {}", shown(other)),
            ),
        }
    }
    prompts
}
