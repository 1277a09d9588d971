//! What is counted and timed, under the names of text-embeddings-inference where it has one.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// Shows what seldom happens as 0 from the start, so that its first time is a change.
pub fn start() {
    queue(0);
    counter!("cloze_encoder_panics").increment(0);
    for kind in ["Overloaded", "Timeout", "Backend", "Unhealthy"] {
        counter!("te_request_failure", "err" => kind).increment(0);
    }
    for change in ["load", "swap", "unload"] {
        counter!("cloze_model_changes", "change" => change).increment(0);
    }
}

/// Texts in line.
pub fn queue(len: usize) {
    gauge!("te_queue_size").set(len as f64);
}

/// A batch is computed.
pub fn batch(texts: usize, tokens: usize) {
    histogram!("te_batch_next_size").record(texts as f64);
    histogram!("te_batch_next_tokens").record(tokens as f64);
}

/// Texts of a request were looked up in a model's cache.
pub fn cache(model: &str, hits: usize, misses: usize) {
    counter!("cloze_cache_hits", "model" => model.to_owned()).increment(hits as u64);
    counter!("cloze_cache_misses", "model" => model.to_owned()).increment(misses as u64);
}

/// What a model's cache holds.
pub fn cached(model: &str, bytes: usize) {
    gauge!("cloze_cache_bytes", "model" => model.to_owned()).set(bytes as f64);
}

/// A model was loaded, unloaded or swapped.
pub fn model_changed(change: &'static str) {
    counter!("cloze_model_changes", "change" => change).increment(1);
}

/// A request with the key of this name was let in.
pub fn key_request(name: &str) {
    counter!("cloze_key_requests", "key" => name.to_owned()).increment(1);
}

/// Tokens on the account of the key of this name.
pub fn key_tokens(name: &str, tokens: usize) {
    counter!("cloze_key_tokens", "key" => name.to_owned()).increment(tokens as u64);
}

/// A request with the key of this name was refused, since this limit was reached.
pub fn key_refused(name: &str, limit: &'static str) {
    counter!("cloze_key_refused", "key" => name.to_owned(), "limit" => limit).increment(1);
}

/// The encoder panicked.
pub fn panicked() {
    counter!("cloze_encoder_panics").increment(1);
}

/// A request came.
pub fn request(method: &'static str) {
    counter!("te_request_count", "method" => method).increment(1);
}

/// A request was refused or failed.
pub fn failure(kind: &'static str) {
    counter!("te_request_failure", "err" => kind).increment(1);
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From the body to the answer.
    pub total: Duration,
    /// Texts into tokens.
    pub tokenization: Duration,
    /// In line, the longest of its texts.
    pub queue: Duration,
    /// The encoder, the longest of its texts.
    pub inference: Duration,
    /// Tokens of all texts.
    pub tokens: usize,
    /// Characters of all texts.
    pub characters: usize,
}

/// A request was answered.
pub fn success(method: &'static str, times: &Times) {
    counter!("te_request_success", "method" => method).increment(1);
    histogram!("te_request_duration").record(times.total.as_secs_f64());
    histogram!("te_request_tokenization_duration").record(times.tokenization.as_secs_f64());
    histogram!("te_request_queue_duration").record(times.queue.as_secs_f64());
    histogram!("te_request_inference_duration").record(times.inference.as_secs_f64());
    histogram!("te_request_input_length").record(times.tokens as f64);
}
