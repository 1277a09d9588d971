//! `cloze serve`, as people run it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod program;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use program::{cloze, ok};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Ends the server when the test does.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtime/tests/golden/sentence-v6"
);

impl Server {
    /// Starts `cloze serve` as set up, and waits until it says where: there, and the rest of what it logs.
    fn start(command: &mut Command) -> (Self, String, BufReader<ChildStderr>) {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut server = Self(child.unwrap());
        let mut log = BufReader::new(server.0.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, rest)) = line.split_once("://") {
                break rest.trim_end().trim_end_matches('"').to_owned();
            }
        };
        (server, address, log)
    }
}

fn serve() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloze"));
    command.arg("serve");
    command
}

/// The whole answer to a request with these headers.
fn ask(address: &str, what: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{what} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn json_of(answer: &str) -> Value {
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn a_server_answers_with_a_key_and_ends_when_it_is_told_to() {
    let mut command = serve();
    command
        .args([MODEL, "--port", "0"])
        .env("CLOZE_API_KEY", "secret");
    let (mut server, address, mut log) = Server::start(&mut command);
    let embed = |key: &str| {
        let header = format!("authorization: Bearer {key}\r\n");
        let body = "{\"inputs\": \"What is a cloze?\"}";
        ask(&address, "POST /embed", &header, body)
    };
    assert!(embed("other").starts_with("HTTP/1.1 401"));
    let vectors = json_of(&embed("secret"));
    assert_eq!(vectors[0].as_array().unwrap().len(), 10);

    let id = server.0.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    assert!(server.0.wait().unwrap().success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("stopped"), "{rest}");
    assert!(
        !rest.contains("What is a cloze"),
        "texts are not logged: {rest}"
    );
}

/// Folders that label texts by features and by windows, made of a small encoder.
fn labellers(folder: &Path) {
    let mut table = "text\tlabel\n".to_owned();
    for at in 0..40 {
        let (word, label) = if at % 2 == 0 {
            ("cat", "pet")
        } else {
            ("lamp", "thing")
        };
        writeln!(
            table,
            "the {word} sat on it {at} and the {word} was there\t{label}"
        )
        .unwrap();
    }
    fs::write(folder.join("texts.tsv"), table).unwrap();
    let train = |recipe: &str, out: &str, settings: &[&str]| {
        let all = [
            "train",
            recipe,
            "--model",
            MODEL,
            "--data",
            "texts.tsv",
            "-o",
            out,
        ];
        let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
        ok(cloze(
            folder,
            &all.into_iter().chain(settings).collect::<Vec<_>>(),
        ));
    };
    train("prompt-injection", "features", &[]);
    let short = [
        "epochs=1",
        "model.max_len=10",
        "objective.chunks.overlap=1",
        "objective.chunks.most=8",
    ];
    train("ad-bert", "windows", &short);
    train("ad-bert/attention", "weighed", &short);
}

#[test]
fn labels_by_features_and_by_windows_are_those_of_predict() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    labellers(folder);
    let mut command = serve();
    command
        .args(["--port", "0", "features", "windows"])
        .current_dir(folder);
    let (_server, address, _log) = Server::start(&mut command);
    let texts = [
        "the cat",
        "the lamp sat on the cat and it was there, it was the lamp, the red lamp",
    ];
    for model in ["features", "windows"] {
        let body = json!({"inputs": texts.map(|text| [text]), "model": model});
        let found = json_of(&ask(&address, "POST /predict", "", &body.to_string()));
        let one = json!({"inputs": texts[1], "model": model});
        let one = json_of(&ask(&address, "POST /predict", "", &one.to_string()));
        assert_eq!(one, found[1]);
        let lines = texts.map(|text| json!({"text": text}).to_string());
        fs::write(folder.join("asked.jsonl"), lines.join("\n")).unwrap();
        ok(cloze(
            folder,
            &["predict", model, "asked.jsonl", "-o", "said.jsonl"],
        ));
        let said = fs::read_to_string(folder.join("said.jsonl")).unwrap();
        for (line, found) in said.lines().zip(found.as_array().unwrap()) {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(alike(&line["labels"], found), "{model}: {line} and {found}");
        }
        for (body, part) in [
            (
                json!({"inputs": "a", "raw_scores": true, "model": model}),
                "raw_scores",
            ),
            (
                json!({"inputs": "a", "prompt_name": "query", "model": model}),
                "prompt_name",
            ),
        ] {
            let answer = ask(&address, "POST /predict", "", &body.to_string());
            assert!(
                answer.starts_with("HTTP/1.1 4") && answer.contains(part),
                "{answer}"
            );
        }
        let rank = json!({"query": "a", "texts": ["b"], "model": model}).to_string();
        let answer = ask(&address, "POST /rerank", "", &rank);
        assert!(answer.contains("ask /predict"), "{answer}");
    }
    let pair = json!({"inputs": ["a", "b"], "model": "windows"}).to_string();
    let answer = ask(&address, "POST /predict", "", &pair);
    assert!(answer.contains("takes one text"), "{answer}");
    let refused = serve()
        .args(["--port", "0", "weighed"])
        .current_dir(folder)
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("cloze predict asks it"), "{told}");
}

