//! What follows the last layer: the class named in `architectures`, if the weights have it.

use serde_json::Value;

use super::Tensors;
use super::family::Family;
use super::keys::{Keys, ROWS, WIDTH, shown};
use super::names::{Prefix, head_names};
use crate::encoder::{
    Activation, Encoder, Head, Layer, Norm, NormKind, Output, Pool, Problem, Sequence, Task,
    Transform,
};

/// The heads that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MaskedToken,
    Sequence,
    Token,
    Span,
    /// The pooler alone.
    Vector,
}

impl Kind {
    pub(super) fn of(task: &Task) -> Self {
        match task {
            Task::Vector => Self::Vector,
            Task::MaskedToken => Self::MaskedToken,
            Task::Sequence(_) => Self::Sequence,
            Task::Token { .. } => Self::Token,
            Task::Span => Self::Span,
        }
    }

    /// What its class names end with.
    pub(super) fn class(self) -> &'static str {
        let class = CLASSES.iter().find(|(_, kind)| *kind == self);
        class.map_or("Model", |(end, _)| end)
    }
}

/// Ends of class names.
const CLASSES: [(&str, Kind); 4] = [
    ("ForMaskedLM", Kind::MaskedToken),
    ("ForSequenceClassification", Kind::Sequence),
    ("ForTokenClassification", Kind::Token),
    ("ForQuestionAnswering", Kind::Span),
];

/// The values of `problem_type`.
pub(super) const PROBLEMS: [(&str, Problem); 3] = [
    ("single_label_classification", Problem::SingleLabel),
    ("multi_label_classification", Problem::MultiLabel),
    ("regression", Problem::Regression),
];

/// The first of the classes that the settings name.
pub(super) fn architecture<'a>(keys: &Keys<'a>) -> Option<&'a str> {
    let class = keys.list("architectures")?.first()?;
    if !class.is_string() {
        keys.fault(
            "architectures",
            format_args!("expected names of classes, found {}", shown(class)),
        );
    }
    class.as_str()
}

/// The head that `kind` of settings and weights have.
///
/// A class whose head the weights lack is a body: many folders for embeddings still name the class they were trained as.
fn kind(keys: &Keys, family: Family, tensors: Option<&Tensors>) -> Option<Kind> {
    let class = architecture(keys);
    let claimed = class.and_then(|class| {
        let ends = |(end, kind): &(&str, Kind)| class.ends_with(end).then_some(*kind);
        let pretraining = class.ends_with("ForPreTraining") && family != Family::Electra;
        CLASSES
            .iter()
            .find_map(ends)
            .or(pretraining.then_some(Kind::MaskedToken))
    });
    let Some(tensors) = tensors else {
        return claimed;
    };
    let prefix = Prefix::find(family, tensors);
    let has = |kind: &Kind| {
        head_names(family, *kind).is_some_and(|names| names.is_in(*kind, tensors, &prefix))
    };
    let candidates = match (class, claimed) {
        (_, Some(kind)) => vec![kind],
        (Some(_), None) => Vec::new(),
        // Settings older than the key: what the weights hold.
        (None, None) => vec![Kind::Span, Kind::MaskedToken, Kind::Sequence, Kind::Token],
    };
    let is_apart = |kind: &Kind| {
        *kind != Kind::Sequence
            || class.is_some()
            || head_names(family, Kind::Sequence)
                .is_some_and(|names| names.has_transform(tensors, &prefix))
    };
    let found = candidates.into_iter().filter(is_apart).find(has);
    found.or_else(|| Some(Kind::Vector).filter(has))
}

/// The head, if there is one; faults go to `keys`.
pub(super) fn head(
    keys: &Keys,
    family: Family,
    encoder: &Encoder,
    tensors: Option<&Tensors>,
) -> Option<Head> {
    let kind = kind(keys, family, tensors)?;
    Some(of_kind(kind, keys, family, encoder, tensors))
}

