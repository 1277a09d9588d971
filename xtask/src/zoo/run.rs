//! `cargo x zoo run`: does what a check says, and writes down what came out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::check::{Check, Outcome, Source, Step, fill};
use super::claim::Values;
use crate::workspace::{cargo, execute, read, root, shown};

/// Run the check of a recipe, and write recipes/RECIPE/outcome.toml.
///
/// Steps whose output is there from an earlier run of the same command are not run again, unless a step was that they build on.
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder of recipes/ with a check.toml.
    recipe: String,
    /// Folder of the files that the check names; each says where it is to be had.
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// Folder for what the steps write.
    #[arg(long, default_value = "target/zoo")]
    work: PathBuf,
    /// Forget what earlier runs wrote.
    #[arg(long)]
    fresh: bool,
}

/// Refuses a folder of data that lacks any of `sources`, naming all of those.
pub fn check_present<'a>(data: &Path, sources: impl Iterator<Item = &'a Source>) -> Result<()> {
    let missing: Vec<String> = sources
        .filter(|source| !data.join(&source.path).exists())
        .map(|source| format!("\n  {} from {}", source.path, source.from))
        .collect();
    ensure!(
        missing.is_empty(),
        "{}: these files are missing; name their folder by --data{}",
        data.display(),
        missing.concat()
    );
    Ok(())
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let name = &arguments.recipe;
    let folder = root().join("recipes").join(name);
    let Some(check) = Check::read(&folder)? else {
        bail!(
            "recipes/{name}/check.toml: there is none; `cargo x zoo` lists the recipes that have one"
        );
    };
    check_present(&arguments.data, check.source.values())?;
    let work = root().join(&arguments.work).join(name);
    if arguments.fresh && work.exists() {
        fs::remove_dir_all(&work).with_context(|| shown(&work))?;
    }
    fs::create_dir_all(&work).with_context(|| shown(&work))?;
    execute(cargo().args(["build", "--release", "--quiet", "--package", "cloze"]))?;
    let data =
        fs::canonicalize(&arguments.data).with_context(|| arguments.data.display().to_string())?;
    let program = root().join("target/release/cloze");
    let runner = Runner {
        check: &check,
        seeded: check.seeded(),
        data,
        work,
        program,
    };
    let outcome = runner.all()?;
    let text = toml::to_string(&outcome)?;
    let path = folder.join("outcome.toml");
    fs::write(&path, text).with_context(|| shown(&path))?;
    println!("{}", outcome.table());
    println!("{}; written to {}", outcome.score(), shown(&path));
    super::write()
}

/// What running a check needs.
struct Runner<'a> {
    check: &'a Check,
    seeded: BTreeSet<&'a str>,
    data: PathBuf,
    work: PathBuf,
    program: PathBuf,
}

