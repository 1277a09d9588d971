//! Servers on the loopback address, and a client that reads what they answer.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::{Path, PathBuf};

use cloze_data::ItemVocabulary;
use cloze_runtime::cpu::Options;
use cloze_serve::{Choice, Keys, Limits, Listener, Model, Recommend, Server, Settings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub fn folder(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    home.join("../runtime/tests").join(name)
}

/// A small model of texts, by the name of its folder.
pub fn model(name: &str, limits: Limits) -> Model {
    let options = Options {
        threads: Some(1),
        ..Options::default()
    };
    let short = name.rsplit('/').next().unwrap();
    Model::open(short.into(), &folder(name), options, limits).unwrap()
}

/// Items 0 to 19, of which the even ones have titles; the next item is the last one's successor, then its, and so on.
pub struct Successors(ItemVocabulary);

impl Successors {
    pub fn model() -> Model {
        let ids = (0..20).map(|id| format!("i{id}")).collect();
        let titles = (0..20).map(|id| (id % 2 == 0).then(|| format!("Thing {id}")));
        let vocabulary = ItemVocabulary::new(ids, titles.collect(), (0..20).collect());
        let model = Box::new(Self(vocabulary));
        Model::recommender("successors".into(), model, Limits::default()).unwrap()
    }
}

impl Recommend for Successors {
    fn vocabulary(&self) -> &ItemVocabulary {
        &self.0
    }

    fn max_len(&self) -> usize {
        50
    }

    fn excludes_seen(&self) -> bool {
        true
    }

    fn recommend(&self, histories: &[&[u32]], choice: &Choice) -> Vec<Vec<(u32, f32)>> {
        let of_one = |history: &&[u32]| {
            let last = history.last().unwrap();
            let next = (1..=20).map(|step| ((last + step) % 20, 1.0 / step as f32));
            let may = |item: &u32| {
                let is_seen = choice.exclude_seen && history.contains(item);
                let is_allowed = choice.allow.as_ref().is_none_or(|all| all.contains(item));
                !is_seen && is_allowed && !choice.deny.contains(item)
            };
            next.filter(|(item, _)| may(item))
                .take(choice.top)
                .collect()
        };
        histories.iter().map(of_one).collect()
    }
}

pub struct Loopback {
    address: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<bool>,
}

/// What a server answered.
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

impl Loopback {
    pub async fn start(models: Vec<Model>) -> Self {
        Self::with_keys(models, Keys::default()).await
    }

    pub async fn with_keys(models: Vec<Model>, keys: Keys) -> Self {
        let settings = Settings {
            keys,
            connections: 64,
            payload_bytes: 1_000_000,
            ..Settings::default()
        };
        let server = Server::new(models, settings).unwrap();
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.place().trim_start_matches("http://").to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            running,
        }
    }

    async fn send(&self, method: &str, path: &str, head: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{head}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Sends bytes as JSON.
    pub async fn post_raw(&self, path: &str, body: &[u8]) -> Reply {
        let head = "content-type: application/json\r\n";
        self.send("POST", path, head, body).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let reply = self.post_raw(path, body.to_string().as_bytes()).await;
        (reply.status, reply.json())
    }

    /// The answer to a request that is answered.
    pub async fn ok(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// The answer to a request that is refused with `status` and a message with `part` in it.
    pub async fn refused(&self, path: &str, body: &Value, status: u16, part: &str) {
        let (found, answer) = self.post(path, body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        let message = answer.get("message").or(answer.get("error"));
        let message = message.and_then(Value::as_str).unwrap();
        assert!(message.contains(part), "{path} {body}: {message}");
    }

    pub async fn get(&self, path: &str, head: &str) -> Reply {
        self.send("GET", path, head, b"").await
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        assert!(self.running.await.unwrap(), "everything was answered");
    }
}
