//! The parameters a model has: names and shapes, in the order of the forward pass.

use std::collections::BTreeSet;

use crate::Model;
use crate::embed::{Embed, Positions};
use crate::encoder::{self, AttentionLayer, Encoder, Layer, NormKind, Position, Relative};
use crate::head::Head;

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
    list(model, items).parameters
}

/// Of the parameters of `model` those that begin otherwise than their kind: matrices as `model.init` says, gains with
/// 1, biases with 0.
pub fn starts(model: &Model, items: usize) -> Vec<(String, Start)> {
    list(model, items).starts
}

/// What a parameter begins with that is no matrix, gain or bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// The same number everywhere.
    Constant(f32),
    /// Even between −bound and bound.
    Uniform(f32),
    /// `ln 1, ln 2, …` along each row (Gu and Dao, 2023, arXiv:2312.00752, §3.6).
    Logarithms {
        /// Numbers of a row.
        row: usize,
    },
    /// What softplus makes a step of 0.001 to 0.1 of, evenly in the logarithm (the same).
    Steps,
}

fn list(model: &Model, items: usize) -> List {
    let mut list = List::default();
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
        model.stack.norm.list("embed.norm", width, &mut list);
    }
    for place in 0..model.stack.layers {
        let layer = model.stack.layer(place);
        layer.list(&format!("layer.{place}"), model.room(), &mut list);
    }
    if model.stack.block.ends_with_norm() {
        model.stack.norm.list("final_norm", width, &mut list);
    }
    let Head::Tied(head) = &model.head;
    if head.transform {
        list.linear("head.transform", width, width);
        model.stack.norm.list("head.norm", width, &mut list);
    }
    if head.bias {
        list.add("head.bias", &[items]);
    }
    list
}

/// Every parameter of a pretrained `encoder`; layers that share weights are listed once.
///
/// The first half of a gated feed-forward part's `up` is what its activation applies to.
pub fn encoder_parameters(encoder: &Encoder) -> Vec<Parameter> {
    encoder_list(encoder).parameters
}

/// Of the parameters of `encoder` those that begin otherwise than their kind, as [`starts`] has them.
pub fn encoder_starts(encoder: &Encoder) -> Vec<(String, Start)> {
    encoder_list(encoder).starts
}

fn encoder_list(encoder: &Encoder) -> List {
    let mut list = List::default();
    let (width, embed) = (encoder.width, &encoder.embed);
    list.add("embed.token.weight", &[embed.vocab, embed.width]);
    if let Some(positions) = embed.positions {
        list.add("embed.position.weight", &[positions.rows, embed.width]);
    }
    if let Some(segments) = embed.segments {
        list.add("embed.segment.weight", &[segments, embed.width]);
    }
    let norm_first = embed.projection.is_none_or(|map| !map.before_norm);
    let norm_width = if norm_first { embed.width } else { width };
    list.norm_of("embed.norm", embed.norm.as_ref(), norm_width);
    if let Some(map) = embed.projection {
        list.map("embed.projection", width, embed.width, map.bias);
    }
    match &encoder.relative {
        None => {}
        Some(Relative::Bias { buckets, heads, .. }) => {
            list.add("relative.weight", &[*buckets, *heads]);
        }
        Some(Relative::Vectors { span, norm, .. }) => {
            list.add("relative.weight", &[2 * span, width]);
            list.norm_of("relative.norm", norm.as_ref(), width);
        }
    }
    let mut listed = BTreeSet::new();
    for layer in &encoder.layers {
        if listed.insert(layer.weights()) {
            match layer {
                Layer::Attention(layer) => list.layer(layer, width),
                Layer::Mixer(layer) => {
                    let name = format!("layer.{}", layer.weights);
                    layer.parts.list(&name, layer.room, &mut list);
                }
            }
        }
    }
    list.norm_of("final_norm", encoder.final_norm.as_ref(), width);
    if let Some(head) = &encoder.head {
        let mut inputs = width;
        if let Some(map) = head.transform {
            list.map("head.transform", map.width, inputs, map.bias);
            inputs = map.width;
            list.norm_of("head.norm", map.norm.as_ref(), inputs);
        }
        if let Some(map) = head.output {
            if !map.tied {
                list.add("head.output.weight", &[map.outputs, inputs]);
            }
            if map.bias {
                list.add("head.output.bias", &[map.outputs]);
            }
        }
    }
    list
}

/// Parameters while they are listed.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) starts: Vec<(String, Start)>,
}

impl List {
    pub(crate) fn add(&mut self, name: &str, shape: &[usize]) {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
        });
    }

    /// A parameter that begins with `start`.
    pub(crate) fn start(&mut self, name: &str, shape: &[usize], start: Start) {
        self.add(name, shape);
        self.starts.push((name.to_owned(), start));
    }

    pub(crate) fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        self.add(&format!("{name}.bias"), &[outputs]);
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.gain"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }

    fn map(&mut self, name: &str, outputs: usize, inputs: usize, bias: bool) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            self.add(&format!("{name}.bias"), &[outputs]);
        }
    }

    fn norm_of(&mut self, name: &str, norm: Option<&encoder::Norm>, width: usize) {
        if let Some(norm) = norm {
            if let NormKind::DynamicTanh { slope } = norm.kind {
                self.start(&format!("{name}.slope"), &[1], Start::Constant(slope));
            }
            self.add(&format!("{name}.gain"), &[width]);
            if norm.bias {
                self.add(&format!("{name}.bias"), &[width]);
            }
        }
    }

    fn layer(&mut self, layer: &AttentionLayer, width: usize) {
        let name = |part: &str| format!("layer.{}.{part}", layer.weights);
        let attention = &layer.attention;
        let inner = attention.heads * attention.head_width;
        self.map(&name("mixer.qkv"), 3 * inner, width, attention.qkv_bias);
        for part in ["mixer.query_norm", "mixer.key_norm"] {
            self.norm_of(&name(part), attention.qk_norm.as_ref(), inner);
        }
        match &attention.position {
            Position::Key(key) => {
                let rows = 2 * key.max_distance + 1;
                self.add(
                    &name("mixer.distance.weight"),
                    &[rows, attention.head_width],
                );
            }
            Position::Disentangled(meet) if !meet.shared_maps => {
                if meet.content_to_position {
                    self.linear(&name("mixer.position_key"), inner, width);
                }
                if meet.position_to_content {
                    self.linear(&name("mixer.position_query"), inner, width);
                }
            }
            Position::None
            | Position::Rotary(_)
            | Position::Alibi
            | Position::Buckets
            | Position::Disentangled(_) => {}
        }
        self.map(&name("mixer.output"), width, inner, attention.output_bias);
        self.norm_of(&name("mixer_norm"), layer.mixer_norm.as_ref(), width);
        let ffn = &layer.ffn;
        let up = if ffn.gated { 2 * ffn.width } else { ffn.width };
        self.map(&name("ffn.up"), up, width, ffn.up_bias);
        self.map(&name("ffn.down"), width, ffn.width, ffn.down_bias);
        self.norm_of(&name("ffn_norm"), Some(&layer.ffn_norm), width);
        if let Some(convolution) = &layer.convolution {
            let part = name("convolution");
            let shape = [width, width / convolution.groups, convolution.kernel];
            self.add(&format!("{part}.weight"), &shape);
            self.add(&format!("{part}.bias"), &[width]);
            self.norm_of(&name("convolution_norm"), Some(&convolution.norm), width);
        }
    }
}
