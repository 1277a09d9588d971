use std::path::Path;

use cloze_data::records::Value;
use cloze_train::metric::regression::{mean_absolute_error, mean_squared_error, pearson, spearman};

use super::Judged;
use super::arguments::Regression;
use super::input::Sides;

pub fn judge(args: &Regression, path: &Path) -> anyhow::Result<Judged> {
    let sides = Sides::read(&args.common, path, &args.label, &[&args.prediction])?;
    let labels = sides.only_truth()?.each("a number", Value::number)?;
    let predictions = sides.own[0].each("a number", Value::number)?;
    let names = ["pearson", "spearman", "mse", "mae"];
    Ok(Judged::new("examples", labels.len(), &names, move |draw| {
        let pick = |values: &[f64]| draw.iter().map(|&index| values[index]).collect::<Vec<_>>();
        let (labels, predictions) = (pick(&labels), pick(&predictions));
        vec![
            pearson(&labels, &predictions).unwrap_or(f64::NAN),
            spearman(&labels, &predictions).unwrap_or(f64::NAN),
            mean_squared_error(&labels, &predictions),
            mean_absolute_error(&labels, &predictions),
        ]
    }))
}
