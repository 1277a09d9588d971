use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::{Encoding, Tokenizer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, Texts, start};
use crate::Fault;
use crate::error::ErrorBody;
use crate::input::{Body, Item, Taking};

/// Texts to be cut into tokens.
#[derive(Deserialize, ToSchema)]
pub struct TokenizeRequest {
    inputs: Texts,
    /// Put the special tokens around each text.
    #[serde(default = "crate::input::yes")]
    add_special_tokens: bool,
    /// Put the model's prompt of this name before each text.
    #[serde(default)]
    prompt_name: Option<String>,
}

/// A token.
#[derive(Serialize, ToSchema)]
pub struct SimpleToken {
    id: u32,
    /// Its characters in the text, or its spelling where it has none.
    text: String,
    /// Whether the tokenizer put it there.
    special: bool,
    /// Its first character, counted in Unicode scalar values.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<u32>,
    /// One past its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<u32>,
}

/// Tokens of texts
#[utoipa::path(
    post, path = "/tokenize", request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The tokens of each text", body = Vec<Vec<SimpleToken>>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
    )
)]
pub async fn tokenize(
    state: State,
    headers: HeaderMap,
    Body(body): Body<TokenizeRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, |model| model.tokenizer().is_ok())?;
    let (texts, _) = body.inputs.into_list();
    let mut request = start(model, &headers, texts.len())?;
    let taking = Taking {
        truncate: Some(true),
        prompt_name: body.prompt_name,
        ..Taking::default()
    };
    let items = texts.iter().cloned().map(Item::Text).collect();
    let tokenizer = model.tokenizer()?;
    let encodings = request.tokenize("inputs", items, taking).await?;
    let tokens: Vec<_> = texts
        .iter()
        .zip(&encodings)
        .map(|(text, encoding)| tokens(tokenizer, text, encoding, body.add_special_tokens))
        .collect();
    Ok(request.answer(tokens))
}

fn tokens(
    tokenizer: &Tokenizer,
    text: &str,
    encoding: &Encoding,
    specials: bool,
) -> Vec<SimpleToken> {
    let chars: Vec<char> = text.chars().collect();
    (0..encoding.len())
        .filter(|&token| specials || !encoding.is_special[token])
        .map(|token| {
            let id = encoding.ids[token];
            let (start, stop) = encoding.offsets[token];
            let special = encoding.is_special[token];
            let shown = &chars[start as usize..stop as usize];
            let spelled = || tokenizer.token(id).unwrap_or_default();
            SimpleToken {
                id,
                text: if shown.is_empty() {
                    spelled()
                } else {
                    shown.iter().collect()
                },
                special,
                start: (!special).then_some(start),
                stop: (!special).then_some(stop),
            }
        })
        .collect()
}
