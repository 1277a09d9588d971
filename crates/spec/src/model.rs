//! The encoder: embedding, a stack of blocks, a head.

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::embed::Embed;
use crate::ffn::Ffn;
use crate::head::Head;
use crate::init::Init;
use crate::mixer::{Mixer, Room};
use crate::norm::Norm;
use crate::{Error, Faults};

/// An encoder's settings. The number of items comes from the data and stands in the model folder's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Longest sequence in tokens; longer histories lose their oldest items.
    pub max_len: usize,
    /// Channels of a token, `D`.
    pub width: usize,
    /// Initial weights.
    pub init: Init,
    /// Tokens into vectors.
    pub embed: Embed,
    /// The layers.
    pub stack: Stack,
    /// Vectors into scores.
    pub head: Head,
}

/// Equal layers, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Number of layers, `L`.
    pub layers: usize,
    /// Wiring of a layer.
    pub block: Block,
    /// Normalisation, wherever the model has one.
    pub norm: Norm,
    /// Between tokens.
    pub mixer: Mixer,
    /// Within a token.
    pub ffn: Ffn,
}

impl Model {
    /// Checks every value and how they fit together.
    ///
    /// # Errors
    /// All faults at once, each with its path.
    pub fn validate(&self, place: &str) -> Result<(), Error> {
        let mut faults = Faults::default();
        self.check(&mut faults);
        faults.into_result(place)
    }

    pub(crate) fn check(&self, faults: &mut Faults) {
        faults.check(self.max_len >= 2, "model.max_len", || {
            format!(
                "expected at least 2 (an item and a blank), found {}",
                self.max_len
            )
        });
        faults.check_positive("model.width", self.width);
        let Init::TruncatedNormal(init) = &self.init;
        faults.check(
            init.std > 0.0 && init.std.is_finite(),
            "model.init.std",
            || format!("expected a positive number, found {}", init.std),
        );
        let Embed::Item(embed) = &self.embed;
        faults.check_dropout("model.embed.dropout", embed.dropout);
        let stack = &self.stack;
        faults.check_positive("model.stack.layers", stack.layers);
        stack.block.check("model.stack.block", faults);
        stack.norm.check("model.stack.norm", faults);
        let room = Room {
            width: self.width,
            max_len: self.max_len,
        };
        stack.mixer.check("model.stack.mixer", room, faults);
        stack.ffn.check("model.stack.ffn", self.width, faults);
    }
}
