//! The rules of ARCHITECTURE.md that a text can show: who may depend on whom, where `unsafe` and Burn may stand,
//! what libraries never do, what a crate never packages.
//!
//! Rules read text and manifests and know no types, so each names what it looks for. All faults are reported together.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::scaffold::GAP;
use crate::source::{code, included, lines_with_word};
use crate::workspace::{crates, entries, file_name, files, read, shown};

/// The rooms, and the rooms each may depend on. A new crate is added here and to ARCHITECTURE.md.
const ROOMS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("kernels", &[]),
    ("data", &["spec"]),
    ("runtime", &["spec", "data", "kernels"]),
    ("nn", &["spec", "data", "kernels", "runtime"]),
    ("serve", &["spec", "data", "runtime"]),
    ("train", &["spec", "data", "kernels", "runtime", "nn"]),
    ("cli", &["spec", "data", "runtime", "nn", "train", "serve"]),
    ("xtask", &["spec"]),
];

const UNSAFE_ROOMS: &[&str] = &["kernels"];
/// What is unsafe by nature elsewhere: mapping a file, which others might change meanwhile, and options of the allocator.
const UNSAFE_ELSEWHERE: &[&str] = &["unsafe { Mmap::map(&file) }", "unsafe { mi_option_"];
const BURN_ROOMS: &[&str] = &["nn", "train"];
/// Programs may print, read the environment and exit; libraries may not.
const PROGRAMS: &[&str] = &["cli", "xtask"];
const NOT_IN_LIBRARIES: &[(&str, &str)] = &[
    ("println!", "return what is to be said"),
    ("print!", "return what is to be said"),
    ("eprintln!", "return what is to be said"),
    ("eprint!", "return what is to be said"),
    ("dbg!", "return what is to be said"),
    ("env::var", "take the setting as an argument"),
    ("env::vars", "take the setting as an argument"),
    ("process::exit", "return an error"),
    ("SystemTime::now", "take the time as an argument"),
];
/// Folders of components in `spec` and `nn`.
pub const COMPONENTS: &[&str] = &[
    "embed",
    "mixer",
    "ffn",
    "norm",
    "block",
    "head",
    "objective",
];
/// What a recipe's folder may hold, beside the `golden.py` that made its numbers.
const RECIPE_FILES: &[&str] = &["toml", "md", "safetensors"];
/// Folders of one machine; a path into them works nowhere else.
const FOREIGN_FOLDERS: &[&str] = &["home", "root", "Users", "work", "mnt"];
const FOREIGN_NEIGHBOURS: &[&str] = &["shared"];
const TEXT_FILES: &[&str] = &[
    "rs", "toml", "md", "py", "sh", "json", "jsonl", "html", "css", "yml",
];

/// Checks every rule.
///
/// # Errors
/// All faults, one a line.
pub fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for (room, folder) in crates(root)? {
        let manifest = folder.join("Cargo.toml");
        let table: Table = read(&manifest)?
            .parse()
            .with_context(|| format!("{}: no TOML", shown(&manifest)))?;
        faults.extend(
            manifest_faults(&room, &table)
                .into_iter()
                .map(|fault| format!("{}: {fault}", shown(&manifest))),
        );
        for file in files(&folder)? {
            faults.extend(packaged_data_faults(root, &file)?);
            if file.extension().is_some_and(|extension| extension == "rs") {
                let inside = file
                    .strip_prefix(&folder)
                    .expect("the walk began at the folder");
                faults.extend(
                    source_faults(&room, inside, &read(&file)?)
                        .into_iter()
                        .map(|fault| format!("{}:{fault}", shown(&file))),
                );
            }
        }
    }
    faults.extend(component_faults(root)?);
    faults.extend(recipe_faults(root)?);
    for file in files(root)? {
        let extension = file
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if TEXT_FILES.contains(&extension.as_str()) {
            faults.extend(
                path_faults(&read(&file)?)
                    .into_iter()
                    .map(|fault| format!("{}:{fault}", shown(&file))),
            );
        }
    }
    if !faults.is_empty() {
        bail!(
            "{} faults of structure; ARCHITECTURE.md says why\n  {}",
            faults.len(),
            faults.join("\n  ")
        );
    }
    Ok(())
}

