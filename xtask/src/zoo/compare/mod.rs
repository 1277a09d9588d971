//! `cargo x zoo compare`: every mixer beside every other, with as many parameters, on the same tasks, within a budget of time.
//!
//! bench/mixers/compare.toml says which mixers and tasks. [`Plan`] has all that is to be done, in order; what is done is kept
//! with its command and not done again. [`results`] gathers it, [`judge`] says what differs, [`page`] and [`record`] show it.

mod chart;
mod cost;
mod judge;
mod matched;
mod page;
mod record;
mod results;
mod settings;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::Step;
use super::run::{beside, check_present, cloze, command, computed, perform, value};
use crate::workspace::{cargo, execute, program, read, root, shown};
use matched::Shape;
use results::Results;
use settings::{Contender, Settings, Task};

/// Train every mixer on the same tasks, measure what each costs by length, and write a page of it.
///
/// The budget is of time by the clock. What does not fit is named, and the same command goes on with it: finished runs are kept in
/// --out, and one that the end of the budget has stopped goes on where it was.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the data sets that bench/mixers/compare.toml names.
    #[arg(long)]
    data: PathBuf,
    /// Minutes that it may take.
    #[arg(long, value_name = "MINUTES", default_value_t = 90.0)]
    budget: f64,
    /// Mixers by name, with commas between; the one that all are compared with is always there.
    #[arg(long, value_name = "MIXER,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Tasks by name, with commas between; `cost` is what mixers cost by length.
    #[arg(long, value_name = "TASK,…", value_delimiter = ',')]
    tasks: Vec<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds of every mixer. The one that all are compared with has three at least, which say how far seeds lie apart.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Folder for what is found.
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
}

/// What names the cost by length among the tasks.
const COST: &str = "cost";
/// The folder of what tasks make of files.
const DATA: &str = "data";
/// Seeds of the reference at least.
const REFERENCE_SEEDS: u64 = 3;

/// Does what fits, and writes what is known by then.
pub fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let folder = root().join("bench/mixers");
    let mut settings = Settings::read(&folder)?;
    let tasks: Vec<String> = arguments
        .tasks
        .iter()
        .filter(|task| *task != COST)
        .cloned()
        .collect();
    settings.keep(&arguments.only, &tasks)?;
    let has_cost = arguments.tasks.is_empty() || tasks.len() < arguments.tasks.len();
    if tasks.is_empty() && !arguments.tasks.is_empty() {
        settings.task.clear();
    }
    let used: Vec<&str> = settings.task.iter().flat_map(used).collect();
    let needed = settings
        .source
        .iter()
        .filter(|(name, _)| used.contains(&name.as_str()));
    check_present(&arguments.data, needed.map(|(_, source)| source))?;
    for folder in [COST, DATA] {
        let folder = arguments.out.join(folder);
        fs::create_dir_all(&folder).with_context(|| shown(&folder))?;
    }
    execute(cargo().args(["build", "--release", "--quiet", "--package", "cloze"]))?;
    let absolute = |path: &Path| fs::canonicalize(path).with_context(|| shown(path));
    let plan = Plan::new(&settings, has_cost, arguments)?;
    let bench = Bench {
        data: absolute(&arguments.data)?,
        out: absolute(&arguments.out)?,
        program: root().join("target/release/cloze"),
        commit: commit(),
        recipes: settings
            .task
            .iter()
            .map(|task| Ok((&*task.name, task.resolved(root(), &folder)?)))
            .collect::<Result<_>>()?,
        settings: &settings,
        folder,
    };
    println!("{}", bench.table()?);
    let left = bench.go(&plan, start, 60.0 * arguments.budget)?;
    let results = Results::gather(&bench, &plan, &left)?;
    for (name, text) in [
        ("compare.html", page::page(&results)),
        ("compare.md", record::record(&results)),
    ] {
        let path = bench.out.join(name);
        fs::write(&path, text).with_context(|| shown(&path))?;
    }
    println!("\n{}", results.verdicts().join("\n"));
    println!("page    {}", shown(&bench.out.join("compare.html")));
    println!("record  {}", shown(&bench.out.join("compare.md")));
    if !left.is_empty() {
        let minutes = bench.estimate(&left) / 60.0;
        println!(
            "left out, since {} min are over: {} of {} runs, about {minutes:.0} min more; the same command goes on with them\n  {}",
            arguments.budget,
            left.len(),
            plan.0.len(),
            grouped(&left).join("\n  ")
        );
    }
    Ok(())
}

