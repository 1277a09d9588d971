//! `cloze predict`: by the model's folder, items for histories or what a text encoder's head says of texts.

mod items;
mod report;
mod texts;

use anyhow::ensure;
use cloze_spec::hugging_face::Folder;

use crate::arguments::Predict;

pub fn run(args: &Predict) -> anyhow::Result<()> {
    ensure!(args.top != Some(0), "--top 0: expected at least 1");
    let folder = args.model.display();
    ensure!(
        args.model.is_dir(),
        "{folder}: expected a model folder, found none"
    );
    let is_of_texts = Folder::is_at(&args.model);
    let (given, kind) = if is_of_texts {
        (args.histories.given(), "a text encoder")
    } else {
        (args.texts.given(), "a model of items")
    };
    ensure!(
        given.is_empty(),
        "{folder}: {kind} takes no {}; leave it out",
        given.join(", ")
    );
    if is_of_texts {
        texts::run(args)
    } else {
        items::run(args)
    }
}
