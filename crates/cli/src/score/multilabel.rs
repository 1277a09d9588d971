use std::path::Path;

use cloze_data::Error;
use cloze_data::records::label::sorted;
use cloze_data::records::{Cells, Value};
use cloze_train::metric::counts::{Average, average};
use cloze_train::metric::multilabel::Multilabel as Sums;

use super::arguments::Multilabel;
use super::input::{self, Sides};
use super::{Judged, Table};

pub fn judge(args: &Multilabel, path: &Path) -> anyhow::Result<Judged> {
    let sides = Sides::read(&args.common, path, &args.label, &[&args.prediction])?;
    let columns = [sides.only_truth()?, &sides.own[0]];
    let list = |value: &Value| {
        let values = value.list(args.separator)?;
        values.iter().map(Value::label).collect::<Option<Vec<_>>>()
    };
    let mut texts = Vec::new();
    for column in columns {
        texts.push(column.each("a list of labels", list)?);
    }
    let classes = if args.classes.is_empty() {
        sorted(texts.iter().flatten().flatten().cloned())
    } else {
        args.classes.clone()
    };
    let places = |column: &Cells, rows: &[Vec<String>]| -> Result<Vec<Vec<usize>>, Error> {
        let rows = rows.iter().enumerate();
        rows.map(|(row, labels)| {
            let places = labels.iter().map(|label| {
                input::place(&classes, label)
                    .map_err(|expected| column.fault(row, expected, Some(format!("{label:?}"))))
            });
            let mut places = places.collect::<Result<Vec<_>, _>>()?;
            places.sort_unstable();
            places.dedup();
            Ok(places)
        })
        .collect()
    };
    let labels = places(columns[0], &texts[0])?;
    let predictions = places(columns[1], &texts[1])?;
    let width = classes.len();
    let is_correct = labels
        .iter()
        .zip(&predictions)
        .map(|(a, b)| a == b)
        .collect();
    let count = labels.len();
    let sums = move |draw: &mut dyn Iterator<Item = usize>| {
        let mut sums = Sums::new(width);
        for index in draw {
            sums.add(&labels[index], &predictions[index]);
        }
        sums
    };
    let all = sums(&mut (0..count));
    let by_label = classes.iter().zip(all.per_label().iter().copied());
    let names = [
        "f1_micro",
        "f1_macro",
        "f1_weighted",
        "f1_samples",
        "subset_accuracy",
        "hamming_loss",
    ];
    let values = move |draw: &[usize]| {
        let sums = sums(&mut draw.iter().copied());
        let mut per_label = sums.per_label().to_vec();
        // A label that is neither true nor predicted in a draw would only pull its means down.
        per_label.retain(|label| label.support + label.predicted > 0);
        let mut values: Vec<f64> = [Average::Micro, Average::Macro, Average::Weighted]
            .map(|kind| average(&per_label, kind).f1)
            .to_vec();
        values.extend([
            sums.samples().f1,
            sums.subset_accuracy(),
            sums.hamming_loss(),
        ]);
        values
    };
    Ok(Judged {
        is_correct: Some(is_correct),
        tables: vec![Table::of_counts("label", by_label)],
        ..Judged::new("examples", count, &names, values)
    })
}
