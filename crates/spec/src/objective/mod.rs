//! What a model learns to predict, and how a prediction is judged.

mod cloze;
mod loss;
mod next_item;

use serde::{Deserialize, Deserializer, Serialize};

pub use cloze::{Cloze, LastItem, Mixed, Replace};
pub use loss::{Bce, Gbce, Loss, SampledSoftmax, Sampler};
pub use next_item::NextItem;

/// An objective, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Objective {
    /// Fill blanks from what stands on both sides.
    Cloze(Cloze),
    /// Name the next item from what came before.
    NextItem(NextItem),
}

impl Objective {
    /// The loss of each prediction.
    pub fn loss(&self) -> &Loss {
        match self {
            Self::Cloze(cloze) => &cloze.loss,
            Self::NextItem(next) => &next.loss,
        }
    }

    /// What is wrong with values whose types are right, each fault with its key under `path`.
    pub fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = match self {
            Self::Cloze(cloze) => cloze.faults(path),
            Self::NextItem(_) => Vec::new(),
        };
        faults.extend(self.loss().faults(&format!("{path}.loss")));
        faults
    }
}

/// Notes a fault unless `holds`.
pub(crate) fn fault(faults: &mut Vec<String>, holds: bool, message: impl FnOnce() -> String) {
    if !holds {
        faults.push(message());
    }
}

/// Reads a variant without settings, and refuses any: serde alone would pass over them.
pub(crate) fn no_settings<'de, D: Deserializer<'de>>(table: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(table).map(|Nothing {}| ())
}
