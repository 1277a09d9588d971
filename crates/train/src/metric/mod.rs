//! How good predictions are, and how sure one may be that others are better.
//!
//! One file a metric. Each gives the numbers of a reference implementation, named in its file, on the same input; what
//! differs stands there under `# Departures`. Sums over examples are kept apart from the score, so that examples can be
//! drawn anew for [`bootstrap::intervals`].

pub mod answer;
pub mod bert_score;
pub mod bleu;
pub mod bootstrap;
pub mod calibration;
pub mod chrf;
pub mod classification;
pub mod counts;
pub mod curve;
pub mod entity;
pub mod mcnemar;
pub mod multilabel;
pub mod perplexity;
mod porter;
pub mod ranking;
pub mod regression;
pub mod rouge;
pub mod ter;
mod text;

pub use bootstrap::Interval;
pub use ranking::{AtCutoff, RankingAccumulator, RankingMetrics};
