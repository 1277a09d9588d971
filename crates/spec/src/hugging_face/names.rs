//! From the names of tensors in the weights' files to this project's parameters.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Tensors;
use super::draft::Target;
use super::family::Family;
use super::head::Kind;
use super::{Piece, Source};
use crate::Faults;
use crate::encoder::{Encoder, Layer};
use crate::inventory::{Parameter, encoder_parameters};

/// What stands before a family's names in one file: `bert.`, or nothing, or what wrapped the model when it was saved.
pub(super) struct Prefix {
    /// Before names of the body.
    body: String,
    /// Before names of the head.
    outer: String,
    /// Whether the body has the pooler, rather than the class around it.
    has_pooler: bool,
}

impl Prefix {
    /// Taken from the name of the token table, the one tensor that every encoder has.
    pub(super) fn find(family: Family, tensors: &Tensors) -> Self {
        let anchor = match family {
            Family::ModernBert => "embeddings.tok_embeddings.weight",
            Family::Mixer => "embed.token.weight",
            _ => "embeddings.word_embeddings.weight",
        };
        let before = |name: &String| {
            let body = name.strip_suffix(anchor)?;
            (body.is_empty() || body.ends_with('.')).then(|| body.to_owned())
        };
        let body = tensors
            .keys()
            .filter_map(before)
            .min_by_key(String::len)
            .unwrap_or_default();
        let inner = body.strip_suffix('.').unwrap_or(&body);
        let outer = inner.rfind('.').map_or("", |dot| &inner[..=dot]).to_owned();
        Self {
            body,
            outer,
            has_pooler: has_pooler(family),
        }
    }

    /// That of a class with a head around the body `base`, or of the body alone.
    pub(super) fn usual(family: Family, base: Option<&str>) -> Self {
        let base = base.filter(|base| !base.is_empty());
        Self {
            body: base.map_or_else(String::new, |base| format!("{base}.")),
            outer: String::new(),
            has_pooler: has_pooler(family),
        }
    }

    /// Where a name of the head may be: outside the body, or in it; first where it usually is.
    fn of_head<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let mut places = [&self.outer, &self.body];
        if self.has_pooler && name.starts_with("pooler") {
            places.reverse();
        }
        places
            .into_iter()
            .map(move |prefix| format!("{prefix}{name}"))
    }
}

fn has_pooler(family: Family) -> bool {
    family != Family::DebertaV2
}

/// How a parameter is made of tensors.
#[derive(Debug, Clone)]
enum From {
    /// Of these, row after row, each as high as the others.
    Parts(Vec<String>),
    /// Of one whose second half of rows comes first.
    Swapped(String),
    /// Of the first rows of one that may have more.
    First(String),
}

impl From {
    fn tensors(&self) -> &[String] {
        match self {
            Self::Parts(names) => names,
            Self::Swapped(name) | Self::First(name) => std::slice::from_ref(name),
        }
    }
}

/// Modules of a head, several where versions differ; the first is what a missing one is called.
pub(super) struct HeadNames {
    transform: &'static [&'static str],
    norm: &'static [&'static str],
    output: &'static [&'static str],
    /// Biases that are no part of a module.
    bias: &'static [&'static str],
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the table below reads as one of heads that there are and are not"
)]
const fn names(
    transform: &'static [&'static str],
    norm: &'static [&'static str],
    output: &'static [&'static str],
    bias: &'static [&'static str],
) -> Option<HeadNames> {
    Some(HeadNames {
        transform,
        norm,
        output,
        bias,
    })
}

