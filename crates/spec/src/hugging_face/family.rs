//! Which family's settings a `config.json` holds, and what its encoder computes.

use serde_json::Value;

use super::Tensors;
use super::head;
use super::keys::{FFN_WIDTH, HEADS, Keys, LAYERS, LENGTH, ROWS, WIDTH, shown};
use crate::codebook::Codebook;
use crate::encoder::{
    Activation, Attention, AttentionLayer, Convolution, Disentangled, Embed, Encoder, Ffn, Layer,
    MixerLayer, Norm, NormKind, Order, Position, Positions, Projection, Relative, RelativeKey,
    Rotary,
};
use crate::mixer::{self, Room};
use crate::model::Stack;
use crate::{Faults, block, ffn, norm};

/// Encoders that share their settings' keys and their weights' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
    DistilBert,
    Albert,
    Electra,
    Mpnet,
    DebertaV2,
    ModernBert,
    NomicBert,
    Jina,
    JinaQkNorm,
    /// As transformers 5 has it.
    Gte,
    /// GTE as its authors publish it.
    New,
    /// Of this project: layers with any mixer of the recipes.
    Mixer,
}

/// The `model_type` of [`Family::Mixer`], which other tools do not know.
pub(super) const MIXER: &str = "cloze-mixer";

/// The values of `model_type` that are read.
const MODEL_TYPES: [(&str, Family); 14] = [
    ("bert", Family::Bert),
    ("roberta", Family::Roberta),
    ("xlm-roberta", Family::Roberta),
    ("camembert", Family::Roberta),
    ("distilbert", Family::DistilBert),
    ("albert", Family::Albert),
    ("electra", Family::Electra),
    ("mpnet", Family::Mpnet),
    ("deberta-v2", Family::DebertaV2),
    ("modernbert", Family::ModernBert),
    ("nomic_bert", Family::NomicBert),
    ("new", Family::New),
    ("gte", Family::Gte),
    (MIXER, Family::Mixer),
];

/// Starts of class names in `architectures`, and the `model_type` beside them, which some settings lack.
const CLASSES: [(&str, &str); 15] = [
    ("Bert", "bert"),
    ("JinaBert", "bert"),
    ("Roberta", "roberta"),
    ("XLMRoberta", "xlm-roberta"),
    ("Camembert", "camembert"),
    ("DistilBert", "distilbert"),
    ("Albert", "albert"),
    ("Electra", "electra"),
    ("MPNet", "mpnet"),
    ("DebertaV2", "deberta-v2"),
    ("ModernBert", "modernbert"),
    ("NomicBert", "nomic_bert"),
    ("New", "new"),
    ("Gte", "gte"),
    ("ClozeMixer", MIXER),
];

/// The `model_type` of a class.
fn type_of_class(class: &str) -> Option<&'static str> {
    let starts = |start: &str| {
        let rest = class.strip_prefix(start);
        rest.is_some_and(|rest| rest == "Model" || rest.starts_with("For"))
    };
    let known = CLASSES.iter().find(|(start, _)| starts(start));
    known.map(|(_, model_type)| *model_type)
}

/// The `model_type` of settings that [`family`] knows.
pub(super) fn model_type(keys: &Keys) -> String {
    let by_class = || head::architecture(keys).and_then(type_of_class);
    let named = keys.text("model_type").or_else(by_class);
    named.unwrap_or("bert").to_owned()
}

/// What the family's class names start with.
pub(super) fn class(family: Family, model_type: &str) -> &'static str {
    if matches!(family, Family::Jina | Family::JinaQkNorm) {
        return "JinaBert";
    }
    let known = CLASSES.iter().find(|(_, named)| *named == model_type);
    known.expect("every model type has a class").0
}

/// What classes with a head call the body: their `base_model_prefix`; nothing where names are the inventory's.
pub(super) fn base(keys: &Keys, family: Family) -> &'static str {
    match family {
        Family::Bert | Family::Jina | Family::JinaQkNorm => "bert",
        Family::Roberta => "roberta",
        Family::DistilBert => "distilbert",
        Family::Albert => "albert",
        Family::Electra => "electra",
        Family::Mpnet => "mpnet",
        Family::DebertaV2 => "deberta",
        Family::ModernBert => "model",
        Family::NomicBert if keys.has("n_embd") => "bert",
        Family::NomicBert => "nomic_bert",
        Family::Gte => "gte",
        Family::New => "new",
        Family::Mixer => "",
    }
}

