use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, shaped, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::{Body, Input, Taking};
use crate::queue::Wanted;
use crate::{Fault, Model};

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

/// How vectors are written down.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
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

/// An embedding as it is written down.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Vector {
    /// Numbers.
    Floats(Vec<f32>),
    /// Little-endian 32-bit floats in base 64.
    Base64(String),
}

impl Vector {
    /// Writes it down.
    pub fn new(vector: Vec<f32>, format: Format) -> Self {
        match format {
            Format::Float => Self::Floats(vector),
            Format::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Self::Base64(BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

/// What a request cost.
#[derive(Serialize, ToSchema)]
pub struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    /// So many tokens, all of them of the request.
    pub fn new(tokens: usize) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
        }
    }
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
    let able = |model: &Model| model.encoder().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
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
            let embedding = Vector::new(vector, body.encoding_format);
            Ok(Embedding {
                object: "embedding",
                embedding,
                index,
            })
        })
        .collect::<Result<_, Fault>>()?;
    let usage = Usage::new(request.tokens());
    Ok(request.answer(Embeddings {
        object: "list",
        data,
        model: model.name().to_owned(),
        usage,
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
    /// What it does, by the name that hubs have for it.
    task: &'static str,
    /// Longest input in tokens, or in items.
    max_input_length: usize,
    /// How a mask is spelled, where the model fills masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask_token: Option<String>,
}

/// Names of the models
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "All of them", body = Models)))]
pub async fn models(state: State) -> Json<Models> {
    let served = state.models.iter().map(|model| Served {
        id: model.name().to_owned(),
        object: "model",
        owned_by: "cloze",
        task: model.task().name(),
        max_input_length: model.task().max_len(),
        mask_token: model.filler().ok().map(|model| model.mask().to_owned()),
    });
    Json(Models {
        object: "list",
        data: served.collect(),
    })
}
