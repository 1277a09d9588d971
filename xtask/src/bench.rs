//! `cargo x bench`: by name, a comparison of `bench/` or a benchmark of a crate.

use anyhow::{Result, bail};

use crate::workspace::{cargo, crates, entries, execute, file_name, program, root};

/// Run a benchmark: a folder of `bench/` with a `run.sh`, or a file of a crate's `benches/`.
///
/// Without a name, lists what there is. What follows `--` goes to the benchmark.
#[derive(clap::Args)]
pub struct Arguments {
    /// Such as `training` or `attention`.
    name: Option<String>,
    /// Arguments of the benchmark itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Either kind of benchmark.
enum Bench {
    /// A script that measures against a peer: its path.
    Comparison(String),
    /// A target of `cargo bench`: the room it is in.
    Target(String),
}

/// Runs one, or lists all.
pub fn run(arguments: &Arguments) -> Result<()> {
    let known = list()?;
    let Some(name) = &arguments.name else {
        for (name, bench) in &known {
            match bench {
                Bench::Comparison(script) => println!("{name:<20} {script}"),
                Bench::Target(room) => println!("{name:<20} crates/{room}/benches/{name}.rs"),
            }
        }
        return Ok(());
    };
    match known.iter().find(|(other, _)| other == name) {
        Some((_, Bench::Comparison(script))) => {
            execute(program("bash").arg(script).args(&arguments.rest))
        }
        Some((_, Bench::Target(room))) => {
            let package = if room == "cli" {
                "cloze".to_owned()
            } else {
                format!("cloze-{room}")
            };
            execute(
                cargo()
                    .args(["bench", "--package", &package, "--bench", name, "--"])
                    .args(&arguments.rest),
            )
        }
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "there is no benchmark {name:?}; expected one of [{}]",
                names.join(", ")
            )
        }
    }
}

fn list() -> Result<Vec<(String, Bench)>> {
    let mut known = Vec::new();
    for folder in entries(&root().join("bench"))? {
        if folder.join("run.sh").is_file() {
            let name = file_name(&folder);
            known.push((
                name.clone(),
                Bench::Comparison(format!("bench/{name}/run.sh")),
            ));
        }
    }
    for (room, folder) in crates(root())? {
        let benches = folder.join("benches");
        for file in if benches.is_dir() {
            entries(&benches)?
        } else {
            Vec::new()
        } {
            if let Some(name) = file_name(&file).strip_suffix(".rs") {
                known.push((name.to_owned(), Bench::Target(room.clone())));
            }
        }
    }
    Ok(known)
}
