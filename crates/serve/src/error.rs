use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::queue::Lost;
use crate::watch;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Nothing was asked.
    #[error("`{0}` cannot be empty")]
    Empty(&'static str),
    /// The request is not one, or asks for what the model does not do.
    #[error("{0}")]
    Validation(String),
    /// The body or the query is not read: too long, too slow, or of another type.
    #[error("{message}")]
    Unread {
        /// What HTTP has for that.
        status: StatusCode,
        /// What was expected.
        message: String,
    },
    /// A text cannot be turned into tokens.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The loaded model is of another kind, or failed.
    #[error("{0}")]
    Backend(String),
    /// No model has this name.
    #[error("no model {0:?} is served; `/v1/models` lists those that are")]
    NoModel(String),
    /// It cannot be done beside what is there or under way.
    #[error("{0}")]
    Conflict(String),
    /// There is not enough memory.
    #[error("{0}")]
    NoRoom(String),
    /// The key has used up what it may.
    #[error("the key's limit of {most} {what} is used up")]
    Limited {
        /// Of what.
        what: &'static str,
        /// How much it may use.
        most: f64,
        /// When there is some again.
        retry_after: Duration,
    },
    /// The queue let it go.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// The body of an answer that is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What was expected, what was found, what to do.
    error: String,
    /// One of `Empty`, `Validation`, `Tokenizer`, `Backend`, `Overloaded`, `Unhealthy`, `Timeout`, `NotFound`, `Conflict`.
    error_type: &'static str,
}

/// The same in the shape of the routes under `/v1`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenAiErrorBody {
    /// What was expected, what was found, what to do.
    message: String,
    /// The status.
    code: u16,
    /// As [`ErrorBody::error_type`].
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Fault {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Empty(_) => (StatusCode::BAD_REQUEST, "Empty"),
            Self::Validation(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
            Self::Unread { status, .. } => (*status, "Validation"),
            Self::Tokenizer(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Tokenizer"),
            Self::Backend(_) | Self::Lost(Lost::Refused(_)) => {
                (StatusCode::FAILED_DEPENDENCY, "Backend")
            }
            Self::NoModel(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "Overloaded"),
            Self::Limited { .. } | Self::Lost(Lost::Overloaded { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "Overloaded")
            }
            Self::Lost(Lost::Late) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Lost(Lost::Panicked) => (StatusCode::INTERNAL_SERVER_ERROR, "Backend"),
            Self::Lost(Lost::Closed) => (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after, .. } | Self::Lost(Lost::Overloaded { retry_after }) => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    fn respond(&self, body: impl FnOnce(StatusCode, &'static str, String) -> Response) -> Response {
        let (status, kind) = self.kind();
        watch::failure(kind);
        let mut response = body(status, kind, self.to_string());
        if let Some(after) = self.retry_after() {
            let seconds = HeaderValue::from(after.as_secs_f64().ceil() as u64);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// The same fault on the routes under `/v1`.
pub struct OpenAiFault(Fault);

impl<F: Into<Fault>> From<F> for OpenAiFault {
    fn from(fault: F) -> Self {
        Self(fault.into())
    }
}

impl IntoResponse for OpenAiFault {
    fn into_response(self) -> Response {
        self.0.respond(|status, kind, message| {
            let code = status.as_u16();
            let body = OpenAiErrorBody {
                message,
                code,
                kind,
            };
            (status, Json(body)).into_response()
        })
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        self.respond(|status, error_type, error| {
            (status, Json(ErrorBody { error, error_type })).into_response()
        })
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A model cannot be opened.
    #[error(transparent)]
    Model(#[from] cloze_runtime::Error),
    /// The system refuses a thread or a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was asked of it.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The server cannot show who it is.
    #[error("{0}")]
    Tls(String),
    /// Two models go by one name.
    #[error("two models are named {0:?}; give one another name, as NAME=FOLDER")]
    SameName(String),
}
