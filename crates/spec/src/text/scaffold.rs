use std::sync::Arc;

use crate::encoder::Encoder;
use crate::inventory::{Parameter, Start, encoder_parameters, encoder_starts};

use super::{
    ChunkPool, ColumnReadout, Decoder, LabelDecoder, Objective, Readout, RecurrentReadout, Table,
    Transcriber,
};

/// What an encoder learns with beside its own parts, and a folder as of `transformers` does without: parameters named
/// `scaffold.…`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scaffold {
    /// A pooler and two scores that say whether the segments of a pair belong together.
    pub pair: bool,
    /// Layers between the encoder and its head.
    pub decoder: Option<Decoder>,
    /// Scores of so many positions.
    pub positions: Option<usize>,
    /// What puts tokens in the place of others, and scores that say of which.
    pub generator: Option<Generator>,
    /// What writes sequences of labels.
    pub transcript: Option<Transcribing>,
    /// Scores of the vectors of a text's windows.
    pub chunks: bool,
    /// What makes one vector of a text's states, and of how many columns beside it, with how many rows together.
    pub readout: Option<(Readout, [usize; 2])>,
}

/// What writes sequences of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcribing {
    /// How many labels there are.
    pub labels: usize,
    /// The layers.
    pub decoder: LabelDecoder,
}

/// An encoder that puts tokens in the place of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    /// Its layers and head; the embedding up to the projection is the other encoder's.
    pub encoder: Arc<Encoder>,
    /// What finding its tokens counts beside its own loss.
    pub weight: f32,
}

impl Scaffold {
    /// How much wider the feed-forward parts of layers behind an encoder are than the encoder.
    pub const WIDER: usize = 4;

    /// What `objective` needs, for texts of at most `max_len` tokens and so many `labels`, beside `table`; `generator` is the
    /// encoder that puts tokens.
    pub fn of(
        objective: &Objective,
        max_len: usize,
        labels: usize,
        table: &Table,
        generator: Option<Encoder>,
    ) -> Self {
        let mut scaffold = Self::default();
        match objective {
            Objective::MaskedToken(masked) => {
                scaffold.pair = masked.pair.is_some();
                scaffold.decoder.clone_from(&masked.decoder);
            }
            Objective::ReplacedToken(replaced) => {
                scaffold.generator = generator.map(|encoder| Generator {
                    encoder: Arc::new(encoder),
                    weight: replaced.weight,
                });
            }
            Objective::Position(_) => scaffold.positions = Some(max_len),
            Objective::Transcript(transcript) => match transcript.decode {
                Transcriber::Ctc => {}
                Transcriber::Attention(decoder) => {
                    scaffold.transcript = Some(Transcribing { labels, decoder });
                }
            },
            Objective::Sequence(sequence) => {
                let pool = sequence.chunks.map(|chunks| chunks.pool);
                scaffold.chunks = pool == Some(ChunkPool::Attention);
                scaffold.readout = sequence.readout.map(|readout| (readout, table.size()));
            }
            Objective::Token(_) | Objective::Span(_) => {}
        }
        scaffold
    }

    /// What does not fit `encoder`, if anything.
    pub fn fault(&self, encoder: &Encoder) -> Option<String> {
        let hides = |decoder: &Decoder| decoder.visible.iter().any(|&share| share < 1.0);
        if self.decoder.as_ref().is_some_and(hides)
            && encoder
                .layers
                .last()
                .is_some_and(|layer| layer.attention().is_none())
        {
            return Some(
                "decoder.visible: expected 1 for every layer, since a mixer of the recipes sees all tokens, found less"
                    .to_owned(),
            );
        }
        let (part, heads, others) = match (&self.transcript, &self.readout) {
            (Some(Transcribing { decoder, .. }), _) => {
                ("decode", decoder.heads, decoder.most.min(decoder.beam))
            }
            (None, Some((Readout::Columns(columns), _))) => ("readout", columns.heads, 1),
            (None, Some((Readout::Recurrent(pair), _))) => ("readout", 1, pair.width),
            (None, None) => return None,
        };
        let width = encoder.width;
        if heads == 0 || !width.is_multiple_of(heads) {
            return Some(format!(
                "{part}.heads: expected a divisor of the encoder's width {width}, found {heads}"
            ));
        }
        (others == 0).then(|| format!("{part}: expected numbers above 0, found a 0"))
    }

    /// What of it judging needs too.
    #[must_use]
    pub fn judged(&self) -> Self {
        Self {
            decoder: None,
            ..self.clone()
        }
    }

    /// Of its parameters around `encoder` those that begin otherwise than their kind, as [`encoder_starts`] has them.
    pub fn starts(&self, encoder: &Encoder) -> Vec<(String, Start)> {
        let layers = self.decoder.as_ref().map(|decoder| decoder.visible.len());
        let tower = layers.map(|layers| encoder_starts(&tower(encoder, layers)));
        let starts = tower.into_iter().flatten();
        starts
            .filter_map(|(name, start)| Some((format!("scaffold.{}", in_tower(&name)?), start)))
            .collect()
    }