/// The modules of a family's head, if it has such a head.
pub(super) fn head_names(family: Family, kind: Kind) -> Option<HeadNames> {
    use Family::{
        Albert, Bert, DebertaV2, DistilBert, Electra, Gte, Jina, JinaQkNorm, Mixer, ModernBert,
        Mpnet, New, NomicBert, Roberta,
    };
    match (kind, family) {
        (_, Mixer) => names(&["head.transform"], &["head.norm"], &["head.output"], &[]),
        (Kind::MaskedToken, Bert | Jina | JinaQkNorm) => names(
            &["cls.predictions.transform.dense"],
            &["cls.predictions.transform.LayerNorm"],
            &["cls.predictions.decoder"],
            &["cls.predictions.bias"],
        ),
        (Kind::MaskedToken, NomicBert) => names(
            &["cls.predictions.transform.dense"],
            &[
                "cls.predictions.transform.layer_norm",
                "cls.predictions.transform.LayerNorm",
            ],
            &["cls.predictions.decoder"],
            &["cls.predictions.bias"],
        ),
        (Kind::MaskedToken, DebertaV2) => names(
            &[
                "cls.predictions.transform.dense",
                "lm_predictions.lm_head.dense",
            ],
            &[
                "cls.predictions.transform.LayerNorm",
                "lm_predictions.lm_head.LayerNorm",
            ],
            &["cls.predictions.decoder"],
            &["cls.predictions.bias", "lm_predictions.lm_head.bias"],
        ),
        (Kind::MaskedToken, Roberta | Mpnet) => names(
            &["lm_head.dense"],
            &["lm_head.layer_norm"],
            &["lm_head.decoder"],
            &["lm_head.bias"],
        ),
        (Kind::MaskedToken, Gte) => names(
            &["lm_head.dense"],
            &["lm_head.layer_norm"],
            &["lm_head.decoder"],
            &[],
        ),
        (Kind::MaskedToken, New) => names(
            &["lm_head.dense"],
            &["lm_head.norm"],
            &["lm_head.decoder"],
            &[],
        ),
        (Kind::MaskedToken, DistilBert) => names(
            &["vocab_transform"],
            &["vocab_layer_norm"],
            &["vocab_projector"],
            &[],
        ),
        (Kind::MaskedToken, Albert) => names(
            &["predictions.dense"],
            &["predictions.LayerNorm"],
            &["predictions.decoder"],
            &["predictions.bias"],
        ),
        (Kind::MaskedToken, Electra) => names(
            &["generator_predictions.dense"],
            &["generator_predictions.LayerNorm"],
            &["generator_lm_head"],
            &[],
        ),
        (Kind::MaskedToken, ModernBert) => {
            names(&["head.dense"], &["head.norm"], &["decoder"], &[])
        }
        (Kind::Sequence | Kind::Token | Kind::Span, ModernBert) => {
            names(&["head.dense"], &["head.norm"], &["classifier"], &[])
        }
        (Kind::Sequence, Bert | Jina | JinaQkNorm | NomicBert | Gte | New | DebertaV2) => {
            names(&["pooler.dense"], &[], &["classifier"], &[])
        }
        (Kind::Sequence, Albert) => names(&["pooler"], &[], &["classifier"], &[]),
        (Kind::Sequence, Roberta | Mpnet | Electra) => {
            names(&["classifier.dense"], &[], &["classifier.out_proj"], &[])
        }
        (Kind::Sequence, DistilBert) => names(&["pre_classifier"], &[], &["classifier"], &[]),
        (Kind::Token, _) => names(&[], &[], &["classifier"], &[]),
        (Kind::Span, _) => names(&[], &[], &["qa_outputs"], &[]),
        (Kind::Vector, Albert) => names(&["pooler"], &[], &[], &[]),
        (Kind::Vector, Bert | Roberta | Mpnet | Jina | JinaQkNorm | NomicBert | Gte | New) => {
            names(&["pooler.dense"], &[], &[], &[])
        }
        (Kind::Vector, DistilBert | Electra | DebertaV2 | ModernBert) => None,
    }
}

impl HeadNames {
    /// Whether the weights hold what tells this head from others.
    pub(super) fn is_in(&self, kind: Kind, tensors: &Tensors, prefix: &Prefix) -> bool {
        match kind {
            Kind::MaskedToken => {
                let mut loose = self.bias.iter().flat_map(|name| prefix.of_head(name));
                any_weight(tensors, prefix, self.transform)
                    || any_weight(tensors, prefix, self.output)
                    || loose.any(|name| tensors.contains_key(&name))
            }
            Kind::Vector => any_weight(tensors, prefix, self.transform),
            Kind::Sequence | Kind::Token | Kind::Span => any_weight(tensors, prefix, self.output),
        }
    }

