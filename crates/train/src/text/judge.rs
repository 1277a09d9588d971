//! How good an encoder of texts is at what it was trained for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::text::batch::{TextBatch, Wanted};
use cloze_data::text::examples::{Asked, Blanks, Examples, TextPlan, Truth};
use cloze_data::text::{Answers, Chain, answers};
use cloze_nn::Noise;
use cloze_nn::pretrained::Pretrained;
use cloze_spec::batch::Batch;
use cloze_spec::encoder::DropoutRates;
use cloze_spec::text::{Decode, Objective, Tags};

use super::baseline::entities;
use crate::Error;
use crate::metric::answer::Rules;
use crate::metric::bootstrap::intervals;
use crate::metric::calibration::{Bin, bins};
use crate::metric::classification::{Confusion, largest};
use crate::metric::counts::{Average, Counts, average};
use crate::metric::entity;
use crate::metric::multilabel::Multilabel;
use crate::metric::regression::{mean_squared_error, pearson, spearman};

/// What a model is trained for.
#[derive(Debug, Clone, Copy)]
pub struct Aim<'a> {
    /// What is to be predicted.
    pub objective: &'a Objective,
    /// How many tokens make a batch.
    pub batch: Batch,
    /// Names of the labels, in the order of the head's outputs.
    pub labels: &'a [String],
    /// How tokens are hidden, where they are what is to be predicted.
    pub blanks: Option<&'a Arc<Blanks>>,
}

/// What is said of examples.
#[derive(Debug, Clone)]
pub enum Predictions {
    /// How well the hidden tokens of each text are named.
    Blanks(Vec<Blank>),
    /// How well a generator names hidden tokens, and how well its own are found.
    Replaced {
        /// What finding them counts beside naming tokens.
        weight: f32,
        /// Of each text.
        texts: Vec<(Blank, Found)>,
    },
    /// How well the tokens of each text say where they stand.
    Places(Vec<Place>),
    /// The class of each text, and its probability.
    Classes {
        /// The classes.
        classes: Vec<u32>,
        /// Their probabilities.
        confidences: Vec<f64>,
    },
    /// The labels of each text, rising.
    Sets(Vec<Vec<u32>>),
    /// A number for each text.
    Numbers(Vec<f64>),
    /// The label of each word, by record.
    Tags(Vec<Vec<u32>>),
    /// The labels of each text, in their order.
    Transcripts(Vec<Vec<u32>>),
    /// The answer to each question; empty for none.
    Answers(Vec<String>),
}

/// How well a text's hidden tokens are named.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blank {
    /// How unlikely they were, all together.
    nats: f64,
    /// How many were the most likely ones.
    hits: u64,
    /// How many there are.
    count: u64,
    /// Whether what was said of the text's segments is right; none of texts of one segment.
    pair: Option<bool>,
}

impl Blank {
    /// Adds a token.
    pub fn add(&mut self, nats: f64, is_right: bool) {
        self.nats += nats;
        self.hits += u64::from(is_right);
        self.count += 1;
    }

    /// Says of the text's segments, of `class`, that they are of class `found`.
    pub fn add_pair(&mut self, class: u32, found: usize) {
        self.pair = Some(class as usize == found);
    }
}

/// How well the tokens of a text are told from those of a generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// How unlikely the truth was, all together.
    nats: f64,
    /// Tokens of the generator are what is to be found.
    counts: Counts,
    /// Tokens that are judged rightly.
    hits: u64,
    /// How many tokens there are.
    count: u64,
}

impl Found {
    fn add(&mut self, score: f64, is_replaced: bool) {
        // −log σ(±score), without overflow.
        let margin = if is_replaced { score } else { -score };
        self.nats += (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
        self.counts += Counts {
            hits: u64::from(score > 0.0 && is_replaced),
            predicted: u64::from(score > 0.0),
            support: u64::from(is_replaced),
        };
        self.hits += u64::from((score > 0.0) == is_replaced);
        self.count += 1;
    }
}

/// How well the tokens of a text say where they stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    hits: u64,
    distance: u64,
    count: u64,
}

impl Place {
    /// Says of a token at `place` that it stands at `found`.
    pub fn add(&mut self, place: u32, found: usize) {
        let distance = (place as usize).abs_diff(found);
        self.hits += u64::from(distance == 0);
        self.distance += distance as u64;
        self.count += 1;
    }
}

