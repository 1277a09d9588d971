//! A model's folder, written anew for others to open: settings, tokenizer and weights, and nothing that a run left there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use cloze_spec::folder::{CONFIG, RECIPE, WEIGHTS, copy_into, write_text};
use cloze_spec::hugging_face::{Folder, TRANSITIONS};

use crate::Error;
use crate::model::Checkpoint;
use crate::weights::{self, Precision};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Tensors.
    pub tensors: usize,
    /// Bytes of their values, by their type, as `safetensors` names it.
    pub kinds: BTreeMap<String, usize>,
    /// Files beside the weights, as they lie in the folder.
    pub files: Vec<PathBuf>,
}

impl Exported {
    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.kinds.values().sum()
    }
}

/// Files that say what a model is, by the side of its settings and its tokenizer; of transformers, of sentence-transformers, and ours.
const SETTINGS: [&str; 11] = [
    "README.md",
    "LICENSE",
    "generation_config.json",
    "preprocessor_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "router_config.json",
    "scaffold.safetensors",
    RECIPE,
    TRANSITIONS,
];

/// Writes the model of a folder to `out`, which is made: every tensor of floats under the name that newer releases of `transformers` have for
/// it, in one `model.safetensors`, with values in `precision`, or as they are.
///
/// # Errors
/// If `out` is there already, a value is too large for its type, or a file cannot be read or written; then nothing is left.
pub fn export(
    checkpoint: &Checkpoint,
    precision: Option<Precision>,
    out: &Path,
) -> Result<Exported, Error> {
    if out.exists() {
        return Err(Error::Input(format!(
            "{}: expected no such file or folder, found one; name another with -o",
            out.display()
        )));
    }
    // Whole or not at all.
    let unfinished = out.with_added_extension("tmp");
    let written = write(checkpoint, precision, &unfinished).and_then(|written| {
        fs::rename(&unfinished, out).map_err(io(out))?;
        Ok(written)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    written
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

fn write(
    checkpoint: &Checkpoint,
    precision: Option<Precision>,
    out: &Path,
) -> Result<Exported, Error> {
    let from = &checkpoint.folder.path;
    let inner = checkpoint.folder.modules.first();
    let inner = inner.map_or(Path::new(""), PathBuf::as_path);
    let files = settings(&checkpoint.folder, inner)?;
    let tensors = tensors(checkpoint, precision)?;
    let inner = out.join(inner);
    fs::create_dir_all(&inner).map_err(io(&inner))?;
    for file in &files {
        let folder = out.join(file).parent().unwrap_or(out).to_owned();
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        copy_into(&[from.join(file)], &folder)?;
    }
    let mut config = checkpoint.folder.config.clone();
    if let Some(precision) = precision {
        // Newer releases say `dtype`, and read both.
        let key = ["torch_dtype", "dtype"][usize::from(config.contains_key("dtype"))];
        config.insert(key.to_owned(), Value::from(precision.name_in_torch()));
    }
    let config = serde_json::to_string_pretty(&config).expect("an object of JSON can be written");
    write_text(&inner.join(CONFIG), &config)?;
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.kind, tensor.shape.clone(), &tensor.bytes);
        (&**name, view.expect("as many bytes as the shape says"))
    });
    weights::write(&inner.join(WEIGHTS), views)?;
    let mut kinds = BTreeMap::new();
    for tensor in tensors.values() {
        *kinds.entry(tensor.kind.to_string()).or_default() += tensor.bytes.len();
    }
    Ok(Exported {
        tensors: tensors.len(),
        kinds,
        files,
    })
}

struct Tensor {
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn tensors(
    checkpoint: &Checkpoint,
    precision: Option<Precision>,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let weights = checkpoint.weights();
    let mut tensors = BTreeMap::new();
    for (name, shape) in weights.shapes() {
        // What is no float is counted anew by whoever opens the folder: places, masks.
        let Some(stored) = weights.precision(&name) else {
            continue;
        };
        let rows = shape.first().copied().unwrap_or(1);
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(&name, 0..rows, &mut values)?;
        let precision = precision.unwrap_or(stored);
        let bytes = precision.bytes(&values).ok_or_else(|| {
            Error::Input(format!(
                "{}: tensor {name:?} has values beyond those of f16, 65504; take bf16 or f32",
                checkpoint.folder.path.display()
            ))
        })?;
        let kind = precision.kind();
        tensors.insert(renamed(&name), Tensor { kind, shape, bytes });
    }
    Ok(tensors)
}

/// Names of norms as releases since 2019 have them.
fn renamed(name: &str) -> String {
    let old = [(".gamma", ".weight"), (".beta", ".bias")];
    let of = old.iter().find_map(|(old, new)| {
        let stem = name.strip_suffix(old)?;
        Some(format!("{stem}{new}"))
    });
    of.unwrap_or_else(|| name.to_owned())
}

impl Precision {
    fn kind(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn name_in_torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The values, each as near as the type has it; none if one has no number there.
    fn bytes(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * 4);
        for &value in values {
            match self {
                Self::F32 => bytes.extend(value.to_le_bytes()),
                Self::F16 => {
                    let narrow = f16::from_f32(value);
                    if value.is_finite() && !narrow.is_finite() {
                        return None;
                    }
                    bytes.extend(narrow.to_le_bytes());
                }
                Self::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            }
        }
        Some(bytes)
    }
}

/// The files beside the weights of the folder, whose encoder is in its folder `inner`.
fn settings(folder: &Folder, inner: &Path) -> Result<Vec<PathBuf>, Error> {
    let from = &folder.path;
    let mut files: Vec<PathBuf> = SETTINGS.iter().map(PathBuf::from).collect();
    if inner != Path::new("") {
        files.extend(SETTINGS.iter().map(|name| inner.join(name)));
    }
    files.retain(|file| from.join(file).is_file());
    let tokenizer = folder.tokenizer.iter().filter_map(|file| file.file_name());
    files.extend(tokenizer.map(|name| inner.join(name)));
    // What follows the encoder of a sentence-transformers folder has folders of its own.
    let further = folder.modules.iter().skip(1);
    for module in further.filter(|module| *module != inner && !module.as_os_str().is_empty()) {
        let home = from.join(module);
        // A module without settings need not have one.
        for entry in fs::read_dir(&home).into_iter().flatten() {
            let entry = entry.map_err(io(&home))?;
            if entry.path().is_file() {
                files.push(module.join(entry.file_name()));
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