    /// Whether the weights hold its transform.
    pub(super) fn has_transform(&self, tensors: &Tensors, prefix: &Prefix) -> bool {
        any_weight(tensors, prefix, self.transform)
    }

    /// How many outputs the weights have.
    pub(super) fn outputs(&self, tensors: &Tensors, prefix: &Prefix) -> Option<usize> {
        let mut names = self.output.iter().flat_map(|name| prefix.of_head(name));
        names.find_map(|name| tensors.get(&format!("{name}.weight"))?.first().copied())
    }
}

/// Whether one of some modules of a head has a weight or a bias.
fn any_weight(tensors: &Tensors, prefix: &Prefix, modules: &[&str]) -> bool {
    let mut names = modules.iter().flat_map(|name| prefix.of_head(name));
    names.any(|name| {
        ["weight", "bias"]
            .iter()
            .any(|end| tensors.contains_key(&format!("{name}.{end}")))
    })
}

/// Every parameter of an encoder, and the tensors that make it; `inner` layers make a group where layers share weights.
///
/// All that is missing, misshapen or unknown is noted in `faults`.
pub(super) fn sources(
    family: Family,
    inner: usize,
    encoder: &Encoder,
    tensors: &Tensors,
    faults: &mut Faults,
) -> Vec<Source> {
    let prefix = Prefix::find(family, tensors);
    let map = Map {
        family,
        inner,
        encoder,
        prefix,
    };
    let mut used = BTreeSet::new();
    let mut sources = Vec::new();
    for parameter in encoder_parameters(encoder) {
        let candidates = map.candidates(&parameter.name);
        let is_there = |from: &&From| from.tensors().iter().any(|name| tensors.contains_key(name));
        let from = candidates.iter().find(is_there).unwrap_or(&candidates[0]);
        used.extend(from.tensors().iter().cloned());
        sources.push(Source {
            pieces: pieces(from, &parameter, tensors, faults),
            parameter,
        });
    }
    for (name, shape) in tensors {
        faults.check(
            used.contains(name) || map.is_harmless(name),
            &format!("tensor {name:?}"),
            || format!("not expected, found {shape:?}"),
        );
    }
    sources
}

/// Every tensor of an encoder by the usual names of its family: what [`sources`] finds first.
///
/// A bias beside a map that is not tied is written twice, since classes have both.
pub(super) fn targets(
    family: Family,
    inner: usize,
    encoder: &Encoder,
    prefix: Prefix,
) -> Vec<Target> {
    let map = Map {
        family,
        inner,
        encoder,
        prefix,
    };
    let mut targets = Vec::new();
    for parameter in encoder_parameters(encoder) {
        let Parameter { name, shape } = &parameter;
        let mut add = |tensor: &str, height: usize, rows: [Option<Range<usize>>; 2]| {
            let mut shape = shape.clone();
            shape[0] = height;
            targets.push(Target {
                tensor: tensor.to_owned(),
                shape,
                parameter: name.clone(),
                rows: rows.into_iter().flatten().collect(),
            });
        };
        let rows = shape[0];
        match &map.candidates(name)[0] {
            From::Parts(tensors) => {
                let height = rows / tensors.len();
                for (place, tensor) in tensors.iter().enumerate() {
                    let start = place * height;
                    add(tensor, height, [Some(start..start + height), None]);
                }
            }
            From::Swapped(tensor) => add(tensor, rows, [Some(rows / 2..rows), Some(0..rows / 2)]),
            From::First(tensor) => add(tensor, rows, [Some(0..rows), None]),
        }
        if name == "head.output.bias" && !map.is_tied() {
            for tensor in map.loose_bias().take(1) {
                add(&tensor, rows, [Some(0..rows), None]);
            }
        }
    }
    targets
}

