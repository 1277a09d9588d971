//! `metrics.jsonl` and `report.html`, kept up to date while a run goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloze_train::evaluate::Result as Judged;
use cloze_train::report::scores::Scores;
use cloze_train::report::{Journal, Report, Row, Sample, State, Status, StepRow, ValidationRow};
use cloze_train::run::{Event, StepReport};

/// Name of the page in the model folder.
pub const REPORT: &str = "report.html";
const JOURNAL: &str = "metrics.jsonl";

/// The page is written no more often than this.
const WRITE_EVERY: Duration = Duration::from_secs(3);
/// Points that a whole run has in its loss curve, about.
const POINTS: u64 = 500;

/// Writes down what a run tells.
pub struct Dashboard {
    path: PathBuf,
    journal: Journal,
    report: Report,
    written: Option<Instant>,
    /// Steps between two points of the loss curve.
    every: u64,
    pending: Pending,
}

/// What a run is about.
pub struct About<'a> {
    /// The publication's title.
    pub title: Option<&'a str>,
    /// The metric that validation goes by.
    pub metric: &'a str,
    /// Facts about the data: name and value.
    pub data: Vec<(&'static str, String)>,
    /// The resolved recipe.
    pub recipe: String,
}

/// Sums since the last row.
#[derive(Default)]
struct Pending {
    steps: u32,
    loss: f64,
    tokens: usize,
    /// Seconds of training when the last row was written.
    since: f64,
}

impl Dashboard {
    /// Begins, or goes on where the run does.
    pub fn start(
        out: &Path,
        about: About<'_>,
        state: &cloze_train::checkpoint::State,
        total_steps: u64,
    ) -> anyhow::Result<Self> {
        let (journal, rows) = Journal::resume(&out.join(JOURNAL), state.step)?;
        let name = out.file_name().map_or_else(
            || out.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        let paper = about.title.and_then(|title| title.split(':').next());
        let paper = paper.unwrap_or("Encoder");
        let report = Report {
            title: format!("{paper} · {name}"),
            status: Status {
                state: State::Running,
                step: state.step,
                total_steps,
                epoch: state.epoch as f64,
                elapsed: Duration::from_secs_f64(state.seconds),
                remaining: None,
            },
            metric: about.metric.to_owned(),
            rows,
            results: Vec::new(),
            scores: Scores::default(),
            samples: Vec::new(),
            dataset: about
                .data
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            environment: environment(),
            recipe: about.recipe,
        };
        let pending = Pending {
            since: state.seconds,
            ..Pending::default()
        };
        let every = (total_steps / POINTS).max(1);
        let mut dashboard = Self {
            path: out.join(REPORT),
            journal,
            report,
            written: None,
            every,
            pending,
        };
        dashboard.write()?;
        Ok(dashboard)
    }

    /// Takes note of an event.
    pub fn observe(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Started { .. } | Event::Saved { .. } => Ok(()),
            Event::Step(step) => self.step(step),
            Event::Validated { state, metrics, .. } => {
                let row = ValidationRow {
                    step: state.step,
                    epoch: state.epoch as f64,
                    seconds: state.seconds,
                    metrics: metrics.iter().cloned().collect(),
                };
                self.add(Row::Validation(row))?;
                self.write()
            }
        }
    }

    fn step(&mut self, step: &StepReport) -> anyhow::Result<()> {
        self.pending.steps += 1;
        self.pending.loss += f64::from(step.loss);
        self.pending.tokens += step.tokens;
        let status = &mut self.report.status;
        status.step = step.step;
        status.epoch = step.epochs;
        status.elapsed = Duration::from_secs_f64(step.seconds);
        let left = status.total_steps.saturating_sub(step.step) as f64;
        status.remaining = Some(Duration::from_secs_f64(
            step.seconds / step.step as f64 * left,
        ));
        if step.step.is_multiple_of(self.every) {
            let Pending {
                steps,
                loss,
                tokens,
                since,
            } = std::mem::take(&mut self.pending);
            self.pending.since = step.seconds;
            self.add(Row::Step(StepRow {
                step: step.step,
                epoch: step.epochs,
                seconds: step.seconds,
                loss: loss / f64::from(steps),
                gradient_norm: step.gradient_norm,
                lr: step.lr,
                tokens_per_second: tokens as f64 / (step.seconds - since),
            }))?;
        }
        if self
            .written
            .is_none_or(|written| written.elapsed() >= WRITE_EVERY)
        {
            self.write()
        } else {
            Ok(())
        }
    }

    /// Shows lists for some users.
    pub fn show(&mut self, samples: Vec<Sample>) {
        self.report.samples = samples;
    }

    /// Shows how good an encoder of texts is.
    pub fn score(&mut self, scores: Scores) {
        self.report.scores = scores;
    }

    /// The last word on a run.
    pub fn finish(&mut self, state: State, results: Vec<Judged>) -> anyhow::Result<()> {
        self.report.status.state = state;
        self.report.status.remaining = None;
        self.report.results = results;
        self.write()
    }

    fn add(&mut self, row: Row) -> anyhow::Result<()> {
        self.journal.append(&row)?;
        self.report.rows.push(row);
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.written = Some(Instant::now());
        Ok(self.report.write(&self.path)?)
    }
}

fn environment() -> Vec<(String, String)> {
    vec![
        ("cloze".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("instruction set".to_owned(), cloze_train::instruction_set()),
        (
            "threads".to_owned(),
            rayon::current_num_threads().to_string(),
        ),
    ]
}