impl Runner<'_> {
    fn all(&self) -> Result<Outcome> {
        let mut values = Values::new();
        let mut seconds = 0;
        for step in &self.check.step {
            let seeds = if self.seeded.contains(step.name.as_str()) {
                &self.check.seeds
            } else {
                &self.check.seeds[..1]
            };
            for &seed in seeds {
                let doing = || format!("step {:?}, seed {seed}", step.name);
                seconds += self.step(step, seed).with_context(doing)?;
                for (value, place) in &step.values {
                    let number = self.value(step, seed, place).with_context(doing)?;
                    values
                        .entry(format!("{}.{value}", step.name))
                        .or_default()
                        .push(number);
                }
            }
        }
        let verdict = self
            .check
            .claim
            .iter()
            .map(|claim| claim.judge(&values))
            .collect::<Result<_>>()?;
        let version = Command::new(&self.program).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        Ok(Outcome {
            version,
            seconds,
            values,
            verdict,
        })
    }

    /// Where a step writes, named as cloze wants files named; what it prints is beside it.
    fn output(&self, name: &str, seed: u64) -> PathBuf {
        let mut file = name.to_owned();
        if self.seeded.contains(name) {
            write!(file, "-{seed}").expect("a string takes any text");
        }
        let step = self.check.step.iter().find(|step| step.name == name);
        if let Some(make) = step.and_then(|step| step.make.as_ref()) {
            file.push_str(make.write.extension());
        }
        self.work.join(file)
    }

    /// What a name in braces stands for.
    fn resolve(&self, step: &Step, seed: u64, name: &str) -> Result<String> {
        let path = |path: PathBuf| {
            path.to_str()
                .map(str::to_owned)
                .context("a path that is not UTF-8")
        };
        if name == "seed" {
            return Ok(seed.to_string());
        }
        if name == "out" {
            return path(self.output(&step.name, seed));
        }
        if let Some(words) = self.check.shared.get(name) {
            return fill(words, &|name| self.resolve(step, seed, name));
        }
        if let Some(source) = self.check.source.get(name) {
            return path(self.data.join(&source.path));
        }
        let before = self
            .check
            .step
            .iter()
            .take_while(|other| other.name != step.name);
        match before.into_iter().find(|other| other.name == name) {
            Some(_) => path(self.output(name, seed)),
            None => bail!("`{{{name}}}` is neither a source nor an earlier step"),
        }
    }

    /// Does a step unless it was done, and returns the seconds of processor time that took then.
    fn step(&self, step: &Step, seed: u64) -> Result<u64> {
        let output = self.output(&step.name, seed);
        let resolve = |name: &str| self.resolve(step, seed, name);
        perform(&self.program, step, &output, &resolve)
    }

    /// A number of a step's output.
    fn value(&self, step: &Step, seed: u64, place: &str) -> Result<f64> {
        value(&self.output(&step.name, seed), place)
    }
}

/// Does a step unless it was done, and returns the seconds of processor time that took then.
pub(super) fn perform(
    program: &Path,
    step: &Step,
    output: &Path,
    resolve: &dyn Fn(&str) -> Result<String>,
) -> Result<u64> {
    let words = match &step.cloze {
        Some(line) => command(line, resolve)?,
        None => vec![format!("{:?}", step.make)],
    };
    let reads = match &step.make {
        Some(make) => make.files.iter().map(|file| fill(file, resolve)).collect(),
        None => Ok(words.clone()),
    };
    let line = words.join("\n");
    let mark = beside(output, "done");
    if let Some(seconds) = done(&mark, &line)
        && !is_stale(&mark, output, &reads?)
    {
        return Ok(seconds);
    }
    if output.is_dir() {
        fs::remove_dir_all(output).with_context(|| shown(output))?;
    }
    let (start, before) = (Instant::now(), computed());
    if let Some(make) = &step.make {
        make.run(output, |text| fill(text, resolve))?;
        // Finding out may take longer than making it up.
        if !step.values.is_empty()
            && let Some(known) = make.known()?
        {
            fs::write(beside(output, "out"), known.to_string())?;
        }
    } else {
        eprintln!("$ cloze {}", words.join(" "));
        cloze(program, &words, output, None)?;
    }
    let seconds = match (before, computed()) {
        (Some(before), Some(after)) => after - before,
        _ => start.elapsed().as_secs(),
    };
    fs::write(&mark, format!("{seconds}\n{line}"))?;
    Ok(seconds)
}

/// The words of a command, with what names in braces stand for.
pub(super) fn command(line: &str, resolve: &dyn Fn(&str) -> Result<String>) -> Result<Vec<String>> {
    shlex::split(&fill(line, resolve)?).context("a quote that does not end")
}

/// What running `cloze` took.
pub(super) struct Ran {
    /// The most bytes that it held, where the system tells.
    pub peak: Option<u64>,
    /// Whether it was told to stop.
    pub is_stopped: bool,
}

