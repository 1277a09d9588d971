use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail};
use cloze_data::records::Value;
use cloze_train::metric::answer::{self, Judged as Answer, Rules};

use super::Judged;
use super::arguments::Answers;
use super::input::Sides;

/// Questions in order.
struct Questions {
    answers: Vec<Vec<String>>,
    predictions: Vec<String>,
    /// Probability that there is no answer.
    no_answer: Option<Vec<f64>>,
    /// Whether the file of references says that questions may have no answer.
    says_v2: bool,
}

pub fn judge(args: &Answers, path: &Path) -> anyhow::Result<Judged> {
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let questions = if is_json {
        by_question(args, path)?
    } else {
        by_row(args, path)?
    };
    let some_without = questions.answers.iter().any(Vec::is_empty);
    let rules = if questions.says_v2 || some_without {
        Rules::V2
    } else {
        Rules::V1
    };
    let raw: Vec<Answer> = questions
        .predictions
        .iter()
        .zip(&questions.answers)
        .map(|(own, known)| rules.judge(own, known))
        .collect();
    let no_answer = questions.no_answer;
    let threshold = args.no_answer_threshold;
    let answers: Vec<Answer> = match &no_answer {
        Some(scores) => raw
            .iter()
            .zip(scores)
            .map(|(answer, &score)| answer.with_threshold(score, threshold))
            .collect(),
        None => raw.clone(),
    };
    let mut names = vec!["exact", "f1"];
    if some_without {
        names.extend(["has_answer_exact", "has_answer_f1", "no_answer_exact"]);
    }
    if no_answer.is_some() {
        names.extend([
            "best_exact",
            "best_exact_threshold",
            "best_f1",
            "best_f1_threshold",
        ]);
    }
    let is_correct = answers.iter().map(|answer| answer.exact > 0.5).collect();
    let count = answers.len();
    let values = move |draw: &[usize]| {
        let drawn: Vec<Answer> = draw.iter().map(|&index| answers[index]).collect();
        let exact: fn(&Answer) -> f64 = |one| one.exact;
        let f1: fn(&Answer) -> f64 = |one| one.f1;
        let mut values = vec![percent(drawn.iter(), exact), percent(drawn.iter(), f1)];
        if some_without {
            let having = |has| drawn.iter().filter(move |one| one.has_answer == has);
            values.extend([percent(having(true), exact), percent(having(true), f1)]);
            values.push(percent(having(false), exact));
        }
        if let Some(scores) = &no_answer {
            let raw: Vec<Answer> = draw.iter().map(|&index| raw[index]).collect();
            let scores: Vec<f64> = draw.iter().map(|&index| scores[index]).collect();
            for of in [exact, f1] {
                let best = answer::best_threshold(&raw, &scores, of);
                values.extend([100.0 * best.best, best.threshold]);
            }
        }
        values
    };
    Ok(Judged {
        is_correct: Some(is_correct),
        ..Judged::new("questions", count, &names, values)
    })
}

/// The mean in per cent, as SQuAD's scripts have it. NaN of nothing.
fn percent<'a>(answers: impl Iterator<Item = &'a Answer>, of: impl Fn(&Answer) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for answer in answers {
        sum += of(answer);
        count += 1.0;
    }
    100.0 * sum / count
}

fn by_row(args: &Answers, path: &Path) -> anyhow::Result<Questions> {
    let names: Vec<&str> = std::iter::once(args.prediction.as_str())
        .chain(args.no_answer.as_deref())
        .collect();
    anyhow::ensure!(
        args.no_answer_scores.is_none(),
        "--no-answer-scores: expected predictions in a JSON file by question; name a column with --no-answer"
    );
    let sides = Sides::read(&args.common, path, &args.answers, &names)?;
    let answers = sides
        .only_truth()?
        .each("a list of answers", |value| match value {
            Value::List(values) => values.iter().map(Value::text).collect(),
            one => Some(
                one.text()
                    .into_iter()
                    .filter(|text| !text.is_empty())
                    .collect(),
            ),
        })?;
    // Nothing at all is an answer too: that there is none.
    let predictions = sides.own[0].each("an answer", |value| match value {
        Value::List(_) => None,
        one => Some(one.text().unwrap_or_default()),
    })?;
    let no_answer = match sides.own.get(1) {
        Some(column) => Some(column.each("a number", Value::number)?),
        None => None,
    };
    Ok(Questions {
        answers,
        predictions,
        no_answer,
        says_v2: false,
    })
}

/// A JSON file of predictions by question, and SQuAD's own format of questions.
fn by_question(args: &Answers, path: &Path) -> anyhow::Result<Questions> {
    let [references] = args.common.references.as_slice() else {
        bail!(
            "--references: expected one file of questions in SQuAD's format, as {} is by question",
            path.display()
        );
    };
    let json = json(references)?;
    let says_v2 = json["version"]
        .as_str()
        .is_some_and(|version| version.trim_start_matches('v').starts_with('2'));
    let mut questions: Vec<(String, Vec<String>)> = Vec::new();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    for article in list(&json["data"]) {
        for paragraph in list(&article["paragraphs"]) {
            for question in list(&paragraph["qas"]) {
                let id = question["id"].as_str().map(str::to_owned);
                let texts: Option<Vec<String>> = list(&question["answers"])
                    .iter()
                    .map(|answer| answer["text"].as_str().map(str::to_owned))
                    .collect();
                match (id, texts) {
                    (Some(id), Some(texts)) => questions.push((id, texts)),
                    _ => bail!(
                        "{}: question {}: expected an id and answers with texts, found {}",
                        references.display(),
                        questions.len() + 1,
                        question
                    ),
                }
            }
        }
    }
    anyhow::ensure!(
        !questions.is_empty(),
        "{}: expected questions in data → paragraphs → qas, as SQuAD has them, found none",
        references.display()
    );
    let predictions: HashMap<String, String> = from_json(path, "texts by the ids of questions")?;
    let scores: Option<HashMap<String, f64>> = match &args.no_answer_scores {
        Some(file) => Some(from_json(file, "numbers by the ids of questions")?),
        None => None,
    };
    let missing: Vec<&str> = questions
        .iter()
        .map(|(id, _)| id.as_str())
        .filter(|id| !predictions.contains_key(*id))
        .collect();
    if let Some(first) = missing.first() {
        bail!(
            "{}: expected an answer to each of {} questions, found none to {} of them, such as {first:?}; \"\" says that there is none",
            path.display(),
            questions.len(),
            missing.len()
        );
    }
    let no_answer = match (&scores, &args.no_answer_scores) {
        (Some(scores), Some(file)) => {
            let of = |(id, _): &(String, Vec<String>)| {
                scores.get(id).copied().with_context(|| {
                    format!(
                        "{}: expected a number for question {id:?}, found none",
                        file.display()
                    )
                })
            };
            Some(
                questions
                    .iter()
                    .map(of)
                    .collect::<anyhow::Result<Vec<_>>>()?,
            )
        }
        _ => None,
    };
    let (ids, answers): (Vec<String>, Vec<Vec<String>>) = questions.into_iter().unzip();
    Ok(Questions {
        answers,
        predictions: ids.iter().map(|id| predictions[id].clone()).collect(),
        no_answer,
        says_v2,
    })
}

fn json(path: &Path) -> anyhow::Result<serde_json::Value> {
    from_json(path, "JSON in SQuAD's format")
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> anyhow::Result<T> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{}: expected {expected}", path.display()))
}
