//! `cloze analyse`: what a model does within.

pub mod arguments;
mod codes;
mod lens;
mod mixing;
mod pattern;
mod probe;
mod walk;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use cloze_spec::folder::write_atomically;
use cloze_train::analyse::{Sequence, Subject};
use cloze_train::report::analysis::{Page, Part};
use serde_json::Value;

use crate::eval::text::title;
use crate::source;
use arguments::{Analyse, Common, Kind, Sequences};

pub fn run(args: &Analyse) -> anyhow::Result<()> {
    match &args.kind {
        Kind::Codes(args) => codes::run(args),
        Kind::Lens(args) => lens::run(args),
        Kind::Mixing(args) => mixing::run(args),
        Kind::Pattern(args) => pattern::run(args),
        Kind::Probe(args) => probe::run(args),
        Kind::Walk(args) => walk::run(args),
    }
}

/// What an analysis found, in all its forms.
struct Found {
    /// What it is called, such as `mixing`.
    what: &'static str,
    /// What there is to know of it in a line.
    subtitle: String,
    json: Value,
    text: String,
    parts: Vec<Part>,
}

impl Found {
    /// Writes the page that was asked for, and prints.
    fn show(self, model: &Path, common: &Common) -> anyhow::Result<()> {
        if let Some(path) = &common.report {
            let page = Page {
                title: format!("{} of {}", self.what, title(model)),
                subtitle: self.subtitle,
                parts: self.parts,
                facts: vec![
                    ("model".to_owned(), model.display().to_string()),
                    ("Cloze".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ],
            };
            write_atomically(path, |file| file.write_all(page.html().as_bytes()))
                .with_context(|| path.display().to_string())?;
        }
        let mut out = std::io::stdout();
        if common.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&self.json)?)?;
        } else {
            write!(out, "{}", self.text)?;
            if let Some(path) = &common.report {
                writeln!(out, "page  {}", path.display())?;
            }
        }
        Ok(())
    }
}

/// The sequences of the command line, each with what it is.
fn sequences(args: &Sequences, subject: &Subject) -> anyhow::Result<Vec<(String, Sequence)>> {
    let most = args.max_tokens;
    let mut texts = args.texts.clone();
    if let Some(file) = &args.data {
        texts.extend(source::texts(file, &args.column, args.limit)?);
    }
    let is_given = !texts.is_empty() || !args.histories.is_empty();
    let (what, option) = if subject.is_of_texts() {
        ("a text", "--text or --data")
    } else {
        ("a history", "--items")
    };
    ensure!(
        is_given,
        "expected {what} to look at, found none; name one with {option}"
    );
    let mut all = Vec::new();
    for text in texts {
        let sequence = subject
            .text(&text, most)
            .with_context(|| format!("{text:?}"))?;
        all.push((text, sequence));
    }
    for history in &args.histories {
        let items = history
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty());
        let items: Vec<&str> = items.collect();
        let sequence = subject
            .history(&items, most)
            .with_context(|| format!("--items {history:?}"))?;
        all.push((history.clone(), sequence));
    }
    Ok(all)
}
