use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, shaped, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::{Body, Item, Taking};
use crate::queue::Wanted;

/// A sentence, and those to compare it with.
#[derive(Deserialize, ToSchema)]
pub struct SimilarityRequest {
    inputs: SimilarityInput,
    #[serde(default)]
    parameters: Taking,
}

#[derive(Deserialize, ToSchema)]
struct SimilarityInput {
    source_sentence: String,
    sentences: Vec<String>,
}

/// Cosines of a sentence with others
#[utoipa::path(
    post, path = "/similarity", request_body = SimilarityRequest,
    responses(
        (status = 200, description = "The cosine with each sentence", body = Vec<f32>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn similarity(
    state: State,
    headers: HeaderMap,
    Body(body): Body<SimilarityRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.encoder().is_ok())?;
    let encoder = model.encoder()?;
    let SimilarityInput {
        source_sentence,
        sentences,
    } = body.inputs;
    if sentences.is_empty() {
        return Err(Fault::Empty("sentences"));
    }
    let texts = std::iter::once(source_sentence).chain(sentences);
    let items: Vec<Item> = texts.map(Item::Text).collect();
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("sentences", items, body.parameters, Wanted::Pooled)
        .await?;
    // Normalised last, so that products are cosines.
    let dimensions = Some(encoder.dimensions());
    let vectors: Vec<Vec<f32>> = answers
        .iter()
        .map(|answer| shaped(encoder, &answer.values, dimensions, true))
        .collect::<Result<_, _>>()?;
    let (source, others) = vectors.split_first().expect("the source is one of them");
    let cosine = |other: &Vec<f32>| -> f32 { source.iter().zip(other).map(|(a, b)| a * b).sum() };
    let cosines: Vec<f32> = others.iter().map(cosine).collect();
    Ok(request.answer(cosines))
}
