use std::cmp::Reverse;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{State, check_top, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::{Fault, Model};

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ItemsQuery {
    /// Part of a title or of an id, in any case; every item has it where it is empty.
    #[serde(default)]
    search: String,
    /// Most items.
    #[serde(default = "twenty")]
    limit: usize,
    /// One of `/v1/models`; the first that recommends if none.
    model: Option<String>,
}

fn twenty() -> usize {
    20
}

/// Items that a recommender knows.
#[derive(Serialize, ToSchema)]
pub struct Items {
    object: &'static str,
    data: Vec<KnownItem>,
    /// How many items the model knows.
    total: usize,
}

#[derive(Serialize, ToSchema)]
struct KnownItem {
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// How often it occurs in the data that the model was trained on.
    count: u64,
}

/// Items of a recommender by id or title, the most frequent first
#[utoipa::path(
    get, path = "/v1/items", params(ItemsQuery),
    responses(
        (status = 200, description = "Those that match", body = Items),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn items(
    state: State,
    headers: HeaderMap,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, OpenAiFault> {
    let Query(query) = query.map_err(|rejection| Fault::Unread {
        status: rejection.status(),
        message: rejection.body_text(),
    })?;
    let able = |model: &Model| model.items().is_ok();
    let model = state.able(query.model.as_deref(), able)?;
    model.items()?;
    check_top("limit", query.limit)?;
    let request = start(model, &headers, 1)?;
    let find = move |model: &Model| {
        let vocabulary = model.items()?.vocabulary();
        let search = query.search.trim().to_lowercase();
        let matches = |text: &str| text.to_lowercase().contains(&search);
        let mut found: Vec<u32> = (0..vocabulary.len() as u32)
            .filter(|&token| {
                matches(vocabulary.id(token)) || vocabulary.title(token).is_some_and(matches)
            })
            .collect();
        let count = |token: u32| vocabulary.counts()[token as usize];
        found.sort_by_key(|&token| Reverse(count(token)));
        found.truncate(query.limit);
        let known = |token| KnownItem {
            item: vocabulary.id(token).to_owned(),
            title: vocabulary.title(token).map(str::to_owned),
            count: count(token),
        };
        Ok(Items {
            object: "list",
            data: found.into_iter().map(known).collect(),
            total: vocabulary.len(),
        })
    };
    let found = request.apart(find).await?;
    Ok(request.answer(found))
}