/// The rows that make a parameter, after a look at what is there.
fn pieces(
    from: &From,
    parameter: &Parameter,
    tensors: &Tensors,
    faults: &mut Faults,
) -> Vec<Piece> {
    let rows = parameter.shape[0];
    let names = from.tensors();
    let mut shape = parameter.shape.clone();
    shape[0] /= names.len();
    for name in names {
        let found = tensors.get(name);
        let fits = found.is_some_and(|found| match from {
            From::First(_) => {
                found.len() == shape.len() && found[0] >= shape[0] && found[1..] == shape[1..]
            }
            From::Parts(_) | From::Swapped(_) => *found == shape,
        });
        faults.check(fits, &format!("tensor {name:?}"), || match found {
            Some(found) => format!("expected {shape:?}, found {found:?}"),
            None => format!("expected {shape:?}, found nothing"),
        });
    }
    let piece = |tensor: &String, rows| Piece {
        tensor: tensor.clone(),
        rows,
    };
    match from {
        From::Parts(names) => names.iter().map(|name| piece(name, 0..shape[0])).collect(),
        From::Swapped(name) => vec![piece(name, rows / 2..rows), piece(name, 0..rows / 2)],
        From::First(name) => vec![piece(name, 0..rows)],
    }
}

struct Map<'a> {
    family: Family,
    inner: usize,
    encoder: &'a Encoder,
    prefix: Prefix,
}

