//! Fast arithmetic on `f32` slices for encoders: forward passes and hand-written backward passes.
//!
//! Everything is row-major, nothing is padded, outputs are the caller's slices. The room knows no models,
//! tensors or files, keeps no state between calls beyond scratch memory, and gives the same bits at any
//! number of threads: work is cut into pieces of fixed size, and sums over pieces run in a fixed order.
//!
//! Start at [`op`], the safe entries; each takes the [`Isa`] to use. Their bodies are written once over
//! [`arch::Vector`] and compiled for every instruction set; [`reference`](mod@reference) holds the plain loops they are
//! tested against.
#![allow(
    unsafe_code,
    reason = "the room of the workspace for it: intrinsics, and raw pointers in inner loops"
)]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "kernel bodies are unsafe from the first line to the last; their duties stand above them"
)]
#![allow(
    clippy::inline_always,
    reason = "a body must end up inside the function that is compiled for its instruction set"
)]

pub mod arch;
mod isa;
pub mod op;
pub mod reference;
mod scratch;

pub use isa::Isa;