/// Every `model_type` of families that `holds` is true of.
pub(super) fn types(holds: impl Fn(Family) -> bool) -> String {
    let named = MODEL_TYPES.iter().filter(|(_, family)| holds(*family));
    named.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Which family it is; none after a fault.
///
/// The first files of BERT, and what was made of them, name neither type nor class.
pub(super) fn family(keys: &Keys) -> Option<Family> {
    let named = match keys.text("model_type") {
        Some(_) => keys.one_of("model_type", &MODEL_TYPES)?,
        None if keys.has("model_type") => return None,
        None => {
            let class = head::architecture(keys);
            let known = class
                .and_then(type_of_class)
                .and_then(|known| MODEL_TYPES.iter().find(|(name, _)| *name == known));
            match (known, class) {
                (Some((_, family)), _) => *family,
                (None, Some(class)) => {
                    keys.fault(
                        "architectures",
                        format_args!(
                            "expected a class of one of the families {}, found {}",
                            types(|_| true),
                            shown(&format_args!("{class:?}"))
                        ),
                    );
                    return None;
                }
                (None, None)
                    if ["hidden_size", "num_attention_heads", "type_vocab_size"]
                        .iter()
                        .all(|key| keys.has(key)) =>
                {
                    Family::Bert
                }
                (None, None) => {
                    keys.fault("model_type", "expected the name of a family, found nothing");
                    return None;
                }
            }
        }
    };
    if named != Family::Bert {
        return Some(named);
    }
    // Jina's encoders call themselves BERT and bring code of their own.
    let origin = |name: &str| {
        let holds = |value: &Value| value.as_str().is_some_and(|text| text.contains(name));
        keys.get("_name_or_path").is_some_and(holds)
            || keys
                .get("auto_map")
                .and_then(Value::as_object)
                .is_some_and(|map| map.values().any(holds))
    };
    let is_alibi = keys.get("position_embedding_type").and_then(Value::as_str) == Some("alibi");
    Some(if origin("jina-bert-v2-qk-post-norm") {
        Family::JinaQkNorm
    } else if is_alibi || origin("jina-bert-implementation") {
        Family::Jina
    } else {
        Family::Bert
    })
}

/// Inner layers that make a group of shared weights.
pub(super) fn inner_layers(keys: &Keys) -> usize {
    keys.optional_count("inner_group_num", &LAYERS).unwrap_or(1)
}

/// What the settings describe, given the tensors that the weights' files hold, once they are known.
///
/// Faults are noted in `keys`; what is returned stands only if there are none.
pub(super) fn encoder(keys: &Keys, family: Family, tensors: Option<&Tensors>) -> Encoder {
    for key in ["is_decoder", "add_cross_attention", "causal", "is_causal"] {
        keys.unsupported(key, |value| value == &Value::Bool(false));
    }
    keys.unsupported("pruned_heads", |value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    });
    let mut encoder = match family {
        Family::Bert | Family::Roberta | Family::Electra | Family::Mpnet => bert(keys, family),
        Family::Jina | Family::JinaQkNorm => jina(keys, family),
        Family::DistilBert => distilbert(keys),
        Family::Albert => albert(keys),
        Family::DebertaV2 => deberta(keys),
        Family::ModernBert => modernbert(keys),
        Family::NomicBert if keys.has("n_embd") => nomic_published(keys),
        Family::NomicBert => nomic(keys),
        Family::Gte | Family::New => gte(keys, family),
        Family::Mixer => mixer(keys),
    };
    encoder.head = head::head(keys, family, &encoder, tensors);
    let computed = computed(&encoder);
    if computed > COMPUTED {
        keys.fault(
            "max_position_embeddings",
            format_args!(
                "tables of positions and distances would have {computed} values, expected at most {COMPUTED}"
            ),
        );
    }
    encoder
}

/// Values of tables that engines compute, of all lengths and layers, so that settings alone cannot ask for any amount.
const COMPUTED: usize = 1 << 27;

fn computed(encoder: &Encoder) -> usize {
    let mut angles = 0;
    let mut mapped = 0_usize;
    for layer in &encoder.layers {
        let layer = match layer {
            Layer::Attention(layer) => layer,
            Layer::Mixer(layer) => {
                mapped = mapped.saturating_add(layer.parts.mixer.computed(layer.room));
                continue;
            }
        };
        match (&layer.attention.position, &encoder.relative) {
            // Layers share tables, of which there are few.
            (Position::Rotary(rotary), _) => angles = rotary.frequencies.len().max(angles),
            (Position::Disentangled(_), Some(Relative::Vectors { span, .. })) => {
                mapped = mapped.saturating_add(4 * span * encoder.width);
            }
            _ => {}
        }
    }
    mapped.saturating_add(2 * angles * encoder.max_len)
}

/// Sizes that most families name alike.
struct Sizes {
    width: usize,
    heads: usize,
    head_width: usize,
    layers: usize,
    ffn: usize,
    vocab: usize,
    len: usize,
}

impl Sizes {
    fn read(keys: &Keys) -> Self {
        Self::named(
            keys,
            [
                "hidden_size",
                "num_attention_heads",
                "num_hidden_layers",
                "intermediate_size",
            ],
            512,
        )
    }

    fn named(keys: &Keys, names: [&str; 4], len: usize) -> Self {
        let [width_key, heads_key, layers_key, ffn_key] = names;
        let (width, heads) = (keys.count(width_key, &WIDTH), keys.count(heads_key, &HEADS));
        if keys.has(width_key) && keys.has(heads_key) {
            check_heads(keys, [heads_key, width_key], heads, width);
        }
        Self {
            width,
            heads,
            head_width: (width / heads).max(1),
            layers: keys.count(layers_key, &LAYERS),
            ffn: keys.count(ffn_key, &FFN_WIDTH),
            vocab: keys.count("vocab_size", &ROWS),
            len: keys
                .optional_count("max_position_embeddings", &LENGTH)
                .unwrap_or(len),
        }
    }

