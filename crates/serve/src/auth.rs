use std::fmt;
use std::sync::{Arc, RwLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

/// The bearer keys that let a request in; all are let in where there are none.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<Option<Vec<String>>>>);

impl Keys {
    /// Takes other keys from now on; with an empty list nothing is let in.
    pub fn replace(&self, keys: Vec<String>) {
        *self.0.write().expect("nothing panics while keys are held") = Some(keys);
    }

    /// Whether `given` is one of them, in a time that depends on lengths only.
    fn admit(&self, given: Option<&str>) -> bool {
        let keys = self.0.read().expect("nothing panics while keys are held");
        let Some(keys) = &*keys else {
            return true;
        };
        let given = given.unwrap_or_default().as_bytes();
        let matches = keys.iter().map(|key| key.as_bytes().ct_eq(given));
        matches
            .fold(Choice::from(0), |any, one| any | one)
            .unwrap_u8()
            == 1
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Whether a token is `expected`, in a time that depends on lengths only.
pub fn is_same(given: Option<&str>, expected: &str) -> bool {
    let given = given.unwrap_or_default().as_bytes();
    !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given))
}

/// Lets requests with a key through; the others get 401 and an empty body, as from text-embeddings-inference.
pub async fn require(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    if keys.admit(bearer(request.headers())) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_let_in() {
        let keys = Keys::default();
        assert!(keys.admit(None), "nothing is asked for without keys");
        keys.replace(vec!["first".into(), "second".into()]);
        assert!(keys.admit(Some("first")) && keys.admit(Some("second")));
        for given in [
            None,
            Some(""),
            Some("firs"),
            Some("firstt"),
            Some("firstsecond"),
        ] {
            assert!(!keys.admit(given), "{given:?}");
        }
        keys.replace(Vec::new());
        assert!(!keys.admit(Some("first")) && !keys.admit(None) && !keys.admit(Some("")));
    }
}
