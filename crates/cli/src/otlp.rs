//! Traces to a collector, by OTLP over HTTP in its JSON encoding (opentelemetry-proto 1.x): no schema compiler, no gRPC.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use cloze_serve::trace::{Collect, Trace, number};
use metrics::counter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Requests that wait to be told of; more are not told of.
const WAITING: usize = 4096;
/// Most requests told of at once.
const TOGETHER: usize = 512;
/// How long a request waits to be told of with others.
const EVERY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    authority: String,
    path: String,
    service: String,
}

impl Collector {
    /// At `http://HOST[:PORT][/PATH]`; `service` is what it calls this server.
    pub fn new(endpoint: &str, service: &str) -> anyhow::Result<Self> {
        let rest = endpoint.strip_prefix("http://").with_context(|| {
            format!(
                "--otlp-endpoint: expected http://HOST:PORT, found {endpoint:?}; \
                 for an encrypted way, put a collector beside the server"
            )
        })?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if !path.is_empty() => (authority, format!("/{path}")),
            Some((authority, _)) => (authority, "/v1/traces".to_owned()),
            None => (rest, "/v1/traces".to_owned()),
        };
        anyhow::ensure!(
            !authority.is_empty(),
            "--otlp-endpoint: expected a host, found none"
        );
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self {
            authority: if has_port {
                authority.to_owned()
            } else {
                format!("{authority}:4318")
            },
            path,
            service: service.to_owned(),
        })
    }

    async fn send(&self, body: &str) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.path,
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1 << 16).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().unwrap_or_default();
        anyhow::ensure!(
            status
                .split(' ')
                .nth(1)
                .is_some_and(|code| code.starts_with('2')),
            "expected a status of 200, found {status:?}"
        );
        Ok(())
    }
}

/// What takes traces, and the task that sends them until nobody can trace any more. Requests never wait for it.
pub fn exporter(collector: Collector) -> (Collect, impl Future<Output = ()>) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    counter!("cloze_traces_lost").increment(0);
    let collect = move |trace| {
        if sender.try_send(trace).is_err() {
            counter!("cloze_traces_lost").increment(1);
        }
    };
    let send = async move {
        let mut traces = Vec::with_capacity(TOGETHER);
        while let Some(first) = receiver.recv().await {
            traces.push(first);
            let more = async {
                while traces.len() < TOGETHER
                    && let Some(trace) = receiver.recv().await
                {
                    traces.push(trace);
                }
            };
            // Or the time is up, which is as good.
            let _ = tokio::time::timeout(EVERY, more).await;
            let body = spans(&collector.service, &traces).to_string();
            let sent = tokio::time::timeout(PATIENCE, collector.send(&body)).await;
            let sent = sent.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long")));
            if let Err(error) = sent {
                counter!("cloze_traces_lost").increment(traces.len() as u64);
                tracing::warn!(lost = traces.len(), "no traces sent: {error:#}");
            }
            traces.clear();
        }
    };
    (Arc::new(collect), send)
}

/// An `ExportTraceServiceRequest`: for each request its span, and below it one for each part.
fn spans(service: &str, traces: &[Trace]) -> Value {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let nanos = |at: Instant| {
        let at = wall.checked_sub(now.saturating_duration_since(at));
        let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.unwrap_or_default().as_nanos().to_string()
    };
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let count =
        |key: &str, value: u64| json!({"key": key, "value": {"intValue": value.to_string()}});
    let of_trace = |trace: &Trace| {
        let id = format!("{:032x}", trace.trace_id);
        let own = format!("{:016x}", trace.span_id);
        let (method, route) = trace.name.split_once(' ').unwrap_or((&trace.name, ""));
        let mut request = json!({
            "traceId": id,
            "spanId": own,
            "name": trace.name,
            // A server's.
            "kind": 2,
            "startTimeUnixNano": nanos(trace.start),
            "endTimeUnixNano": nanos(trace.end),
            "attributes": [
                text("http.request.method", method),
                text("http.route", route),
                count("http.response.status_code", u64::from(trace.status)),
            ],
            // An error, where it is the server's.
            "status": if trace.status >= 500 { json!({"code": 2}) } else { json!({}) },
        });
        if let Some(parent) = trace.parent {
            request["parentSpanId"] = format!("{parent:016x}").into();
        }
        let parts = trace.parts.iter().map(|part| {
            json!({
                "traceId": id,
                "spanId": format!("{:016x}", number()),
                "parentSpanId": own,
                "name": part.name,
                // Within the server.
                "kind": 1,
                "startTimeUnixNano": nanos(part.start),
                "endTimeUnixNano": nanos(part.end),
                "attributes": [count("cloze.texts", part.texts as u64)],
            })
        });
        std::iter::once(request).chain(parts).collect::<Vec<_>>()
    };
    let spans: Vec<Value> = traces.iter().flat_map(of_trace).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{"scope": {"name": "cloze"}, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_a_port_and_a_path() {
        let at = |endpoint| Collector::new(endpoint, "s").map(|c| (c.authority, c.path));
        let usual = |authority: &str| (authority.to_owned(), "/v1/traces".to_owned());
        assert_eq!(at("http://a").unwrap(), usual("a:4318"));
        assert_eq!(at("http://a:1/").unwrap(), usual("a:1"));
        assert_eq!(at("http://[::1]:1").unwrap(), usual("[::1]:1"));
        assert_eq!(at("http://[::1]").unwrap(), usual("[::1]:4318"));
        assert_eq!(at("http://a:1/x/y").unwrap(), ("a:1".into(), "/x/y".into()));
        for wrong in ["a:1", "https://a", "http://", ""] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