    fn attention(&self, position: Position) -> Attention {
        Attention {
            heads: self.heads,
            head_width: self.head_width,
            scale: scale(self.head_width),
            qkv_bias: true,
            output_bias: true,
            qk_norm: None,
            position,
            window: None,
            log_scale: None,
        }
    }

    fn ffn(&self, activation: Activation) -> Ffn {
        Ffn {
            width: self.ffn,
            activation,
            gated: false,
            up_bias: true,
            down_bias: true,
        }
    }

    fn embed(&self, norm: Norm) -> Embed {
        Embed {
            vocab: self.vocab,
            width: self.width,
            positions: None,
            segments: None,
            norm: Some(norm),
            projection: None,
        }
    }

    /// An encoder whose layers are alike.
    fn encoder(&self, embed: Embed, layer: &AttentionLayer) -> Encoder {
        let layer = Layer::Attention(layer.clone());
        let numbered = |weights| layer.with_weights(weights);
        Encoder {
            width: self.width,
            max_len: self.len,
            embed,
            layers: (0..self.layers).map(numbered).collect(),
            final_norm: None,
            relative: None,
            head: None,
        }
    }
}

fn check_heads(keys: &Keys, [heads_key, width_key]: [&str; 2], heads: usize, width: usize) {
    if !width.is_multiple_of(heads) {
        keys.fault(
            heads_key,
            format_args!("expected a divisor of {width_key}, {width}, found {heads}"),
        );
    }
}

fn scale(head_width: usize) -> f32 {
    (1.0 / (head_width as f64).sqrt()) as f32
}

fn layer_norm(eps: f32) -> Norm {
    Norm {
        kind: NormKind::Layer,
        eps,
        bias: true,
    }
}

fn post_norm(norm: Norm, attention: Attention, ffn: Ffn) -> AttentionLayer {
    AttentionLayer {
        weights: 0,
        order: Order::PostNorm,
        mixer_norm: Some(norm),
        ffn_norm: norm,
        attention,
        convolution: None,
        ffn,
    }
}

/// Rows of the segment table: absent if there are none.
fn segments(keys: &Keys, default: usize) -> Option<usize> {
    let rows = keys.optional_count("type_vocab_size", &(0..=*ROWS.end()));
    Some(rows.unwrap_or(default)).filter(|rows| *rows > 0)
}

/// BERT, its successors of the same layout, and `MPNet`, whose layers add a number per distance.
fn bert(keys: &Keys, family: Family) -> Encoder {
    let mut sizes = Sizes::read(keys);
    let norm = layer_norm(keys.positive("layer_norm_eps", 1e-12));
    let activation = keys.activation("hidden_act", Activation::Gelu);
    let offset = match family {
        Family::Roberta => {
            keys.optional_count("pad_token_id", &(0..=*LENGTH.end()))
                .unwrap_or(1)
                + 1
        }
        Family::Mpnet => 2,
        _ => 0,
    };
    let rows = sizes.len;
    if rows <= offset {
        keys.fault(
            "max_position_embeddings",
            format_args!("expected more than {offset}, the row of the first token, found {rows}"),
        );
    }
    sizes.len = rows.saturating_sub(offset).max(1);
    let (position, has_table) = match family {
        Family::Mpnet => (Position::Buckets, true),
        _ => bert_position(keys, rows),
    };
    let mut embed = sizes.embed(norm);
    embed.positions = has_table.then_some(Positions { rows, offset });
    embed.segments = match family {
        Family::Mpnet => None,
        _ => segments(keys, 2),
    };
    if family == Family::Electra {
        let width = keys.optional_count("embedding_size", &WIDTH).unwrap_or(128);
        embed.width = width;
        embed.projection = (width != sizes.width).then_some(Projection {
            bias: true,
            before_norm: false,
        });
    }
    let layer = post_norm(norm, sizes.attention(position), sizes.ffn(activation));
    let mut encoder = sizes.encoder(embed, &layer);
    if family == Family::Mpnet {
        // The package computes 32 buckets whatever the settings say; they give the table's rows only.
        let rows = keys
            .optional_count("relative_attention_num_buckets", &ROWS)
            .unwrap_or(32);
        if rows < 32 {
            keys.fault(
                "relative_attention_num_buckets",
                format_args!("expected at least 32, found {rows}"),
            );
        }
        encoder.relative = Some(Relative::Bias {
            buckets: 32,
            max_distance: 128,
            heads: sizes.heads,
        });
    }
    encoder
}

