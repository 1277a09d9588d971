//! What requests carry.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::Fault;
use crate::error::OpenAiFault;

/// A text, one as token ids, or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a list of token ids, or a list of texts and lists of token ids"
)]
pub enum Input {
    /// One text.
    One(String),
    /// Several.
    Many(Vec<Item>),
    /// One text that is tokens already, without the special ones.
    Ids(Vec<u32>),
}

/// One of several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or a list of token ids")]
pub enum Item {
    /// A text.
    Text(String),
    /// One that is tokens already, without the special ones.
    Ids(Vec<u32>),
    /// Two texts in one sequence, which other fields than `inputs` make.
    #[serde(skip)]
    Pair(String, String),
}

impl Input {
    /// All of it, one by one.
    pub fn into_items(self) -> Vec<Item> {
        match self {
            Self::One(text) => vec![Item::Text(text)],
            Self::Ids(ids) => vec![Item::Ids(ids)],
            Self::Many(items) => items,
        }
    }
}

/// Which end of a long text is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Side {
    /// The end.
    #[default]
    #[serde(rename = "right", alias = "Right")]
    Right,
    /// The start.
    #[serde(rename = "left", alias = "Left")]
    Left,
}

/// How a request wants its texts taken.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct Taking {
    /// Cut texts that are too long; the server's choice if null.
    #[serde(default)]
    pub truncate: Option<bool>,
    /// Which end of them.
    #[serde(default)]
    pub truncation_direction: Side,
    /// Put the model's prompt of this name before each text.
    #[serde(default)]
    pub prompt_name: Option<String>,
}

/// The body as JSON; a fault says where it is not what was expected.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let is_v1 = request.uri().path().starts_with("/v1/");
        let parsed = read(request, state).await.and_then(|bytes| {
            serde_json::from_slice(&bytes)
                .map_err(|error| Fault::Validation(format!("body: {error}")))
        });
        parsed.map(Self).map_err(|fault| {
            if is_v1 {
                OpenAiFault::from(fault).into_response()
            } else {
                fault.into_response()
            }
        })
    }
}

/// The bytes of a body that says it is JSON.
async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Fault> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_json = kind
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    // A page of another site may send other types without asking first.
    if !is_json {
        return Err(Fault::Unread {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message: "expected the header `content-type: application/json`".to_owned(),
        });
    }
    let bytes = Bytes::from_request(request, state).await;
    bytes.map_err(|rejection| Fault::Unread {
        status: rejection.status(),
        message: format!("body: {}", rejection.body_text()),
    })
}

/// For fields that are on unless a request says otherwise.
pub fn yes() -> bool {
    true
}
