//! From start and end scores of tokens to stretches of a context.

use std::ops::Range;

use super::{Encoding, slice};

/// Which stretches may be answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// How many are wanted.
    pub count: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Whether "not in the context" is one of them.
    pub nothing: bool,
    /// Whether answers grow to whole words.
    pub whole_words: bool,
}

impl Default for Answers {
    /// One answer of at most 15 tokens, in whole words, that must be there: the pipeline's choices.
    fn default() -> Self {
        Self {
            count: 1,
            max_tokens: 15,
            nothing: false,
            whole_words: true,
        }
    }
}

/// A stretch of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The characters; none for "not in the context".
    pub chars: Range<u32>,
    /// The same characters, as the context has them.
    pub text: String,
    /// Probability of the start times that of the end, within the window.
    pub score: f32,
}

/// The best stretches of `context`, best first, by what a span answerer says of its windows: encodings of the question
/// and the context.
///
/// Within a window the probabilities are over the context's tokens and the window's first token if that is special, which
/// stands for "not in the context". A stretch starts where or before it ends. Of several windows with the same stretch the
/// surest counts; for "not in the context" the least sure does.
///
/// # Shapes
/// `windows`: the encodings and, for each, logits `[N, 2]` of start and end
/// # Source
/// The question answering pipeline of `transformers` 4.
/// # Departures
/// The pipeline's later versions add up the scores of answers with the same text; a sum over windows is no probability.
/// # Panics
/// If there are more or fewer logits than two for each token.
pub fn answers(context: &str, windows: &[(&Encoding, &[f32])], settings: &Answers) -> Vec<Answer> {
    let chars: Vec<char> = context.chars().collect();
    let mut all: Vec<Answer> = Vec::new();
    let mut nothing = f32::INFINITY;
    for &(encoding, logits) in windows {
        assert_eq!(
            logits.len(),
            2 * encoding.len(),
            "a start and an end for each token"
        );
        let (spans, none) = window(encoding, logits, settings);
        nothing = nothing.min(none);
        for (score, start, end) in spans {
            let span = if settings.whole_words {
                grown(encoding, start, end)
            } else {
                encoding.offsets[start].0..encoding.offsets[end].1
            };
            match all.iter_mut().find(|answer| answer.chars == span) {
                Some(answer) => answer.score = answer.score.max(score),
                None => all.push(Answer {
                    text: slice(&chars, span.clone()),
                    chars: span,
                    score,
                }),
            }
        }
    }
    if settings.nothing && nothing.is_finite() {
        all.push(Answer {
            chars: 0..0,
            text: String::new(),
            score: nothing,
        });
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(settings.count);
    all
}

/// The best stretches of one window, as first and last token, and how sure it is of nothing.
fn window(
    encoding: &Encoding,
    logits: &[f32],
    settings: &Answers,
) -> (Vec<(f32, usize, usize)>, f32) {
    let body = encoding.body();
    let first = encoding.is_special.first() == Some(&true);
    let tokens: Vec<usize> = (0..usize::from(first)).chain(body.clone()).collect();
    let [starts, ends] = [0, 1].map(|column| {
        let most = tokens.iter().map(|token| logits[2 * token + column]);
        let most = most.fold(f32::NEG_INFINITY, f32::max);
        let mut scores = vec![0.0; encoding.len()];
        let mut sum = 0.0;
        for &token in &tokens {
            scores[token] = (logits[2 * token + column] - most).exp();
            sum += scores[token];
        }
        for score in &mut scores {
            *score /= sum;
        }
        scores
    });
    let nothing = if first {
        starts[0] * ends[0]
    } else {
        f32::INFINITY
    };
    let mut spans: Vec<_> = body
        .clone()
        .flat_map(|start| {
            let last = body.end.min(start.saturating_add(settings.max_tokens));
            (start..last).map(move |end| (start, end))
        })
        .map(|(start, end)| (starts[start] * ends[end], start, end))
        .collect();
    spans.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Several may grow to the same words.
    spans.truncate(settings.count.saturating_mul(2).saturating_add(10));
    (spans, nothing)
}

/// Characters from the start of the first token's word to the end of the last token's.
fn grown(encoding: &Encoding, start: usize, end: usize) -> Range<u32> {
    let body = encoding.body();
    let same =
        |a: usize, b: usize| encoding.words[a].is_some() && encoding.words[a] == encoding.words[b];
    let first = (body.start..=start)
        .rev()
        .take_while(|&at| same(at, start))
        .last();
    let last = (end..body.end).take_while(|&at| same(at, end)).last();
    encoding.offsets[first.unwrap_or(start)].0..encoding.offsets[last.unwrap_or(end)].1
}
