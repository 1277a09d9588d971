use axum::http::HeaderMap;
use axum::response::Response;
use cloze_runtime::predict::Label;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, start};
use crate::error::ErrorBody;
use crate::input::{Body, Item, Taking};
use crate::queue::Wanted;
use crate::{Fault, Model};

/// Texts or pairs to be labelled.
#[derive(Deserialize, ToSchema)]
pub struct PredictRequest {
    inputs: PredictInput,
    #[serde(flatten)]
    taking: Taking,
    /// The model's numbers as scores.
    #[serde(default)]
    raw_scores: bool,
    /// One of `/v1/models`; the first that labels texts if none.
    #[serde(default)]
    model: Option<String>,
}

/// A text, a pair, or a list of lists of one text or two.
#[derive(Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a pair of texts, or a list of lists of one text or two"
)]
enum PredictInput {
    One(String),
    Pair((String, String)),
    Many(Vec<Vec<String>>),
}

/// A label and its score.
#[derive(Serialize, ToSchema)]
pub struct Prediction {
    score: f32,
    label: String,
}

/// Of one, or of each of a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Predictions {
    One(Vec<Prediction>),
    Many(Vec<Vec<Prediction>>),
}

/// Labels of texts or pairs, from the highest score down: a list for one, a list of lists for a list
#[utoipa::path(
    post, path = "/predict", request_body = PredictRequest,
    responses(
        (status = 200, description = "The labels of one, or of each", body = Predictions),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn predict(
    state: State,
    headers: HeaderMap,
    Body(body): Body<PredictRequest>,
) -> Result<Response, Fault> {
    let able = |model: &Model| model.classifier().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    let classifier = model.classifier()?;
    let (items, is_list) = match body.inputs {
        PredictInput::One(text) => (vec![Item::Text(text)], false),
        PredictInput::Pair((first, second)) => (vec![Item::Pair(first, second)], false),
        PredictInput::Many(lists) => {
            let items = lists.into_iter().map(|mut texts| {
                let last = texts.pop();
                match (texts.pop(), last, texts.is_empty()) {
                    (None, Some(text), _) => Ok(Item::Text(text)),
                    (Some(first), Some(second), true) => Ok(Item::Pair(first, second)),
                    _ => Err(Fault::Validation(
                        "`inputs`: expected lists of one text or two, found one of another length"
                            .to_owned(),
                    )),
                }
            });
            (items.collect::<Result<_, _>>()?, true)
        }
    };
    let mut request = start(model, &headers, items.len())?;
    let answers = request
        .compute("inputs", items, body.taking, Wanted::Logits)
        .await?;
    let mut predictions: Vec<Vec<Prediction>> = answers
        .iter()
        .map(|answer| {
            let scores = if body.raw_scores {
                answer.values.to_vec()
            } else {
                classifier.scores(&answer.values)
            };
            let ranked = classifier.ranked(scores).into_iter();
            ranked
                .map(|Label { label, score }| Prediction { score, label })
                .collect()
        })
        .collect();
    Ok(request.answer(if is_list {
        Predictions::Many(predictions)
    } else {
        Predictions::One(predictions.swap_remove(0))
    }))
}
