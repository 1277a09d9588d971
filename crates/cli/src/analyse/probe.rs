use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cloze_spec::text::{Objective, Texts};
use cloze_train::analyse::Subject;
use cloze_train::analyse::probe::Probed;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Found;
use super::arguments::{Probe, What};
use crate::{hub, table};

/// Share of the data that probes are judged by where there are no files for it.
const TEST: f64 = 0.25;
/// Files of words, where nothing is said.
const OF_WORDS: [&str; 4] = ["conll", "conllu", "bio", "iob"];

pub fn run(args: &Probe) -> anyhow::Result<()> {
    let device = args.common.compute.place()?.device();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let (texts, objective) = asked(&Labelled {
        data: &args.data,
        test: &args.test,
        column: &args.column,
        pair: args.pair.as_deref(),
        label: &args.label,
        of: args.of,
    })?;
    let bar = bar();
    let probed = Probed::of(&subject, &texts, &objective, args.seed, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let probed = probed?;
    let (header, rows) = probed.table();
    let mut text = table::plain(&header, &rows);
    for note in probed.notes() {
        text.extend(["\n", &*note]);
    }
    text.push('\n');
    let best = probed.best().map_or_else(String::new, |best| {
        format!(
            ", most at {}: {} {:.4}",
            best.site, probed.metric, best.read.value
        )
    });
    let what = if probed.labels.is_empty() {
        format!("a number, {}", args.label)
    } else {
        format!("{} labels of {}", probed.labels.len(), args.label)
    };
    let found = Found {
        what: "Probes",
        subtitle: format!("{what}, read off {} sites{best}", probed.sites.len()),
        json: json!({ "model": args.model, "data": args.data, "test": args.test, "seed": args.seed, "probes": probed }),
        text,
        parts: probed.parts(),
    };
    found.show(&args.model, &args.common)
}

/// Files with labels.
pub struct Labelled<'a> {
    pub data: &'a [PathBuf],
    pub test: &'a [PathBuf],
    pub column: &'a str,
    pub pair: Option<&'a str>,
    pub label: &'a str,
    pub of: Option<What>,
}

/// The files and what is read off them, as recipes say it.
pub fn asked(args: &Labelled<'_>) -> anyhow::Result<(Texts, Objective)> {
    let is_of_words = |file: &Path| {
        let name = file.to_string_lossy();
        let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
        OF_WORDS
            .iter()
            .any(|end| name.rsplit_once('.').is_some_and(|(_, own)| own == *end))
    };
    let usual = if args.data.iter().all(|file| is_of_words(file)) {
        What::Words
    } else {
        What::Texts
    };
    let objective = match args.of.unwrap_or(usual) {
        What::Texts => json!({ "kind": "sequence", "problem": "single-label" }),
        What::Numbers => json!({ "kind": "sequence", "problem": "regression" }),
        // Tags of stretches too are labels of words here.
        What::Words => json!({ "kind": "token", "tags": "words" }),
    };
    let texts = json!({
        "kind": "text",
        "files": args.data,
        "validation": args.test,
        "validation_share": TEST,
        "columns": { "text": args.column, "second": args.pair, "label": args.label },
    });
    let objective = serde_json::from_value(objective).context("what probes read")?;
    Ok((
        serde_json::from_value(texts).context("the files")?,
        objective,
    ))
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("probing {bar:30} {pos}/{len} sites  {eta} left");
    ProgressBar::new(0).with_style(style.expect("a valid template"))
}
