use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Attention to near tokens directly and to all others through summaries of the spans they stand in.
///
/// Its parameters are those of [`Attention`](super::Attention), so weights of one load into the other.
///
/// # Source
/// Ren et al., Full Attention Transformer with Sparse Computation Cost, `NeurIPS` 2021, arXiv:2107.05768, §3 and §4.
/// # Departures
/// A token's own span is never among its summaries; the public code counts it twice where it looks to both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryAttention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// Which tokens are met directly, and which spans tile the rest.
    pub spans: Spans,
    /// A token sees itself, earlier tokens and spans that end before it only.
    pub causal: bool,
}

/// Which spans tile a sequence, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Spans {
    /// Equal blocks: a token meets its own block directly and every other as a summary.
    Fixed(Fixed),
    /// Blocks that double with distance: a token meets itself directly and one summary a level of a binary tree.
    Doubling(Doubling),
}

/// Settings of equal blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    /// Tokens of a block; cost is least near the square root of the length.
    pub block: usize,
}

/// Settings of blocks that double: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doubling {}

impl Settings for SummaryAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        if let Spans::Fixed(fixed) = &self.spans {
            faults.check_positive(&format!("{path}.spans.block"), fixed.block);
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.qkv"), 3 * room.width, room.width);
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