/// The head of a kind that the family has; faults go to `keys`.
pub(super) fn of_kind(
    kind: Kind,
    keys: &Keys,
    family: Family,
    encoder: &Encoder,
    tensors: Option<&Tensors>,
) -> Head {
    let width = encoder.width;
    let dense = |activation| Transform {
        width,
        bias: true,
        activation,
        norm: None,
    };
    let pool = match family {
        Family::ModernBert => stated_pool(keys, Pool::First),
        Family::Mixer => stated_pool(keys, Pool::Mean),
        _ => Pool::First,
    };
    let transform = if family == Family::ModernBert {
        Some(modernbert_transform(keys, width))
    } else {
        match kind {
            Kind::MaskedToken => Some(masked_token_transform(keys, family, encoder, tensors)),
            Kind::Sequence => Some(dense(sequence_activation(keys, family, width))),
            Kind::Vector => Some(dense(Activation::Tanh)),
            Kind::Token | Kind::Span => None,
        }
    };
    let outputs = |outputs| Output {
        outputs,
        bias: true,
        tied: false,
    };
    let (task, output) = match kind {
        Kind::Vector => (Task::Vector, None),
        Kind::Span => {
            span_outputs(keys);
            (Task::Span, Some(outputs(2)))
        }
        Kind::MaskedToken => {
            let output = Output {
                outputs: encoder.embed.vocab,
                bias: family != Family::ModernBert || keys.flag("decoder_bias", true),
                tied: is_tied(keys, family, encoder, tensors),
            };
            (Task::MaskedToken, Some(output))
        }
        Kind::Sequence => {
            let labels = labels(keys, family, kind, tensors);
            let output = outputs(labels.len());
            let problem = problem(keys, labels.len());
            (Task::Sequence(Sequence { labels, problem }), Some(output))
        }
        Kind::Token => {
            let labels = labels(keys, family, kind, tensors);
            let output = outputs(labels.len());
            (Task::Token { labels }, Some(output))
        }
    };
    let is_pooled = matches!(kind, Kind::Sequence | Kind::Vector);
    Head {
        task,
        pool: is_pooled.then_some(pool),
        transform,
        output,
    }
}

fn modernbert_transform(keys: &Keys, width: usize) -> Transform {
    Transform {
        width,
        bias: keys.flag("classifier_bias", false),
        activation: keys.activation("classifier_activation", Activation::Gelu),
        norm: Some(Norm {
            kind: NormKind::Layer,
            eps: keys.positive("norm_eps", 1e-5),
            bias: keys.flag("norm_bias", false),
        }),
    }
}

fn stated_pool(keys: &Keys, default: Pool) -> Pool {
    let pools = [("cls", Pool::First), ("mean", Pool::Mean)];
    keys.one_of("classifier_pooling", &pools).unwrap_or(default)
}

/// Before scores of the vocabulary; some families have one function whatever `hidden_act` says.
fn masked_token_transform(
    keys: &Keys,
    family: Family,
    encoder: &Encoder,
    tensors: Option<&Tensors>,
) -> Transform {
    let stated = || keys.activation("hidden_act", Activation::Gelu);
    let body = match &encoder.layers[0] {
        Layer::Attention(layer) => layer.ffn.activation,
        Layer::Mixer(_) => stated(),
    };
    let activation = match family {
        Family::Roberta | Family::Mpnet | Family::Electra | Family::Gte => Activation::Gelu,
        Family::Bert | Family::DistilBert | Family::Albert | Family::DebertaV2 | Family::New => {
            body
        }
        Family::Jina | Family::JinaQkNorm => stated(),
        // Published: the gate's own function if it is swish, else GELU.
        Family::NomicBert if keys.has("n_embd") && matches!(body, Activation::Sigmoid) => {
            Activation::Gelu
        }
        Family::NomicBert | Family::ModernBert | Family::Mixer => body,
    };
    let is_late = || match tensors {
        Some(tensors) => tensors
            .keys()
            .any(|name| name.contains("lm_predictions.lm_head.")),
        None => !keys.flag("legacy", true),
    };
    let width = match family {
        Family::DebertaV2 if is_late() => encoder.width,
        _ => encoder.embed.width,
    };
    Transform {
        width,
        bias: true,
        activation,
        norm: encoder.embed.norm,
    }
}

