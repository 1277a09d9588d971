use serde::{Deserialize, Serialize};

use super::{Room, Settings, check_heads};
use crate::Faults;
use crate::encoder::Relative;
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
    /// Blocks of tokens of which each sees a few; absent: none. Not beside a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
    /// Queries are the keys, by one map: `qkv` has two parts then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tied: bool,
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

/// Blocks of tokens, each of which sees itself, its neighbours, the sequence's ends and some drawn by chance.
///
/// # Source
/// Zaheer et al., Big Bird, `NeurIPS` 2020, arXiv:2007.14062, §2, and its public code.
/// # Departures
/// All heads of a layer see the same blocks; in the public code each head draws its own. What a block draws depends on the
/// seed, the layer and its place, so that a longer sequence changes as little as can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Tokens of a block, counted from the sequence's start; its last block may have fewer.
    pub size: usize,
    /// Blocks seen to each side; 1 in the paper.
    pub near: usize,
    /// So many blocks at either end see all and are seen by all, only the first ones if causal; 1 in the public code.
    pub global: usize,
    /// Further blocks that each other block sees, earlier ones if causal; 3 in the paper.
    pub random: usize,
    /// Seed of the drawing.
    pub seed: u64,
}

/// What makes weights of a row of scores, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Score {
    /// A softmax stretched and cut off, so that a weight can be exactly 0.
    Clipped(Clipped),
    /// A softmax over the largest scores of each row alone.
    TopK(TopK),
    /// All weight to the largest score, and the softmax's gradient.
    Hard(Hard),
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
    /// Scores kept a row; with 1 alone queries and keys get no gradient.
    pub keep: usize,
}

/// Settings of all weight to the largest score: none.
///
/// # Source
/// The straight-through gradient of Bengio et al., 2013, arXiv:1308.3432, §3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hard {}

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
    /// A learned number a head and bucket of distance is added to them.
    Buckets(Buckets),
    /// Queries and keys also meet a learned vector a distance.
    Disentangled(Disentangled),
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

/// Buckets of one distance each up to half of them (of each direction), then ever wider ones.
///
/// # Source
/// Raffel et al., T5, JMLR 2020, arXiv:1910.10683, §2.1, and its public code.
/// # Departures
/// Each layer has its own numbers, and scores are scaled by `1/√K` as usual; T5's layers share them, without a scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buckets {
    /// Buckets, half for each direction, or all for the past if causal; 32 in the paper.
    pub buckets: usize,
    /// Distances from here on share the last bucket; 128 in the paper.
    pub max_distance: usize,
}

/// `(q · k + q · Kᵣ + k · Qᵣ)/√(3K)`, with `Kᵣ` and `Qᵣ` what the layer's own maps make of the distance's vector as a
/// key and as a query.
///
/// # Source
/// He et al., `DeBERTa`, ICLR 2021, arXiv:2006.03654, §3.1; own maps and wider buckets as in its third version's public
/// code (arXiv:2111.09543).
/// # Departures
/// Each layer has its own vectors, and they have no norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disentangled {
    /// Vectors to each side; distances beyond share the last.
    pub span: usize,
    /// Half of each side's vectors stand for one distance each, the others for ever more, up to this one; absent: all
    /// for one each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<usize>,
}

impl Position {
    /// Row of the learned table, of those that have one, for a query `distance = query − key` places after a key.
    pub fn row(&self, distance: isize, causal: bool) -> Option<usize> {
        let table = match self {
            Self::Alibi(_) | Self::Rotary(_) => return None,
            Self::Buckets(settings) => Relative::Bias {
                // The half of what comes after is never met.
                buckets: settings.buckets * if causal { 2 } else { 1 },
                max_distance: settings.max_distance,
                heads: 0,
            },
            Self::Disentangled(settings) => Relative::Vectors {
                span: settings.span,
                buckets_to: settings.max_distance,
                norm: None,
            },
        };
        Some(table.row(if causal { distance.max(0) } else { distance }))
    }

    fn check(&self, path: &str, attention: &Attention, room: Room, faults: &mut Faults) {
        match self {
            Self::Alibi(_) => {}
            Self::Rotary(rotary) => {
                faults.check(
                    rotary.base > 1.0 && rotary.base.is_finite(),
                    &format!("{path}.base"),
                    || format!("expected a number above 1, found {}", rotary.base),
                );
                let heads = attention.heads.max(1);
                faults.check((room.width / heads).is_multiple_of(2), path, || {
                    format!(
                        "expected an even number of channels a head, found {}",
                        room.width / heads
                    )
                });
            }
            Self::Buckets(settings) => {
                let (least, step) = if attention.causal { (2, 1) } else { (4, 2) };
                let buckets = settings.buckets;
                faults.check(
                    buckets >= least && buckets.is_multiple_of(step),
                    &format!("{path}.buckets"),
                    || {
                        let even = if step == 2 { "an even" } else { "a" };
                        format!("expected {even} number from {least}, found {buckets}")
                    },
                );
                let max = settings.max_distance;
                faults.check(max >= buckets, &format!("{path}.max_distance"), || {
                    format!("expected at least as many as buckets, {buckets}, found {max}")
                });
            }
            Self::Disentangled(settings) => {
                faults.check_positive(&format!("{path}.span"), settings.span);
                if let Some(max) = settings.max_distance {
                    let span = settings.span;
                    let fits = span >= 4 && max > span;
                    faults.check(fits, &format!("{path}.max_distance"), || {
                        format!(
                            "expected a span from 4 and a distance above it, found {span} and {max}"
                        )
                    });
                }
            }
        }
    }
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
            blocks: None,
            tied: false,
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
            Some(Score::Hard(_) | Score::Sink(_)) | None => {}
        }
        if let Some(gate) = &self.gate {
            faults.check(
                gate.open > 0.0 && gate.open < 1.0,
                &format!("{path}.gate.open"),
                || format!("expected a number between 0 and 1, found {}", gate.open),
            );
        }
        if let Some(blocks) = &self.blocks {
            faults.check_positive(&format!("{path}.blocks.size"), blocks.size);
            faults.check(self.window.is_none(), &format!("{path}.blocks"), || {
                "expected no window beside them; blocks.near says how far a block sees".to_owned()
            });
        }
        if let Some(position) = &self.position {
            position.check(&format!("{path}.position"), self, room, faults);
        }
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let parts = if self.tied { 2 } else { 3 };
        list.linear(&format!("{name}.qkv"), parts * room.width, room.width);
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
        let table = match &self.position {
            Some(Position::Buckets(settings)) => [settings.buckets, self.heads],
            Some(Position::Disentangled(settings)) => [2 * settings.span, room.width],
            Some(Position::Alibi(_) | Position::Rotary(_)) | None => return,
        };
        list.add(&format!("{name}.position.weight"), &table);
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
