use anyhow::Context;
use cloze_train::analyse::Subject;
use cloze_train::analyse::lens::{Depth, Lens as Seen};
use serde_json::json;

use super::arguments::Lens;
use super::{Found, sequences};
use crate::{hub, table};

pub fn run(args: &Lens) -> anyhow::Result<()> {
    let device = args.common.compute.place()?.device();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (name, sequence) in sequences(&args.sequences, &subject)? {
        let lens = Seen::of(&subject, &sequence, args.word.as_deref())?;
        for place in &lens.places {
            let said = place.stream.iter().map(|said| {
                let top = said
                    .top
                    .iter()
                    .map(|(word, share)| format!("{word} {share:.2}"));
                let mut row = vec![
                    said.site.clone(),
                    format!("{:.3}", said.kl),
                    said.rank.to_string(),
                ];
                row.push(top.collect::<Vec<_>>().join("  "));
                row
            });
            let said: Vec<Vec<String>> = said.collect();
            text.extend([
                &*format!(
                    "{name}\n{} at {}: {}, {:.3}\n",
                    lens.tokens[place.at], place.at, place.word, place.share
                ),
                &table::plain(&["site", "kl", "rank", "would be said"], &said),
                "\n\n",
            ]);
        }
        all.push((name, lens));
    }
    let depth = Depth::of(all.iter().map(|(_, lens)| lens));
    let depth = depth.context("expected a place to look at, found none")?;
    // Of many places only what they have in common.
    if depth.places > PLACES {
        text.clear();
    }
    for (header, rows) in depth.tables() {
        text.extend([&*table::plain(&header, &rows), "\n\n"]);
    }
    for note in depth.notes() {
        text.extend([&*note, "\n"]);
    }
    let sequences = all
        .iter()
        .map(|(name, lens)| json!({ "sequence": name, "lens": lens }));
    let found = Found {
        what: "Lens",
        subtitle: format!(
            "what would be said after each layer; places looked at: {}",
            depth.places
        ),
        json: json!({ "model": args.model, "depth": depth, "sequences": sequences.collect::<Vec<_>>() }),
        text,
        parts: depth.parts(&all[..all.len().min(SEQUENCES)]),
    };
    found.show(&args.model, &args.common)
}

/// Places that are told one by one.
const PLACES: usize = 12;
/// Sequences that a page tells one by one.
const SEQUENCES: usize = 12;