impl Predictions {
    /// The likeliest class of each text.
    pub fn of_probabilities(rows: impl Iterator<Item = Vec<f64>>) -> Self {
        let (mut classes, mut confidences) = (Vec::new(), Vec::new());
        for row in rows {
            let best = largest(&row);
            classes.push(best as u32);
            confidences.push(row[best]);
        }
        Self::Classes {
            classes,
            confidences,
        }
    }

    /// What `model` says of `examples`.
    pub fn of(aim: Aim<'_>, model: &Pretrained, examples: &Arc<Examples>) -> Self {
        let plan = TextPlan::in_order(examples, aim.blanks, aim.batch);
        let batches = (0..plan.len()).map(|index| {
            let batch = plan.build(index);
            let outputs = model.outputs(&batch, DropoutRates::NONE, &mut Noise::none());
            (batch, floats(outputs))
        });
        match &examples.truth {
            Truth::Tokens if aim.blanks.is_some_and(|blanks| blanks.replaced) => Self::Replaced {
                weight: model.weight(),
                texts: found(&plan, model),
            },
            Truth::Places(_) => Self::Places(placed(&plan, model)),
            Truth::Tokens | Truth::Lines(_) | Truth::Pairs(_) => Self::Blanks(named(&plan, model)),
            Truth::Classes(_) => Self::of_probabilities(batches.flat_map(|(_, outputs)| {
                let rows = outputs.values.chunks(outputs.width);
                rows.map(probabilities).collect::<Vec<_>>()
            })),
            Truth::Sets(_) => {
                let sets = batches.flat_map(|(_, outputs)| {
                    let rows = outputs.values.chunks(outputs.width).map(|row| {
                        let likely = (0..).zip(row).filter(|(_, score)| **score > 0.0);
                        likely.map(|(label, _)| label).collect()
                    });
                    rows.collect::<Vec<_>>()
                });
                Self::Sets(sets.collect())
            }
            Truth::Numbers(_) => {
                let numbers = batches.flat_map(|(_, outputs)| outputs.values);
                Self::Numbers(numbers.map(f64::from).collect())
            }
            Truth::Words(words) => {
                // A word that no token stands for is outside of every entity; where there are none, it has the first label.
                let mut tags: Vec<Vec<u32>> =
                    words.labels.iter().map(|of| vec![0; of.len()]).collect();
                let places = (0..examples.len())
                    .flat_map(|text| words.of(text).iter().map(move |word| (text, word)));
                let places = places.map(|(text, word)| (examples.record(text), word.word as usize));
                let rows = batches.flat_map(|(_, outputs)| {
                    let rows = outputs.values.chunks(outputs.width);
                    rows.map(<[f32]>::to_vec).collect::<Vec<_>>()
                });
                let Some(chain) = chain_of(aim, model) else {
                    for ((record, word), row) in places.zip(rows) {
                        tags[record][word] = largest(&row) as u32;
                    }
                    return Self::Tags(tags);
                };
                let mut outside = vec![f32::MIN; aim.labels.len()];
                outside[0] = 0.0;
                let mut all: Vec<Vec<Vec<f32>>> = tags
                    .iter()
                    .map(|tags| vec![outside.clone(); tags.len()])
                    .collect();
                for ((record, word), row) in places.zip(rows) {
                    all[record][word] = row;
                }
                let best = |rows: &Vec<Vec<f32>>| {
                    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
                    chain.best(&rows)
                };
                Self::Tags(all.iter().map(best).collect())
            }
            Truth::Transcripts(_) => {
                let batches = (0..plan.len()).map(|index| plan.build(index));
                let found = batches.flat_map(|batch| model.transcripts(&batch));
                Self::Transcripts(found.map(|(labels, _)| labels).collect())
            }
            Truth::Answers(asked) => {
                let logits = batches.flat_map(|(batch, outputs)| {
                    let texts = batch.offsets.windows(2);
                    texts
                        .map(|w| outputs.values[2 * w[0] as usize..2 * w[1] as usize].to_vec())
                        .collect::<Vec<_>>()
                });
                let Objective::Span(span) = aim.objective else {
                    unreachable!("questions are read for answers");
                };
                let logits: Vec<Vec<f32>> = logits.collect();
                Self::Answers(answering(examples, asked, &logits, span.max_answer_len))
            }
        }
    }
}

