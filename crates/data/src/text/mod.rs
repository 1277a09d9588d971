//! Text into tokens, as pretrained encoders expect them, and from tokens back to places in the text.
//!
//! Start at [`Tokenizer`]. Places in a text are counted in characters (Unicode scalar values), as the Python package
//! `tokenizers` counts them, not in bytes.

mod encoding;
mod folder;
mod frame;
mod prepare;
mod tokenizer;
mod window;

pub use encoding::{Encoding, Part};
pub use tokenizer::{Input, Limit, Long, Prompt, Shorten, Tokenizer};
