use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::Body;

/// Token ids to be put together.
#[derive(Deserialize, ToSchema)]
pub struct DecodeRequest {
    ids: Ids,
    /// Leave special tokens out.
    #[serde(default = "crate::input::yes")]
    skip_special_tokens: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a list of token ids or a list of such lists"
)]
enum Ids {
    Many(Vec<Vec<u32>>),
    One(Vec<u32>),
}

/// Texts of tokens
#[utoipa::path(
    post, path = "/decode", request_body = DecodeRequest,
    responses(
        (status = 200, description = "A text for each list of tokens", body = Vec<String>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
    )
)]
pub async fn decode(
    state: State,
    headers: HeaderMap,
    Body(body): Body<DecodeRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.tokenizer().is_ok())?;
    let lists = match body.ids {
        Ids::One(ids) => vec![ids],
        Ids::Many(lists) => lists,
    };
    let request = start(model, &headers, lists.len())?;
    model.check_count("ids", lists.len())?;
    let tokenizer = model.tokenizer()?;
    let texts: Vec<String> = lists
        .iter()
        .map(|ids| tokenizer.decode(ids, body.skip_special_tokens))
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::Tokenizer(error.to_string()))?;
    Ok(request.answer(texts))
}
