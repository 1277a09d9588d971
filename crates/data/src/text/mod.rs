//! Text into tokens, as pretrained encoders expect them, and from tokens back to places in the text.
//!
//! Start at [`Tokenizer`], or at [`train::Trainer`] to make one. Places in a text are counted in characters (Unicode scalar values), as the Python package
//! `tokenizers` counts them, not in bytes.

mod answer;
pub mod batch;
mod chain;
mod encoding;
pub mod examples;
mod fold;
mod folder;
mod frame;
mod label;
pub mod learn;
pub mod lexicon;
pub mod mixture;
mod pair;
pub mod path;
mod prepare;
mod report;
pub mod store;
pub mod terms;
mod tokenizer;
pub mod train;
mod window;

pub use answer::{Answer, Answers, answers};
pub use chain::Chain;
pub use encoding::{Encoding, Part};
pub use label::{Agreement, Entity};
pub use report::Report;
pub use tokenizer::{Input, Limit, Long, Prompt, Shorten, Tokenizer};

/// What parts the sections of a text that is taken in windows, none of which has tokens of two: the form feed.
pub const SECTION: char = '\u{c}';

/// Some characters of a text, as far as it has them.
fn slice(text: &[char], chars: std::ops::Range<u32>) -> String {
    let upto = text.iter().take(chars.end as usize);
    upto.skip(chars.start as usize).collect()
}
