use std::path::{Path, PathBuf};

use anyhow::bail;
use cloze_data::Dataset;
use cloze_spec::data::Data;
use cloze_spec::recipe::Any;
use cloze_train::recommend::Request;
use cloze_train::report::{Sample, State};
use cloze_train::run::Outcome;
use cloze_train::{Place, Recommender};

use crate::arguments::Quickstart;
use crate::dashboard::REPORT;
use crate::{eval, recipes, source, train};

/// Customers whose recommendations are shown.
const SHOWN: usize = 3;
/// Latest purchases and recommendations shown of each.
const SHOWN_ITEMS: usize = 5;

pub fn run(args: &Quickstart) -> anyhow::Result<()> {
    let Any::Items(mut recipe) = recipes::resolve("bert4rec/online-retail", &args.set)? else {
        unreachable!("the recipe is over items");
    };
    let data = find(args.data.as_deref())?;
    let Data::Interactions(settings) = &mut recipe.data;
    settings.files = vec![data.join("interactions.parquet")];
    if let Some(titles) = &mut settings.titles {
        titles.file = data.join("items.parquet");
    }
    let dataset = source::dataset(&recipe, false)?;
    train::describe(&dataset);
    let out = &args.output;
    if out.join("recipe.toml").exists() {
        eprintln!(
            "{}: replacing the model of an earlier quickstart",
            out.display()
        );
        std::fs::remove_dir_all(out)?;
    }
    let (outcome, mut dashboard) = train::train(&recipe, &dataset, out, Place::Cpu, None)?;
    if outcome == Outcome::Interrupted {
        eprintln!(
            "interrupted; go on with `cloze train --resume {}`",
            out.display()
        );
        return Ok(());
    }
    let mut results = eval::judge(
        &recipe,
        &dataset,
        &dataset.split.test,
        out,
        Place::Cpu,
        true,
    )?;
    "BERT4Rec".clone_into(&mut results[0].model);
    eval::save(out, &results)?;
    println!("{}", eval::table(&results));
    let samples = samples(out, &dataset)?;
    for sample in &samples {
        println!("customer {} bought, most recently:", sample.user);
        sample
            .history
            .iter()
            .for_each(|title| println!("    {title}"));
        println!("  and may like next:");
        sample
            .recommended
            .iter()
            .for_each(|title| println!("    {title}"));
        println!(
            "  and really took next:\n    {}\n",
            sample.next.join("\n    ")
        );
    }
    dashboard.show(samples);
    println!("model   {}", out.display());
    println!("report  {}", out.join(REPORT).display());
    println!(
        "next    cloze predict {} --items \"85123A,22423\"",
        out.display()
    );
    dashboard.finish(State::Finished, results)
}

/// Where the bundled purchases lie: as told, below the working folder, or in the source tree this was built from.
fn find(told: Option<&Path>) -> anyhow::Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/online-retail");
    let places = match told {
        Some(told) => vec![told.to_owned()],
        None => vec![PathBuf::from("data/online-retail"), built_from],
    };
    match places
        .iter()
        .find(|place| place.join("interactions.parquet").is_file())
    {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "{}: expected interactions.parquet, found none; run this in a checkout of the project, or say where its \
             data/online-retail lies with --data DIR",
            places[0].display()
        ),
    }
}

fn samples(out: &Path, dataset: &Dataset) -> anyhow::Result<Vec<Sample>> {
    let recommender = Recommender::open(out, &Place::Cpu.device())?;
    let cases = &dataset.split.test;
    let step = (cases.len() / SHOWN).max(1);
    let chosen: Vec<usize> = (0..cases.len()).step_by(step).take(SHOWN).collect();
    let histories: Vec<&[u32]> = chosen
        .iter()
        .map(|&case| cases.histories.get(case))
        .collect();
    let request = Request {
        top: SHOWN_ITEMS,
        exclude_seen: true,
        allow: None,
        deny: std::collections::HashSet::new(),
    };
    let found = recommender.recommend(&histories, &request);
    let vocabulary = &dataset.vocabulary;
    let name = |item: u32| {
        vocabulary
            .title(item)
            .unwrap_or_else(|| vocabulary.id(item))
            .to_owned()
    };
    Ok(chosen
        .iter()
        .zip(histories)
        .zip(found)
        .map(|((&case, history), found)| Sample {
            user: dataset.user_ids[cases.users[case] as usize].clone(),
            history: history
                .iter()
                .rev()
                .take(SHOWN_ITEMS)
                .rev()
                .map(|&item| name(item))
                .collect(),
            recommended: found.into_iter().map(|(item, _)| name(item)).collect(),
            next: cases
                .targets
                .get(case)
                .iter()
                .map(|&item| name(item))
                .collect(),
        })
        .collect())
}
