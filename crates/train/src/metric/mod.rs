//! How good a ranking is, and how sure one may be that another is better.

pub mod bootstrap;
pub mod ranking;

pub use bootstrap::Interval;
pub use ranking::{AtCutoff, RankingAccumulator, RankingMetrics};
