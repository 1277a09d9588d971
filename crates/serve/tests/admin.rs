//! Models that change while they are served.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::TextEncoder;
use cloze_serve::{Admin, Keys, Limits, Model, Server, Settings};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const OLD: &str = "golden/sentence-v6";
const NEW: &str = "golden/sentence";

fn models_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests")
}

fn server(available: Option<u64>) -> Router {
    let options = Options {
        threads: Some(1),
        ..Options::default()
    };
    let limits = Limits {
        cache_bytes: 1 << 20,
        ..Limits::default()
    };
    let admin = Admin {
        token: "operator".into(),
        models_dir: models_dir(),
        open: Box::new(move |name, folder| {
            Model::open(name, folder, options, limits).map_err(|error| error.to_string())
        }),
        available_bytes: Box::new(move || available),
    };
    let keys = Keys::default();
    keys.replace(vec!["client".into()]);
    let settings = Settings {
        keys,
        admin: Some(admin),
        ..Settings::default()
    };
    let model = Model::open("tiny".into(), &models_dir().join(OLD), options, limits).unwrap();
    Server::new(vec![model], settings).unwrap().router()
}

async fn send(
    router: &Router,
    method: Method,
    path: &str,
    token: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    let body = body.map_or_else(Body::empty, |body| body.to_string().into());
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let response = router.clone().oneshot(request.body(body).unwrap()).await;
    let response = response.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

async fn ask(router: &Router, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = (method != Method::GET).then_some(body);
    let (status, answer) = send(router, method, path, "operator", body).await;
    (status.as_u16(), answer)
}

async fn embed(router: &Router, model: &str, text: &str) -> Value {
    let body = json!({"input": text, "model": model});
    let (status, answer) = send(router, Method::POST, "/v1/embeddings", "client", Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["data"][0]["embedding"].clone()
}

/// What the library says of a text.
fn expected(folder: &str, text: &str) -> Value {
    let model = TextEncoder::open(&models_dir().join(folder), Options::default()).unwrap();
    let encoding = model.encode(text, None).unwrap();
    let mut vector = model.pooled(&[&encoding]).unwrap();
    model.normalize(vector.len(), &mut vector);
    vector.truncate(model.dimensions());
    // As numbers are written, which keeps their bits.
    serde_json::from_str(&serde_json::to_string(&vector).unwrap()).unwrap()
}

fn names(models: &Value) -> Vec<&str> {
    let models = models.as_array().unwrap().iter();
    models
        .map(|model| model["name"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_may_change_models() {
    let router = server(None);
    for token in ["client", "", "operato", "operators"] {
        let (status, _) = send(&router, Method::GET, "/admin/models", token, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token}");
    }
    let body = json!({"inputs": "a"});
    let (status, _) = send(&router, Method::POST, "/embed", "operator", Some(body)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "it is no client's key");

    let limits = Limits::default();
    let model = Model::open(
        "tiny".into(),
        &models_dir().join(OLD),
        Options::default(),
        limits,
    );
    let off = Server::new(vec![model.unwrap()], Settings::default()).unwrap();
    let (status, _) = send(&off.router(), Method::GET, "/admin/models", "", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_come_and_go() {
    let router = server(Some(1 << 40));
    let (_, models) = ask(&router, Method::GET, "/admin/models", Value::Null).await;
    assert_eq!(names(&models), ["tiny"]);
    let body = json!({"name": "more", "folder": NEW});
    let (status, models) = ask(&router, Method::POST, "/admin/models", body.clone()).await;
    assert_eq!((status, names(&models)), (200, vec!["tiny", "more"]));
    // The same text, first of the one and then of the other: nothing kept crosses over.
    for _ in 0..2 {
        for (name, folder) in [("tiny", OLD), ("more", NEW)] {
            assert_eq!(
                embed(&router, name, "the cat").await,
                expected(folder, "the cat"),
                "{name}"
            );
        }
    }
    assert_eq!(
        ask(&router, Method::POST, "/admin/models", body).await.0,
        409
    );
    let (status, models) = ask(&router, Method::DELETE, "/admin/models/tiny", Value::Null).await;
    assert_eq!((status, names(&models)), (200, vec!["more"]));
    let last = ask(&router, Method::DELETE, "/admin/models/more", Value::Null).await;
    assert_eq!(last.0, 409, "a server has a model");
    let none = ask(&router, Method::DELETE, "/admin/models/tiny", Value::Null).await;
    assert_eq!(none.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_changes_nothing() {
    let router = server(None);
    for folder in [
        "../tests/golden/sentence",
        "/etc",
        "",
        "golden",
        "none",
        "malformed",
    ] {
        for (method, path, body) in [
            (
                Method::POST,
                "/admin/models",
                json!({"name": "x", "folder": folder}),
            ),
            (Method::PUT, "/admin/models/tiny", json!({"folder": folder})),
        ] {
            let (status, fault) = ask(&router, method, path, body).await;
            assert_eq!(status, 422, "{folder}: {fault}");
            let message = fault["error"].as_str().unwrap();
            let home = env!("CARGO_MANIFEST_DIR");
            assert!(!message.contains(home), "{message}");
        }
    }
    for name in ["", "a/b", "a b", "\u{e9}"] {
        let body = json!({"name": name, "folder": NEW});
        assert_eq!(
            ask(&router, Method::POST, "/admin/models", body).await.0,
            422
        );
    }
    let body = json!({"folder": NEW});
    let (status, _) = ask(&router, Method::PUT, "/admin/models/none", body).await;
    assert_eq!(status, 404);
    assert_eq!(
        embed(&router, "tiny", "a dog").await,
        expected(OLD, "a dog")
    );

    let full = server(Some(1000));
    let body = json!({"name": "more", "folder": NEW});
    let (status, fault) = ask(&full, Method::POST, "/admin/models", body).await;
    assert_eq!(status, 507, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_loses_no_request_and_mixes_no_models() {
    let router = server(None);
    let texts: Vec<String> = (0..8)
        .map(|n| format!("the cat {}", "sat ".repeat(n)))
        .collect();
    let texts = Arc::new(texts);
    let of = |folder| -> Vec<Value> { texts.iter().map(|text| expected(folder, text)).collect() };
    let known = Arc::new([of(OLD), of(NEW)]);
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (router, texts, known) = (router.clone(), texts.clone(), known.clone());
            let (stop, count) = (stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut round = client;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    // Several texts of one request are answered by one model.
                    let asked = [round % 8, (round + 3) % 8, (round + 5) % 8];
                    let input: Vec<_> = asked.iter().map(|&text| &texts[text]).collect();
                    let body = json!({"input": input, "model": "tiny"});
                    let (status, answer) = send(
                        &router,
                        Method::POST,
                        "/v1/embeddings",
                        "client",
                        Some(body),
                    )
                    .await;
                    assert_eq!(status, StatusCode::OK, "{answer}");
                    let is_of = |known: &Vec<Value>| {
                        let mut found = asked.iter().enumerate();
                        found
                            .all(|(place, &text)| answer["data"][place]["embedding"] == known[text])
                    };
                    assert!(known.iter().any(is_of), "{answer}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..10 {
        let folder = [NEW, OLD][round % 2];
        let body = json!({"folder": folder});
        let (status, _) = ask(&router, Method::PUT, "/admin/models/tiny", body).await;
        assert_eq!(status, 200);
        // Kept answers went with their model.
        assert_eq!(
            embed(&router, "tiny", &texts[0]).await,
            known[(round + 1) % 2][0]
        );
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(count.load(Ordering::Relaxed) > 10);
}
