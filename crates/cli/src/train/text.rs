use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use cloze_data::text::examples::Examples;
use cloze_data::text::learn::TextData;
use cloze_runtime::cpu::Options;
use cloze_runtime::predict::FeatureClassifier;
use cloze_spec::TextRecipe;
use cloze_spec::folder::{METRICS, write_text};
use cloze_spec::recipe::Document;
use cloze_spec::text::Stage;
use cloze_train::Place;
use cloze_train::report::State;
use cloze_train::report::scores::Scores;
use cloze_train::run::Outcome;
use cloze_train::text::baseline::Baselines;
use cloze_train::text::features::FeatureRun;
use cloze_train::text::judge::{Aim, Judged, Predictions};
use cloze_train::text::{Preparation, TextRun};
use serde_json::Map;

use super::{interrupt, say_interrupted, watch};
use crate::arguments::{Data, Train};
use crate::dashboard::{About, REPORT};
use crate::eval::text as eval;
use crate::{hub, source};

pub fn run(args: &Train, mut recipe: TextRecipe, out: &Path, place: Place) -> anyhow::Result<()> {
    apply(&args.data, &mut recipe)?;
    let base = recipe.model.base.as_deref().map(Path::new);
    let base = base
        .map(|base| hub::folder(base, &args.by_name))
        .transpose()?;
    if let Stage::Fit(_) = &recipe.stage[0] {
        return fit(args, recipe, base.as_deref(), out);
    }
    let preparation = Preparation::new(recipe, base.as_deref())?;
    describe(&preparation.data, &preparation.recipe);
    let run = TextRun {
        preparation: &preparation,
        out,
        device: place.device(),
        interrupt: interrupt(),
        max_steps: args.max_steps,
    };
    let recipe = &preparation.recipe;
    let about = About {
        title: recipe.paper.as_ref().map(|paper| &*paper.title),
        metric: recipe.metric(),
        data: facts(&preparation.data),
        recipe: recipe.to_toml(),
    };
    let (outcome, mut dashboard) = watch(out, about, &mut |observe| Ok(run.train(observe)?))?;
    if outcome == Outcome::Interrupted {
        say_interrupted(out);
        return Ok(());
    }
    let best = run.best()?;
    let aim = preparation.aim();
    let scores = judge(out, recipe, &preparation.data, aim, &mut |examples| {
        Ok(Predictions::of(aim, &best, examples))
    })?;
    println!("report  {}", out.join(REPORT).display());
    dashboard.score(scores);
    dashboard.finish(State::Finished, Vec::new())
}

/// Fits a classifier to features of texts, and judges it.
fn fit(args: &Train, recipe: TextRecipe, base: Option<&Path>, out: &Path) -> anyhow::Result<()> {
    ensure!(
        args.compute.device.place() == Place::Cpu && args.max_steps.is_none(),
        "--device, --max-steps: features are made on the CPU, and a classifier is fitted at once; leave them out"
    );
    let run = FeatureRun::new(recipe, base, Options::default())?;
    describe(&run.data, &run.recipe);
    run.fit(out, &mut |_| {})?;
    // What is judged is what was written.
    let fitted = FeatureClassifier::open(out, Options::default())?;
    let tokens = run.recipe.batch().max_tokens;
    judge(out, &run.recipe, &run.data, run.aim(), &mut |examples| {
        Ok(Predictions::of_features(&fitted, examples, tokens)?)
    })?;
    Ok(())
}

/// Judges what was learned, and the baselines beside it, by all parts that are not learned from; writes the metrics.
fn judge(
    out: &Path,
    recipe: &TextRecipe,
    data: &TextData,
    aim: Aim<'_>,
    predict: &mut dyn FnMut(&Arc<Examples>) -> anyhow::Result<Predictions>,
) -> anyhow::Result<Scores> {
    let baselines = Baselines::fit(aim, &data.train)?;
    let mut parts = vec![("validation", &data.validation)];
    parts.extend(data.test.as_ref().map(|test| ("test", test)));
    let mut json = Map::new();
    let mut of_baselines = Map::new();
    let mut scores = Scores::default();
    for (part, examples) in parts {
        let own = (eval::title(out), predict(examples)?);
        let others = baselines.predict(aim, examples).into_iter();
        let all = std::iter::once(own)
            .chain(others.map(|(name, found)| (name.to_owned(), found)))
            .map(|(name, found)| Ok((name, Judged::new(aim.labels, examples, found)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let results = eval::Results::new(part, recipe, all);
        json.insert(part.to_owned(), results.own());
        of_baselines.insert(part.to_owned(), results.others());
        println!("{}", results.text());
        scores.replace(results.scores(aim.labels));
    }
    json.insert("baselines".to_owned(), of_baselines.into());
    write_text(&out.join(METRICS), &serde_json::to_string_pretty(&json)?)?;
    println!("model   {}", out.display());
    Ok(scores)
}

/// Puts the data options over the recipe's data.
fn apply(args: &Data, recipe: &mut TextRecipe) -> anyhow::Result<()> {
    source::refuse_item_options(args)?;
    if !args.files.is_empty() {
        recipe.data.files.clone_from(&args.files);
    }
    if args.no_header {
        recipe.data.header = false;
    }
    Ok(recipe.validate("command line")?)
}

/// A class that is so many times as frequent as another is worth a word.
const UNBALANCED: u64 = 10;

/// Says what is to be learned from.
fn describe(data: &TextData, recipe: &TextRecipe) {
    let facts: Vec<String> = facts(data)
        .iter()
        .map(|(name, value)| format!("{value} {name}"))
        .collect();
    eprintln!("{}", facts.join(", "));
    warn_of_balance(data);
    let cut = data.cut;
    if cut > 0 {
        eprintln!(
            "{cut} training texts are longer than model.max_len, {} tokens, and are cut",
            recipe.model.max_len
        );
    }
}

fn warn_of_balance(data: &TextData) {
    let Some([(most, many), (least, few)]) = data.balance() else {
        return;
    };
    if many > UNBALANCED * few {
        eprintln!(
            "classes are unbalanced: {many} texts are {most:?}, {few} are {least:?}; accuracy says little then: look at macro-f1, or \
             weigh rare classes more, by --set objective.loss.class_weights=balanced"
        );
    }
}

fn facts(data: &TextData) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("training texts", data.train.len()),
        ("training tokens", data.train.tokens()),
        ("validation texts", data.validation.len()),
    ];
    facts.extend(data.test.as_ref().map(|test| ("test texts", test.len())));
    facts.extend((!data.labels.is_empty()).then_some(("labels", data.labels.len())));
    facts
        .into_iter()
        .map(|(name, count)| (name, count.to_string()))
        .collect()
}
