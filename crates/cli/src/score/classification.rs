use std::path::Path;

use anyhow::bail;
use cloze_data::records::label::sorted;
use cloze_data::records::{Cells, Value};
use cloze_train::metric::calibration;
use cloze_train::metric::classification::{Confusion, largest};
use cloze_train::metric::counts::{Average, Prf, average};
use cloze_train::metric::curve::{self, Classes};

use super::arguments::Classification;
use super::input::{self, Sides};
use super::{Judged, Table};

/// How far the sum of probabilities may be from 1: three digits were written down.
const MAX_SUM_ERROR: f64 = 0.01;

pub fn judge(args: &Classification, path: &Path) -> anyhow::Result<Judged> {
    let prediction = match (&args.prediction, &args.scores) {
        (None, Some(_)) => None,
        (name, _) => Some(name.as_deref().unwrap_or("prediction")),
    };
    let columns: Vec<&str> = prediction
        .into_iter()
        .chain(args.scores.as_deref())
        .collect();
    let sides = Sides::read(&args.common, path, &args.label, &columns)?;
    let truth = sides.only_truth()?;
    let texts = truth.each("a class", Value::label)?;
    let own = prediction.map(|_| &sides.own[0]);
    let own_texts = own
        .map(|own| own.each("a class", Value::label))
        .transpose()?;
    let classes = if args.classes.is_empty() {
        sorted(texts.iter().chain(own_texts.iter().flatten()).cloned())
    } else {
        args.classes.clone()
    };
    let places = |column: &Cells, texts: &[String]| -> anyhow::Result<Vec<usize>> {
        let rows = texts.iter().enumerate();
        rows.map(|(row, text)| {
            input::place(&classes, text).map_err(|expected| {
                column
                    .fault(row, expected, Some(format!("{text:?}")))
                    .into()
            })
        })
        .collect()
    };
    let labels = places(truth, &texts)?;
    let positive = match &args.positive {
        _ if classes.len() != 2 => {
            anyhow::ensure!(
                args.positive.is_none(),
                "--positive: expected two classes, found {}",
                classes.len()
            );
            None
        }
        None => Some(1),
        Some(name) => match input::place(&classes, name) {
            Ok(place) => Some(place),
            Err(expected) => bail!("--positive {name:?}: expected {expected}"),
        },
    };
    let scores = match &args.scores {
        Some(_) => Some(Scores::read(
            args,
            &sides.own[columns.len() - 1],
            classes.len(),
            positive,
        )?),
        None => None,
    };
    let predictions = match (own, &own_texts, &scores) {
        (Some(own), Some(texts), _) => places(own, texts)?,
        (_, _, Some(scores)) => scores.rows().map(largest).collect(),
        _ => unreachable!("there is a column of predictions or of scores"),
    };
    Ok(task(args, classes, labels, predictions, scores, positive))
}

/// A score for each class of each example.
struct Scores {
    /// `[N, C]`.
    values: Vec<f64>,
    classes: usize,
    are_probabilities: bool,
}

impl Scores {
    fn read(
        args: &Classification,
        column: &Cells,
        classes: usize,
        positive: Option<usize>,
    ) -> anyhow::Result<Self> {
        let mut values = Vec::new();
        let mut are_probabilities = true;
        for (row, value) in column.values.iter().enumerate() {
            let found = value
                .list(None)
                .and_then(|list| list.iter().map(Value::number).collect::<Option<Vec<f64>>>());
            let expected = match positive {
                Some(_) => "a score for each of two classes, or of the positive one".to_owned(),
                None => format!("{classes} scores, one for each class (--classes names them all)"),
            };
            let Some(mut scores) = found else {
                return Err(column.fault(row, expected, None).into());
            };
            if let (Some(positive), &[score]) = (positive, scores.as_slice()) {
                // The logistic function is the softmax of a logit and 0; of a probability the rest is the other class's.
                let other = if args.logits { 0.0 } else { 1.0 - score };
                scores = vec![other; 2];
                scores[positive] = score;
            }
            if scores.len() != classes {
                return Err(column
                    .fault(row, expected, Some(scores.len().to_string()))
                    .into());
            }
            if args.logits {
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                for score in &mut scores {
                    *score = (*score - most).exp();
                }
                let sum: f64 = scores.iter().sum();
                for score in &mut scores {
                    *score /= sum;
                }
            }
            let sum: f64 = scores.iter().sum();
            are_probabilities &= (sum - 1.0).abs() <= MAX_SUM_ERROR
                && scores.iter().all(|score| (0.0..=1.0).contains(score));
            values.extend(scores);
        }
        if !are_probabilities {
            eprintln!(
                "{}: the scores are no probabilities: calibration is left out; --logits makes them of logits",
                column.path.display()
            );
        }
        Ok(Self {
            values,
            classes,
            are_probabilities,
        })
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.classes)
    }
}

