//! Models by name, from a hub on this machine that speaks just enough of the protocol.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with a tiny model, whole and without its list of modules, and a gated one.
struct Hub {
    address: String,
    /// First lines of requests, and their tokens.
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Content {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let content = Content {
            files: Arc::new(files()),
            address: address.clone(),
            asked: Arc::clone(&asked),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let content = content.clone();
                std::thread::spawn(move || content.talk(&stream.unwrap()));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// The model's files, with some that are not needed.
fn files() -> BTreeMap<String, Vec<u8>> {
    let home = model();
    let names = [
        "config.json",
        "model.safetensors",
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
    ];
    let files = names.map(|name| (name.to_owned(), fs::read(home.join(name)).unwrap()));
    let others = ["README.md", "onnx/model.onnx", "pytorch_model.bin"];
    let others = others.map(|name| (name.to_owned(), b"not needed".to_vec()));
    files.into_iter().chain(others).collect()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden/sentence")
}

impl Content {
    /// Answers requests until the other side has no more.
    fn talk(&self, stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(request)) = lines.next() {
            let headers: Vec<String> = lines
                .by_ref()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let header = |name: &str| {
                headers.iter().find_map(|line| {
                    let (found, value) = line.split_once(": ")?;
                    found.eq_ignore_ascii_case(name).then_some(value)
                })
            };
            let token = header("authorization").unwrap_or("");
            let line = format!("{request} {token}");
            self.asked.lock().unwrap().push(line);
            let path = request.split(' ').nth(1).unwrap();
            let range = header("range").and_then(|range| range.strip_prefix("bytes="));
            if !self.answer(stream, path, range) {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    fn answer(&self, stream: &TcpStream, path: &str, range: Option<&str>) -> bool {
        let send = |head: String, body: &[u8]| {
            let mut stream = stream;
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        };
        let reply = |status: &str, headers: &str, body: &[u8]| {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
            send(head, body);
            true
        };
        let path = path.split('?').next().unwrap();
        if let Some(wanted) = path.strip_prefix("/api/models/") {
            let (name, revision) = wanted.split_once("/revision/").unwrap();
            return match (name, revision) {
                ("org/tiny" | "org/plain" | "org/gated", "main") => {
                    reply("200 OK", "", self.describe(name).as_bytes())
                }
                ("org/tiny", _) => {
                    reply("404 Not Found", "x-error-code: RevisionNotFound\r\n", b"")
                }
                ("org/broken", _) => reply("500 Internal Server Error", "", b""),
                _ => reply("401 Unauthorized", "x-error-code: RepoNotFound\r\n", b""),
            };
        }
        if path.starts_with("/org/gated/") {
            return reply("401 Unauthorized", "x-error-code: GatedRepo\r\n", b"");
        }
        let file = path
            .split_once(&format!("/resolve/{COMMIT}/"))
            .map(|(_, file)| file);
        let stored = path.strip_prefix("/stored/");
        let Some(bytes) = file.or(stored).and_then(|name| self.files.get(name)) else {
            return reply("404 Not Found", "", b"");
        };
        // As a hub keeps large files elsewhere.
        if let Some(name) = file.filter(|name| name.ends_with(".safetensors")) {
            let headers = format!(
                "x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{}\"\r\nlocation: {}/stored/{name}\r\n",
                etag(bytes),
                self.address
            );
            return reply("302 Found", &headers, b"");
        }
        let (from, to) = range.unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(bytes.len(), |last: usize| last + 1);
        let total = bytes.len();
        let headers = format!(
            "x-repo-commit: {COMMIT}\r\netag: \"{}\"\r\ncontent-range: bytes {from}-{}/{total}\r\n",
            etag(bytes),
            to - 1
        );
        // The first time, the connection breaks in the middle of the weights.
        let is_weights = path == "/stored/model.safetensors" && from == 0 && to == total;
        if is_weights {
            let head =
                format!("HTTP/1.1 206 Partial Content\r\ncontent-length: {total}\r\n{headers}\r\n");
            send(head, &bytes[..total / 2]);
            return false;
        }
        reply("206 Partial Content", &headers, &bytes[from..to])
    }

    fn describe(&self, name: &str) -> String {
        let siblings: Vec<_> = self
            .files
            .iter()
            .filter(|(file, _)| name != "org/plain" || *file != "modules.json")
            .map(|(file, bytes)| serde_json::json!({"rfilename": file, "size": bytes.len()}))
            .collect();
        let gated = if name == "org/gated" {
            "manual".into()
        } else {
            serde_json::Value::Bool(false)
        };
        serde_json::json!({"sha": COMMIT, "gated": gated, "siblings": siblings}).to_string()
    }
}

/// A name for these bytes.
fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Somebody's machine, with a cache of its own.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::write(home.path("texts.txt"), "the cat sat\nthe river\n").unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn cloze(&self, endpoint: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloze"));
        for variable in [
            "HF_HUB_CACHE",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(variable);
        }
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("HF_HOME", self.path("home"))
            .env("HF_ENDPOINT", endpoint)
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn embed(&self, endpoint: &str, name: &str, variables: &[(&str, &str)]) -> Output {
        self.cloze(endpoint, &["embed", name, "texts.txt"], variables)
    }

    fn refused(&self, endpoint: &str, name: &str, variables: &[(&str, &str)]) -> String {
        let output = self.embed(endpoint, name, variables);
        assert_eq!(output.status.code(), Some(1));
        said(&output)
    }

    fn cached(&self, model: &str) -> PathBuf {
        self.path("home/hub").join(model)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An address where nobody answers.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_named_model_is_fetched_once_and_then_needs_no_network() {
    let (hub, home) = (Hub::start(), Home::new());
    let local = home.embed(&nobody(), model().to_str().unwrap(), &[]);
    let expected = ok(&local);
    let first = home.embed(&hub.address, "org/tiny", &[("HF_TOKEN", "secret")]);
    assert_eq!(ok(&first), expected);
    assert!(
        said(&first).contains("downloading org/tiny"),
        "{}",
        said(&first)
    );
    let asked = hub.asked();
    let unwanted = ["README", "onnx", "pytorch_model"];
    for line in &asked {
        assert!(!unwanted.iter().any(|name| line.contains(name)), "{line}");
    }
    assert!(asked[0].ends_with("Bearer secret"), "{}", asked[0]);

    // As Python lays it out.
    let cached = home.cached("models--org--tiny");
    assert_eq!(
        fs::read_to_string(cached.join("refs/main")).unwrap(),
        COMMIT
    );
    assert_eq!(fs::read_dir(cached.join("refs")).unwrap().count(), 1);
    let snapshot = cached.join("snapshots").join(COMMIT);
    let link = fs::read_link(snapshot.join("1_Pooling/config.json")).unwrap();
    assert!(link.starts_with("../../../blobs"), "{}", link.display());

    for (endpoint, variable) in [(&hub.address, "HF_HUB_OFFLINE"), (&nobody(), "UNUSED")] {
        let again = home.embed(endpoint, "org/tiny", &[(variable, "1")]);
        assert_eq!(ok(&again), expected);
        assert_eq!(said(&again), "");
    }
    let elsewhere = home.path("home/hub");
    let elsewhere = [
        ("HF_HUB_CACHE", elsewhere.to_str().unwrap()),
        ("HF_HOME", "absent"),
    ];
    ok(&home.embed(&nobody(), "org/tiny", &elsewhere));
    let by_commit = [
        "embed",
        "org/tiny",
        "texts.txt",
        "--offline",
        "--revision",
        COMMIT,
    ];
    assert_eq!(ok(&home.cloze(&nobody(), &by_commit, &[])), expected);
    let inspected = ok(&home.cloze(&nobody(), &["inspect", "org/tiny"], &[]));
    assert!(inspected.contains("org/tiny: BertModel"), "{inspected}");
    assert_eq!(hub.asked(), [""; 0], "what is cached is not asked for");

    // A cache that lost a file is mended, or says what it lacks.
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let message = home.refused(&nobody(), "org/tiny", &[]);
    assert!(
        message.contains("lacks model.safetensors") && message.contains("cannot be reached"),
        "{message}"
    );
    assert_eq!(ok(&home.embed(&hub.address, "org/tiny", &[])), expected);
    let asked = hub.asked();
    assert!(
        asked
            .iter()
            .all(|line| line.contains("/api/") || line.contains("model.safetensors")),
        "{asked:?}"
    );
}

#[test]
fn a_cache_that_cannot_tell_how_texts_are_embedded_says_so() {
    let (hub, home) = (Hub::start(), Home::new());
    let first = home.embed(&hub.address, "org/plain", &[]);
    let expected = ok(&first);
    // That the hub has no list of modules is noted, as Python notes it.
    let again = home.embed(&nobody(), "org/plain", &[]);
    assert_eq!(
        (ok(&again), said(&again)),
        (expected.clone(), String::new())
    );
    let note = home
        .cached("models--org--plain")
        .join(".no_exist")
        .join(COMMIT)
        .join("modules.json");
    fs::remove_file(note).unwrap();
    let unsure = home.embed(&nobody(), "org/plain", &[]);
    assert_eq!(ok(&unsure), expected);
    assert!(
        said(&unsure).contains("warning: org/plain") && said(&unsure).contains("modules.json"),
        "{}",
        said(&unsure)
    );
    let sure = home.embed(&hub.address, "org/plain", &[]);
    assert_eq!((ok(&sure), said(&sure)), (expected, String::new()));
}

/// Where is asked for what, with which variables, and parts of the answer.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn what_cannot_be_had_is_told_with_what_to_do() {
    let (hub, home) = (Hub::start(), Home::new());
    let at = hub.address.as_str();
    let offline = [("HF_HUB_OFFLINE", "1")];
    let cases: [Case; 7] = [
        (
            at,
            "org/none",
            &[],
            &["no such folder", "no model of this name", "HF_TOKEN"],
        ),
        (
            at,
            "org/none",
            &[("HF_TOKEN", "x")],
            &["may not be allowed to see it"],
        ),
        (
            at,
            "org/gated",
            &[],
            &["gated", "accept its terms at", "org/gated"],
        ),
        (at, "org/broken", &[], &["answered 500"]),
        (
            at,
            "org/tiny",
            &offline,
            &["not in the cache", "home/hub", "offline", "name a folder"],
        ),
        (
            &nobody(),
            "org/tiny",
            &[],
            &["not in the cache", "home/hub", "cannot be reached"],
        ),
        (
            at,
            "./org/tiny",
            &[],
            &[
                "./org/tiny: no such folder; name a model folder, or a model of the hub as OWNER/NAME\n",
            ],
        ),
    ];
    for (endpoint, name, variables, parts) in cases {
        let message = home.refused(endpoint, name, variables);
        for part in parts {
            assert!(message.contains(part), "{name}: {part}: {message}");
        }
    }
    let revision = ["embed", "org/tiny", "texts.txt", "--revision", "v2"];
    let message = said(&home.cloze(at, &revision, &[]));
    assert!(message.contains("no revision \"v2\""), "{message}");
    assert!(!home.path("home/hub/models--org--none").exists());
}