/// Whether answers say the same; numbers may differ by what two orders of the same sums make of them.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| alike(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, a): (&String, &Value)| other.get(key).is_some_and(|b| alike(a, b));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Number(one), Value::Number(other)) => {
            (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-4
        }
        _ => one == other,
    }
}

#[test]
fn burn_answers_what_the_cpu_engine_does() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests");
    let start = |device: &str| {
        let mut command = serve();
        command.args(["--port", "0", "--device", device]);
        command.args(
            [
                "golden/sentence-v6",
                "golden/cross-encoder",
                "pipelines/masks",
                "pipelines/labels",
                "pipelines/tokens",
                "pipelines/answers",
            ]
            .map(|folder| format!("{tests}/{folder}")),
        );
        Server::start(&mut command)
    };
    let (cpu, burn) = (start("cpu"), start("burn-cpu"));
    for (path, body) in [
        ("/embed", json!({"inputs": ["the cat", "a dog sat on it"]})),
        ("/embed_all", json!({"inputs": "the cat sat"})),
        (
            "/rerank",
            json!({"query": "the cat", "texts": ["sat", "a dog", "it"]}),
        ),
        ("/v1/fill", json!({"inputs": "the [MASK] sat on it"})),
        (
            "/v1/entities",
            json!({"inputs": "Ada Lovelace lived in London."}),
        ),
        (
            "/v1/answer",
            json!({"inputs": {"question": "Who?", "context": "It was Ada."}}),
        ),
    ] {
        let [one, other] = [(&cpu, "cpu"), (&burn, "burn")].map(|((_, address, _), by)| {
            let answer = ask(address, &format!("POST {path}"), "", &body.to_string());
            assert!(
                answer.contains(&format!("x-compute-type: {by}")),
                "{answer}"
            );
            json_of(&answer)
        });
        assert!(alike(&one, &other), "{path}: {one} and {other}");
    }
    let mut command = serve();
    command.args([MODEL, "--device", "burn-cpu", "--weights", "int8"]);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--weights: expected f32"), "{told}");
}

const ITEMS: [&str; 6] = ["85123A", "22423", "47566", "84879", "21212", "22720"];

/// A folder with a small model of a shop where each item is followed by the next of [`ITEMS`].
fn shop() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut orders = String::from("user,item,time\n");
    for user in 0..40 {
        for step in 0..6 {
            let item = ITEMS[(user + step) % ITEMS.len()];
            writeln!(orders, "{user},{item},{step}").unwrap();
        }
    }
    let names = ITEMS.map(|item| format!("{item},Thing {item}\n")).concat();
    fs::write(folder.path().join("orders.csv"), orders).unwrap();
    fs::write(
        folder.path().join("names.csv"),
        format!("item,name\n{names}"),
    )
    .unwrap();
    let arguments = "train bert4rec --data orders.csv --time time --titles names.csv,item,name -o model --set model.max_len=8 \
                     --set batch.max_tokens=120 --set model.width=16 --set epochs=2 --set validate.every_epochs=1";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    ok(cloze(folder.path(), &arguments));
    folder
}

#[test]
fn a_trained_model_recommends_what_predict_does() {
    let shop = shop();
    let histories = [vec!["85123A", "22423"], vec!["47566", "nothing"]];
    let mut file = String::new();
    for (user, items) in histories.iter().enumerate() {
        let line = json!({"user": user.to_string(), "items": items});
        writeln!(file, "{line}").unwrap();
    }
    fs::write(shop.path().join("histories.jsonl"), file).unwrap();
    let predicted = ok(cloze(
        shop.path(),
        &["predict", "model", "histories.jsonl", "--top", "3"],
    ));
    let model = shop.path().join("model");
    let mut command = serve();
    command.args([model.to_str().unwrap(), "--port", "0"]);
    let (_server, address, _log) = Server::start(&mut command);
    let body = json!({"history": histories, "k": 3}).to_string();
    let served = json_of(&ask(&address, "POST /v1/recommend", "", &body));
    for (index, line) in predicted.lines().enumerate() {
        let predicted: Value = serde_json::from_str(line).unwrap();
        let served = &served["data"][index];
        let items = |answer: &Value| -> Vec<_> {
            let items = answer["items"].as_array().unwrap().iter();
            let score = |item: &Value| item["score"].as_f64().unwrap() as f32;
            items
                .map(|item| (item["item"].clone(), score(item).to_bits()))
                .collect()
        };
        assert_eq!(items(served).len(), 3);
        assert_eq!(items(served), items(&predicted));
        assert_eq!(served.get("unknown"), predicted.get("unknown"));
        let (item, title) = (&served["items"][0]["item"], &served["items"][0]["title"]);
        assert_eq!(*title, format!("Thing {}", item.as_str().unwrap()));
    }
    assert_eq!(predicted.lines().count(), 2);
}

