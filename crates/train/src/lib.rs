//! Runs what a recipe says: steps, schedules, checkpoints, evaluation, reports.
//!
//! [`run::Run::train`] takes a recipe and a prepared data set and leaves a model folder; [`evaluate`] measures it beside
//! [`baseline`]s by the protocols of [`eval`]; [`recommend::Recommender`] uses it. This room never prints: what happens
//! is told through [`run::Event`].

pub mod analyse;
pub mod baseline;
pub mod checkpoint;
mod device;
mod error;
pub mod eval;
pub mod evaluate;
pub mod fit;
pub mod metric;
pub mod optim;
pub mod recommend;
pub mod report;
pub mod run;
mod safetensors;
pub mod text;

pub use device::{Place, options};
pub use error::Error;
pub use recommend::Recommender;

/// The instruction set that the kernels use on this machine, in words.
pub fn instruction_set() -> String {
    format!("{:?}", cloze_kernels::Isa::detect()).to_lowercase()
}
