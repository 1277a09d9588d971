use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::State;

/// A batch takes a second or so; one that takes this long will not end.
const PATIENCE: Duration = Duration::from_mins(1);

fn status(is_well: bool) -> StatusCode {
    if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn is_healthy(state: &State) -> bool {
    let mut models = state.models.iter();
    models.all(|model| model.queue().is_healthy(PATIENCE))
}

/// Whether every model's worker lives and gets on
#[utoipa::path(
    get, path = "/health",
    responses((status = 200, description = "All is well"), (status = 503, description = "A worker is dead or stuck"))
)]
pub async fn health(state: State) -> StatusCode {
    status(is_healthy(&state))
}

/// Whether requests should be sent here
#[utoipa::path(
    get, path = "/ready",
    responses((status = 200, description = "Send them"), (status = 503, description = "Not well, or stopping"))
)]
pub async fn ready(state: State) -> StatusCode {
    status(!state.is_stopping.load(Ordering::Relaxed) && is_healthy(&state))
}

/// As `/health`, by the name that Amazon SageMaker asks for
#[utoipa::path(
    get, path = "/ping",
    responses((status = 200, description = "All is well"), (status = 503, description = "A worker is dead or stuck"))
)]
pub async fn ping(state: State) -> StatusCode {
    status(is_healthy(&state))
}

/// Metrics, as Prometheus reads them
#[utoipa::path(
    get, path = "/metrics",
    responses(
        (status = 200, description = "Counters, gauges and histograms", body = String, content_type = "text/plain"),
        (status = 404, description = "Metrics are not kept"),
    )
)]
pub async fn metrics(state: State) -> Response {
    let Some(print) = &state.metrics else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], print()).into_response()
}
