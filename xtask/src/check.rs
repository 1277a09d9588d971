//! `cargo x check`: everything a change must pass.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::workspace::{cargo, execute, root};
use crate::{structure, zoo};

/// Check formatting, lints, structure, generated files, documentation and tests.
///
/// Every step runs, even after one failed, and all failures are listed at the end. `--quick` is for before a
/// commit; the whole of it is for before a merge.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out documentation and tests.
    #[arg(long)]
    quick: bool,
}

/// Release builds throughout: one set of artefacts serves tests, lints and the program.
pub fn run(arguments: &Arguments) -> Result<()> {
    type Step = (&'static str, fn() -> Result<()>);
    let mut steps: Vec<Step> = vec![
        ("format", || {
            execute(cargo().args(["fmt", "--all", "--check"]))
        }),
        ("structure", || structure::check(root())),
        ("generated files", || zoo::check(root())),
        ("clippy", || {
            execute(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--release",
                "--",
                "-D",
                "warnings",
            ]))
        }),
    ];
    if !arguments.quick {
        steps.push(("documentation", || {
            let mut command = cargo();
            execute(
                command
                    .args(["doc", "--workspace", "--no-deps", "--release"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            )
        }));
        steps.push(("tests", || {
            execute(cargo().args(["test", "--workspace", "--release"]))
        }));
    }
    let mut summary = String::new();
    let mut failures = 0;
    for (name, step) in steps {
        let start = Instant::now();
        let word = match step() {
            Ok(()) => "ok",
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failures += 1;
                "FAILED"
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        writeln!(summary, "{name:<16} {word:<7} {seconds:>6.1} s")?;
    }
    eprint!("\n{summary}");
    if failures > 0 {
        bail!("{failures} of the checks failed");
    }
    Ok(())
}
