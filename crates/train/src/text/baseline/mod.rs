//! What an encoder of texts has to beat: what counts words, or does not even read.
//!
//! Each learns from the training part and is judged as the encoder is. None has any randomness.

mod lexicon;
mod linear;
mod overlap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cloze_data::text::batch::Wanted;
use cloze_data::text::examples::{Examples, TextPlan, Truth};
use cloze_spec::text::Tags;

use super::judge::{Aim, Blank, Place, Predictions, owners};
use crate::Error;
use crate::metric::classification::largest;

pub(super) use lexicon::entities;
use lexicon::{Lexicon, WordLabels};
pub(super) use linear::solve;
pub use linear::{Kind, Linear};
pub(crate) use linear::{minimize, slopes_of};

/// All that there are for a task, with what each learned.
pub struct Baselines(Vec<(&'static str, Learned)>);

/// What a baseline learned.
enum Learned {
    /// The same class for all, and the share of the training texts that are of it.
    Class(u32, f64),
    /// The same labels for all.
    Set(Vec<u32>),
    /// The same number for all.
    Number(f64),
    /// The same sequence of labels for all.
    Transcript(Vec<u32>),
    /// One of the sequences of the training part, by its terms.
    Transcripts(Vec<Vec<u32>>, Linear),
    /// A class by its terms.
    Classes(Linear),
    /// Labels by their terms.
    Sets(Linear),
    /// A number by its terms.
    Numbers(Linear),
    /// Tags of known words.
    Tags(Lexicon),
    /// The label that a word has most often.
    Words(WordLabels),
    /// A sentence that is like the question.
    Overlap,
    /// That there is no answer.
    Nothing,
    /// How often each token stands in the training part, one added so that none is impossible.
    Tokens(Vec<u64>),
    /// Where each token stands most often, and where all do.
    Places(BTreeMap<u32, u32>, u32),
}

impl Baselines {
    /// Learns from the training part.
    ///
    /// # Errors
    /// If tags are none of their scheme.
    pub fn fit(aim: Aim<'_>, train: &Examples) -> Result<Self, Error> {
        let texts = &train.originals;
        Ok(Self(match &train.truth {
            // What is to be found is of the model's own making.
            Truth::Tokens if aim.blanks.is_some_and(|blanks| blanks.replaced) => Vec::new(),
            Truth::Places(_) => {
                let places: Vec<(u32, u32)> = train.own_places().collect();
                let all: Vec<u32> = places.iter().map(|&(_, place)| place).collect();
                let mut by_token: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
                for (token, place) in places {
                    by_token.entry(token).or_default().push(place);
                }
                let usual = by_token.into_iter().map(|(token, places)| {
                    (token, most_frequent(&places).expect("it stood somewhere"))
                });
                let anywhere = most_frequent(&all).unwrap_or(0);
                vec![("usual place", Learned::Places(usual.collect(), anywhere))]
            }
            Truth::Tokens | Truth::Lines(_) | Truth::Pairs(_) => {
                let vocab = aim.blanks.map_or(0, |blanks| blanks.vocab);
                let mut counts = vec![1; vocab];
                train.own_tokens().for_each(|id| counts[id as usize] += 1);
                vec![("unigram", Learned::Tokens(counts))]
            }
            Truth::Classes(classes) => {
                let class = most_frequent(classes).unwrap_or(0);
                let count = classes.iter().filter(|&&other| other == class).count();
                let share = count as f64 / classes.len().max(1) as f64;
                let (kind, targets) = targets(classes, aim.labels.len());
                let linear = Linear::fit(texts, kind, &targets);
                vec![
                    ("majority", Learned::Class(class, share)),
                    ("tf-idf + logistic", Learned::Classes(linear)),
                ]
            }
            Truth::Sets(sets) => {
                let mut targets = vec![0.0; sets.of.len() * sets.labels];
                for (row, set) in targets.chunks_mut(sets.labels).zip(&sets.of) {
                    for &label in set {
                        row[label as usize] = 1.0;
                    }
                }
                let linear = Linear::fit(texts, Kind::Logistic, &targets);
                let set = most_frequent(&sets.of).unwrap_or_default();
                vec![
                    ("majority", Learned::Set(set)),
                    ("tf-idf + logistic", Learned::Sets(linear)),
                ]
            }
            Truth::Numbers(numbers) => {
                let targets: Vec<f64> = numbers.iter().map(|&n| f64::from(n)).collect();
                let mean = targets.iter().sum::<f64>() / targets.len().max(1) as f64;
                let linear = Linear::fit(texts, Kind::Squares, &targets);
                vec![
                    ("mean", Learned::Number(mean)),
                    ("tf-idf + ridge", Learned::Numbers(linear)),
                ]
            }
            Truth::Words(words) if words.tags == Some(Tags::Words) => {
                vec![("lexicon", Learned::Words(WordLabels::fit(train, words)))]
            }
            Truth::Words(words) => {
                let lexicon = Lexicon::fit(train, words, aim.labels)?;
                vec![("lexicon", Learned::Tags(lexicon))]
            }
            Truth::Transcripts(of) => {
                let all: BTreeSet<&Vec<u32>> = of.iter().collect();
                let all: Vec<Vec<u32>> = all.into_iter().cloned().collect();
                let mut learned = vec![(
                    "majority",
                    Learned::Transcript(most_frequent(of).unwrap_or_default()),
                )];
                // Of one sequence there is nothing to tell.
                if all.len() > 1 {
                    let class = |own| all.binary_search(own).expect("it is one of all") as u32;
                    let classes: Vec<u32> = of.iter().map(class).collect();
                    let (kind, targets) = targets(&classes, all.len());
                    let linear = Linear::fit(texts, kind, &targets);
                    learned.push(("tf-idf + logistic", Learned::Transcripts(all, linear)));
                }
                learned
            }
            Truth::Answers(_) => vec![
                ("no answer", Learned::Nothing),
                ("sentence", Learned::Overlap),
            ],
        }))
    }

    /// What each says of `examples`, by its name.
    pub fn predict(
        &self,
        aim: Aim<'_>,
        examples: &Arc<Examples>,
    ) -> Vec<(&'static str, Predictions)> {
        // To say nothing is no answer where all questions have one.
        let may_be_none = match &examples.truth {
            Truth::Answers(asked) => asked.has_unanswered(),
            _ => false,
        };
        let all = self.0.iter().filter(|(_, learned)| match learned {
            Learned::Nothing => may_be_none,
            _ => true,
        });
        all.map(|(name, learned)| (*name, learned.predict(aim, examples)))
            .collect()
    }
}

impl Learned {
    fn predict(&self, aim: Aim<'_>, examples: &Arc<Examples>) -> Predictions {
        let texts = &examples.originals;
        let rows = |linear: &Linear| linear.predict(texts);
        let questions = match &examples.truth {
            Truth::Answers(asked) => &*asked.questions,
            _ => &[],
        };
        match self {
            Self::Class(class, share) => Predictions::Classes {
                classes: vec![*class; texts.len()],
                confidences: vec![*share; texts.len()],
            },
            Self::Set(set) => Predictions::Sets(vec![set.clone(); texts.len()]),
            Self::Number(number) => Predictions::Numbers(vec![*number; texts.len()]),
            Self::Transcript(labels) => Predictions::Transcripts(vec![labels.clone(); texts.len()]),
            Self::Transcripts(all, linear) => {
                let rows = of_classes(linear, texts).into_iter();
                Predictions::Transcripts(rows.map(|row| all[largest(&row)].clone()).collect())
            }
            Self::Classes(linear) => {
                Predictions::of_probabilities(of_classes(linear, texts).into_iter())
            }
            Self::Sets(linear) => {
                let probabilities = rows(linear);
                let sets = probabilities.chunks(aim.labels.len()).map(|row| {
                    let likely = (0..).zip(row).filter(|(_, p)| **p > 0.5);
                    likely.map(|(label, _)| label).collect()
                });
                Predictions::Sets(sets.collect())
            }
            Self::Numbers(linear) => Predictions::Numbers(rows(linear)),
            Self::Tags(lexicon) => {
                Predictions::Tags(texts.iter().map(|words| lexicon.tags(words)).collect())
            }
            Self::Words(known) => {
                Predictions::Tags(texts.iter().map(|words| known.labels(words)).collect())
            }
            Self::Overlap => {
                let found = questions
                    .iter()
                    .map(|question| overlap::answer(question).to_owned());
                Predictions::Answers(found.collect())
            }
            Self::Nothing => Predictions::Answers(vec![String::new(); questions.len()]),
            Self::Places(usual, anywhere) => {
                let plan = TextPlan::in_order(examples, aim.blanks, aim.batch);
                let mut sums = vec![Place::default(); examples.len()];
                for index in 0..plan.len() {
                    let batch = plan.build(index);
                    let ends = batch.offsets.windows(2);
                    for (&text, ends) in plan.texts(index).iter().zip(ends) {
                        let own = &batch.tokens[ends[0] as usize..ends[1] as usize];
                        for (place, token) in (0..).zip(own) {
                            let found = usual.get(token).unwrap_or(anywhere);
                            sums[text].add(place, *found as usize);
                        }
                    }
                }
                Predictions::Places(sums)
            }
            Self::Tokens(counts) => {
                let total = counts.iter().sum::<u64>() as f64;
                let most = counts.iter().max();
                let first = counts.iter().position(|count| Some(count) == most);
                let plan = TextPlan::in_order(examples, aim.blanks, aim.batch);
                let mut sums = vec![Blank::default(); plan.examples().len()];
                for index in 0..plan.len() {
                    let batch = plan.build(index);
                    let Wanted::Tokens(targets) = &batch.wanted else {
                        unreachable!("tokens are what is hidden");
                    };
                    for (owner, &target) in owners(&batch).zip(targets) {
                        let count = counts[target as usize] as f64;
                        let nats = -(count / total).ln();
                        let is_right = first == Some(target as usize);
                        sums[plan.texts(index)[owner]].add(nats, is_right);
                    }
                    // That all segments belong together.
                    let classes = batch.pairs.iter().flatten();
                    for (&text, &class) in plan.texts(index).iter().zip(classes) {
                        sums[text].add_pair(class, 0);
                    }
                }
                Predictions::Blanks(sums)
            }
        }
    }
}

/// The probabilities of the classes of each text.
fn of_classes(linear: &Linear, texts: &[Vec<String>]) -> Vec<Vec<f64>> {
    let probabilities = linear.predict(texts);
    let width = probabilities.len() / texts.len().max(1);
    let rows = probabilities.chunks(width.max(1)).map(|row| match row {
        [second] => vec![1.0 - second, *second],
        row => row.to_vec(),
    });
    rows.collect()
}

/// What scores of each text are to tell, `[N, C]`; two classes need one score, as in the reference.
pub(crate) fn targets(classes: &[u32], labels: usize) -> (Kind, Vec<f64>) {
    if labels == 2 {
        let second = classes.iter().map(|&class| f64::from(class));
        return (Kind::Logistic, second.collect());
    }
    let mut targets = vec![0.0; classes.len() * labels];
    for (row, &class) in targets.chunks_mut(labels).zip(classes) {
        row[class as usize] = 1.0;
    }
    (Kind::Softmax, targets)
}

/// The first of the most frequent.
fn most_frequent<T: Clone + Ord>(values: &[T]) -> Option<T> {
    let mut counts: BTreeMap<&T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let best = counts
        .into_iter()
        .reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map(|(value, _)| value.clone())
}
