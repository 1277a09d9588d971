//! Trainable components in Burn, and the encoder they make.
//!
//! Each component has the name and settings of its twin in `cloze-spec`. All take packed sequences: `[N, D]` rows for
//! the tokens of every sequence, one after the other, and offsets that say where each begins. The arithmetic is in
//! [`op`]: fused kernels on a CPU, Burn's own operations elsewhere. This room knows no files, and of
//! data only the packed batch; start at [`Encoder::forward`].

mod block;
mod codebook;
mod embed;
mod encoder;
mod ffn;
mod head;
mod influence;
mod layout;
mod linear;
pub mod mixer;
mod noise;
mod norm;
pub mod objective;
pub mod op;
pub mod pretrained;
mod sequences;
mod site;
pub mod weights;

pub use codebook::{Codebook, Coded, Renewed};
pub use encoder::Encoder;
pub use influence::influence;
pub use noise::Noise;
pub use sequences::Sequences;
pub use site::{Hook, Site};
