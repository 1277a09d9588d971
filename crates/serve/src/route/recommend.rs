use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::ItemVocabulary;
use cloze_data::text::Encoding;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, check_top, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::Body;
use crate::queue::Wanted;
use crate::recommend::Choice;
use crate::task::pairs;
use crate::{Fault, Model};

/// Histories, and what may be recommended for them.
#[derive(Deserialize, ToSchema)]
pub struct RecommendRequest {
    history: Histories,
    /// Most recommendations for a history.
    #[serde(default = "ten", alias = "top_k")]
    k: usize,
    /// Leave a history's own items out; as the model was trained if null.
    #[serde(default)]
    exclude_seen: Option<bool>,
    /// Nothing but these items.
    #[serde(default)]
    allow: Option<Vec<ItemId>>,
    /// None of these items.
    #[serde(default)]
    deny: Vec<ItemId>,
    /// One of `/v1/models`; the first that recommends if none.
    #[serde(default)]
    model: Option<String>,
}

fn ten() -> usize {
    10
}

/// Items of a user, the oldest first, or such lists of several users; nobody need have been seen before.
#[derive(Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a list of item ids, or a list of such lists"
)]
enum Histories {
    Many(Vec<Vec<ItemId>>),
    One(Vec<ItemId>),
}

/// An item as the data calls it.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected an item's id, a text or an integer")]
enum ItemId {
    Text(String),
    Number(i64),
}

impl ItemId {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What comes next in each history.
#[derive(Serialize, ToSchema)]
pub struct Recommendations {
    object: &'static str,
    data: Vec<Recommended>,
    model: String,
    /// Items of `allow` that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_allow: Vec<String>,
    /// Items of `deny` that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_deny: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Recommended {
    index: usize,
    /// The best first; none where the model knows no item of the history.
    items: Vec<RecommendedItem>,
    /// Items of the history that the model does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct RecommendedItem {
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    score: f32,
}

/// What comes next in histories of users, known or never seen
#[utoipa::path(
    post, path = "/v1/recommend", request_body = RecommendRequest,
    responses(
        (status = 200, description = "The best items for each history", body = Recommendations),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn recommend(
    state: State,
    headers: HeaderMap,
    Body(body): Body<RecommendRequest>,
) -> Result<Response, OpenAiFault> {
    let able = |model: &Model| model.items().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    let recommender = model.items()?;
    let vocabulary = recommender.vocabulary();
    check_top("k", body.k)?;
    let histories = match body.history {
        Histories::Many(histories) => histories,
        Histories::One(history) => vec![history],
    };
    let mut request = start(model, &headers, histories.len())?;
    let (allow, unknown_allow) = match body.allow {
        None => (None, Vec::new()),
        Some(items) => {
            let (known, unknown) = known(vocabulary, items);
            if known.is_empty() {
                let found = unknown.first().map_or("no items".to_owned(), |first| {
                    format!("{} items, such as {first:?}", unknown.len())
                });
                return Err(OpenAiFault::from(Fault::Validation(format!(
                    "`allow`: expected items that the model knows, found {found}; `/v1/items` searches them"
                ))));
            }
            (Some(ascending(known)), unknown)
        }
    };
    let (deny, unknown_deny) = known(vocabulary, body.deny);
    let choice = Choice {
        top: body.k,
        exclude_seen: body.exclude_seen.unwrap_or(recommender.excludes_seen()),
        allow,
        deny: ascending(deny),
    };
    let mut unknown = Vec::with_capacity(histories.len());
    let mut rows = Vec::with_capacity(histories.len());
    for history in histories {
        let (known, left) = known(vocabulary, history);
        unknown.push(left);
        rows.push(known);
    }
    // A history without items that the model knows has none to be computed.
    let encoded = |ids: Vec<u32>| {
        let ids = (!ids.is_empty()).then_some(ids);
        let history = ids.map(|ids| Encoding {
            ids,
            ..Encoding::default()
        });
        history.into_iter().collect::<Vec<_>>()
    };
    let rows: Vec<Vec<Encoding>> = rows.into_iter().map(encoded).collect();
    let count = rows.len();
    let rows = request.windows("history", count, move |_| Ok(rows)).await?;
    let wanted = Wanted::Items(Arc::new(choice));
    let answers = request.run(&rows, wanted).await?;
    let item = |(token, score)| RecommendedItem {
        item: vocabulary.id(token).to_owned(),
        title: vocabulary.title(token).map(str::to_owned),
        score,
    };
    let data = answers.iter().zip(unknown).enumerate();
    let data = data.map(|(index, (values, unknown))| {
        let values = values.iter().flat_map(|values| pairs(values.as_ref()));
        Recommended {
            index,
            items: values.map(item).collect(),
            unknown,
        }
    });
    let data = data.collect();
    Ok(request.answer(Recommendations {
        object: "list",
        data,
        model: model.name().to_owned(),
        unknown_allow,
        unknown_deny,
    }))
}

/// Items that the model knows, as its tokens, and those that it does not, both in order.
fn known(vocabulary: &ItemVocabulary, items: Vec<ItemId>) -> (Vec<u32>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for id in items.into_iter().map(ItemId::into_text) {
        match vocabulary.index(&id) {
            Some(token) => known.push(token),
            None => unknown.push(id),
        }
    }
    (known, unknown)
}

/// Each once, so that equal wishes are the same.
fn ascending(items: Vec<u32>) -> Vec<u32> {
    let items: BTreeSet<u32> = items.into_iter().collect();
    items.into_iter().collect()
}
