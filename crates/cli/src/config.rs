//! Settings of `cloze serve` from a file, under the names of its flags.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use toml::de::{DeTable, DeValue};

use crate::arguments::{Cli, Command};

/// The command line, over the environment, over the file of `--config`, over the defaults.
pub fn parse(arguments: &[OsString]) -> anyhow::Result<Cli> {
    let mut command =
        Cli::command().mut_subcommand("serve", |serve| serve.mut_args(from_environment));
    command.build();
    let matches = command.clone().get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Serve(serve) = &cli.command else {
        return Ok(cli);
    };
    let Some(path) = &serve.config else {
        return Ok(cli);
    };
    let given = matches.subcommand().map(|(_, matches)| matches);
    let given = given.expect("it is `serve`");
    let settings = settings(path, &command, given)?;
    // What a file sets is a default to clap: flags and the environment go before it.
    let command = Cli::command().mut_subcommand("serve", |serve| {
        settings.into_iter().fold(
            serve.mut_args(from_environment),
            |serve, Setting { id, values }| {
                // Read once in the life of the program, and clap keeps it for as long.
                let values = values.into_iter().map(|value| &*value.leak());
                serve.mut_arg(id, |arg| arg.default_values(values))
            },
        )
    });
    Ok(Cli::from_arg_matches(&command.get_matches_from(arguments))?)
}

/// Gives a flag that has no environment variable yet one of its name.
fn from_environment(arg: Arg) -> Arg {
    let name = match arg.get_long() {
        Some(long) if arg.get_env().is_none() => long,
        _ => return arg,
    };
    let variable = format!("CLOZE_{}", name.replace('-', "_").to_uppercase());
    arg.env(&*variable.leak())
}

/// An argument's values, as text.
struct Setting {
    id: String,
    values: Vec<String>,
}

/// The settings of a file, but for those that what is `given` otherwise rules out.
fn settings(
    path: &Path,
    command: &clap::Command,
    given: &ArgMatches,
) -> anyhow::Result<Vec<Setting>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let at = |span: Range<usize>| {
        let before = &text[..text.floor_char_boundary(span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        format!("{}:{line}:{column}", path.display())
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let place = at(error.span().unwrap_or_default());
        anyhow::anyhow!("{place}: {}", error.message())
    })?;
    let serve = command.find_subcommand("serve");
    let serve = serve.expect("there is such a command");
    let rules_out = |one: &Arg, other: &Arg| {
        let conflicts = |a: &Arg, b: &Arg| {
            let found = serve.get_arg_conflicts_with(a);
            found.iter().any(|conflict| conflict.get_id() == b.get_id())
        };
        conflicts(one, other) || conflicts(other, one)
    };
    let is_given = |arg: &Arg| {
        let source = given.value_source(arg.get_id().as_str());
        matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    };

    // In the order of the file, so that the first fault is the one that is told.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut found: Vec<(&Arg, Vec<String>)> = Vec::new();
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        let arg = serve.get_arguments().find(|arg| name_of(arg) == name);
        let arg = arg.filter(|_| !["config", "help"].contains(&name));
        let Some(arg) = arg else {
            anyhow::bail!("{}: {}", at(key.span()), unknown(command, name));
        };
        let values = texts(arg, value.get_ref()).and_then(|values| {
            check(command, arg, &values)?;
            Ok(values)
        });
        let values =
            values.map_err(|message| anyhow::anyhow!("{}: {message}", at(value.span())))?;
        if let Some((other, _)) = found.iter().find(|(other, _)| rules_out(arg, other)) {
            anyhow::bail!(
                "{}: {name:?} and {:?} rule each other out",
                at(key.span()),
                name_of(other)
            );
        }
        found.push((arg, values));
    }
    let stays = |arg: &Arg| {
        let mut others = serve.get_arguments();
        !others.any(|other| is_given(other) && rules_out(arg, other))
    };
    Ok(found
        .into_iter()
        .filter(|(arg, _)| stays(arg))
        .map(|(arg, values)| Setting {
            id: arg.get_id().to_string(),
            values,
        })
        .collect())
}

/// A flag's name; a positional argument's is what the code calls it.
fn name_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// What to say of a name that no flag has.
fn unknown(command: &clap::Command, name: &str) -> String {
    let tried = ["cloze", "serve", &format!("--{name}=")].map(OsString::from);
    let error = command.clone().try_get_matches_from(tried).err();
    let near = error.and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(near)) => Some(near.trim_start_matches('-').to_owned()),
        _ => None,
    });
    let hint = match near {
        Some(near) => format!("; did you mean {near:?}?"),
        None => "; expected the name of a flag of `cloze serve`".to_owned(),
    };
    format!("no setting {name:?}{hint}")
}

