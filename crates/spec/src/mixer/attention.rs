use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::inventory::{List, Start};

/// Multi-head softmax attention over the tokens of one sequence.
///
/// # Source
/// Vaswani et al., Attention Is All You Need, NeurIPS 2017, §3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads; each has `width / heads` channels.
    pub heads: usize,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
    /// Share of attention probabilities dropped while training.
    pub dropout: f32,
    /// Tokens seen to each side, itself not counted; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// So many first tokens of a sequence see all and are seen by all, whatever the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<usize>,
    /// What makes weights of a row of scores; absent: the softmax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// A factor a head and token on what attention gives; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What scores know of distance; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// What makes weights of a row of scores, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Score {
    /// A softmax stretched and cut off, so that a weight can be exactly 0.
    Clipped(Clipped),
    /// A softmax over the largest scores of each row alone.
    TopK(TopK),
    /// A softmax with one more score a head, a learned number that takes weight and gives nothing.
    Sink(Sink),
}

/// `clip((stretch − γ) · softmax + γ, 0, 1)` with `γ = −alpha / n` for a row that may see `n` tokens.
///
/// # Source
/// Bondarenko et al., Quantizable Transformers, `NeurIPS` 2023, arXiv:2306.12929, §4.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clipped {
    /// How far below 0 the softmax reaches, in shares of a uniform weight; 2 to 4 in the paper.
    pub alpha: f32,
    /// Its upper end, at least 1.
    pub stretch: f32,
}

/// Only scores at least as large as the `keep`-th largest of their row count.
///
/// # Source
/// Nagarajan et al., Accuracy-driven Approximation of Transformers, 2020, arXiv:2010.03688, hard attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// Scores kept a row; 1 is hard attention.
    pub keep: usize,
}

/// Settings of the learned further score: none.
///
/// # Source
/// Xiao et al., Efficient Streaming Language Models with Attention Sinks, ICLR 2024, arXiv:2309.17453.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {}

/// `σ(w · x_h + b)`, of the head's slice of the layer's input.
///
/// # Source
/// Bondarenko et al., `NeurIPS` 2023, arXiv:2306.12929, §4.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The gate before training, between 0 and 1.
    pub open: f32,
}

/// What scores know of distance, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Position {
    /// They fall with distance, by a slope a head (Press et al., ICLR 2022, arXiv:2108.12409), the same to both sides.
    Alibi(Alibi),
    /// Queries and keys are turned by angles that grow with their position (Su et al., 2021, arXiv:2104.09864).
    Rotary(Rotary),
}

/// Settings of falling scores: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alibi {}

/// Settings of turned queries and keys; channel `i` is turned with channel `i + K/2`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Pair `i` turns by `base^(−2i/K)` a position.
    pub base: f32,
}

impl Attention {
    /// Attention to all tokens, without options.
    pub const fn plain(heads: usize, causal: bool, dropout: f32) -> Self {
        Self {
            heads,
            causal,
            dropout,
            window: None,
            global: None,
            score: None,
            gate: None,
            position: None,
        }
    }
}

impl Settings for Attention {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        check_heads(path, self.heads, room, faults);
        faults.check_dropout(&format!("{path}.dropout"), self.dropout);
        if let Some(window) = self.window {
            faults.check_positive(&format!("{path}.window"), window);
        }
        if let Some(global) = self.global {
            faults.check_positive(&format!("{path}.global"), global);
            faults.check(self.window.is_some(), &format!("{path}.global"), || {
                "expected a window beside it; without one every token sees all".to_owned()
            });
        }
        match &self.score {
            Some(Score::Clipped(clipped)) => {
                faults.check(
                    clipped.alpha >= 0.0 && clipped.alpha.is_finite(),
                    &format!("{path}.score.alpha"),
                    || format!("expected a number from 0, found {}", clipped.alpha),
                );
                faults.check(
                    clipped.stretch >= 1.0 && clipped.stretch.is_finite(),
                    &format!("{path}.score.stretch"),
                    || format!("expected a number from 1, found {}", clipped.stretch),
                );
            }
            Some(Score::TopK(top)) => {
                faults.check_positive(&format!("{path}.score.keep"), top.keep);
            }
            Some(Score::Sink(_)) | None => {}
        }
        if let Some(gate) = &self.gate {
            faults.check(
                gate.open > 0.0 && gate.open < 1.0,
                &format!("{path}.gate.open"),
                || format!("expected a number between 0 and 1, found {}", gate.open),
            );
        }
        if let Some(Position::Rotary(rotary)) = &self.position {
            faults.check(
                rotary.base > 1.0 && rotary.base.is_finite(),
                &format!("{path}.position.base"),
                || format!("expected a number above 1, found {}", rotary.base),
            );
            faults.check(
                self.heads == 0 || (room.width / self.heads).is_multiple_of(2),
                &format!("{path}.position"),
                || {
                    format!(
                        "expected an even number of channels a head, found {}",
                        room.width / self.heads
                    )
                },
            );
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        list.linear(&format!("{name}.qkv"), 3 * room.width, room.width);
        list.linear(&format!("{name}.output"), room.width, room.width);
        if matches!(self.score, Some(Score::Sink(_))) {
            list.add(&format!("{name}.sink.bias"), &[self.heads]);
        }
        if let Some(gate) = &self.gate {
            let gate_name = format!("{name}.gate");
            list.add(
                &format!("{gate_name}.weight"),
                &[self.heads, room.width / self.heads],
            );
            list.start(
                &format!("{gate_name}.bias"),
                &[self.heads],
                Start::Constant((gate.open / (1.0 - gate.open)).ln()),
            );
        }
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