/// Whether the token table gives the scores: unless the settings say otherwise and the weights have a map.
fn is_tied(keys: &Keys, family: Family, encoder: &Encoder, tensors: Option<&Tensors>) -> bool {
    let is_tied = keys.flag("tie_word_embeddings", true);
    let late = family == Family::DebertaV2
        && tensors.is_some_and(|tensors| {
            tensors
                .keys()
                .any(|name| name.contains("lm_predictions.lm_head."))
        });
    if late && encoder.embed.width != encoder.width {
        keys.fault(
            "embedding_size",
            format_args!(
                "expected hidden_size, {}, beside this masked-token head, found {}",
                encoder.width, encoder.embed.width
            ),
        );
    }
    is_tied || late
}

fn sequence_activation(keys: &Keys, family: Family, width: usize) -> Activation {
    match family {
        Family::Bert
        | Family::Roberta
        | Family::Albert
        | Family::Mpnet
        | Family::NomicBert
        | Family::Jina
        | Family::JinaQkNorm
        | Family::Gte
        | Family::New
        | Family::ModernBert
        | Family::Mixer => Activation::Tanh,
        Family::Electra => Activation::Gelu,
        Family::DistilBert => Activation::Relu,
        Family::DebertaV2 => {
            if let Some(found) = keys.optional_count("pooler_hidden_size", &WIDTH)
                && found != width
            {
                keys.fault(
                    "pooler_hidden_size",
                    format_args!("expected hidden_size, {width}, found {found}"),
                );
            }
            keys.activation("pooler_hidden_act", Activation::Gelu)
        }
    }
}

fn span_outputs(keys: &Keys) {
    let listed = keys
        .object("id2label")
        .map(|labels| labels.entries().count());
    let stated = listed.or_else(|| keys.optional_count("num_labels", &ROWS));
    if let Some(found) = stated.filter(|found| *found != 2) {
        keys.fault(
            "id2label",
            format_args!("expected 2 outputs of a span head, first and last, found {found}"),
        );
    }
}

/// Names of the outputs: `id2label`, else as many as `num_labels` or the weights have, else two.
fn labels(keys: &Keys, family: Family, kind: Kind, tensors: Option<&Tensors>) -> Vec<String> {
    let numbered = |count: usize| (0..count).map(|label| format!("LABEL_{label}")).collect();
    let stated = keys.optional_count("num_labels", &ROWS);
    let found = || {
        let tensors = tensors?;
        let names = head_names(family, kind)?;
        names.outputs(tensors, &Prefix::find(family, tensors))
    };
    let Some(table) = keys.object("id2label") else {
        return numbered(stated.or_else(found).unwrap_or(2).min(1 << 20));
    };
    // Early releases saved the default names of two labels beside the count that was in force.
    if let Some(count) = stated
        && count != table.entries().count()
        && found() == Some(count)
    {
        return numbered(count);
    }
    let mut labels: Vec<Option<String>> = vec![None; table.entries().count()];
    for (id, label) in table.entries() {
        let place = id.parse::<usize>().ok().and_then(|id| labels.get_mut(id));
        let text = match label {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        match (place, text) {
            (Some(place @ None), Some(text)) => *place = Some(text),
            _ => keys.fault(
                "id2label",
                format_args!(
                    "expected texts numbered from 0 without gaps, found {}: {}",
                    shown(&format_args!("{id:?}")),
                    shown(label)
                ),
            ),
        }
    }
    if labels.is_empty() {
        keys.fault("id2label", "expected at least one label, found none");
    }
    labels.into_iter().flatten().collect()
}

fn problem(keys: &Keys, labels: usize) -> Problem {
    // What readers of these folders do; the package itself writes "regression" once it has trained one.
    let default = if labels == 1 {
        Problem::MultiLabel
    } else {
        Problem::SingleLabel
    };
    keys.one_of("problem_type", &PROBLEMS).unwrap_or(default)
}