    /// Its parameters around `encoder`.
    pub fn parameters(&self, encoder: &Encoder) -> Vec<Parameter> {
        let width = encoder.width;
        let mut parameters = Vec::new();
        if self.pair {
            parameters.extend(map("pair.transform", width, width));
            parameters.extend(map("pair.output", 2, width));
        }
        if let Some(decoder) = &self.decoder {
            let tower = tower(encoder, decoder.visible.len());
            let layers = encoder_parameters(&tower).into_iter();
            parameters.extend(layers.filter_map(|parameter| {
                let name = in_tower(&parameter.name)?;
                Some(named(&name, parameter.shape))
            }));
        }
        if self.chunks {
            parameters.extend(map("chunks.transform", width, width));
            parameters.extend(map("chunks.output", 1, width));
        }
        match self.readout {
            Some((Readout::Columns(ColumnReadout { layers, .. }), [columns, rows])) => {
                let tables = [("value", rows), ("column", columns)];
                parameters.extend(tables.map(|(table, rows)| {
                    named(&format!("readout.{table}.weight"), vec![rows, width])
                }));
                parameters.extend(norm("readout.norm", width));
                for layer in 0..layers {
                    let name = |part: &str| format!("readout.layer.{layer}.{part}");
                    parameters.extend(attention(&name("cross"), width));
                    parameters.extend(feed_forward(name, width));
                    parameters.extend(
                        ["cross_norm", "ffn_norm"]
                            .map(|part| norm(&name(part), width))
                            .concat(),
                    );
                }
            }
            Some((Readout::Recurrent(RecurrentReadout { width: own, .. }), _)) => {
                for way in ["forward", "backward"] {
                    let name = |part: &str| format!("readout.{way}.{part}");
                    parameters.extend(map(&name("input"), 4 * own, width));
                    parameters.push(named(
                        &format!("{}.weight", name("state")),
                        vec![4 * own, own],
                    ));
                }
                parameters.extend(map("readout.attention.transform", 2 * own, 2 * own));
                parameters.extend(map("readout.attention.output", 1, 2 * own));
                parameters.extend(map("readout.pair", width, 6 * own));
            }
            None => {}
        }
        if let Some(positions) = self.positions {
            parameters.extend(norm("position.norm", width));
            parameters.extend(map("position.output", positions, width));
        }
        if let Some(generator) = &self.generator {
            let own = encoder_parameters(&generator.encoder).into_iter();
            parameters.extend(own.filter_map(|parameter| {
                let name = Generator::parameter(&parameter.name)?;
                Some(named(&name, parameter.shape))
            }));
            parameters.extend(map("replaced.transform", width, width));
            parameters.extend(map("replaced.output", 1, width));
        }
        if let Some(Transcribing { labels, decoder }) = &self.transcript {
            // A row for the beginning, an output for the end.
            let tables = [("token", labels + 1), ("position", decoder.most + 1)];
            parameters.extend(tables.map(|(table, rows)| {
                named(&format!("transcript.{table}.weight"), vec![rows, width])
            }));
            for layer in 0..decoder.layers {
                let name = |part: &str| format!("transcript.layer.{layer}.{part}");
                for part in ["own", "cross"] {
                    parameters.extend(attention(&name(part), width));
                }
                parameters.extend(feed_forward(name, width));
                for part in ["own_norm", "cross_norm", "ffn_norm"] {
                    parameters.extend(norm(&name(part), width));
                }
            }
            parameters.extend(map("transcript.output", labels + 1, width));
        }
        parameters
    }
}

impl Generator {
    /// Where a parameter of the generator's encoder is, without what all parts of a scaffold begin with; none if it is the other
    /// encoder's.
    fn parameter(name: &str) -> Option<String> {
        match name.strip_prefix("embed.") {
            Some(part) if part.starts_with("projection.") => Some(format!("generator.{part}")),
            Some(_) => None,
            None => Some(format!("generator.{name}")),
        }
    }

    /// The parameter, of both encoders and the scaffold, that is `name` of the generator's encoder.
    pub fn source(name: &str) -> String {
        Self::parameter(name).map_or_else(|| name.to_owned(), |own| format!("scaffold.{own}"))
    }
}

/// So many layers of the kind of the last of `encoder`, each with weights of its own.
fn tower(encoder: &Encoder, layers: usize) -> Encoder {
    let last = encoder.layers.last().expect("an encoder has a layer");
    Encoder {
        layers: (0..layers)
            .map(|weights| last.with_weights(weights))
            .collect(),
        ..encoder.clone()
    }
}

/// Where a parameter of a tower's layers is, without what all parts of a scaffold begin with.
fn in_tower(name: &str) -> Option<String> {
    let rest = name.strip_prefix("layer.")?;
    Some(format!("decoder.{rest}"))
}

fn named(name: &str, shape: Vec<usize>) -> Parameter {
    Parameter {
        name: format!("scaffold.{name}"),
        shape,
    }
}

/// The four maps of an attention.
fn attention(name: &str, width: usize) -> Vec<Parameter> {
    let maps = ["query", "key", "value", "output"];
    maps.map(|part| map(&format!("{name}.{part}"), width, width))
        .concat()
}

/// Two maps, between which is [`Scaffold::WIDER`].
fn feed_forward(name: impl Fn(&str) -> String, width: usize) -> Vec<Parameter> {
    let inner = width * Scaffold::WIDER;
    [
        map(&name("up"), inner, width),
        map(&name("down"), width, inner),
    ]
    .concat()
}

fn norm(name: &str, width: usize) -> [Parameter; 2] {
    ["gain", "bias"].map(|part| named(&format!("{name}.{part}"), vec![width]))
}

/// A linear map with a bias.
fn map(name: &str, outputs: usize, inputs: usize) -> [Parameter; 2] {
    [("weight", vec![outputs, inputs]), ("bias", vec![outputs])]
        .map(|(part, shape)| named(&format!("{name}.{part}"), shape))
}
