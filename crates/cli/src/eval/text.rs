//! Encoders of texts beside each other, and beside what is simpler.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use cloze_data::text::examples::Examples;
use cloze_data::text::learn::{Corpus, Part};
use cloze_spec::TextRecipe;
use cloze_spec::folder::RECIPE;
use cloze_spec::recipe::{Any, Source};
use cloze_spec::text::{Objective, lower_is_better};
use cloze_train::Place;
use cloze_train::metric::mcnemar::{McNemar, mcnemar};
use cloze_train::report::scores::{self, Scores};
use cloze_train::text::Trained;
use cloze_train::text::baseline::Baselines;
use cloze_train::text::judge::Judged;
use serde_json::{Map, Value, json};

use crate::arguments::{self, Eval};
use crate::{source, table};

/// Draws of texts for an interval.
const DRAWS: u64 = 1000;

pub fn run(args: &Eval, recipe: TextRecipe, place: Place) -> anyhow::Result<()> {
    source::refuse_item_options(&args.data)?;
    if recipe
        .data
        .folds
        .as_ref()
        .is_some_and(|folds| folds.only.is_none())
    {
        bail!(
            "{0}: expected one model, found several of a cross-validation; name one of them, such as {0}/fold-1",
            args.model.display()
        );
    }
    let mut texts = recipe.data.clone();
    texts.header &= !args.data.no_header;
    let seed = recipe.seed;
    let part = match args.part {
        _ if !args.data.files.is_empty() => Part::Files(&args.data.files),
        arguments::Part::Validation => Part::Validation,
        arguments::Part::Test => Part::Test,
    };
    let name = match part {
        Part::Files(_) => "given".to_owned(),
        _ if texts.test.is_empty() && texts.folds.is_none() => "validation".to_owned(),
        _ => format!("{:?}", args.part).to_lowercase(),
    };
    let device = place.device();
    let own = Trained::open(&args.model, recipe, &device)?;
    let examples = Arc::new(own.part(&texts, seed, part)?);
    let mut all = Vec::new();
    let mut add = |name: String, trained: &Trained, examples: &Examples, predictions| {
        let judged = Judged::new(trained.aim().labels, examples, predictions)?;
        all.push((name, judged));
        anyhow::Ok(())
    };
    let predictions = own.predictions(&examples)?;
    add(title(&args.model), &own, &examples, predictions)?;
    for folder in &args.others {
        let other = Trained::open(folder, read(folder)?, &device)?;
        let kind = |trained: &Trained| trained.recipe().objective().metrics();
        if kind(&other) != kind(&own) {
            bail!(
                "{}: expected a model that predicts what {} does, found another",
                folder.display(),
                args.model.display()
            );
        }
        let examples = Arc::new(other.part(&texts, seed, part)?);
        let predictions = other.predictions(&examples)?;
        add(title(folder), &other, &examples, predictions)?;
    }
    if !args.no_baselines {
        let train = own.part(&texts, seed, Part::Train).context(
            "the baselines learn from the training texts; leave them out by --no-baselines",
        )?;
        for (name, predictions) in Baselines::fit(own.aim(), &train)?.predict(own.aim(), &examples)
        {
            add(name.to_owned(), &own, &examples, predictions)?;
        }
    }
    let results = Results::new(&name, own.recipe(), all);
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&results.json())?)?;
    } else {
        writeln!(out, "{}", results.text())?;
    }
    Ok(())
}

/// The recipe of a folder that was trained on texts.
fn read(folder: &Path) -> anyhow::Result<TextRecipe> {
    let saved = Source::read(&folder.join(RECIPE))
        .with_context(|| format!("{} is no model folder of cloze train", folder.display()))?;
    match Any::parse(&saved, |_| None, &[])? {
        Any::Text(recipe) => Ok(*recipe),
        Any::Items(_) => bail!(
            "{}: expected a model of texts, found one of items",
            folder.display()
        ),
    }
}

/// What a model is called in tables: its folder's name.
pub fn title(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    name.to_string_lossy().into_owned()
}

/// How models did on one part, the one that it is about first.
pub struct Results {
    part: String,
    /// What is counted, such as `texts`.
    unit: &'static str,
    /// The metric that decides.
    metric: String,
    seed: u64,
    rows: Vec<Row>,
    /// The first model on each corpus, where there are several.
    corpora: Vec<OnCorpus>,
}

