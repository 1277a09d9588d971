use std::collections::HashMap;

use rayon::prelude::*;

use crate::baseline::SparseRows;

/// Most terms that are known: the most frequent ones. It bounds the memory of what is fitted to them.
const MAX_TERMS: usize = 200_000;

/// Words and pairs of neighbouring words as weights: `(1 + ln tf) · idf`, each text of length 1, where `tf` is how often a
/// term stands in the text and `idf = ln((1 + n) / (1 + df)) + 1` with `df` of the `n` training texts that have it.
///
/// Both texts of a pair have terms of their own.
///
/// # Source
/// `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=200_000)` of scikit-learn 1.9: small letters, words of
/// two characters and more.
/// # Departures
/// Marks that belong to letters, such as the vowel signs of Devanagari, do not end a word. Of terms that are as frequent,
/// those that come first by their characters are kept.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// One for each text of a pair.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    /// Place of the first term.
    start: u32,
    places: HashMap<String, u32>,
    idf: Vec<f32>,
}

/// How often a term stands in the training texts.
struct Count {
    uses: u64,
    texts: u32,
    /// The last text that has it.
    last: usize,
}

impl Terms {
    /// The terms of texts, or pairs of them.
    pub(super) fn fit(texts: &[Vec<String>]) -> Self {
        let mut start = 0;
        let parts = (0..texts.first().map_or(0, Vec::len)).map(|part| {
            let part = Part::fit(texts.iter().map(|text| &*text[part]), start);
            start += part.idf.len() as u32;
            part
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// Number of terms.
    pub(super) fn len(&self) -> usize {
        let last = self.parts.last();
        last.map_or(0, |part| part.start as usize + part.idf.len())
    }

    /// The weights of each text, by rising term.
    pub(super) fn rows(&self, texts: &[Vec<String>]) -> SparseRows {
        let row = |text: &Vec<String>| {
            let parts = self.parts.iter().zip(text);
            parts.flat_map(|(part, text)| part.row(text)).collect()
        };
        SparseRows::new(texts.par_iter().map(row).collect::<Vec<_>>())
    }
}

impl Part {
    fn fit<'a>(texts: impl Iterator<Item = &'a str>, start: u32) -> Self {
        let mut counts: HashMap<String, Count> = HashMap::new();
        let mut total = 0;
        for (at, text) in texts.enumerate() {
            total = at + 1;
            each_term(text, |term| {
                if let Some(count) = counts.get_mut(term) {
                    count.uses += 1;
                    count.texts += u32::from(count.last != at);
                    count.last = at;
                } else {
                    let first = Count {
                        uses: 1,
                        texts: 1,
                        last: at,
                    };
                    counts.insert(term.to_owned(), first);
                }
            });
        }
        let mut kept: Vec<(String, Count)> = counts.into_iter().collect();
        if kept.len() > MAX_TERMS {
            kept.sort_unstable_by(|(a, one), (b, other)| {
                other.uses.cmp(&one.uses).then_with(|| a.cmp(b))
            });
            kept.truncate(MAX_TERMS);
        }
        kept.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let idf = kept.iter().map(|(_, count)| {
            let share = (1 + total) as f64 / f64::from(1 + count.texts);
            (share.ln() + 1.0) as f32
        });
        Self {
            start,
            idf: idf.collect(),
            places: (0..)
                .zip(kept)
                .map(|(place, (term, _))| (term, place))
                .collect(),
        }
    }

    fn row(&self, text: &str) -> Vec<(u32, f32)> {
        let mut found = Vec::new();
        each_term(text, |term| found.extend(self.places.get(term).copied()));
        found.sort_unstable();
        let counted = found.chunk_by(|a, b| a == b);
        let mut row: Vec<(u32, f32)> = counted
            .map(|same| {
                let weight = (1.0 + (same.len() as f32).ln()) * self.idf[same[0] as usize];
                (self.start + same[0], weight)
            })
            .collect();
        let norm = row.iter().map(|(_, weight)| weight * weight).sum::<f32>();
        for (_, weight) in &mut row {
            *weight /= norm.sqrt();
        }
        row
    }
}

/// Shows `see` each word, and each word with the one after it.
fn each_term(text: &str, mut see: impl FnMut(&str)) {
    let text = text.to_lowercase();
    let mut pair = String::new();
    for word in words(&text).filter(|word| word.chars().nth(1).is_some()) {
        if !pair.is_empty() {
            pair.push(' ');
            pair.push_str(word);
            see(&pair);
        }
        see(word);
        pair.clear();
        pair.push_str(word);
    }
}

/// Runs of letters, digits and underscores.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.split(move |character| !is_part(character))
        .filter(|word| !word.is_empty())
}