/// What BERT's attention knows of distance, and whether its table of positions is added.
///
/// Vectors per distance as transformers 4 has them; release 5 reads such folders and leaves them out.
fn bert_position(keys: &Keys, rows: usize) -> (Position, bool) {
    let kinds = [
        ("absolute", None),
        ("relative_key", Some(false)),
        ("relative_key_query", Some(true)),
    ];
    match keys.one_of("position_embedding_type", &kinds).flatten() {
        None => (Position::None, true),
        Some(keys) => {
            let max_distance = rows.saturating_sub(1);
            (Position::Key(RelativeKey { max_distance, keys }), false)
        }
    }
}

/// `JinaBERT` v2, as jinaai/jina-bert-implementation and jinaai/jina-bert-v2-qk-post-norm publish it.
fn jina(keys: &Keys, family: Family) -> Encoder {
    let sizes = Sizes::read(keys);
    let norm = layer_norm(keys.positive("layer_norm_eps", 1e-12));
    keys.one_of("position_embedding_type", &[("alibi", ())]);
    let kinds = [
        ("original", None),
        ("geglu", Some(Activation::Gelu)),
        ("reglu", Some(Activation::Relu)),
    ];
    let kind = match family {
        Family::JinaQkNorm => keys
            .one_of("feed_forward_type", &kinds[1..])
            .unwrap_or(kinds[1].1),
        _ => keys.one_of("feed_forward_type", &kinds).flatten(),
    };
    let ffn = match kind {
        None => sizes.ffn(keys.activation("hidden_act", Activation::Gelu)),
        Some(activation) => Ffn {
            gated: true,
            up_bias: false,
            ..sizes.ffn(activation)
        },
    };
    let mut attention = sizes.attention(Position::Alibi);
    attention.qk_norm = (family == Family::JinaQkNorm).then_some(norm);
    let mut embed = sizes.embed(norm);
    embed.segments = segments(keys, 2);
    sizes.encoder(embed, &post_norm(norm, attention, ffn))
}

fn distilbert(keys: &Keys) -> Encoder {
    let sizes = Sizes::named(keys, ["dim", "n_heads", "n_layers", "hidden_dim"], 512);
    let norm = layer_norm(1e-12);
    let activation = keys.activation("activation", Activation::Gelu);
    let mut embed = sizes.embed(norm);
    // Sines and cosines too are saved as a table.
    embed.positions = Some(Positions {
        rows: sizes.len,
        offset: 0,
    });
    let layer = post_norm(norm, sizes.attention(Position::None), sizes.ffn(activation));
    sizes.encoder(embed, &layer)
}

/// ALBERT: layers take turns with the parameters of a few groups, each of one or more inner layers.
fn albert(keys: &Keys) -> Encoder {
    let sizes = Sizes::read(keys);
    let norm = layer_norm(keys.positive("layer_norm_eps", 1e-12));
    let activation = keys.activation("hidden_act", Activation::GeluTanh);
    let groups = keys
        .optional_count("num_hidden_groups", &LAYERS)
        .unwrap_or(1);
    let inner = inner_layers(keys);
    if groups > sizes.layers {
        keys.fault(
            "num_hidden_groups",
            format_args!(
                "expected at most num_hidden_layers, {}, found {groups}",
                sizes.layers
            ),
        );
    }
    let runs = sizes.layers * inner;
    if !LAYERS.contains(&runs) {
        keys.fault(
            "inner_group_num",
            format_args!(
                "expected at most {} layers in all, found {runs}",
                LAYERS.end()
            ),
        );
        return sizes.encoder(
            sizes.embed(norm),
            &post_norm(norm, sizes.attention(Position::None), sizes.ffn(activation)),
        );
    }
    let (position, has_table) = bert_position(keys, sizes.len);
    let mut embed = sizes.embed(norm);
    embed.width = keys.optional_count("embedding_size", &WIDTH).unwrap_or(128);
    embed.positions = has_table.then_some(Positions {
        rows: sizes.len,
        offset: 0,
    });
    embed.segments = segments(keys, 2);
    embed.projection = Some(Projection {
        bias: true,
        before_norm: false,
    });
    let layer = post_norm(norm, sizes.attention(position), sizes.ffn(activation));
    let mut encoder = sizes.encoder(embed, &layer);
    let weights = |run: usize| (run / inner * groups / sizes.layers) * inner + run % inner;
    let layer = encoder.layers[0].clone();
    let runs = (0..runs).map(|run| layer.with_weights(weights(run)));
    encoder.layers = runs.collect();
    encoder
}

/// Components of [`Family::Mixer`], as recipes have them, and the keys of BERT's that each takes the place of.
pub(super) const COMPONENTS: [(&str, &[&str]); 5] = [
    ("block", &["hidden_dropout_prob"]),
    ("codebook", &[]),
    ("ffn", &["intermediate_size"]),
    (
        "mixer",
        &["attention_probs_dropout_prob", "num_attention_heads"],
    ),
    ("norm", &["layer_norm_eps"]),
];

