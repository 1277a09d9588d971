//! Sequences of labels: which may stand after which, and how likely each is.

use std::ops::Range;

use crate::annotation::{Scheme, tag};

/// What a step that the scheme does not allow costs. A number, so that sums stay numbers: the sequence with the fewest such steps
/// is taken where labels allow none without.
const FORBIDDEN: f64 = -1e30;

/// A linear chain over the words of a sentence: the score of a sequence of labels is the sum of what each word gives its label
/// and of what each label gives the next.
///
/// # Source
/// Lafferty et al., Conditional Random Fields, ICML 2001. Viterbi and forward-backward as in Rabiner, Proceedings of the IEEE
/// 77(2), 1989, §III.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Number of labels, `C`.
    labels: usize,
    /// What each label gives each next one, `[C + 1, C + 1]`: the last row is for the first label of a sentence, the last column
    /// for its last one.
    steps: Vec<f64>,
    /// Letter and kind of each label, if all of them are tags of one scheme.
    tags: Option<Vec<(char, String)>>,
}

impl Chain {
    /// The chain of `labels`, with the scores `learned: [C + 1, C + 1]`, 0 if there are none. If all labels are tags as of IOB2
    /// or BIOES, sequences that the scheme does not allow are as good as impossible; other labels may stand in any order.
    ///
    /// # Panics
    /// If `learned` has another length.
    pub fn new(labels: &[String], learned: Option<&[f32]>) -> Self {
        let (count, side) = (labels.len(), labels.len() + 1);
        let mut steps = match learned {
            Some(learned) => learned.iter().map(|&score| f64::from(score)).collect(),
            None => vec![0.0; side * side],
        };
        assert_eq!(steps.len(), side * side, "scores between {count} labels");
        let tags: Option<Vec<(char, String)>> = labels
            .iter()
            .map(|label| tag(label).map(|(letter, kind)| (letter, kind.to_owned())))
            .collect();
        if let Some(tags) = &tags {
            let is_bioes = tags.iter().any(|(letter, _)| matches!(letter, 'E' | 'S'));
            let scheme = if is_bioes {
                Scheme::Bioes
            } else {
                Scheme::Iob2
            };
            let known = |at: usize| tags.get(at).map(|(letter, kind)| (*letter, &**kind));
            for from in 0..side {
                for to in 0..side {
                    if !scheme.allows(known(from), known(to)) {
                        steps[from * side + to] = FORBIDDEN;
                    }
                }
            }
        }
        Self {
            labels: count,
            steps,
            tags,
        }
    }

    fn step(&self, from: usize, to: usize) -> f64 {
        self.steps[from * (self.labels + 1) + to]
    }

    /// The sequence with the highest score; of equal ones that with the earlier labels, from the end.
    ///
    /// # Shapes
    /// `rows`: the scores `[C]` of each of `T` words → `[T]`
    pub fn best(&self, rows: &[&[f32]]) -> Vec<u32> {
        let Some((first, rest)) = rows.split_first() else {
            return Vec::new();
        };
        let count = self.labels;
        let mut sums: Vec<f64> = (0..count)
            .map(|to| self.step(count, to) + f64::from(first[to]))
            .collect();
        let mut from: Vec<u32> = Vec::with_capacity(rest.len() * count);
        for row in rest {
            let next = (0..count).map(|to| {
                let (best, sum) =
                    highest((0..count).map(|label| sums[label] + self.step(label, to)));
                from.push(best as u32);
                sum + f64::from(row[to])
            });
            sums = next.collect();
        }
        let (mut last, _) = highest((0..count).map(|label| sums[label] + self.step(label, count)));
        let mut found = vec![last as u32];
        for back in from.rchunks(count) {
            last = back[last] as usize;
            found.push(last as u32);
        }
        found.reverse();
        found
    }

    /// How likely each label of each word is, over all sequences.
    ///
    /// # Shapes
    /// As [`Self::best`] → `[T, C]`
    pub fn shares(&self, rows: &[&[f32]]) -> Vec<f64> {
        let count = self.labels;
        // Sums over all sequences up to a word, and from it on.
        let mut before = vec![0.0; rows.len() * count];
        let mut after = vec![0.0; rows.len() * count];
        for (at, row) in rows.iter().enumerate() {
            for to in 0..count {
                let sum = match at {
                    0 => self.step(count, to),
                    _ => log_sum(
                        (0..count)
                            .map(|label| before[(at - 1) * count + label] + self.step(label, to)),
                    ),
                };
                before[at * count + to] = sum + f64::from(row[to]);
            }
        }
        for at in (0..rows.len()).rev() {
            for label in 0..count {
                after[at * count + label] = match rows.get(at + 1) {
                    None => self.step(label, count),
                    Some(next) => log_sum((0..count).map(|to| {
                        self.step(label, to) + f64::from(next[to]) + after[(at + 1) * count + to]
                    })),
                };
            }
        }
        for (before, after) in before.chunks_mut(count).zip(after.chunks(count)) {
            before
                .iter_mut()
                .zip(after)
                .for_each(|(sum, rest)| *sum += rest);
            let whole = log_sum(before.iter().copied());
            for sum in before {
                *sum = (*sum - whole).exp();
            }
        }
        before
    }

