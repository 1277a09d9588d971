//! Cross-validation: a model for each part of the texts, judged by what it has not seen.

use std::io::{BufWriter, Write};
use std::path::Path;

use cloze_data::text::examples::{Examples, Truth};
use cloze_spec::folder::{METRICS, write_atomically, write_text};
use cloze_train::report::scores::{Page, Table};
use cloze_train::text::judge::{Judged, Predictions};
use serde_json::{Map, Value, json};

use super::{Held, Job};
use crate::dashboard::REPORT;
use crate::eval::text as eval;
use crate::table;

/// What the model of a part says of it, row by row.
pub const PREDICTIONS: &str = "predictions.jsonl";

/// Trains a model for each of `count` parts, in folders of their own within `out`. Those that are there already are judged again,
/// not trained.
pub fn run(job: &Job<'_>, count: usize) -> anyhow::Result<()> {
    let out = job.out;
    let mut folds = Vec::new();
    for fold in 1..=count {
        eprintln!("fold {fold} of {count}");
        let mut own = job.recipe.clone();
        if let Some(folds) = &mut own.data.folds {
            folds.only = Some(fold);
        }
        let Some(held) = job.learn(own, &out.join(format!("fold-{fold}")))? else {
            return Ok(());
        };
        folds.push(held);
    }
    let spread = spread(&folds);
    let Held { recipe, labels, .. } = &folds[0];
    let names = folds[0].judged.iter().skip(1).map(|(name, _)| name.clone());
    let names: Vec<String> = std::iter::once(eval::title(out)).chain(names).collect();
    let joined = names.into_iter().enumerate().filter_map(|(at, name)| {
        let parts = folds.iter().map(|fold| fold.judged[at].1.clone());
        Some((name, Judged::join(parts)?))
    });
    let together = eval::Results::new("out-of-fold", recipe, joined.collect());

    let (header, rows) = cells(&spread);
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    println!("{}", together.text());
    println!("over {count} folds\n{}\n", table::plain(&names, &rows));
    let metrics = spread.into_iter().map(|metric| {
        let json =
            json!({ "mean": metric.mean, "deviation": metric.deviation, "folds": metric.folds });
        (metric.name, json)
    });
    let json = json!({
        "folds": metrics.collect::<Map<String, Value>>(),
        "out-of-fold": together.own(),
        "baselines": { "out-of-fold": together.others() },
    });
    write_text(&out.join(METRICS), &serde_json::to_string_pretty(&json)?)?;
    let mut scores = together.scores(labels);
    scores.tables.push(Table {
        title: format!("Over {count} folds"),
        header,
        rows,
        leads: false,
    });
    let page = Page {
        title: eval::title(out),
        subtitle: format!("cross-validation, {count} folds"),
        scores,
        facts: Vec::new(),
    };
    write_atomically(&out.join(REPORT), |file| {
        file.write_all(page.html().as_bytes())
    })?;
    println!("models  {}", out.join("fold-*").display());
    println!("report  {}", out.join(REPORT).display());
    Ok(())
}

/// A metric over the parts.
struct Spread {
    name: String,
    folds: Vec<f64>,
    mean: f64,
    /// Of the sample: over one less than there are parts.
    deviation: f64,
}

fn spread(folds: &[Held]) -> Vec<Spread> {
    let all: Vec<_> = folds
        .iter()
        .map(|fold| fold.judged[0].1.metrics())
        .collect();
    let names = all[0].iter().enumerate();
    names
        .map(|(at, (name, _))| {
            let folds: Vec<f64> = all.iter().map(|metrics| metrics[at].1).collect();
            let count = folds.len() as f64;
            let mean = folds.iter().sum::<f64>() / count;
            let squares = folds.iter().map(|value| (value - mean).powi(2));
            Spread {
                name: name.clone(),
                deviation: (squares.sum::<f64>() / (count - 1.0)).sqrt(),
                mean,
                folds,
            }
        })
        .collect()
}

fn cells(spread: &[Spread]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut header = ["metric", "mean", "deviation"].map(str::to_owned).to_vec();
    header.extend((1..=spread[0].folds.len()).map(|fold| format!("fold {fold}")));
    let rows = spread.iter().map(|metric| {
        let values = [metric.mean, metric.deviation].into_iter();
        let values = values.chain(metric.folds.iter().copied());
        std::iter::once(metric.name.clone())
            .chain(values.map(|value| format!("{value:.4}")))
            .collect()
    });
    (header, rows.collect())
}

/// Writes what is true and what was said of each record: its place among those of the files from 0, `label` and `prediction`.
pub fn write(
    path: &Path,
    labels: &[String],
    examples: &Examples,
    predictions: &Predictions,
    rows: &[usize],
) -> anyhow::Result<()> {
    let name = |label: &u32| json!(labels[*label as usize]);
    let names = |of: &[u32]| Value::Array(of.iter().map(name).collect());
    let row = |at: usize| -> Value {
        match (&examples.truth, predictions) {
            (
                Truth::Classes(truth),
                Predictions::Classes {
                    classes,
                    confidences,
                },
            ) => json!({
                "row": rows[at],
                "label": name(&truth[at]),
                "prediction": name(&classes[at]),
                "confidence": confidences[at],
            }),
            (Truth::Sets(sets), Predictions::Sets(found)) => json!({
                "row": rows[at],
                "label": names(&sets.of[at]),
                "prediction": names(&found[at]),
            }),
            (Truth::Numbers(truth), Predictions::Numbers(found)) => {
                json!({ "row": rows[at], "label": truth[at], "prediction": found[at] })
            }
            (Truth::Words(words), Predictions::Tags(tags)) => json!({
                "row": rows[at],
                "words": examples.originals[at],
                "label": names(&words.labels[at]),
                "prediction": names(&tags[at]),
            }),
            (Truth::Transcripts(truth), Predictions::Transcripts(found)) => json!({
                "row": rows[at],
                "label": names(&truth[at]),
                "prediction": names(&found[at]),
            }),
            (Truth::Answers(asked), Predictions::Answers(answers)) => {
                let question = &asked.questions[at];
                let known = question.answers.iter().map(|answer| &*answer.text);
                json!({
                    "row": rows[at],
                    "id": question.id,
                    "label": known.collect::<Vec<_>>(),
                    "prediction": answers[at],
                })
            }
            _ => unreachable!("predictions are of what is true, and tokens are not parted"),
        }
    };
    write_atomically(path, |file| {
        let mut out = BufWriter::new(file);
        for at in 0..rows.len() {
            writeln!(out, "{}", row(at))?;
        }
        out.flush()
    })?;
    Ok(())
}
