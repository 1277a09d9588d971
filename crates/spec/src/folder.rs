//! Model folders: one directory with everything that using a model needs.
//!
//! ```text
//! config.json         the architecture and the number of items
//! model.safetensors   the weights, named as in the inventory
//! items.parquet       the item vocabulary; row = token
//! recipe.toml         the resolved recipe
//! metrics.json        what the evaluation found
//! training/           checkpoints for exact resume; not needed to use the model
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Model};

/// Name of the architecture file.
pub const CONFIG: &str = "config.json";
/// Name of the weights file.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the item vocabulary.
pub const ITEMS: &str = "items.parquet";
/// Name of the resolved recipe.
pub const RECIPE: &str = "recipe.toml";
/// Name of the evaluation's results.
pub const METRICS: &str = "metrics.json";

/// What `config.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always `cloze`: tells this folder from those of other tools.
    pub model_type: String,
    /// How many items the vocabulary has.
    pub items: usize,
    /// The architecture.
    pub model: Model,
    /// Prefer leaving a user's own items out of her recommendations.
    pub exclude_seen: bool,
}

impl Config {
    /// The value of `model_type`.
    pub const MODEL_TYPE: &str = "cloze";

    /// Reads and checks `config.json` of a model folder.
    ///
    /// # Errors
    /// If the file is missing, is not JSON of this shape, or its values do not fit together.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        let text = fs::read(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let fail = |message: String| Error::Config {
            path: path.clone(),
            message,
        };
        let config: Self = serde_json::from_slice(&text).map_err(|e| fail(e.to_string()))?;
        if config.model_type != Self::MODEL_TYPE {
            return Err(fail(format!(
                "expected model_type {:?}, found {:?}; this folder was made by another tool",
                Self::MODEL_TYPE,
                config.model_type
            )));
        }
        if config.items == 0 {
            return Err(fail("expected at least one item, found 0".to_owned()));
        }
        config.model.validate(&path.display().to_string())?;
        Ok(config)
    }

    /// The file's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a configuration holds only what JSON can say")
            + "\n"
    }
}

/// Writes a text to `path`, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, |file| file.write_all(text.as_bytes()))
}

/// Writes a file so that a crash leaves the old content or the new, never half: to a temporary name beside it, synced,
/// then renamed. `write` fills it.
///
/// # Errors
/// What the system said, with the path.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), Error> {
    let fail = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(fail)?;
    write(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// Copies files into a folder, under their own names, each as [`write_atomically`] does.
///
/// # Errors
/// What the system said, with the path.
///
/// # Panics
/// If one of `files` has no name.
pub fn copy_into(files: &[PathBuf], folder: &Path) -> Result<(), Error> {
    for path in files {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let name = path.file_name().expect("a file has a name");
        write_atomically(&folder.join(name), |file| file.write_all(&bytes))?;
    }
    Ok(())
}

/// Asks the system to make renames within a folder durable. Some file systems can't; then the rename is still atomic.
pub fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
