use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, shaped, start};
use crate::Fault;
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::{Body, Input, Taking};
use crate::queue::Wanted;

/// Texts whose embeddings are wanted, as for the OpenAI API.
#[derive(Deserialize, ToSchema)]
pub struct EmbeddingsRequest {
    input: Input,
    /// One of `/v1/models`; with one model only, any name will do.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    encoding_format: Format,
    /// Keep the first of the dimensions.
    #[serde(default)]
    dimensions: Option<usize>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in base 64.
    Base64,
}

/// Embeddings in the order of the texts.
#[derive(Serialize, ToSchema)]
pub struct Embeddings {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct Embedding {
    object: &'static str,
    embedding: Vector,
    index: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize, ToSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Embeddings of texts, as the OpenAI API gives them
#[utoipa::path(
    post, path = "/v1/embeddings", request_body = EmbeddingsRequest,
    responses(
        (status = 200, description = "An embedding for each text", body = Embeddings),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn embeddings(
    state: State,
    headers: HeaderMap,
    Body(body): Body<EmbeddingsRequest>,
) -> Result<Response, OpenAiFault> {
    let model = state.asked(body.model.as_deref())?;
    let encoder = model.encoder()?;
    let items = body.input.into_items();
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("input", items, Taking::default(), Wanted::Pooled)
        .await?;
    let data = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| {
            let vector = shaped(encoder, &answer.values, body.dimensions, true)?;
            let embedding = match body.encoding_format {
                Format::Float => Vector::Floats(vector),
                Format::Base64 => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Vector::Base64(BASE64_STANDARD.encode(bytes))
                }
            };
            Ok(Embedding {
                object: "embedding",
                embedding,
                index,
            })
        })
        .collect::<Result<_, Fault>>()?;
    let tokens = request.tokens();
    let model = model.name().to_owned();
    Ok(request.answer(Embeddings {
        object: "list",
        data,
        model,
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

/// The models that are served.
#[derive(Serialize, ToSchema)]
pub struct Models {
    object: &'static str,
    data: Vec<Served>,
}

#[derive(Serialize, ToSchema)]
struct Served {
    id: String,
    object: &'static str,
    owned_by: &'static str,
}

/// Names of the models
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "All of them", body = Models)))]
pub async fn models(state: State) -> Json<Models> {
    let served = state.models.iter().map(|model| Served {
        id: model.name().to_owned(),
        object: "model",
        owned_by: "cloze",
    });
    Json(Models {
        object: "list",
        data: served.collect(),
    })
}
