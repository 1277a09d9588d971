use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use cloze_spec::Model;
use cloze_spec::block;
use cloze_spec::inventory::parameters;

use crate::block::Block;
use crate::embed::Embed;
use crate::head::Tied;
use crate::noise::Noise;
use crate::norm::LayerNorm;
use crate::sequences::Sequences;
use crate::weights::{Source, Values};

/// A bidirectional (or causal) encoder over packed sequences, with its head.
#[derive(Module, Debug)]
pub struct Encoder {
    embed: Embed,
    layer: Vec<Block>,
    final_norm: Option<LayerNorm>,
    head: Tied,
    items: usize,
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
        };
        let stack = &model.stack;
        Self {
            embed: Embed::new(model, &source),
            layer: (0..stack.layers)
                .map(|index| Block::new(stack, model.width, &source, &format!("layer.{index}")))
                .collect(),
            final_norm: match stack.block {
                block::Block::PreNorm(_) => {
                    Some(LayerNorm::new(&stack.norm, &source, "final_norm"))
                }
                block::Block::PostNorm(_) => None,
            },
            head: Tied::new(model, &source),
            items,
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
            x = layer.forward(x, sequences, last, noise);
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

    /// The names of the parameters, in the order in which the module shows them to a visitor.
    pub fn names(&self) -> Vec<String> {
        let mut reader = Reader {
            path: Vec::new(),
            names: Vec::new(),
            values: None,
        };
        self.visit(&mut reader);
        reader.names
    }

    /// The weights by name.
    pub fn values(&self) -> Values {
        let mut reader = Reader {
            path: Vec::new(),
            names: Vec::new(),
            values: Some(BTreeMap::new()),
        };
        self.visit(&mut reader);
        reader.values.unwrap_or_default()
    }
}

struct Reader {
    path: Vec<String>,
    names: Vec<String>,
    values: Option<Values>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        // An enum of kinds is no part of the name: a layer has one mixer, whichever it is.
        let kind = container.starts_with("Enum");
        self.path
            .push(if kind { String::new() } else { name.to_owned() });
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name: Vec<&str> = self
            .path
            .iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        let name = name.join(".");
        if let Some(values) = &mut self.values {
            values.insert(
                name.clone(),
                param
                    .val()
                    .into_data()
                    .try_into_vec::<f32>()
                    .expect("parameters are f32"),
            );
        }
        self.names.push(name);
    }
}
