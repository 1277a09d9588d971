//! One file per route; [`router`] puts them together.

pub mod admin;
mod answer;
mod chunks;
mod decode;
mod embed;
mod embed_all;
mod embed_sparse;
mod entities;
mod fill;
mod health;
mod info;
mod items;
mod open_ai;
mod page;
mod predict;
mod recommend;
mod rerank;
mod root;
mod similarity;
mod tokenize;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cloze_data::text::Encoding;
use cloze_runtime::model::TextEncoder;
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::input::{Item, Taking};
use crate::queue::{Answer, Wanted};
use crate::registry::Live;
use crate::watch::{self, Times};
use crate::{Fault, Model};

/// Most predictions for a mask, a question or a history.
const MOST: usize = 1000;

/// What a request finds: the models of the moment it came, and what never changes.
#[derive(Clone)]
pub struct Shared {
    /// In the order they were given; the first answers where no model is named.
    pub models: Vec<Arc<Model>>,
    /// Whether the server stops taking requests.
    pub is_stopping: Arc<AtomicBool>,
    /// Prints the metrics.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

pub type State = axum::extract::State<Arc<Shared>>;

impl Shared {
    pub fn first(&self) -> &Arc<Model> {
        &self.models[0]
    }

    /// The model of this name; with one model only, that whatever the name.
    pub fn asked(&self, name: Option<&str>) -> Result<&Arc<Model>, Fault> {
        match name {
            Some(name) if self.models.len() > 1 => {
                let named = self.models.iter().find(|model| model.name() == name);
                named.ok_or_else(|| Fault::NoModel(name.to_owned()))
            }
            _ => Ok(self.first()),
        }
    }

    /// The model of this name; without one the first that can do what is asked, or the first of all, which then says what it
    /// can do.
    pub fn able(
        &self,
        name: Option<&str>,
        can: impl Fn(&Model) -> bool,
    ) -> Result<&Arc<Model>, Fault> {
        if name.is_some() {
            return self.asked(name);
        }
        let able = self.models.iter().find(|model| can(model));
        Ok(able.unwrap_or_else(|| self.first()))
    }
}

/// The routes that ask for a key, those that do not, and the description of all.
pub fn router() -> (axum::Router<Live>, axum::Router<Live>, OpenApi) {
    let (asked, mut description) = OpenApiRouter::new()
        .routes(routes!(embed::embed))
        .routes(routes!(embed_all::embed_all))
        .routes(routes!(embed_sparse::embed_sparse))
        .routes(routes!(predict::predict))
        .routes(routes!(rerank::rerank))
        .routes(routes!(rerank::rerank_v1))
        .routes(routes!(similarity::similarity))
        .routes(routes!(tokenize::tokenize))
        .routes(routes!(decode::decode))
        .routes(routes!(info::info))
        .routes(routes!(open_ai::embeddings))
        .routes(routes!(open_ai::models))
        .routes(routes!(fill::fill))
        .routes(routes!(entities::entities))
        .routes(routes!(answer::answer))
        .routes(routes!(chunks::chunks))
        .routes(routes!(recommend::recommend))
        .routes(routes!(items::items))
        .split_for_parts();
    // Other names of the same.
    let asked = asked
        .route("/", post(root::root))
        .route("/invocations", post(root::root))
        .route("/embeddings", post(open_ai::embeddings))
        .route("/v2/rerank", post(rerank::rerank_v1));
    let (open, others) = OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::ping))
        .routes(routes!(health::metrics))
        .split_for_parts();
    description.merge(others);
    let open = open.merge(page::router());
    "Cloze".clone_into(&mut description.info.title);
    // What stands in one of several of several is not found by itself.
    let components = description.components.get_or_insert_default();
    let found = <answer::AnswerFound as PartialSchema>::schema();
    components.schemas.insert("AnswerFound".to_owned(), found);
    (asked, open, description)
}

/// Starts the clock of a request about `count` texts.
pub fn start<'a>(
    model: &'a Arc<Model>,
    headers: &HeaderMap,
    count: usize,
) -> Result<Request<'a>, Fault> {
    let method = if count == 1 { "single" } else { "batch" };
    watch::request(method);
    Ok(Request {
        model,
        method,
        start: Instant::now(),
        deadline: model.deadline(headers)?,
        times: Times::default(),
    })
}

/// What is known of a window.
pub struct Values(Arc<Vec<f32>>);

impl AsRef<[f32]> for Values {
    fn as_ref(&self) -> &[f32] {
        &self.0
    }
}

/// A text or a list of texts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Texts {
    /// All of them, and whether they stood in a list.
    fn into_list(self) -> (Vec<String>, bool) {
        match self {
            Self::One(text) => (vec![text], false),
            Self::Many(texts) => (texts, true),
        }
    }
}

/// What is said of one text, or of each of a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// Of one.
    One(T),
    /// Of each of a list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn new(mut each: Vec<T>, is_list: bool) -> Self {
        if is_list {
            Self::Many(each)
        } else {
            Self::One(each.swap_remove(0))
        }
    }
}

/// Checks how many predictions are wanted; `what` names the field.
fn check_top(what: &str, top: usize) -> Result<(), Fault> {
    if (1..=MOST).contains(&top) {
        return Ok(());
    }
    Err(Fault::Validation(format!(
        "`{what}`: expected 1 to {MOST}, found {top}"
    )))
}

