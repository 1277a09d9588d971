mod folds;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use cloze_data::text::examples::Examples;
use cloze_data::text::learn::TextData;
use cloze_data::text::mixture::Mixture;
use cloze_runtime::predict::FeatureClassifier;
use cloze_spec::TextRecipe;
use cloze_spec::folder::{METRICS, RECIPE, write_text};
use cloze_spec::recipe::Document;
use cloze_spec::text::{Corpus, Folds, Mix, Stage, Temperature};
use cloze_train::report::State;
use cloze_train::report::scores::Scores;
use cloze_train::run::Outcome;
use cloze_train::text::baseline::Baselines;
use cloze_train::text::features::FeatureRun;
use cloze_train::text::judge::{Aim, Judged, Predictions};
use cloze_train::text::{Preparation, TextRun};
use cloze_train::{Place, checkpoint, options};
use serde_json::Map;

use super::{interrupt, say_interrupted, watch};
use crate::arguments::{Data, Train};
use crate::dashboard::{About, Dashboard, REPORT};
use crate::eval::text as eval;
use crate::{hub, source};

pub fn run(args: &Train, mut recipe: TextRecipe, out: &Path, place: Place) -> anyhow::Result<()> {
    apply(&args.data, &mut recipe)?;
    let base = recipe.model.base.as_deref().map(Path::new);
    let base = base
        .map(|base| hub::folder(base, &args.by_name))
        .transpose()?;
    let job = Job {
        args,
        base: base.as_deref(),
        recipe: &recipe,
        out,
        place,
    };
    match &recipe.data.folds {
        Some(Folds {
            only: None, count, ..
        }) => folds::run(&job, *count),
        _ => job.learn(recipe.clone(), out).map(|_| ()),
    }
}

/// What is the same for all models of a command.
struct Job<'a> {
    args: &'a Train,
    /// The folder of the encoder to begin with.
    base: Option<&'a Path>,
    recipe: &'a TextRecipe,
    /// The folder of the command, which goes on after an interruption.
    out: &'a Path,
    place: Place,
}

/// What a model, and what it has to beat, say of the part that it is judged by at last.
struct Held {
    recipe: TextRecipe,
    labels: Vec<String>,
    judged: Vec<(String, Judged)>,
}

impl Job<'_> {
    /// Learns and judges one model; none if it was interrupted.
    fn learn(&self, recipe: TextRecipe, out: &Path) -> anyhow::Result<Option<Held>> {
        match &recipe.stage[0] {
            Stage::Train(_) => self.train(recipe, out),
            Stage::Fit(_) => self.fit(recipe, out).map(Some),
        }
    }

    /// Says in the folder of the command what all models are of, once it is known that the data can be read.
    fn begin(&self, out: &Path) -> anyhow::Result<()> {
        if out != self.out {
            std::fs::create_dir_all(self.out)?;
            write_text(&self.out.join(RECIPE), &self.recipe.to_toml())?;
        }
        Ok(())
    }

    /// Trains an encoder, and judges it.
    fn train(&self, recipe: TextRecipe, out: &Path) -> anyhow::Result<Option<Held>> {
        let preparation = Preparation::new(recipe, self.base, out)?;
        let device = self
            .place
            .in_precision(preparation.recipe.train().precision)?;
        self.begin(out)?;
        describe(&preparation.data, &preparation.recipe);
        let run = TextRun {
            preparation: &preparation,
            out,
            device,
            interrupt: interrupt(),
            max_steps: self.args.max_steps,
        };
        let recipe = &preparation.recipe;
        let about = About::of(recipe, &preparation.data);
        let (outcome, mut dashboard) = watch(out, about, &mut |observe| Ok(run.train(observe)?))?;
        if outcome == Outcome::Interrupted {
            say_interrupted(self.out);
            return Ok(None);
        }
        let best = run.best()?;
        let aim = preparation.aim();
        let (scores, judged) = judge(out, recipe, &preparation.data, aim, &mut |examples| {
            Ok(Predictions::of(aim, &best, examples))
        })?;
        println!("report  {}", out.join(REPORT).display());
        dashboard.score(scores);
        dashboard.finish(State::Finished, Vec::new())?;
        Ok(Some(Held {
            labels: preparation.data.labels.clone(),
            recipe: preparation.recipe,
            judged,
        }))
    }

    /// Fits a classifier to features of texts, and judges it.
    fn fit(&self, recipe: TextRecipe, out: &Path) -> anyhow::Result<Held> {
        ensure!(
            self.args.compute.device.place() == Place::Cpu && self.args.max_steps.is_none(),
            "--device, --max-steps: features are made on the CPU, and a classifier is fitted at once; leave them out"
        );
        let run = FeatureRun::new(recipe, self.base, options())?;
        self.begin(out)?;
        describe(&run.data, &run.recipe);
        let start = Instant::now();
        run.fit(out, &mut |_| {})?;
        let seconds = start.elapsed().as_secs_f64();
        // What is judged is what was written.
        let fitted = FeatureClassifier::open(out, options())?;
        let tokens = run.recipe.batch().max_tokens;
        let (scores, judged) = judge(out, &run.recipe, &run.data, run.aim(), &mut |examples| {
            Ok(Predictions::of_features(&fitted, examples, tokens)?)
        })?;
        let state = checkpoint::State {
            seconds,
            ..checkpoint::State::new(run.data.fingerprint)
        };
        let mut dashboard = Dashboard::start(out, About::of(&run.recipe, &run.data), &state, 0)?;
        dashboard.score(scores);
        dashboard.finish(State::Finished, Vec::new())?;
        println!("report  {}", out.join(REPORT).display());
        Ok(Held {
            labels: run.data.labels.clone(),
            recipe: run.recipe,
            judged,
        })
    }
}

