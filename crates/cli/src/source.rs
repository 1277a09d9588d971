//! From data options to a prepared data set.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use cloze_data::Dataset;
use cloze_data::dataset::prepare;
use cloze_data::records::Input;
use cloze_data::source::{BadRows, ReadReport};
use cloze_spec::Recipe;
use cloze_spec::data::{self, Csv, Interactions, Titles};
use cloze_spec::recipe::Document;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{Data, Format};

impl Format {
    fn settings(self, delimiter: Option<char>, header: bool) -> data::Format {
        let csv = |default| {
            data::Format::Csv(Csv {
                delimiter: delimiter.unwrap_or(default),
                header,
                ..Csv::default()
            })
        };
        match self {
            Self::Parquet => data::Format::Parquet,
            Self::Csv => csv(','),
            Self::Tsv => csv('\t'),
            Self::Jsonl => data::Format::Jsonl,
            Self::Pairs => data::Format::Pairs,
        }
    }
}

/// Refuses options that mean nothing to texts.
pub fn refuse_item_options(args: &Data) -> anyhow::Result<()> {
    for (name, is_given) in [
        ("--user", args.user.is_some()),
        ("--item", args.item.is_some()),
        ("--time", args.time.is_some()),
        ("--titles", args.titles.is_some()),
        ("--format", args.format.is_some()),
        ("--delimiter", args.delimiter.is_some()),
        ("--skip-bad-rows", args.skip_bad_rows),
    ] {
        if is_given {
            bail!("{name}: expected a recipe over items, found one over texts; leave it out");
        }
    }
    Ok(())
}

/// Puts the data options over the recipe's data.
pub fn apply(args: &Data, recipe: &mut Recipe) -> anyhow::Result<()> {
    let data::Data::Interactions(settings) = &mut recipe.data;
    if !args.files.is_empty() {
        settings.files.clone_from(&args.files);
    }
    let delimiter = args.delimiter.as_deref().map(delimiter).transpose()?;
    match args.format {
        Some(format) => settings.format = format.settings(delimiter, !args.no_header),
        None if delimiter.is_some() || args.no_header => {
            let comma = if is_tsv(settings) { '\t' } else { ',' };
            let csv = Csv {
                delimiter: delimiter.unwrap_or(comma),
                header: !args.no_header,
                ..Csv::default()
            };
            settings.format = data::Format::Csv(csv);
        }
        None => {}
    }
    let columns = &mut settings.columns;
    if let Some(user) = &args.user {
        columns.user.clone_from(user);
    }
    if let Some(item) = &args.item {
        columns.item.clone_from(item);
    }
    if args.time.is_some() {
        columns.time.clone_from(&args.time);
    }
    if let Some(titles) = &args.titles {
        let parts: Vec<&str> = titles.rsplitn(3, ',').collect();
        let [title, item, file] = parts[..] else {
            bail!(
                "--titles {titles}: expected FILE,ITEM_COLUMN,TITLE_COLUMN, found {} parts",
                parts.len()
            );
        };
        settings.titles = Some(Titles {
            file: PathBuf::from(file),
            item: item.to_owned(),
            title: title.to_owned(),
        });
    }
    Ok(recipe.validate("command line")?)
}

fn is_tsv(settings: &Interactions) -> bool {
    let name = settings
        .files
        .first()
        .map(|f| f.display().to_string())
        .unwrap_or_default();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "tsv")
}

fn delimiter(text: &str) -> anyhow::Result<char> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        ("\\t", ..) => Ok('\t'),
        (_, Some(one), None) => Ok(one),
        _ => bail!("--delimiter {text:?}: expected one character, or \\t for a tab"),
    }
}

/// Reads, filters and splits what the recipe names, with a bar on a terminal.
pub fn dataset(recipe: &Recipe, skip_bad_rows: bool) -> anyhow::Result<Dataset> {
    let data::Data::Interactions(settings) = &recipe.data;
    if settings.files.is_empty() {
        bail!(
            "the recipe names no data; name it with --data FILE (and --user, --item, --time for its columns)"
        );
    }
    let bad_rows = BadRows::skip_if(skip_bad_rows);
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(
        ProgressStyle::with_template("reading  {bar:30} {bytes}/{total_bytes}  {eta} left")
            .expect("a valid template"),
    );
    let result = prepare(settings, &[], bad_rows, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let dataset = result.context("reading interactions")?;
    warn_of_skipped(&dataset.report);
    Ok(dataset)
}

/// The first texts of a file, `most` at most.
pub fn texts(file: &Path, column: &str, most: usize) -> anyhow::Result<Vec<String>> {
    let input = Input {
        columns: vec![column.to_owned()],
        ..Input::new(file)
    };
    let mut texts = Vec::new();
    for chunk in input.read(0) {
        texts.extend(chunk?.into_iter().flat_map(|record| record.texts));
        if texts.len() >= most {
            break;
        }
    }
    texts.truncate(most);
    ensure!(
        !texts.is_empty(),
        "{}: expected texts, found none",
        file.display()
    );
    Ok(texts)
}

/// Tells of rows that could not be read, if there were any.
pub fn warn_of_skipped(report: &ReadReport) {
    if report.skipped == 0 {
        return;
    }
    eprintln!(
        "warning: {} of {} rows skipped; the first:",
        report.skipped, report.rows
    );
    for row in &report.first_skipped {
        eprintln!("  {row}");
    }
}