/// Runs `cloze`, with what it prints beside its output; what goes on beyond `until` is told to stop, as by Ctrl-C.
pub(super) fn cloze(
    program: &Path,
    words: &[String],
    output: &Path,
    until: Option<Instant>,
) -> Result<Ran> {
    let (out, log) = (beside(output, "out"), beside(output, "log"));
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| shown(program))?;
    let (mut peak, mut is_stopped) = (None, false);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = held(child.id()).or(peak);
        if !is_stopped && until.is_some_and(|until| Instant::now() > until) {
            is_stopped = true;
            let process = child.id().to_string();
            Command::new("kill").args(["-INT", &process]).status()?;
        }
        thread::sleep(LOOK);
    };
    if !status.success() {
        let log = read(&log)?;
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        bail!(
            "cloze ended with {status}: {}",
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    Ok(Ran { peak, is_stopped })
}

/// Time between two looks at a program that runs.
const LOOK: Duration = Duration::from_millis(50);

/// The most bytes that a process has held so far, where the system tells.
fn held(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

/// A number of what is at `output`: `file/path`, or `stdout/path` of what was printed.
pub(super) fn value(output: &Path, place: &str) -> Result<f64> {
    let (file, path) = place
        .split_once('/')
        .with_context(|| format!("{place:?}: expected `file/path`"))?;
    let file = if file == "stdout" {
        beside(output, "out")
    } else {
        output.join(file)
    };
    let json: Value = serde_json::from_str(&read(&file)?).with_context(|| shown(&file))?;
    number(&json, path).with_context(|| format!("{}: no number at {path:?}", shown(&file)))
}

/// Follows `path` into `json`: keys and indices, and `[key=value]` for the element of a list that has it.
fn number(json: &Value, path: &str) -> Option<f64> {
    let end = path.split('/').try_fold(json, |at, part| {
        if let Some((key, value)) = part
            .strip_prefix('[')
            .and_then(|part| part.strip_suffix(']')?.split_once('='))
        {
            return at.as_array()?.iter().find(|element| element[key] == value);
        }
        match part.parse::<usize>() {
            Ok(index) if at.is_array() => at.get(index),
            _ => at.get(part),
        }
    })?;
    end.as_f64()
}

pub(super) fn beside(output: &Path, extension: &str) -> PathBuf {
    output.with_added_extension(extension)
}

/// Processor time of all commands so far in seconds, which says more than the clock where others compute too; none where
/// the system does not tell it, and then the clock must do.
pub(super) fn computed() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may hold anything: user and system time of children that have ended, in hundredths.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let [user, system] = fields.get(13..15)? else {
        return None;
    };
    Some((user.parse::<u64>().ok()? + system.parse::<u64>().ok()?) / 100)
}

/// Whether a step that something of `reads` comes from was done after the one that writes `output` and has this mark.
fn is_stale(mark: &Path, output: &Path, reads: &[String]) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let own = written(mark);
    let mut others = reads.iter().map(Path::new).filter(|read| *read != output);
    others.any(|read| written(&beside(read, "done")) > own)
}

/// How long the same command took when it was done, if it was.
fn done(mark: &Path, line: &str) -> Option<u64> {
    let text = fs::read_to_string(mark).ok()?;
    let (seconds, done) = text.split_once('\n')?;
    (done == line).then(|| seconds.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_commands_compute_is_known() {
        let before = computed().unwrap();
        assert!(Command::new("true").status().unwrap().success());
        assert!(computed().unwrap() >= before);
    }

    #[test]
    fn a_step_is_done_again_after_one_that_it_builds_on() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let written = |name: &str, second: u64| {
            let file = fs::File::create(at(name)).unwrap();
            let time = std::time::UNIX_EPOCH + Duration::from_secs(second);
            file.set_modified(time).unwrap();
        };
        written("texts.done", 10);
        written("model.done", 20);
        let reads = ["texts", "model"].map(|name| at(name).to_string_lossy().into_owned());
        let is_stale = || is_stale(&at("model.done"), &at("model"), &reads);
        assert!(!is_stale());
        written("texts.done", 30);
        assert!(is_stale());
    }

    #[test]
    fn numbers_are_found_by_key_index_and_name() {
        let json =
            serde_json::json!({"models": [{"model": "a", "f1": 0.5}, {"model": "b", "f1": 1}]});
        assert_eq!(number(&json, "models/0/f1"), Some(0.5));
        assert_eq!(number(&json, "models/[model=b]/f1"), Some(1.0));
        assert_eq!(number(&json, "models/[model=c]/f1"), None);
        assert_eq!(number(&json, "models/0/model"), None);
    }
}