/// Dependency direction, and Burn only where it belongs. Development dependencies count: tests are read too.
fn manifest_faults(room: &str, manifest: &Table) -> Vec<String> {
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "room {room:?} is in no list; say in xtask/src/structure.rs what it may depend on"
        )];
    };
    let mut faults = Vec::new();
    for name in dependencies(manifest) {
        if let Some(other) = name.strip_prefix("cloze-")
            && !allowed.contains(&other)
        {
            faults.push(format!(
                "{room} must not depend on {other}; it may depend on [{}]",
                allowed.join(", ")
            ));
        }
        if (name == "burn" || name.starts_with("burn-")) && !BURN_ROOMS.contains(&room) {
            faults.push(format!(
                "{room} must not depend on {name}; Burn stays in {}",
                BURN_ROOMS.join(" and ")
            ));
        }
    }
    faults
}

/// Packages a manifest names in any of its dependency tables, renamed ones by their own name.
fn dependencies(manifest: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in manifest {
        let Value::Table(table) = value else { continue };
        if ["dependencies", "dev-dependencies", "build-dependencies"].contains(&key.as_str()) {
            for (name, settings) in table {
                let renamed = settings.get("package").and_then(Value::as_str);
                names.push(renamed.unwrap_or(name).to_owned());
            }
        } else if key == "target" {
            names.extend(
                table
                    .values()
                    .filter_map(Value::as_table)
                    .flat_map(dependencies),
            );
        }
    }
    names
}

/// `line: fault` for one source file; `inside` is its path within the crate.
fn source_faults(room: &str, inside: &Path, text: &str) -> Vec<String> {
    let visible = code(text);
    let mut faults = Vec::new();
    for (index, _) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains(GAP))
    {
        faults.push(format!(
            "{}: a gap that `cargo x new` left is not filled in",
            index + 1
        ));
    }
    if !UNSAFE_ROOMS.contains(&room) {
        let is_known = |line: &usize| {
            let line = text.lines().nth(line - 1).unwrap_or_default();
            UNSAFE_ELSEWHERE.iter().any(|known| line.contains(known))
        };
        for line in lines_with_word(&visible, "unsafe")
            .into_iter()
            .filter(|line| !is_known(line))
        {
            faults.push(format!(
                "{line}: `unsafe` stands outside kernels; move it behind a safe entry there"
            ));
        }
    }
    if !PROGRAMS.contains(&room) && inside.starts_with("src") {
        // Unit tests come last in a file and may do as they like.
        let library = visible.split("#[cfg(test)]").next().unwrap_or_default();
        for (word, instead) in NOT_IN_LIBRARIES {
            for line in lines_with_word(library, word) {
                faults.push(format!("{line}: `{word}` in a library; {instead}"));
            }
        }
    }
    faults
}

/// Top-level `data/` stays out of every package: no copy, no link, no inclusion. Its licences are not the code's.
fn packaged_data_faults(root: &Path, file: &Path) -> Result<Vec<String>> {
    let data = root.join("data");
    let mut faults = Vec::new();
    if let Ok(target) = fs::canonicalize(file)
        && target.starts_with(&data)
    {
        faults.push(format!(
            "{}: is a link into data/, so the crate would package it",
            shown(file)
        ));
    } else if data.is_dir() {
        let size = fs::metadata(file).with_context(|| shown(file))?.len();
        for original in files(&data)? {
            // Files smaller than this are licences and notes, which may agree by right.
            let same_size = size > 4096
                && fs::metadata(&original)
                    .with_context(|| shown(&original))?
                    .len()
                    == size;
            if same_size && fs::read(&original)? == fs::read(file)? {
                faults.push(format!(
                    "{}: is a copy of {}, so the crate would package it",
                    shown(file),
                    shown(&original)
                ));
            }
        }
    }
    if file.extension().is_some_and(|extension| extension == "rs") {
        let folder = file.parent().expect("a file lies in a folder");
        for (line, path) in included(&read(file)?) {
            let from_crate = path.starts_with('/').then(|| crate_of(file)).flatten();
            let whole = lexical(
                &from_crate
                    .unwrap_or(folder)
                    .join(path.trim_start_matches('/')),
            );
            if whole.starts_with(&data) {
                faults.push(format!(
                    "{}:{line}: includes {}, which no crate packages",
                    shown(file),
                    shown(&whole)
                ));
            }
        }
    }
    Ok(faults)
}

