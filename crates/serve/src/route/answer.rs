use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::{Answer, Answers, Long, answers};
use cloze_runtime::predict::Predict;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OneOrMany, State, check_top, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::Body;
use crate::model::of_text;
use crate::queue::Wanted;
use crate::{Fault, Model};

/// Most tokens of an answer that may be asked for.
const LONGEST: usize = 256;

/// Questions to be answered from contexts.
#[derive(Deserialize, ToSchema)]
pub struct AnswerRequest {
    inputs: Questions,
    #[serde(default)]
    parameters: AnswerParameters,
    /// One of `/v1/models`; the first that answers questions if none.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected an object with `question` and `context`, or a list of such objects"
)]
enum Questions {
    One(Question),
    Many(Vec<Question>),
}

#[derive(Deserialize, ToSchema)]
struct Question {
    question: String,
    context: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(default)]
struct AnswerParameters {
    /// How many answers.
    top_k: usize,
    /// Most tokens of an answer.
    max_answer_len: usize,
    /// Tokens of the context that its windows share, where it is longer than the model takes.
    doc_stride: usize,
    /// Whether "not in the context" is an answer: an empty one.
    handle_impossible_answer: bool,
    /// Whether answers grow to whole words.
    align_to_words: bool,
}

impl Default for AnswerParameters {
    fn default() -> Self {
        let answers = Answers::default();
        Self {
            top_k: answers.count,
            max_answer_len: answers.max_tokens,
            doc_stride: 128,
            handle_impossible_answer: answers.nothing,
            align_to_words: answers.whole_words,
        }
    }
}

/// A stretch of the context.
#[derive(Serialize, ToSchema)]
pub struct AnswerFound {
    /// Probability of the start times that of the end, within the window.
    score: f32,
    /// Its first character, counted in Unicode scalar values.
    start: u32,
    /// One past its last.
    end: u32,
    answer: String,
}

/// One, or a list where several are wanted.
type AnswersFound = OneOrMany<AnswerFound>;

impl From<Answer> for AnswerFound {
    fn from(answer: Answer) -> Self {
        Self {
            score: answer.score,
            start: answer.chars.start,
            end: answer.chars.end,
            answer: answer.text,
        }
    }
}

/// Answers to questions as stretches of contexts, as the question answering pipeline gives them
///
/// Long contexts are gone through in windows. With `top_k` 1 a question has one answer and no list of answers.
#[utoipa::path(
    post, path = "/v1/answer", request_body = AnswerRequest,
    responses(
        (status = 200, description = "The answers to one question, or to each of a list, the best first", body = OneOrMany<AnswersFound>),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn answer(
    state: State,
    headers: HeaderMap,
    Body(body): Body<AnswerRequest>,
) -> Result<Response, OpenAiFault> {
    let able = |model: &Model| model.answerer().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    model.answerer()?;
    let parameters = body.parameters;
    check_top("parameters.top_k", parameters.top_k)?;
    if !(1..=LONGEST).contains(&parameters.max_answer_len) {
        return Err(OpenAiFault::from(Fault::Validation(format!(
            "`parameters.max_answer_len`: expected 1 to {LONGEST}, found {}",
            parameters.max_answer_len
        ))));
    }
    let (questions, is_list) = match body.inputs {
        Questions::One(question) => (vec![question], false),
        Questions::Many(questions) => (questions, true),
    };
    for Question { question, context } in &questions {
        for (name, text) in [("question", question), ("context", context)] {
            if text.trim().is_empty() {
                return Err(Fault::Empty(name).into());
            }
        }
    }
    let mut request = start(model, &headers, questions.len())?;
    let texts = questions.iter().flat_map(|q| [&q.question, &q.context]);
    request.add_characters(texts);
    let count = questions.len();
    let questions = Arc::new(questions);
    let long = Long::Chunk {
        overlap: parameters.doc_stride,
        whole_words: true,
    };
    let cut = {
        let questions = questions.clone();
        move |model: &Model| {
            let windows = |question| windows(model, question, long);
            questions.iter().map(windows).collect()
        }
    };
    let windows = request.windows("inputs", count, cut).await?;
    let logits = request.run(&windows, Wanted::Logits).await?;
    let settings = Answers {
        count: parameters.top_k,
        max_tokens: parameters.max_answer_len,
        nothing: parameters.handle_impossible_answer,
        whole_words: parameters.align_to_words,
    };
    let decode = move |_: &Model| {
        let each = questions.iter().zip(&windows).zip(&logits);
        let each = each.map(|((question, windows), logits)| {
            let logits = logits.iter().map(AsRef::as_ref);
            let windows: Vec<_> = windows.iter().zip(logits).collect();
            let mut found = answers(&question.context, &windows, &settings);
            if found.is_empty() {
                // As the pipeline says it.
                found.push(Answer {
                    chars: 0..0,
                    text: String::new(),
                    score: 0.0,
                });
            }
            let found = found.into_iter().map(AnswerFound::from).collect();
            OneOrMany::new(found, settings.count > 1)
        });
        Ok(each.collect())
    };
    let found: Vec<AnswersFound> = request.apart(decode).await?;
    Ok(request.answer(OneOrMany::new(found, is_list)))
}

/// The windows of a question's context, each with the question.
fn windows(
    model: &Model,
    Question { question, context }: &Question,
    long: Long,
) -> Result<Vec<cloze_data::text::Encoding>, Fault> {
    let answerer = model.answerer()?;
    let whole = answerer.model().tokenizer().encode_whole(question);
    let tokens = whole.map_err(|e| of_text(e.into()))?.first.len();
    // It stands in every window; with little room for the context there would be very many.
    let most = answerer.model().max_len() / 2;
    if tokens > most {
        return Err(Fault::Validation(format!(
            "`question`: expected at most {most} tokens, found {tokens}; shorten it, or put what it tells into `context`"
        )));
    }
    let pair = (question.as_str(), context.as_str());
    answerer.encode(pair.into(), long).map_err(of_text)
}
