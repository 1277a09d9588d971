use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cloze_spec::Model;
use cloze_spec::inventory::parameters;

use crate::block::Block;
use crate::codebook::{Codebook, Coded};
use crate::embed::Embed;
use crate::head::Tied;
use crate::noise::Noise;
use crate::norm::AnyNorm;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::site::{Hook, Site};
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
        self.hooked(sequences, noise, &mut Hook::none())
    }

    /// As [`Self::forward`], looked into on the way; from the last layer's [`Site::Mixer`] on, sites have the batch's `rows`
    /// alone, `[M, D]`.
    pub fn hooked(
        &self,
        sequences: &Sequences,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let mut x = self.embed.forward(sequences, noise);
        x = hook.at(|_| Site::Embedding, x);
        for (index, layer) in self.layer.iter().enumerate() {
            let last = index + 1 == self.layer.len();
            hook.enter(index);
            x = layer.forward(x, sequences, last, self.dropout, noise, hook);
            x = hook.at(Site::Layer, x);
        }
        self.headed(x)
    }

    /// What the head makes of the residual stream after the last layer, or of any other that is to be read as if it were that.
    ///
    /// # Shapes
    /// `[M, D]` → `[M, D]`
    fn headed(&self, mut x: Tensor<2>) -> Tensor<2> {
        if let Some(norm) = &self.final_norm {
            x = norm.forward(x);
        }
        self.head.forward(x)
    }

    /// A score for each item, of the residual stream after the last layer, or of any other that is to be read as if it were
    /// that.
    ///
    /// # Shapes
    /// `[M, D]` → `[M, V]`
    pub fn scores(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = self.headed(x);
        let table = self.table().narrow(0, 0, self.items);
        let bias = self.bias();
        let bias = bias.unwrap_or_else(|| Tensor::zeros([self.items], &hidden.device()));
        op::linear(hidden, table, bias, Activation::Identity)
    }

    /// What a layer's mixer makes of what it is given, [`Site::Input`].
    ///
    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub fn mixed(&self, layer: usize, x: Tensor<2>, offsets: &[u32]) -> Tensor<2> {
        let sequences = Sequences::of_vectors(offsets.into(), Arc::default());
        self.layer[layer].mixed(x, &sequences)
    }

    /// How much each token of one sequence takes of each in a layer, by head, of what the mixer is given; none where the mixer
    /// does not sum values by such numbers alone.
    ///
    /// # Shapes
    /// `[T, D]` → `[H, T, T]`
    pub fn shares(&self, layer: usize, x: Tensor<2>) -> Option<Tensor<3>> {
        self.layer[layer].shares(x)
    }

    /// As of [`crate::pretrained::Pretrained::summed`].
    pub fn summed(&self, layer: usize, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        self.layer[layer].summed(x, shares)
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

impl Coded for Encoder {
    fn codebooks(&self) -> Vec<(String, &Codebook)> {
        let layers = self.layer.iter().enumerate();
        let codebooks = layers.flat_map(|(at, block)| block.codebooks(&format!("layer.{at}")));
        codebooks.collect()
    }
}
