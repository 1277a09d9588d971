//! The command `cloze`.

mod allocator;
mod analyse;
mod arguments;
mod bench;
mod completions;
mod config;
mod dashboard;
mod embed;
mod eval;
mod export;
mod hub;
mod inspect;
mod otlp;
mod predict;
mod progress;
mod quickstart;
mod recipes;
mod recommender;
mod score;
mod serve;
mod source;
mod table;
mod tokenizer;
mod train;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{ByName, Command};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let result = config::parse(&arguments).and_then(|cli| run(cli.command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output went away (`cloze recipes | head`): not our failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    if matches!(command, Command::Quickstart(_) | Command::Train(_)) {
        allocator::keep_pages();
    }
    match command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(mut args) => {
            find(&mut args.model, &args.by_name).and_then(|()| predict::run(&args))
        }
        Command::Embed(mut args) => {
            find(&mut args.model, &args.by_name).and_then(|()| embed::run(&args))
        }
        Command::Verify(mut args) => {
            find(&mut args.model, &args.by_name).and_then(|()| verify::run(&args))
        }
        Command::Export(mut args) => {
            find(&mut args.model, &args.by_name).and_then(|()| export::run(&args))
        }
        Command::Bench(mut args) => {
            find(&mut args.model, &args.by_name).and_then(|()| bench::run(&args))
        }
        Command::Serve(args) => serve::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Analyse(args) => analyse::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Recipes(args) => recipes::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Puts the folder of a model by name in the place of its name.
fn find(model: &mut PathBuf, by_name: &ByName) -> anyhow::Result<()> {
    *model = hub::folder(model, by_name)?;
    Ok(())
}

/// An error and its causes, save those that it tells itself.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