/// A module of the body: names relative to the layer, or to the body where there is no layer.
enum Module {
    /// Row after row.
    Parts(&'static [&'static str]),
    /// Its halves change places.
    Swapped(&'static str),
    /// Its first rows.
    First(&'static str),
}

impl Map<'_> {
    /// The tensors that may make a parameter, the usual ones first; never empty.
    fn candidates(&self, parameter: &str) -> Vec<From> {
        if self.family == Family::Mixer {
            return vec![From::Parts(vec![format!(
                "{}{parameter}",
                self.prefix.body
            )])];
        }
        let (stem, end) = parameter
            .rsplit_once('.')
            .expect("parameters have dotted names");
        let ends: &[&str] = match (end, stem.ends_with("norm")) {
            ("gain", _) => &["weight", "gamma"],
            ("bias", true) => &["bias", "beta"],
            ("bias", false) => &["bias"],
            _ => &["weight"],
        };
        let mut candidates = Vec::new();
        if let Some(part) = stem.strip_prefix("head.") {
            for name in self.head(part) {
                for end in ends {
                    candidates.extend(
                        self.prefix
                            .of_head(&format!("{name}.{end}"))
                            .map(|name| From::Parts(vec![name])),
                    );
                }
            }
            if part == "output" && end == "bias" {
                self.add_loose_bias(&mut candidates);
            }
            return candidates;
        }
        let layer = stem
            .strip_prefix("layer.")
            .and_then(|rest| rest.split_once('.'));
        let (places, part) = match layer {
            Some((number, part)) => (
                self.layers(number.parse().expect("layers are numbered")),
                part,
            ),
            None => (vec![String::new()], stem),
        };
        // A convolution beside a layer is named as part of the body.
        let places = if part.starts_with("convolution") {
            vec![String::new()]
        } else {
            places
        };
        let gated = self.encoder.layers.iter().any(is_gated);
        for module in modules(self.family, gated, part) {
            for place in &places {
                for end in ends {
                    let name = |module: &str| format!("{}{place}{module}.{end}", self.prefix.body);
                    candidates.push(match &module {
                        Module::Parts(names) => {
                            From::Parts(names.iter().map(|module| name(module)).collect())
                        }
                        Module::Swapped(module) => From::Swapped(name(module)),
                        Module::First(module) => From::First(name(module)),
                    });
                }
            }
        }
        assert!(
            !candidates.is_empty(),
            "{:?} has no {parameter}",
            self.family
        );
        candidates
    }

    /// Modules of a head's part.
    fn head(&self, part: &str) -> &'static [&'static str] {
        let Some(names) = self.kind().and_then(|kind| head_names(self.family, kind)) else {
            return &[];
        };
        match part {
            "transform" => names.transform,
            "norm" => names.norm,
            _ => names.output,
        }
    }

    fn kind(&self) -> Option<Kind> {
        self.encoder.head.as_ref().map(|head| Kind::of(&head.task))
    }

    fn is_tied(&self) -> bool {
        let output = self.encoder.head.as_ref().and_then(|head| head.output);
        output.is_some_and(|output| output.tied)
    }

    /// A bias beside its module: before the module's own if the token table is the output map, since then the two are one
    /// and old releases save this; else after it, since release 5 saves both and reads the module's.
    fn add_loose_bias(&self, candidates: &mut Vec<From>) {
        let place = if self.is_tied() { 0 } else { candidates.len() };
        let loose = self.loose_bias().map(|name| From::Parts(vec![name]));
        candidates.splice(place..place, loose);
    }

    fn loose_bias(&self) -> impl Iterator<Item = String> {
        let names = self.kind().and_then(|kind| head_names(self.family, kind));
        let loose = names.map_or(&[][..], |names| names.bias);
        loose.iter().flat_map(|name| self.prefix.of_head(name))
    }

    /// What stands before the names of a layer, `encoder.layer.3.` mostly.
    fn layers(&self, number: usize) -> Vec<String> {
        match self.family {
            Family::Albert => {
                let (group, inner) = (number / self.inner, number % self.inner);
                vec![format!(
                    "encoder.albert_layer_groups.{group}.albert_layers.{inner}."
                )]
            }
            Family::DistilBert => vec![format!("transformer.layer.{number}.")],
            Family::ModernBert => vec![format!("layers.{number}.")],
            Family::NomicBert => vec![
                format!("encoder.layers.{number}."),
                format!("layers.{number}."),
            ],
            Family::Gte | Family::New => vec![
                format!("encoder.layer.{number}."),
                format!("layers.{number}."),
            ],
            Family::Bert
            | Family::Roberta
            | Family::Electra
            | Family::Mpnet
            | Family::DebertaV2
            | Family::Jina
            | Family::JinaQkNorm => {
                vec![format!("encoder.layer.{number}.")]
            }
            Family::Mixer => vec![format!("layer.{number}.")],
        }
    }

    /// Tensors that are there and mean nothing to this encoder: buffers, heads of other tasks, tables that are not used.
    fn is_harmless(&self, name: &str) -> bool {
        const BUFFERS: [&str; 5] = [
            "embeddings.position_ids",
            "embeddings.token_type_ids",
            ".inv_freq",
            ".cos_cached",
            ".sin_cached",
        ];
        const HEADS: [&str; 20] = [
            "cls",
            "lm_head",
            "lm_predictions",
            "mask_predictions",
            "predictions",
            "sop_classifier",
            "discriminator_predictions",
            "generator_predictions",
            "generator_lm_head",
            "vocab_transform",
            "vocab_layer_norm",
            "vocab_projector",
            "pre_classifier",
            "classifier",
            "qa_outputs",
            "qa_classifier",
            "pooler",
            "sequence_summary",
            "head",
            "decoder",
        ];
        if self.family == Family::Mixer {
            return false;
        }
        if BUFFERS.iter().any(|end| name.ends_with(end)) {
            return true;
        }
        let heads = |rest: &str| {
            HEADS.iter().any(|head| {
                rest.strip_prefix(head)
                    .is_some_and(|rest| rest.starts_with('.'))
            })
        };
        if [&self.prefix.outer, &self.prefix.body]
            .iter()
            .any(|prefix| name.strip_prefix(prefix.as_str()).is_some_and(heads))
        {
            return true;
        }
        let Some(part) = name.strip_prefix(self.prefix.body.as_str()) else {
            return false;
        };
        let unused_positions = self.encoder.embed.positions.is_none()
            && part == "embeddings.position_embeddings.weight";
        let is_deberta = self.family == Family::DebertaV2;
        let unused_distances = is_deberta
            && self.encoder.relative.is_none()
            && ["encoder.rel_embeddings.", "encoder.LayerNorm."]
                .iter()
                .any(|start| part.starts_with(start));
        unused_positions || unused_distances
    }
}