struct OnCorpus {
    name: String,
    /// Texts, sentences or questions.
    count: usize,
    /// None where nothing is counted.
    metrics: Vec<(String, f64)>,
}

struct Row {
    name: String,
    judged: Judged,
    metrics: Vec<(String, f64)>,
    /// Interval of the metric that decides.
    interval: Option<(f64, f64)>,
}

impl Results {
    pub fn new(part: &str, recipe: &TextRecipe, all: Vec<(String, Judged)>) -> Self {
        let (metric, seed) = (recipe.metric().to_owned(), recipe.seed);
        let rows = all.into_iter().map(|(name, judged)| Row {
            metrics: judged.metrics(),
            interval: judged.interval(&metric, DRAWS, seed),
            name,
            judged,
        });
        Self {
            part: part.to_owned(),
            unit: match recipe.objective() {
                Objective::MaskedToken(_)
                | Objective::ReplacedToken(_)
                | Objective::Position(_)
                | Objective::Sequence(_)
                | Objective::Transcript(_) => "texts",
                Objective::Token(_) => "sentences",
                Objective::Span(_) => "questions",
            },
            rows: rows.collect(),
            metric,
            seed,
            corpora: Vec::new(),
        }
    }

    /// Tells of each corpus by itself too.
    pub fn by_corpus(&mut self, corpora: &[Corpus]) {
        let judged = &self.rows[0].judged;
        let own = corpora.iter().map(|corpus| OnCorpus {
            name: corpus.name.clone(),
            count: corpus.validation.len(),
            metrics: judged.part(corpus.validation.clone()),
        });
        self.corpora = own.collect();
    }

    /// The metrics of the first model.
    pub fn own(&self) -> Value {
        let mut own = self.rows[0].json();
        if !self.corpora.is_empty() {
            let corpora = self.corpora.iter();
            let corpora = corpora.map(|of| (of.name.clone(), object(&of.metrics)));
            own["corpora"] = Value::Object(corpora.collect());
        }
        own
    }

    /// The metrics of the others, by their names.
    pub fn others(&self) -> Value {
        let others = self.rows[1..].iter();
        Value::Object(others.map(|row| (row.name.clone(), row.json())).collect())
    }

    fn subtitle(&self) -> String {
        let count = self.rows[0].judged.len();
        format!("{} part, {count} {}", self.part, self.unit)
    }

