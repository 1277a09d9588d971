//! `cloze serve`, as people run it.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Ends the server when the test does.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_answers_with_a_key_and_ends_when_it_is_told_to() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../runtime/tests/golden/sentence-v6"
    );
    let child = Command::new(env!("CARGO_BIN_EXE_cloze"))
        .args(["serve", model, "--port", "0"])
        .env("CLOZE_API_KEY", "secret")
        .stderr(Stdio::piped())
        .spawn();
    let mut server = Server(child.unwrap());
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.trim_end().trim_end_matches('"').to_owned();
        }
    };
    let ask = |key: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let body = "{\"inputs\": \"What is a cloze?\"}";
        write!(
            stream,
            "POST /embed HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("other").starts_with("HTTP/1.1 401"));
    let answer = ask("secret");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let (_, vectors) = answer.split_once("\r\n\r\n").unwrap();
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
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
