//! Everything that going on from a step needs, in one folder that is there whole or not at all.
//!
//! ```text
//! OUT/training/000007/state.json           where the run stands
//! OUT/training/000007/model.safetensors     the weights
//! OUT/training/000007/mean.safetensors      the optimiser's moments
//! OUT/training/000007/square.safetensors
//! ```
//!
//! A checkpoint is written under a temporary name and renamed when it is complete; only then are older ones removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_nn::weights::{self, Values};
use cloze_spec::folder::{WEIGHTS, sync_folder, write_atomically};
use cloze_spec::inventory::Parameter;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::optim::Moments;
use crate::safetensors::{self, Tensors};

/// Where a run stands. With the recipe and the data it determines everything that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Hash of the data that the run learns from.
    pub fingerprint: u64,
    /// Epoch under way, from 0.
    pub epoch: u64,
    /// Batches of that epoch already learned from.
    pub batch: usize,
    /// Optimiser steps taken.
    pub step: u64,
    /// Best value of the validation metric, and its epoch.
    pub best: Option<Best>,
    /// Validations since then.
    pub validations_without_gain: u64,
    /// Tokens learned from.
    pub tokens: u64,
    /// Seconds spent training, validation not counted.
    pub seconds: f64,
    /// The run has come to its end.
    pub finished: bool,
    /// How often each code of each codebook was chosen since codes began anew, by the parameter's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fired: BTreeMap<String, Vec<u64>>,
}

impl State {
    /// Nothing is learned yet.
    pub fn new(fingerprint: u64) -> Self {
        Self {
            fingerprint,
            epoch: 0,
            batch: 0,
            step: 0,
            best: None,
            validations_without_gain: 0,
            tokens: 0,
            seconds: 0.0,
            finished: false,
            fired: BTreeMap::new(),
        }
    }
}

/// The best validation so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Value of the metric.
    pub value: f64,
    /// Epochs done when it was reached.
    pub epoch: u64,
}

/// A checkpoint, as read.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where the run stands.
    pub state: State,
    /// The weights.
    pub values: Values,
    /// The optimiser's moments.
    pub moments: Moments,
}

const STATE: &str = "state.json";
const MEAN: &str = "mean.safetensors";
const SQUARE: &str = "square.safetensors";

fn folder(out: &Path) -> PathBuf {
    out.join("training")
}

/// Values with their shapes, as the inventory lists them.
pub(crate) fn tensors(parameters: &[Parameter], values: &Values) -> Tensors {
    parameters
        .iter()
        .map(|p| {
            let of_parameter = values
                .get(&p.name)
                .unwrap_or_else(|| panic!("values hold {}", p.name))
                .clone();
            (p.name.clone(), (p.shape.clone(), of_parameter))
        })
        .collect()
}

/// Reads weights and checks them against the inventory.
///
/// # Errors
/// If the file cannot be read, or any tensor is missing, extra or misshapen.
pub(crate) fn read_values(path: &Path, parameters: &[Parameter]) -> Result<Values, Error> {
    let tensors = safetensors::read(path)?;
    let shapes = tensors
        .iter()
        .map(|(name, (shape, _))| (name.clone(), shape.clone()))
        .collect();
    weights::check(parameters, &shapes, &path.display().to_string())?;
    Ok(safetensors::values(tensors))
}

/// Writes a checkpoint of `out` and removes the older ones.
///
/// # Errors
/// If anything cannot be written; the older checkpoint then still stands.
pub fn write(
    out: &Path,
    parameters: &[Parameter],
    state: &State,
    values: &Values,
    moments: &Moments,
) -> Result<(), Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| cloze_spec::Error::Io { path, source }
    };
    let root = folder(out);
    // Always a new name: a rename over an older checkpoint of the same step could not be atomic.
    let serial = newest(out)
        .and_then(|path| path.file_name()?.to_str()?.parse::<u64>().ok())
        .map_or(0, |n| n + 1);
    let temporary = root.join(format!("{serial:06}.tmp"));
    let done = root.join(format!("{serial:06}"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(io(&temporary))?;
    for (name, values) in [
        (WEIGHTS, values),
        (MEAN, &moments.mean),
        (SQUARE, &moments.square),
    ] {
        safetensors::write(&temporary.join(name), &tensors(parameters, values))?;
    }
    let json = serde_json::to_vec_pretty(state).expect("a state holds only what JSON can say");
    write_atomically(&temporary.join(STATE), |file| {
        std::io::Write::write_all(file, &json)
    })?;
    fs::rename(&temporary, &done).map_err(io(&done))?;
    sync_folder(&root);
    for entry in fs::read_dir(&root).map_err(io(&root))? {
        let path = entry.map_err(io(&root))?.path();
        if path != done {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

/// The folder of the newest complete checkpoint of `out`.
fn newest(out: &Path) -> Option<PathBuf> {
    let is_complete = |path: &PathBuf| path.extension().is_none() && path.join(STATE).exists();
    fs::read_dir(folder(out))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_complete)
        .max()
}

/// The newest complete checkpoint of `out`, if there is one.
///
/// # Errors
/// If it cannot be read or does not fit the parameters.
pub fn read(out: &Path, parameters: &[Parameter]) -> Result<Option<Checkpoint>, Error> {
    let Some(newest) = newest(out) else {
        return Ok(None);
    };
    let path = newest.join(STATE);
    let text = fs::read(&path).map_err(|source| cloze_spec::Error::Io {
        path: path.clone(),
        source,
    })?;
    let state: State = serde_json::from_slice(&text).map_err(|error| Error::Resume {
        path,
        message: format!("is no training state: {error}"),
    })?;
    let values = |name: &str| read_values(&newest.join(name), parameters);
    Ok(Some(Checkpoint {
        values: values(WEIGHTS)?,
        moments: Moments {
            mean: values(MEAN)?,
            square: values(SQUARE)?,
        },
        state,
    }))
}
