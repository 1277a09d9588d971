use cloze_train::analyse::Subject;
use cloze_train::analyse::mixing::Mixing as Mixed;
use serde_json::json;

use super::arguments::Mixing;
use super::{Found, sequences};
use crate::{hub, table};

pub fn run(args: &Mixing) -> anyhow::Result<()> {
    let device = args.common.compute.place()?.device().autodiff();
    let model = hub::folder(&args.model, &args.common.by_name)?;
    let subject = Subject::open(&model, &device)?;
    let (mut text, mut json, mut parts) = (String::new(), Vec::new(), Vec::new());
    let sequences = sequences(&args.sequences, &subject)?;
    for (name, sequence) in &sequences {
        let mixed = Mixed::of(&subject, sequence, args.influence)?;
        let (header, rows) = mixed.table();
        text.extend([&**name, "\n", &table::plain(&header, &rows), "\n\n"]);
        parts.extend(mixed.parts(name));
        json.push(json!({ "sequence": name, "mixing": mixed }));
    }
    let found = Found {
        what: "Mixing",
        subtitle: format!(
            "what each token takes of each, in {} layers",
            subject.layers()
        ),
        json: json!({ "model": args.model, "sequences": json }),
        text,
        parts,
    };
    found.show(&args.model, &args.common)
}