/// The folder of the manifest above a file.
fn crate_of(file: &Path) -> Option<&Path> {
    file.ancestors()
        .skip(1)
        .find(|folder| folder.join("Cargo.toml").is_file())
}

/// The path without `.` and `..`, links not followed.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// A component has one name: what has a file in `nn` has one in `spec`, and neither speaks of a recipe.
fn component_faults(root: &Path) -> Result<Vec<String>> {
    let recipes = recipe_folders(root)?;
    let mut faults = Vec::new();
    for kind in COMPONENTS {
        let (spec, nn) = (
            root.join("crates/spec/src").join(kind),
            root.join("crates/nn/src").join(kind),
        );
        if spec.is_dir() && nn.is_dir() {
            for file in entries(&spec)? {
                if !nn.join(file_name(&file)).exists() {
                    faults.push(format!(
                        "{}: has no {} to train it",
                        shown(&file),
                        shown(&nn.join(file_name(&file)))
                    ));
                }
            }
        }
        for folder in [spec, nn] {
            let single = folder.with_extension("rs");
            let list = if folder.is_dir() {
                files(&folder)?
            } else {
                Vec::new()
            };
            for file in list.into_iter().chain(single.is_file().then_some(single)) {
                let visible = code(&read(&file)?).to_lowercase();
                for recipe in &recipes {
                    let word = file_name(recipe).replace('-', "_");
                    for line in lines_with_word(&visible, &word) {
                        faults.push(format!(
                            "{}:{line}: a component names the recipe {word:?}; name the mechanism",
                            shown(&file)
                        ));
                    }
                }
            }
        }
    }
    Ok(faults)
}

/// The folders of the zoo; none when there is no zoo.
///
/// # Errors
/// When `recipes/` cannot be read.
pub fn recipe_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let zoo = root.join("recipes");
    if !zoo.is_dir() {
        return Ok(Vec::new());
    }
    Ok(entries(&zoo)?
        .into_iter()
        .filter(|entry| entry.is_dir())
        .collect())
}

/// Recipes are data.
fn recipe_faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in recipe_folders(root)? {
        for name in ["recipe.toml", "README.md"] {
            if !folder.join(name).is_file() {
                faults.push(format!("{}: has no {name}", shown(&folder)));
            }
        }
        for file in files(&folder)? {
            let extension = file
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !RECIPE_FILES.contains(&extension.as_str()) && file_name(&file) != "golden.py" {
                faults.push(format!(
                    "{}: a recipe holds {} and golden.py only",
                    shown(&file),
                    RECIPE_FILES.join(", ")
                ));
            }
        }
    }
    Ok(faults)
}