/// BERT's frame around layers as recipes have them; a component that is not named is BERT's.
fn mixer(keys: &Keys) -> Encoder {
    let room = Room {
        width: keys.count("hidden_size", &WIDTH),
        max_len: keys.count("max_position_embeddings", &LENGTH),
    };
    let acts = [
        ("gelu", ffn::Activation::Gelu),
        ("relu", ffn::Activation::Relu),
        ("silu", ffn::Activation::Silu),
    ];
    let activation = keys.one_of("hidden_act", &acts);
    // What is at fault is told of; something has to stand in its place until then.
    let stack = Stack {
        layers: keys.count("num_hidden_layers", &LAYERS),
        block: keys
            .component("block", block::Block::check)
            .unwrap_or_else(|| {
                let dropout = keys.optional_share("hidden_dropout_prob").unwrap_or(0.0);
                block::Block::PostNorm(block::Residual::plain(dropout))
            }),
        norm: keys
            .component("norm", norm::Norm::check)
            .unwrap_or_else(|| {
                norm::Norm::Layer(norm::Layer {
                    eps: keys.positive("layer_norm_eps", 1e-12),
                })
            }),
        mixer: if keys.has("mixer") {
            let check = |mixer: &mixer::Mixer, path: &str, faults: &mut Faults| {
                mixer.check(path, room, faults);
            };
            let mixer = keys.component("mixer", check);
            mixer.unwrap_or(mixer::Mixer::Identity(mixer::Identity {}))
        } else {
            let heads = keys.count("num_attention_heads", &HEADS);
            check_heads(
                keys,
                ["num_attention_heads", "hidden_size"],
                heads,
                room.width,
            );
            let dropout = keys.optional_share("attention_probs_dropout_prob");
            mixer::Mixer::Attention(mixer::Attention::plain(
                heads,
                false,
                dropout.unwrap_or(0.0),
            ))
        },
        ffn: if keys.has("ffn") {
            let check = |ffn: &ffn::Ffn, path: &str, faults: &mut Faults| {
                ffn.check(path, room.width, faults);
            };
            let ffn = keys.component("ffn", check);
            ffn.unwrap_or(ffn::Ffn::Absent(ffn::Absent {}))
        } else {
            ffn::Ffn::Mlp(ffn::Mlp {
                width: keys.count("intermediate_size", &FFN_WIDTH),
                activation: activation.unwrap_or(ffn::Activation::Gelu),
            })
        },
        codebook: keys.component("codebook", |codebook: &Codebook, path, faults| {
            codebook.check(path, room.width, faults);
        }),
    };
    let tables = [("absolute", true), ("none", false)];
    let has_table = keys.one_of("position_embedding_type", &tables);
    let norm = Norm::from(&stack.norm);
    let layer = |weights| {
        Layer::Mixer(MixerLayer {
            weights,
            room,
            parts: stack.layer(weights),
        })
    };
    Encoder {
        width: room.width,
        max_len: room.max_len,
        embed: Embed {
            vocab: keys.count("vocab_size", &ROWS),
            width: room.width,
            positions: has_table.unwrap_or(true).then_some(Positions {
                rows: room.max_len,
                offset: 0,
            }),
            segments: segments(keys, 2),
            norm: Some(norm),
            projection: None,
        },
        layers: (0..stack.layers).map(layer).collect(),
        final_norm: stack.block.ends_with_norm().then_some(norm),
        relative: None,
        head: None,
    }
}

/// DeBERTa v2 and v3.
fn deberta(keys: &Keys) -> Encoder {
    let sizes = Sizes::read(keys);
    let norm = layer_norm(keys.positive("layer_norm_eps", 1e-7));
    let activation = keys.activation("hidden_act", Activation::Gelu);
    if let Some(width) = keys.optional_count("attention_head_size", &WIDTH)
        && width != sizes.head_width
    {
        keys.fault(
            "attention_head_size",
            format_args!(
                "expected hidden_size by heads, {}, found {width}",
                sizes.head_width
            ),
        );
    }
    let mut embed = sizes.embed(norm);
    embed.width = keys
        .optional_count("embedding_size", &WIDTH)
        .unwrap_or(sizes.width);
    embed.projection = (embed.width != sizes.width).then_some(Projection {
        bias: false,
        before_norm: true,
    });
    embed.positions = keys
        .flag("position_biased_input", true)
        .then_some(Positions {
            rows: sizes.len,
            offset: 0,
        });
    embed.segments = segments(keys, 0);
    let mut attention = sizes.attention(Position::None);
    let mut relative = None;
    if keys.flag("relative_attention", false)
        && let Some(meet) = deberta_meetings(keys)
    {
        let terms =
            1 + usize::from(meet.content_to_position) + usize::from(meet.position_to_content);
        attention.scale = scale(sizes.head_width * terms);
        attention.position = Position::Disentangled(meet);
        relative = Some(deberta_distances(keys, sizes.len, norm));
    }
    let mut layer = post_norm(norm, attention, sizes.ffn(activation));
    let mut encoder = sizes.encoder(embed, &layer);
    encoder.relative = relative;
    layer.convolution = deberta_convolution(keys, sizes.width, norm);
    encoder.layers[0] = Layer::Attention(layer);
    encoder
}

