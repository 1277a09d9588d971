//! Model folders of other tools: what their files say, as this project's settings.
//!
//! [`Folder::read`] takes the folders that the `transformers` and `sentence-transformers` packages write, of any release
//! from the first to 5 and 6, and those that authors publish in the same form. [`Folder::resolve`] makes an [`Encoder`] of
//! them once the names and shapes of the tensors are known, and says of which tensors each parameter is made. A [`Draft`]
//! is the way back. Files are judged here, weights are never read.

mod draft;
mod family;
mod head;
mod keys;
mod listing;
mod names;
mod sentence;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::encoder::{Activation, Encoder};
use crate::folder::write_text;
use crate::inventory::Parameter;
use crate::sentence::Embedder;
use crate::{Error, Faults};
use family::Family;
use keys::{Keys, LENGTH};

pub use draft::{Draft, Target};
pub use listing::Listing;

/// Name of the file of settings.
const CONFIG: &str = "config.json";

/// Names of weights that are whole; the safer format first.
const STEMS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Name of the file of [`Folder::transitions`].
pub const TRANSITIONS: &str = "transitions.safetensors";

/// Files that a tokenizer may be in.
const TOKENIZER: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "bpe.codes",
    "dict.txt",
];

/// Shapes of the tensors in the weights' files, by name.
pub type Tensors = BTreeMap<String, Vec<usize>>;

/// A model folder of another tool, as far as its files of settings tell.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder itself.
    pub path: PathBuf,
    /// The content of `config.json`.
    pub config: Map<String, Value>,
    /// What follows the encoder where the folder is made for embeddings.
    pub embedder: Option<Embedder>,
    /// Folders within it of the modules of sentence-transformers, the encoder's first; none if it has no such modules.
    pub modules: Vec<PathBuf>,
    /// Whether the folder is made for sparse vectors, of a masked-token head's outputs.
    pub is_sparse: bool,
    /// What a cross-encoder makes of its outputs, where the folder says so.
    pub score_activation: Option<ScoreActivation>,
    /// Longest text in tokens, special ones included, where the tokenizer's settings have a limit.
    pub tokenizer_max_len: Option<usize>,
    /// Files with the weights: one, or the parts of a sharded one.
    pub weights: Vec<PathBuf>,
    /// Files of the tokenizer.
    pub tokenizer: Vec<PathBuf>,
    /// The file, of this project alone, that says how labels of words follow each other: one tensor `transitions`,
    /// `[C + 1, C + 1]`. Other tools, which choose each label by itself, leave it alone.
    pub transitions: Option<PathBuf>,
    family: Family,
}

/// What a cross-encoder makes of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreActivation {
    /// A function of each.
    Each(Activation),
    /// Shares of all outputs of a text, that sum to 1.
    Softmax,
}

/// An encoder and where its parameters come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What is computed.
    pub encoder: Encoder,
    /// Every parameter, in the inventory's order.
    pub parameters: Vec<Source>,
}

/// A parameter and the tensors that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name and shape.
    pub parameter: Parameter,
    /// One after the other, outermost dimension first.
    pub pieces: Vec<Piece>,
}

/// Rows of a tensor in the weights' files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Name of the tensor.
    pub tensor: String,
    /// Which rows of its outermost dimension.
    pub rows: Range<usize>,
}

impl Folder {
    /// Whether a folder is one that another tool wrote: it has `modules.json`, or a `config.json` that is not ours.
    pub fn is_at(path: &Path) -> bool {
        let is_foreign = |map: Map<String, Value>| {
            map.get("model_type").and_then(Value::as_str) != Some(crate::folder::Config::MODEL_TYPE)
        };
        path.join(sentence::MODULES).is_file()
            || keys::read_object(&path.join(CONFIG)).is_ok_and(|map| map.is_some_and(is_foreign))
    }