/// `line: fault` for every path that works on one machine only.
fn path_faults(text: &str) -> Vec<String> {
    let absolute = FOREIGN_FOLDERS.iter().map(|name| format!("/{name}/"));
    let beside = FOREIGN_NEIGHBOURS.iter().map(|name| format!("../{name}"));
    let wanted: Vec<String> = absolute.chain(beside).collect();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in &wanted {
            let starts_path = |start: usize| {
                let before = line[..start].chars().next_back();
                before.is_none_or(|c| !(c.is_alphanumeric() || "_-.~/:}*".contains(c)))
            };
            if line
                .match_indices(path.as_str())
                .any(|(start, _)| starts_path(start))
            {
                faults.push(format!(
                    "{}: the path {path} exists on one machine only; use one inside the repository",
                    index + 1
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_workspace_keeps_its_structure() {
        check(workspace::root()).unwrap();
    }

    #[test]
    fn dependencies_point_one_way() {
        let faults = |room, text: &str| manifest_faults(room, &text.parse().unwrap());
        assert!(
            faults(
                "nn",
                "[dependencies]\ncloze-data.workspace = true\nburn.workspace = true"
            )
            .is_empty()
        );
        assert_eq!(
            faults("data", "[dev-dependencies]\ncloze-nn.workspace = true").len(),
            1
        );
        assert_eq!(
            faults(
                "spec",
                "[target.'cfg(unix)'.dependencies]\ncloze-data = \"0.1\""
            )
            .len(),
            1
        );
        assert_eq!(
            faults(
                "kernels",
                "[dependencies]\nmath = { package = \"cloze-spec\", version = \"0.1\" }"
            )
            .len(),
            1
        );
        assert_eq!(faults("attic", "[dependencies]").len(), 1);
    }

    #[test]
    fn burn_stays_where_it_belongs() {
        let manifest: Table = "[dependencies]\nburn-tensor = \"0.22\"".parse().unwrap();
        assert!(manifest_faults("train", &manifest).is_empty());
        assert_eq!(manifest_faults("cli", &manifest).len(), 1);
    }

    #[test]
    fn unsafe_is_found_outside_kernels_only() {
        let text = "/// `unsafe` in words\nfn f() {\n    unsafe { g() }\n}\n";
        assert!(source_faults("kernels", Path::new("src/op.rs"), text).is_empty());
        let faults = source_faults("nn", Path::new("tests/op.rs"), text);
        assert!(
            faults.len() == 1 && faults[0].starts_with("3: "),
            "{faults:?}"
        );
    }

    #[test]
    fn gaps_of_the_scaffold_are_found() {
        assert_eq!(
            source_faults(
                "nn",
                Path::new("src/mixer/x.rs"),
                &format!("/// {GAP}: the formula.\n")
            )
            .len(),
            1
        );
    }

    #[test]
    fn libraries_neither_print_nor_read_the_environment() {
        let text = "fn f() { println!(\"x\"); }\nfn g() { std::env::var(\"X\"); }\n#[cfg(test)]\nmod tests { fn h() { println!(); } }\n";
        assert_eq!(
            source_faults("data", Path::new("src/lib.rs"), text).len(),
            2
        );
        assert!(source_faults("data", Path::new("benches/read.rs"), text).is_empty());
        assert!(source_faults("cli", Path::new("src/main.rs"), text).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let foreign = |folder: &str| format!("open(\"/{folder}/me/data.csv\")");
        assert_eq!(path_faults(&format!("fine\n{}", foreign("home"))).len(), 1);
        assert_eq!(
            path_faults(&format!("[data](../{})", "shared/data")).len(),
            1
        );
        assert!(
            path_faults("see https://host/home/page, crates/data/root/x and ~/work/x").is_empty()
        );
        assert!(path_faults("open(\"../crates/data/src/lib.rs\")").is_empty());
    }

    /// A workspace of nothing but faults that only a folder can show.
    #[test]
    fn faults_of_folders_are_reported_together() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        };
        let events = "1,2\n".repeat(2000);
        write("data/shop/events.csv", &events);
        write("xtask/Cargo.toml", "");
        write("crates/spec/Cargo.toml", "");
        write("crates/spec/src/mixer/fourier.rs", "pub struct Fnet;\n");
        write("crates/nn/Cargo.toml", "");
        write(
            "crates/nn/src/mixer/mod.rs",
            "//! Fnet in words.\nconst FNET: u8 = 0;\nfn fnet() {}\n",
        );
        write("crates/cli/Cargo.toml", "");
        write("crates/cli/tests/copy.csv", &events);
        write(
            "crates/cli/src/main.rs",
            "const A: &[u8] = include_bytes!(\"../../../data/shop/events.csv\");\n",
        );
        write("recipes/fnet/recipe.toml", "");
        write("recipes/fnet/model.py", "");
        let report = check(&root).unwrap_err().to_string();
        for wanted in [
            "spec/src/mixer/fourier.rs: has no ",
            "spec/src/mixer/fourier.rs:1: a component names the recipe",
            "nn/src/mixer/mod.rs:2: a component names the recipe",
            "nn/src/mixer/mod.rs:3: a component names the recipe",
            "cli/tests/copy.csv: is a copy of ",
            "cli/src/main.rs:1: includes ",
            "recipes/fnet: has no README.md",
            "recipes/fnet/model.py: a recipe holds ",
        ] {
            assert!(
                report.contains(wanted),
                "{wanted:?} is missing from {report}"
            );
        }
        assert!(report.starts_with("8 faults"), "{report}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_into_data_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("data")).unwrap();
        fs::create_dir_all(root.join("crates/cli")).unwrap();
        fs::write(root.join("data/events.csv"), "1,2").unwrap();
        let link = root.join("crates/cli/events.csv");
        std::os::unix::fs::symlink("../../data/events.csv", &link).unwrap();
        assert_eq!(packaged_data_faults(&root, &link).unwrap().len(), 1);
    }
}