/// Judges what was learned, and the baselines beside it, by all parts that are not learned from; writes the metrics, and returns
/// what there is to show, and all models as the last part has them.
fn judge(
    out: &Path,
    recipe: &TextRecipe,
    data: &TextData,
    aim: Aim<'_>,
    predict: &mut dyn FnMut(&Arc<Examples>) -> anyhow::Result<Predictions>,
) -> anyhow::Result<(Scores, Vec<(String, Judged)>)> {
    let baselines = Baselines::fit(aim, &data.train)?;
    let mut parts = vec![("validation", &data.validation)];
    parts.extend(data.test.as_ref().map(|test| ("test", test)));
    let mut json = Map::new();
    let mut of_baselines = Map::new();
    let mut scores = Scores::default();
    let mut held = Vec::new();
    for (part, examples) in parts {
        let own = predict(examples)?;
        if let Some(rows) = data.test_rows.as_ref().filter(|_| part == "test") {
            let path = out.join(folds::PREDICTIONS);
            folds::write(&path, aim.labels, examples, &own, rows)?;
        }
        let own = (eval::title(out), own);
        let others = baselines.predict(aim, examples).into_iter();
        let all = std::iter::once(own)
            .chain(others.map(|(name, found)| (name.to_owned(), found)))
            .map(|(name, found)| Ok((name, Judged::new(aim.labels, examples, found)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        held.clone_from(&all);
        let mut results = eval::Results::new(part, recipe, all);
        if part == "validation" {
            results.by_corpus(&data.corpora);
        }
        json.insert(part.to_owned(), results.own());
        of_baselines.insert(part.to_owned(), results.others());
        println!("{}", results.text());
        scores.replace(results.scores(aim.labels));
    }
    json.insert("baselines".to_owned(), of_baselines.into());
    write_text(&out.join(METRICS), &serde_json::to_string_pretty(&json)?)?;
    println!("model   {}", out.display());
    Ok((scores, held))
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

/// Corpora of the command line, and how they are mixed, as values of the recipe.
pub fn corpora(corpora: &[String], mix: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut all: Vec<Corpus> = Vec::new();
    for corpus in corpora {
        let named = corpus.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, file) = named.with_context(|| {
            format!("--corpus {corpus}: expected a name and a file, such as medical=notes.txt, found no name")
        })?;
        let weighed = file
            .rsplit_once(':')
            .and_then(|(file, weight)| Some((file, weight.parse::<f64>().ok()?)));
        let (file, weight) = weighed.map_or((file, None), |(file, weight)| (file, Some(weight)));
        let at = all.iter().position(|corpus| corpus.name == name);
        let own = match at {
            Some(at) => &mut all[at],
            None => all.push_mut(Corpus {
                name: name.to_owned(),
                files: Vec::new(),
                validation: Vec::new(),
                columns: None,
                weight: None,
            }),
        };
        own.files.push(file.into());
        own.weight = weight.or(own.weight);
    }
    let is_given = all.iter().any(|corpus| corpus.weight.is_some());
    let mix = match mix {
        None if is_given => Mix::Given,
        Some(mix) if is_given => bail!(
            "--mix {mix}: expected no weights after the files of --corpus beside it, found some; leave one of them out"
        ),
        None | Some("natural") => Mix::Natural,
        Some("balanced") => Mix::Balanced,
        Some(power) => Mix::Temperature(Temperature {
            exponent: power.parse().ok().with_context(|| {
                format!(
                    "--mix {power}: expected natural, balanced or a power of the sizes, such as 0.5"
                )
            })?,
        }),
    };
    let inline = |value: toml::Value| value.to_string();
    Ok(vec![
        format!("data.corpus={}", inline(toml::Value::try_from(all)?)),
        format!("data.mix={}", inline(toml::Value::try_from(mix)?)),
    ])
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
    describe_mixture(data);
    warn_of_balance(data);
    let cut = data.cut;
    if cut > 0 {
        eprintln!(
            "{cut} training texts are longer than model.max_len, {} tokens, and are cut",
            recipe.model.max_len
        );
    }
}

fn describe_mixture(data: &TextData) {
    let counts = || data.mixture.iter().flat_map(Mixture::counts);
    let total: usize = counts().sum();
    for (corpus, count) in data.corpora.iter().zip(counts()) {
        eprintln!(
            "{}: {} training texts, {:.1} % of an epoch, each {:.2} times; {} for validation",
            corpus.name,
            corpus.train.len(),
            100.0 * count as f64 / total as f64,
            count as f64 / corpus.train.len() as f64,
            corpus.validation.len()
        );
    }
}

fn warn_of_balance(data: &TextData) {
    let Some(balance) = data.balance() else {
        return;
    };
    if balance.most > UNBALANCED * balance.count {
        eprintln!(
            "classes are unbalanced: the rarest, {:?}, has {} of {} ({:.2} %); accuracy says little then: look at macro-f1, or learn more \
             from rare classes by --set objective.loss.class_weights=balanced or --set objective.loss.focal_gamma=2",
            balance.rarest,
            balance.count,
            balance.total,
            100.0 * balance.count as f64 / balance.total as f64
        );
    }
}

impl<'a> About<'a> {
    fn of(recipe: &'a TextRecipe, data: &TextData) -> Self {
        Self {
            title: recipe.paper.as_ref().map(|paper| &*paper.title),
            metric: recipe.metric(),
            data: facts(data),
            recipe: recipe.to_toml(),
        }
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
