use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::{List, Start};

/// A bidirectional state space mixer: a scan forward, a scan backward and a free diagonal, gated.
///
/// # Source
/// Hwang et al., Bidirectional State Space Models Through Generalized Matrix Mixers, `NeurIPS` 2024, arXiv:2407.09941,
/// §4, and its public code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quasiseparable {
    /// Channels of a head, `P`.
    pub head_width: usize,
    /// Size of a head's state, `S`.
    pub state: usize,
    /// Inner width over the model's width.
    pub expand: usize,
    /// Tokens that the convolution before the scans sees, odd.
    pub kernel: usize,
    /// Tokens taken at once on a GPU (a CPU takes as many as suit it); changes cost and rounding, not what is computed.
    pub chunk: usize,
}

impl Quasiseparable {
    /// Heads, for a model `width` wide.
    pub fn heads(&self, width: usize) -> usize {
        self.expand * width / self.head_width
    }
}

impl Settings for Quasiseparable {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        for (key, value) in [
            ("head_width", self.head_width),
            ("state", self.state),
            ("expand", self.expand),
            ("chunk", self.chunk),
        ] {
            faults.check_positive(&format!("{path}.{key}"), value);
        }
        super::check_odd(path, self.kernel, faults);
        let inner = self.expand * room.width;
        faults.check(
            self.head_width == 0 || inner.is_multiple_of(self.head_width),
            &format!("{path}.head_width"),
            || {
                format!(
                    "expected a divisor of the inner width {inner}, found {}",
                    self.head_width
                )
            },
        );
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let (inner, heads) = (self.expand * room.width, self.heads(room.width));
        let convolved = inner + 4 * self.state;
        let rows = inner + convolved + 2 * heads;
        list.add(&format!("{name}.input.weight"), &[rows, room.width]);
        list.add(
            &format!("{name}.convolution.weight"),
            &[self.kernel, convolved],
        );
        list.add(&format!("{name}.convolution.bias"), &[convolved]);
        list.start(&format!("{name}.step"), &[2 * heads], Start::Steps);
        list.start(&format!("{name}.log_rate"), &[heads], Start::Constant(0.0));
        list.add(&format!("{name}.diagonal.weight"), &[heads, inner]);
        list.start(
            &format!("{name}.diagonal.bias"),
            &[heads],
            Start::Constant(1.0),
        );
        list.add(&format!("{name}.norm.gain"), &[inner]);
        list.add(&format!("{name}.output.weight"), &[room.width, inner]);
    }

    fn sees_future(&self) -> bool {
        true
    }
}
