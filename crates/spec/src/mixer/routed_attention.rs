use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Attention within the few blocks of a sequence that suit each block best, and a convolution of the values.
///
/// # Source
/// Zhu et al., Vision Transformer with Bi-Level Routing Attention, CVPR 2023, arXiv:2303.08810, §3.2; along a sequence
/// or over a grid.
/// # Departures
/// Scores are scaled by the root of a head's channels, as usual, where the public code takes the model's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutedAttention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// Tokens of a block.
    pub block: usize,
    /// Blocks that each block attends to.
    pub keep: usize,
    /// Tokens that the convolution of the values sees, odd; over a grid, to each of its two sides; 5 in the paper.
    pub kernel: usize,
    /// The grid that the sequence is laid into; absent: blocks follow each other along it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

/// A grid into which a sequence is laid row by row, as the patches of a picture, and that is cut into blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Tokens of a row; how many rows there are follows from the sequence's length.
    pub columns: usize,
    /// Columns of a block, a divisor of its tokens; blocks at the right edge may have fewer.
    pub block_columns: usize,
}

impl RoutedAttention {
    /// Tokens that the convolution sees.
    fn taps(&self) -> usize {
        self.kernel.pow(if self.grid.is_some() { 2 } else { 1 })
    }
}

impl Settings for RoutedAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_positive(&format!("{path}.block"), self.block);
        faults.check_positive(&format!("{path}.keep"), self.keep);
        super::check_odd(path, self.kernel, faults);
        if let Some(grid) = &self.grid {
            let (columns, wide) = (grid.columns, grid.block_columns);
            let fits = wide > 0 && self.block.is_multiple_of(wide) && wide <= columns;
            faults.check(fits, &format!("{path}.grid.block_columns"), || {
                format!(
                    "expected a divisor of the block's tokens, {}, of no more than the grid's columns, {columns}; found {wide}",
                    self.block
                )
            });
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.qkv"), 3 * room.width, room.width);
        list.add(
            &format!("{name}.convolution.weight"),
            &[self.taps(), room.width],
        );
        list.add(&format!("{name}.convolution.bias"), &[room.width]);
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