    /// The labelled stretches that a sequence writes, with the name of each; of labels that are no tags, words of one label that
    /// stand together.
    pub(super) fn stretches<'a>(
        &'a self,
        labels: &'a [String],
        sequence: &[u32],
    ) -> Vec<(&'a str, Range<usize>)> {
        let kind = |label: u32| match &self.tags {
            Some(tags) => {
                let (letter, kind) = &tags[label as usize];
                (*letter, &**kind)
            }
            None => ('I', &*labels[label as usize]),
        };
        let mut found: Vec<(&str, Range<usize>)> = Vec::new();
        for (word, &label) in sequence.iter().enumerate() {
            let (letter, kind) = kind(label);
            match found.last_mut() {
                _ if letter == 'O' => {}
                Some((open, words))
                    if *open == kind && words.end == word && !matches!(letter, 'B' | 'S') =>
                {
                    words.end += 1;
                }
                _ => found.push((kind, word..word + 1)),
            }
        }
        found
    }
}

/// The first of the highest.
fn highest(scores: impl Iterator<Item = f64>) -> (usize, f64) {
    let first = (0, f64::NEG_INFINITY);
    scores.enumerate().fold(
        first,
        |best, (label, score)| {
            if score > best.1 { (label, score) } else { best }
        },
    )
}

/// `ln Σ eˣ`, without leaving the range of numbers.
fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    most + terms.map(|term| (term - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Every sequence of `words` labels.
    fn all(count: u32, words: u32) -> impl Iterator<Item = Vec<u32>> {
        (0..count.pow(words)).map(move |number| {
            (0..words)
                .map(|word| number / count.pow(word) % count)
                .collect()
        })
    }

    fn score(chain: &Chain, rows: &[&[f32]], sequence: &[u32]) -> f64 {
        let ends = [chain.labels as u32];
        let path: Vec<u32> = [&ends, sequence, &ends].concat();
        let steps = path
            .windows(2)
            .map(|w| chain.step(w[0] as usize, w[1] as usize));
        let words = rows.iter().zip(sequence);
        steps.sum::<f64>()
            + words
                .map(|(row, &label)| f64::from(row[label as usize]))
                .sum::<f64>()
    }

    const IOB2: [&str; 5] = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];
    const BIOES: [&str; 5] = ["O", "B-PER", "I-PER", "E-PER", "S-PER"];

    proptest! {
        #[test]
        fn no_sequence_scores_higher_and_shares_are_of_all_sequences(
            values in prop::collection::vec(-3.0_f32..3.0, 20),
            learned in prop::collection::vec(-3.0_f32..3.0, 36),
            words in 1_usize..5,
            is_bioes in any::<bool>(),
        ) {
            let names = labels(if is_bioes { &BIOES } else { &IOB2 });
            let chain = Chain::new(&names, Some(&learned));
            let rows: Vec<&[f32]> = values.chunks(5).take(words).collect();
            let sequences: Vec<Vec<u32>> = all(5, words as u32).collect();
            let scores: Vec<f64> = sequences.iter().map(|of| score(&chain, &rows, of)).collect();
            let (best, _) = highest(scores.iter().copied());
            prop_assert_eq!(&chain.best(&rows), &sequences[best]);
            let whole: f64 = scores.iter().map(|score| score.exp()).sum();
            let shares = chain.shares(&rows);
            for (at, share) in shares.iter().enumerate() {
                let has = |of: &&Vec<u32>| of[at / 5] as usize == at % 5;
                let own = sequences.iter().zip(&scores).filter(|(of, _)| has(of));
                let expected = own.map(|(_, score)| score.exp()).sum::<f64>() / whole;
                prop_assert!((share - expected).abs() < 1e-12, "{share} {expected}");
            }
        }

        #[test]
        fn no_sequence_breaks_its_scheme(
            values in prop::collection::vec(-1e4_f32..1e4, 5..200),
            learned in prop::collection::vec(-1e3_f32..1e3, 36),
            is_bioes in any::<bool>(),
        ) {
            let (names, scheme) = if is_bioes {
                (labels(&BIOES), Scheme::Bioes)
            } else {
                (labels(&IOB2), Scheme::Iob2)
            };
            let rows: Vec<&[f32]> = values.chunks_exact(5).collect();
            let found = Chain::new(&names, Some(&learned)).best(&rows);
            let tags: Vec<&str> = found.iter().map(|&label| &*names[label as usize]).collect();
            prop_assert!(scheme.spans(&tags).is_ok(), "{tags:?}");
        }
    }

    #[test]
    fn labels_that_are_no_tags_stand_in_any_order() {
        let names = labels(&["NOUN", "VERB"]);
        let chain = Chain::new(&names, None);
        let found = chain.best(&[&[0.0, 1.0], &[2.0, 1.0], &[3.0, 1.0]]);
        assert_eq!(found, [1, 0, 0]);
        let stretches = chain.stretches(&names, &found);
        assert_eq!(stretches, [("VERB", 0..1), ("NOUN", 1..3)]);
        assert!(chain.best(&[]).is_empty() && chain.shares(&[]).is_empty());
    }

    #[test]
    fn stretches_are_those_of_the_scheme() {
        let names = labels(&BIOES);
        let chain = Chain::new(&names, None);
        assert_eq!(
            chain.stretches(&names, &[4, 1, 2, 3, 1, 3, 0, 4]),
            [("PER", 0..1), ("PER", 1..4), ("PER", 4..6), ("PER", 7..8)]
        );
    }
}
