//! All that is known once the budget is spent.

use std::collections::BTreeSet;
use std::thread;

use anyhow::Result;

use super::cost::{self, Cost};
use super::judge::{Spread, Verdict, better, mean, verdict};
use super::matched::{Matched, Shape};
use super::settings::{Contender, Task};
use super::{Bench, Job, Plan, Trained, grouped};

/// What came out.
pub struct Results<'a> {
    /// Name of the mixer that all are compared with.
    pub reference: String,
    /// What ran it, in words.
    pub machine: String,
    /// The commits that ran it.
    pub commits: Vec<String>,
    /// The tasks of which something is known.
    pub tasks: Vec<Learned<'a>>,
    /// What mixers cost by length.
    pub costs: Vec<(&'a Contender, Cost)>,
    /// What was left out, by task and seed.
    pub left: Vec<String>,
}

/// What is known of a task.
pub struct Learned<'a> {
    /// The task.
    pub task: &'a Task,
    /// The size of its models.
    pub shape: Shape,
    /// Its mixers of which there is a run.
    pub rows: Vec<Row<'a>>,
    /// How far seeds lie apart.
    pub spread: Option<Spread>,
}

/// A mixer on a task.
pub struct Row<'a> {
    /// The mixer.
    pub mixer: &'a Contender,
    /// Its parameters.
    pub matched: Matched,
    /// Its runs by seed.
    pub(super) runs: Vec<(u64, Trained)>,
}

impl Row<'_> {
    /// What each run came to.
    pub fn qualities(&self) -> Vec<f64> {
        self.numbers(|run| Some(run.quality))
    }

    /// The mean of that.
    pub fn quality(&self) -> f64 {
        mean(&self.qualities())
    }

    /// The mean of another number.
    pub fn also(&self, name: &str) -> f64 {
        mean(&self.numbers(|run| run.also.get(name).copied()))
    }

    /// Seconds of processors for a run, training and judging; by the clock where the system does not tell.
    pub fn seconds(&self) -> f64 {
        mean(&self.numbers(|run| Some(run.processor_seconds.unwrap_or(run.seconds))))
    }

    /// The most memory held, in mebibytes, as it is shown.
    pub fn peak(&self) -> String {
        let peaks = self.numbers(|run| run.peak_bytes.map(|bytes| bytes as f64));
        if peaks.is_empty() {
            return "–".to_owned();
        }
        format!("{:.0}", mean(&peaks) / 1_048_576.0)
    }

    /// Parameters of the whole model.
    pub fn parameters(&self) -> u64 {
        self.runs[0].1.parameters
    }

    fn numbers(&self, of: impl Fn(&Trained) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(|(_, run)| of(run)).collect()
    }
}

impl<'a> Learned<'a> {
    /// The reference's row.
    pub fn reference(&self, name: &str) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.mixer.name == name)
    }

    /// What one row is beside another.
    pub fn verdict(&self, own: &Row, other: &Row) -> Option<Verdict> {
        let lower = self.task.quality.lower_is_better;
        verdict(&own.qualities(), &other.qualities(), lower, self.spread)
    }

    /// The rows by their means, of equals the first first.
    pub fn best_first(&self) -> Vec<&Row<'a>> {
        let lower = self.task.quality.lower_is_better;
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|a, b| better(a.quality(), b.quality(), lower));
        rows
    }

    /// The first of them: something is known of a task.
    pub fn best(&self) -> &Row<'a> {
        self.best_first()[0]
    }
}

impl<'a> Results<'a> {
    /// Reads what `bench` has of `plan`, of which `left` was not done.
    pub fn gather(bench: &Bench<'a>, plan: &Plan<'a>, left: &[Job]) -> Result<Self> {
        let settings = bench.settings;
        let mut commits = BTreeSet::new();
        let mut tasks = Vec::new();
        for task in &settings.task {
            let mut rows = Vec::new();
            for mixer in &settings.mixer {
                let runs = bench.runs(task, &mixer.name);
                if runs.is_empty() {
                    continue;
                }
                commits.extend(runs.iter().map(|(_, run)| run.commit.clone()));
                rows.push(Row {
                    mixer,
                    matched: bench.matched(task, mixer)?,
                    runs,
                });
            }
            if rows.is_empty() {
                continue;
            }
            let qualities: Vec<Vec<f64>> = rows.iter().map(Row::qualities).collect();
            tasks.push(Learned {
                task,
                shape: bench.shape(task),
                spread: Spread::of(qualities.iter().map(Vec::as_slice)),
                rows,
            });
        }
        let measured = plan.0.iter().filter_map(|job| match job {
            Job::Cost(mixer) => Some((*mixer, cost::done(mixer.cost(), &bench.cost_path(mixer))?)),
            Job::Train(..) => None,
        });
        Ok(Self {
            reference: settings.reference.clone(),
            machine: machine(),
            costs: measured.collect(),
            commits: commits.into_iter().collect(),
            tasks,
            left: grouped(left),
        })
    }

    /// What the reference costs by length.
    pub fn reference_cost(&self) -> Option<&Cost> {
        let mut all = self.costs.iter();
        all.find(|(mixer, _)| mixer.name == self.reference)
            .map(|(_, cost)| cost)
    }

    /// All mixers of which something is known, in the order of the settings.
    pub fn mixers(&self) -> Vec<&str> {
        let learned = self.tasks.iter().flat_map(|task| &task.rows);
        let costs = self.costs.iter().map(|(mixer, _)| &*mixer.name);
        let mut seen = BTreeSet::new();
        let all = learned.map(|row| &*row.mixer.name).chain(costs);
        all.filter(|name| seen.insert(*name)).collect()
    }
}

/// The processor and how many of its cores there are.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let set = if has("avx512f") {
        ", AVX-512"
    } else if has("avx2") {
        ", AVX2"
    } else {
        ""
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{model}{set}, {cores} cores")
}