#[test]
fn an_encoder_with_mixers_is_served_by_burn_as_it_predicts() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("corpus.txt"),
        "the cat sat on the mat\n".repeat(30),
    )
    .unwrap();
    let run = |arguments: &[&str]| ok(cloze(folder.path(), arguments));
    run(&[
        "tokenizer",
        "train",
        "--data",
        "corpus.txt",
        "--vocab-size",
        "40",
        "-o",
        "tokenizer",
    ]);
    let config = r#"model.config={ model_type = "cloze-mixer", mixer = { kind = "fourier" }, hidden_size = 8, num_hidden_layers = 1, intermediate_size = 8 }"#;
    let mut arguments = vec![
        "train",
        "bert",
        "--tokenizer",
        "tokenizer",
        "--data",
        "corpus.txt",
    ];
    arguments.extend(["--set", "epochs=1", "--set", config, "-o", "encoder"]);
    run(&arguments);
    let text = "a [MASK] on the cat";
    let predicted = run(&["predict", "encoder", "--input-text", text, "--top", "3"]);
    let mut command = serve();
    let model = folder.path().join("encoder");
    command.args([model.to_str().unwrap(), "--port", "0"]);
    let (_server, address, _log) = Server::start(&mut command);
    let body = json!({"inputs": text}).to_string();
    let answer = ask(&address, "POST /v1/fill", "", &body);
    assert!(answer.contains("x-compute-type: burn"), "{answer}");
    let served = json_of(&answer);
    let lines = predicted.lines().skip(1);
    assert_eq!(lines.clone().count(), 3, "{predicted}");
    for (index, line) in lines.enumerate() {
        let filled = &served[index];
        let score = format!("{:.4}", filled["score"].as_f64().unwrap());
        let sequence = filled["sequence"].as_str().unwrap();
        assert!(
            line.contains(&score) && line.contains(sequence),
            "{line} and {filled}"
        );
    }
}

#[test]
fn every_request_of_the_readme_is_answered() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("not tested: there is no curl here");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tests = root.join("crates/runtime/tests");
    let shop = shop();
    let named = |name: &str, folder: &Path| format!("{name}={}", folder.display());
    let models = [
        named("all-MiniLM-L6-v2", &tests.join("pipelines/masks")),
        named("my-bert", &tests.join("pipelines/masks")),
        named("my-tagger", &tests.join("pipelines/tokens")),
        named("my-answerer", &tests.join("pipelines/answers")),
        named("my-ranker", &tests.join("golden/cross-encoder")),
        named("model", &shop.path().join("model")),
    ];
    let mut command = serve();
    command.args(&models).args(["--port", "0"]);
    let (_server, address, _log) = Server::start(&mut command);
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let requests = readme.lines().filter(|line| line.starts_with("curl "));
    let mut count = 0;
    for request in requests {
        assert!(request.contains("127.0.0.1:3000"), "{request}");
        let line = request.replace("127.0.0.1:3000", &address);
        let line = line.replacen("curl ", "curl --silent --show-error --fail-with-body ", 1);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{request}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap();
        count += 1;
    }
    assert!(count >= 7, "{count}");
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cloze.toml");
    let file = format!(
        "models = [\"mini={MODEL}\"]\nport = 0\nmax-client-batch-size = 1\nmax-batch-tokens = 100\n\
         max-waiting-tokens = 1000\n"
    );
    std::fs::write(&config, file).unwrap();
    let mut command = serve();
    command
        .args(["--max-client-batch-size", "3", "--config"])
        .arg(&config)
        .env("CLOZE_MAX_CLIENT_BATCH_SIZE", "2")
        .env("CLOZE_MAX_BATCH_TOKENS", "200")
        .env("CLOZE_THREADS", "1");
    let (_server, address, _log) = Server::start(&mut command);
    let info = json_of(&ask(&address, "GET /info", "", ""));
    assert_eq!(info["served_model_name"], "mini");
    assert_eq!(info["max_client_batch_size"], 3, "the flag");
    assert_eq!(info["max_batch_tokens"], 200, "the environment");
    assert_eq!(info["max_concurrent_requests"], 1000, "the file");
    assert_eq!(info["auto_truncate"], true, "the default");

    std::fs::write(&config, "port = 0\nmodel = []\n").unwrap();
    let output = serve().arg("--config").arg(&config).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = "cloze.toml:2:1: no setting \"model\"";
    assert!(
        told.contains(expected) && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Whether a server shows this certificate.
fn shows(address: &str, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(address).unwrap());
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    if stream.write_all(request).is_err() {
        return false;
    }
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    &answer == b"HTTP/1.1 200 OK"
}

