use std::io::Write;

use cloze_runtime::cpu::Options;
use cloze_runtime::golden::Golden;
use cloze_runtime::model::{Checkpoint, TextEncoder};
use cloze_runtime::predict::{Predict, Predictor};
use cloze_train::options;

use crate::arguments::Verify;
use crate::table;

pub fn run(args: &Verify) -> anyhow::Result<()> {
    let options = Options {
        storage: args.weights.storage(),
        ..options()
    };
    let golden = Golden::read(&args.golden)?;
    let differences = if !golden.embeddings.is_empty() && !golden.texts.is_empty() {
        let model = TextEncoder::open(&args.model, options)?;
        let mut differences = golden.compare(model.engine())?;
        differences.push(golden.compare_embeddings(&model)?);
        differences
    } else if !golden.scores.is_empty() && !golden.texts.is_empty() {
        let Predictor::Classifier(model) = Predictor::open(&args.model, options)? else {
            anyhow::bail!(
                "{}: expected a model that labels texts, as the reference has scores",
                args.model.display()
            );
        };
        let mut differences = golden.compare(model.model().engine())?;
        differences.push(golden.compare_scores(&model)?);
        differences
    } else {
        golden.compare(&*Checkpoint::open(&args.model)?.start(options)?.1)?
    };
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|found| {
            let number = |x: f32| format!("{x:.1e}");
            vec![
                found.stage.clone(),
                number(found.largest),
                number(found.rms),
            ]
        })
        .collect();
    writeln!(
        std::io::stdout(),
        "differences from {}, per root mean square of the reference\n{}",
        golden.source,
        table::plain(&["stage", "largest", "rms"], &rows)
    )?;
    let far = differences
        .iter()
        .find(|found| found.largest > args.tolerance);
    if let Some(far) = far {
        anyhow::bail!(
            "{}: {} is off by {:.1e}, expected at most {:.1e} (--tolerance)",
            args.model.display(),
            far.stage,
            far.largest,
            args.tolerance
        );
    }
    Ok(())
}
