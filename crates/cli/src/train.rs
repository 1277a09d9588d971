use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use cloze_data::Dataset;
use cloze_spec::Recipe;
use cloze_spec::folder;
use cloze_spec::recipe::Source;
use cloze_spec::stage::Stage;
use cloze_train::Place;
use cloze_train::report::State;
use cloze_train::run::{Event, Outcome, Run};

use crate::arguments::Train;
use crate::dashboard::{Dashboard, REPORT};
use crate::progress::Progress;
use crate::{eval, recipes, source};

static INTERRUPT: AtomicBool = AtomicBool::new(false);

pub fn run(args: &Train) -> anyhow::Result<()> {
    let place = args.compute.place()?;
    let (recipe, out) = match (&args.resume, &args.recipe, &args.output) {
        (Some(out), ..) => {
            let path = out.join(folder::RECIPE);
            let saved = Source::read(&path)
                .with_context(|| format!("--resume {}: no run to go on with", out.display()))?;
            (Recipe::parse(&saved, |_| None, &[])?, out)
        }
        (None, Some(name), Some(out)) => {
            if out.join(folder::RECIPE).exists() {
                bail!(
                    "{0}: there is a run in this folder already; go on with it by `cloze train --resume {0}`, or choose another",
                    out.display()
                );
            }
            let mut recipe = recipes::resolve(name, &args.set)?;
            if let Some(seed) = args.seed {
                recipe.seed = seed;
            }
            (recipe, out)
        }
        _ => unreachable!("the command line asks for a recipe and a folder, or a folder to resume"),
    };
    let mut recipe = recipe;
    source::apply(&args.data, &mut recipe)?;
    let dataset = source::dataset(&recipe, args.data.skip_bad_rows)?;
    describe(&dataset);
    let (outcome, mut dashboard) = train(&recipe, &dataset, out, place, args.max_steps)?;
    if outcome == Outcome::Interrupted {
        eprintln!(
            "interrupted; go on with `cloze train --resume {}`",
            out.display()
        );
        return Ok(());
    }
    let results = eval::judge(&recipe, &dataset, &dataset.split.test, out, place, true)?;
    eval::save(out, &results)?;
    println!("{}", eval::table(&results));
    println!("model   {}", out.display());
    println!("report  {}", out.join(REPORT).display());
    dashboard.finish(State::Finished, results)
}

/// Says what is to be learned from.
pub fn describe(dataset: &Dataset) {
    let stats = &dataset.stats;
    eprintln!(
        "{} users, {} items, {} events ({} read); {} validation and {} test cases",
        stats.users,
        stats.items,
        stats.events,
        stats.events_read,
        dataset.split.validation.len(),
        dataset.split.test.len()
    );
}

/// Trains with a bar and a live report; Ctrl-C stops after the step under way.
pub fn train(
    recipe: &Recipe,
    dataset: &Dataset,
    out: &Path,
    place: Place,
    max_steps: Option<u64>,
) -> anyhow::Result<(Outcome, Dashboard)> {
    // A second handler cannot be set; the first serves every run of this process.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!(
            "finishing the step; press Ctrl-C again to stop at once and lose what came after the last checkpoint"
        );
    });
    let Stage::Train(stage) = &recipe.stage[0];
    let mut progress = Progress::new(&stage.validate.metric);
    let run = Run {
        recipe,
        dataset,
        out,
        device: place.device(),
        interrupt: &INTERRUPT,
        max_steps,
    };
    let mut dashboard = None;
    // A report that cannot be written is no reason to lose the run, but reason to say so once it is over.
    let mut failure = None;
    let outcome = run.train(&mut |event| {
        progress.observe(event);
        let result = match (&mut dashboard, event) {
            (
                None,
                Event::Started {
                    state, total_steps, ..
                },
            ) => Dashboard::start(out, recipe, dataset, state, *total_steps)
                .map(|started| dashboard = Some(started)),
            (Some(dashboard), event) => dashboard.observe(event),
            (None, _) => Ok(()),
        };
        if let Err(error) = result {
            failure.get_or_insert(error);
        }
    });
    progress.finish();
    if let Some(error) = failure {
        return Err(
            error.context("the run is safe, its report is not; `cloze train --resume` goes on")
        );
    }
    let Some(mut dashboard) = dashboard else {
        return Err(outcome
            .err()
            .map_or_else(|| anyhow::anyhow!("the run did not start"), Into::into));
    };
    match &outcome {
        Ok(Outcome::Finished) => {}
        Ok(Outcome::Interrupted) => dashboard.finish(State::Interrupted, Vec::new())?,
        Err(error) => dashboard.finish(State::Failed(error.to_string()), Vec::new())?,
    }
    Ok((outcome?, dashboard))
}
