use std::path::Path;

use anyhow::bail;
use cloze_spec::TextRecipe;
use cloze_spec::folder::{METRICS, write_text};
use cloze_spec::recipe::Document;
use cloze_train::Place;
use cloze_train::report::State;
use cloze_train::run::Outcome;
use cloze_train::text::{Preparation, TextRun, judge};

use super::{interrupt, say_interrupted, watch};
use crate::arguments::{Data, Train};
use crate::dashboard::{About, REPORT};
use crate::{hub, table};

pub fn run(args: &Train, mut recipe: TextRecipe, out: &Path, place: Place) -> anyhow::Result<()> {
    apply(&args.data, &mut recipe)?;
    let base = recipe.model.base.as_deref().map(Path::new);
    let base = base
        .map(|base| hub::folder(base, &args.by_name))
        .transpose()?;
    let preparation = Preparation::new(recipe, base.as_deref())?;
    describe(&preparation);
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
        metric: &recipe.train().validate.metric,
        data: facts(&preparation),
        recipe: recipe.to_toml(),
    };
    let (outcome, mut dashboard) = watch(out, about, &mut |observe| Ok(run.train(observe)?))?;
    if outcome == Outcome::Interrupted {
        say_interrupted(out);
        return Ok(());
    }
    let best = run.best()?;
    let data = &preparation.data;
    let mut results = vec![("validation", &data.validation)];
    results.extend(data.test.as_ref().map(|test| ("test", test)));
    let results = results.into_iter().map(|(part, examples)| {
        let metrics = judge::judge(&preparation, &best, examples)?;
        Ok((part, metrics))
    });
    let results = results.collect::<anyhow::Result<Vec<_>>>()?;
    let all: serde_json::Map<String, serde_json::Value> = results
        .iter()
        .map(|(part, metrics)| {
            let metrics = metrics
                .iter()
                .map(|(name, value)| (name.clone(), (*value).into()));
            (
                (*part).to_owned(),
                serde_json::Value::Object(metrics.collect()),
            )
        })
        .collect();
    write_text(&out.join(METRICS), &serde_json::to_string_pretty(&all)?)?;
    let names = results[0].1.iter().map(|(name, _)| &**name);
    let header: Vec<&str> = std::iter::once("part").chain(names).collect();
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|(part, metrics)| {
            let values = metrics.iter().map(|(_, value)| format!("{value:.4}"));
            std::iter::once((*part).to_owned()).chain(values).collect()
        })
        .collect();
    println!("{}", table::plain(&header, &rows));
    println!("model   {}", out.display());
    println!("report  {}", out.join(REPORT).display());
    dashboard.finish(State::Finished, Vec::new())
}

/// Puts the data options over the recipe's data.
fn apply(args: &Data, recipe: &mut TextRecipe) -> anyhow::Result<()> {
    for (name, is_given) in [
        ("--user", args.user.is_some()),
        ("--item", args.item.is_some()),
        ("--time", args.time.is_some()),
        ("--titles", args.titles.is_some()),
        ("--format", args.format.is_some()),
        ("--delimiter", args.delimiter.is_some()),
        ("--skip-bad-rows", args.skip_bad_rows),
    ] {
        if is_given {
            bail!("{name}: expected a recipe over items, found one over texts; leave it out");
        }
    }
    if !args.files.is_empty() {
        recipe.data.files.clone_from(&args.files);
    }
    if args.no_header {
        recipe.data.header = false;
    }
    Ok(recipe.validate("command line")?)
}

/// Says what is to be learned from.
fn describe(preparation: &Preparation) {
    let facts: Vec<String> = facts(preparation)
        .iter()
        .map(|(name, value)| format!("{value} {name}"))
        .collect();
    eprintln!("{}", facts.join(", "));
    let cut = preparation.data.cut;
    if cut > 0 {
        eprintln!(
            "{cut} training texts are longer than model.max_len, {} tokens, and are cut",
            preparation.recipe.model.max_len
        );
    }
}

fn facts(preparation: &Preparation) -> Vec<(&'static str, String)> {
    let data = &preparation.data;
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
