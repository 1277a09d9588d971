//! The commands of the daily work on Cloze, run as `cargo x <command>` from anywhere in the workspace.
//!
//! One file per command; [`workspace`] holds what they share: the root, the walk over files, running a program.

mod bench;
mod check;
mod golden;
mod scaffold;
mod source;
mod structure;
mod workspace;
mod zoo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The daily work on Cloze.
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Arguments),
    New(scaffold::Arguments),
    Bench(bench::Arguments),
    Golden(golden::Arguments),
    Zoo(zoo::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::New(arguments) => scaffold::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Golden(arguments) => golden::run(&arguments),
        Command::Zoo(arguments) => zoo::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through `main`'s own printing, which adds a stack to every message when backtraces are on.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