/// Which of content and position meet: `pos_att_type` is a list, or names joined by `|`.
fn deberta_meetings(keys: &Keys) -> Option<Disentangled> {
    let found = keys.get("pos_att_type")?;
    let names: Vec<&str> = match found {
        Value::String(text) => text
            .split('|')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|name| name.as_str().unwrap_or("?"))
            .collect(),
        _ => vec!["?"],
    };
    if names.iter().any(|name| !["c2p", "p2c"].contains(name)) {
        keys.fault(
            "pos_att_type",
            format_args!("expected c2p, p2c or both, found {}", shown(found)),
        );
    }
    (!names.is_empty()).then(|| Disentangled {
        content_to_position: names.contains(&"c2p"),
        position_to_content: names.contains(&"p2c"),
        shared_maps: keys.flag("share_att_key", false),
    })
}

fn deberta_distances(keys: &Keys, len: usize, norm: Norm) -> Relative {
    let positive = |key| {
        usize::try_from(keys.integer(key, -1))
            .ok()
            .filter(|value| *value > 0)
    };
    let max = positive("max_relative_positions").unwrap_or(len);
    let buckets = positive("position_buckets");
    if let Some(buckets) = buckets
        && (buckets < 2 || max <= buckets / 2 + 1)
    {
        keys.fault("position_buckets", format_args!("expected at least 2 and less than twice the longest distance, {max}, found {buckets}"));
    }
    let is_normed = keys.text("norm_rel_ebd").is_some_and(|kinds| {
        kinds
            .split('|')
            .any(|kind| kind.trim().eq_ignore_ascii_case("layer_norm"))
    });
    Relative::Vectors {
        span: buckets.unwrap_or(max),
        buckets_to: buckets.map(|_| max),
        norm: is_normed.then_some(norm),
    }
}

fn deberta_convolution(keys: &Keys, width: usize, norm: Norm) -> Option<Convolution> {
    let kernel = usize::try_from(keys.integer("conv_kernel_size", 0))
        .ok()
        .filter(|kernel| *kernel > 0)?;
    let groups = keys.optional_count("conv_groups", &WIDTH).unwrap_or(1);
    if kernel.is_multiple_of(2) || kernel > 1 << 10 {
        keys.fault(
            "conv_kernel_size",
            format_args!("expected an odd number below 1024, found {kernel}"),
        );
    }
    if !width.is_multiple_of(groups) {
        keys.fault(
            "conv_groups",
            format_args!("expected a divisor of hidden_size, {width}, found {groups}"),
        );
    }
    Some(Convolution {
        kernel,
        groups,
        activation: keys.activation("conv_act", Activation::Tanh),
        norm,
    })
}

fn modernbert(keys: &Keys) -> Encoder {
    let sizes = Sizes::read(keys);
    let norm = Norm {
        bias: keys.flag("norm_bias", false),
        ..layer_norm(keys.positive("norm_eps", 1e-5))
    };
    let mlp_bias = keys.flag("mlp_bias", false);
    let ffn = Ffn {
        gated: true,
        up_bias: mlp_bias,
        down_bias: mlp_bias,
        ..sizes.ffn(keys.activation("hidden_activation", Activation::Gelu))
    };
    let attention_bias = keys.flag("attention_bias", false);
    let window = keys
        .optional_count("local_attention", &LENGTH)
        .unwrap_or(128)
        / 2;
    let global = keys.positive("global_rope_theta", 160_000.0);
    let local = keys.optional_positive("local_rope_theta");
    // A key that is null means the theta of the whole sequence; one that is absent, the class's default.
    let local = local.unwrap_or(if keys.is_null("local_rope_theta") {
        global
    } else {
        10_000.0
    });
    let parameters = keys.object("rope_parameters");
    let rotary = |kind: &str, theta: f32| {
        let own = parameters.as_ref().and_then(|all| all.object(kind));
        let own = own
            .as_ref()
            .or(parameters.as_ref().filter(|all| all.has("rope_type")));
        Position::Rotary(rotary(keys, own, theta, sizes.head_width, 1.0))
    };
    let positions = [
        rotary("full_attention", global),
        rotary("sliding_attention", local),
    ];
    let layer = |weights: usize, is_local: bool| AttentionLayer {
        weights,
        order: Order::PreNorm,
        mixer_norm: (weights > 0).then_some(norm),
        ffn_norm: norm,
        attention: Attention {
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            window: is_local.then_some(window),
            ..sizes.attention(positions[usize::from(is_local)].clone())
        },
        convolution: None,
        ffn,
    };
    let mut encoder = sizes.encoder(sizes.embed(norm), &layer(0, false));
    for (place, is_local) in modernbert_locals(keys, sizes.layers)
        .into_iter()
        .enumerate()
    {
        encoder.layers[place] = Layer::Attention(layer(place, is_local));
    }
    encoder.final_norm = Some(norm);
    encoder
}

