use cloze_spec::Encoder;
use cloze_spec::encoder::Pool;

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

    /// Bytes of the weights as they lie in memory, a table that stays in its file included.
    fn weight_bytes(&self) -> usize;

    /// The last layer's vectors of `rows`, after the final norm, into `output`, which is overwritten.
    ///
    /// # Shapes
    /// `output: [N, D]`, or `[M, D]` for `M` rows
    /// # Errors
    /// If a token, a segment or a sequence's length is beyond what the model has.
    fn run(&self, batch: &Batch, rows: Rows<'_>, output: &mut Vec<f32>) -> Result<(), Error>;

    /// Runs a batch and shows `see` every stage: the embedding, each layer's output, and last what [`Self::run`] would
    /// give for all rows; `L + 2` stages of `[N, D]`.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn trace(&self, batch: &Batch, see: &mut (dyn FnMut(&[f32]) + Send)) -> Result<(), Error>;

    /// What the head makes of vectors that [`Self::run`] gave; one row for each of `vectors` (one per sequence where the
    /// head pools, by [`cloze_spec::encoder::Head::pool`], which is the caller's to do).
    ///
    /// # Shapes
    /// `vectors: [M, D]` → `output: [M, C]`
    /// # Errors
    /// If the encoder has no head.
    fn head(&self, vectors: &[f32], output: &mut Vec<f32>) -> Result<(), Error>;
}

/// Checks that a batch fits an encoder, before any arithmetic.
///
/// # Errors
/// The first token, segment or sequence that does not, with its place.
pub fn check(encoder: &Encoder, batch: &Batch) -> Result<(), Error> {
    let embed = &encoder.embed;
    let fail = |message: String| Err(Error::Batch(message));
    for index in 0..batch.len() {
        let len = batch.range(index).len();
        if len > encoder.max_len {
            return fail(format!(
                "sequence {index} has {len} tokens, the model takes at most {}; truncate it or cut it into chunks",
                encoder.max_len
            ));
        }
    }
    if let Some(at) = batch.tokens.iter().position(|&t| t as usize >= embed.vocab) {
        return fail(format!(
            "token {at} of the batch is {}, the model has {} tokens; is this its tokenizer?",
            batch.tokens[at], embed.vocab
        ));
    }
    let segments = embed.segments.unwrap_or(usize::MAX);
    if let Some(at) = batch.segments.iter().position(|&s| s as usize >= segments) {
        return fail(format!(
            "token {at} of the batch is in segment {}, the model has {segments}",
            batch.segments[at]
        ));
    }
    Ok(())
}

/// The vectors that stand for the sequences of a batch in a head that pools.
///
/// # Shapes
/// `[B, D]`
/// # Errors
/// As [`Engine::run`].
pub(crate) fn sequence_vectors(engine: &dyn Engine, batch: &Batch) -> Result<Vec<f32>, Error> {
    let encoder = engine.encoder();
    let width = encoder.width;
    let mut vectors = Vec::new();
    if encoder.head.as_ref().and_then(|head| head.pool) != Some(Pool::Mean) {
        let starts = Rows::Some(&batch.offsets[..batch.len()]);
        engine.run(batch, starts, &mut vectors)?;
        return Ok(vectors);
    }
    engine.run(batch, Rows::All, &mut vectors)?;
    let mean = |index| {
        let tokens = batch.range(index);
        let count = tokens.len() as f32;
        let rows = &vectors[tokens.start * width..tokens.end * width];
        (0..width).map(move |channel| {
            let sum: f32 = rows.iter().skip(channel).step_by(width).sum();
            sum / count
        })
    };
    Ok((0..batch.len()).flat_map(mean).collect())
}
