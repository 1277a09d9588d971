use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::Agreement;
use cloze_runtime::predict::Predict;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fill::WINDOWS;
use super::{OneOrMany, State, Texts, start};
use crate::Model;
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::Body;
use crate::model::of_text;
use crate::queue::Wanted;

/// Texts whose entities are wanted.
#[derive(Deserialize, ToSchema)]
pub struct EntitiesRequest {
    inputs: Texts,
    #[serde(default)]
    parameters: EntitiesParameters,
    /// One of `/v1/models`; the first that labels tokens if none.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
struct EntitiesParameters {
    #[serde(default)]
    aggregation_strategy: Strategy,
}

/// How neighbouring tokens become an entity.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    /// They do not.
    None,
    /// By each token's own label.
    Simple,
    /// By words, of which the first token decides.
    #[default]
    First,
    /// By words, of which the mean of all tokens decides.
    Average,
    /// By words, of which the surest token decides.
    Max,
}

/// A labelled stretch of a text.
#[derive(Serialize, ToSchema)]
pub struct EntityFound {
    /// The label, without `B-` or `I-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_group: Option<String>,
    /// The whole label, of a token that stays apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    score: f32,
    /// The characters, as the text has them.
    word: String,
    /// The first of them, counted in Unicode scalar values.
    start: u32,
    /// One past the last.
    end: u32,
}

/// Entities of texts, as the token classification pipeline gives them
///
/// Words are labelled as wholes unless `aggregation_strategy` is `simple` or `none`. Long texts are gone through in windows.
#[utoipa::path(
    post, path = "/v1/entities", request_body = EntitiesRequest,
    responses(
        (status = 200, description = "The entities of one text, or of each of a list, in order", body = OneOrMany<Vec<EntityFound>>),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn entities(
    state: State,
    headers: HeaderMap,
    Body(body): Body<EntitiesRequest>,
) -> Result<Response, OpenAiFault> {
    let able = |model: &Model| model.labeller().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    model.labeller()?;
    let (texts, is_list) = body.inputs.into_list();
    let mut request = start(model, &headers, texts.len())?;
    request.add_characters(&texts);
    let count = texts.len();
    let texts = Arc::new(texts);
    let cut = {
        let texts = texts.clone();
        move |model: &Model| {
            let labeller = model.labeller()?;
            let windows = |text: &String| labeller.encode(text.as_str().into(), WINDOWS);
            let windows: Result<_, _> = texts.iter().map(windows).collect();
            windows.map_err(of_text)
        }
    };
    let windows = request.windows("inputs", count, cut).await?;
    let answers = request.run(&windows, Wanted::Logits).await?;
    let agreement = match body.parameters.aggregation_strategy {
        Strategy::None => None,
        Strategy::Simple => Some(Agreement::Simple),
        Strategy::First => Some(Agreement::First),
        Strategy::Average => Some(Agreement::Average),
        Strategy::Max => Some(Agreement::Max),
    };
    let decode = move |model: &Model| {
        let labeller = model.labeller()?;
        let each = texts.iter().zip(&windows).zip(&answers);
        let each = each.map(|((text, windows), answers)| {
            let entities = labeller.entities(text, windows, answers, agreement);
            // Outside of entities: the pipeline leaves it out whether or not tokens stay apart.
            let entities = entities.into_iter().filter(|entity| entity.label != "O");
            let entities = entities.map(|entity| {
                let (group, alone) = match agreement {
                    Some(_) => (Some(entity.label), None),
                    None => (None, Some(entity.label)),
                };
                EntityFound {
                    entity_group: group,
                    entity: alone,
                    score: entity.score,
                    word: entity.text,
                    start: entity.chars.start,
                    end: entity.chars.end,
                }
            });
            entities.collect()
        });
        Ok(each.collect::<Vec<Vec<_>>>())
    };
    let found = request.apart(decode).await?;
    Ok(request.answer(OneOrMany::new(found, is_list)))
}
