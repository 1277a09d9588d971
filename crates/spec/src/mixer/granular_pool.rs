use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Pooling at three grains, joined by a product: over the sequence, over its segments, over neighbours.
///
/// # Source
/// Tan et al., Pooling Network for Efficient Token Mixing in Long Sequences, ICLR 2022, arXiv:2110.02442, §3.
/// # Departures
/// Segments are `segment` tokens each from the sequence's start, rather than a share of the padded length, which
/// would let a batch's longest sequence change the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GranularPool {
    /// Heads of the pooling over the sequence; each has `width / heads` channels.
    pub heads: usize,
    /// Tokens of a segment.
    pub segment: usize,
    /// Neighbours to each side; 1 in the paper.
    pub radius: usize,
}

impl Settings for GranularPool {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_positive(&format!("{path}.segment"), self.segment);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.maps"), 5 * room.width, room.width);
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
