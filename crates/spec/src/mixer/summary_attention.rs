use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Attention to near tokens directly and to all others through summaries of the spans they stand in.
///
/// Its parameters are those of [`Attention`](super::Attention), so weights of one load into the other; rows of a grid
/// have further ones.
///
/// # Source
/// Ren et al., Full Attention Transformer with Sparse Computation Cost, `NeurIPS` 2021, arXiv:2107.05768, §3 and §4.
/// # Departures
/// A token's own span is never among its summaries; the public code counts it twice where it looks to both sides. Of a
/// grid's last row, where it is not full, the last token asks for the columns that it lacks.
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
    /// Rows of a grid: a token meets its own row directly and every other as the token of its column sees that row.
    Axial(Axial),
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

/// Settings of rows of a grid, into which the sequence is laid row by row.
///
/// A row's key for a column is `key(norm(x + map(h)))` of the token that stands there, `h` being what it gets of its row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axial {
    /// Tokens of a row: the patches of a picture's row, or near the square root of the length.
    pub columns: usize,
}

impl Settings for SummaryAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        match &self.spans {
            Spans::Fixed(fixed) => {
                faults.check_positive(&format!("{path}.spans.block"), fixed.block);
            }
            Spans::Axial(axial) => {
                faults.check_positive(&format!("{path}.spans.columns"), axial.columns);
            }
            Spans::Doubling(_) => {}
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.qkv"), 3 * room.width, room.width);
        list.linear(&format!("{name}.output"), room.width, room.width);
        if let Spans::Axial(_) = self.spans {
            let square = [room.width, room.width];
            list.add(&format!("{name}.summary.map.weight"), &square);
            list.norm(&format!("{name}.summary.norm"), room.width);
            list.add(&format!("{name}.summary.key.weight"), &square);
        }
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
