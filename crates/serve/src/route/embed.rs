use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, shaped, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::{Body, Input, Taking};
use crate::queue::Wanted;

/// Texts, and how their embeddings are wanted.
#[derive(Deserialize, ToSchema)]
pub struct EmbedRequest {
    inputs: Input,
    #[serde(flatten)]
    taking: Taking,
    /// Give vectors of length one.
    #[serde(default = "crate::input::yes")]
    normalize: bool,
    /// Keep the first of the dimensions, before normalising.
    #[serde(default)]
    dimensions: Option<usize>,
}

/// Embeddings of texts
#[utoipa::path(
    post, path = "/embed", request_body = EmbedRequest,
    responses(
        (status = 200, description = "An embedding for each text", body = Vec<Vec<f32>>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn embed(
    state: State,
    headers: HeaderMap,
    Body(body): Body<EmbedRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.encoder().is_ok())?;
    let encoder = model.encoder()?;
    let items = body.inputs.into_items();
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("inputs", items, body.taking, Wanted::Pooled)
        .await?;
    let vectors: Vec<Vec<f32>> = answers
        .iter()
        .map(|answer| shaped(encoder, &answer.values, body.dimensions, body.normalize))
        .collect::<Result<_, _>>()?;
    Ok(request.answer(vectors))
}
