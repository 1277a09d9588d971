//! `cloze serve`, as people run it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod program;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use program::{cloze, ok};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ends the server when the test does.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of models, what it logs, and its address.
fn serve(models: &[&str], key: Option<&str>) -> (Server, BufReader<ChildStderr>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloze"));
    command
        .arg("serve")
        .args(models)
        .args(["--port", "0"])
        .stderr(Stdio::piped());
    if let Some(key) = key {
        command.env("CLOZE_API_KEY", key);
    }
    let mut server = Server(command.spawn().unwrap());
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.trim_end().trim_end_matches('"').to_owned();
        }
    };
    (server, log, address)
}

/// What the address answers to a body on a route, head and body.
fn post(address: &str, path: &str, key: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn json_of(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[test]
fn a_server_answers_with_a_key_and_ends_when_it_is_told_to() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../runtime/tests/golden/sentence-v6"
    );
    let (mut server, mut log, address) = serve(&[model], Some("secret"));
    let ask = |key: &str| {
        post(
            &address,
            "/embed",
            key,
            "{\"inputs\": \"What is a cloze?\"}",
        )
    };
    assert!(ask("other").starts_with("HTTP/1.1 401"));
    let vectors = json_of(&ask("secret"));
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
    let (_server, _log, address) = serve(&[model.to_str().unwrap()], None);
    let body = json!({"history": histories, "k": 3}).to_string();
    let served = json_of(&post(&address, "/v1/recommend", "", &body));
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
    let models = models.each_ref().map(String::as_str);
    let (_server, _log, address) = serve(&models, None);
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
