use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// Two linear maps along the sequence with GELU between them, the same for every channel.
///
/// Each position up to `model.max_len` has its own weights; a shorter sequence uses the first ones.
///
/// # Source
/// Tolstikhin et al., MLP-Mixer, `NeurIPS` 2021, arXiv:2105.01601, eq. 1, first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenMlp {
    /// Width between the two maps.
    pub width: usize,
}

impl Settings for TokenMlp {
    fn check(&self, path: &str, _: Room, faults: &mut Faults) {
        faults.check_positive(&format!("{path}.width"), self.width);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.up"), self.width, room.max_len);
        list.linear(&format!("{name}.down"), room.max_len, self.width);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