    /// Reads the settings of a folder.
    ///
    /// # Errors
    /// If a file is missing or is no JSON of its shape; of values that cannot stand or are not supported, all at once.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            let found = if path.exists() { "a file" } else { "nothing" };
            return Err(Error::Config {
                path: path.to_owned(),
                message: format!("expected a model folder, found {found}"),
            });
        }
        let faults = RefCell::new(Faults::default());
        let modules = sentence::Modules::read(path, &faults)?;
        let inner = modules.as_ref().map(|modules| modules.encoder.as_path());
        let inner = inner.filter(|inner| !inner.as_os_str().is_empty());
        let home = inner.map_or_else(|| path.to_owned(), |inner| path.join(inner));
        let file = home.join(CONFIG);
        let Some(config) = keys::read_object(&file)? else {
            return Err(Error::Config {
                path: file,
                message: "expected the model's settings, found no such file".to_owned(),
            });
        };
        let keys = Keys::new(CONFIG, &config, &faults);
        let family = family::family(&keys);
        let encoder = family.map(|family| family::encoder(&keys, family, None));
        let folders = modules.as_ref().map(sentence::Modules::folders);
        let mut tokenizer_max_len = tokenizer_max_len(&home)?;
        let mut score_activation = keys
            .object("sentence_transformers")
            .and_then(|keys| keys.score_activation("activation_fn"))
            .or_else(|| keys.score_activation("sbert_ce_default_activation_function"));
        let further = sentence::Further::read(path, &faults)?;
        score_activation = score_activation.or(further.score_activation);
        let width = encoder.map(|encoder| encoder.width);
        let sparse = modules.as_ref().filter(|modules| modules.is_sparse());
        let is_sparse = sparse.is_some();
        if let Some(modules) = sparse {
            let max_len = modules.sparse(path, &home, &faults)?;
            tokenizer_max_len = max_len.or(tokenizer_max_len);
        }
        let embedder = match modules {
            Some(modules) if !is_sparse && !further.is_cross_encoder => {
                modules.embedder(path, &home, width, further, tokenizer_max_len, &faults)?
            }
            _ => None,
        };
        let weights = weights(&home)?;
        faults
            .into_inner()
            .into_result(&path.display().to_string())?;
        Ok(Self {
            path: path.to_owned(),
            config,
            embedder,
            modules: folders.unwrap_or_default(),
            is_sparse,
            score_activation,
            tokenizer_max_len,
            weights,
            tokenizer: tokenizer_files(&home),
            transitions: Some(home.join(TRANSITIONS)).filter(|path| path.is_file()),
            family: family.expect("a family that is not known is a fault"),
        })
    }

    /// Whether no other tool knows the encoder: its layers have mixers of the recipes.
    pub fn is_ours(&self) -> bool {
        self.family == Family::Mixer
    }

    /// The encoder that the folder's settings and weights describe.
    ///
    /// The head is the one that `architectures` names, if the weights hold it; without that key, the one they hold.
    ///
    /// # Errors
    /// If the settings do not fit the weights, or tensors are missing, unknown or of another shape: all of them at once.
    pub fn resolve(&self, tensors: &Tensors) -> Result<Resolved, Error> {
        let faults = RefCell::new(Faults::default());
        let keys = Keys::new(CONFIG, &self.config, &faults);
        let encoder = family::encoder(&keys, self.family, Some(tensors));
        let inner = family::inner_layers(&keys);
        let place = self.path.display().to_string();
        faults.into_inner().into_result(&place)?;
        let mut faults = Faults::default();
        let parameters = names::sources(self.family, inner, &encoder, tensors, &mut faults);
        faults.into_result(&place)?;
        Ok(Resolved {
            encoder,
            parameters,
        })
    }
}

/// The files of a tokenizer that are in a folder.
pub fn tokenizer_files(folder: &Path) -> Vec<PathBuf> {
    let files = TOKENIZER.iter().map(|name| folder.join(name));
    files.filter(|path| path.is_file()).collect()
}

/// Says in the folder of a tokenizer that a model of it is given no numbers of segments. `transformers` gives them to models that know no
/// segments, too, which refuse them.
///
/// # Errors
/// If `tokenizer_config.json` cannot be read or written.
pub fn leave_segments_out(home: &Path) -> Result<(), Error> {
    let path = home.join("tokenizer_config.json");
    let mut settings = keys::read_object(&path)?.unwrap_or_default();
    let names = serde_json::json!(["input_ids", "attention_mask"]);
    settings.insert("model_input_names".to_owned(), names);
    let text = serde_json::to_string_pretty(&settings).expect("an object of JSON can be written");
    write_text(&path, &text)
}