/// Names in braces of what a task makes.
fn used(task: &Task) -> impl Iterator<Item = &str> {
    task.prepare
        .iter()
        .flat_map(Step::used)
        .chain(super::check::names(&task.train))
}

/// Which commit this is, and whether files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = program("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
    match git(&["rev-parse", "--short", "HEAD"]) {
        Some(commit) if changed => format!("{commit} with changes"),
        Some(commit) => commit,
        None => "unknown".to_owned(),
    }
}

/// One thing to do.
#[derive(Debug, Clone, Copy)]
enum Job<'a> {
    /// Measure what a mixer costs by length.
    Cost(&'a Contender),
    /// Train one on a task.
    Train(&'a Task, &'a Contender, u64),
}

impl Job<'_> {
    /// What it is called.
    fn name(&self) -> String {
        match self {
            Self::Cost(mixer) => format!("cost by length, {}", mixer.name),
            Self::Train(task, mixer, seed) => format!("{}, {}, seed {seed}", task.name, mixer.name),
        }
    }
}

/// All that is to be done, in order.
struct Plan<'a>(Vec<Job<'a>>);

impl<'a> Plan<'a> {
    /// Costs first, which are quick; then every task with its reference, whose seeds say what is a tie, and the other mixers; then
    /// the other mixers' further seeds.
    fn new(settings: &'a Settings, has_cost: bool, arguments: &Arguments) -> Result<Self> {
        let Arguments { seed, seeds, .. } = *arguments;
        let reference = settings.reference()?;
        let others = || {
            let all = settings.mixer.iter();
            all.filter(|mixer| mixer.name != reference.name)
        };
        let mut jobs = Vec::new();
        if has_cost {
            jobs.extend(std::iter::once(reference).chain(others()).map(Job::Cost));
        }
        for task in &settings.task {
            for more in 0..seeds.max(REFERENCE_SEEDS) {
                jobs.push(Job::Train(task, reference, seed + more));
            }
            jobs.extend(others().map(|mixer| Job::Train(task, mixer, seed)));
        }
        for more in 1..seeds {
            for task in &settings.task {
                jobs.extend(others().map(|mixer| Job::Train(task, mixer, seed + more)));
            }
        }
        ensure!(
            !jobs.is_empty(),
            "--tasks: nothing is left to do; name a task, or `{COST}`"
        );
        Ok(Self(jobs))
    }
}

/// Jobs of one task and seed in a line.
fn grouped(jobs: &[Job]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        let (group, mixer) = match job {
            Job::Cost(mixer) => ("cost by length".to_owned(), mixer),
            Job::Train(task, mixer, seed) => (format!("{}, seed {seed}", task.name), mixer),
        };
        groups.entry(group).or_default().push(&mixer.name);
    }
    let line = |(group, mixers): (String, Vec<&str>)| format!("{group}: {}", mixers.join("; "));
    groups.into_iter().map(line).collect()
}

/// What came out of a run; kept beside the model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trained {
    /// What was run on what: the command, the recipe, how files were made. If it is another now, it is run again.
    of: String,
    /// The commit that ran it.
    commit: String,
    /// What mixers are ranked by.
    quality: f64,
    /// Other numbers, by name.
    also: BTreeMap<String, f64>,
    /// Parameters of the whole model.
    parameters: u64,
    /// By the clock, training and judging.
    seconds: f64,
    /// Of processors, likewise; where the system tells.
    processor_seconds: Option<f64>,
    /// The most bytes that were held; likewise.
    peak_bytes: Option<u64>,
}

/// What a run has spent that was stopped; kept beside the model until it goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Spent {
    /// What was run on what, as [`Trained::of`].
    of: String,
    seconds: f64,
    processor_seconds: Option<f64>,
    peak_bytes: Option<u64>,
}

impl Spent {
    /// What is noted at `path` of a run; otherwise nothing is spent.
    fn of(path: &Path, of: &str) -> Self {
        let noted = fs::read_to_string(path).ok();
        let noted: Option<Self> = noted.and_then(|text| serde_json::from_str(&text).ok());
        noted.filter(|spent| spent.of == of).unwrap_or(Self {
            processor_seconds: Some(0.0),
            ..Self::default()
        })
    }
}

