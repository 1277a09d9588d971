//! chrF and chrF++: F-score of character n-grams, and of words and their pairs.
//!
//! ```text
//! chrF = 100 · (1 + β²) · P · R / (β² · P + R)      P, R: means over the orders that both texts have n-grams of
//! ```
//!
//! Blanks are left out of character n-grams. Of several references the one with the highest score counts.
//!
//! # Source
//! Popović, chrF, WMT 2015, and chrF++, WMT 2017; sacrebleu 2.6.

use super::text::{ngrams, overlap, words};

/// The longest character n-grams.
pub const CHAR_ORDER: usize = 6;
/// The longest word n-grams of chrF++.
pub const WORD_ORDER: usize = 2;
/// How much more recall counts than precision.
const BETA: f64 = 2.0;

/// Counts of one hypothesis, or of all when added up: n-grams of characters, then of words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chrf {
    orders: [Order; CHAR_ORDER + WORD_ORDER],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Order {
    hypothesis: u64,
    reference: u64,
    matches: u64,
}

impl Chrf {
    /// The counts of one hypothesis, with those of words for chrF++.
    ///
    /// # Panics
    /// If there is no reference.
    pub fn of(hypothesis: &str, references: &[&str], with_words: bool, lowercase: bool) -> Self {
        assert!(!references.is_empty(), "there is a reference");
        let prepare = |line: &str| {
            let lower = lowercase.then(|| line.to_lowercase());
            Parts::of(lower.as_deref().unwrap_or(line), with_words)
        };
        let hypothesis = prepare(hypothesis);
        let counts = references
            .iter()
            .map(|line| hypothesis.against(&prepare(line)));
        let best = counts.reduce(|best, next| {
            if next.score() > best.score() {
                next
            } else {
                best
            }
        });
        best.expect("there is a reference")
    }

    /// The score, from 0 to 100; 0 if nothing matches.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for order in &self.orders {
            if order.hypothesis > 0 && order.reference > 0 {
                precision += order.matches as f64 / order.hypothesis as f64;
                recall += order.matches as f64 / order.reference as f64;
                orders += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        let factor = BETA * BETA;
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}

impl std::ops::AddAssign<&Self> for Chrf {
    fn add_assign(&mut self, other: &Self) {
        for (sum, order) in self.orders.iter_mut().zip(&other.orders) {
            sum.hypothesis += order.hypothesis;
            sum.reference += order.reference;
            sum.matches += order.matches;
        }
    }
}

/// A text in characters and words.
struct Parts {
    chars: Vec<char>,
    words: Vec<String>,
}

impl Parts {
    fn of(line: &str, with_words: bool) -> Self {
        let mut parts = Self {
            chars: words(line).flat_map(str::chars).collect(),
            words: Vec::new(),
        };
        if with_words {
            for word in words(line) {
                parts
                    .words
                    .extend(parted(word).into_iter().map(str::to_owned));
            }
        }
        parts
    }

    fn against(&self, reference: &Self) -> Chrf {
        let mut counts = Chrf::default();
        for n in 1..=CHAR_ORDER {
            counts.orders[n - 1] = order(&self.chars, &reference.chars, n);
        }
        for n in 1..=WORD_ORDER {
            counts.orders[CHAR_ORDER + n - 1] = order(&self.words, &reference.words, n);
        }
        counts
    }
}

fn order<T: std::hash::Hash + Eq>(hypothesis: &[T], reference: &[T], n: usize) -> Order {
    let (own, known) = (ngrams(hypothesis, n), ngrams(reference, n));
    Order {
        // Where the reference has none, those of the hypothesis are not held against it.
        hypothesis: if known.is_empty() {
            0
        } else {
            own.values().sum()
        },
        reference: known.values().sum(),
        matches: overlap(&own, &known),
    }
}

/// A word without the punctuation at its end, or else at its start, and that punctuation; one character only.
fn parted(word: &str) -> Vec<&str> {
    let (first, last) = (word.chars().next(), word.chars().next_back());
    let marks = |character: Option<char>| character.is_some_and(|c| c.is_ascii_punctuation());
    if word.chars().nth(1).is_none() {
        vec![word]
    } else if marks(last) {
        let (body, mark) = word.split_at(word.len() - 1);
        vec![body, mark]
    } else if marks(first) {
        let (mark, body) = word.split_at(1);
        vec![mark, body]
    } else {
        vec![word]
    }
}
