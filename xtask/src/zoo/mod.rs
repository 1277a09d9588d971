//! `cargo x zoo`: the table of recipes in `recipes/README.md`, and the checks of recipes with what came out of them.

mod check;
mod claim;
mod compare;
mod grey;
mod machine;
mod make;
mod puzzle;
mod report;
mod run;
mod sound;
mod taste;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cloze_spec::recipe::{Any, Source};
use toml::Value;

use check::{Check, Outcome};

use crate::structure::recipe_folders;
use crate::workspace::{entries, file_name, read, root, shown};

/// The lines before and after the table of recipes.
const ZOO: [&str; 2] = ["<!-- begin: cargo x zoo -->", "<!-- end: cargo x zoo -->"];
/// Those around what came out of a recipe's check.
const CHECK: [&str; 2] = [
    "<!-- begin: cargo x zoo run -->",
    "<!-- end: cargo x zoo run -->",
];
const HEADING: &str = "# Recipes\n\nOne folder per published system, data only.\n";

/// Rewrite the table of recipes in recipes/README.md, and what came out of their checks in their pages.
///
/// Tables stand between two comments; the words around them are kept.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; fail when a table is not what the recipes say.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(run::Arguments),
    Compare(compare::Arguments),
}

/// Runs a check, or writes or checks the tables.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Some(Command::Run(arguments)) => run::run(arguments),
        Some(Command::Compare(arguments)) => compare::run(arguments),
        None if arguments.check => check(root()),
        None => write(),
    }
}

/// Writes the tables.
fn write() -> Result<()> {
    for Page { path, is, wanted } in pages(root())? {
        if is.as_deref() != Some(wanted.as_str()) {
            fs::write(&path, wanted)
                .with_context(|| format!("{}: cannot be written", shown(&path)))?;
        }
    }
    Ok(())
}

/// Whether the tables are what the recipes say.
///
/// # Errors
/// When one is not, or when a recipe cannot be read.
pub fn check(root: &Path) -> Result<()> {
    for Page { path, is, wanted } in pages(root)? {
        if is.as_deref() != Some(wanted.as_str()) && root.join("recipes").is_dir() {
            bail!(
                "{}: the table differs from the recipes; run `cargo x zoo`",
                shown(&path)
            )
        }
    }
    Ok(())
}

/// A page with a table.
struct Page {
    path: PathBuf,
    /// As it is, if it is.
    is: Option<String>,
    /// As it should be.
    wanted: String,
}

/// The page of recipes, and those of recipes whose check was run.
fn pages(root: &Path) -> Result<Vec<Page>> {
    let existing = |path: &Path| path.is_file().then(|| read(path)).transpose();
    let path = root.join("recipes/README.md");
    let mut rows = Vec::new();
    let mut pages = Vec::new();
    for folder in recipe_folders(root)? {
        let mut row = row(root, &folder)?;
        if let Some(check) = Check::read(&folder)? {
            let outcome = Outcome::read(&folder, &check)?;
            row.check = outcome
                .as_ref()
                .map_or("not run".to_owned(), Outcome::score);
            let path = folder.join("README.md");
            let is = existing(&path)?;
            let wanted = with_table(
                is.as_deref().unwrap_or_default(),
                CHECK,
                &measured(&row.name, &check, outcome.as_ref()),
            )
            .with_context(|| shown(&path))?;
            pages.push(Page { path, is, wanted });
        }
        rows.push(row);
    }
    let is = existing(&path)?;
    let wanted = with_table(is.as_deref().unwrap_or(HEADING), ZOO, &table(&rows))
        .with_context(|| shown(&path))?;
    pages.push(Page { path, is, wanted });
    Ok(pages)
}

/// A recipe's check in its page.
fn measured(name: &str, check: &Check, outcome: Option<&Outcome>) -> String {
    let about = check.about.trim();
    let Some(outcome) = outcome else {
        return format!("{about}\n\nNot run yet; `cargo x zoo run {name}` does.\n");
    };
    let minutes = outcome.seconds.div_ceil(60);
    format!(
        "{about}\n\n{}\nBy `cargo x zoo run {name} --data DIR`, {minutes} min of computing ({}); every value is in [outcome.toml](outcome.toml).\n",
        outcome.table(),
        outcome.version
    )
}

/// What the table says of a recipe.
struct Row {
    name: String,
    paper: String,
    mixer: String,
    objective: String,
    loss: String,
    sizes: String,
    check: String,
}