/// What doing jobs needs.
struct Bench<'a> {
    settings: &'a Settings,
    /// The recipe of each task as it is run, and the size of its model.
    recipes: BTreeMap<&'a str, (toml::Value, Shape)>,
    folder: PathBuf,
    data: PathBuf,
    out: PathBuf,
    program: PathBuf,
    commit: String,
}

impl Bench<'_> {
    /// Does all jobs that fit into so many seconds from `start`, and returns the others.
    fn go<'a>(&self, plan: &Plan<'a>, start: Instant, budget: f64) -> Result<Vec<Job<'a>>> {
        let mut open: Vec<Job> = Vec::new();
        for &job in &plan.0 {
            if !self.is_done(job)? {
                open.push(job);
            }
        }
        let all = plan.0.len();
        println!(
            "{} of {all} runs are done; about {:.0} min for the others, and {:.0} min to spend",
            all - open.len(),
            self.estimate(&open) / 60.0,
            budget / 60.0
        );
        while let Some((&job, rest)) = open.split_first() {
            let (passed, next) = (start.elapsed().as_secs_f64(), self.seconds(job));
            if passed + next > budget {
                if open.len() == all {
                    bail!(
                        "--budget {}: the first run takes about {:.1} min ({}); allow more",
                        budget / 60.0,
                        (passed + next) / 60.0,
                        job.name()
                    );
                }
                break;
            }
            let begun = Instant::now();
            let until = start + Duration::from_secs_f64(budget.max(0.0));
            let Some(found) = self.perform(job, until).with_context(|| job.name())? else {
                break;
            };
            println!(
                "{:>3} of {all}  {}: {found}, {:.0} s; {} left, about {:.0} min of the {:.0} there are",
                all - rest.len(),
                job.name(),
                begun.elapsed().as_secs_f64(),
                rest.len(),
                self.estimate(rest) / 60.0,
                (budget - start.elapsed().as_secs_f64()).max(0.0) / 60.0,
            );
            open.remove(0);
        }
        Ok(open)
    }

    /// The parameters of mixers and feed-forward parts of every task, as a table.
    fn table(&self) -> Result<String> {
        let settings = self.settings;
        let mut rows = Vec::new();
        for task in &settings.task {
            for mixer in &settings.mixer {
                let matched = self.matched(task, mixer)?;
                rows.push(format!(
                    "{:<10} {:<20} {:>5} {:>9} {:>+7.2} %",
                    task.name,
                    mixer.name,
                    matched.ffn,
                    matched.parameters,
                    100.0 * matched.off()
                ));
            }
        }
        let head = "task       mixer                  ffn   in layers   beside the reference";
        Ok(if rows.is_empty() {
            String::new()
        } else {
            format!("{head}\n{}", rows.join("\n"))
        })
    }

    /// About how many seconds jobs take.
    fn estimate(&self, jobs: &[Job]) -> f64 {
        jobs.iter().map(|&job| self.seconds(job)).sum()
    }

    /// About how many seconds a job takes: as long as with another seed, else what the reference takes, so many times longer as
    /// the mixer took on other tasks.
    fn seconds(&self, job: Job) -> f64 {
        /// Of costs by length: most mixers take less, none much more.
        const COST_SECONDS: f64 = 20.0;
        /// What a mixer takes beside the reference that was not run yet.
        const UNKNOWN: f64 = 1.5;
        let Job::Train(task, mixer, _) = job else {
            return COST_SECONDS;
        };
        let took = |task: &Task, mixer: &str| {
            let runs = self.runs(task, mixer);
            let seconds: Vec<f64> = runs.iter().map(|(_, run)| run.seconds).collect();
            (!seconds.is_empty()).then(|| judge::mean(&seconds))
        };
        let reference = &*self.settings.reference;
        if let Some(seconds) = took(task, &mixer.name) {
            return seconds;
        }
        let ratios: Vec<f64> = self
            .settings
            .task
            .iter()
            .filter_map(|task| Some(took(task, &mixer.name)? / took(task, reference)?))
            .collect();
        let ratio = if mixer.name == reference {
            1.0
        } else if ratios.is_empty() {
            UNKNOWN
        } else {
            judge::mean(&ratios)
        };
        ratio * took(task, reference).unwrap_or(60.0 * task.minutes)
    }

    fn is_done(&self, job: Job) -> Result<bool> {
        Ok(match job {
            Job::Cost(mixer) => cost::done(mixer.cost(), &self.cost_path(mixer)).is_some(),
            Job::Train(task, mixer, seed) => self.trained(task, mixer, seed)?.is_some(),
        })
    }

    /// Does a job, and says what came out; nothing of a training that `until` has stopped.
    fn perform(&self, job: Job, until: Instant) -> Result<Option<String>> {
        match job {
            Job::Cost(mixer) => {
                let path = self.cost_path(mixer);
                let cost = cost::measure(mixer.cost(), &path)?;
                let grows = cost.fit(cost::Measure::Training);
                Ok(Some(format!(
                    "trains by the power {:.2} of the length",
                    grows.map_or(f64::NAN, |fit| fit.exponent)
                )))
            }
            Job::Train(task, mixer, seed) => {
                for step in &task.prepare {
                    let resolve = |name: &str| self.resolve(task, step, name);
                    perform(&self.program, step, &self.made(step), &resolve)?;
                }
                let run = self.train(task, mixer, seed, until)?;
                Ok(run.map(|run| format!("{} {}", task.quality.name, shortened(run.quality))))
            }
        }
    }

    /// Trains a model, or goes on with one that was stopped; nothing if `until` stops it.
    fn train(
        &self,
        task: &Task,
        mixer: &Contender,
        seed: u64,
        until: Instant,
    ) -> Result<Option<Trained>> {
        let mut words = self.words(task, mixer, seed)?;
        let of = self.of(task, &words);
        let output = self.model(task, mixer, seed);
        let part = beside(&output, "part");
        let mut spent = Spent::of(&part, &of);
        if spent.seconds > 0.0 {
            words = vec![
                "train".to_owned(),
                "--resume".to_owned(),
                text(output.clone())?,
            ];
        } else if output.exists() {
            fs::remove_dir_all(&output).with_context(|| shown(&output))?;
        }
        let parent = output.parent().expect("a folder for each mixer");
        fs::create_dir_all(parent).with_context(|| shown(parent))?;
        // Until it is stopped in order, what it has spent is not known, and it would begin anew.
        if part.exists() {
            fs::remove_file(&part).with_context(|| shown(&part))?;
        }
        let (start, before) = (Instant::now(), computed());
        let ran = cloze(&self.program, &words, &output, Some(until))?;
        let processor = before.zip(computed()).map(|(before, after)| after - before);
        spent = Spent {
            of,
            seconds: spent.seconds + start.elapsed().as_secs_f64(),
            processor_seconds: spent
                .processor_seconds
                .zip(processor)
                .map(|(before, now)| before + now as f64),
            peak_bytes: spent.peak_bytes.max(ran.peak),
        };
        let write = |path: &Path, json: String| fs::write(path, json).with_context(|| shown(path));
        if ran.is_stopped && !output.join("metrics.json").is_file() {
            write(&part, serde_json::to_string_pretty(&spent)?)?;
            return Ok(None);
        }
        let also = task.also.iter();
        let run = Trained {
            commit: self.commit.clone(),
            quality: value(&output, &task.quality.at)?,
            also: also
                .map(|(name, place)| Ok((name.clone(), value(&output, place)?)))
                .collect::<Result<_>>()?,
            parameters: parameters(&output.join("model.safetensors"))?,
            of: spent.of,
            seconds: spent.seconds,
            processor_seconds: spent.processor_seconds,
            peak_bytes: spent.peak_bytes,
        };
        write(
            &beside(&output, "json"),
            serde_json::to_string_pretty(&run)?,
        )?;
        Ok(Some(run))
    }

    /// The words of the command that trains a model.
    fn words(&self, task: &Task, mixer: &Contender, seed: u64) -> Result<Vec<String>> {
        let data = command(&task.train, &|name| match self.source(name) {
            Some(path) => quoted(&path?),
            None => match task.prepare.iter().find(|step| step.name == name) {
                Some(step) => quoted(&text(self.made(step))?),
                None => bail!(
                    "task {:?}: `{{{name}}}` is neither a source nor made",
                    task.name
                ),
            },
        })?;
        let set = |path: &str, value: &str| ["--set".to_owned(), format!("{path}={value}")];
        let ffn = self.matched(task, mixer)?.ffn;
        let recipe = text(task.recipe(&self.folder))?;
        Ok(["train".to_owned(), recipe]
            .into_iter()
            .chain(data)
            .chain(set(&task.mixer, &mixer.set.to_string()))
            .chain(set(&task.ffn, &ffn.to_string()))
            .chain(["--seed".to_owned(), seed.to_string()])
            .chain(["-o".to_owned(), text(self.model(task, mixer, seed))?])
            .collect())
    }

    /// All that a run follows from.
    fn of(&self, task: &Task, words: &[String]) -> String {
        let recipe = &self.recipes[&*task.name].0;
        format!("{}\n{recipe}\n{:?}", words.join("\n"), task.prepare)
    }

    fn matched(&self, task: &Task, mixer: &Contender) -> Result<matched::Matched> {
        let reference = self.settings.reference()?.mixer()?;
        self.shape(task)
            .matched(&mixer.mixer()?, &reference)
            .with_context(|| format!("task {:?}, mixer {:?}", task.name, mixer.name))
    }

    /// The size of a task's model.
    fn shape(&self, task: &Task) -> Shape {
        self.recipes[&*task.name].1
    }

    /// What a name stands for in a step.
    fn resolve(&self, task: &Task, step: &Step, name: &str) -> Result<String> {
        if name == "out" {
            return text(self.made(step));
        }
        if let Some(path) = self.source(name) {
            return path;
        }
        let mut before = task
            .prepare
            .iter()
            .take_while(|other| other.name != step.name);
        match before.find(|other| other.name == name) {
            Some(other) => text(self.made(other)),
            None => bail!(
                "step {:?}: `{{{name}}}` is neither a source nor an earlier step",
                step.name
            ),
        }
    }

    fn source(&self, name: &str) -> Option<Result<String>> {
        let source = self.settings.source.get(name)?;
        Some(text(self.data.join(&source.path)))
    }

    fn made(&self, step: &Step) -> PathBuf {
        let extension = step.make.as_ref().map_or("", |make| make.write.extension());
        self.out
            .join(DATA)
            .join(format!("{}{extension}", step.name))
    }

    fn cost_path(&self, mixer: &Contender) -> PathBuf {
        self.out
            .join(COST)
            .join(slug(mixer.cost()))
            .with_extension("json")
    }

    fn model(&self, task: &Task, mixer: &Contender, seed: u64) -> PathBuf {
        let folder = self.out.join(&task.name).join(slug(&mixer.name));
        folder.join(format!("seed-{seed}"))
    }

    /// What is known of a run, if it was of the same command.
    fn trained(&self, task: &Task, mixer: &Contender, seed: u64) -> Result<Option<Trained>> {
        let path = beside(&self.model(task, mixer, seed), "json");
        if !path.is_file() {
            return Ok(None);
        }
        let of = self.of(task, &self.words(task, mixer, seed)?);
        let run: Trained = serde_json::from_str(&read(&path)?).with_context(|| shown(&path))?;
        Ok(Some(run).filter(|run| run.of == of))
    }

    /// What is known of all runs of a mixer on a task, by seed, whatever seeds were asked for.
    fn runs(&self, task: &Task, mixer: &str) -> Vec<(u64, Trained)> {
        let Some(mixer) = self.settings.mixer.iter().find(|one| one.name == mixer) else {
            return Vec::new();
        };
        let folder = self.out.join(&task.name).join(slug(&mixer.name));
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut runs: Vec<(u64, Trained)> = files
            .filter_map(|file| {
                let name = file.file_name().into_string().ok()?;
                let seed = name
                    .strip_prefix("seed-")?
                    .strip_suffix(".json")?
                    .parse()
                    .ok()?;
                Some((seed, self.trained(task, mixer, seed).ok()??))
            })
            .collect();
        runs.sort_by_key(|&(seed, _)| seed);
        runs
    }
}

