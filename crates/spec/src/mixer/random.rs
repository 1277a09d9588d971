use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// Fixed random weights between positions, each row a softmax of numbers drawn once; nothing is learned.
///
/// The numbers follow from `seed` and the layer, and are in no file of the model.
///
/// # Source
/// Yu et al., `MetaFormer` Is Actually What You Need for Vision, CVPR 2022, arXiv:2111.11418, table 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// Where the numbers come from.
    pub seed: u64,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
}

impl Settings for Random {
    fn check(&self, _: &str, _: Room, _: &mut Faults) {}

    fn list(&self, _: &str, _: Room, _: &mut List) {}

    fn sees_future(&self) -> bool {
        !self.causal
    }

    fn computed(&self, room: Room) -> usize {
        room.max_len.saturating_mul(room.max_len)
    }
}
