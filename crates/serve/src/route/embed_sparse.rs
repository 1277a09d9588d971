use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::{Body, Input, Taking};
use crate::queue::Wanted;
use crate::task::pairs;

/// Texts whose tokens of the vocabulary are wanted.
#[derive(Deserialize, ToSchema)]
pub struct EmbedSparseRequest {
    inputs: Input,
    #[serde(flatten)]
    taking: Taking,
}

/// A token of the vocabulary and its weight.
#[derive(Serialize, ToSchema)]
pub struct SparseValue {
    index: u32,
    value: f32,
}

/// Which tokens of the vocabulary texts are about, and how much, by a model with a masked-token head (SPLADE)
#[utoipa::path(
    post, path = "/embed_sparse", request_body = EmbedSparseRequest,
    responses(
        (status = 200, description = "For each text the tokens of weight above 0", body = Vec<Vec<SparseValue>>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn embed_sparse(
    state: State,
    headers: HeaderMap,
    Body(body): Body<EmbedSparseRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.filler().is_ok())?;
    if model.filler().is_err() {
        // The words of text-embeddings-inference.
        let message = "Model is not an embedding model with SPLADE pooling";
        return Err(Fault::Backend(message.to_owned()));
    }
    let items = body.inputs.into_items();
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("inputs", items, body.taking, Wanted::Sparse)
        .await?;
    let sparse = |(index, value)| SparseValue { index, value };
    let texts: Vec<Vec<SparseValue>> = answers
        .iter()
        .map(|answer| pairs(&answer.values).map(sparse).collect())
        .collect();
    Ok(request.answer(texts))
}
