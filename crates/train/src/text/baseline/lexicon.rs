use std::collections::{BTreeMap, HashMap};

use cloze_data::text::examples::{Examples, Words};

use crate::Error;
use crate::metric::entity::{Entity, Scheme};

/// Entities that the training sentences have, found again wherever their words stand; the longest where several begin.
///
/// What stands for an entity less often than not, it leaves alone; of several types it takes the most frequent.
///
/// # Source
/// Tjong Kim Sang and De Meulder, Introduction to the `CoNLL`-2003 Shared Task, 2003, §3.
/// # Departures
/// There, what had more than one type in the training part was left alone.
#[derive(Debug, Clone)]
pub(super) struct Lexicon {
    /// Types by the words that stand for them.
    kinds: HashMap<Vec<String>, String>,
    longest: usize,
    /// Places of tags.
    tags: HashMap<String, u32>,
}

impl Lexicon {
    /// The entities of `words`, whose tags `labels` names.
    ///
    /// # Errors
    /// If a tag is none of its scheme.
    pub(super) fn fit(
        examples: &Examples,
        words: &Words,
        labels: &[String],
    ) -> Result<Self, Error> {
        let mut counts: HashMap<&[String], HashMap<String, u64>> = HashMap::new();
        let mut longest = 0;
        for (sentence, tags) in examples.originals.iter().zip(&words.labels) {
            for Entity { kind, start, end } in entities(tags, labels)? {
                let kinds = counts.entry(&sentence[start..end]).or_default();
                *kinds.entry(kind).or_default() += 1;
                longest = longest.max(end - start);
            }
        }
        let mut uses: HashMap<&[String], u64> = HashMap::new();
        for sentence in &examples.originals {
            for start in 0..sentence.len() {
                for phrase in phrases(sentence, start, longest) {
                    if counts.contains_key(phrase) {
                        *uses.entry(phrase).or_default() += 1;
                    }
                }
            }
        }
        let kinds = counts.into_iter().filter_map(|(phrase, kinds)| {
            let named: u64 = kinds.values().sum();
            let order = |kind: &(String, u64)| (kind.1, std::cmp::Reverse(kind.0.clone()));
            let (kind, _) = kinds.into_iter().max_by_key(order)?;
            (2 * named >= uses[phrase]).then(|| (phrase.to_vec(), kind))
        });
        Ok(Self {
            kinds: kinds.collect(),
            longest,
            tags: labels.iter().cloned().zip(0..).collect(),
        })
    }

    /// The tag of each word.
    pub(super) fn tags(&self, sentence: &[String]) -> Vec<u32> {
        let mut tags = vec![self.tag("O", ""); sentence.len()];
        let mut start = 0;
        while start < sentence.len() {
            let mut phrases = phrases(sentence, start, self.longest);
            let found = phrases.find_map(|phrase| Some((phrase.len(), self.kinds.get(phrase)?)));
            let Some((len, kind)) = found else {
                start += 1;
                continue;
            };
            tags[start] = self.tag("B", kind);
            tags[start + 1..start + len].fill(self.tag("I", kind));
            start += len;
        }
        tags
    }

    /// The place of a tag; the first where there is none such.
    fn tag(&self, prefix: &str, kind: &str) -> u32 {
        let name = match kind {
            "" | "_" => prefix.to_owned(),
            kind => format!("{prefix}-{kind}"),
        };
        self.tags.get(&name).copied().unwrap_or(0)
    }
}

/// The label that each word had most often in the training part; of words that it lacks, the most frequent label.
#[derive(Debug, Clone)]
pub(super) struct WordLabels {
    labels: HashMap<String, u32>,
    usual: u32,
}

impl WordLabels {
    pub(super) fn fit(examples: &Examples, words: &Words) -> Self {
        let mut counts: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
        let mut all: BTreeMap<u32, u64> = BTreeMap::new();
        for (sentence, labels) in examples.originals.iter().zip(&words.labels) {
            for (word, &label) in sentence.iter().zip(labels) {
                *counts.entry(word).or_default().entry(label).or_default() += 1;
                *all.entry(label).or_default() += 1;
            }
        }
        let most = |counts: &BTreeMap<u32, u64>| {
            let order = |(label, count): &(&u32, &u64)| (**count, std::cmp::Reverse(**label));
            counts
                .iter()
                .max_by_key(order)
                .map_or(0, |(label, _)| *label)
        };
        Self {
            labels: counts
                .iter()
                .map(|(word, counts)| ((*word).to_owned(), most(counts)))
                .collect(),
            usual: most(&all),
        }
    }

    /// The label of each word.
    pub(super) fn labels(&self, sentence: &[String]) -> Vec<u32> {
        let known = |word: &String| self.labels.get(word).copied();
        sentence
            .iter()
            .map(|word| known(word).unwrap_or(self.usual))
            .collect()
    }
}

/// The entities that tags say there are.
///
/// # Errors
/// If a tag is none of its scheme.
pub(in crate::text) fn entities(tags: &[u32], labels: &[String]) -> Result<Vec<Entity>, Error> {
    let tags: Vec<&String> = tags.iter().map(|&tag| &labels[tag as usize]).collect();
    let entities = Scheme::Conll.entities(&tags);
    entities.map_err(|bad| Error::Empty(format!("labels: {bad}")))
}

/// Words from `start` on, the longest run first.
fn phrases(sentence: &[String], start: usize, longest: usize) -> impl Iterator<Item = &[String]> {
    let most = longest.min(sentence.len() - start);
    (1..=most)
        .rev()
        .map(move |len| &sentence[start..start + len])
}