    /// The metric that decides and its interval first.
    fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let first = self.rows[0].metrics.iter().map(|(name, _)| name);
        let others = first.filter(|name| **name != self.metric);
        let mut header = vec!["model".to_owned(), self.metric.clone()];
        header.extend(["low", "high"].map(str::to_owned));
        header.extend(others.cloned());
        let four = |value: f64| format!("{value:.4}");
        let rows = self.rows.iter().map(|row| {
            let ends = row.interval.map(|(low, high)| [low, high].map(four));
            let ends = ends.unwrap_or_else(|| ["–", "–"].map(str::to_owned));
            let others = row.metrics.iter();
            let others = others.filter(|(name, _)| *name != self.metric);
            [row.name.clone(), four(row.value(&self.metric))]
                .into_iter()
                .chain(ends)
                .chain(others.map(|(_, value)| four(*value)))
                .collect()
        });
        (header, rows.collect())
    }

    /// The first model on each corpus.
    fn corpora(&self) -> Option<(Vec<String>, Vec<Vec<String>>)> {
        let first = &self.corpora.iter().find(|of| of.count > 0)?.metrics;
        let mut header = vec!["corpus".to_owned(), self.unit.to_owned()];
        header.extend(first.iter().map(|(name, _)| name.clone()));
        let rows = self.corpora.iter().map(|of| {
            let values = (0..first.len()).map(|at| {
                let value = of.metrics.get(at);
                value.map_or("–".to_owned(), |(_, value)| format!("{value:.4}"))
            });
            [of.name.clone(), of.count.to_string()]
                .into_iter()
                .chain(values)
                .collect()
        });
        Some((header, rows.collect()))
    }

    /// The first model against each other: which texts only one of them has right.
    fn tests(&self) -> Vec<(&str, McNemar)> {
        let own = &self.rows[0].judged.is_correct;
        let others = self.rows[1..].iter();
        others
            .filter_map(|row| {
                let test = mcnemar(own.as_ref()?, row.judged.is_correct.as_ref()?);
                Some((&*row.name, test))
            })
            .collect()
    }

    /// What must be known to read the numbers.
    fn notes(&self) -> Vec<String> {
        let tests = self.tests().into_iter().map(|(name, test)| {
            format!(
                "only {} is right on {}, only {name} on {}: McNemar's exact test p = {:.4}",
                self.rows[0].name, test.only_first, test.only_second, test.exact_p
            )
        });
        let interval = format!(
            "low and high: 95 % of {} by bootstrap, {DRAWS} draws, seed {}",
            self.metric, self.seed
        );
        tests.chain([interval]).collect()
    }

    pub fn text(&self) -> String {
        let (header, rows) = self.table();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut text = format!("{}\n{}\n", self.subtitle(), table::plain(&header, &rows));
        if let Some((header, rows)) = self.corpora() {
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            text.extend([&*table::plain(&header, &rows), "\n"]);
        }
        for note in self.notes() {
            text.extend([&*note, "\n"]);
        }
        text
    }

    fn json(&self) -> Value {
        let models = self.rows.iter().map(|row| {
            let mut json = json!({ "model": row.name, "metrics": row.json() });
            if let Some((low, high)) = row.interval {
                json["interval"] = json!({ "low": low, "high": high });
            }
            json
        });
        let tests = self.tests().into_iter();
        let tests: Map<String, Value> = tests
            .map(|(name, test)| (name.to_owned(), json!(test)))
            .collect();
        json!({
            "part": self.part,
            self.unit: self.rows[0].judged.len(),
            "metric": self.metric,
            "models": models.collect::<Vec<_>>(),
            "mcnemar": tests,
            "bootstrap": { "draws": DRAWS, "seed": self.seed },
        })
    }

    /// The same for a page; `labels` are names of classes.
    pub fn scores(&self, labels: &[String]) -> Scores {
        let (header, rows) = self.table();
        let own = &self.rows[0];
        let value = own.value(&self.metric);
        let ends = own.interval.map_or(String::new(), |(low, high)| {
            format!(", 95 % {low:.4} to {high:.4}")
        });
        let mut headline = vec![(
            self.metric.clone(),
            format!("{value:.4}"),
            format!("{} part{ends}", self.part),
        )];
        let lower = lower_is_better(&self.metric);
        let rival = self.rows[1..].iter().reduce(|best, row| {
            let (a, b) = (row.value(&self.metric), best.value(&self.metric));
            if (lower && a < b) || (!lower && a > b) {
                row
            } else {
                best
            }
        });
        headline.extend(rival.map(|rival| {
            let gain = value - rival.value(&self.metric);
            let note = format!("{}, the best of the others", self.metric);
            (
                format!("Against {}", rival.name),
                format!("{gain:+.4}"),
                note,
            )
        }));
        // A title begins with a capital letter.
        let mut subtitle = self.subtitle();
        if let Some(first) = subtitle.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let mut tables = vec![scores::Table {
            title: subtitle,
            header,
            rows,
            leads: true,
        }];
        tables.extend(self.corpora().map(|(header, rows)| scores::Table {
            title: "By corpus".to_owned(),
            header,
            rows,
            leads: false,
        }));
        Scores {
            headline,
            tables,
            notes: self.notes(),
            confusion: own
                .judged
                .confusion
                .as_ref()
                .map(|confusion| (labels.to_vec(), confusion.clone())),
            reliability: own.judged.reliability.clone(),
        }
    }
}

impl Row {
    fn value(&self, metric: &str) -> f64 {
        let own = self.metrics.iter().find(|(name, _)| name == metric);
        own.map_or(f64::NAN, |(_, value)| *value)
    }

    fn json(&self) -> Value {
        object(&self.metrics)
    }
}

fn object(metrics: &[(String, f64)]) -> Value {
    let metrics = metrics.iter();
    Value::Object(
        metrics
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect(),
    )
}
