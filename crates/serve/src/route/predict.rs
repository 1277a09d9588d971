use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::Input;
use cloze_runtime::predict::Label;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Request, State, start};
use crate::error::ErrorBody;
use crate::input::{Body, Item, Taking};
use crate::model::of_text;
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
    let able = |model: &Model| model.classifier().is_ok() || model.by_windows().is_some();
    let model = state.able(body.model.as_deref(), able)?;
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
    if model.by_windows().is_some() {
        if body.raw_scores {
            return Err(Fault::Validation(
                "`raw_scores`: the model labels texts by their windows or features, whose scores are as they are; leave it out"
                    .to_owned(),
            ));
        }
        let predictions = by_windows(&mut request, items, &body.taking).await?;
        return Ok(request.answer(answered(predictions, is_list)));
    }
    let classifier = model.classifier()?;
    let answers = request
        .compute("inputs", items, body.taking, Wanted::Logits)
        .await?;
    let predictions: Vec<Vec<Prediction>> = answers
        .iter()
        .map(|answer| {
            let scores = if body.raw_scores {
                answer.values.to_vec()
            } else {
                classifier.scores(&answer.values)
            };
            let ranked = classifier.ranked(scores).into_iter();
            ranked.map(Prediction::from).collect()
        })
        .collect();
    Ok(request.answer(answered(predictions, is_list)))
}

impl From<Label> for Prediction {
    fn from(Label { label, score }: Label) -> Self {
        Self { score, label }
    }
}

fn answered(mut predictions: Vec<Vec<Prediction>>, is_list: bool) -> Predictions {
    if is_list {
        Predictions::Many(predictions)
    } else {
        Predictions::One(predictions.swap_remove(0))
    }
}

/// The labels of texts or pairs, each by all of its windows.
async fn by_windows(
    request: &mut Request<'_>,
    items: Vec<Item>,
    taking: &Taking,
) -> Result<Vec<Vec<Prediction>>, Fault> {
    if taking.prompt_name.is_some() {
        return Err(Fault::Validation(
            "`prompt_name`: the model makes no embeddings and has no prompts".to_owned(),
        ));
    }
    let count = items.len();
    let texts: Vec<(String, Option<String>)> = items
        .into_iter()
        .map(|item| match item {
            Item::Text(text) => (text, None),
            Item::Pair(first, second) => (first, Some(second)),
            Item::Ids(_) => unreachable!("a request has texts"),
        })
        .collect();
    request.add_characters(
        texts
            .iter()
            .flat_map(|(first, second)| [first].into_iter().chain(second)),
    );
    let texts = Arc::new(texts);
    let (own, taking) = (texts.clone(), taking.clone());
    let cut = move |model: &Model| {
        let labeller = model.by_windows().expect("as asked before");
        let long = model.long(&taking);
        let cut = |text| labeller.encode(input(text), long).map_err(of_text);
        own.iter().map(cut).collect()
    };
    let windows = request.windows("inputs", count, cut).await?;
    let vectors = request.run(&windows, Wanted::Logits).await?;
    let decode = move |model: &Model| {
        let labeller = model.by_windows().expect("as asked before");
        let each = texts.iter().zip(&windows).zip(&vectors);
        each.map(|((text, windows), vectors)| {
            let vectors: Vec<Vec<f32>> = vectors.iter().map(|x| x.as_ref().to_vec()).collect();
            let labels = labeller.decode(input(text), windows, &vectors);
            let labels = labels.map_err(of_text)?.into_iter();
            Ok(labels.map(Prediction::from).collect())
        })
        .collect()
    };
    request.apart(decode).await
}

fn input((first, second): &(String, Option<String>)) -> Input<'_> {
    Input {
        prompt: None,
        first,
        second: second.as_deref(),
    }
}
