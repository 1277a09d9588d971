use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Attention with one map for queries, keys and values: a step towards the subspaces that the heads stand for.
///
/// # Source
/// Yu et al., White-Box Transformers via Sparse Rate Reduction, JMLR 2024, arXiv:2311.13110, §2; with the free output
/// map of its public code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubspaceAttention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
    /// Share of attention probabilities dropped while training.
    pub dropout: f32,
}

impl Settings for SubspaceAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_dropout(&format!("{path}.dropout"), self.dropout);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.add(
            &format!("{name}.subspace.weight"),
            &[room.width, room.width],
        );
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
