//! How the tokens of a sequence see each other.

mod attention;

pub use attention::Attention;
use serde::{Deserialize, Serialize};

/// A mixer, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
}

impl Mixer {
    /// Whether a token may see what comes after it.
    pub fn sees_future(&self) -> bool {
        match self {
            Self::Attention(attention) => !attention.causal,
        }
    }
}
