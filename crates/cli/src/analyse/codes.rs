use anyhow::{Context, ensure};
use cloze_train::analyse::codes::{Codes as Seen, Detectors, Set, Steered};
use cloze_train::analyse::swap::Swaps;
use cloze_train::analyse::{Site, Subject};
use serde_json::{Map, Value, json};

use super::arguments::Codes;
use super::{Found, probe, sequences};
use crate::{hub, table};

/// Words that are told of what is said.
const TOP: usize = 5;

pub fn run(args: &Codes) -> anyhow::Result<()> {
    let device = args.common.compute.place()?.device();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let (mut text, mut json, mut parts) = (String::new(), Map::new(), Vec::new());
    let mut show = |(header, rows): (Vec<&str>, Vec<Vec<String>>), notes: &[String]| {
        text.extend([&*table::plain(&header, &rows), "\n"]);
        for note in notes {
            text.extend([&**note, "\n"]);
        }
        text.push('\n');
    };
    json.insert("model".to_owned(), json!(args.model));
    let what = if let Some(label) = &args.label {
        let files = args.sequences.data.as_slice();
        ensure!(
            !files.is_empty(),
            "--label {label}: expected a file that has it, found none; name one with --data"
        );
        let (texts, objective) = probe::asked(&probe::Labelled {
            data: files,
            test: &args.test,
            column: &args.sequences.column,
            pair: None,
            label,
            of: args.of,
        })?;
        let found = Detectors::of(&subject, &texts, &objective, args.seed)?;
        show(found.table(), &found.notes());
        parts.push(found.part());
        json.insert("detectors".to_owned(), json!(found));
        "what tells each label".to_owned()
    } else if args.swap {
        let all = sequences(&args.sequences, &subject)?;
        let all: Vec<_> = all.into_iter().map(|(_, sequence)| sequence).collect();
        let found = Swaps::of(&subject, &all, args.seed)?;
        show(found.table(), &found.notes());
        parts.push(found.part());
        let what = format!("what swapped codes make of {} sequences", found.swapped);
        json.insert("swaps".to_owned(), json!(found));
        what
    } else if args.set.is_empty() {
        let all = sequences(&args.sequences, &subject)?;
        let all: Vec<_> = all.into_iter().map(|(_, sequence)| sequence).collect();
        let found = Seen::of(&subject, &all)?;
        let tops = found.tops(args.site, args.code, args.top);
        ensure!(
            !tops.1.is_empty(),
            "--site, --code: expected a code that was chosen somewhere, found none; leave them out to see which were"
        );
        show(found.table(), &[]);
        show(tops.clone(), &[]);
        parts.extend(found.parts(tops));
        let what = format!("what codes are chosen for, of {} tokens", found.tokens);
        json.insert("codes".to_owned(), json!(found));
        what
    } else {
        let sets = args.set.iter().map(|text| set(text));
        let sets: Vec<Set> = sets.collect::<anyhow::Result<_>>()?;
        let mut all = Vec::new();
        for (name, sequence) in sequences(&args.sequences, &subject)? {
            let found = Steered::of(&subject, &sequence, &sets, TOP)?;
            show(found.table(), &[]);
            parts.push(found.part());
            all.push(json!({ "sequence": name, "steered": found }));
        }
        json.insert("sequences".to_owned(), Value::Array(all));
        format!("what is said with {} set", args.set.join(", "))
    };
    let found = Found {
        what: "Codes",
        subtitle: what,
        json: Value::Object(json),
        text,
        parts,
    };
    found.show(&args.model, &args.common)
}

/// `layer.1.ffn=17`, or `layer.1.ffn@3=17` at token 3.
fn set(text: &str) -> anyhow::Result<Set> {
    let expected = || {
        format!(
            "--set {text}: expected a site and a code, such as layer.1.ffn=17, or layer.1.ffn@3=17 at token 3"
        )
    };
    let (place, code) = text.split_once('=').with_context(expected)?;
    let (site, at) = match place.split_once('@') {
        Some((site, at)) => (site, Some(at.parse().ok().with_context(expected)?)),
        None => (place, None),
    };
    Ok(Set {
        site: site.parse::<Site>().ok().with_context(expected)?,
        at,
        code: code.parse().ok().with_context(expected)?,
    })
}
