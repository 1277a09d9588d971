use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Attention within the few blocks of a sequence that suit each block best, and a convolution of the values.
///
/// # Source
/// Zhu et al., Vision Transformer with Bi-Level Routing Attention, CVPR 2023, arXiv:2303.08810, §3.2; along a sequence.
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
    /// Tokens that the convolution of the values sees, odd; 5 in the paper.
    pub kernel: usize,
}

impl Settings for RoutedAttention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_positive(&format!("{path}.block"), self.block);
        faults.check_positive(&format!("{path}.keep"), self.keep);
        super::check_odd(path, self.kernel, faults);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.qkv"), 3 * room.width, room.width);
        list.add(
            &format!("{name}.convolution.weight"),
            &[self.kernel, room.width],
        );
        list.add(&format!("{name}.convolution.bias"), &[room.width]);
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
