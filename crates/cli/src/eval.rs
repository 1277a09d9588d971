pub mod text;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cloze_data::{Cases, Dataset};
use cloze_spec::Recipe;
use cloze_spec::folder::{METRICS, RECIPE, write_atomically};
use cloze_spec::recipe::{Any, Source};
use cloze_train::evaluate::{self, Result as Judged};
use cloze_train::{Place, Recommender};

use crate::arguments::{Eval, Part};
use crate::{source, table};

pub fn run(args: &Eval) -> anyhow::Result<()> {
    let place = args.compute.place()?;
    let saved = Source::read(&args.model.join(RECIPE))
        .with_context(|| format!("{} is no model folder of cloze train", args.model.display()))?;
    let mut recipe = match Any::parse(&saved, |_| None, &[])? {
        Any::Items(recipe) => *recipe,
        Any::Text(recipe) => return text::run(args, *recipe, place),
    };
    source::apply(&args.data, &mut recipe)?;
    let dataset = source::dataset(&recipe, args.data.skip_bad_rows)?;
    let cases = match args.part {
        Part::Validation => &dataset.split.validation,
        Part::Test => &dataset.split.test,
    };
    let mut results = Vec::new();
    for model in std::iter::once(&args.model).chain(&args.others) {
        let baselines = !args.no_baselines && model == args.others.last().unwrap_or(&args.model);
        results.extend(judge(&recipe, &dataset, cases, model, place, baselines)?);
    }
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&results)?)?;
    } else {
        writeln!(out, "{} cases\n{}", cases.len(), table(&results))?;
    }
    Ok(())
}

/// Judges a model folder on `cases`, and the baselines beside it.
pub fn judge(
    recipe: &Recipe,
    dataset: &Dataset,
    cases: &Cases,
    folder: &Path,
    place: Place,
    baselines: bool,
) -> anyhow::Result<Vec<Judged>> {
    anyhow::ensure!(
        !cases.is_empty(),
        "there is no case to judge by: no user has enough interactions"
    );
    let recommender = Recommender::open(folder, &place.device())?;
    let (theirs, ours) = (&recommender.vocabulary, &dataset.vocabulary);
    anyhow::ensure!(
        theirs.len() == ours.len() && (0..ours.len() as u32).all(|i| theirs.id(i) == ours.id(i)),
        "{}: its {} items are not those of the data ({} items); evaluate it on the data and options it was trained with",
        folder.display(),
        theirs.len(),
        ours.len()
    );
    let name = folder.file_name().map_or_else(
        || folder.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    );
    let counts = ours.counts();
    let mut results = vec![evaluate::model(
        &name,
        recommender.scorer(),
        cases,
        &recipe.evaluate,
        counts,
    )];
    if baselines {
        results.extend(evaluate::baselines(dataset, cases, &recipe.evaluate));
    }
    Ok(results)
}

/// Keeps the results in the model folder.
pub fn save(folder: &Path, results: &[Judged]) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(results)?;
    Ok(write_atomically(&folder.join(METRICS), |file| {
        file.write_all(&json)
    })?)
}

/// One table a protocol.
pub fn table(results: &[Judged]) -> String {
    let mut text = String::new();
    for (index, (protocol, first)) in results[0].protocols.iter().enumerate() {
        let names: Vec<String> = first.values().into_iter().map(|(name, _)| name).collect();
        let header: Vec<&str> = std::iter::once("model")
            .chain(names.iter().map(String::as_str))
            .collect();
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|result| {
                let values = result.protocols[index]
                    .1
                    .values()
                    .into_iter()
                    .map(|(_, value)| format!("{value:.4}"));
                std::iter::once(result.model.clone())
                    .chain(values)
                    .collect()
            })
            .collect();
        text.extend([
            "ranked among ",
            protocol,
            ", ties against the model\n",
            &table::plain(&header, &rows),
            "\n\n",
        ]);
    }
    text
}
