//! Load for a server of embeddings, ours or another: requests over connections that stay, and how long the answers took.
//!
//! ```text
//! load ADDRESS|/SOCKET PATH BODIES CONNECTIONS SECONDS [REQUESTS_PER_SECOND]
//! ```
//! `BODIES` has a request's JSON body on each line. Without a rate each connection asks again as soon as it is answered. With
//! one, requests have their moments whatever the server does, and times count from those moments, so that a server that stalls
//! is charged for all who would have waited. The first second is not counted. Prints one line of JSON.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool that may stop, and prints"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const WARMUP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Found {
    latencies: Vec<Duration>,
    statuses: BTreeMap<u16, usize>,
    /// The uncounted ones too.
    answered: usize,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(at: &str) -> Box<dyn Stream> {
    #[cfg(unix)]
    if at.starts_with('/') {
        return Box::new(tokio::net::UnixStream::connect(at).await.unwrap());
    }
    let stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Box::new(stream)
}

/// The status of the next answer, whose body is read and left.
async fn answer(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> u16 {
    buffer.clear();
    let mut chunk = vec![0; 1 << 16];
    let head = loop {
        let end = buffer.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the server hung up");
        buffer.extend_from_slice(&chunk[..read]);
    };
    let text = std::str::from_utf8(&buffer[..head]).unwrap().to_lowercase();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:"));
    let length: usize = length.unwrap().trim().parse().unwrap();
    let mut rest = (head + length).saturating_sub(buffer.len());
    while rest > 0 {
        let most = rest.min(chunk.len());
        let read = stream.read(&mut chunk[..most]).await.unwrap();
        assert!(read > 0, "the server hung up");
        rest -= read;
    }
    status
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [at, path, bodies, connections, seconds, rate @ ..] = &arguments[..] else {
        panic!(
            "expected: load ADDRESS|/SOCKET PATH BODIES CONNECTIONS SECONDS [REQUESTS_PER_SECOND]"
        );
    };
    let bodies = std::fs::read_to_string(bodies).unwrap();
    let requests: Vec<String> = bodies
        .lines()
        .map(|body| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: load\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        })
        .collect();
    let requests = Arc::new(requests);
    let connections: usize = connections.parse().unwrap();
    let seconds: f64 = seconds.parse().unwrap();
    let every = rate.first().map(|rate| {
        let rate: f64 = rate.parse().unwrap();
        Duration::from_secs_f64(connections as f64 / rate)
    });
    let found = Arc::new(Mutex::new(Found::default()));
    let start = Instant::now();
    let (from, until) = (
        start + WARMUP,
        start + WARMUP + Duration::from_secs_f64(seconds),
    );
    let clients: Vec<_> = (0..connections)
        .map(|client| {
            let (at, requests, found) = (at.clone(), requests.clone(), found.clone());
            tokio::spawn(async move {
                let mut stream = connect(&at).await;
                let mut buffer = Vec::new();
                // Connections are spread over the texts and over the interval.
                let mut next = client * requests.len() / connections;
                let offset = every.map(|every| every.mul_f64(client as f64 / connections as f64));
                let mut moment = start + offset.unwrap_or_default();
                loop {
                    if every.is_some() {
                        tokio::time::sleep_until(moment.into()).await;
                    } else {
                        moment = Instant::now();
                    }
                    if moment >= until {
                        return;
                    }
                    let request = &requests[next % requests.len()];
                    next += 1;
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let status = answer(&mut *stream, &mut buffer).await;
                    let done = Instant::now();
                    let mut found = found.lock().unwrap();
                    found.answered += 1;
                    // Whenever it began: a slow server's answers count for the time in which they come.
                    if (from..=until).contains(&done) {
                        found.latencies.push(done - moment);
                        *found.statuses.entry(status).or_default() += 1;
                    }
                    moment += every.unwrap_or_default();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let mut found = found.lock().unwrap();
    found.latencies.sort_unstable();
    let count = found.latencies.len();
    let at = |share: f64| {
        let place = ((count as f64 * share) as usize).min(count.saturating_sub(1));
        let latency = found.latencies.get(place).copied();
        latency.unwrap_or_default().as_secs_f64() * 1e3
    };
    println!(
        "{}",
        json!({
            "requests_per_second": count as f64 / seconds,
            "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
            "statuses": found.statuses,
            "answered": found.answered,
        })
    );
}
