//! Bodies as people make them who mean no good: each gets an answer or an error that says why, and none stops the server.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod loopback;

use std::sync::OnceLock;

use cloze_serve::Limits;
use loopback::{Loopback, Reply, Successors, model};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

const ROUTES: [&str; 8] = [
    "/v1/fill",
    "/v1/entities",
    "/v1/answer",
    "/v1/chunks",
    "/v1/recommend",
    "/embed_sparse",
    "/predict",
    "/",
];

/// A server that can do everything, for all tests.
fn server() -> &'static (Runtime, Loopback) {
    static SERVER: OnceLock<(Runtime, Loopback)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let names = [
            "pipelines/masks",
            "pipelines/tokens",
            "pipelines/answers",
            "pipelines/labels",
        ];
        let mut models: Vec<_> = names
            .iter()
            .map(|name| model(name, Limits::default()))
            .collect();
        models.push(Successors::model());
        let server = runtime.block_on(Loopback::start(models));
        (runtime, server)
    })
}

fn post(path: &str, body: &[u8]) -> Reply {
    let (runtime, server) = server();
    runtime.block_on(server.post_raw(path, body))
}

/// An answer, or a fault of the request that says what it is, in the shape of its route.
#[track_caller]
fn judge(path: &str, body: &str) {
    let reply = post(path, body.as_bytes());
    let shown: String = body.chars().take(300).collect();
    match reply.status {
        200 => {
            reply.json();
            return;
        }
        // A body that is too large is told so before its route is asked.
        413 => return,
        _ => {}
    }
    assert!(
        [400, 404, 422, 424].contains(&reply.status),
        "{path} {shown}: {} {}",
        reply.status,
        reply.body
    );
    let fault = reply.json();
    let message = fault.get("message").or(fault.get("error"));
    let message = message.and_then(Value::as_str).unwrap();
    assert!(!message.is_empty(), "{path} {shown}");
    assert_eq!(fault.get("message").is_some(), fault.get("code").is_some());
}

#[test]
fn what_is_no_json_is_refused() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let bodies = [
        "",
        "null",
        "NaN",
        "{\"inputs\": NaN}",
        "{\"inputs\": \"[MASK]\", \"parameters\": {\"top_k\": NaN}}",
        "{\"history\": [1e999], \"k\": Infinity}",
        "{\"inputs\": \"\\ud800\"}",
        "{\"inputs\": {\"question\": \"\\udfff\", \"context\": \"a\"}}",
        "{\"history\": [\"\\ud83d\"]}",
        "{\"inputs\": \"a\"",
        "{\"inputs\": \"a\"} {\"inputs\": \"a\"}",
        "{\"inputs\": \"a\", \"inputs\": \"b\"}",
        &deep,
        &format!("{{\"inputs\": {deep}, \"history\": {deep}}}"),
    ];
    for path in ROUTES {
        for body in bodies {
            let reply = post(path, body.as_bytes());
            let shown: String = body.chars().take(80).collect();
            assert!(
                (400..500).contains(&reply.status),
                "{path} {shown}: {} {}",
                reply.status,
                reply.body
            );
        }
        let reply = post(path, b"{\"inputs\": \"\xff\xfe\"}");
        assert_eq!(reply.status, 422, "{path}: no UTF-8");
    }
    let parameters = format!("{{\"inputs\": \"[MASK]\", \"parameters\": {deep}}}");
    for (path, body) in [
        ("/v1/fill", &*parameters),
        (
            "/v1/fill",
            "{\"inputs\": \"[MASK]\", \"parameters\": {\"top_k\": 99999999999999999999}}",
        ),
        ("/v1/recommend", "{\"history\": [\"i1\"], \"k\": -1}"),
        ("/v1/recommend", "{\"history\": [\"i1\"], \"k\": 1e3}"),
        ("/v1/chunks", "{\"inputs\": \"a\", \"chunk_tokens\": 1.5}"),
        ("/v1/chunks", "{\"inputs\": \"a\", \"overlap\": -3}"),
    ] {
        assert_eq!(post(path, body.as_bytes()).status, 422, "{path} {body}");
    }
}

