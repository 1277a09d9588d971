use burn::module::{Module, Param};
use burn::tensor::Tensor;
use cloze_spec::Model;
use cloze_spec::embed::{self, Positions};

use crate::noise::Noise;
use crate::norm::AnyNorm;
use crate::op;
use crate::sequences::Sequences;
use crate::weights::Source;

/// Tokens into vectors.
#[derive(Module, Debug)]
pub(crate) struct Embed {
    item: Vectors,
    position: Option<Vectors>,
    norm: Option<AnyNorm>,
    #[module(skip)]
    positions: Positions,
    dropout: f32,
}

/// A table of vectors.
#[derive(Module, Debug)]
pub(crate) struct Vectors {
    weight: Param<Tensor<2>>,
}

impl Vectors {
    fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
        }
    }
}

impl Embed {
    pub fn new(model: &Model, source: &Source<'_>) -> Self {
        let embed::Embed::Item(item) = &model.embed;
        let position = match item.positions {
            Positions::FromStart | Positions::FromEnd => {
                Some(Vectors::new(source, "embed.position"))
            }
            Positions::None => None,
        };
        Self {
            item: Vectors::new(source, "embed.item"),
            position,
            norm: item
                .norm
                .then(|| AnyNorm::new(&model.stack.norm, source, "embed.norm")),
            positions: item.positions,
            dropout: item.dropout,
        }
    }

    /// # Shapes
    /// `N` tokens → `[N, D]`
    pub fn forward(&self, sequences: &Sequences, noise: &mut Noise) -> Tensor<2> {
        let positions = sequences.positions(self.positions);
        let positions = self
            .position
            .as_ref()
            .map(|p| p.weight.val())
            .zip(positions);
        let mut x = op::embed(self.item.weight.val(), &sequences.tokens, positions);
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        op::dropout_add(x, None, noise.dropout(self.dropout))
    }

    /// The item vectors, the blank's row last: `[V + 1, D]`.
    pub fn table(&self) -> Tensor<2> {
        self.item.weight.val()
    }
}
