//! The routes over a small model, without a network; then over a real socket what only a socket shows.

#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test may stop, and a table of faults is long"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use cloze_data::text::{Input, Long, Shorten};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::TextEncoder;
use cloze_runtime::predict::{Predict, Predictor};
use cloze_serve::{Key, Keys, Limits, Listener, Model, Server, Settings};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

fn folder_of(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    home.join("../runtime/tests").join(name)
}

fn folder() -> PathBuf {
    folder_of("golden/sentence-v6")
}

fn settings(keys: Keys) -> Settings {
    Settings {
        keys,
        connections: 16,
        patience: Duration::from_millis(300),
        drain: Duration::from_secs(10),
        payload_bytes: 10_000,
        ..Settings::default()
    }
}

fn server_with(limits: Limits, keys: Keys) -> Server {
    server_of(&folder(), limits, keys)
}

fn server_of(folder: &Path, limits: Limits, keys: Keys) -> Server {
    let options = Options {
        threads: Some(1),
        ..Options::default()
    };
    let model = Model::open("tiny".into(), folder, options, limits).unwrap();
    Server::new(vec![model], settings(keys)).unwrap()
}

fn server() -> Server {
    server_with(Limits::default(), Keys::default())
}

async fn send(server: &Server, request: Request<Body>) -> Response<Body> {
    server.router().oneshot(request).await.unwrap()
}

async fn post(server: &Server, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()));
    let response = send(server, request.unwrap()).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

fn floats(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|x| x.as_f64().unwrap() as f32).collect()
}

/// What the library says of texts.
fn expected(texts: &[&str]) -> Vec<Vec<f32>> {
    let model = TextEncoder::open(&folder(), Options::default()).unwrap();
    let encodings: Vec<_> = texts
        .iter()
        .map(|t| model.encode(t, None).unwrap())
        .collect();
    let vectors = model.embed(&encodings.iter().collect::<Vec<_>>()).unwrap();
    let width = model.dimensions();
    vectors.chunks_exact(width).map(<[f32]>::to_vec).collect()
}

const TEXTS: [&str; 3] = ["the cat sat", "a dog", ""];

#[tokio::test]
async fn embeddings_have_the_bits_that_the_library_gives() {
    let server = server();
    let (status, found) = post(&server, "/embed", &json!({"inputs": TEXTS})).await;
    assert_eq!(status, StatusCode::OK);
    let found: Vec<_> = found.as_array().unwrap().iter().map(floats).collect();
    assert_eq!(found, expected(&TEXTS));
    let (_, alone) = post(&server, "/embed", &json!({"inputs": TEXTS[0]})).await;
    assert_eq!(floats(&alone[0]), found[0]);
    for path in ["/", "/invocations"] {
        let (_, by_root) = post(&server, path, &json!({"inputs": TEXTS[0]})).await;
        assert_eq!(by_root, alone, "{path}");
    }

    let body =
        json!({"input": TEXTS, "model": "anything", "encoding_format": "base64", "user": "me"});
    let (status, answer) = post(&server, "/v1/embeddings", &body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["model"], "tiny");
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() >= 6);
    for (index, expected) in found.iter().enumerate() {
        use base64::Engine;
        let datum = &answer["data"][index];
        assert_eq!(datum["index"], index);
        let text = datum["embedding"].as_str().unwrap();
        let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
        let (words, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        let floats: Vec<_> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        assert_eq!(&floats, expected);
    }
}

#[tokio::test]
async fn answers_that_are_kept_have_the_same_bits() {
    let limits = Limits {
        cache_bytes: 1 << 20,
        ..Limits::default()
    };
    let server = server_with(limits, Keys::default());
    let expected = expected(&TEXTS);
    // Kept ones and new ones mixed, in any order.
    for order in [vec![0], vec![1, 0, 1], vec![2, 1, 0], vec![0, 1, 2]] {
        let texts: Vec<&str> = order.iter().map(|&text| TEXTS[text]).collect();
        let (_, found) = post(&server, "/embed", &json!({"inputs": texts})).await;
        for (place, text) in order.into_iter().enumerate() {
            assert_eq!(floats(&found[place]), expected[text]);
        }
    }
    let (_, tokens) = post(&server, "/embed_all", &json!({"inputs": TEXTS[0]})).await;
    assert!(tokens[0].as_array().unwrap().len() > 1, "of another kind");
    let raw = json!({"inputs": TEXTS[0], "normalize": false});
    let (_, raw) = post(&server, "/embed", &raw).await;
    assert_ne!(floats(&raw[0]), expected[0], "as this request wants it");
}

