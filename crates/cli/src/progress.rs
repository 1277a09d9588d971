//! What people see of a run: a bar on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use cloze_train::run::{Event, StepReport};
use indicatif::{ProgressBar, ProgressStyle};

/// Plain lines come no more often than this.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Rates are over this many of the latest steps.
const WINDOW: usize = 50;

const STRING: &str = "writing to a string cannot fail";

/// Shows a training run.
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    last_line: Instant,
    metric: String,
    best: Option<f64>,
    total_steps: u64,
    recent: VecDeque<StepReport>,
}

impl Progress {
    pub fn new(metric: &str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("training {bar:30} step {pos}/{len}  {msg}  {eta} left")
                .expect("a valid template"),
        );
        Self {
            bar,
            is_terminal,
            last_line: Instant::now(),
            metric: metric.to_owned(),
            best: None,
            total_steps: 0,
            recent: VecDeque::new(),
        }
    }

    pub fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Started {
                state,
                total_steps,
                parameters,
            } => {
                self.total_steps = *total_steps;
                self.best = state.best.map(|best| best.value);
                self.bar.set_length(*total_steps);
                self.bar.set_position(state.step);
                self.bar.reset_eta();
                let from = if state.step > 0 {
                    format!(", from step {}", state.step)
                } else {
                    String::new()
                };
                self.line(&format!(
                    "training {parameters} parameters for at most {total_steps} steps{from}"
                ));
            }
            Event::Step(report) => {
                self.recent.push_back(*report);
                if self.recent.len() > WINDOW {
                    self.recent.pop_front();
                }
                self.bar.set_position(report.step);
                if self.is_terminal {
                    self.bar.set_message(self.numbers());
                } else if self.last_line.elapsed() >= LINE_EVERY {
                    self.last_line = Instant::now();
                    let left = self
                        .seconds_left(report)
                        .map_or_else(String::new, |s| format!(", {s:.0} s left"));
                    eprintln!(
                        "step {}/{}  {}{left}",
                        report.step,
                        self.total_steps,
                        self.numbers()
                    );
                }
            }
            Event::Validated {
                state,
                value,
                is_best,
                metrics,
            } => {
                // Those of corpora are named after them.
                let parts = metrics.iter().filter_map(|(name, value)| {
                    let corpus = name.strip_prefix(&self.metric)?.strip_prefix(" of ")?;
                    Some(format!("  {corpus} {value:.4}"))
                });
                let parts: String = parts.collect();
                let mark = if *is_best { "  best so far" } else { "" };
                self.best = state.best.map(|best| best.value);
                self.line(&format!(
                    "epoch {:>3}  validation {} {value:.4}{parts}{mark}",
                    state.epoch, self.metric
                ));
            }
            Event::Saved { .. } => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if self.is_terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    /// Sequences, tokens and seconds of the steps in the window, its first step being the start of the clock.
    fn rate(&self) -> Option<(f64, f64, f64)> {
        let (first, last) = (self.recent.front()?, self.recent.back()?);
        let seconds = last.seconds - first.seconds;
        let later = self.recent.iter().skip(1);
        let (sequences, tokens) = later.fold((0, 0), |(s, t), r| (s + r.sequences, t + r.tokens));
        (seconds > 0.0).then(|| (sequences as f64 / seconds, tokens as f64 / seconds, seconds))
    }

    fn seconds_left(&self, report: &StepReport) -> Option<f64> {
        let (_, _, seconds) = self.rate()?;
        let a_step = seconds / (self.recent.len() - 1) as f64;
        Some(self.total_steps.saturating_sub(report.step) as f64 * a_step)
    }

    fn numbers(&self) -> String {
        let loss =
            self.recent.iter().map(|r| r.loss).sum::<f32>() / self.recent.len().max(1) as f32;
        let mut text = format!("loss {loss:.3}");
        if let Some(best) = self.best {
            write!(text, "  {} {best:.4}", self.metric).expect(STRING);
        }
        if let Some((sequences, tokens, _)) = self.rate() {
            let thousands = tokens / 1000.0;
            write!(
                text,
                "  {sequences:.0} sequences/s  {thousands:.1}k tokens/s"
            )
            .expect(STRING);
        }
        text
    }
}