/// Reads a recipe and every size of it; one that does not hold is an error, though the table shows little of it.
fn row(root: &Path, folder: &Path) -> Result<Row> {
    let name = file_name(folder);
    let recipe = resolve(root, &folder.join("recipe.toml"))?;
    let sizes = folder.join("sizes");
    let mut size_names = Vec::new();
    for file in if sizes.is_dir() {
        entries(&sizes)?
    } else {
        Vec::new()
    } {
        resolve(root, &file)?;
        size_names.push(file_name(&file).trim_end_matches(".toml").to_owned());
    }
    let text = |path: &[&str]| {
        at(&recipe, path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (title, venue, arxiv) = (
        text(&["paper", "title"]),
        text(&["paper", "venue"]),
        text(&["paper", "arxiv"]),
    );
    let title = if arxiv.is_empty() {
        title
    } else {
        format!("[{title}](https://arxiv.org/abs/{arxiv})")
    };
    let paper = [title, venue]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    let stages = recipe
        .get("stage")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let each = |path: &[&str]| {
        let mut kinds: Vec<&str> = stages
            .iter()
            .filter_map(|stage| at(stage, path)?.as_str())
            .collect();
        kinds.dedup();
        kinds.join(", ")
    };
    Ok(Row {
        name,
        paper,
        mixer: mixer(&recipe),
        objective: each(&["objective", "kind"]),
        loss: each(&["objective", "loss", "kind"]),
        sizes: size_names.join(", "),
        check: String::new(),
    })
}

/// The recipe as it is run, base and all, as plain values: the table outlives a new kind of component.
fn resolve(root: &Path, path: &Path) -> Result<Value> {
    let recipes = root.join("recipes");
    let base = |name: &str| {
        let path = match name.split_once('/') {
            Some((name, size)) => recipes.join(name).join(format!("sizes/{size}.toml")),
            None => recipes.join(name).join("recipe.toml"),
        };
        source(&path).ok()
    };
    let recipe = Any::parse(&source(path)?, base, &[])?;
    toml::from_str(&recipe.to_toml()).with_context(|| shown(path))
}

fn source(path: &Path) -> Result<Source> {
    Ok(Source {
        name: shown(path),
        text: read(path)?,
    })
}

/// The mixer's kind, and whether it looks back only, which is what a reader asks first; of texts, the family.
fn mixer(recipe: &Value) -> String {
    let family = at(recipe, &["model", "config", "model_type"]);
    if let Some(family) = family.and_then(Value::as_str) {
        return family.to_owned();
    }
    let mixer = at(recipe, &["model", "stack", "mixer"]);
    let kind = mixer
        .and_then(|mixer| mixer.get("kind")?.as_str())
        .unwrap_or_default();
    let causal = mixer
        .and_then(|mixer| mixer.get("causal")?.as_bool())
        .unwrap_or_default();
    if causal {
        format!("causal {kind}")
    } else {
        kind.to_owned()
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn table(rows: &[Row]) -> String {
    let mut out =
        "| recipe | paper | mixer | objective | loss | sizes | check |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for Row {
        name,
        paper,
        mixer,
        objective,
        loss,
        sizes,
        check,
    } in rows
    {
        writeln!(
            out,
            "| [{name}]({name}/) | {paper} | {mixer} | {objective} | {loss} | {sizes} | {check} |"
        )
        .expect("a string takes any text");
    }
    out
}

/// The page with the table between the marks; a page without marks gets them at its end.
fn with_table(page: &str, [begin, end]: [&str; 2], table: &str) -> Result<String> {
    match (page.split_once(begin), page.contains(end)) {
        (Some((before, rest)), true) => match rest.split_once(end) {
            Some((_, after)) => Ok(format!("{before}{begin}\n{table}{end}{after}")),
            None => bail!("the line {end:?} stands before {begin:?}; swap them"),
        },
        (None, false) => Ok(format!("{}\n\n{begin}\n{table}{end}\n", page.trim_end())),
        _ => bail!("one of the lines {begin:?} and {end:?} is missing; restore it or remove both"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_around_the_table_are_kept() {
        let [begin, end] = ZOO;
        let page = format!("# Zoo\n{begin}\nold\n{end}\nafter\n");
        let new = with_table(&page, ZOO, "new\n").unwrap();
        assert_eq!(new, format!("# Zoo\n{begin}\nnew\n{end}\nafter\n"));
        assert_eq!(with_table(&new, ZOO, "new\n").unwrap(), new);
    }

    #[test]
    fn a_page_without_a_table_gets_one() {
        assert_eq!(
            with_table("# Zoo\n", ZOO, "t\n").unwrap(),
            format!("# Zoo\n\n{}\nt\n{}\n", ZOO[0], ZOO[1])
        );
        assert!(with_table(&format!("# Zoo\n{}\n", ZOO[0]), ZOO, "t\n").is_err());
    }

    #[test]
    fn every_recipe_and_size_holds_and_the_table_lists_them() {
        let recipes = recipe_folders(root()).unwrap();
        let page = pages(root()).unwrap().pop().unwrap().wanted;
        for recipe in recipes {
            let name = file_name(&recipe);
            assert!(page.contains(&format!("| [{name}]({name}/) | ")), "{page}");
        }
    }
}