/// How well a model names the hidden tokens of each text, and tells whether its segments belong together.
fn named(plan: &TextPlan, model: &Pretrained) -> Vec<Blank> {
    let mut sums = vec![Blank::default(); plan.examples().len()];
    for index in 0..plan.len() {
        let batch = plan.build(index);
        let (outputs, pairs) =
            model.outputs_and_pairs(&batch, DropoutRates::NONE, &mut Noise::none());
        let outputs = floats(outputs);
        if let (Some(pairs), Some(classes)) = (pairs.map(floats), &batch.pairs) {
            let rows = pairs.values.chunks(pairs.width).zip(classes);
            for (&text, (row, &class)) in plan.texts(index).iter().zip(rows) {
                sums[text].add_pair(class, largest(row));
            }
        }
        let Wanted::Tokens(targets) = &batch.wanted else {
            unreachable!("tokens are what is hidden");
        };
        let rows = outputs.values.chunks(outputs.width).zip(targets);
        for (owner, (row, &target)) in owners(&batch).zip(rows) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let scores = row.iter();
            let sum: f64 = scores.map(|&x| f64::from((x - most).exp())).sum();
            let nats = sum.ln() - f64::from(row[target as usize] - most);
            sums[plan.texts(index)[owner]].add(nats, largest(row) == target as usize);
        }
    }
    sums
}

/// How well a model's generator names the hidden tokens of each text, and how well the model finds what it put.
fn found(plan: &TextPlan, model: &Pretrained) -> Vec<(Blank, Found)> {
    let mut sums = vec![<(Blank, Found)>::default(); plan.examples().len()];
    for index in 0..plan.len() {
        let batch = plan.build(index);
        let Wanted::Replaced(targets) = &batch.wanted else {
            unreachable!("tokens are put in the place of others");
        };
        // The same draws whenever the same batch is judged.
        let mut noise = Noise::new(index as u64);
        let replaced = model.replaced(&batch, targets, DropoutRates::NONE, &mut noise);
        let texts = plan.texts(index);
        let vocab = replaced.probabilities.len() / targets.len().max(1);
        let rows = replaced.probabilities.chunks(vocab.max(1)).zip(targets);
        for (owner, (row, &target)) in owners(&batch).zip(rows) {
            let share = row[target as usize].max(f32::MIN_POSITIVE);
            let is_right = largest(row) == target as usize;
            sums[texts[owner]].0.add(-f64::from(share).ln(), is_right);
        }
        let scores = floats(replaced.scores).values;
        let mut tokens = scores.into_iter().zip(replaced.is_replaced);
        for (&text, ends) in texts.iter().zip(batch.offsets.windows(2)) {
            for (score, is_replaced) in tokens.by_ref().take((ends[1] - ends[0]) as usize) {
                sums[text].1.add(f64::from(score), is_replaced);
            }
        }
    }
    sums
}

/// How well the tokens of each text say where they stand.
fn placed(plan: &TextPlan, model: &Pretrained) -> Vec<Place> {
    let mut sums = vec![Place::default(); plan.examples().len()];
    for index in 0..plan.len() {
        let batch = plan.build(index);
        let Wanted::Places(places) = &batch.wanted else {
            unreachable!("places are what is asked for");
        };
        let scores = floats(model.position_scores(&batch));
        let mut rows = scores.values.chunks(scores.width).zip(places);
        for (&text, ends) in plan.texts(index).iter().zip(batch.offsets.windows(2)) {
            for (row, &place) in rows.by_ref().take((ends[1] - ends[0]) as usize) {
                sums[text].add(place, largest(row));
            }
        }
    }
    sums
}

/// How the labels of words follow each other, where they are chosen together.
fn chain_of(aim: Aim<'_>, model: &Pretrained) -> Option<Chain> {
    match aim.objective.decode() {
        Decode::Greedy => None,
        Decode::Constrained | Decode::Crf(_) => {
            Some(Chain::new(aim.labels, model.transitions().as_deref()))
        }
    }
}

/// Which text of the batch each of its rows is of.
pub(super) fn owners(batch: &TextBatch) -> impl Iterator<Item = usize> {
    let rows = batch.rows.iter().flatten();
    rows.map(|&row| batch.offsets.partition_point(|&first| first <= row) - 1)
}

