//! What a run leaves for people to look at: `metrics.jsonl` and a page in HTML.

pub mod analysis;
mod chart;
mod html;
pub mod journal;
pub mod scores;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use cloze_spec::folder::write_atomically;

pub use journal::{Journal, Row, StepRow, ValidationRow};

use crate::Error;
use crate::evaluate::Result as Evaluated;
use scores::Scores;

/// Everything the page shows. What is empty is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was trained, and on what.
    pub title: String,
    /// Where the run stands.
    pub status: Status,
    /// Name of the metric that validation goes by, such as `ndcg@10`.
    pub metric: String,
    /// What was measured on the way.
    pub rows: Vec<Row>,
    /// How the model and the baselines did on the test cases, the model first. All under the same protocols.
    pub results: Vec<Evaluated>,
    /// How an encoder of texts did, and the baselines.
    pub scores: Scores,
    /// Lists for some users.
    pub samples: Vec<Sample>,
    /// Facts about the data: name and value.
    pub dataset: Vec<(String, String)>,
    /// Facts about the program and the machine: name and value.
    pub environment: Vec<(String, String)>,
    /// The resolved recipe, as TOML.
    pub recipe: String,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Whether it goes on.
    pub state: State,
    /// Steps taken.
    pub step: u64,
    /// Steps planned; early stopping may end sooner.
    pub total_steps: u64,
    /// Epochs done, with the share of the one under way.
    pub epoch: f64,
    /// Time spent training.
    pub elapsed: Duration,
    /// Time left, as far as one can tell.
    pub remaining: Option<Duration>,
}

/// Whether a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It goes on; the page reloads itself.
    Running,
    /// It came to its end.
    Finished,
    /// It was asked to stop, and can be resumed.
    Interrupted,
    /// It failed, with this message.
    Failed(String),
}

/// A list for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The user's id.
    pub user: String,
    /// Her last items, oldest first.
    pub history: Vec<String>,
    /// What she is recommended, best first.
    pub recommended: Vec<String>,
    /// What she really took next.
    pub next: Vec<String>,
}

impl Report {
    /// The page: one file, nothing to load, light and dark, wide and narrow.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Writes the page in place of an older one, so that whoever reads it sees one or the other, never half.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let html = self.html();
        write_atomically(path, |file| file.write_all(html.as_bytes()))?;
        Ok(())
    }
}
