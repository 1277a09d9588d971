//! Texts as weighted terms.

use std::collections::{HashMap, VecDeque};

use cloze_spec::text::{Grams, TermUnit};
use serde::{Deserialize, Serialize};

/// Runs of words or characters as weights: `(1 + ln tf) · idf`, each text of length 1, where `tf` is how often a
/// term stands in the text and `idf = ln((1 + n) / (1 + df)) + 1` with `df` of the `n` training texts that have it.
///
/// Both texts of a pair have terms of their own.
///
/// # Source
/// `TfidfVectorizer(ngram_range=…, sublinear_tf=True, min_df=…, max_features=…)` of scikit-learn 1.9: small letters; words of two
/// characters and more, or as with `analyzer="char"` characters, runs of blanks being one.
/// # Departures
/// Marks that belong to letters, such as the vowel signs of Devanagari, do not end a word. Of terms that are as frequent,
/// those that come first by their characters are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Terms {
    grams: Grams,
    /// One for each text of a pair.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Known", into = "Known")]
struct Part {
    places: HashMap<String, u32>,
    idf: Vec<f32>,
}

/// A part as files have it: each term, in the order of the places, with its `idf`.
#[derive(Serialize, Deserialize)]
struct Known(Vec<(String, f32)>);

impl From<Known> for Part {
    fn from(Known(terms): Known) -> Self {
        let idf = terms.iter().map(|(_, idf)| *idf).collect();
        let places = (0..).zip(terms).map(|(place, (term, _))| (term, place));
        Self {
            places: places.collect(),
            idf,
        }
    }
}

impl From<Part> for Known {
    fn from(part: Part) -> Self {
        let mut terms: Vec<(String, u32)> = part.places.into_iter().collect();
        terms.sort_unstable_by_key(|(_, place)| *place);
        let idf = part.idf.into_iter();
        Self(terms.into_iter().map(|(term, _)| term).zip(idf).collect())
    }
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
    pub fn fit(texts: &[Vec<String>], grams: Grams) -> Self {
        let parts = (0..texts.first().map_or(0, Vec::len))
            .map(|part| Part::fit(texts.iter().map(|text| &*text[part]), grams));
        Self {
            grams,
            parts: parts.collect(),
        }
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.idf.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weights of a text, or pair, by rising term.
    pub fn row<T: AsRef<str>>(&self, text: &[T]) -> Vec<(u32, f32)> {
        let mut row = Vec::new();
        let mut start = 0;
        for (part, text) in self.parts.iter().zip(text) {
            row.extend(part.row(text.as_ref(), start, self.grams));
            start += part.idf.len() as u32;
        }
        row
    }
}

impl Part {
    fn fit<'a>(texts: impl Iterator<Item = &'a str>, grams: Grams) -> Self {
        let mut counts: HashMap<String, Count> = HashMap::new();
        let mut total = 0;
        for (at, text) in texts.enumerate() {
            total = at + 1;
            each_term(text, grams, |term| {
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
        counts.retain(|_, count| count.texts as usize >= grams.min_texts);
        let mut kept: Vec<(String, Count)> = counts.into_iter().collect();
        if kept.len() > grams.max_terms {
            kept.sort_unstable_by(|(a, one), (b, other)| {
                other.uses.cmp(&one.uses).then_with(|| a.cmp(b))
            });
            kept.truncate(grams.max_terms);
        }
        kept.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let idf = kept.iter().map(|(_, count)| {
            let share = (1 + total) as f64 / f64::from(1 + count.texts);
            (share.ln() + 1.0) as f32
        });
        Self {
            idf: idf.collect(),
            places: (0..)
                .zip(kept)
                .map(|(place, (term, _))| (term, place))
                .collect(),
        }
    }

    fn row(&self, text: &str, start: u32, grams: Grams) -> Vec<(u32, f32)> {
        let mut found = Vec::new();
        each_term(text, grams, |term| {
            found.extend(self.places.get(term).copied());
        });
        found.sort_unstable();
        let counted = found.chunk_by(|a, b| a == b);
        let mut row: Vec<(u32, f32)> = counted
            .map(|same| {
                let weight = (1.0 + (same.len() as f32).ln()) * self.idf[same[0] as usize];
                (start + same[0], weight)
            })
            .collect();
        let norm = row.iter().map(|(_, weight)| weight * weight).sum::<f32>();
        for (_, weight) in &mut row {
            *weight /= norm.sqrt();
        }
        row
    }
}

/// Shows `see` each run of words, or of characters.
fn each_term(text: &str, grams: Grams, mut see: impl FnMut(&str)) {
    let text = text.to_lowercase();
    match grams.unit {
        TermUnit::Words => {
            let mut last: VecDeque<&str> = VecDeque::new();
            let mut run = String::new();
            for word in words(&text).filter(|word| word.chars().nth(1).is_some()) {
                last.push_front(word);
                last.truncate(grams.max);
                for count in grams.min..=last.len() {
                    run.clear();
                    for word in last.range(..count).rev() {
                        if !run.is_empty() {
                            run.push(' ');
                        }
                        run.push_str(word);
                    }
                    see(&run);
                }
            }
        }
        TermUnit::Characters => {
            let text = single_blanks(&text);
            let ends: Vec<usize> = text
                .char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .collect();
            for count in grams.min..=grams.max.min(ends.len() - 1) {
                for (from, to) in ends.iter().zip(&ends[count..]) {
                    see(&text[*from..*to]);
                }
            }
        }
    }
}

/// The text with one blank for each run of several.
fn single_blanks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let mut runs = false;
        while character.is_whitespace() && rest.next_if(|next| next.is_whitespace()).is_some() {
            runs = true;
        }
        out.push(if runs { ' ' } else { character });
    }
    out
}

/// Runs of letters, digits and underscores.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.split(move |character| !is_part(character))
        .filter(|word| !word.is_empty())
}
