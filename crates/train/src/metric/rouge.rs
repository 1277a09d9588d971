//! ROUGE: how much of a reference a text has, in n-grams or in longest common subsequences.
//!
//! Tokens are runs of `a`–`z` and `0`–`9` of the text in small letters; anything else parts them.
//!
//! # Source
//! Lin, ROUGE, Text Summarization Branches Out 2004; the package rouge-score 0.1.2.

use std::collections::HashMap;

use serde::Serialize;

use super::counts::{Prf, ratio};
use super::porter;
use super::text::{ngrams, overlap};

/// The four scores of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rouge {
    /// Tokens.
    pub rouge1: Prf,
    /// Pairs of neighbouring tokens.
    pub rouge2: Prf,
    /// The longest common subsequence.
    #[serde(rename = "rougeL")]
    pub rouge_l: Prf,
    /// For each sentence of the reference the union of its longest common subsequences with all sentences of the text.
    /// Sentences end at line breaks.
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: Prf,
}

impl Rouge {
    /// The scores against one reference, of several for each score the one with the highest F1. With `stem` words of
    /// more than three letters lose their endings first.
    ///
    /// # Panics
    /// If there is no reference.
    pub fn of(text: &str, references: &[&str], stem: bool) -> Self {
        let own = Tokens::of(text, stem);
        let scores = references
            .iter()
            .map(|reference| own.against(&Tokens::of(reference, stem)));
        let best = scores.reduce(|best, next| {
            let better = |best: Prf, next: Prf| if next.f1 > best.f1 { next } else { best };
            Self {
                rouge1: better(best.rouge1, next.rouge1),
                rouge2: better(best.rouge2, next.rouge2),
                rouge_l: better(best.rouge_l, next.rouge_l),
                rouge_lsum: better(best.rouge_lsum, next.rouge_lsum),
            }
        });
        best.expect("there is a reference")
    }
}

struct Tokens {
    all: Vec<String>,
    sentences: Vec<Vec<String>>,
}

impl Tokens {
    fn of(text: &str, stem: bool) -> Self {
        Self {
            all: tokens(text, stem),
            sentences: text
                .split('\n')
                .map(|sentence| tokens(sentence, stem))
                .collect(),
        }
    }

    fn against(&self, reference: &Self) -> Rouge {
        Rouge {
            rouge1: shared_ngrams(&self.all, &reference.all, 1),
            rouge2: shared_ngrams(&self.all, &reference.all, 2),
            rouge_l: prf(
                subsequence(&reference.all, &self.all).len(),
                self.all.len(),
                reference.all.len(),
            ),
            rouge_lsum: summary(&self.sentences, &reference.sentences),
        }
    }
}

fn tokens(text: &str, stem: bool) -> Vec<String> {
    let text = text.to_lowercase();
    let runs = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
    let stemmed = runs.map(|run| {
        if stem && run.len() > 3 {
            porter::stem(run)
        } else {
            run.to_owned()
        }
    });
    stemmed.filter(|token| !token.is_empty()).collect()
}

fn prf(hits: usize, own: usize, reference: usize) -> Prf {
    let precision = ratio(hits as f64, own as f64);
    let recall = ratio(hits as f64, reference as f64);
    Prf {
        precision,
        recall,
        f1: ratio(2.0 * precision * recall, precision + recall),
    }
}

fn shared_ngrams(own: &[String], reference: &[String], n: usize) -> Prf {
    let hits = overlap(&ngrams(own, n), &ngrams(reference, n)) as usize;
    let count = |tokens: &[String]| (tokens.len() + 1).saturating_sub(n);
    prf(hits, count(own), count(reference))
}

fn summary(own: &[Vec<String>], reference: &[Vec<String>]) -> Prf {
    let counts = |sentences: &[Vec<String>]| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for token in sentences.iter().flatten() {
            *counts.entry(token.clone()).or_insert(0) += 1;
        }
        counts
    };
    let (mut left_own, mut left_reference) = (counts(own), counts(reference));
    let mut hits = 0;
    for sentence in reference {
        let mut is_common = vec![false; sentence.len()];
        for other in own {
            for index in subsequence(sentence, other) {
                is_common[index] = true;
            }
        }
        // A token counts as often as both texts have it, whatever the unions say.
        for (token, _) in sentence.iter().zip(is_common).filter(|(_, common)| *common) {
            if let (Some(a), Some(b)) = (left_own.get_mut(token), left_reference.get_mut(token))
                && *a > 0
                && *b > 0
            {
                hits += 1;
                *a -= 1;
                *b -= 1;
            }
        }
    }
    let total = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    prf(hits, total(own), total(reference))
}

/// Places in `reference` of one of the longest common subsequences, from the last to the first: of equally long ones
/// that which is found by leaving out the last tokens of `reference` first.
fn subsequence(reference: &[String], other: &[String]) -> Vec<usize> {
    let width = other.len() + 1;
    let mut table = vec![0_u32; (reference.len() + 1) * width];
    for (i, a) in reference.iter().enumerate() {
        for (j, b) in other.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if a == b {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (reference.len(), other.len());
    let mut found = Vec::new();
    while i > 0 && j > 0 {
        if reference[i - 1] == other[j - 1] {
            found.push(i - 1);
            i -= 1;
            j -= 1;
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    found
}
