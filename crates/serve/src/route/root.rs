use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{State, answer, embed, embed_sparse, entities, fill, predict, recommend, similarity};
use crate::Fault;
use crate::input::Body;
use crate::task::Task;

/// What clients ask that know an address and no routes, `huggingface_hub.InferenceClient` and Amazon `SageMaker` among them: what the first model
/// does; of one for embeddings similarities where the inputs are a sentence and others.
pub async fn root(state: State, headers: HeaderMap, Body(body): Body<Value>) -> Response {
    let similarity = body.get("inputs").is_some_and(Value::is_object);
    let model = state.first().clone();
    macro_rules! ask {
        ($route:path) => {
            match parsed(body) {
                Ok(body) => $route(state, headers, body).await.into_response(),
                Err(fault) => fault.into_response(),
            }
        };
    }
    match model.task() {
        Task::Embed(_) if similarity => ask!(similarity::similarity),
        Task::Embed(_) => ask!(embed::embed),
        Task::Label(_) | Task::Windows(..) => ask!(predict::predict),
        Task::Fill(..) => ask!(fill::fill),
        Task::Sparse(..) => ask!(embed_sparse::embed_sparse),
        Task::Entities(_) => ask!(entities::entities),
        Task::Answer(_) => ask!(answer::answer),
        Task::Recommend(_) => ask!(recommend::recommend),
    }
}

fn parsed<T: DeserializeOwned>(body: Value) -> Result<Body<T>, Fault> {
    let parsed = serde_json::from_value(body).map(Body);
    parsed.map_err(|error| Fault::Validation(format!("body: {error}")))
}
