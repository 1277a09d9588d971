//! What every command needs: the root of the workspace, a walk over its files, a way to run programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Folders that hold what tools produced, never what people wrote.
const PRODUCED: &[&str] = &["target", "__pycache__", "artifacts", "corpus", "coverage"];

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies inside the workspace")
}

/// The crates, `xtask` included, as `(room, folder)`; the room is the folder's name.
///
/// # Errors
/// When `crates/` cannot be read.
pub fn crates(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut folders = vec![("xtask".to_owned(), root.join("xtask"))];
    for entry in entries(&root.join("crates"))? {
        if entry.join("Cargo.toml").is_file() {
            folders.push((file_name(&entry), entry));
        }
    }
    Ok(folders)
}

/// Every file under `folder` that a person wrote, sorted. Links are followed, since cargo packages what they name.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in entries(&next)? {
            let name = file_name(&entry);
            if entry.is_dir() {
                if !PRODUCED.contains(&name.as_str()) && (!name.starts_with('.') || name == ".ci") {
                    waiting.push(entry);
                }
            } else {
                found.push(entry);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The entries of one folder, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list =
        fs::read_dir(folder).with_context(|| format!("{}: cannot be listed", folder.display()))?;
    let mut paths = list
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// Reads a text file.
///
/// # Errors
/// Names the file when it is absent or not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// The last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A path as it is shown: relative to the root, with forward slashes.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

/// The cargo that started this program, at the root.
pub fn cargo() -> Command {
    program(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// A program, at the root.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// Says what it runs, runs it, and waits.
///
/// # Errors
/// When the program is missing or exits with a failure.
pub fn execute(command: &mut Command) -> Result<()> {
    let mut line = file_name(Path::new(command.get_program()));
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("`{line}` cannot be started"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}
