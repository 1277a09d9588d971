//! The parameters a model has: names and shapes, in the order of the forward pass.

use crate::Model;
use crate::block::Block;
use crate::embed::{Embed, Positions};
use crate::ffn::Ffn;
use crate::head::Head;
use crate::mixer::Mixer;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Dotted name, as in `model.safetensors`.
    pub name: String,
    /// Dimensions, outermost first; a linear layer's weight is `[outputs, inputs]`.
    pub shape: Vec<usize>,
}

/// Every parameter of `model` over `items` items.
///
/// The embedding table has one row more than there are items: the last row is the blank that stands for a masked item.
pub fn parameters(model: &Model, items: usize) -> Vec<Parameter> {
    let mut list = List {
        parameters: Vec::new(),
    };
    let width = model.width;
    let Embed::Item(embed) = &model.embed;
    list.add("embed.item.weight", &[items + 1, width]);
    match embed.positions {
        Positions::FromStart | Positions::FromEnd => {
            list.add("embed.position.weight", &[model.max_len, width]);
        }
        Positions::None => {}
    }
    if embed.norm {
        list.norm("embed.norm", width);
    }
    for layer in 0..model.stack.layers {
        let Mixer::Attention(_) = &model.stack.mixer;
        list.linear(&format!("layer.{layer}.mixer.qkv"), 3 * width, width);
        list.linear(&format!("layer.{layer}.mixer.output"), width, width);
        list.norm(&format!("layer.{layer}.mixer_norm"), width);
        let Ffn::Mlp(mlp) = &model.stack.ffn;
        list.linear(&format!("layer.{layer}.ffn.up"), mlp.width, width);
        list.linear(&format!("layer.{layer}.ffn.down"), width, mlp.width);
        list.norm(&format!("layer.{layer}.ffn_norm"), width);
    }
    match model.stack.block {
        Block::PreNorm(_) => list.norm("final_norm", width),
        Block::PostNorm(_) => {}
    }
    let Head::Tied(head) = &model.head;
    if head.transform {
        list.linear("head.transform", width, width);
        list.norm("head.norm", width);
    }
    if head.bias {
        list.add("head.bias", &[items]);
    }
    list.parameters
}

struct List {
    parameters: Vec<Parameter>,
}

impl List {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
        });
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        self.add(&format!("{name}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.gain"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }
}
