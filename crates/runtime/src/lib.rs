//! Inference without a framework: pretrained encoders from their folders, on fused CPU kernels.
//!
//! ```text
//! model::open → weights → plan (packed once) → Engine::run → head, or pooling → output
//! ```
//! [`Engine`] is what runs an encoder; this room has one for CPUs, and `cloze-nn` has another on Burn. Nothing is padded:
//! a text's output has the same bits whatever its batch holds, and at any number of threads.

mod batch;
pub mod cpu;
mod engine;
mod error;
pub mod export;
pub mod golden;
pub mod hub;
pub mod model;
mod peak;
pub mod predict;
pub mod weights;

pub use batch::Batch;
pub use engine::{Engine, Rows, check};
pub use error::Error;
pub use peak::peak;
