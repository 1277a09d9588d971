//! Judging anything that scores items.

pub mod protocol;

pub use protocol::{Candidates, Protocol, by_history, evaluate};
