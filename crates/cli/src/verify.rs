use std::io::Write;

use cloze_runtime::cpu::Options;
use cloze_runtime::golden::Golden;
use cloze_runtime::model;

use crate::arguments::Verify;
use crate::table;

pub fn run(args: &Verify) -> anyhow::Result<()> {
    let options = Options {
        storage: args.weights.storage(),
        ..Options::default()
    };
    let (_, engine) = model::open(&args.model, options)?;
    let golden = Golden::read(&args.golden)?;
    let differences = golden.compare(&engine)?;
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
