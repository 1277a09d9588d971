use anyhow::ensure;
use cloze_train::analyse::Subject;
use cloze_train::analyse::pattern::Pattern as Seen;
use serde_json::json;

use super::arguments::Pattern;
use super::{Found, sequences};
use crate::{hub, table};

pub fn run(args: &Pattern) -> anyhow::Result<()> {
    ensure!(
        args.hidden > 0.0 && args.hidden < 1.0,
        "--hidden: expected a share above 0 and below 1, found {}",
        args.hidden
    );
    let device = args.common.compute.place()?.device();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let all = sequences(&args.sequences, &subject)?.into_iter();
    let all: Vec<_> = all.map(|(_, sequence)| sequence).collect();
    let pattern = Seen::of(&subject, &all, args.hidden, args.seed)?;
    let (header, rows) = pattern.table();
    let mut text = table::plain(&header, &rows) + "\n";
    for note in pattern.notes() {
        text.extend([&*note, "\n"]);
    }
    let found = Found {
        what: "Pattern",
        subtitle: format!("what its own shares are worth; hidden: {}", pattern.words),
        json: json!({ "model": args.model, "pattern": pattern }),
        text,
        parts: vec![pattern.part()],
    };
    found.show(&args.model, &args.common)
}