#[test]
fn a_changed_certificate_and_changed_keys_are_read_when_the_server_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let make = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    };
    let old = make();
    std::fs::write(file("keys"), "# ours\nfirst name=search requests/s=5\n").unwrap();
    let mut command = serve();
    command.args([MODEL, "--port", "0", "--tls-cert"]);
    command.arg(file("cert.pem")).arg("--tls-key");
    command.arg(file("key.pem")).arg("--api-key-file");
    let (server, address, mut log) = Server::start(command.arg(file("keys")));
    assert!(shows(&address, &old));
    let new = make();
    std::fs::write(file("keys"), "first\nsecond requests/s=none\n").unwrap();
    let id = server.0.id().to_string();
    let hang_up = ["-HUP", &id];
    assert!(
        Command::new("kill")
            .args(hang_up)
            .status()
            .unwrap()
            .success()
    );
    let mut told = String::new();
    while !told.contains("certificate read anew") {
        assert!(log.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert!(shows(&address, &new) && !shows(&address, &old));
    // A file with a fault changes nothing, and its keys are not told.
    let expected = "keys: line 2: requests/s: expected a number above 0";
    assert!(
        told.contains(expected) && !told.contains("second"),
        "{told}"
    );
}

#[test]
fn what_requests_did_is_told_to_a_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut command = serve();
    command.args([MODEL, "--port", "0", "--otlp-endpoint", &endpoint]);
    let (_server, address, _log) = Server::start(&mut command);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = |flags| format!("traceparent: 00-{trace}-b7ad6b7169203331-{flags}\r\n");
    let body = "{\"inputs\": [\"a\", \"What is a cloze?\"]}";
    json_of(&ask(&address, "POST /embed", &header("00"), body));
    json_of(&ask(&address, "POST /embed", &header("01"), body));

    let (mut stream, _) = collector.accept().unwrap();
    let mut told = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        told.read_line(&mut line).unwrap();
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    told.read_exact(&mut body).unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let told = &told["resourceSpans"][0];
    let service = &told["resource"]["attributes"][0]["value"]["stringValue"];
    assert_eq!(service, "cloze");
    let spans = told["scopeSpans"][0]["spans"].as_array().unwrap();
    let names: Vec<_> = spans
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    let expected = ["POST /embed", "tokenize", "queue", "batch", "answer"];
    assert_eq!(
        names, expected,
        "one request, since the other was not to be followed"
    );
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
    let time = |span: &serde_json::Value, which: &str| -> u128 {
        span[which].as_str().unwrap().parse().unwrap()
    };
    let mut before = time(&spans[0], "startTimeUnixNano");
    for span in spans {
        assert_eq!(span["traceId"], trace);
        assert!(time(span, "startTimeUnixNano") >= before, "{span}");
        assert!(time(span, "endTimeUnixNano") <= time(&spans[0], "endTimeUnixNano"));
        before = time(span, "startTimeUnixNano");
    }
    for span in &spans[1..] {
        assert_eq!(span["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(span["attributes"][0]["value"]["intValue"], "2");
    }
}

#[test]
fn every_metric_of_the_dashboard_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "a name=search requests/s=0.01\n").unwrap();
    let mut command = serve();
    command.args([MODEL, "--port", "0", "--cache-bytes", "100000"]);
    command.args(["--otlp-endpoint", "http://127.0.0.1:9", "--api-key-file"]);
    let (_server, address, _log) = Server::start(command.arg(&keys));
    let key = "authorization: Bearer a\r\n";
    json_of(&ask(
        &address,
        "POST /embed",
        key,
        "{\"inputs\": [\"a\", \"b\"]}",
    ));
    let refused = ask(&address, "POST /embed", key, "{\"inputs\": \"a\"}");
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let metrics = ask(&address, "GET /metrics", "", "");
    assert!(
        metrics.contains("cloze_key_requests{key=\"search\"} 1"),
        "{metrics}"
    );

    let dashboard = include_str!("../../../deploy/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let mut count = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let words = target["expr"].as_str().unwrap();
            let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter(|w| w.starts_with("te_") || w.starts_with("cloze_")) {
                let mut lines = metrics.lines();
                let is_there = lines.any(|line| {
                    let rest = line.strip_prefix(name);
                    rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                });
                assert!(is_there, "{name} of {}: {metrics}", panel["title"]);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}
