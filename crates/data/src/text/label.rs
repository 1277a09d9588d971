//! From labels of tokens to labelled stretches of text.

use std::ops::Range;

use super::{Chain, Encoding, Tokenizer, slice};

/// How tokens agree on the label of their word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agreement {
    /// They do not: each keeps its own.
    #[default]
    Simple,
    /// The first token decides.
    First,
    /// The mean of all tokens' probabilities decides.
    Average,
    /// The token that is surest of its label decides.
    Max,
}

/// A labelled stretch of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The label, without `B-` or `I-`.
    pub label: String,
    /// Mean probability of the label over its tokens, or over its words where these agreed on one.
    pub score: f32,
    /// The characters.
    pub chars: Range<u32>,
    /// The same characters, as the text has them.
    pub text: String,
}

/// A token or a word, and its label.
struct Labelled {
    label: usize,
    score: f32,
    chars: (u32, u32),
}

impl Tokenizer {
    /// The labelled stretches of `text`, in order, from what a token classifier says of its windows.
    ///
    /// Neighbours are one stretch if they have the same label and the later one does not begin with `B-`; labels without
    /// `B-` or `I-` count as `I-`; the label `O` is left out. Of stretches from different windows that overlap, the longest
    /// stays, or of equally long ones the surest. A token continues a word if it is spelled with the prefix of word pieces;
    /// for tokenizers that have none, if there is no blank at or before its first character.
    ///
    /// # Shapes
    /// `windows`: the encodings and, for each, logits `[N, C]` with one column for each of `labels`
    /// # Source
    /// The token classification pipeline of `transformers`, with `aggregation_strategy` as `agreement`.
    /// # Departures
    /// [`Entity::text`] is what stands in the text; the pipeline's `word` is put together from tokens.
    /// # Panics
    /// If there are more or fewer logits than tokens times labels.
    pub fn entities(
        &self,
        text: &str,
        windows: &[(&Encoding, &[f32])],
        labels: &[String],
        agreement: Agreement,
    ) -> Vec<Entity> {
        let chars: Vec<char> = text.chars().collect();
        let mut all = Vec::new();
        for &(encoding, logits) in windows {
            assert_eq!(
                logits.len(),
                encoding.len() * labels.len(),
                "logits of {} tokens and {} labels",
                encoding.len(),
                labels.len()
            );
            let words = self.labelled(&chars, encoding, logits, labels.len(), agreement);
            all.extend(
                grouped(&words, labels).map(|(label, score, (start, end))| Entity {
                    label: label.to_owned(),
                    score,
                    chars: start..end,
                    text: slice(&chars, start..end),
                }),
            );
        }
        if windows.len() > 1 {
            all = without_overlap(all);
        }
        all
    }

    /// As [`Self::entities`], the first token of each word giving its scores, and `chain` the labels of all words together.
    /// `places` are the tokens of the text, in order: the window of each, and where it stands there.
    ///
    /// [`Entity::score`] is the mean over the words of how likely their labels are by the chain.
    ///
    /// # Panics
    /// As there.
    pub fn entities_of_chain(
        &self,
        text: &str,
        windows: &[(&Encoding, &[f32])],
        places: &[(usize, usize)],
        labels: &[String],
        chain: &Chain,
    ) -> Vec<Entity> {
        let text: Vec<char> = text.chars().collect();
        let (mut rows, mut words): (Vec<&[f32]>, Vec<Range<u32>>) = (Vec::new(), Vec::new());
        for &(window, token) in places {
            let (encoding, logits) = windows[window];
            let (start, end) = encoding.offsets[token];
            match words.last_mut() {
                Some(word) if self.continues(&text, encoding, token) => word.end = end,
                _ => {
                    rows.push(&logits[token * labels.len()..][..labels.len()]);
                    words.push(start..end);
                }
            }
        }
        let sequence = chain.best(&rows);
        let shares = chain.shares(&rows);
        let stretches = chain.stretches(labels, &sequence).into_iter();
        stretches
            .map(|(label, of)| {
                let shares = of
                    .clone()
                    .map(|word| shares[word * labels.len() + sequence[word] as usize]);
                let chars = words[of.start].start..words[of.end - 1].end;
                Entity {
                    label: label.to_owned(),
                    score: (shares.sum::<f64>() / of.len() as f64) as f32,
                    text: slice(&text, chars.clone()),
                    chars,
                }
            })
            .collect()
    }