#[test]
fn huge_and_strange_texts_are_answered_or_refused() {
    let texts = [
        "\u{0}".repeat(1000),
        "[MASK]".repeat(5000),
        "\u{301}".repeat(5000),
        "👩‍👩‍👧‍👦 ".repeat(2000),
        " \n\t\u{a0}\u{2028}\u{feff}".to_owned(),
        "x".repeat(200_000),
        format!("[MASK] {}", "cat ".repeat(30_000)),
        "[CLS] [SEP] [PAD] [UNK] [MASK]".to_owned(),
    ];
    for text in &texts {
        let qa = json!({"question": text, "context": text});
        let asked = json!({"question": "cat", "context": text});
        for (path, body) in [
            ("/v1/fill", json!({"inputs": text})),
            (
                "/v1/fill",
                json!({"inputs": "[MASK]", "parameters": {"targets": [text]}}),
            ),
            ("/v1/entities", json!({"inputs": text})),
            ("/v1/answer", json!({"inputs": qa})),
            (
                "/v1/answer",
                json!({"inputs": asked, "parameters": {"top_k": 1000, "max_answer_len": 256}}),
            ),
            (
                "/v1/chunks",
                json!({"inputs": text, "chunk_tokens": 2, "overlap": 1, "late": true, "return_text": true}),
            ),
            (
                "/v1/recommend",
                json!({"history": [text, "i1"], "allow": [text, "i2"], "deny": [text]}),
            ),
            ("/embed_sparse", json!({"inputs": text})),
        ] {
            judge(path, &body.to_string());
        }
    }
}

/// Texts of pieces that mean something to someone.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[MASK]".to_owned()),
        Just("the cat ".to_owned()),
        Just("i1".to_owned()),
        Just("[SEP]".to_owned()),
        ".{0,8}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Any JSON, with the names of fields among its keys.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..30).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop::sample::select(&KEYS[..]).prop_map(str::to_owned);
        let fields = prop::collection::vec((key, inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            fields.prop_map(|fields| Value::from(Map::from_iter(fields))),
        ]
    })
}

const KEYS: [&str; 20] = [
    "inputs",
    "parameters",
    "top_k",
    "targets",
    "aggregation_strategy",
    "question",
    "context",
    "max_answer_len",
    "doc_stride",
    "handle_impossible_answer",
    "chunk_tokens",
    "overlap",
    "late",
    "return_text",
    "history",
    "k",
    "allow",
    "deny",
    "exclude_seen",
    "other",
];

/// A body that a route takes, with some of its fields swapped for anything.
fn near() -> impl Strategy<Value = Value> {
    let whole = (text(), text(), 0_usize..40, 0_usize..12, any::<bool>()).prop_map(
        |(first, second, many, few, flag)| {
            json!({
                "inputs": first, "history": [first, second, "i3"], "k": many, "deny": [second],
                "chunk_tokens": many, "overlap": few, "late": flag, "return_text": !flag,
                "exclude_seen": flag, "raw_scores": flag,
                "parameters": {"top_k": many, "max_answer_len": many, "doc_stride": few, "handle_impossible_answer": flag},
            })
        },
    );
    let inputs = prop_oneof![
        text().prop_map(Value::from),
        prop::collection::vec(text(), 0..4).prop_map(Value::from),
        (text(), text()).prop_map(|(q, c)| json!({"question": q, "context": c})),
        anything(),
    ];
    let swaps = prop::collection::vec((prop::sample::select(&KEYS[..]), anything()), 0..2);
    (whole, inputs, swaps).prop_map(|(mut body, inputs, swaps)| {
        body["inputs"] = inputs;
        for (key, value) in swaps {
            body[key] = value;
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_answered_or_refused(body in anything(), route in 0..ROUTES.len()) {
        judge(ROUTES[route], &body.to_string());
    }

    #[test]
    fn bodies_close_to_right_are_answered_or_refused(body in near(), route in 0..ROUTES.len()) {
        judge(ROUTES[route], &body.to_string());
    }
}
