//! Routes for what heads predict, over the network: answers have the bits that the library gives.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod loopback;

use std::fs;

use cloze_data::text::{Agreement, Answers, Encoding, Input, Long, Shorten};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::TextEncoder;
use cloze_runtime::predict::{Filled, Predict, Predictor};
use cloze_serve::{Keys, Limits, Model};
use loopback::{Loopback, Successors, folder, model};
use serde_json::{Value, json};
use tempfile::TempDir;

fn predictor(name: &str) -> Predictor {
    Predictor::open(&folder(name), Options::default()).unwrap()
}

const fn windows(overlap: usize) -> Long {
    Long::Chunk {
        overlap,
        whole_words: true,
    }
}

async fn server(name: &str) -> Loopback {
    Loopback::start(vec![model(name, Limits::default())]).await
}

/// The same number, to the last bit.
#[track_caller]
fn same(found: &Value, expected: f32) {
    let found = found.as_f64().unwrap() as f32;
    assert_eq!(found.to_bits(), expected.to_bits(), "{found} {expected}");
}

fn floats(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|x| x.as_f64().unwrap() as f32).collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

#[track_caller]
fn same_fills(found: &Value, filled: &Filled) {
    let one = [found.clone()];
    let masks = match &filled.masks[..] {
        [_] => &one[..],
        _ => list(found),
    };
    assert_eq!(masks.len(), filled.masks.len());
    for (mask, (found, expected)) in masks.iter().zip(&filled.masks).enumerate() {
        assert_eq!(list(found).len(), expected.len());
        for (found, expected) in list(found).iter().zip(expected) {
            same(&found["score"], expected.score);
            assert_eq!(found["token"], expected.id);
            assert_eq!(found["token_str"], *expected.token);
            assert_eq!(found["sequence"], filled.with_one(mask, expected));
        }
    }
}

