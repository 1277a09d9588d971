//! Sequences into vectors.

use serde::{Deserialize, Serialize};

/// How tokens become vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Embed {
    /// A learned vector an item plus a learned vector a position.
    Item(Item),
}

/// Item embedding: `dropout(norm(item[token] + position[index]))`.
///
/// # Source
/// Sun et al., BERT4Rec, CIKM 2019, §3.4; the norm and dropout as in the authors' code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Where positions are counted from.
    pub positions: Positions,
    /// Normalise the sum of both vectors.
    pub norm: bool,
    /// Share of values dropped while training.
    pub dropout: f32,
}

/// Where the first position lies. Each side has its own learned vectors, `max_len` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Position 0 is the oldest item of the window (BERT).
    FromStart,
    /// Position 0 is the newest item, so that "just before" is one vector whatever the length (`RecTools`).
    FromEnd,
    /// No positions: the order of items is not seen.
    None,
}
