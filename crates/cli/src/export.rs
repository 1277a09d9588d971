use std::path::Path;

use anyhow::ensure;
use cloze_runtime::export::export;
use cloze_runtime::model::Checkpoint;
use cloze_runtime::predict::FEATURES;
use cloze_runtime::weights::Precision;
use cloze_spec::hugging_face::Folder;

use crate::arguments::{Export, Stored};

pub fn run(args: &Export) -> anyhow::Result<()> {
    let folder: &Path = &args.model;
    ensure!(
        !folder.join(FEATURES).is_file(),
        "{}: expected an encoder, found a classifier on features, which Cloze alone reads; copy the folder",
        folder.display()
    );
    ensure!(
        !folder.is_dir() || Folder::is_at(folder),
        "{}: expected an encoder of texts, found a recommender, whose folder Cloze alone reads; copy it",
        folder.display()
    );
    let checkpoint = Checkpoint::open(folder)?;
    let precision = args.weights.map(|stored| match stored {
        Stored::F32 => Precision::F32,
        Stored::F16 => Precision::F16,
        Stored::Bf16 => Precision::Bf16,
    });
    let written = export(&checkpoint, precision, &args.output)?;
    for file in &written.files {
        println!("{}", args.output.join(file).display());
    }
    let kinds: Vec<&str> = written.kinds.keys().map(String::as_str).collect();
    println!(
        "{} tensors of {}, {} bytes, in {}",
        written.tensors,
        kinds.join(" and "),
        written.bytes(),
        args.output.display()
    );
    Ok(())
}