/// Predictions, and how good they are.
#[derive(Debug, Clone)]
pub struct Judged {
    units: Units,
    /// Whether each text is right, where that can be said: all its labels, or its answer.
    pub is_correct: Option<Vec<bool>>,
    /// How often each class was taken for each.
    pub confusion: Option<Confusion>,
    /// Whether probabilities of classes mean what they say.
    pub reliability: Vec<Bin>,
}

/// What is drawn anew for an interval: what each text adds to the metrics.
#[derive(Debug, Clone)]
enum Units {
    Blanks(Vec<Blank>),
    Replaced(f32, Vec<(Blank, Found)>),
    Places(Vec<Place>),
    Classes(usize, Vec<(u32, u32)>),
    Sets(usize, Vec<[Vec<usize>; 2]>),
    Numbers(Vec<f64>, Vec<f64>),
    Tags(usize, Vec<Tagged>),
    /// Labels of the words of each sentence, and what was found.
    Words(usize, Vec<Vec<(u32, u32)>>),
    /// Labels that are wrong, missing or too many, and those that there are.
    Transcripts(Vec<[usize; 2]>),
    Answers(Vec<[f64; 2]>),
}

/// The entities of a sentence by type, and its words with the right tag.
#[derive(Debug, Clone)]
struct Tagged {
    counts: Vec<(usize, Counts)>,
    hits: usize,
    words: usize,
}

/// Bins of confidence.
const BINS: usize = 10;

impl Judged {
    /// Compares predictions with what is true of `examples`.
    ///
    /// # Errors
    /// If tags are none of their scheme.
    /// # Panics
    /// If the predictions are of something else.
    pub fn new(
        labels: &[String],
        examples: &Examples,
        predictions: Predictions,
    ) -> Result<Self, Error> {
        let mut judged = Self {
            units: Units::Blanks(Vec::new()),
            is_correct: None,
            confusion: None,
            reliability: Vec::new(),
        };
        judged.units = match (&examples.truth, predictions) {
            (Truth::Tokens, Predictions::Replaced { weight, texts }) => {
                Units::Replaced(weight, texts)
            }
            (Truth::Places(_), Predictions::Places(places)) => Units::Places(places),
            (Truth::Tokens | Truth::Lines(_) | Truth::Pairs(_), Predictions::Blanks(blanks)) => {
                Units::Blanks(blanks)
            }
            (
                Truth::Classes(truth),
                Predictions::Classes {
                    classes,
                    confidences,
                },
            ) => {
                let mut confusion = Confusion::new(labels.len());
                let pairs: Vec<(u32, u32)> = truth.iter().copied().zip(classes).collect();
                for &(class, found) in &pairs {
                    confusion.add(class as usize, found as usize);
                }
                let is_correct: Vec<bool> = pairs.iter().map(|(a, b)| a == b).collect();
                judged.reliability = bins(&confidences, &is_correct, BINS);
                judged.confusion = Some(confusion);
                judged.is_correct = Some(is_correct);
                Units::Classes(labels.len(), pairs)
            }
            (Truth::Sets(sets), Predictions::Sets(found)) => {
                let places = |set: &Vec<u32>| set.iter().map(|&label| label as usize).collect();
                let pairs = sets.of.iter().zip(&found);
                judged.is_correct = Some(pairs.clone().map(|(a, b)| a == b).collect());
                let pairs = pairs.map(|(truth, found)| [truth, found].map(places));
                Units::Sets(sets.labels, pairs.collect())
            }
            (Truth::Numbers(numbers), Predictions::Numbers(found)) => {
                Units::Numbers(numbers.iter().map(|&n| f64::from(n)).collect(), found)
            }
            (Truth::Words(words), Predictions::Tags(tags)) if words.tags == Some(Tags::Words) => {
                let mut confusion = Confusion::new(labels.len());
                let sentences = words.labels.iter().zip(tags);
                let sentences: Vec<Vec<(u32, u32)>> = sentences
                    .map(|(truth, found)| truth.iter().copied().zip(found).collect())
                    .collect();
                for &(label, found) in sentences.iter().flatten() {
                    confusion.add(label as usize, found as usize);
                }
                judged.confusion = Some(confusion);
                Units::Words(labels.len(), sentences)
            }
            (Truth::Words(words), Predictions::Tags(tags)) => {
                let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
                let sentences = words.labels.iter().zip(&tags).map(|(truth, found)| {
                    let counts =
                        entity::counts(&entities(truth, labels)?, &entities(found, labels)?);
                    let counts = counts.into_iter().map(|(kind, counts)| {
                        let next = kinds.len();
                        (*kinds.entry(kind).or_insert(next), counts)
                    });
                    Ok(Tagged {
                        counts: counts.collect(),
                        hits: truth.iter().zip(found).filter(|(a, b)| a == b).count(),
                        words: truth.len(),
                    })
                });
                let sentences = sentences.collect::<Result<Vec<_>, Error>>()?;
                Units::Tags(kinds.len(), sentences)
            }
            (Truth::Transcripts(truth), Predictions::Transcripts(found)) => {
                let pairs = truth.iter().zip(&found);
                judged.is_correct = Some(pairs.clone().map(|(a, b)| a == b).collect());
                Units::Transcripts(pairs.map(|(a, b)| [edits(a, b), a.len()]).collect())
            }
            (Truth::Answers(asked), Predictions::Answers(answers)) => {
                // By the rules of `SQuAD`: of its second version if there are questions without an answer.
                let rules = if asked.has_unanswered() {
                    Rules::V2
                } else {
                    Rules::V1
                };
                let scores = asked
                    .questions
                    .iter()
                    .zip(&answers)
                    .map(|(question, found)| {
                        let people = question.answers.iter();
                        let people: Vec<&str> = people.map(|answer| &*answer.text).collect();
                        let judged = rules.judge(found, &people);
                        [judged.f1, judged.exact]
                    });
                let scores: Vec<[f64; 2]> = scores.collect();
                judged.is_correct = Some(scores.iter().map(|[_, exact]| *exact > 0.5).collect());
                Units::Answers(scores)
            }
            _ => unreachable!("predictions are of what is true"),
        };
        Ok(judged)
    }

