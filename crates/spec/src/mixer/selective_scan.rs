use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::{List, Start};

/// A state space model whose step, input and output follow from each token, run over the sequence forward, backward or
/// both, and gated.
///
/// # Source
/// Gu and Dao, Mamba, 2023, arXiv:2312.00752, §3; both directions as in Zhu et al., Vision Mamba, ICML 2024,
/// arXiv:2401.09417, algorithm 1: each with its own convolution and scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectiveScan {
    /// Size of a channel's state, `S`.
    pub state: usize,
    /// Inner width over the model's width.
    pub expand: usize,
    /// Rank of the map into steps.
    pub rank: usize,
    /// Tokens that the convolution before each scan sees, its own token the last of them.
    pub kernel: usize,
    /// Which way the sequence is read.
    pub direction: Direction,
}

/// Which way a sequence is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From its start: a token knows those before it.
    Forward,
    /// From its end: a token knows those after it.
    Backward,
    /// Both, summed.
    Both,
}

impl Direction {
    /// Names of the directions' parameters, and whether the sequence is turned round.
    pub fn passes(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Forward => &[("forward", false)],
            Self::Backward => &[("backward", true)],
            Self::Both => &[("forward", false), ("backward", true)],
        }
    }
}

impl Settings for SelectiveScan {
    fn check(&self, path: &str, _: Room, faults: &mut Faults) {
        for (key, value) in [
            ("state", self.state),
            ("expand", self.expand),
            ("rank", self.rank),
            ("kernel", self.kernel),
        ] {
            faults.check_positive(&format!("{path}.{key}"), value);
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let inner = self.expand * room.width;
        list.add(&format!("{name}.input.weight"), &[2 * inner, room.width]);
        for (pass, _) in self.direction.passes() {
            let part = |part: &str| format!("{name}.{pass}.{part}");
            list.add(&part("convolution.weight"), &[self.kernel, inner]);
            list.add(&part("convolution.bias"), &[inner]);
            list.add(&part("select.weight"), &[self.rank + 2 * self.state, inner]);
            list.add(&part("step.weight"), &[inner, self.rank]);
            list.start(&part("step.bias"), &[inner], Start::Steps);
            list.start(
                &part("log_rate"),
                &[inner, self.state],
                Start::Logarithms { row: self.state },
            );
            list.add(&part("skip.gain"), &[inner]);
        }
        list.add(&format!("{name}.output.weight"), &[room.width, inner]);
    }

    fn sees_future(&self) -> bool {
        self.direction != Direction::Forward
    }
}
