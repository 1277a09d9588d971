//! Text jobs from file to file: records in, vectors, labels or scores out, in the order of the input.
//!
//! Start at [`Input::read`] and [`Output::open`]; [`length`] forms the batches in between. [`Cells`] are columns of a file as
//! a whole.

mod cells;
mod encoding;
mod input;
pub mod label;
pub mod length;
mod npy;
mod output;
mod table;

pub use cells::{Cells, Value};
pub use encoding::Encoding;
pub use input::{Format, Input, Record, Records};
pub use output::{Job, Output, Target};
pub use table::{Column, Field, FileFormat, Kind};