/// A value as the command line would have it.
fn texts(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(is_on) => Some(is_on.to_string()),
        DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => None,
    };
    let name = name_of(arg);
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(is_on)) => Ok(vec![is_on.to_string()]),
        (ArgAction::SetTrue, _) => Err(format!("{name:?}: expected true or false")),
        (ArgAction::Append, DeValue::Array(items)) => {
            let texts = items.iter().map(|item| one(item.get_ref()));
            let texts: Option<Vec<_>> = texts.collect();
            texts.ok_or_else(|| format!("{name:?}: expected a list of texts"))
        }
        (ArgAction::Append, _) => Err(format!("{name:?}: expected a list, such as [\"a\"]")),
        (_, value) => match one(value) {
            Some(text) => Ok(vec![text]),
            None => Err(format!("{name:?}: expected one text, number or boolean")),
        },
    }
}

/// Whether the command line would take the values.
fn check(command: &clap::Command, arg: &Arg, values: &[String]) -> Result<(), String> {
    let mut tried = vec!["cloze".to_owned(), "serve".to_owned()];
    match (arg.get_long(), arg.get_action()) {
        (Some(_), ArgAction::SetTrue) => return Ok(()),
        (Some(long), _) => tried.extend(values.iter().map(|value| format!("--{long}={value}"))),
        (None, _) => {
            tried.push("--".to_owned());
            tried.extend_from_slice(values);
        }
    }
    let Err(error) = command.clone().try_get_matches_from(tried) else {
        return Ok(());
    };
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let told = error.to_string();
            let told = told.split("\n\n").next().unwrap_or_default();
            let lines: Vec<_> = told.lines().map(str::trim).collect();
            Err(lines.join(" ").trim_start_matches("error: ").to_owned())
        }
        // What the environment says beside it is another matter.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Serve;

    fn parsed(file: &str, flags: &[&str]) -> anyhow::Result<Serve> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloze.toml");
        std::fs::write(&path, file).unwrap();
        let config = path.to_str().unwrap();
        let arguments = ["cloze", "serve", "--config", config].into_iter();
        let arguments = arguments.chain(flags.iter().copied());
        let arguments: Vec<_> = arguments.map(OsString::from).collect();
        match parse(&arguments)?.command {
            Command::Serve(serve) => Ok(serve),
            _ => panic!("it is `serve`"),
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_that_before_the_default() {
        let file = r#"
            models = ["a", "mini=b"]
            port = 4000
            max-client-batch-size = 5
            auto-truncate = false
            json-output = true
            weights = "int8"
            threads = 2
        "#;
        let serve = parsed(file, &["--max-client-batch-size", "7"]).unwrap();
        assert_eq!(serve.models, ["a", "mini=b"]);
        assert_eq!((serve.port, serve.max_client_batch_size), (4000, 7));
        assert!(!serve.auto_truncate && serve.json_output);
        assert_eq!(serve.engine.threads.map(std::num::NonZero::get), Some(2));
        assert_eq!(serve.max_batch_tokens, 2048, "the default");
        assert_eq!(parsed(file, &["c"]).unwrap().models, ["c"]);
        let serve = parsed("models = [\"a\"]\njson-output = false", &[]).unwrap();
        assert!(!serve.json_output);
        #[cfg(unix)]
        {
            let file = "models = [\"a\"]\nunix-socket = \"s\"";
            assert!(parsed(file, &[]).unwrap().unix_socket.is_some());
            let serve = parsed(file, &["--port", "5"]).unwrap();
            assert!(
                serve.unix_socket.is_none(),
                "the flag rules the file's way out"
            );
        }
    }

    #[test]
    fn faults_have_a_line_and_a_column() {
        for (file, expected) in [
            (
                "port = 1\nprot = 2",
                "cloze.toml:2:1: no setting \"prot\"; did you mean \"port\"?",
            ),
            (
                "zzz = 2",
                "cloze.toml:1:1: no setting \"zzz\"; expected the name",
            ),
            ("config = \"x\"", "1:1: no setting \"config\""),
            ("max_batch_tokens = 2", "did you mean \"max-batch-tokens\"?"),
            (
                "\n  port = \"many\"",
                "cloze.toml:2:10: invalid value 'many' for '--port <PORT>': invalid digit",
            ),
            ("port = 70000", "1:8: invalid value '70000'"),
            ("weights = \"f8\"", "[possible values: "),
            (
                "port = [1]",
                "1:8: \"port\": expected one text, number or boolean",
            ),
            ("models = \"a\"", "1:10: \"models\": expected a list"),
            (
                "json-output = \"yes\"",
                "1:15: \"json-output\": expected true or false",
            ),
            ("port = 1\nport = 2", "cloze.toml:2:1: "),
            ("port = ", "cloze.toml:1:"),
            (
                "api-key = \"a\"\napi-key-file = \"b\"",
                "2:1: \"api-key-file\" and \"api-key\" rule each other out",
            ),
        ] {
            let error = parsed(file, &["a"]).unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
