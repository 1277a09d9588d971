use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Request, State, start};
use crate::error::{ErrorBody, OpenAiErrorBody, OpenAiFault};
use crate::input::{Body, Item, Taking};
use crate::queue::Wanted;
use crate::{Fault, Model};

/// A query, and texts to be put in order by how well they answer it.
#[derive(Deserialize, ToSchema)]
pub struct RerankRequest {
    query: String,
    texts: Vec<String>,
    #[serde(flatten)]
    taking: Taking,
    /// The model's numbers as scores.
    #[serde(default)]
    raw_scores: bool,
    /// Say the texts again.
    #[serde(default)]
    return_text: bool,
}

/// A text's place in the request, and its score.
#[derive(Serialize, ToSchema)]
pub struct Rank {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Texts by how well they answer a query, the best first
#[utoipa::path(
    post, path = "/rerank", request_body = RerankRequest,
    responses(
        (status = 200, description = "Every text's score, the highest first", body = Vec<Rank>),
        (status = "4XX", description = "A fault of the request", body = ErrorBody),
        (status = "5XX", description = "A fault of the server", body = ErrorBody),
    )
)]
pub async fn rerank(
    state: State,
    headers: HeaderMap,
    Body(body): Body<RerankRequest>,
) -> Result<Response, Fault> {
    let model = state.able(None, ranks)?;
    let mut request = start(model, &headers, body.texts.len())?;
    let (query, taking, raw) = (&body.query, body.taking, body.raw_scores);
    let found = ranked(
        &mut request,
        model,
        "texts",
        query,
        &body.texts,
        taking,
        raw,
    )
    .await?;
    let ranks: Vec<Rank> = found
        .into_iter()
        .map(|(index, score)| Rank {
            index,
            score,
            text: body.return_text.then(|| body.texts[index].clone()),
        })
        .collect();
    Ok(request.answer(ranks))
}

/// The same, as Cohere and Jina ask.
#[derive(Deserialize, ToSchema)]
pub struct RerankV1Request {
    query: String,
    documents: Vec<Document>,
    /// One of `/v1/models`; with one model only, any name will do.
    #[serde(default)]
    model: Option<String>,
    /// Give the best of them only.
    #[serde(default)]
    top_n: Option<usize>,
    /// Say the documents again.
    #[serde(default)]
    return_documents: bool,
}

/// A text, alone or in an object.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text, or an object with `text`")]
enum Document {
    Text(String),
    Object { text: String },
}

/// The best first.
#[derive(Serialize, ToSchema)]
pub struct Reranked {
    object: &'static str,
    model: String,
    results: Vec<RerankResult>,
    usage: RerankUsage,
}

#[derive(Serialize, ToSchema)]
struct RerankResult {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText>,
}

#[derive(Serialize, ToSchema)]
struct DocumentText {
    text: String,
}

#[derive(Serialize, ToSchema)]
struct RerankUsage {
    total_tokens: usize,
}

/// Documents by how well they answer a query, as Jina and Cohere give them
#[utoipa::path(
    post, path = "/v1/rerank", request_body = RerankV1Request,
    responses(
        (status = 200, description = "The highest score first", body = Reranked),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn rerank_v1(
    state: State,
    headers: HeaderMap,
    Body(body): Body<RerankV1Request>,
) -> Result<Response, OpenAiFault> {
    let model = state.able(body.model.as_deref(), ranks)?;
    let texts: Vec<String> = body
        .documents
        .into_iter()
        .map(|document| match document {
            Document::Text(text) | Document::Object { text } => text,
        })
        .collect();
    let mut request = start(model, &headers, texts.len())?;
    let taking = Taking::default();
    let found = ranked(
        &mut request,
        model,
        "documents",
        &body.query,
        &texts,
        taking,
        false,
    );
    let results = found
        .await?
        .into_iter()
        .take(body.top_n.unwrap_or(usize::MAX))
        .map(|(index, relevance_score)| RerankResult {
            index,
            relevance_score,
            document: body.return_documents.then(|| DocumentText {
                text: texts[index].clone(),
            }),
        })
        .collect();
    let usage = RerankUsage {
        total_tokens: request.tokens(),
    };
    Ok(request.answer(Reranked {
        object: "rerank",
        model: model.name().to_owned(),
        results,
        usage,
    }))
}

/// Whether a model ranks texts.
fn ranks(model: &Model) -> bool {
    let labels = model.classifier().map(|model| model.labels().len());
    labels == Ok(1)
}

/// Places of texts and their scores, the highest first.
async fn ranked(
    request: &mut Request<'_>,
    model: &Model,
    what: &'static str,
    query: &str,
    texts: &[String],
    taking: Taking,
    raw: bool,
) -> Result<Vec<(usize, f32)>, Fault> {
    model.classifier()?;
    if !ranks(model) {
        return Err(Fault::Backend(
            "model is not a re-ranker, which has one label; ask /predict".to_owned(),
        ));
    }
    let pair = |text: &String| Item::Pair(query.to_owned(), text.clone());
    let items = texts.iter().map(pair).collect();
    let answers = request.compute(what, items, taking, Wanted::Logits).await?;
    // Between 0 and 1 whatever the folder says, as from text-embeddings-inference.
    let score = |logit: f32| {
        if raw {
            logit
        } else {
            1.0 / (1.0 + (-logit).exp())
        }
    };
    let scores = answers.iter().map(|answer| score(answer.values[0]));
    let mut ranks: Vec<(usize, f32)> = scores.enumerate().collect();
    ranks.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(ranks)
}