#[tokio::test]
async fn a_prompt_is_told_from_the_same_words_in_a_text() {
    let limits = Limits {
        cache_bytes: 1 << 20,
        ..Limits::default()
    };
    // Its prompts are not pooled over.
    let folder = folder_of("golden/sentence-v6-prompt");
    let model = TextEncoder::open(&folder, Options::default()).unwrap();
    let server = server_of(&folder, limits, Keys::default());
    // Of its prompts, `query` is "query: " and `document` is empty.
    let (mut found, mut encoded) = (Vec::new(), Vec::new());
    for (text, prompt) in [("the cat", "query"), ("query: the cat", "document")] {
        let body = json!({"inputs": text, "prompt_name": prompt});
        found.push(post(&server, "/embed", &body).await.1);
        encoded.push(model.encode(text, Some(prompt)).unwrap());
    }
    assert_eq!(encoded[0].ids, encoded[1].ids);
    for (found, encoded) in found.iter().zip(&encoded) {
        assert_eq!(floats(&found[0]), model.embed(&[encoded]).unwrap());
    }
}

#[tokio::test]
async fn dimensions_are_cut_before_normalising() {
    let server = server();
    let raw = json!({"inputs": "the cat sat", "normalize": false});
    let (_, raw) = post(&server, "/embed", &raw).await;
    let raw = floats(&raw[0]);
    let body = json!({"inputs": "the cat sat", "dimensions": 3});
    let (_, cut) = post(&server, "/embed", &body).await;
    let norm = raw[..3].iter().map(|x| x * x).sum::<f32>().sqrt();
    for (cut, raw) in floats(&cut[0]).iter().zip(&raw) {
        assert!((cut - raw / norm).abs() < 1e-6, "{cut} {raw}");
    }
    for wrong in [0, 10_000] {
        let body = json!({"inputs": "x", "dimensions": wrong});
        let (status, fault) = post(&server, "/embed", &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(fault["error_type"], "Validation");
    }
}

#[tokio::test]
async fn tokens_go_there_and_back() {
    let server = server();
    let (_, tokens) = post(&server, "/tokenize", &json!({"inputs": "the cat sat"})).await;
    let tokens = tokens[0].as_array().unwrap();
    assert_eq!(tokens[0]["special"], true);
    assert!(tokens[0].get("start").is_none());
    assert_eq!(tokens[1]["text"], "the");
    assert_eq!(
        (&tokens[1]["start"], &tokens[1]["stop"]),
        (&json!(0), &json!(3))
    );
    let ids: Vec<&Value> = tokens.iter().map(|token| &token["id"]).collect();
    let (_, texts) = post(&server, "/decode", &json!({"ids": ids})).await;
    assert_eq!(texts, json!(["the cat sat"]));

    // Ids without the special ones are the same text.
    let inner = &ids[1..ids.len() - 1];
    let (_, of_ids) = post(&server, "/embed", &json!({"inputs": inner})).await;
    let (_, of_text) = post(&server, "/embed", &json!({"inputs": "the cat sat"})).await;
    assert_eq!(of_ids, of_text);
    let body = json!({"inputs": ["the cat sat", inner]});
    let (_, mixed) = post(&server, "/embed", &body).await;
    assert_eq!(mixed[0], mixed[1]);
    let (_, vectors) = post(&server, "/embed_all", &json!({"inputs": "the cat sat"})).await;
    assert_eq!(vectors[0].as_array().unwrap().len(), ids.len());
}

#[tokio::test]
async fn similarity_is_the_cosine() {
    let body = json!({"inputs": {"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[1]]}});
    let (_, found) = post(&server(), "/similarity", &body).await;
    let found = floats(&found);
    let (_, by_root) = post(&server(), "/", &body).await;
    assert_eq!(floats(&by_root), found);
    let vectors = expected(&TEXTS[..2]);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let [a, b] = [&vectors[0][..], &vectors[1][..]];
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    assert!((found[0] - 1.0).abs() < 1e-6 && (found[1] - cosine).abs() < 1e-6);
}

/// What the library says of texts, from the highest score down.
fn labels(folder: &Path, texts: &[Input<'_>]) -> Vec<Vec<(String, f32)>> {
    let Predictor::Classifier(model) = Predictor::open(folder, Options::default()).unwrap() else {
        panic!("{}: a classifier", folder.display());
    };
    let long = Long::Truncate(Shorten::LongestFirst);
    let found = model.predict(texts, long, 8192).unwrap().into_iter();
    let pairs = found.map(|labels| labels.into_iter().map(|l| (l.label, l.score)).collect());
    pairs.collect()
}

#[tokio::test]
async fn labels_are_those_that_the_library_gives() {
    for folder in ["pipelines/labels", "pipelines/labels-many"] {
        let folder = folder_of(folder);
        let server = server_of(&folder, Limits::default(), Keys::default());
        let inputs = [
            Input::from("how is the query"),
            ("how", "is the bank").into(),
        ];
        let expected = labels(&folder, &inputs);
        let body = json!({"inputs": [["how is the query"], ["how", "is the bank"]]});
        let (status, found) = post(&server, "/predict", &body).await;
        assert_eq!(status, StatusCode::OK);
        for (found, expected) in found.as_array().unwrap().iter().zip(&expected) {
            let found = found.as_array().unwrap().iter();
            let found: Vec<_> = found
                .map(|l| {
                    (
                        l["label"].as_str().unwrap(),
                        l["score"].as_f64().unwrap() as f32,
                    )
                })
                .collect();
            let expected: Vec<_> = expected.iter().map(|(l, s)| (l.as_str(), *s)).collect();
            assert_eq!(found, expected);
        }
        for path in ["/predict", "/"] {
            let (_, one) = post(&server, path, &json!({"inputs": "how is the query"})).await;
            assert_eq!(one, found[0], "{path}: alone, and no list of lists");
        }
        let (_, pair) = post(
            &server,
            "/predict",
            &json!({"inputs": ["how", "is the bank"]}),
        )
        .await;
        assert_eq!(pair, found[1]);
        let body = json!({"inputs": [["a", "b", "c"]]});
        assert_eq!(post(&server, "/predict", &body).await.0, 422);
        let (status, fault) = post(&server, "/embed", &json!({"inputs": "a"})).await;
        assert_eq!(
            (status.as_u16(), &fault["error_type"]),
            (424, &json!("Backend"))
        );
        let body = json!({"query": "a", "texts": ["b"]});
        assert_eq!(post(&server, "/rerank", &body).await.0, 424);
    }
    let (status, _) = post(&server(), "/predict", &json!({"inputs": "a"})).await;
    assert_eq!(status, 424);
}

#[tokio::test]
async fn texts_are_ranked_by_their_scores() {
    let folder = folder_of("golden/cross-encoder");
    let server = server_of(&folder, Limits::default(), Keys::default());
    let texts = ["the cat", "how is the query", "passage", ""];
    let body =
        json!({"query": "the query", "texts": texts, "raw_scores": true, "return_text": true});
    let (status, raw) = post(&server, "/rerank", &body).await;
    assert_eq!(status, StatusCode::OK, "{raw}");
    let raw = raw.as_array().unwrap();
    assert_eq!(raw.len(), texts.len());
    let logit = |rank: &Value| rank["score"].as_f64().unwrap();
    assert!(
        raw.windows(2)
            .all(|pair| logit(&pair[0]) >= logit(&pair[1]))
    );
    for rank in raw {
        let index = rank["index"].as_u64().unwrap() as usize;
        assert_eq!(rank["text"], texts[index]);
        let one = json!({"inputs": [["the query", texts[index]]], "raw_scores": true});
        let (_, alone) = post(&server, "/predict", &one).await;
        assert_eq!(alone[0][0]["score"], rank["score"]);
    }
    let documents: Vec<Value> = texts.iter().map(|text| json!({"text": text})).collect();
    for (path, documents) in [
        ("/v1/rerank", json!(texts)),
        ("/v2/rerank", json!(documents)),
    ] {
        let body = json!({"query": "the query", "documents": documents, "top_n": 2, "return_documents": true});
        let (_, answer) = post(&server, path, &body).await;
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), 2, "{answer}");
        for (result, rank) in results.iter().zip(raw) {
            assert_eq!(result["index"], rank["index"]);
            let score = result["relevance_score"].as_f64().unwrap();
            assert!((score - 1.0 / (1.0 + (-logit(rank)).exp())).abs() < 1e-6);
            assert_eq!(result["document"]["text"], rank["text"]);
        }
    }
}

#[tokio::test]
async fn faults_say_what_was_expected() {
    let limits = Limits {
        client_batch_size: 2,
        auto_truncate: false,
        ..Limits::default()
    };
    let server = server_with(limits, Keys::default());
    let long = "cat ".repeat(2000);
    for (path, body, status, kind, message) in [
        (
            "/embed",
            json!({"inputs": []}),
            400,
            "Empty",
            "`inputs` cannot be empty",
        ),
        (
            "/embed",
            json!({"inputs": ["a", "b", "c"]}),
            422,
            "Validation",
            "batch size 3 > maximum allowed batch size 2",
        ),
        (
            "/embed",
            json!({"inputs": long}),
            422,
            "Validation",
            "must have at most",
        ),
        (
            "/embed",
            json!({"inputs": [[9_999_999]]}),
            422,
            "Validation",
            "token ids below",
        ),
        (
            "/embed",
            json!({"inputs": "a", "prompt_name": "none"}),
            422,
            "Validation",
            "expected a prompt",
        ),
        (
            "/embed",
            json!({"inputs": {"a": 1}}),
            422,
            "Validation",
            "expected a text",
        ),
        (
            "/embed",
            json!({}),
            422,
            "Validation",
            "missing field `inputs`",
        ),
        (
            "/decode",
            json!({"ids": []}),
            400,
            "Empty",
            "cannot be empty",
        ),
    ] {
        let (found, fault) = post(&server, path, &body).await;
        assert_eq!(found.as_u16(), status, "{fault}");
        assert_eq!(fault["error_type"], kind);
        assert!(
            fault["error"].as_str().unwrap().contains(message),
            "{fault}"
        );
    }
    let body = json!({"inputs": long, "truncate": true});
    let (status, right) = post(&server, "/embed", &body).await;
    assert_eq!(status, StatusCode::OK);
    let text = format!("dog {long}");
    let body = |side| json!({"inputs": text, "truncate": true, "truncation_direction": side});
    let (_, left) = post(&server, "/embed", &body("Left")).await;
    assert_eq!(left, right, "the only other word was cut off");
    assert_ne!(post(&server, "/embed", &body("right")).await.1, right);

    let (status, fault) = post(&server, "/v1/embeddings", &json!({"input": []})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        (&fault["code"], &fault["type"]),
        (&json!(400), &json!("Empty"))
    );
    let (status, fault) = post(&server, "/v1/embeddings", &json!({"input": 3.5})).await;
    assert_eq!(
        (status.as_u16(), &fault["type"]),
        (422, &json!("Validation"))
    );

    let raw = |body: &str, kind: &str| {
        let request = Request::post("/embed").header(header::CONTENT_TYPE, kind);
        request.body(Body::from(body.to_owned())).unwrap()
    };
    for (body, kind, status) in [
        ("{\"inputs\": \"\\ud800\"}", "application/json", 422),
        (
            &*format!("{}{}", "[".repeat(5000), "]".repeat(4000)),
            "application/json",
            422,
        ),
        ("{\"inputs\": \"a\"}", "text/plain", 415),
        (&*"x".repeat(20_000), "application/json", 413),
        ("", "application/json", 422),
    ] {
        let found = send(&server, raw(body, kind)).await;
        assert_eq!(found.status().as_u16(), status, "{body:.40}");
        assert_eq!(found.headers()[header::CONTENT_TYPE], "application/json");
    }
    let request = Request::post("/embed")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-request-timeout", "soon");
    let request = request.body(Body::from("{\"inputs\": \"a\"}")).unwrap();
    assert_eq!(send(&server, request).await.status(), 422);
}

#[tokio::test]
async fn keys_let_in_and_health_is_open() {
    let keys = Keys::default();
    keys.replace(vec!["secret".into()]);
    let server = server_with(Limits::default(), keys.clone());
    let get = |path: &str, key: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(send(&server, get("/info", None)).await.status(), 401);
    assert_eq!(
        send(&server, get("/info", Some("secre"))).await.status(),
        401
    );
    assert_eq!(
        send(&server, get("/info", Some("secret"))).await.status(),
        200
    );
    keys.replace(vec!["other".into()]);
    assert_eq!(
        send(&server, get("/info", Some("secret"))).await.status(),
        401
    );
    for path in ["/health", "/ready", "/ping", "/api-doc/openapi.json"] {
        assert_eq!(send(&server, get(path, None)).await.status(), 200, "{path}");
    }
    assert_eq!(
        send(&server, get("/nothing", Some("other"))).await.status(),
        404
    );
}

#[tokio::test]
async fn a_key_over_its_limit_waits_and_others_do_not() {
    let keys = Keys::default();
    let parsed = ["a requests/s=0.01", "b tokens/min=5", "c"].map(|line| Key::parse(line).unwrap());
    keys.replace(parsed.to_vec());
    let server = server_with(Limits::default(), keys);
    let ask = async |path: &str, key: &str| {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let body = json!({"inputs": TEXTS, "input": TEXTS}).to_string();
        let response = send(&server, request.body(Body::from(body)).unwrap()).await;
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.map(|after| after.to_str().unwrap().parse::<u64>().unwrap());
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        (status, after, body)
    };
    for (key, what) in [("a", "requests/s"), ("b", "tokens/min")] {
        // The second is over the limit.
        assert_eq!(ask("/embed", key).await.0, 200);
        let (status, after, fault) = ask("/embed", key).await;
        assert_eq!((status, &fault["error_type"]), (429, &json!("Overloaded")));
        assert!(after.is_some_and(|after| (10..=100).contains(&after)));
        assert!(fault["error"].as_str().unwrap().contains(what), "{fault}");
        let (status, after, fault) = ask("/v1/embeddings", key).await;
        assert_eq!((status, &fault["code"]), (429, &json!(429)));
        assert!(after.is_some());
    }
    for _ in 0..5 {
        assert_eq!(ask("/embed", "c").await.0, 200);
    }
}

#[tokio::test]
async fn info_and_models_name_what_is_served() {
    let server = server();
    let request = Request::get("/info").body(Body::empty()).unwrap();
    let response = send(&server, request).await;
    assert!(response.headers().contains_key("x-request-id"));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let info: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(info["model_id"], "tiny");
    assert!(info["model_type"]["embedding"]["pooling"].is_string());
    let request = Request::get("/v1/models").body(Body::empty()).unwrap();
    let bytes = send(&server, request)
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let models: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(models["data"][0]["id"], "tiny");
}

/// What a client reads until the server closes.
async fn talk(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a close too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_broken_clients_are_let_go_and_a_stop_answers_what_is_under_way() {
    let server = server();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.place().trim_start_matches("http://").to_owned();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(listener, async {
        let _ = stopped.await;
    }));

    // A head that never ends, and a body that never comes.
    let mut slow = TcpStream::connect(&address).await.unwrap();
    let answer = talk(&mut slow, "POST /embed HTTP/1.1\r\nhost: x\r\n").await;
    assert!(answer.is_empty() || answer.contains("408"), "{answer}");
    let mut half = TcpStream::connect(&address).await.unwrap();
    let head = "POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    let answer = talk(&mut half, head).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let mut noise = TcpStream::connect(&address).await.unwrap();
    let answer = talk(&mut noise, "\u{0}\u{1}\u{2} nonsense\r\n\r\n").await;
    assert!(answer.contains("400"), "{answer}");

    let body = json!({"inputs": vec!["the cat sat on a dog"; 32]}).to_string();
    let request = format!(
        "POST /embed HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // One client hangs up before its answer comes; the others get theirs.
    let mut gone = TcpStream::connect(&address).await.unwrap();
    gone.write_all(request.as_bytes()).await.unwrap();
    drop(gone);
    let mut last = TcpStream::connect(&address).await.unwrap();
    last.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stop.send(()).unwrap();
    let mut answer = Vec::new();
    last.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(running.await.unwrap(), "everything was answered in time");
    assert!(TcpStream::connect(&address).await.is_err());
}