/// Whether each layer sees a window only.
fn modernbert_locals(keys: &Keys, layers: usize) -> Vec<bool> {
    let every = keys
        .optional_count("global_attn_every_n_layers", &LAYERS)
        .unwrap_or(3);
    let Some(kinds) = keys.list("layer_types") else {
        return (0..layers)
            .map(|layer| !layer.is_multiple_of(every))
            .collect();
    };
    if kinds.len() != layers {
        keys.fault(
            "layer_types",
            format_args!(
                "expected one for each of {layers} layers, found {}",
                kinds.len()
            ),
        );
    }
    let is_local = |kind: &Value| match kind.as_str() {
        Some("full_attention") => false,
        Some("sliding_attention") => true,
        _ => {
            keys.fault(
                "layer_types",
                format_args!(
                    "expected full_attention or sliding_attention, found {}",
                    shown(kind)
                ),
            );
            false
        }
    };
    kinds.iter().take(layers).map(is_local).collect()
}

/// `NomicBERT` as transformers 5 has it.
fn nomic(keys: &Keys) -> Encoder {
    let sizes = Sizes::read(keys);
    let norm = layer_norm(keys.positive("layer_norm_eps", 1e-12));
    same_head_width(keys, &sizes);
    let parameters = keys.object("rope_parameters");
    let rotary = rotary(keys, parameters.as_ref(), 1000.0, sizes.head_width, 1.0);
    let attention = Attention {
        qkv_bias: false,
        output_bias: false,
        ..sizes.attention(Position::Rotary(rotary))
    };
    let ffn = Ffn {
        gated: true,
        up_bias: false,
        down_bias: false,
        ..sizes.ffn(keys.activation("hidden_act", Activation::Silu))
    };
    let mut embed = sizes.embed(norm);
    embed.segments = segments(keys, 2);
    sizes.encoder(embed, &post_norm(norm, attention, ffn))
}

fn same_head_width(keys: &Keys, sizes: &Sizes) {
    if let Some(width) = keys.optional_count("head_dim", &WIDTH)
        && width != sizes.head_width
    {
        keys.fault(
            "head_dim",
            format_args!(
                "expected hidden_size by heads, {}, found {width}",
                sizes.head_width
            ),
        );
    }
}

/// `NomicBERT` as nomic-ai/nomic-bert-2048 publishes it.
fn nomic_published(keys: &Keys) -> Encoder {
    for key in [
        "prenorm",
        "parallel_block",
        "use_rms_norm",
        "use_xentropy_moe",
    ] {
        keys.unsupported(key, |value| value == &Value::Bool(false));
    }
    for key in ["num_experts", "moe_every_n_layers"] {
        keys.unsupported(key, |value| {
            value.as_f64().is_some_and(|count| count <= 0.0)
        });
    }
    keys.unsupported("rotary_emb_scale_base", |_| false);
    let mut sizes = Sizes::named(keys, ["n_embd", "n_head", "n_layer", "n_inner"], 2048);
    let rows = keys.optional_count("n_positions", &LENGTH).unwrap_or(2048);
    sizes.len = rows;
    let multiple = keys
        .optional_count("pad_vocab_size_multiple", &LENGTH)
        .unwrap_or(1);
    sizes.vocab = sizes.vocab.next_multiple_of(multiple);
    let norm = layer_norm(keys.positive("layer_norm_epsilon", 1e-5));
    let kinds = [
        ("swiglu", (Activation::Silu, true)),
        ("geglu", (Activation::Gelu, true)),
        ("glu", (Activation::Sigmoid, true)),
        ("gelu", (Activation::Gelu, false)),
        ("gelu_new", (Activation::GeluTanh, false)),
        ("gelu_fast", (Activation::GeluTanh, false)),
        ("gelu_pytorch_tanh", (Activation::GeluTanh, false)),
    ];
    let (activation, gated) = keys
        .one_of("activation_function", &kinds)
        .unwrap_or(kinds[3].1);
    let ffn = Ffn {
        gated,
        up_bias: keys.flag("mlp_fc1_bias", true),
        down_bias: keys.flag("mlp_fc2_bias", true),
        ..sizes.ffn(activation)
    };
    let mut embed = sizes.embed(norm);
    embed.segments = segments(keys, 2);
    let fraction = match keys.get("rotary_emb_fraction").map(Value::as_f64) {
        None | Some(Some(0.0)) => None,
        _ => keys.optional_positive("rotary_emb_fraction"),
    };
    let position = if let Some(fraction) = fraction {
        // Scaled by each sequence's own length beyond the trained one, and not before: so the trained one is the longest.
        if keys.has("rotary_scaling_factor") {
            let trained = keys.optional_count("max_trained_positions", &LENGTH);
            sizes.len = sizes.len.min(trained.unwrap_or(2048));
        }
        let mut rotary = rotary(
            keys,
            None,
            keys.positive("rotary_emb_base", 10_000.0),
            sizes.head_width,
            fraction,
        );
        rotary.interleaved = keys.flag("rotary_emb_interleaved", false);
        Position::Rotary(rotary)
    } else {
        embed.positions = Some(Positions { rows, offset: 0 });
        Position::None
    };
    let qkv_bias = keys.flag("qkv_proj_bias", true);
    let attention = Attention {
        qkv_bias,
        output_bias: qkv_bias,
        ..sizes.attention(position)
    };
    sizes.encoder(embed, &post_norm(norm, attention, ffn))
}

