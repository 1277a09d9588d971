//! Safe entries: each checks lengths, splits the work over the current rayon pool, and calls the bodies of the instruction set it is given.

pub mod adamw;
pub mod attention;
pub mod candidates;
pub mod cross_entropy;
pub mod delta_rule;
pub mod depthwise;
pub mod dropout;
pub mod embed;
pub mod encode;
pub mod granular_pool;
pub mod linear;
pub mod matmul;
mod neighbours;
pub mod norm;
pub mod packed;
pub mod peak;
pub mod pool;
pub mod quasiseparable;
pub mod rank;
pub mod recurrent;
pub mod rms;
pub mod selective_scan;
pub mod softplus;
pub(crate) mod split;