    /// What was judged in parts, together; none if there are no parts. Calibration is of the parts alone.
    ///
    /// # Panics
    /// If the parts are of different kinds.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        parts.into_iter().reduce(|mut all, part| {
            match (&mut all.units, part.units) {
                (Units::Blanks(all), Units::Blanks(more)) => all.extend(more),
                (Units::Classes(_, all), Units::Classes(_, more)) => all.extend(more),
                (Units::Sets(_, all), Units::Sets(_, more)) => all.extend(more),
                (Units::Numbers(truth, found), Units::Numbers(more, more_found)) => {
                    truth.extend(more);
                    found.extend(more_found);
                }
                (Units::Tags(kinds, all), Units::Tags(other, more)) => {
                    // Kinds may have other numbers in each part: metrics are over all of them together.
                    *kinds = other.max(*kinds);
                    all.extend(more);
                }
                (Units::Words(_, all), Units::Words(_, more)) => all.extend(more),
                (Units::Transcripts(all), Units::Transcripts(more)) => all.extend(more),
                (Units::Answers(all), Units::Answers(more)) => all.extend(more),
                _ => panic!("parts are of one kind"),
            }
            if let (Some(all), Some(more)) = (&mut all.is_correct, part.is_correct) {
                all.extend(more);
            }
            if let (Some(all), Some(more)) = (&mut all.confusion, &part.confusion) {
                all.merge(more);
            }
            all.reliability.clear();
            all
        })
    }

    /// Number of texts, sentences or questions.
    pub fn len(&self) -> usize {
        match &self.units {
            Units::Blanks(blanks) => blanks.len(),
            Units::Replaced(_, texts) => texts.len(),
            Units::Places(places) => places.len(),
            Units::Classes(_, pairs) => pairs.len(),
            Units::Sets(_, pairs) => pairs.len(),
            Units::Numbers(numbers, _) => numbers.len(),
            Units::Tags(_, sentences) => sentences.len(),
            Units::Words(_, sentences) => sentences.len(),
            Units::Transcripts(texts) => texts.len(),
            Units::Answers(scores) => scores.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The metrics, by name, in the order of [`Objective::metrics`].
    pub fn metrics(&self) -> Vec<(String, f64)> {
        self.part(0..self.len())
    }

    /// The same over some of the texts, sentences or questions; none if there are none.
    pub fn part(&self, part: Range<usize>) -> Vec<(String, f64)> {
        if part.is_empty() {
            return Vec::new();
        }
        let metrics = self.of(&part.collect::<Vec<_>>()).into_iter();
        metrics
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The 95 % bootstrap interval of a metric, over `draws` draws of the texts.
    pub fn interval(&self, metric: &str, draws: u64, seed: u64) -> Option<(f64, f64)> {
        let found = intervals(self.len(), draws, seed, |draw| {
            let metrics = self.of(draw).into_iter();
            let own = metrics.filter(|(name, _)| *name == metric);
            own.map(|(_, value)| value).collect()
        });
        found.first().copied().flatten()
    }

    /// The metrics over the texts of a draw.
    fn of(&self, draw: &[usize]) -> Vec<(&'static str, f64)> {
        match &self.units {
            Units::Blanks(blanks) => of_blanks(draw.iter().map(|&at| blanks[at])),
            Units::Replaced(weight, texts) => {
                of_replaced(*weight, draw.iter().map(|&at| texts[at]))
            }
            Units::Places(places) => of_places(draw.iter().map(|&at| places[at])),
            Units::Classes(labels, pairs) => {
                let mut confusion = Confusion::new(*labels);
                for (class, found) in draw.iter().map(|&at| pairs[at]) {
                    confusion.add(class as usize, found as usize);
                }
                let per_class = confusion.per_class();
                let macro_f1 = average(&per_class, Average::Macro).f1;
                // Of two classes that of the second; of more, there is no single one.
                let f1 = match &per_class[..] {
                    [_, second] => second.prf().f1,
                    _ => macro_f1,
                };
                vec![
                    ("accuracy", confusion.accuracy()),
                    ("f1", f1),
                    ("macro-f1", macro_f1),
                    ("mcc", confusion.mcc()),
                ]
            }
            Units::Sets(labels, pairs) => {
                let mut found = Multilabel::new(*labels);
                for [truth, predicted] in draw.iter().map(|&at| &pairs[at]) {
                    found.add(truth, predicted);
                }
                let of = |how: Average| average(found.per_label(), how).f1;
                vec![
                    ("micro-f1", of(Average::Micro)),
                    ("macro-f1", of(Average::Macro)),
                    ("subset-accuracy", found.subset_accuracy()),
                ]
            }
            Units::Numbers(truth, found) => {
                let drawn = |of: &[f64]| draw.iter().map(|&at| of[at]).collect::<Vec<_>>();
                let (truth, found) = (drawn(truth), drawn(found));
                // Of numbers that are all the same nothing can be said.
                vec![
                    ("spearman", spearman(&truth, &found).unwrap_or(0.0)),
                    ("pearson", pearson(&truth, &found).unwrap_or(0.0)),
                    ("mse", mean_squared_error(&truth, &found)),
                ]
            }
            Units::Tags(kinds, sentences) => {
                let mut counts = vec![Counts::default(); *kinds];
                let (mut hits, mut words) = (0, 0);
                for sentence in draw.iter().map(|&at| &sentences[at]) {
                    hits += sentence.hits;
                    words += sentence.words;
                    for &(kind, own) in &sentence.counts {
                        counts[kind] += own;
                    }
                }
                let entities = average(&counts, Average::Micro);
                vec![
                    ("f1", entities.f1),
                    ("precision", entities.precision),
                    ("recall", entities.recall),
                    ("accuracy", hits as f64 / words.max(1) as f64),
                ]
            }
            Units::Words(labels, sentences) => {
                let mut confusion = Confusion::new(*labels);
                for &(label, found) in draw.iter().flat_map(|&at| &sentences[at]) {
                    confusion.add(label as usize, found as usize);
                }
                vec![
                    ("accuracy", confusion.accuracy()),
                    (
                        "macro-f1",
                        average(&confusion.per_class(), Average::Macro).f1,
                    ),
                ]
            }
            Units::Transcripts(texts) => {
                let drawn = || draw.iter().map(|&at| texts[at]);
                let right = drawn().filter(|[edits, _]| *edits == 0).count();
                let edits: usize = drawn().map(|[edits, _]| edits).sum();
                let labels: usize = drawn().map(|[_, labels]| labels).sum();
                vec![
                    ("exact-match", right as f64 / draw.len().max(1) as f64),
                    ("error-rate", edits as f64 / labels.max(1) as f64),
                ]
            }
            Units::Answers(scores) => {
                let mean = |of: usize| {
                    let sum: f64 = draw.iter().map(|&at| scores[at][of]).sum();
                    sum / draw.len().max(1) as f64
                };
                vec![("f1", mean(0)), ("exact-match", mean(1))]
            }
        }
    }
}

/// The fewest labels to put in, take out or change that make one sequence of another (Levenshtein, 1966).
fn edits(from: &[u32], to: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (b, column) in to.iter().zip(1..) {
            let cost = (diagonal + usize::from(a != b))
                .min(row[column] + 1)
                .min(row[column - 1] + 1);
            diagonal = std::mem::replace(&mut row[column], cost);
        }
    }
    row[to.len()]
}

fn of_blanks(blanks: impl Iterator<Item = Blank>) -> Vec<(&'static str, f64)> {
    let mut sum = Blank::default();
    let (mut pairs, mut right) = (0_u64, 0_u64);
    for blank in blanks {
        sum.nats += blank.nats;
        sum.hits += blank.hits;
        sum.count += blank.count;
        pairs += u64::from(blank.pair.is_some());
        right += u64::from(blank.pair == Some(true));
    }
    let count = sum.count.max(1) as f64;
    let mut metrics = vec![
        ("perplexity", (sum.nats / count).exp()),
        ("accuracy", sum.hits as f64 / count),
    ];
    if pairs > 0 {
        metrics.push(("pair-accuracy", right as f64 / pairs as f64));
    }
    metrics
}

/// `replaced` is the share of tokens that are another than stood there.
fn of_replaced(
    weight: f32,
    texts: impl Iterator<Item = (Blank, Found)>,
) -> Vec<(&'static str, f64)> {
    let (mut named, mut sum) = (Blank::default(), Found::default());
    for (blank, found) in texts {
        named.nats += blank.nats;
        named.count += blank.count;
        sum.nats += found.nats;
        sum.counts += found.counts;
        sum.hits += found.hits;
        sum.count += found.count;
    }
    let nats = named.nats / named.count.max(1) as f64;
    let count = sum.count.max(1) as f64;
    vec![
        ("loss", nats + f64::from(weight) * sum.nats / count),
        ("f1", sum.counts.prf().f1),
        ("accuracy", sum.hits as f64 / count),
        ("perplexity", nats.exp()),
        ("replaced", sum.counts.support as f64 / count),
    ]
}

fn of_places(places: impl Iterator<Item = Place>) -> Vec<(&'static str, f64)> {
    let mut sum = Place::default();
    for place in places {
        sum.hits += place.hits;
        sum.distance += place.distance;
        sum.count += place.count;
    }
    let count = sum.count.max(1) as f64;
    vec![
        ("accuracy", sum.hits as f64 / count),
        ("mean-distance", sum.distance as f64 / count),
    ]
}

/// Rows of outputs in memory.
struct Outputs {
    width: usize,
    values: Vec<f32>,
}

fn floats(outputs: Tensor<2>) -> Outputs {
    Outputs {
        width: outputs.dims()[1],
        values: outputs
            .into_data()
            .try_into_vec()
            .expect("encoders compute in f32"),
    }
}

/// Softmax of a row.
fn probabilities(row: &[f32]) -> Vec<f64> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row.iter().map(|&x| f64::from(x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The likeliest answer to each question, of all its windows.
fn answering(
    examples: &Examples,
    asked: &Asked,
    logits: &[Vec<f32>],
    max_tokens: usize,
) -> Vec<String> {
    let settings = Answers {
        count: 1,
        max_tokens,
        nothing: asked.has_unanswered(),
        whole_words: false,
    };
    let mut text = 0;
    let questions = asked.questions.iter().enumerate();
    questions
        .map(|(record, question)| {
            let first = text;
            while text < examples.len() && examples.record(text) == record {
                text += 1;
            }
            let windows: Vec<_> = (first..text)
                .map(|text| (&asked.windows[text], &*logits[text]))
                .collect();
            let found = answers(&question.context, &windows, &settings);
            found
                .into_iter()
                .next()
                .map_or(String::new(), |answer| answer.text)
        })
        .collect()
}
