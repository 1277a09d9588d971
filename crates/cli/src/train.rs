mod text;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use cloze_data::Dataset;
use cloze_spec::Recipe;
use cloze_spec::folder;
use cloze_spec::recipe::{Any, Document, Source};
use cloze_spec::stage::Stage;
use cloze_train::Place;
use cloze_train::report::State;
use cloze_train::run::{Event, Outcome, Run};

use crate::arguments::Train;
use crate::dashboard::{About, Dashboard, REPORT};
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
            (Any::parse(&saved, |_| None, &[])?, out)
        }
        (None, Some(name), Some(out)) => {
            if out.join(folder::RECIPE).exists() {
                bail!(
                    "{0}: there is a run in this folder already; go on with it by `cloze train --resume {0}`, or choose another",
                    out.display()
                );
            }
            (recipes::resolve(name, &overrides(args)?)?, out)
        }
        _ => unreachable!("the command line asks for a recipe and a folder, or a folder to resume"),
    };
    match recipe {
        Any::Items(recipe) => items(args, *recipe, out, place),
        Any::Text(recipe) => text::run(args, *recipe, out, place),
    }
}

/// What the command line says in other words than `--set`, and that.
fn overrides(args: &Train) -> anyhow::Result<Vec<String>> {
    let texts = &args.texts;
    let quoted = |text: &str| serde_json::to_string(text).expect("text can be quoted");
    let paths = |paths: &[PathBuf]| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| quoted(&path.to_string_lossy()))
            .collect();
        format!("[{}]", paths.join(", "))
    };
    let mut all = Vec::new();
    let mut set = |path: &str, value: Option<String>| {
        all.extend(value.map(|value| format!("{path}={value}")));
    };
    set("seed", args.seed.map(|seed| seed.to_string()));
    set("model.base", texts.model.as_deref().map(quoted));
    let tokenizer = texts.tokenizer.as_ref();
    set(
        "model.tokenizer",
        tokenizer.map(|path| quoted(&path.to_string_lossy())),
    );
    for (path, files) in [("validation", &texts.validation), ("test", &texts.test)] {
        let files = (!files.is_empty()).then(|| paths(files));
        set(&format!("data.{path}"), files);
    }
    set("data.columns.text", texts.text.as_deref().map(quoted));
    set("data.columns.second", texts.pair.as_deref().map(quoted));
    set("data.columns.label", texts.label.as_deref().map(quoted));
    set(
        "data.folds.count",
        texts.folds.map(|count| count.to_string()),
    );
    set("data.folds.group", texts.group.as_deref().map(quoted));
    set("data.stored", texts.stored.then(|| "true".to_owned()));
    set("data.quotes", texts.no_quotes.then(|| "false".to_owned()));
    if !texts.corpora.is_empty() {
        all.extend(text::corpora(&texts.corpora, texts.mix.as_deref())?);
    }
    all.extend_from_slice(&args.set);
    Ok(all)
}

fn items(args: &Train, mut recipe: Recipe, out: &Path, place: Place) -> anyhow::Result<()> {
    source::apply(&args.data, &mut recipe)?;
    let dataset = source::dataset(&recipe, args.data.skip_bad_rows)?;
    describe(&dataset);
    let (outcome, mut dashboard) = train(&recipe, &dataset, out, place, args.max_steps)?;
    if outcome == Outcome::Interrupted {
        say_interrupted(out);
        return Ok(());
    }
    let results = eval::judge(&recipe, &dataset, &dataset.split.test, out, place, true)?;
    eval::save(out, &results)?;
    println!("{}", eval::table(&results));
    println!("model   {}", out.display());
    println!("report  {}", out.join(REPORT).display());
    dashboard.finish(State::Finished, results)
}

fn say_interrupted(out: &Path) {
    eprintln!(
        "interrupted; go on with `cloze train --resume {}`",
        out.display()
    );
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
    let Stage::Train(stage) = &recipe.stage[0];
    let run = Run {
        recipe,
        dataset,
        out,
        device: place.device(),
        interrupt: interrupt(),
        max_steps,
    };
    let about = About {
        title: recipe.paper.as_ref().map(|paper| &*paper.title),
        metric: &stage.validate.metric,
        data: facts(dataset),
        recipe: recipe.to_toml(),
    };
    watch(out, about, &mut |observe| Ok(run.train(observe)?))
}

fn facts(dataset: &Dataset) -> Vec<(&'static str, String)> {
    let stats = &dataset.stats;
    [
        ("users", stats.users),
        ("items", stats.items),
        ("events", stats.events),
        ("events read", stats.events_read),
        ("training events", dataset.split.train.tokens()),
        ("validation cases", dataset.split.validation.len()),
        ("test cases", dataset.split.test.len()),
    ]
    .map(|(name, value)| (name, value.to_string()))
    .to_vec()
}

/// What Ctrl-C sets.
fn interrupt() -> &'static AtomicBool {
    // A second handler cannot be set; the first serves every run of this process.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!(
            "finishing the step; press Ctrl-C again to stop at once and lose what came after the last checkpoint"
        );
    });
    &INTERRUPT
}

/// Told of what a run does.
type Observe<'a> = dyn FnMut(&Event<'_>) + 'a;

/// Runs `train` with a bar and a live report.
fn watch(
    out: &Path,
    about: About<'_>,
    train: &mut dyn FnMut(&mut Observe<'_>) -> anyhow::Result<Outcome>,
) -> anyhow::Result<(Outcome, Dashboard)> {
    let mut progress = Progress::new(about.metric);
    let mut dashboard = None;
    let mut about = Some(about);
    // A report that cannot be written is no reason to lose the run, but reason to say so once it is over.
    let mut failure = None;
    let outcome = train(&mut |event| {
        progress.observe(event);
        let result = match (&mut dashboard, event) {
            (
                None,
                Event::Started {
                    state, total_steps, ..
                },
            ) => {
                let about = about.take().expect("a run starts once");
                Dashboard::start(out, about, state, *total_steps)
                    .map(|started| dashboard = Some(started))
            }
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
            .unwrap_or_else(|| anyhow::anyhow!("the run did not start")));
    };
    match &outcome {
        Ok(Outcome::Finished) => {}
        Ok(Outcome::Interrupted) => dashboard.finish(State::Interrupted, Vec::new())?,
        Err(error) => dashboard.finish(State::Failed(error.to_string()), Vec::new())?,
    }
    Ok((outcome?, dashboard))
}
