//! Texts that people have annotated, as they are published: words with labelled stretches, questions with answers.
//!
//! Start at [`Conll`] or [`Squad`]. Every place that a file claims is checked against its text.

mod conll;
mod scheme;
mod squad;

pub use conll::{Conll, Sentence, Sentences};
pub(crate) use scheme::split as tag;
pub use scheme::{Misplaced, Scheme, Span};
pub use squad::{Question, Squad, Stretch};
