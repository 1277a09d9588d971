//! What an encoder does between its linear layers, forward only: no dropout, and nothing kept for a backward pass.
//!
//! A row's result depends on its own sequence alone: it has the same bits in any batch, beside any other rows, at any number
//! of threads. Nothing is allocated once the threads have their scratch memory.

pub mod attention;
pub mod rotary;
