//! What follows an encoder in a sentence-transformers folder: pooling, dense maps, normalisation, and the prompts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::encoder::Activation;

/// How token vectors become the embedding of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedder {
    /// The steps, in order; the first is a pooling.
    pub modules: Vec<Module>,
    /// Texts put before an input, by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt where the caller names none.
    pub default_prompt: Option<String>,
    /// How many dimensions are kept after the last step.
    pub truncate_dim: Option<usize>,
    /// Longest text in tokens, special ones included, where the folder limits it below the encoder's own.
    pub max_len: Option<usize>,
    /// Lower-case texts before the tokenizer sees them.
    pub lowercase: bool,
    /// How embeddings are compared: `cosine`, `dot`, `euclidean` or `manhattan`.
    pub similarity: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Module {
    /// One vector a text; several modes stand side by side, in this order.
    Pooling(Pooling),
    /// A linear map.
    Dense(Dense),
    /// Division by the Euclidean norm.
    Normalize,
}

/// Token vectors into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// What is taken, at least one.
    pub modes: Vec<PoolingMode>,
    /// Whether the prompt's tokens, and the special tokens before them, take part.
    pub include_prompt: bool,
}

/// What a pooling takes of the token vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingMode {
    /// The first token's.
    First,
    /// The largest, channel by channel.
    Max,
    /// The mean.
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean, token `i` (from 0) weighing `i + 1`.
    WeightedMean,
    /// The last token's.
    Last,
}

/// A linear map with activation; weights in a folder of its own, as `linear.weight` and `linear.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dense {
    /// Folder of the weights, within the model's.
    pub folder: PathBuf,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows.
    pub activation: Activation,
    /// Whether the input is added to the output.
    pub residual: bool,
}