fn is_gated(layer: &Layer) -> bool {
    layer.attention().is_some_and(|layer| layer.ffn.gated)
}

/// The modules that make a part of the body in a family's files, several where versions differ.
fn modules(family: Family, gated: bool, part: &str) -> Vec<Module> {
    let one = |names: &'static [&'static [&'static str]]| {
        names.iter().map(|names| Module::Parts(names)).collect()
    };
    match part {
        "embed.token" if family == Family::ModernBert => one(&[&["embeddings.tok_embeddings"]]),
        "embed.token" => one(&[&["embeddings.word_embeddings"]]),
        "embed.position" => one(&[&["embeddings.position_embeddings"]]),
        "embed.segment" => one(&[&["embeddings.token_type_embeddings"]]),
        "embed.norm" => match family {
            Family::ModernBert => one(&[&["embeddings.norm"]]),
            Family::NomicBert => one(&[&["emb_ln"], &["embeddings.LayerNorm"]]),
            _ => one(&[&["embeddings.LayerNorm"]]),
        },
        "embed.projection" => match family {
            Family::Albert => one(&[&["encoder.embedding_hidden_mapping_in"]]),
            Family::DebertaV2 => one(&[&["embeddings.embed_proj"]]),
            _ => one(&[&["embeddings_project"]]),
        },
        "relative" if family == Family::Mpnet => {
            vec![Module::First("encoder.relative_attention_bias")]
        }
        "relative" => one(&[&["encoder.rel_embeddings"]]),
        "relative.norm" => one(&[&["encoder.LayerNorm"]]),
        "final_norm" => one(&[&["final_norm"]]),
        "convolution" => one(&[&["encoder.conv.conv"]]),
        "convolution_norm" => one(&[&["encoder.conv.LayerNorm"]]),
        _ => match family {
            Family::Bert | Family::Roberta | Family::Electra => bert(part),
            Family::DebertaV2 => deberta(part),
            Family::Mpnet => mpnet(part),
            Family::DistilBert => distilbert(part),
            Family::Albert => albert(part),
            Family::ModernBert => modernbert(part),
            Family::NomicBert => nomic(part, gated),
            Family::Gte | Family::New => gte(part),
            Family::Jina => jina(part, gated),
            Family::JinaQkNorm => jina_qk_norm(part),
            Family::Mixer => Vec::new(),
        },
    }
}

/// Modules that stand alone, or of which rows follow rows, in the order of preference.
macro_rules! parts {
    ($([$($name:literal),+]),* $(,)?) => { vec![$(Module::Parts(&[$($name),+])),*] };
}

fn bert(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![[
            "attention.self.query",
            "attention.self.key",
            "attention.self.value"
        ]],
        "mixer.distance" => parts![["attention.self.distance_embedding"]],
        "mixer.output" => parts![["attention.output.dense"]],
        "mixer_norm" => parts![["attention.output.LayerNorm"]],
        "ffn.up" => parts![["intermediate.dense"]],
        "ffn.down" => parts![["output.dense"]],
        "ffn_norm" => parts![["output.LayerNorm"]],
        _ => Vec::new(),
    }
}

fn deberta(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![[
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj"
        ]],
        "mixer.position_key" => parts![["attention.self.pos_key_proj"]],
        "mixer.position_query" => parts![["attention.self.pos_query_proj"]],
        _ => bert(part),
    }
}

fn mpnet(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![["attention.attn.q", "attention.attn.k", "attention.attn.v"]],
        "mixer.output" => parts![["attention.attn.o"]],
        "mixer_norm" => parts![["attention.LayerNorm"]],
        _ => bert(part),
    }
}