    fn labelled(
        &self,
        text: &[char],
        encoding: &Encoding,
        logits: &[f32],
        labels: usize,
        agreement: Agreement,
    ) -> Vec<Labelled> {
        let mut words: Vec<Vec<usize>> = Vec::new();
        for token in encoding.body() {
            match words.last_mut() {
                Some(word)
                    if agreement != Agreement::Simple && self.continues(text, encoding, token) =>
                {
                    word.push(token);
                }
                _ => words.push(vec![token]),
            }
        }
        let row = |token: usize| softmax(&logits[token * labels..][..labels]);
        let decide = |word: Vec<usize>| {
            let scores = match agreement {
                Agreement::Simple | Agreement::First => row(word[0]),
                Agreement::Average => {
                    let mut mean = vec![0.0; labels];
                    for &token in &word {
                        for (mean, score) in mean.iter_mut().zip(row(token)) {
                            *mean += score / word.len() as f32;
                        }
                    }
                    mean
                }
                Agreement::Max => {
                    let rows = word.iter().map(|&token| row(token));
                    rows.reduce(|best, row| {
                        if largest(&row).1 > largest(&best).1 {
                            row
                        } else {
                            best
                        }
                    })
                    .expect("a word has a token")
                }
            };
            let (label, score) = largest(&scores);
            let (first, last) = (word[0], word[word.len() - 1]);
            let chars = (encoding.offsets[first].0, encoding.offsets[last].1);
            Labelled {
                label,
                score,
                chars,
            }
        };
        if labels == 0 {
            return Vec::new();
        }
        words.into_iter().map(decide).collect()
    }

    /// Whether a token belongs to the word of the one before.
    fn continues(&self, text: &[char], encoding: &Encoding, token: usize) -> bool {
        let (start, end) = encoding.offsets[token];
        let id = encoding.ids[token];
        if self.unknown() == Some(id) {
            return false;
        }
        if self.continuing_prefix().is_some() {
            let spelled = self.token(id).map_or(0, |token| token.chars().count());
            return spelled != end.saturating_sub(start) as usize;
        }
        let around = start.saturating_sub(1) as usize..(start as usize + 1).min(text.len());
        start > 0 && !text[around].contains(&' ')
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut scores: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = scores.iter().sum();
    for score in &mut scores {
        *score /= sum;
    }
    scores
}

/// The first of the largest.
fn largest(scores: &[f32]) -> (usize, f32) {
    let mut best = (0, scores[0]);
    for (index, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (index, score);
        }
    }
    best
}

/// Neighbours of one label as one, without those outside of every label.
fn grouped<'a>(
    words: &'a [Labelled],
    labels: &'a [String],
) -> impl Iterator<Item = (&'a str, f32, (u32, u32))> {
    let same = |a: &Labelled, b: &Labelled| {
        let (next, begins) = tag(&labels[b.label]);
        tag(&labels[a.label]).0 == next && !begins
    };
    let groups = words.chunk_by(same).map(|group| {
        let score = group.iter().map(|word| word.score).sum::<f32>() / group.len() as f32;
        let label = &labels[group[0].label];
        // What stands after the first hyphen, be it of `B-` or not, as the pipeline has it.
        let name = label.split_once('-').map_or(&**label, |(_, name)| name);
        (
            name,
            score,
            (group[0].chars.0, group[group.len() - 1].chars.1),
        )
    });
    groups.filter(|(label, ..)| *label != "O")
}

/// The kind, and whether something of the kind begins here.
fn tag(label: &str) -> (&str, bool) {
    match label.strip_prefix("B-") {
        Some(kind) => (kind, true),
        None => (label.strip_prefix("I-").unwrap_or(label), false),
    }
}

fn without_overlap(mut all: Vec<Entity>) -> Vec<Entity> {
    all.sort_by_key(|entity| entity.chars.start);
    let mut kept: Vec<Entity> = Vec::new();
    for entity in all {
        match kept.last_mut() {
            Some(last) if last.chars.contains(&entity.chars.start) => {
                let len = |entity: &Entity| entity.chars.end - entity.chars.start;
                let longer = len(&entity).cmp(&len(last));
                if longer.is_gt() || longer.is_eq() && entity.score > last.score {
                    *last = entity;
                }
            }
            _ => kept.push(entity),
        }
    }
    kept
}
