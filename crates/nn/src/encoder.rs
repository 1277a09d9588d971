use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cloze_spec::Model;
use cloze_spec::inventory::parameters;

use crate::block::Block;
use crate::embed::Embed;
use crate::head::Tied;
use crate::noise::Noise;
use crate::norm::AnyNorm;
use crate::sequences::Sequences;
use crate::weights::{Source, Values};

/// A bidirectional (or causal) encoder over packed sequences, with its head.
#[derive(Module, Debug)]
pub struct Encoder {
    embed: Embed,
    layer: Vec<Block>,
    final_norm: Option<AnyNorm>,
    head: Tied,
    items: usize,
    dropout: f32,
}

impl Encoder {
    /// Puts a model together from `values`, on `device`.
    ///
    /// # Panics
    /// If `values` lack a parameter of the inventory or have one of another length; [`crate::weights::check`] tells before.
    pub fn new(model: &Model, items: usize, values: &Values, device: &Device) -> Self {
        let shapes = parameters(model, items)
            .into_iter()
            .map(|p| (p.name, p.shape))
            .collect();
        let source = Source {
            values,
            shapes,
            device,
            lora_scale: 1.0,
        };
        let stack = &model.stack;
        let block = |place| {
            let name = format!("layer.{place}");
            Block::new(&stack.layer(place), model.room(), &source, &name)
        };
        Self {
            embed: Embed::new(model, &source),
            layer: (0..stack.layers).map(block).collect(),
            final_norm: stack
                .block
                .ends_with_norm()
                .then(|| AnyNorm::new(&stack.norm, &source, "final_norm")),
            head: Tied::new(model, &source),
            items,
            dropout: stack.block.residual().dropout,
        }
    }

    /// Number of items that can be predicted, `V`.
    pub fn items(&self) -> usize {
        self.items
    }

    /// What the head makes of the batch's `rows`: the vectors that are compared with [`Self::table`].
    ///
    /// # Shapes
    /// `N` tokens → `[M, D]`
    pub fn forward(&self, sequences: &Sequences, noise: &mut Noise) -> Tensor<2> {
        let mut x = self.embed.forward(sequences, noise);
        for (index, layer) in self.layer.iter().enumerate() {
            let last = index + 1 == self.layer.len();
            x = layer.forward(x, sequences, last, self.dropout, noise);
        }
        if let Some(norm) = &self.final_norm {
            x = norm.forward(x);
        }
        self.head.forward(x)
    }

    /// The item vectors, with one more row for the blank: `[V + 1, D]`.
    pub fn table(&self) -> Tensor<2> {
        self.embed.table()
    }

    /// What is added to each item's score, `[V]`.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.head.bias()
    }
}