fn task(
    args: &Classification,
    classes: Vec<String>,
    labels: Vec<usize>,
    predictions: Vec<usize>,
    scores: Option<Scores>,
    positive: Option<usize>,
) -> Judged {
    let width = classes.len();
    let bins = args.bins.get();
    let mut names = vec!["accuracy"];
    // Of the positive class where there is one, then over classes.
    let first = usize::from(positive.is_none());
    names.extend(
        &[
            "precision",
            "precision_macro",
            "precision_micro",
            "precision_weighted",
        ][first..],
    );
    names.extend(&["recall", "recall_macro", "recall_micro", "recall_weighted"][first..]);
    names.extend(&["f1", "f1_macro", "f1_micro", "f1_weighted"][first..]);
    names.push("mcc");
    if let Some(scores) = &scores {
        names.extend(match positive {
            Some(_) => &["roc_auc", "average_precision"][..],
            None => &[
                "roc_auc_macro",
                "roc_auc_weighted",
                "average_precision_macro",
                "average_precision_weighted",
            ],
        });
        if scores.are_probabilities {
            names.extend(["ece", "brier"]);
        }
    }
    let mut confusion = Confusion::new(width);
    for (&label, &prediction) in labels.iter().zip(&predictions) {
        confusion.add(label, prediction);
    }
    let is_correct: Vec<bool> = labels
        .iter()
        .zip(&predictions)
        .map(|(a, b)| a == b)
        .collect();
    let reliability = match &scores {
        Some(scores) if scores.are_probabilities => {
            let confidences = scores
                .rows()
                .zip(&predictions)
                .map(|(row, &prediction)| row[prediction]);
            calibration::bins(&confidences.collect::<Vec<_>>(), &is_correct, bins)
        }
        _ => Vec::new(),
    };
    let count = labels.len();
    let values = move |draw: &[usize]| {
        let mut confusion = Confusion::new(width);
        for &index in draw {
            confusion.add(labels[index], predictions[index]);
        }
        let mut per_class = confusion.per_class();
        let own = positive.map(|positive| per_class[positive].prf());
        // A class that is neither true nor predicted in a draw would only pull its means down.
        per_class.retain(|class| class.support + class.predicted > 0);
        let means = [Average::Macro, Average::Micro, Average::Weighted];
        let means = means.map(|kind| average(&per_class, kind));
        let mut values = vec![confusion.accuracy()];
        for part in [
            |prf: &Prf| prf.precision,
            |prf: &Prf| prf.recall,
            |prf: &Prf| prf.f1,
        ] {
            values.extend(own.iter().chain(&means).map(part));
        }
        values.push(confusion.mcc());
        if let Some(scores) = &scores {
            values.extend(of_scores(
                scores,
                draw,
                &labels,
                &predictions,
                positive,
                bins,
            ));
        }
        values
    };
    Judged {
        is_correct: Some(is_correct),
        tables: vec![Table::of_counts(
            "class",
            classes.iter().zip(confusion.per_class()),
        )],
        confusion: Some((classes, confusion)),
        reliability,
        ..Judged::new("examples", count, &names, values)
    }
}

fn of_scores(
    scores: &Scores,
    draw: &[usize],
    labels: &[usize],
    predictions: &[usize],
    positive: Option<usize>,
    bins: usize,
) -> Vec<f64> {
    let width = scores.classes;
    let row = |index: usize| &scores.values[index * width..(index + 1) * width];
    let truth: Vec<usize> = draw.iter().map(|&index| labels[index]).collect();
    let rows: Vec<f64> = draw
        .iter()
        .flat_map(|&index| row(index).iter().copied())
        .collect();
    let mut values = Vec::new();
    for area in [
        curve::roc_auc as fn(&[f64], &[bool]) -> Option<f64>,
        curve::average_precision,
    ] {
        if let Some(positive) = positive {
            let column: Vec<f64> = rows.iter().skip(positive).step_by(width).copied().collect();
            let is_positive: Vec<bool> = truth.iter().map(|&label| label == positive).collect();
            values.push(area(&column, &is_positive));
        } else {
            let mean = |mean| curve::one_against_rest(area, &rows, &truth, width, mean);
            values.extend([Classes::Macro, Classes::Weighted].map(mean));
        }
    }
    let mut values: Vec<f64> = values
        .into_iter()
        .map(|value| value.unwrap_or(f64::NAN))
        .collect();
    if scores.are_probabilities {
        let confidences: Vec<f64> = draw
            .iter()
            .map(|&index| row(index)[predictions[index]])
            .collect();
        let is_correct: Vec<bool> = draw
            .iter()
            .map(|&index| labels[index] == predictions[index])
            .collect();
        values.push(calibration::expected_error(&calibration::bins(
            &confidences,
            &is_correct,
            bins,
        )));
        values.push(calibration::brier(&rows, &truth, width));
    }
    values
}
