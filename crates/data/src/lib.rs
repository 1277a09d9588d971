//! Purchase logs, texts and other sequences into packed batches: sources, vocabularies, tokens, splits, masking, sampling.
//!
//! This room reads files and decides what a model sees. It never computes with tensors, prints, or reads the clock.
//! Start at [`dataset::prepare`], which goes from files to a split data set, at [`text::Tokenizer`], which goes from
//! text to tokens, or at [`annotation`], which reads texts with labels and answers.

pub mod annotation;
pub mod batch;
pub mod cases;
pub mod dataset;
mod error;
pub mod filter;
pub mod history;
mod mask;
pub mod plan;
pub mod prefetch;
pub mod records;
mod sampler;
pub mod sequence;
pub mod source;
pub mod split;
mod stream;
pub mod text;
pub mod titles;
pub mod vocabulary;
mod window;

pub use dataset::Dataset;
pub use error::{BadRow, Error, Place};
pub use history::{Histories, History, read_histories};
pub use sequence::Sequences;
pub use split::{Cases, Split};
pub use vocabulary::ItemVocabulary;
