use std::collections::BTreeMap;

use axum::Json;
use cloze_runtime::model::TextEncoder;
use cloze_spec::sentence::{Module, PoolingMode};
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use crate::task::Task;

/// The first model and the server's limits.
#[derive(Serialize, ToSchema)]
pub struct Info {
    model_id: String,
    model_sha: Option<String>,
    model_dtype: &'static str,
    served_model_name: String,
    model_type: ModelType,
    max_concurrent_requests: usize,
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: Option<usize>,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    /// Dimensions of an embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    /// Names of the model's prompts.
    prompts: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Embedding {
        pooling: &'static str,
    },
    Classifier(Labels),
    Reranker(Labels),
    #[serde(rename = "fill-mask")]
    FillMask {
        mask_token: String,
    },
    #[serde(rename = "token-classification")]
    TokenClassification(Labels),
    #[serde(rename = "question-answering")]
    QuestionAnswering {},
    Recommendation {
        items: usize,
    },
}

/// Labels by number, and numbers by label.
#[derive(Serialize, ToSchema)]
struct Labels {
    id2label: BTreeMap<String, String>,
    label2id: BTreeMap<String, usize>,
}

/// What is served, and within what limits
#[utoipa::path(get, path = "/info", responses((status = 200, description = "The first model and the limits", body = Info)))]
pub async fn info(state: State) -> Json<Info> {
    let model = state.first();
    let limits = model.limits();
    let encoder = model.encoder().ok();
    Json(Info {
        model_id: model.name().to_owned(),
        model_sha: None,
        model_dtype: model.dtype(),
        served_model_name: model.name().to_owned(),
        model_type: match model.task() {
            Task::Embed(encoder) => ModelType::Embedding {
                pooling: pooling(encoder),
            },
            Task::Label(classifier) if classifier.labels().len() == 1 => {
                ModelType::Reranker(labels(classifier.labels()))
            }
            Task::Label(classifier) => ModelType::Classifier(labels(classifier.labels())),
            Task::Windows(names, _) => ModelType::Classifier(labels(names)),
            Task::Sparse(..) => ModelType::Embedding { pooling: "splade" },
            Task::Fill(filler, _) => ModelType::FillMask {
                mask_token: filler.mask().to_owned(),
            },
            Task::Entities(labeller) => ModelType::TokenClassification(labels(labeller.labels())),
            Task::Answer(_) => ModelType::QuestionAnswering {},
            Task::Recommend(recommender) => ModelType::Recommendation {
                items: recommender.vocabulary().len(),
            },
        },
        // Tokens are counted, not requests: as many requests as have one token each.
        max_concurrent_requests: limits.waiting_tokens,
        max_input_length: model.task().max_len(),
        max_batch_tokens: limits.batch_tokens,
        max_batch_requests: None,
        max_client_batch_size: limits.client_batch_size,
        auto_truncate: limits.auto_truncate,
        tokenization_workers: limits.tokenizers,
        version: env!("CARGO_PKG_VERSION"),
        dimensions: encoder.map(TextEncoder::dimensions),
        prompts: encoder.map_or_else(Vec::new, |encoder| {
            encoder.embedder().prompts.keys().cloned().collect()
        }),
    })
}

fn labels(labels: &[String]) -> Labels {
    let labels = || labels.iter().enumerate();
    Labels {
        id2label: labels()
            .map(|(id, label)| (id.to_string(), label.clone()))
            .collect(),
        label2id: labels().map(|(id, label)| (label.clone(), id)).collect(),
    }
}

/// The first way of pooling, as text-embeddings-inference names it.
fn pooling(encoder: &TextEncoder) -> &'static str {
    let modules = &encoder.embedder().modules;
    let mode = modules.iter().find_map(|module| match module {
        Module::Pooling(pooling) => pooling.modes.first(),
        Module::Dense(_) | Module::Normalize => None,
    });
    match mode {
        Some(PoolingMode::First) => "cls",
        Some(PoolingMode::Last) => "last_token",
        Some(PoolingMode::Max) => "max",
        Some(PoolingMode::MeanSqrtLen) => "mean_sqrt_len",
        Some(PoolingMode::WeightedMean) => "weighted_mean",
        Some(PoolingMode::Mean) | None => "mean",
    }
}
