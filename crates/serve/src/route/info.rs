use axum::Json;
use cloze_spec::sentence::{Module, PoolingMode};
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use crate::Model;

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
    dimensions: usize,
    /// Names of the model's prompts.
    prompts: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Embedding { pooling: &'static str },
}

/// What is served, and within what limits
#[utoipa::path(get, path = "/info", responses((status = 200, description = "The first model and the limits", body = Info)))]
pub async fn info(state: State) -> Json<Info> {
    let model = state.first();
    let limits = model.limits();
    let encoder = model.encoder();
    Json(Info {
        model_id: model.name().to_owned(),
        model_sha: None,
        model_dtype: model.dtype(),
        served_model_name: model.name().to_owned(),
        model_type: ModelType::Embedding {
            pooling: pooling(model),
        },
        // Tokens are counted, not requests: as many requests as have one token each.
        max_concurrent_requests: limits.waiting_tokens,
        max_input_length: encoder.max_len(),
        max_batch_tokens: limits.batch_tokens,
        max_batch_requests: None,
        max_client_batch_size: limits.client_batch_size,
        auto_truncate: limits.auto_truncate,
        tokenization_workers: limits.tokenizers,
        version: env!("CARGO_PKG_VERSION"),
        dimensions: encoder.dimensions(),
        prompts: encoder.embedder().prompts.keys().cloned().collect(),
    })
}

/// The first way of pooling, as text-embeddings-inference names it.
fn pooling(model: &Model) -> &'static str {
    let modules = &model.encoder().embedder().modules;
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
