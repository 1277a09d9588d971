use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::{Encoding, Part};
use cloze_runtime::model::TextEncoder;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::open_ai::{Format, Usage, Vector};
use super::{State, Texts, Values, shaped, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::Body;
use crate::model::of_text;
use crate::queue::Wanted;
use crate::{Fault, Model};

/// Most chunks of a request.
const MOST: usize = 4096;

/// Texts to be cut into chunks, with a vector each.
#[derive(Deserialize, ToSchema)]
pub struct ChunksRequest {
    inputs: Texts,
    /// Most tokens of a chunk, special ones and the prompt's not counted; as many as the model takes if null.
    #[serde(default)]
    #[schema(value_type = Option<usize>, minimum = 1)]
    chunk_tokens: Option<NonZeroUsize>,
    /// Tokens that a chunk shares with the one before, at most half a chunk.
    #[serde(default)]
    overlap: usize,
    /// Pool chunks after one pass over as much text as the model takes, so that each knows its surroundings.
    #[serde(default)]
    late: bool,
    /// Put the model's prompt of this name before each chunk, or with `late` before each text.
    #[serde(default)]
    prompt_name: Option<String>,
    /// Say the chunks' texts too.
    #[serde(default)]
    return_text: bool,
    #[serde(default)]
    encoding_format: Format,
    /// One of `/v1/models`; the first that makes embeddings if none.
    #[serde(default)]
    model: Option<String>,
}

/// The chunks of each text.
#[derive(Serialize, ToSchema)]
pub struct Chunks {
    object: &'static str,
    data: Vec<ChunkedText>,
    model: String,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
struct ChunkedText {
    object: &'static str,
    index: usize,
    chunks: Vec<Chunk>,
}

#[derive(Serialize, ToSchema)]
struct Chunk {
    /// Its first character, counted in Unicode scalar values.
    start: u32,
    /// One past its last.
    end: u32,
    /// How many of the text's tokens it has.
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    embedding: Vector,
}

/// Chunks of long texts, each with its characters and a vector
///
/// Chunks begin and end between words. Vectors are those of `cloze embed --long chunk`, or with `late` of `--long late`.
#[utoipa::path(
    post, path = "/v1/chunks", request_body = ChunksRequest,
    responses(
        (status = 200, description = "The chunks of each text, in order", body = Chunks),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn chunks(
    state: State,
    headers: HeaderMap,
    Body(body): Body<ChunksRequest>,
) -> Result<Response, OpenAiFault> {
    let able = |model: &Model| model.encoder().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    let encoder = model.encoder()?;
    let size = body.chunk_tokens.map(NonZeroUsize::get);
    let (overlap, late) = (body.overlap, body.late);
    check_overlap(encoder, size, overlap)?;
    if late {
        let parts = encoder.check_parts();
        parts.map_err(|error| Fault::Validation(format!("{error}: leave `late` out")))?;
    }
    let (texts, _) = body.inputs.into_list();
    let mut request = start(model, &headers, texts.len())?;
    request.add_characters(&texts);
    let texts = Arc::new(texts);
    let cut = {
        let (texts, prompt) = (texts.clone(), body.prompt_name);
        move |model: &Model| {
            let encoder = model.encoder()?;
            let run = if late { None } else { size };
            let windows = |text: &String| encoder.chunks(text, prompt.as_deref(), run, overlap);
            let windows: Result<Vec<Vec<Encoding>>, _> = texts.iter().map(windows).collect();
            windows.map_err(of_text)
        }
    };
    let windows = request.windows("inputs", texts.len(), cut).await?;
    // What gets a vector: all of a window, or parts of it.
    let size = size.filter(|_| late);
    let parts = |window: &Encoding| match size {
        Some(size) => window.parts(size, overlap),
        None => vec![Part {
            tokens: window.body(),
            chars: window.chars(),
        }],
    };
    let of_text = |windows: &Vec<Encoding>| windows.iter().map(parts).collect();
    let parts: Vec<Vec<Vec<Part>>> = windows.iter().map(of_text).collect();
    let count = parts.iter().flatten().map(Vec::len).sum::<usize>();
    if count > MOST {
        return Err(OpenAiFault::from(Fault::Validation(format!(
            "the texts make {count} chunks, at most {MOST} are given at once; send fewer texts or a larger `chunk_tokens`"
        ))));
    }
    let wanted = if late { Wanted::Tokens } else { Wanted::Pooled };
    let answers = request.run(&windows, wanted).await?;
    let (format, return_text) = (body.encoding_format, body.return_text);
    let pool = move |model: &Model| {
        let encoder = model.encoder()?;
        let each = texts.iter().zip(&parts).zip(&answers).enumerate();
        let each = each.map(|(index, ((text, parts), answers))| {
            let chars: Vec<char> = if return_text {
                text.chars().collect()
            } else {
                Vec::new()
            };
            let mut chunks = Vec::new();
            for (parts, values) in parts.iter().zip(answers) {
                let vectors = vectors(encoder, late, parts, values)?;
                for (part, vector) in parts.iter().zip(vectors) {
                    let (start, end) = (part.chars.start, part.chars.end);
                    let text = || chars[start as usize..end as usize].iter().collect();
                    chunks.push(Chunk {
                        start,
                        end,
                        tokens: part.tokens.len(),
                        text: return_text.then(text),
                        embedding: Vector::new(vector, format),
                    });
                }
            }
            Ok(ChunkedText {
                object: "chunks",
                index,
                chunks,
            })
        });
        each.collect::<Result<Vec<_>, Fault>>()
    };
    let data = request.apart(pool).await?;
    let usage = Usage::new(request.tokens());
    Ok(request.answer(Chunks {
        object: "list",
        data,
        model: model.name().to_owned(),
        usage,
    }))
}

/// The vectors of a window's parts.
fn vectors(
    encoder: &TextEncoder,
    late: bool,
    parts: &[Part],
    values: &Values,
) -> Result<Vec<Vec<f32>>, Fault> {
    if !late {
        let vector = shaped(encoder, values.as_ref(), None, encoder.normalizes())?;
        return Ok(vec![vector]);
    }
    let pooled = encoder.pool_parts(parts, values.as_ref());
    let rows = pooled.chunks_exact(encoder.dimensions());
    Ok(rows.map(<[f32]>::to_vec).collect())
}

/// Chunks that share most of their tokens would be very many.
fn check_overlap(encoder: &TextEncoder, size: Option<usize>, overlap: usize) -> Result<(), Fault> {
    let most = size.unwrap_or(encoder.max_len()).min(encoder.max_len()) / 2;
    if overlap > most {
        return Err(Fault::Validation(format!(
            "`overlap`: expected at most half of the tokens of a chunk, {most}, found {overlap}"
        )));
    }
    Ok(())
}