/// The tokenizer's `model_max_length`; numbers beyond any sane length stand for none.
fn tokenizer_max_len(home: &Path) -> Result<Option<usize>, Error> {
    let settings = keys::read_object(&home.join("tokenizer_config.json"))?;
    let len = settings
        .as_ref()
        .and_then(|map| map.get("model_max_length")?.as_u64());
    let len = len.and_then(|len| usize::try_from(len).ok());
    Ok(len.filter(|len| LENGTH.contains(len)))
}

/// What a file is that [`is_pointer`], and what to do.
pub const POINTER: &str =
    "is what Git leaves in place of a large file; run git lfs pull in the folder";

/// Whether these are the bytes of a pointer that Git LFS leaves in place of a large file, if it did not fetch it.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs")
}

/// The files with the weights; safe ones first, whole ones first.
fn weights(home: &Path) -> Result<Vec<PathBuf>, Error> {
    const OTHERS: [(&str, &str); 5] = [
        ("tf_model.h5", "load the folder with from_tf=True"),
        ("flax_model.msgpack", "load the folder with from_flax=True"),
        (
            "adapter_model.safetensors",
            "merge the adapter into its base model",
        ),
        ("adapter_model.bin", "merge the adapter into its base model"),
        ("model.onnx", "load the model that it was made of"),
    ];
    for stem in STEMS {
        let whole = home.join(stem);
        if whole.is_file() {
            return Ok(vec![whole]);
        }
        let index = home.join(format!("{stem}.index.json"));
        if let Some(map) = keys::read_object(&index)? {
            return all_of(home, &index, &shards(&index, &map)?);
        }
    }
    let other = OTHERS.iter().find(|(name, _)| home.join(name).is_file());
    let found = other.map_or_else(
        || "neither; is it a whole model folder?".to_owned(),
        |(name, how)| format!("only {name}; in Python, {how} and save it with save_pretrained"),
    );
    Err(Error::Config {
        path: home.to_owned(),
        message: format!(
            "expected weights, {}, whole or with an index, found {found}",
            STEMS.join(" or ")
        ),
    })
}

/// The files of an index, which must all be in the folder.
fn all_of(home: &Path, index: &Path, files: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, Error> {
    let is_missing = |name: &&PathBuf| !home.join(name).is_file();
    let missing: Vec<_> = files.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(files.iter().map(|name| home.join(name)).collect());
    }
    let names = missing
        .iter()
        .take(8)
        .map(|name| name.display().to_string());
    Err(Error::Config {
        path: index.to_owned(),
        message: format!(
            "weight_map: expected {} files in this folder, found it without {} of them ({}{}); fetch them too",
            files.len(),
            missing.len(),
            names.collect::<Vec<_>>().join(", "),
            if missing.len() > 8 { ", …" } else { "" }
        ),
    })
}

/// The files that an index names, beside it.
fn shards(index: &Path, map: &Map<String, Value>) -> Result<BTreeSet<PathBuf>, Error> {
    let fail = |message| Error::Config {
        path: index.to_owned(),
        message,
    };
    let Some(Value::Object(places)) = map.get("weight_map") else {
        return Err(fail(
            "weight_map: expected files of tensors, by name, found none".to_owned(),
        ));
    };
    let mut files = BTreeSet::new();
    for (tensor, file) in places {
        let name = file.as_str().map(Path::new).filter(|name| is_inside(name));
        let Some(name) = name else {
            let found = keys::shown(file);
            return Err(fail(format!(
                "weight_map: {tensor:?}: expected a file of this folder, found {found}"
            )));
        };
        files.insert(name.to_owned());
    }
    if files.is_empty() {
        return Err(fail(
            "weight_map: expected at least one file, found none".to_owned(),
        ));
    }
    Ok(files)
}

/// Whether a path within a folder stays there.
fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
