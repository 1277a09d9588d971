use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use cloze_data::text::{Encoding, Long};
use cloze_runtime::predict::{FillMask, Filled, Predict};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OneOrMany, State, Texts, check_top, start};
use crate::error::{OpenAiErrorBody, OpenAiFault};
use crate::input::Body;
use crate::model::of_text;
use crate::queue::{Fills, Wanted};
use crate::task::pairs;
use crate::{Fault, Model};

/// Most bytes of an answer's texts: each token comes with a copy of its text.
const BYTES: usize = 1 << 25;

/// Windows of a long text share so many tokens, as those of `cloze predict`.
pub const WINDOWS: Long = Long::Chunk {
    overlap: 32,
    whole_words: true,
};

/// Texts with masks to be filled.
#[derive(Deserialize, ToSchema)]
pub struct FillRequest {
    inputs: Texts,
    #[serde(default)]
    parameters: FillParameters,
    /// One of `/v1/models`; the first that fills masks if none.
    #[serde(default)]
    model: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
struct FillParameters {
    /// Most tokens for a mask; 5 if null, or all targets.
    #[serde(default)]
    top_k: Option<usize>,
    /// Words that may stand behind masks, each one token; any token if null.
    #[serde(default)]
    targets: Option<Vec<String>>,
}

/// A token for a mask.
#[derive(Serialize, ToSchema)]
pub struct FilledToken {
    /// Its probability among all tokens.
    score: f32,
    token: u32,
    token_str: String,
    /// The text with the token in this mask.
    sequence: String,
}

/// Of a text with one mask its tokens, of another those of each mask.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum FilledText {
    One(Vec<FilledToken>),
    Many(Vec<Vec<FilledToken>>),
}

/// The likeliest tokens behind the masks of texts, as the fill-mask pipeline gives them
///
/// A mask is spelled as the tokenizer has it, or `[MASK]` or `<mask>`. Long texts are gone through in windows.
#[utoipa::path(
    post, path = "/v1/fill", request_body = FillRequest,
    responses(
        (status = 200, description = "The tokens of one text, or of each of a list, the likeliest first", body = OneOrMany<FilledText>),
        (status = "4XX", description = "A fault of the request", body = OpenAiErrorBody),
        (status = "5XX", description = "A fault of the server", body = OpenAiErrorBody),
    )
)]
pub async fn fill(
    state: State,
    headers: HeaderMap,
    Body(body): Body<FillRequest>,
) -> Result<Response, OpenAiFault> {
    let able = |model: &Model| model.filler().is_ok();
    let model = state.able(body.model.as_deref(), able)?;
    model.filler()?;
    let (texts, is_list) = body.inputs.into_list();
    let mut request = start(model, &headers, texts.len())?;
    request.add_characters(&texts);
    let FillParameters { top_k, targets } = body.parameters;
    let top = top_k.unwrap_or_else(|| targets.as_ref().map_or(5, Vec::len).max(1));
    check_top("parameters.top_k", top)?;
    let count = texts.len();
    let texts = Arc::new(texts);
    let cut = {
        let texts = texts.clone();
        move |model: &Model| {
            let filler = model.filler()?;
            let windows = |text: &String| filler.encode(text.as_str().into(), WINDOWS);
            let windows: Result<Vec<_>, _> = texts.iter().map(windows).collect();
            let windows = windows.map_err(of_text)?;
            check_masks(filler, &texts, &windows, top)?;
            Ok(windows)
        }
    };
    let windows = request.windows("inputs", count, cut).await?;
    let candidates = match targets {
        None => Vec::new(),
        Some(targets) => {
            let found = move |model: &Model| {
                let found = model.filler()?.candidates(&targets);
                found.map_err(|error| Fault::Validation(format!("`parameters.targets`: {error}")))
            };
            request.apart(found).await?
        }
    };
    let top = match candidates.len() {
        0 => top.min(model.task().vocabulary()),
        candidates => top.min(candidates),
    };
    let fills = Wanted::Fills(Arc::new(Fills { top, candidates }));
    let answers = request.run(&windows, fills).await?;
    let decode = move |model: &Model| {
        let filler = model.filler()?;
        let mut filled = Vec::with_capacity(count);
        for ((text, windows), answers) in texts.iter().zip(&windows).zip(&answers) {
            let of_window = |values: &super::Values| {
                let pairs: Vec<(u32, f32)> = pairs(values.as_ref()).collect();
                pairs.chunks_exact(top).map(<[_]>::to_vec).collect()
            };
            let outputs: Vec<Vec<_>> = answers.iter().map(of_window).collect();
            let text = filler.decode(text.as_str().into(), windows, &outputs);
            filled.push(said(&text.map_err(of_text)?));
        }
        Ok(filled)
    };
    let filled = request.apart(decode).await?;
    Ok(request.answer(OneOrMany::new(filled, is_list)))
}

/// Whether each text has a mask, and the answer is of a size that can be sent.
fn check_masks(
    filler: &FillMask,
    texts: &[String],
    windows: &[Vec<Encoding>],
    top: usize,
) -> Result<(), Fault> {
    let mask = filler.model().tokenizer().mask();
    let mut bytes = 0_usize;
    for (place, (text, windows)) in texts.iter().zip(windows).enumerate() {
        let ids = windows.iter().flat_map(|window| &window.ids);
        let masks = ids.filter(|id| Some(**id) == mask).count();
        if masks == 0 {
            return Err(Fault::Validation(format!(
                "`inputs`: expected texts with a mask, {}, found none in text {place}",
                filler.mask()
            )));
        }
        // A token's own numbers and names take about so much.
        bytes = bytes.saturating_add(masks.saturating_mul(top).saturating_mul(text.len() + 100));
    }
    if bytes > BYTES {
        return Err(Fault::Validation(format!(
            "the answer would have {bytes} bytes, a copy of its text for each of {top} tokens of each mask; expected at most              {BYTES}: send shorter texts, fewer masks or a smaller `top_k`"
        )));
    }
    Ok(())
}

fn said(filled: &Filled) -> FilledText {
    let masks = filled.masks.iter().enumerate();
    let mut masks: Vec<Vec<FilledToken>> = masks
        .map(|(mask, fills)| {
            let fills = fills.iter().map(|fill| FilledToken {
                score: fill.score,
                token: fill.id,
                token_str: fill.token.clone(),
                sequence: filled.with_one(mask, fill),
            });
            fills.collect()
        })
        .collect();
    if masks.len() == 1 {
        FilledText::One(masks.swap_remove(0))
    } else {
        FilledText::Many(masks)
    }
}
