//! What an encoder does between its linear layers, by plain loops.

pub mod attention;
pub mod rotary;
