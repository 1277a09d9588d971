//! What an encoder does between its linear layers, forward only: no dropout, and nothing kept for a backward pass.
//!
//! A row's result depends on its own sequence alone: it has the same bits in any batch, beside any other rows, at any number
//! of threads. Nothing is allocated once the threads have their scratch memory.

pub mod attention;
pub mod convolution;
pub mod embed;
pub mod norm;
pub mod pool;
pub mod rotary;
pub mod score;

/// Panics unless `offsets` are those of a batch, and tells its tokens.
fn tokens(what: &str, offsets: &[u32]) -> usize {
    assert_eq!(offsets.first(), Some(&0), "{what}: first of offsets");
    assert!(offsets.is_sorted(), "{what}: offsets fall");
    offsets[offsets.len() - 1] as usize
}

/// The sequence of token `token`.
fn sequence(offsets: &[u32], token: usize) -> usize {
    offsets.partition_point(|&start| start as usize <= token) - 1
}
