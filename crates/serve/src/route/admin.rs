//! What operators ask: which models there are, and to change them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use cloze_runtime::model::TextEncoder;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{bearer, is_same};
use crate::error::ErrorBody;
use crate::input::Body;
use crate::registry::{Change, Registry};
use crate::{Fault, Model};

/// The routes of operators, behind their token.
pub fn router(registry: Arc<Registry>) -> (axum::Router, OpenApi) {
    let (router, description) = OpenApiRouter::new()
        .routes(routes!(list, load))
        .routes(routes!(swap, unload))
        .split_for_parts();
    let router = router
        .route_layer(from_fn_with_state(registry.clone(), require))
        .with_state(registry);
    (router, description)
}

async fn require(State(registry): State<Arc<Registry>>, request: Request, next: Next) -> Response {
    if is_same(bearer(request.headers()), registry.token()) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

/// A model, and what it is doing.
#[derive(Serialize, ToSchema)]
pub struct Served {
    name: String,
    dtype: &'static str,
    /// Longest input in tokens.
    max_input_length: usize,
    /// Dimensions of an embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    /// Tokens waiting or being computed.
    tokens_under_way: usize,
}

/// Which folder is to be loaded, and under which name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    name: String,
    /// Below the folder of `--models-dir`.
    folder: String,
}

/// Which folder is to be loaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// Below the folder of `--models-dir`.
    folder: String,
}

fn served(registry: &Registry) -> Json<Vec<Served>> {
    let models = registry.models();
    let served = models.iter().map(|model: &Arc<Model>| Served {
        name: model.name().to_owned(),
        dtype: model.dtype(),
        max_input_length: model.task().max_len(),
        dimensions: model.encoder().ok().map(TextEncoder::dimensions),
        tokens_under_way: model.queue().under_way(),
    });
    Json(served.collect())
}

/// The models that are served; the first answers where a request names none
#[utoipa::path(get, path = "/admin/models", responses((status = 200, description = "All of them", body = Vec<Served>)))]
pub async fn list(State(registry): State<Arc<Registry>>) -> Json<Vec<Served>> {
    served(&registry)
}

/// Serve one more model
#[utoipa::path(
    post, path = "/admin/models", request_body = LoadRequest,
    responses(
        (status = 200, description = "All models, the new one among them", body = Vec<Served>),
        (status = "4XX", description = "A name that is taken, or a folder that is no model", body = ErrorBody),
        (status = 507, description = "Not enough memory", body = ErrorBody),
    )
)]
pub async fn load(
    State(registry): State<Arc<Registry>>,
    Body(body): Body<LoadRequest>,
) -> Result<Json<Vec<Served>>, Fault> {
    let LoadRequest { name, folder } = body;
    let change = Change::Load { name, folder };
    registry.clone().change(change).await?;
    Ok(served(&registry))
}

/// Serve another folder under a model's name, without losing a request: answered when the old one has answered its last
#[utoipa::path(
    put, path = "/admin/models/{name}", request_body = SwapRequest,
    params(("name" = String, Path, description = "What clients call it")),
    responses(
        (status = 200, description = "All models", body = Vec<Served>),
        (status = "4XX", description = "No such model, or a folder that is none", body = ErrorBody),
        (status = 507, description = "Not enough memory for both", body = ErrorBody),
    )
)]
pub async fn swap(
    State(registry): State<Arc<Registry>>,
    Path(name): Path<String>,
    Body(SwapRequest { folder }): Body<SwapRequest>,
) -> Result<Json<Vec<Served>>, Fault> {
    let change = Change::Swap { name, folder };
    registry.clone().change(change).await?;
    Ok(served(&registry))
}

/// Serve a model no longer: answered when it has answered its last request
#[utoipa::path(
    delete, path = "/admin/models/{name}",
    params(("name" = String, Path, description = "What clients call it")),
    responses(
        (status = 200, description = "The models that are left", body = Vec<Served>),
        (status = "4XX", description = "No such model, or the only one", body = ErrorBody),
    )
)]
pub async fn unload(
    State(registry): State<Arc<Registry>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Served>>, Fault> {
    registry.clone().change(Change::Unload { name }).await?;
    Ok(served(&registry))
}
