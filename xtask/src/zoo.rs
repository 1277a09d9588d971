//! `cargo x zoo`: the table of recipes in `recipes/README.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cloze_spec::recipe::{Any, Source};
use toml::Value;

use crate::structure::recipe_folders;
use crate::workspace::{entries, file_name, read, root, shown};

const BEGIN: &str = "<!-- begin: cargo x zoo -->";
const END: &str = "<!-- end: cargo x zoo -->";
const HEADING: &str = "# Recipes\n\nOne folder per published system, data only.\n";

/// Rewrite the table of recipes in recipes/README.md from the recipes.
///
/// The table stands between two comments; the words around it are kept.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; fail when the table is not what the recipes say.
    #[arg(long)]
    check: bool,
}

/// Writes or checks.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        return check(root());
    }
    let (page, wanted) = pages(root())?;
    let path = root().join("recipes/README.md");
    if page.as_deref() != Some(wanted.as_str()) {
        fs::write(&path, wanted).with_context(|| format!("{}: cannot be written", shown(&path)))?;
    }
    Ok(())
}

/// Whether the table is what the recipes say.
///
/// # Errors
/// When it is not, or when a recipe cannot be read.
pub fn check(root: &Path) -> Result<()> {
    let (page, wanted) = pages(root)?;
    if page.is_some_and(|page| page == wanted) || !root.join("recipes").is_dir() {
        return Ok(());
    }
    bail!("recipes/README.md: the table differs from the recipes; run `cargo x zoo`")
}

/// The page as it is, if it is, and as it should be.
fn pages(root: &Path) -> Result<(Option<String>, String)> {
    let path = root.join("recipes/README.md");
    let page = if path.is_file() {
        Some(read(&path)?)
    } else {
        None
    };
    let mut rows = Vec::new();
    for folder in recipe_folders(root)? {
        rows.push(row(root, &folder)?);
    }
    let wanted = with_table(page.as_deref().unwrap_or(HEADING), &table(&rows))?;
    Ok((page, wanted))
}

/// What the table says of a recipe.
struct Row {
    name: String,
    paper: String,
    mixer: String,
    objective: String,
    loss: String,
    sizes: String,
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
    })
}

/// The recipe as it is run, base and all, as plain values: the table outlives a new kind of component.
fn resolve(root: &Path, path: &Path) -> Result<Value> {
    let base = |name: &str| source(&root.join("recipes").join(name).join("recipe.toml")).ok();
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
        "| recipe | paper | mixer | objective | loss | sizes |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Row {
        name,
        paper,
        mixer,
        objective,
        loss,
        sizes,
    } in rows
    {
        writeln!(
            out,
            "| [{name}]({name}/) | {paper} | {mixer} | {objective} | {loss} | {sizes} |"
        )
        .expect("a string takes any text");
    }
    out
}

/// The page with the table between the marks; a page without marks gets them at its end.
fn with_table(page: &str, table: &str) -> Result<String> {
    match (page.split_once(BEGIN), page.contains(END)) {
        (Some((before, rest)), true) => match rest.split_once(END) {
            Some((_, after)) => Ok(format!("{before}{BEGIN}\n{table}{END}{after}")),
            None => bail!("recipes/README.md: the line {END:?} stands before {BEGIN:?}; swap them"),
        },
        (None, false) => Ok(format!("{}\n\n{BEGIN}\n{table}{END}\n", page.trim_end())),
        _ => bail!(
            "recipes/README.md: one of the lines {BEGIN:?} and {END:?} is missing; restore it or remove both"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_around_the_table_are_kept() {
        let page = format!("# Zoo\n{BEGIN}\nold\n{END}\nafter\n");
        let new = with_table(&page, "new\n").unwrap();
        assert_eq!(new, format!("# Zoo\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(with_table(&new, "new\n").unwrap(), new);
    }

    #[test]
    fn a_page_without_a_table_gets_one() {
        assert_eq!(
            with_table("# Zoo\n", "t\n").unwrap(),
            format!("# Zoo\n\n{BEGIN}\nt\n{END}\n")
        );
        assert!(with_table(&format!("# Zoo\n{BEGIN}\n"), "t\n").is_err());
    }

    #[test]
    fn every_recipe_and_size_holds_and_the_table_lists_them() {
        let recipes = recipe_folders(root()).unwrap();
        let (_, page) = pages(root()).unwrap();
        for recipe in recipes {
            let name = file_name(&recipe);
            assert!(page.contains(&format!("| [{name}]({name}/) | ")), "{page}");
        }
    }
}
