use cloze_spec::Encoder;

use crate::{Batch, Error};

/// Which token vectors are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows<'a> {
    /// Every token's.
    All,
    /// Those of the tokens at these places, ascending. What nobody reads, the last layer need not compute.
    Some(&'a [u32]),
}

/// Runs an encoder.
pub trait Engine: Send + Sync {
    /// What it runs.
    fn encoder(&self) -> &Encoder;

    /// The last layer's vectors of `rows`, after the final norm, into `output`, which is overwritten.
    ///
    /// # Shapes
    /// `output: [N, D]`, or `[M, D]` for `M` rows
    /// # Errors
    /// If a token, a segment or a sequence's length is beyond what the model has.
    fn run(&self, batch: &Batch, rows: Rows<'_>, output: &mut Vec<f32>) -> Result<(), Error>;

    /// What the head makes of vectors that [`Self::run`] gave; one row for each of `vectors` (one per sequence where the
    /// head pools, by [`cloze_spec::encoder::Head::pool`], which is the caller's to do).
    ///
    /// # Shapes
    /// `vectors: [M, D]` → `output: [M, C]`
    /// # Errors
    /// If the encoder has no head.
    fn head(&self, vectors: &[f32], output: &mut Vec<f32>) -> Result<(), Error>;
}
