//! Lists the recipes, so that a new folder of `recipes/` is built in without being named anywhere else.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // In the workspace a link, through which cargo would see no change.
    let root = fs::canonicalize(root.join("recipes"))?;
    println!("cargo::rerun-if-changed={}", root.display());
    let mut found = Vec::new();
    for system in sorted(&root)?.iter().filter(|entry| entry.is_dir()) {
        found.push((stem(system), system.join("recipe.toml")));
        let sizes = system.join("sizes");
        for size in if sizes.is_dir() {
            sorted(&sizes)?
        } else {
            Vec::new()
        } {
            found.push((format!("{}/{}", stem(system), stem(&size)), size));
        }
    }
    let mut list = "&[\n".to_owned();
    for (name, path) in found {
        let path = path
            .to_str()
            .ok_or_else(|| io::Error::other("a path that is not UTF-8"))?;
        writeln!(list, "({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("recipes.rs"), list)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