/// A request under way.
pub struct Request<'a> {
    model: &'a Arc<Model>,
    method: &'static str,
    start: Instant,
    deadline: Instant,
    times: Times,
}

impl Request<'_> {
    /// The tokens of texts; `what` names the field that they stood in.
    pub async fn tokenize(
        &mut self,
        what: &'static str,
        items: Vec<Item>,
        taking: Taking,
    ) -> Result<Vec<Encoding>, Fault> {
        self.model.check_count(what, items.len())?;
        self.model.tokenize(items, taking, &mut self.times).await
    }

    /// What is wanted of each text.
    pub async fn compute(
        &mut self,
        what: &'static str,
        items: Vec<Item>,
        taking: Taking,
        wanted: Wanted,
    ) -> Result<Vec<Answer>, Fault> {
        let encodings = self.tokenize(what, items, taking).await?;
        let (model, times) = (self.model, &mut self.times);
        model.run(encodings, wanted, self.deadline, times).await
    }

    /// The windows of texts that `cut` cuts, and what is wanted of each; `what` names the field that the `count` texts stood
    /// in.
    pub async fn windows(
        &mut self,
        what: &'static str,
        count: usize,
        cut: impl FnOnce(&Model) -> Result<Vec<Vec<Encoding>>, Fault> + Send + 'static,
    ) -> Result<Vec<Vec<Encoding>>, Fault> {
        self.model.check_count(what, count)?;
        self.model.windows(cut, &mut self.times).await
    }

    /// What is wanted of each window of each text.
    pub async fn run(
        &mut self,
        texts: &[Vec<Encoding>],
        wanted: Wanted,
    ) -> Result<Vec<Vec<Values>>, Fault> {
        let windows = texts.iter().flatten().cloned().collect();
        let (model, times) = (self.model, &mut self.times);
        let answers = model.run(windows, wanted, self.deadline, times).await?;
        let mut answers = answers.into_iter().map(|answer| Values(answer.values));
        let of_text = |windows: &Vec<_>| answers.by_ref().take(windows.len()).collect();
        Ok(texts.iter().map(of_text).collect())
    }

    /// Work with texts, on a thread that may be busy with it.
    pub async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Model) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.model.apart(work).await
    }

    /// Adds the characters of a text to what is told of the request.
    pub fn add_characters<'t>(&mut self, texts: impl IntoIterator<Item = &'t String>) {
        let texts = texts.into_iter().map(|text| text.chars().count());
        self.times.characters += texts.sum::<usize>();
    }

    /// Tokens of all texts so far.
    pub fn tokens(&self) -> usize {
        self.times.tokens
    }

    /// The answer, with the headers that say where the time went.
    pub fn answer(mut self, body: impl Serialize) -> Response {
        self.times.total = self.start.elapsed();
        watch::success(self.method, &self.times);
        let mut response = Json(body).into_response();
        let headers = response.headers_mut();
        let ms = |time: Duration| time.as_millis() as u64;
        let times = &self.times;
        for (name, value) in [
            ("x-compute-time", ms(times.total)),
            ("x-compute-characters", times.characters as u64),
            ("x-compute-tokens", times.tokens as u64),
            ("x-total-time", ms(times.total)),
            ("x-tokenization-time", ms(times.tokenization)),
            ("x-queue-time", ms(times.queue)),
            ("x-inference-time", ms(times.inference)),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
        let kind = HeaderName::from_static("x-compute-type");
        headers.insert(kind, HeaderValue::from_static(self.model.runs_on()));
        response
    }
}

/// A pooled vector as the request wants it: the first of its dimensions, then normalised; or, where the request does not
/// name any, as the library gives it: normalised, then cut where the folder says so.
fn shaped(
    encoder: &TextEncoder,
    pooled: &[f32],
    dimensions: Option<usize>,
    normalize: bool,
) -> Result<Vec<f32>, Fault> {
    let kept = dimensions.unwrap_or(pooled.len());
    if kept == 0 || kept > pooled.len() {
        return Err(Fault::Validation(format!(
            "`dimensions`: expected 1 to {}, found {kept}",
            pooled.len()
        )));
    }
    let mut vector = pooled[..kept].to_vec();
    if normalize {
        encoder.normalize(kept, &mut vector);
    }
    if dimensions.is_none() {
        vector.truncate(encoder.dimensions());
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_once() {
        let (_, _, description) = router();
        let paths = &description.paths.paths;
        for path in [
            "/embed",
            "/embed_all",
            "/embed_sparse",
            "/predict",
            "/rerank",
            "/v1/rerank",
            "/similarity",
            "/tokenize",
            "/decode",
            "/info",
            "/v1/embeddings",
            "/v1/models",
            "/v1/fill",
            "/v1/entities",
            "/v1/answer",
            "/v1/chunks",
            "/v1/recommend",
            "/v1/items",
            "/health",
            "/ready",
            "/ping",
            "/metrics",
        ] {
            assert!(paths.contains_key(path), "{path}");
        }
        assert_eq!(paths.len(), 22);
    }

    #[test]
    fn what_the_description_refers_to_is_there() {
        let (_, _, description) = router();
        let text = description.to_json().unwrap();
        let schemas = &description.components.unwrap().schemas;
        for part in text.split("#/components/schemas/").skip(1) {
            let (name, _) = part.split_once('"').unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
