//! `cargo x golden`: the reference numbers, remade by the scripts that made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::structure::recipe_folders;
use crate::workspace::{crates, entries, execute, file_name, files, program, root, shown};

/// Remake the reference numbers that tests compare with.
///
/// Runs the scripts of `tools/golden/` and each recipe's `golden.py` with `python3` from the root of the workspace,
/// without arguments; each writes its own files. The head of a script names the packages it needs.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only this one: a script's name without `.py`, or a recipe's name.
    name: Option<String>,
    /// Put every file back as it was; fail when one differs from what its script makes.
    #[arg(long)]
    check: bool,
}

/// Runs the scripts and says which files changed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut scripts = scripts()?;
    if let Some(name) = &arguments.name {
        let known: Vec<String> = scripts.keys().cloned().collect();
        scripts.retain(|other, _| other == name);
        if scripts.is_empty() {
            bail!(
                "there is no golden script {name:?}; expected one of [{}]",
                known.join(", ")
            );
        }
    }
    let before = numbers()?;
    let outcome = scripts
        .values()
        .try_for_each(|script| execute(program("python3").arg(script)));
    let after = numbers()?;
    let changed: Vec<&PathBuf> = after
        .iter()
        .filter(|(path, bytes)| before.get(*path) != Some(bytes))
        .map(|(path, _)| path)
        .collect();
    if arguments.check {
        for path in &changed {
            match before.get(*path) {
                Some(bytes) => fs::write(path, bytes),
                None => fs::remove_file(path),
            }
            .with_context(|| format!("{}: cannot be put back", shown(path)))?;
        }
    }
    outcome?;
    for path in &changed {
        println!("changed: {}", shown(path));
    }
    if arguments.check && !changed.is_empty() {
        bail!(
            "{} files differ from what their scripts make; run `cargo x golden`",
            changed.len()
        );
    }
    Ok(())
}

/// Scripts by name.
fn scripts() -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let tools = root().join("tools/golden");
    for file in if tools.is_dir() {
        entries(&tools)?
    } else {
        Vec::new()
    } {
        if let Some(name) = file_name(&file).strip_suffix(".py") {
            found.insert(name.to_owned(), file.clone());
        }
    }
    for folder in recipe_folders(root())? {
        let script = folder.join("golden.py");
        if script.is_file() {
            found.insert(file_name(&folder), script);
        }
    }
    Ok(found)
}

/// Every file a script may write, with its contents: what is not Rust beside tests, recipes and scripts.
fn numbers() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut folders = vec![root().join("recipes"), root().join("tools/golden")];
    folders.extend(
        crates(root())?
            .into_iter()
            .flat_map(|(_, folder)| [folder.join("tests"), folder.join("src")]),
    );
    let mut found = BTreeMap::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        for file in files(folder)? {
            if file.extension().is_none_or(|extension| extension != "rs") {
                let bytes =
                    fs::read(&file).with_context(|| format!("{}: cannot be read", shown(&file)))?;
                found.insert(file, bytes);
            }
        }
    }
    Ok(found)
}
