use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::{List, Start};

/// Attention between short codes of ±1, made of queries and keys that are one and the same; linear in the tokens.
///
/// # Source
/// Liu et al., Energy-Saving Attention with Linear Complexity, `NeurIPS` 2022, arXiv:2209.09004, §4.
/// # Departures
/// Anchors, hash weights and thresholds are parameters, learned with all others through the straight-through gradient;
/// the paper fits them apart, every thirty epochs, and takes the mean kernel value of a batch as threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashedAttention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// Bits of a code; 16 in the paper.
    pub bits: usize,
    /// Points that a token is compared with before it is coded; 25 in the paper.
    pub anchors: usize,
}

impl Settings for HashedAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_positive(&format!("{path}.bits"), self.bits);
        faults.check_positive(&format!("{path}.anchors"), self.anchors);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let (heads, anchors, bits) = (self.heads, self.anchors, self.bits);
        list.linear(&format!("{name}.key_value"), 2 * room.width, room.width);
        let anchor = [heads, anchors, room.width / heads.max(1)];
        list.start(&format!("{name}.anchor"), &anchor, Start::Uniform(1.0));
        list.start(
            &format!("{name}.hash.weight"),
            &[heads, bits, anchors],
            Start::Uniform(1.0),
        );
        list.add(&format!("{name}.hash.bias"), &[heads, bits]);
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
