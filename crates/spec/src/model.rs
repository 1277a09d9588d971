//! The encoder: embedding, a stack of blocks, a head.

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::codebook::{Branch, Codebook};
use crate::embed::Embed;
use crate::ffn::Ffn;
use crate::head::Head;
use crate::init::Init;
use crate::inventory::{List, Start};
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
    /// Codes that branches speak in; absent: they say anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codebook: Option<Codebook>,
}

/// One layer of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Wiring.
    pub block: Block,
    /// Normalisation.
    pub norm: Norm,
    /// Between tokens, not by layer.
    pub mixer: Mixer,
    /// Within a token.
    pub ffn: Ffn,
    /// Codes that branches speak in.
    pub codebook: Option<Codebook>,
}

impl Stack {
    /// The layer of a place.
    pub fn layer(&self, place: usize) -> Layer {
        Layer {
            block: self.block.clone(),
            norm: self.norm.clone(),
            mixer: self.mixer.of_layer(place).clone(),
            ffn: self.ffn.clone(),
            codebook: self.codebook.clone(),
        }
    }
}

impl Layer {
    /// Lists its parameters, in the order of the forward pass.
    pub(crate) fn list(&self, name: &str, room: Room, list: &mut List) {
        let width = room.width;
        self.mixer.list(&format!("{name}.mixer"), room, list);
        self.list_codes(Branch::Mixer, &format!("{name}.mixer_codes"), width, list);
        self.list_around(&format!("{name}.mixer"), width, list);
        self.ffn.list(&format!("{name}.ffn"), width, list);
        if !matches!(self.ffn, Ffn::Absent(_)) {
            self.list_codes(Branch::Ffn, &format!("{name}.ffn_codes"), width, list);
            self.list_around(&format!("{name}.ffn"), width, list);
        }
    }

    fn list_codes(&self, branch: Branch, name: &str, width: usize, list: &mut List) {
        if let Some(codebook) = &self.codebook {
            codebook.list(branch, name, width, list);
        }
    }

    /// Lists what it has around its mixer or feed-forward part.
    fn list_around(&self, part: &str, width: usize, list: &mut List) {
        self.norm.list(&format!("{part}_norm"), width, list);
        if let Block::Sandwich(_) = self.block {
            self.norm.list(&format!("{part}_after"), width, list);
        }
        if let Some(scale) = self.block.residual().layer_scale {
            let start = Start::Constant(scale);
            list.start(&format!("{part}_scale"), &[width], start);
        }
    }
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

    /// What its mixers are built for.
    pub fn room(&self) -> Room {
        Room {
            width: self.width,
            max_len: self.max_len,
        }
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
        stack.mixer.check("model.stack.mixer", self.room(), faults);
        stack.ffn.check("model.stack.ffn", self.width, faults);
        if let Some(codebook) = &stack.codebook {
            codebook.check("model.stack.codebook", self.width, faults);
        }
    }
}
