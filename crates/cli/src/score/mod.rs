//! `cloze score`: how good predictions are, whatever made them.

mod answers;
pub mod arguments;
mod classification;
mod entities;
mod generation;
mod input;
mod multilabel;
mod perplexity;
mod regression;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cloze_spec::folder::write_atomically;
use cloze_train::metric::bootstrap::intervals;
use cloze_train::metric::calibration::Bin;
use cloze_train::metric::classification::Confusion;
use cloze_train::metric::counts::{Counts, Prf};
use cloze_train::metric::mcnemar::{McNemar, mcnemar};
use cloze_train::report::scores;
use serde_json::{Value, json};

use crate::table;
use arguments::{Common, Kind, Score};

/// Draws of a comparison where the command line says nothing of them.
const DRAWS: u64 = 1000;

/// Metrics over the examples at some indices.
type Values = dyn Fn(&[usize]) -> Vec<f64> + Sync;

/// The predictions of one system, judged.
struct Judged {
    /// What is counted, such as `examples`.
    unit: &'static str,
    count: usize,
    /// The metrics.
    names: Vec<String>,
    /// Their values over the examples at these indices; NaN where undefined.
    values: Box<Values>,
    /// Whether each example is right, where that can be said.
    is_correct: Option<Vec<bool>>,
    tables: Vec<Table>,
    /// The classes, and how often each was taken for each.
    confusion: Option<(Vec<String>, Confusion)>,
    reliability: Vec<Bin>,
}

impl Judged {
    /// Metrics alone.
    fn new(
        unit: &'static str,
        count: usize,
        names: &[&str],
        values: impl Fn(&[usize]) -> Vec<f64> + Sync + 'static,
    ) -> Self {
        Self {
            unit,
            count,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            values: Box::new(values),
            is_correct: None,
            tables: Vec::new(),
            confusion: None,
            reliability: Vec::new(),
        }
    }
}

/// Numbers of parts, such as each class.
struct Table {
    /// What the rows are, such as `class`.
    of: &'static str,
    header: &'static [&'static str],
    rows: Vec<(String, Vec<Number>)>,
}

#[derive(Clone, Copy)]
enum Number {
    Count(u64),
    Share(f64),
}

/// A metric with what is known of it.
struct Row {
    name: String,
    value: f64,
    interval: Option<(f64, f64)>,
    other: Option<Other>,
}

/// The same metric of another system.
struct Other {
    value: f64,
    /// Interval of the difference.
    interval: Option<(f64, f64)>,
}

