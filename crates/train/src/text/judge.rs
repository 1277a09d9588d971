//! How good an encoder of texts is at what it was trained for.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::text::batch::{TextBatch, Wanted};
use cloze_data::text::examples::{Asked, Examples, TextPlan, Truth, Words};
use cloze_data::text::{Answers, answers};
use cloze_nn::Noise;
use cloze_nn::pretrained::Pretrained;
use cloze_spec::encoder::DropoutRates;
use cloze_spec::text::Objective;

use super::Preparation;
use crate::Error;
use crate::metric::answer::Rules;
use crate::metric::classification::Confusion;
use crate::metric::counts::{Average, Counts, Prf, average};
use crate::metric::entity::{self, Scheme};
use crate::metric::multilabel::Multilabel;
use crate::metric::regression::{mean_squared_error, pearson, spearman};

/// The metrics of `model` on `examples`, by name.
///
/// # Errors
/// If tags are none of their scheme.
pub fn judge(
    preparation: &Preparation,
    model: &Pretrained,
    examples: &Arc<Examples>,
) -> Result<Vec<(String, f64)>, Error> {
    let train = preparation.recipe.train();
    let data = &preparation.data;
    let plan = TextPlan::in_order(examples, data.blanks.as_ref(), train.batch);
    let batches = (0..plan.len()).map(|index| {
        let batch = plan.build(index);
        let outputs = model.outputs(&batch, DropoutRates::NONE, &mut Noise::none());
        (batch, floats(outputs))
    });
    let named = |values: &[(&str, f64)]| {
        let values = values.iter();
        values
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    Ok(match &examples.truth {
        Truth::Tokens => named(&blanks(batches)),
        Truth::Classes(classes) => {
            let predicted = batches.flat_map(|(_, outputs)| {
                let rows = outputs.values.chunks(outputs.width);
                rows.map(largest).collect::<Vec<_>>()
            });
            named(&classification(classes, predicted, data.labels.len()))
        }
        Truth::Sets(sets) => {
            let mut found = Multilabel::new(sets.labels);
            let mut of = sets.of.iter();
            for (_, outputs) in batches {
                for row in outputs.values.chunks(outputs.width) {
                    let yes = (0..row.len()).filter(|&label| row[label] > 0.0);
                    let labels = of.next().expect("a set a text").iter();
                    let labels: Vec<usize> = labels.map(|&label| label as usize).collect();
                    found.add(&labels, &yes.collect::<Vec<_>>());
                }
            }
            let of = |how: Average| average(found.per_label(), how).f1;
            named(&[
                ("micro-f1", of(Average::Micro)),
                ("macro-f1", of(Average::Macro)),
                ("subset-accuracy", found.subset_accuracy()),
            ])
        }
        Truth::Numbers(numbers) => {
            let truth: Vec<f64> = numbers.iter().map(|&n| f64::from(n)).collect();
            let found: Vec<f64> = batches
                .flat_map(|(_, outputs)| outputs.values)
                .map(f64::from)
                .collect();
            // Of numbers that are all the same nothing can be said.
            named(&[
                ("spearman", spearman(&truth, &found).unwrap_or(0.0)),
                ("pearson", pearson(&truth, &found).unwrap_or(0.0)),
                ("mse", mean_squared_error(&truth, &found)),
            ])
        }
        Truth::Words(words) => {
            let predicted = batches.flat_map(|(_, outputs)| {
                let rows = outputs.values.chunks(outputs.width);
                rows.map(largest).collect::<Vec<_>>()
            });
            named(&entities(
                examples,
                words,
                predicted.collect(),
                &data.labels,
            )?)
        }
        Truth::Answers(asked) => {
            let logits = batches.flat_map(|(batch, outputs)| {
                let texts = batch.offsets.windows(2);
                texts
                    .map(|w| outputs.values[2 * w[0] as usize..2 * w[1] as usize].to_vec())
                    .collect::<Vec<_>>()
            });
            let Objective::Span(span) = &train.objective else {
                unreachable!("questions are read for answers");
            };
            named(&answering(
                examples,
                asked,
                &logits.collect::<Vec<_>>(),
                span.max_answer_len,
            ))
        }
    })
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

/// The place of the first of the largest.
fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (place, &value) in row.iter().enumerate() {
        if value > row[best] {
            best = place;
        }
    }
    best
}

/// How well hidden tokens are named.
fn blanks(batches: impl Iterator<Item = (TextBatch, Outputs)>) -> [(&'static str, f64); 2] {
    let (mut loss, mut hits, mut count) = (0.0, 0_u64, 0_u64);
    for (batch, outputs) in batches {
        let Wanted::Tokens(targets) = &batch.wanted else {
            unreachable!("tokens are what is hidden");
        };
        for (row, &target) in outputs.values.chunks(outputs.width).zip(targets) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row
                .iter()
                .map(|&score| f64::from((score - most).exp()))
                .sum();
            loss += sum.ln() - f64::from(row[target as usize] - most);
            hits += u64::from(largest(row) == target as usize);
            count += 1;
        }
    }
    let count = count.max(1) as f64;
    [
        ("perplexity", (loss / count).exp()),
        ("accuracy", hits as f64 / count),
    ]
}

/// Of two classes `f1` is that of the second; of more, the same as `macro-f1`.
fn classification(
    classes: &[u32],
    predicted: impl Iterator<Item = usize>,
    labels: usize,
) -> [(&'static str, f64); 4] {
    let mut confusion = Confusion::new(labels);
    for (&class, predicted) in classes.iter().zip(predicted) {
        confusion.add(class as usize, predicted);
    }
    let per_class = confusion.per_class();
    let macro_f1 = average(&per_class, Average::Macro).f1;
    let f1 = match &per_class[..] {
        [_, second] => second.prf().f1,
        _ => macro_f1,
    };
    [
        ("accuracy", confusion.accuracy()),
        ("f1", f1),
        ("macro-f1", macro_f1),
        ("mcc", confusion.mcc()),
    ]
}

/// Entities by `seqeval`'s usual rules, and the share of words with the right tag. A word that no token stands for is
/// outside of every entity.
fn entities(
    examples: &Examples,
    words: &Words,
    predicted: Vec<usize>,
    labels: &[String],
) -> Result<[(&'static str, f64); 4], Error> {
    let mut tags: Vec<Vec<usize>> = words.labels.iter().map(|of| vec![0; of.len()]).collect();
    let mut predicted = predicted.into_iter();
    for text in 0..examples.len() {
        for word in words.of(text) {
            let label = predicted.next().expect("a label a word");
            tags[examples.record(text)][word.word as usize] = label;
        }
    }
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut hits, mut total) = (0_u64, 0_u64);
    for (truth, found) in words.labels.iter().zip(&tags) {
        let of = |ids: &mut dyn Iterator<Item = usize>| {
            let tags: Vec<&String> = ids.map(|id| &labels[id]).collect();
            Scheme::Conll
                .entities(&tags)
                .map_err(|bad| Error::Empty(format!("labels: {bad}")))
        };
        let gold = of(&mut truth.iter().map(|&id| id as usize))?;
        let own = of(&mut found.iter().copied())?;
        for (kind, one) in entity::counts(&gold, &own) {
            *counts.entry(kind).or_default() += one;
        }
        let pairs = truth.iter().zip(found);
        hits += pairs
            .filter(|(truth, found)| **truth as usize == **found)
            .count() as u64;
        total += truth.len() as u64;
    }
    let all: Vec<Counts> = counts.into_values().collect();
    let Prf {
        precision,
        recall,
        f1,
    } = average(&all, Average::Micro);
    Ok([
        ("f1", f1),
        ("precision", precision),
        ("recall", recall),
        ("accuracy", hits as f64 / total.max(1) as f64),
    ])
}

/// Answers by the rules of `SQuAD`: of its second version if there are questions without an answer.
fn answering(
    examples: &Examples,
    asked: &Asked,
    logits: &[Vec<f32>],
    max_tokens: usize,
) -> [(&'static str, f64); 2] {
    let nothing = asked
        .questions
        .iter()
        .any(|question| question.answers.is_empty());
    let rules = if nothing { Rules::V2 } else { Rules::V1 };
    let settings = Answers {
        count: 1,
        max_tokens,
        nothing,
        whole_words: false,
    };
    let (mut exact, mut f1) = (0.0, 0.0);
    let mut text = 0;
    for (record, question) in asked.questions.iter().enumerate() {
        let first = text;
        while text < examples.len() && examples.record(text) == record {
            text += 1;
        }
        let windows: Vec<_> = (first..text)
            .map(|text| (&asked.windows[text], &*logits[text]))
            .collect();
        let found = answers(&question.context, &windows, &settings);
        let found = found.first().map_or("", |answer| &answer.text);
        let people: Vec<&str> = question
            .answers
            .iter()
            .map(|answer| &*answer.text)
            .collect();
        let judged = rules.judge(found, &people);
        exact += judged.exact;
        f1 += judged.f1;
    }
    let count = asked.questions.len().max(1) as f64;
    [("f1", f1 / count), ("exact-match", exact / count)]
}
