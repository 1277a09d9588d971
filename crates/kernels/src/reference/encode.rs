//! What an encoder does between its linear layers, by plain loops.

pub mod attention;
pub mod convolution;
pub mod embed;
pub mod norm;
pub mod pool;
pub mod rotary;
pub mod score;
