use anyhow::Context;
use cloze_train::analyse::Subject;
use cloze_train::analyse::walk::{MOVED, Walk as Seen, Walks};
use serde_json::json;

use super::arguments::Walk;
use super::{Found, sequences};
use crate::{hub, table};

/// Sequences of which it is told who moved whom, and that a page draws.
const SEQUENCES: usize = 8;

pub fn run(args: &Walk) -> anyhow::Result<()> {
    let device = args.common.compute.place()?.device();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (name, sequence) in sequences(&args.sequences, &subject)? {
        let walk = Seen::of(&subject, &sequence, all.len() < SEQUENCES)?;
        let (header, rows) = walk.table();
        if !rows.is_empty() {
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            text.extend([&*name, "\n", &table::plain(&header, &rows), "\n\n"]);
        }
        all.push((name, walk));
    }
    if !text.is_empty() {
        text.extend([MOVED, "\n\n"]);
    }
    let walks = Walks::of(all.iter().map(|(_, walk)| walk));
    let walks = walks.context("expected a place to look at, found none")?;
    let (header, rows) = walks.table();
    text.extend([&*table::plain(&header, &rows), "\n"]);
    for note in walks.notes() {
        text.extend([&*note, "\n"]);
    }
    let each = all
        .iter()
        .map(|(name, walk)| json!({ "sequence": name, "walk": walk }));
    let found = Found {
        what: "Walks",
        subtitle: format!(
            "how vectors move along the layers; places looked at: {}",
            walks.places
        ),
        json: json!({ "model": args.model, "walks": walks, "sequences": each.collect::<Vec<_>>() }),
        text,
        parts: walks.parts(&all[..all.len().min(SEQUENCES)]),
    };
    found.show(&args.model, &args.common)
}