/// GTE, as transformers 5 has it (`gte`) and as Alibaba-NLP/new-impl publishes it (`new`).
fn gte(keys: &Keys, family: Family) -> Encoder {
    let mut sizes = Sizes::read(keys);
    same_head_width(keys, &sizes);
    let kinds = [("layer_norm", NormKind::Layer), ("rms_norm", NormKind::Rms)];
    let kind = keys
        .one_of("layer_norm_type", &kinds)
        .unwrap_or(NormKind::Layer);
    let norm = Norm {
        kind,
        eps: keys.positive("layer_norm_eps", 1e-12),
        bias: kind == NormKind::Layer,
    };
    let mut embed = sizes.embed(norm);
    embed.segments = segments(keys, 1);
    let is_rotary = keys.one_of(
        "position_embedding_type",
        &[("rope", true), ("absolute", false)],
    );
    let parameters = keys.object("rope_parameters");
    let scaling = keys.object("rope_scaling");
    let position = if is_rotary.unwrap_or(true) {
        let default = if family == Family::New {
            10_000.0
        } else {
            160_000.0
        };
        let theta = keys.positive("rope_theta", default);
        let settings = parameters.as_ref().or(scaling.as_ref());
        Position::Rotary(rotary(keys, settings, theta, sizes.head_width, 1.0))
    } else {
        embed.positions = Some(Positions {
            rows: sizes.len,
            offset: 0,
        });
        Position::None
    };
    let mut attention = sizes.attention(position);
    if keys.flag("logn_attention_scale", false) {
        if !keys.flag("logn_attention_clip1", false) {
            keys.fault("logn_attention_clip1", "scores that shrink for short sequences are not supported: expected true beside logn_attention_scale");
        }
        if sizes.len < 2 {
            keys.fault(
                "max_position_embeddings",
                "expected at least 2 beside logn_attention_scale",
            );
        }
        attention.log_scale = Some(sizes.len);
        // Scores grow beyond the trained length, up to what the angles are scaled for.
        let factor = scaling
            .as_ref()
            .and_then(|scaling| scaling.optional_positive("factor"));
        let len = sizes.len as f64 * f64::from(factor.unwrap_or(1.0).max(1.0));
        sizes.len = (len as usize).min(*LENGTH.end());
    }
    let ffn = Ffn {
        gated: true,
        up_bias: false,
        ..sizes.ffn(keys.activation("hidden_act", Activation::Gelu))
    };
    sizes.encoder(embed, &post_norm(norm, attention, ffn))
}

/// What an object of rotary settings asks of the angles.
#[derive(Clone, Copy)]
enum Scaling {
    None,
    Linear,
    Ntk,
}

/// Angles of rotary positions: `theta^(-2i/R)` for the first `R = fraction · head_width` channels, and their scaling.
///
/// # Source
/// Su et al., arXiv:2104.09864, §3.2.2; `ntk` as Alibaba-NLP/new-impl has it: theta grows by `f`, and the angles
/// shrink by `f^(2/R)`. `dynamic` angles change beyond the trained length only, which is the longest read here.
fn rotary(
    keys: &Keys,
    settings: Option<&Keys>,
    theta: f32,
    head_width: usize,
    fraction: f32,
) -> Rotary {
    let (mut theta, mut fraction, mut factor, mut scaling) = (theta, fraction, 1.0, Scaling::None);
    if let Some(keys) = settings {
        theta = keys.positive("rope_theta", theta);
        fraction = keys.positive("partial_rotary_factor", fraction);
        let kinds = [
            ("default", Scaling::None),
            ("linear", Scaling::Linear),
            ("dynamic", Scaling::None),
            ("ntk", Scaling::Ntk),
        ];
        let key = if keys.has("rope_type") {
            "rope_type"
        } else {
            "type"
        };
        scaling = keys.one_of(key, &kinds).unwrap_or(Scaling::None);
        keys.unsupported("mixed_b", |_| false);
        if !matches!(scaling, Scaling::None) {
            factor = keys.optional_positive("factor").unwrap_or_else(|| {
                keys.fault("factor", "expected a number above 0, found nothing");
                1.0
            });
        }
    }
    let turned = (head_width as f32 * fraction.min(1.0)) as usize;
    if turned == 0 || turned % 2 == 1 {
        keys.fault("rotary positions", format_args!("expected an even number of turned channels of a head, found {turned} of {head_width}"));
    }
    if let Scaling::Ntk = scaling {
        theta *= factor;
    }
    let shrink = match scaling {
        Scaling::None => 1.0,
        Scaling::Linear => factor,
        Scaling::Ntk => factor.powf(2.0 / turned.max(1) as f32),
    };
    // In the precision, and the order, of the reference code.
    let frequency = |pair: usize| 1.0 / theta.powf(2.0 * pair as f32 / turned as f32) / shrink;
    Rotary {
        frequencies: (0..turned / 2).map(frequency).collect(),
        amplitude: 1.0,
        interleaved: false,
    }
}