#[tokio::test]
async fn masks_are_filled_as_the_library_fills_them() {
    let long = "the cat sat on the red mat and ".repeat(20);
    let texts = [
        "The [MASK] sat on the mat.".to_owned(),
        "[MASK] is [MASK]".to_owned(),
        format!("{long}[MASK] {long}[MASK]"),
    ];
    for name in ["pipelines/masks", "pipelines/masks-bytes"] {
        let Predictor::FillMask(mut library) = predictor(name) else {
            panic!("{name}");
        };
        let server = server(name).await;
        let inputs: Vec<Input<'_>> = texts.iter().map(|text| text.as_str().into()).collect();
        let expected = library.predict(&inputs, windows(32), 8192).unwrap();
        let found = server.ok("/v1/fill", &json!({"inputs": texts})).await;
        assert_eq!(list(&found).len(), texts.len());
        for (found, expected) in list(&found).iter().zip(&expected) {
            same_fills(found, expected);
        }
        assert_eq!(expected[0].masks[0].len(), 5);
        let alone = server.ok("/", &json!({"inputs": texts[0]})).await;
        assert_eq!(alone, found[0], "alone, no list, and by the address alone");

        // Two masks of one text: the sequence has the other still.
        let sequence = found[1][0][0]["sequence"].as_str().unwrap();
        assert!(sequence.contains(library.mask()), "{sequence}");

        let words = ["c".to_owned(), "a".to_owned()];
        library.set_candidates(&words).unwrap();
        library.top = 2;
        let expected = library.predict(&inputs[..1], windows(32), 8192).unwrap();
        let body = json!({"inputs": texts[0], "parameters": {"targets": words}});
        same_fills(&server.ok("/v1/fill", &body).await, &expected[0]);
        library.top = 1;
        let expected = library.predict(&inputs[..1], windows(32), 8192).unwrap();
        let body = json!({"inputs": texts[0], "parameters": {"targets": words, "top_k": 1}});
        same_fills(&server.ok("/v1/fill", &body).await, &expected[0]);

        let (path, text) = ("/v1/fill", &texts[0]);
        for (body, status, part) in [
            (json!({"inputs": []}), 400, "`inputs` cannot be empty"),
            (
                json!({"inputs": [text, "no mask"]}),
                422,
                "found none in text 1",
            ),
            (
                json!({"inputs": text, "parameters": {"top_k": 0}}),
                422,
                "`parameters.top_k`: expected 1 to 1000, found 0",
            ),
            (
                json!({"inputs": text, "parameters": {"targets": []}}),
                422,
                "`parameters.targets`: expected candidates of one token each, found none",
            ),
            (
                json!({"inputs": text, "parameters": {"targets": ["cat sat"]}}),
                422,
                "leave these out",
            ),
            (
                json!({"inputs": "[MASK] ".repeat(10_000), "parameters": {"top_k": 1000}}),
                422,
                "send shorter texts, fewer masks or a smaller `top_k`",
            ),
            (json!({"inputs": {"a": 1}}), 422, "expected a text"),
        ] {
            server.refused(path, &body, status, part).await;
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn tokens_of_weight_are_those_that_the_library_gives() {
    let name = "pipelines/masks";
    let Predictor::FillMask(library) = predictor(name) else {
        panic!("{name}");
    };
    let texts = ["The cat sat on the mat.", "how is the water", ""];
    let encode = |text: &&str| {
        let windows = library.encode((*text).into(), Long::Truncate(Shorten::LongestFirst));
        windows.unwrap().remove(0)
    };
    let encodings: Vec<Encoding> = texts.iter().map(encode).collect();
    let expected = library.sparse(&encodings.iter().collect::<Vec<_>>());
    let server = server(name).await;
    let found = server.ok("/embed_sparse", &json!({"inputs": texts})).await;
    for (found, expected) in list(&found).iter().zip(expected.unwrap()) {
        assert!(!expected.is_empty());
        assert_eq!(list(found).len(), expected.len());
        for (found, (index, value)) in list(found).iter().zip(expected) {
            assert_eq!(found["index"], index);
            same(&found["value"], value);
        }
    }
    // The same model makes dense vectors too.
    let vectors = server.ok("/embed", &json!({"inputs": texts[0]})).await;
    let dense = TextEncoder::open(&folder(name), Options::default()).unwrap();
    let encoding = dense.encode(texts[0], None).unwrap();
    let mut vector = dense.embed(&[&encoding]).unwrap();
    dense.normalize(vector.len(), &mut vector);
    assert_eq!(floats(&vectors[0]), vector);
    server.stop().await;

    // A folder that says that it is made for this.
    let made = TempDir::new().unwrap();
    for file in fs::read_dir(folder(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), made.path().join(file.file_name())).unwrap();
    }
    let modules =
        json!([{"path": "", "type": "a.MLMTransformer"}, {"path": "1", "type": "a.SpladePooling"}]);
    fs::write(made.path().join("modules.json"), modules.to_string()).unwrap();
    let splade = Model::open(
        "splade".into(),
        made.path(),
        Options::default(),
        Limits::default(),
    );
    let splade = Loopback::start(vec![splade.unwrap()]).await;
    for path in ["/embed_sparse", "/"] {
        assert_eq!(splade.ok(path, &json!({"inputs": texts})).await, found);
    }
    let part = "model is not an embedding model; ask /embed_sparse";
    splade
        .refused("/embed", &json!({"inputs": "a"}), 424, part)
        .await;
    let info = splade.get("/info", "").await.json();
    assert_eq!(info["model_type"]["embedding"]["pooling"], "splade");
    splade.stop().await;

    let other = Loopback::start(vec![model("golden/sentence-v6", Limits::default())]).await;
    let part = "Model is not an embedding model with SPLADE pooling";
    let body = json!({"inputs": "a"});
    other.refused("/embed_sparse", &body, 424, part).await;
    other.stop().await;
}

#[tokio::test]
async fn entities_are_those_that_the_library_finds() {
    let Predictor::TokenClassifier(mut library) = predictor("pipelines/tokens") else {
        panic!("a token classifier");
    };
    let server = server("pipelines/tokens").await;
    let long = "The cat sat on the red mat. ".repeat(20);
    let texts = ["The cat sat on the red mat.", "ÜBER Straße café is", &long];
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| (*text).into()).collect();
    for (strategy, agreement) in [
        (None, Some(Agreement::First)),
        (Some("first"), Some(Agreement::First)),
        (Some("simple"), Some(Agreement::Simple)),
        (Some("average"), Some(Agreement::Average)),
        (Some("max"), Some(Agreement::Max)),
        (Some("none"), None),
    ] {
        library.aggregation = agreement;
        let expected = library.predict(&inputs, windows(32), 8192).unwrap();
        let mut body = json!({"inputs": texts});
        if let Some(strategy) = strategy {
            body["parameters"] = json!({"aggregation_strategy": strategy});
        }
        let found = server.ok("/v1/entities", &body).await;
        let key = if agreement.is_some() {
            "entity_group"
        } else {
            "entity"
        };
        for ((found, expected), text) in list(&found).iter().zip(&expected).zip(texts) {
            let expected: Vec<_> = expected.iter().filter(|e| e.label != "O").collect();
            assert_eq!(list(found).len(), expected.len(), "{strategy:?} {text}");
            assert!(!expected.is_empty());
            let chars: Vec<char> = text.chars().collect();
            for (found, expected) in list(found).iter().zip(expected) {
                assert_eq!(found[key], *expected.label);
                same(&found["score"], expected.score);
                let [start, end] = ["start", "end"].map(|key| found[key].as_u64().unwrap());
                assert_eq!((start as u32, end as u32), {
                    (expected.chars.start, expected.chars.end)
                });
                let word: String = chars[start as usize..end as usize].iter().collect();
                assert_eq!(found["word"], *word);
            }
        }
        body["inputs"] = json!(texts[1]);
        assert_eq!(server.ok("/", &body).await, found[1]);
    }
    let body = json!({"inputs": "a", "parameters": {"aggregation_strategy": "all"}});
    let part = "unknown variant `all`";
    server.refused("/v1/entities", &body, 422, part).await;
    let none = server.ok("/v1/entities", &json!({"inputs": ""})).await;
    assert_eq!(none, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn answers_are_those_that_the_library_finds() {
    let Predictor::Answerer(mut library) = predictor("pipelines/answers") else {
        panic!("an answerer");
    };
    let server = server("pipelines/answers").await;
    let context = "The river bank is red and the cat sat on the mat.";
    let long = format!("{context} ").repeat(12);
    let (first, second) = ("how is the water", "is the cat red");
    let inputs = [(first, context).into(), (second, &*long).into()];
    let body = |parameters: &Value| {
        json!({
            "inputs": [
                {"question": first, "context": context},
                {"question": second, "context": long},
            ],
            "parameters": parameters,
        })
    };
    let usual = Answers::default();
    for (parameters, settings, overlap) in [
        (json!({}), usual, 128),
        (
            json!({"top_k": 3, "max_answer_len": 4, "handle_impossible_answer": true, "doc_stride": 5}),
            Answers {
                count: 3,
                max_tokens: 4,
                nothing: true,
                ..usual
            },
            5,
        ),
    ] {
        library.answers = settings;
        let expected = library.predict(&inputs, windows(overlap), 8192).unwrap();
        let found = server.ok("/v1/answer", &body(&parameters)).await;
        for (found, expected) in list(&found).iter().zip(&expected) {
            let one = [found.clone()];
            let found = if settings.count == 1 {
                &one
            } else {
                &**list(found)
            };
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                same(&found["score"], expected.score);
                assert_eq!(found["answer"], *expected.text);
                assert_eq!(found["start"], expected.chars.start);
                assert_eq!(found["end"], expected.chars.end);
            }
        }
    }
    let alone = json!({"inputs": {"question": first, "context": context}});
    let found = server.ok("/v1/answer", &alone).await;
    assert_eq!(
        found,
        server.ok("/v1/answer", &body(&json!({}))).await[0],
        "alone, and no list"
    );
    assert_eq!(server.ok("/", &alone).await, found);

    for (question, context, parameters, status, part) in [
        ("", "x", json!({}), 400, "`question` cannot be empty"),
        ("x", " \n", json!({}), 400, "`context` cannot be empty"),
        (&*long, "x", json!({}), 422, "`question`: expected at most"),
        ("x", "x", json!({"top_k": 0}), 422, "expected 1 to 1000"),
        (
            "x",
            "x",
            json!({"max_answer_len": 1000}),
            422,
            "`parameters.max_answer_len`: expected 1 to 256, found 1000",
        ),
    ] {
        let body =
            json!({"inputs": {"question": question, "context": context}, "parameters": parameters});
        server.refused("/v1/answer", &body, status, part).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn chunks_have_the_vectors_of_the_library_and_say_which_characters_they_are() {
    const NAME: &str = "pipelines/masks";
    let library = TextEncoder::open(&folder(NAME), Options::default()).unwrap();
    let server = server(NAME).await;
    let texts = ["  the cat sat, ".repeat(30), "a dog".to_owned()];
    for late in [false, true] {
        let (size, overlap) = (7, 2);
        let body = json!({
            "inputs": texts, "chunk_tokens": size, "overlap": overlap, "late": late, "return_text": true,
        });
        let found = server.ok("/v1/chunks", &body).await;
        assert_eq!(found["model"], "masks");
        let mut tokens = 0;
        for (index, text) in texts.iter().enumerate() {
            let run = if late { None } else { Some(size) };
            let windows = library.chunks(text, None, run, overlap).unwrap();
            let mut expected = Vec::new();
            for window in &windows {
                tokens += window.len();
                if late {
                    let parts = window.parts(size, overlap);
                    let vectors = library.embed_parts(&[(window, &parts)]).unwrap();
                    let vectors = vectors.chunks_exact(library.dimensions());
                    let parts = parts.iter().map(|part| part.chars.clone());
                    expected.extend(parts.zip(vectors.map(<[f32]>::to_vec)));
                } else {
                    let vector = library.embed(&[window]).unwrap();
                    expected.push((window.chars(), vector));
                }
            }
            let data = &found["data"][index];
            assert_eq!(data["index"], index);
            let chunks = list(&data["chunks"]);
            assert_eq!(chunks.len(), expected.len());
            assert!(index == 1 || chunks.len() > 10);
            let chars: Vec<char> = text.chars().collect();
            for (chunk, (span, vector)) in chunks.iter().zip(expected) {
                assert_eq!(floats(&chunk["embedding"]), vector);
                assert_eq!(chunk["start"], span.start);
                assert_eq!(chunk["end"], span.end);
                let said: String = chars[span.start as usize..span.end as usize]
                    .iter()
                    .collect();
                assert_eq!(chunk["text"], *said);
            }
        }
        assert_eq!(found["usage"]["total_tokens"], tokens);
    }
    let whole = server.ok("/v1/chunks", &json!({"inputs": "a dog"})).await;
    let vector = server
        .ok("/embed", &json!({"inputs": "a dog", "normalize": false}))
        .await;
    assert_eq!(
        whole["data"][0]["chunks"][0]["embedding"], vector[0],
        "a short text is one chunk"
    );
    for (body, part) in [
        (json!({"inputs": "a", "chunk_tokens": 0}), "nonzero"),
        (
            json!({"inputs": "a", "chunk_tokens": 10, "overlap": 6}),
            "`overlap`: expected at most half of the tokens of a chunk, 5, found 6",
        ),
        (
            json!({"inputs": "a", "chunk_tokens": 100_000}),
            "expected chunks of at most",
        ),
        (
            json!({"inputs": "cat ".repeat(5000), "chunk_tokens": 1}),
            "the texts make 5000 chunks, at most 4096",
        ),
        (
            json!({"inputs": "cat ".repeat(100_000)}),
            "send less at once",
        ),
        (json!({"inputs": "a", "prompt_name": "none"}), "a prompt"),
    ] {
        server.refused("/v1/chunks", &body, 422, part).await;
    }
    server.stop().await;

    let other = self::server("golden/sentence-v6").await;
    let body = json!({"inputs": "a", "late": true});
    other
        .refused("/v1/chunks", &body, 422, "leave `late` out")
        .await;
    other.stop().await;
}

#[tokio::test]
async fn recommendations_are_what_was_asked_for() {
    let server = Loopback::start(vec![Successors::model()]).await;
    let path = "/v1/recommend";
    let found = server
        .ok(path, &json!({"history": ["i3", "i5"], "k": 3}))
        .await;
    assert_eq!(found["model"], "successors");
    let items = list(&found["data"][0]["items"]);
    let ids: Vec<_> = items.iter().map(|item| item["item"].clone()).collect();
    assert_eq!(ids, ["i6", "i7", "i8"]);
    assert_eq!(items[0]["title"], "Thing 6");
    assert!(items[1].get("title").is_none());
    same(&items[2]["score"], 1.0 / 3.0);
    assert_eq!(
        server.ok("/", &json!({"history": ["i5"]})).await["data"][0]["items"][0]["item"],
        "i6"
    );

    let body = json!({
        "history": [["i5", "nothing", 7], ["i0"], ["nobody"], []],
        "top_k": 2, "allow": ["i5", "i6", "i8", "i1", "gone"], "deny": ["i6", 9], "exclude_seen": false,
    });
    let found = server.ok(path, &body).await;
    let ids = |index: usize| {
        let items = list(&found["data"][index]["items"]).iter();
        items.map(|i| i["item"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(0), ["i8", "i1"]);
    assert_eq!(ids(1), ["i1", "i5"]);
    assert!(ids(2).is_empty() && ids(3).is_empty());
    assert_eq!(found["data"][0]["unknown"], json!(["nothing", "7"]));
    assert!(found["data"][1].get("unknown").is_none());
    assert_eq!(found["data"][2]["unknown"], json!(["nobody"]));
    assert_eq!(found["unknown_allow"], json!(["gone"]));
    assert_eq!(found["unknown_deny"], json!(["9"]));

    for (body, status, part) in [
        (json!({"history": []}), 400, "`history` cannot be empty"),
        (json!({"history": "i5"}), 422, "expected a list of item ids"),
        (
            json!({"history": [1.5]}),
            422,
            "expected a list of item ids",
        ),
        (
            json!({"history": ["i5"], "k": 0}),
            422,
            "`k`: expected 1 to 1000",
        ),
        (
            json!({"history": ["i5"], "allow": ["gone"]}),
            422,
            "`allow`: expected items that the model knows, found 1 items, such as \"gone\"",
        ),
        (
            json!({"history": vec!["i5"; 70_000]}),
            422,
            "send less at once",
        ),
    ] {
        server.refused(path, &body, status, part).await;
    }
    let items = server
        .get("/v1/items?search=THING%201&limit=2", "")
        .await
        .json();
    assert_eq!(items["total"], 20);
    let ids: Vec<_> = list(&items["data"])
        .iter()
        .map(|item| &item["item"])
        .collect();
    assert_eq!(ids, ["i18", "i16"], "the most frequent first");
    let text = json!({"inputs": "a"});
    for path in ["/tokenize", "/embed", "/v1/fill", "/v1/entities"] {
        server.refused(path, &text, 424, "ask /v1/recommend").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn each_route_finds_a_model_that_can_do_it() {
    let names = [
        "golden/sentence-v6",
        "pipelines/labels",
        "golden/cross-encoder",
        "pipelines/masks",
        "pipelines/tokens",
        "pipelines/answers",
    ];
    let mut models: Vec<_> = names
        .iter()
        .map(|name| model(name, Limits::default()))
        .collect();
    models.push(Successors::model());
    let server = Loopback::start(models).await;
    let qa = json!({"question": "how is the cat", "context": "the cat sat"});
    for (path, mut body, own) in [
        ("/v1/embeddings", json!({"input": "a"}), "sentence-v6"),
        ("/v1/chunks", json!({"inputs": "a"}), "sentence-v6"),
        ("/predict", json!({"inputs": "a"}), "labels"),
        (
            "/v1/rerank",
            json!({"query": "a", "documents": ["b"]}),
            "cross-encoder",
        ),
        ("/v1/fill", json!({"inputs": "[MASK]"}), "masks"),
        ("/v1/entities", json!({"inputs": "the cat"}), "tokens"),
        ("/v1/answer", json!({"inputs": qa}), "answers"),
        ("/v1/recommend", json!({"history": ["i1"]}), "successors"),
    ] {
        let found = server.ok(path, &body).await;
        body["model"] = json!(own);
        assert_eq!(server.ok(path, &body).await, found, "{path}");
        body["model"] = json!("none");
        server.refused(path, &body, 404, "/v1/models").await;
        let other = if own == "tokens" { "answers" } else { "tokens" };
        body["model"] = json!(other);
        server.refused(path, &body, 424, "model is not").await;
    }
    let texts = json!({"query": "a", "texts": ["b"]});
    assert_eq!(list(&server.ok("/rerank", &texts).await).len(), 1);
    server.ok("/embed_sparse", &json!({"inputs": "a"})).await;
    let models = server.get("/v1/models", "").await.json();
    let tasks: Vec<_> = list(&models["data"]).iter().map(|m| &m["task"]).collect();
    assert_eq!(
        tasks,
        [
            "sentence-similarity",
            "text-classification",
            "text-ranking",
            "fill-mask",
            "token-classification",
            "question-answering",
            "recommendation"
        ]
    );
    assert_eq!(models["data"][3]["mask_token"], "[MASK]");
    let described = server.get("/api-doc/openapi.json", "").await.json();
    for path in ["fill", "entities", "answer", "chunks", "recommend"] {
        assert!(described["paths"][format!("/v1/{path}")]["post"].is_object());
    }
    // An empty list is of no entities, and of no texts.
    assert!(!described.to_string().contains("\"oneOf\""));
    server.stop().await;
}

#[tokio::test]
async fn pages_are_whole_and_ask_for_no_key() {
    let keys = Keys::default();
    keys.replace(vec!["secret".into()]);
    let models = vec![model("golden/sentence-v6", Limits::default())];
    let server = Loopback::with_keys(models, keys).await;
    let html = "accept: text/html,application/xhtml+xml\r\n";
    for path in ["/", "/docs"] {
        let page = server.get(path, html).await;
        assert_eq!(page.status, 200);
        let head = page.head.to_lowercase();
        assert!(head.contains("content-type: text/html"), "{head}");
        assert!(
            head.contains("default-src 'none'; script-src 'self'"),
            "{head}"
        );
        // Everything that a page names is there, and nothing is of elsewhere.
        let mut files = 0;
        for attribute in ["src=\"", "href=\""] {
            for part in page.body.split(attribute).skip(1) {
                let (file, _) = part.split_once('"').unwrap();
                assert!(file.starts_with('/') || file.starts_with('#'), "{file}");
                if file.starts_with("/page/") {
                    let file = server.get(file, "").await;
                    assert_eq!(file.status, 200);
                    assert!(!file.body.contains("http://") || file.head.contains("svg"));
                    files += 1;
                }
            }
        }
        assert!(files >= 3, "{path}");
        for inline in ["<style", "style=", "<script>", " onclick", " onload"] {
            assert!(!page.body.contains(inline), "{path}: {inline}");
        }
    }
    let health = server.get("/", "accept: */*\r\n").await;
    assert_eq!((health.status, &*health.body), (200, ""));
    assert_eq!(server.get("/v1/models", "").await.status, 401);
    server.stop().await;
}
