use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::List;

/// Linear attention whose state is corrected at each key, not only added to: what was stored at a key is replaced.
///
/// # Source
/// Yang et al., Parallelizing Linear Transformers with the Delta Rule over Sequence Length, `NeurIPS` 2024,
/// arXiv:2406.06484, §2 and §3, and its public code.
/// # Departures
/// The paper's layer looks back only. Without `causal` a second state reads the sequence from its end, with its own
/// write strengths and the same queries, keys and values, and both outputs are summed; the convolution then sees both
/// sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaRule {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// Tokens that the convolution of queries, keys and values sees; its own token is the last of them if causal, else
    /// the middle one, and the number odd.
    pub kernel: usize,
    /// Tokens taken at once on a GPU (a CPU takes as many as suit it), a power of two; changes cost and rounding, not what is
    /// computed.
    pub chunk: usize,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
}

impl Settings for DeltaRule {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        if self.causal {
            faults.check_positive(&format!("{path}.kernel"), self.kernel);
        } else {
            super::check_odd(path, self.kernel, faults);
        }
        faults.check(
            self.chunk.is_power_of_two(),
            &format!("{path}.chunk"),
            || format!("expected a power of two, found {}", self.chunk),
        );
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let directions = if self.causal { 1 } else { 2 };
        list.add(&format!("{name}.qkv.weight"), &[3 * room.width, room.width]);
        list.add(
            &format!("{name}.convolution.weight"),
            &[self.kernel, 3 * room.width],
        );
        list.add(
            &format!("{name}.strength.weight"),
            &[directions * self.heads, room.width],
        );
        list.add(
            &format!("{name}.norm.gain"),
            &[room.width / self.heads.max(1)],
        );
        list.add(&format!("{name}.output.weight"), &[room.width, room.width]);
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