pub fn run(args: &Score) -> anyhow::Result<()> {
    let (common, kind) = match &args.kind {
        Kind::Classification(args) => (&args.common, "classification"),
        Kind::Multilabel(args) => (&args.common, "multilabel"),
        Kind::Regression(args) => (&args.common, "regression"),
        Kind::Entities(args) => (&args.common, "entities"),
        Kind::Answers(args) => (&args.common, "answers"),
        Kind::Generation(args) => (&args.common, "generation"),
        Kind::Perplexity(args) => (&args.common, "perplexity"),
    };
    let judge = |path: &Path| match &args.kind {
        Kind::Classification(args) => classification::judge(args, path),
        Kind::Multilabel(args) => multilabel::judge(args, path),
        Kind::Regression(args) => regression::judge(args, path),
        Kind::Entities(args) => entities::judge(args, path),
        Kind::Answers(args) => answers::judge(args, path),
        Kind::Generation(args) => generation::judge(args, path),
        Kind::Perplexity(args) => perplexity::judge(args, path),
    };
    anyhow::ensure!(
        common.bootstrap != Some(0),
        "--bootstrap 0: expected at least 1"
    );
    let own = judge(&common.predictions)?;
    let other = common.against.as_deref().map(judge).transpose()?;
    if let (Some(other), Some(path)) = (&other, &common.against) {
        anyhow::ensure!(
            own.count == other.count,
            "{}: expected {} {}, as in {}, found {}",
            path.display(),
            own.count,
            own.unit,
            common.predictions.display(),
            other.count
        );
        // Two classes have other metrics than three.
        anyhow::ensure!(
            own.names == other.names,
            "{}: expected the classes that {} has, found others; name them all with --classes",
            path.display(),
            common.predictions.display()
        );
    }
    let rows = rows(common, &own, other.as_ref());
    let test = other.as_ref().and_then(|other| {
        Some(mcnemar(
            own.is_correct.as_ref()?,
            other.is_correct.as_ref()?,
        ))
    });
    if let Some(path) = &common.report {
        let page = page(common, kind, &own, &rows, test);
        write_atomically(path, |file| file.write_all(page.html().as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    let mut out = std::io::stdout();
    if common.json {
        let json = as_json(common, kind, &own, &rows, test);
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
    } else {
        write!(out, "{}", as_text(common, &own, &rows, test))?;
    }
    Ok(())
}

/// The metrics over all examples, with intervals where they were asked for.
fn rows(common: &Common, own: &Judged, other: Option<&Judged>) -> Vec<Row> {
    let all: Vec<usize> = (0..own.count).collect();
    let values = (own.values)(&all);
    let others = other.map(|other| (other.values)(&all));
    let width = values.len();
    let draws = match (common.bootstrap, other) {
        (Some(draws), _) => draws,
        (None, Some(_)) => DRAWS,
        (None, None) => 0,
    };
    let mut found = intervals(own.count, draws, common.seed, |draw| {
        let mut values = (own.values)(draw);
        if let Some(other) = other {
            let differences = (other.values)(draw);
            let differences = values.iter().zip(differences).map(|(a, b)| a - b);
            values.extend(differences.collect::<Vec<_>>());
        }
        values
    });
    found.resize(2 * width, None);
    let rows = own.names.iter().zip(values).enumerate();
    rows.map(|(index, (name, value))| Row {
        name: name.clone(),
        value,
        interval: found[index],
        other: others.as_ref().map(|others| Other {
            value: others[index],
            interval: found[width + index],
        }),
    })
    .collect()
}

fn four(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else {
        format!("{value:.4}")
    }
}

impl Number {
    fn text(self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Share(value) => four(value),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Count(count) => json!(count),
            Self::Share(value) => json!(value),
        }
    }
}

/// The header and the rows of the table of metrics.
fn metric_table(common: &Common, rows: &[Row]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let with_interval = rows.iter().any(|row| row.interval.is_some());
    let mut header = vec!["metric", "value"];
    if with_interval {
        header.extend(["low", "high"]);
    }
    if common.against.is_some() {
        header.extend(["against", "difference", "low", "high"]);
    }
    let ends = |interval: Option<(f64, f64)>| {
        let (low, high) = interval.unwrap_or((f64::NAN, f64::NAN));
        [four(low), four(high)]
    };
    let rows = rows.iter().map(|row| {
        let mut cells = vec![row.name.clone(), four(row.value)];
        if with_interval {
            cells.extend(ends(row.interval));
        }
        if let Some(other) = &row.other {
            cells.extend([four(other.value), four(row.value - other.value)]);
            cells.extend(ends(other.interval));
        }
        cells
    });
    (header, rows.collect())
}

impl Table {
    fn header(&self) -> Vec<&'static str> {
        [&[self.of], self.header].concat()
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let rows = self.rows.iter().map(|(name, numbers)| {
            let numbers = numbers.iter().map(|number| number.text());
            std::iter::once(name.clone()).chain(numbers).collect()
        });
        rows.collect()
    }

    /// Precision, recall, F1 and support of each part.
    fn of_counts<'a>(of: &'static str, parts: impl Iterator<Item = (&'a String, Counts)>) -> Self {
        let rows = parts.map(|(name, counts)| {
            let Prf {
                precision,
                recall,
                f1,
            } = counts.prf();
            let mut numbers: Vec<Number> = [precision, recall, f1].map(Number::Share).to_vec();
            numbers.extend([
                Number::Count(counts.support),
                Number::Count(counts.predicted),
            ]);
            (name.clone(), numbers)
        });
        Self {
            of,
            header: &["precision", "recall", "f1", "support", "predicted"],
            rows: rows.collect(),
        }
    }
}

/// Classes beyond this make the matrix too wide to read.
const MAX_MATRIX: usize = 12;

fn as_text(common: &Common, own: &Judged, rows: &[Row], test: Option<McNemar>) -> String {
    let mut text = format!("{} {}\n", own.count, own.unit);
    let mut add = |title: &str, header: &[&str], rows: &[Vec<String>]| {
        if !title.is_empty() {
            text.extend(["\n", title, "\n"]);
        }
        text.push_str(&table::plain(header, rows));
        text.push('\n');
    };
    let (header, cells) = metric_table(common, rows);
    add("", &header, &cells);
    for part in &own.tables {
        add(&format!("by {}", part.of), &part.header(), &part.cells());
    }
    if let Some((classes, confusion)) = &own.confusion
        && classes.len() <= MAX_MATRIX
    {
        let header: Vec<&str> = std::iter::once("true \\ predicted")
            .chain(classes.iter().map(String::as_str))
            .collect();
        let rows = classes.iter().enumerate().map(|(label, name)| {
            let counts = (0..classes.len()).map(|other| confusion.count(label, other).to_string());
            std::iter::once(name.clone()).chain(counts).collect()
        });
        add("confusion", &header, &rows.collect::<Vec<_>>());
    }
    text.extend(
        notes(common, rows, test)
            .into_iter()
            .map(|note| format!("\n{note}\n")),
    );
    text
}

/// What must be known to read the numbers.
fn notes(common: &Common, rows: &[Row], test: Option<McNemar>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(test) = test {
        let chi = match (test.chi_squared, test.chi_squared_p) {
            (Some(value), Some(p)) => {
                format!("; chi-squared with continuity correction {value:.3}, p = {p:.4}")
            }
            _ => String::new(),
        };
        notes.push(format!(
            "only these are right in {}, only the others in {}: McNemar's exact test p = {:.4}{chi}",
            test.only_first, test.only_second, test.exact_p
        ));
    }
    let has_interval = |row: &Row| {
        row.interval.is_some()
            || row
                .other
                .as_ref()
                .is_some_and(|other| other.interval.is_some())
    };
    if rows.iter().any(has_interval) {
        notes.push(format!(
            "low and high: 95 % by bootstrap, {} draws, seed {}",
            common.bootstrap.unwrap_or(DRAWS),
            common.seed
        ));
    }
    notes
}

fn as_json(
    common: &Common,
    kind: &str,
    own: &Judged,
    rows: &[Row],
    test: Option<McNemar>,
) -> Value {
    let mut json = json!({
        "kind": kind,
        "predictions": common.predictions.display().to_string(),
        own.unit: own.count,
    });
    let interval = |of: &mut Value, interval: Option<(f64, f64)>| {
        if let Some((low, high)) = interval {
            of["low"] = json!(low);
            of["high"] = json!(high);
        }
    };
    for row in rows {
        let mut value = json!({ "value": row.value });
        interval(&mut value, row.interval);
        json["metrics"][&row.name] = value;
        if let Some(other) = &row.other {
            let mut value = json!({ "value": other.value, "difference": row.value - other.value });
            interval(&mut value, other.interval);
            json["against"]["metrics"][&row.name] = value;
        }
    }
    if let Some(against) = &common.against {
        json["against"]["predictions"] = json!(against.display().to_string());
        if let Some(test) = test {
            json["against"]["mcnemar"] = json!(test);
        }
    }
    if common.bootstrap.is_some() || common.against.is_some() {
        json["bootstrap"] =
            json!({ "draws": common.bootstrap.unwrap_or(DRAWS), "seed": common.seed });
    }
    for table in &own.tables {
        for (name, numbers) in &table.rows {
            for (column, number) in table.header.iter().zip(numbers) {
                json[format!("by_{}", table.of)][name][*column] = number.json();
            }
        }
    }
    if let Some((classes, confusion)) = &own.confusion {
        let count = |label| (0..classes.len()).map(move |other| confusion.count(label, other));
        let counts: Vec<Vec<u64>> = (0..classes.len())
            .map(|label| count(label).collect())
            .collect();
        json["confusion"] = json!({ "classes": classes, "counts": counts });
    }
    if !own.reliability.is_empty() {
        json["reliability"] = json!(own.reliability);
    }
    json
}

fn page(
    common: &Common,
    kind: &str,
    own: &Judged,
    rows: &[Row],
    test: Option<McNemar>,
) -> scores::Page {
    let table = |title: String, header: Vec<&str>, rows: Vec<Vec<String>>| scores::Table {
        title,
        header: header.into_iter().map(str::to_owned).collect(),
        rows,
        leads: false,
    };
    let (header, cells) = metric_table(common, rows);
    let mut tables = vec![table("Metrics".to_owned(), header, cells)];
    tables.extend(
        own.tables
            .iter()
            .map(|part| table(format!("By {}", part.of), part.header(), part.cells())),
    );
    let mut facts = vec![(
        "predictions".to_owned(),
        common.predictions.display().to_string(),
    )];
    let references = common
        .references
        .iter()
        .map(|file| ("references".to_owned(), file.display().to_string()));
    facts.extend(references);
    facts.extend(
        common
            .against
            .iter()
            .map(|file| ("against".to_owned(), file.display().to_string())),
    );
    scores::Page {
        title: format!("{}: {kind}", common.predictions.display()),
        subtitle: format!("{} {}", own.count, own.unit),
        scores: scores::Scores {
            headline: Vec::new(),
            tables,
            notes: notes(common, rows, test),
            confusion: own.confusion.clone(),
            reliability: own.reliability.clone(),
        },
        facts,
    }
}
