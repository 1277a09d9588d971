use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::{Body, Input, Taking};
use crate::queue::Wanted;

/// Texts whose tokens are wanted one by one.
#[derive(Deserialize, ToSchema)]
pub struct EmbedAllRequest {
    inputs: Input,
    #[serde(flatten)]
    taking: Taking,
}

/// The last layer's vector of every token
#[utoipa::path(
    post, path = "/embed_all", request_body = EmbedAllRequest,
    responses(
        (status = 200, description = "For each text the vector of each token", body = Vec<Vec<Vec<f32>>>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn embed_all(
    state: State,
    headers: HeaderMap,
    Body(body): Body<EmbedAllRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.encoder().is_ok())?;
    let encoder = model.encoder()?;
    let items = body.inputs.into_items();
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("inputs", items, body.taking, Wanted::Tokens)
        .await?;
    let width = encoder.engine().encoder().width;
    let texts: Vec<Vec<&[f32]>> = answers
        .iter()
        .map(|answer| answer.values.chunks_exact(width).collect())
        .collect();
    Ok(request.answer(texts))
}
