use std::collections::BTreeMap;
use std::path::Path;

use cloze_data::records::{Cells, Format, Value};
use cloze_train::metric::counts::{Average, Counts, average};
use cloze_train::metric::entity::{self, Entity};

use super::arguments::{Entities, Scheme};
use super::input::Sides;
use super::{Judged, Table};

pub fn judge(args: &Entities, path: &Path) -> anyhow::Result<Judged> {
    let scheme = match args.scheme {
        None => entity::Scheme::Conll,
        Some(Scheme::Iob1) => entity::Scheme::Iob1,
        Some(Scheme::Iob2) => entity::Scheme::Iob2,
        Some(Scheme::Ioe2) => entity::Scheme::Ioe2,
        Some(Scheme::Iobes) => entity::Scheme::Iobes,
        Some(Scheme::Bilou) => entity::Scheme::Bilou,
    };
    let is_conll = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "conll")
    };
    let sentences = if is_conll(path) {
        conll(path, scheme)?
    } else {
        columns(args, path, scheme)?
    };
    let counts: Vec<BTreeMap<String, Counts>> = sentences
        .iter()
        .map(|sentence| entity::counts(&sentence.labels, &sentence.predictions))
        .collect();
    let tokens: Vec<(u64, u64)> = sentences.iter().map(|sentence| sentence.tokens).collect();
    let is_correct = sentences
        .iter()
        .map(|sentence| sentence.labels == sentence.predictions)
        .collect();
    let sum = move |draw: &mut dyn Iterator<Item = usize>| {
        let mut kinds: BTreeMap<String, Counts> = BTreeMap::new();
        let (mut right, mut all) = (0, 0);
        for index in draw {
            for (kind, count) in &counts[index] {
                if let Some(sum) = kinds.get_mut(kind) {
                    *sum += *count;
                } else {
                    kinds.insert(kind.clone(), *count);
                }
            }
            right += tokens[index].0;
            all += tokens[index].1;
        }
        (kinds, right as f64 / all as f64)
    };
    let (kinds, _) = sum(&mut (0..sentences.len()));
    let by_type = kinds.iter().map(|(kind, counts)| (kind, *counts));
    let names = [
        "precision_micro",
        "recall_micro",
        "f1_micro",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "precision_weighted",
        "recall_weighted",
        "f1_weighted",
        "token_accuracy",
    ];
    let values = move |draw: &[usize]| {
        let (kinds, accuracy) = sum(&mut draw.iter().copied());
        let counts: Vec<Counts> = kinds.into_values().collect();
        let mut values = Vec::new();
        for kind in [Average::Micro, Average::Macro, Average::Weighted] {
            let prf = average(&counts, kind);
            values.extend([prf.precision, prf.recall, prf.f1]);
        }
        values.push(accuracy);
        values
    };
    Ok(Judged {
        is_correct: Some(is_correct),
        tables: vec![Table::of_counts("type", by_type)],
        ..Judged::new("sentences", sentences.len(), &names, values)
    })
}

struct Sentence {
    labels: Vec<Entity>,
    predictions: Vec<Entity>,
    /// Tokens with the right tag, and all.
    tokens: (u64, u64),
}

impl Sentence {
    fn new(labels: Vec<Entity>, predictions: Vec<Entity>, tags: [&[String]; 2]) -> Self {
        let right = tags[0].iter().zip(tags[1]).filter(|(a, b)| a == b).count();
        Self {
            labels,
            predictions,
            tokens: (right as u64, tags[0].len() as u64),
        }
    }
}

fn columns(args: &Entities, path: &Path, scheme: entity::Scheme) -> anyhow::Result<Vec<Sentence>> {
    let sides = Sides::read(&args.common, path, &args.label, &[&args.prediction])?;
    let columns = [sides.only_truth()?, &sides.own[0]];
    let list = |value: &Value| {
        value
            .list(None)?
            .iter()
            .map(Value::text)
            .collect::<Option<Vec<_>>>()
    };
    let labels = columns[0].each("a list of tags", list)?;
    let predictions = columns[1].each("a list of tags", list)?;
    let mut sentences = Vec::new();
    for (row, (labels, predictions)) in labels.iter().zip(&predictions).enumerate() {
        if labels.len() != predictions.len() {
            let expected = format!("{} tags, as many as the true ones", labels.len());
            let found = Some(predictions.len().to_string());
            return Err(columns[1].fault(row, expected, found).into());
        }
        let entities = |column: &Cells, tags: &[String]| {
            scheme.entities(tags).map_err(|bad| {
                let expected = format!("{} at tag {}", bad.expected, bad.place);
                column.fault(row, expected, Some(format!("{:?}", bad.tag)))
            })
        };
        sentences.push(Sentence::new(
            entities(columns[0], labels)?,
            entities(columns[1], predictions)?,
            [labels, predictions],
        ));
    }
    Ok(sentences)
}

/// Lines of `token … label prediction`, and blank lines between sentences: what conlleval reads.
fn conll(path: &Path, scheme: entity::Scheme) -> anyhow::Result<Vec<Sentence>> {
    let lines = Cells::read(path, &Format::Lines, &["line"])?.remove(0);
    let texts = lines.each("text", Value::text)?;
    let mut sentences = Vec::new();
    let (mut start, mut tags) = (0, [Vec::new(), Vec::new()]);
    for row in 0..=texts.len() {
        let fields: Vec<&str> = texts
            .get(row)
            .map_or_else(Vec::new, |line| line.split_whitespace().collect());
        match fields.as_slice() {
            [] => {
                if !tags[0].is_empty() {
                    let mut found = Vec::new();
                    for tags in &tags {
                        let entities = scheme.entities(tags).map_err(|bad| {
                            lines.fault(
                                start + bad.place - 1,
                                bad.expected,
                                Some(format!("{:?}", bad.tag)),
                            )
                        })?;
                        found.push(entities);
                    }
                    let predictions = found.pop().expect("two columns were read");
                    let labels = found.pop().expect("two columns were read");
                    sentences.push(Sentence::new(labels, predictions, [&tags[0], &tags[1]]));
                }
                start = row + 1;
                tags = [Vec::new(), Vec::new()];
            }
            ["-DOCSTART-", ..] => start = row + 1,
            [.., label, prediction] if fields.len() > 2 => {
                tags[0].push((*label).to_owned());
                tags[1].push((*prediction).to_owned());
            }
            _ => {
                let expected = "a token, its true tag and the predicted one";
                return Err(lines.fault(row, expected, None).into());
            }
        }
    }
    anyhow::ensure!(
        !sentences.is_empty(),
        "{}: expected sentences, found none",
        path.display()
    );
    Ok(sentences)
}
