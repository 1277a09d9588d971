//! What browsers get: a page to try the models on, and one that describes the routes. Nothing in them comes from elsewhere.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{State, health};
use crate::registry::Live;

/// Only this server's own files, and no code or style within pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The pages and their files; they ask for no key, since they say nothing that a key guards.
pub fn router() -> Router<Live> {
    let files = [
        ("/docs", HTML, include_str!("../page/docs.html")),
        ("/page/style.css", CSS, include_str!("../page/style.css")),
        ("/page/page.js", SCRIPT, include_str!("../page/page.js")),
        ("/page/docs.js", SCRIPT, include_str!("../page/docs.js")),
        (
            "/page/element.js",
            SCRIPT,
            include_str!("../page/element.js"),
        ),
        ("/page/live.js", SCRIPT, include_str!("../page/live.js")),
        ("/page/server.js", SCRIPT, include_str!("../page/server.js")),
        ("/page/icon.svg", SVG, include_str!("../page/icon.svg")),
    ];
    files
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        })
        .route("/", get(root))
}

/// The page to those who read HTML; to others whether all is well, as text-embeddings-inference says there.
async fn root(state: State, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let mut accepts = accepts.filter_map(|accept| accept.to_str().ok());
    if accepts.any(|accept| accept.contains("text/html")) {
        file(HTML, include_str!("../page/index.html"))
    } else {
        health::health(state).await.into_response()
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A server of another release has other files.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept"),
    ];
    (StatusCode::OK, headers, text).into_response()
}