fn distilbert(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![["attention.q_lin", "attention.k_lin", "attention.v_lin"]],
        "mixer.output" => parts![["attention.out_lin"]],
        "mixer_norm" => parts![["sa_layer_norm"]],
        "ffn.up" => parts![["ffn.lin1"]],
        "ffn.down" => parts![["ffn.lin2"]],
        "ffn_norm" => parts![["output_layer_norm"]],
        _ => Vec::new(),
    }
}

fn albert(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![["attention.query", "attention.key", "attention.value"]],
        "mixer.distance" => parts![["attention.distance_embedding"]],
        "mixer.output" => parts![["attention.dense"]],
        "mixer_norm" => parts![["attention.LayerNorm"]],
        "ffn.up" => parts![["ffn"]],
        "ffn.down" => parts![["ffn_output"]],
        "ffn_norm" => parts![["full_layer_layer_norm"]],
        _ => Vec::new(),
    }
}

/// The first half of `Wi` is the one that is activated, as in the inventory.
fn modernbert(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![["attn.Wqkv"]],
        "mixer.output" => parts![["attn.Wo"]],
        "mixer_norm" => parts![["attn_norm"]],
        "ffn.up" => parts![["mlp.Wi"]],
        "ffn.down" => parts![["mlp.Wo"]],
        "ffn_norm" => parts![["mlp_norm"]],
        _ => Vec::new(),
    }
}

/// Names of the published code, which transformers 5 saves too, then those of its class. `fc12` is activated.
fn nomic(part: &str, gated: bool) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![
            ["attn.Wqkv"],
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
        ],
        "mixer.output" => parts![["attn.out_proj"], ["self_attn.o_proj"]],
        "mixer_norm" => parts![["norm1"], ["post_attention_layernorm"]],
        "ffn.up" if gated => parts![["mlp.fc12", "mlp.fc11"], ["mlp.gate_proj", "mlp.up_proj"]],
        "ffn.up" => parts![["mlp.fc1"]],
        "ffn.down" => parts![["mlp.fc2"], ["mlp.down_proj"]],
        "ffn_norm" => parts![["norm2"], ["post_mlp_layernorm"]],
        _ => Vec::new(),
    }
}

/// As with `NomicBERT`. The second half of `up_gate_proj` is the one that is activated.
fn gte(part: &str) -> Vec<Module> {
    match part {
        "mixer.qkv" => parts![
            ["attention.qkv_proj"],
            ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ],
        "mixer.output" => parts![["attention.o_proj"], ["self_attn.o_proj"]],
        "mixer_norm" => parts![["attn_ln"], ["post_attention_layernorm"]],
        "ffn.up" => vec![
            Module::Swapped("mlp.up_gate_proj"),
            Module::Parts(&["mlp.gate_proj", "mlp.up_proj"]),
        ],
        "ffn.down" => parts![["mlp.down_proj"]],
        "ffn_norm" => parts![["mlp_ln"], ["post_mlp_layernorm"]],
        _ => Vec::new(),
    }
}

/// The first half of `gated_layers` is the one that is activated.
fn jina(part: &str, gated: bool) -> Vec<Module> {
    match part {
        "ffn.up" if gated => parts![["mlp.gated_layers"]],
        "ffn.down" if gated => parts![["mlp.wo"]],
        "ffn_norm" if gated => parts![["mlp.layernorm"]],
        _ => bert(part),
    }
}

/// The second half of `up_gated_layer` is the one that is activated.
fn jina_qk_norm(part: &str) -> Vec<Module> {
    match part {
        "mixer.query_norm" => parts![["attention.self.layer_norm_q"]],
        "mixer.key_norm" => parts![["attention.self.layer_norm_k"]],
        "mixer_norm" => parts![["layer_norm_1"]],
        "ffn.up" => vec![Module::Swapped("mlp.up_gated_layer")],
        "ffn.down" => parts![["mlp.down_layer"]],
        "ffn_norm" => parts![["layer_norm_2"]],
        _ => bert(part),
    }
}