/// Numbers in a file of tensors.
fn parameters(path: &Path) -> Result<u64> {
    let bytes = fs::read(path).with_context(|| shown(path))?;
    let header = |bytes: &[u8]| {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice::<BTreeMap<String, Value>>(rest.get(..length)?).ok()
    };
    let header = header(&bytes).with_context(|| format!("{}: no safetensors", shown(path)))?;
    let sizes = header
        .values()
        .filter_map(|tensor| tensor["shape"].as_array());
    Ok(sizes
        .map(|shape| shape.iter().filter_map(Value::as_u64).product::<u64>())
        .sum())
}

/// A name as files have it.
fn slug(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .ok()
        .context("a path that is not UTF-8")
}

/// As one word of a command.
fn quoted(text: &str) -> Result<String> {
    Ok(shlex::try_quote(text)?.into_owned())
}

/// A number as a table has it: four digits, or whole ones in groups where there are more.
fn shortened(value: f64) -> String {
    let magnitude = value.abs();
    if value >= 999.95 {
        return verdict::grouped_digits(value.round() as usize);
    }
    let decimals = if magnitude >= 100.0 {
        1
    } else if magnitude >= 10.0 {
        2
    } else if magnitude >= 1.0 {
        3
    } else {
        4
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(seeds: u64) -> Arguments {
        Arguments {
            data: PathBuf::new(),
            budget: 1.0,
            only: Vec::new(),
            tasks: Vec::new(),
            seed: 5,
            seeds,
            out: PathBuf::new(),
        }
    }

    #[test]
    fn the_reference_comes_first_with_seeds_enough_to_tell_ties() {
        let mut settings = Settings::read(&root().join("bench/mixers")).unwrap();
        let only = ["pool".to_owned(), "fourier".to_owned()];
        settings.keep(&only, &["films".to_owned()]).unwrap();
        let names = |seeds| {
            let plan = Plan::new(&settings, seeds == 2, &arguments(seeds)).unwrap();
            plan.0.iter().map(Job::name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(1),
            [
                "films, attention, seed 5",
                "films, attention, seed 6",
                "films, attention, seed 7",
                "films, fourier, seed 5",
                "films, pool, seed 5",
            ]
        );
        let more = names(2);
        assert_eq!(more[0], "cost by length, attention");
        assert_eq!(more[8..], ["films, fourier, seed 6", "films, pool, seed 6"]);
        settings.task.clear();
        assert!(Plan::new(&settings, false, &arguments(1)).is_err());
    }

    #[test]
    fn what_is_left_out_is_named_by_task_and_seed() {
        let settings = Settings::read(&root().join("bench/mixers")).unwrap();
        let (task, mixers) = (&settings.task[0], &settings.mixer);
        let left = [
            Job::Train(task, &mixers[0], 1),
            Job::Train(task, &mixers[1], 1),
            Job::Cost(&mixers[0]),
        ];
        assert_eq!(
            grouped(&left),
            [
                "cost by length: attention",
                "words, seed 1: attention; window-attention"
            ]
        );
    }

    #[test]
    fn a_stopped_run_goes_on_unless_something_else_is_to_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        assert!(Spent::of(&path, "a").seconds <= 0.0);
        let spent = Spent {
            of: "a".to_owned(),
            seconds: 3.0,
            processor_seconds: Some(5.0),
            peak_bytes: None,
        };
        fs::write(&path, serde_json::to_string(&spent).unwrap()).unwrap();
        assert_eq!(Spent::of(&path, "a").processor_seconds, Some(5.0));
        assert_eq!(Spent::of(&path, "b").processor_seconds, Some(0.0));
    }

    #[test]
    fn parameters_are_counted_in_a_file_of_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let header = r#"{"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"b":{"dtype":"F32","shape":[5],"data_offsets":[48,68]},"__metadata__":{"format":"pt"}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        fs::write(&path, &bytes).unwrap();
        assert_eq!(parameters(&path).unwrap(), 17);
        fs::write(&path, &bytes[..20]).unwrap();
        assert!(parameters(&path).is_err());
    }

    #[test]
    fn numbers_are_shown_with_four_digits() {
        let shown = [0.12345, 5.5, 12.345, 123.45, 5455.7].map(shortened);
        assert_eq!(shown, ["0.1235", "5.500", "12.35", "123.5", "5,456"]);
    }
}
