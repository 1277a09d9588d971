use axum::http::HeaderMap;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{State, embed, predict, similarity};
use crate::Fault;
use crate::input::Body;

/// What clients ask that know an address and no routes, `huggingface_hub.InferenceClient` and Amazon `SageMaker` among them:
/// of a classifier labels; else similarities where the inputs are a sentence and others, and embeddings.
pub async fn root(
    state: State,
    headers: HeaderMap,
    Body(body): Body<Value>,
) -> Result<Response, Fault> {
    if state.first().classifier().is_ok() {
        predict::predict(state, headers, parsed(body)?).await
    } else if body.get("inputs").is_some_and(Value::is_object) {
        similarity::similarity(state, headers, parsed(body)?).await
    } else {
        embed::embed(state, headers, parsed(body)?).await
    }
}

fn parsed<T: DeserializeOwned>(body: Value) -> Result<Body<T>, Fault> {
    let parsed = serde_json::from_value(body).map(Body);
    parsed.map_err(|error| Fault::Validation(format!("body: {error}")))
}
