//! What each mixer costs by length, as bench/mixers/run.sh measures it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::judge::{CrossOver, Power, cross_over};
use crate::workspace::{program, read, shown};

/// Lengths in tokens.
const LENGTHS: [usize; 8] = [128, 256, 512, 1024, 2048, 4096, 8192, 16384];
/// Exponents are fitted from here on: below it, what a call costs whatever its length would flatten them.
pub const FIT_FROM: usize = 1024;

/// What was measured of a mixer: one sequence of each length at a time.
#[derive(Debug, Clone, Deserialize)]
pub struct Cost {
    /// What it is called there.
    kind: String,
    /// Channels of a token.
    pub width: usize,
    /// Times that are measured for each median.
    pub rounds: usize,
    /// Lengths in tokens.
    pub tokens: Vec<usize>,
    forward_seconds: Vec<f64>,
    training_seconds: Vec<f64>,
    kept_bytes: Vec<f64>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Seconds of a forward pass.
    Forward,
    /// Seconds forward and backward.
    Training,
    /// Bytes kept between the two.
    Memory,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Training, Self::Memory];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Training => "training",
            Self::Memory => "memory",
        }
    }

    /// What its numbers are shown in, and how many of those one of the measured is.
    pub fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Forward | Self::Training => ("ms", 1e3),
            Self::Memory => ("MiB", 1.0 / 1_048_576.0),
        }
    }
}

impl Cost {
    /// The numbers of a measure, a number a length.
    pub fn of(&self, measure: Measure) -> &[f64] {
        match measure {
            Measure::Forward => &self.forward_seconds,
            Measure::Training => &self.training_seconds,
            Measure::Memory => &self.kept_bytes,
        }
    }

    /// The shortest and the longest length.
    pub fn ends(&self) -> [usize; 2] {
        [self.tokens[0], self.tokens[self.tokens.len() - 1]]
    }

    /// How it grows.
    pub fn fit(&self, measure: Measure) -> Option<Power> {
        let points = self.tokens.iter().zip(self.of(measure));
        let long = points.filter(|(tokens, cost)| **tokens >= FIT_FROM && **cost > 0.0);
        let points: Vec<(f64, f64)> = long.map(|(&n, &cost)| (n as f64, cost)).collect();
        Power::fit(&points)
    }

    /// The exponent of that, as it is shown.
    pub fn exponent(&self, measure: Measure) -> String {
        self.fit(measure)
            .map_or("–".to_owned(), |fit| format!("{:.2}", fit.exponent))
    }

    /// From which length on it is cheaper than `reference`; none unless both were measured at the same lengths.
    pub fn cross_over(&self, reference: &Self, measure: Measure) -> Option<CrossOver> {
        let lengths: Vec<f64> = self.tokens.iter().map(|&tokens| tokens as f64).collect();
        let fits = self.fit(measure).zip(reference.fit(measure));
        (self.tokens == reference.tokens).then(|| {
            cross_over(
                &lengths,
                self.of(measure),
                reference.of(measure),
                fits.map(|(own, other)| [own, other]),
            )
        })
    }
}

/// Reads what was measured of a kind, if it was at the lengths of today.
pub fn done(kind: &str, path: &Path) -> Option<Cost> {
    let text = fs::read_to_string(path).ok()?;
    let rows: Vec<Cost> = serde_json::from_str(&text).ok()?;
    rows.into_iter().find(|cost| {
        let counts = Measure::ALL.map(|measure| cost.of(measure).len());
        cost.kind == kind && cost.tokens == LENGTHS && counts == [LENGTHS.len(); 3]
    })
}

/// Measures a kind.
///
/// # Errors
/// When the program fails, or has no such kind.
pub fn measure(kind: &str, path: &Path) -> Result<Cost> {
    let log = path.with_extension("log");
    let lengths = LENGTHS.map(|length| length.to_string()).join(",");
    let temporary = path.with_extension("tmp");
    let status = program("bench/mixers/run.sh")
        .args(["--lengths", &lengths, "--only", kind, "--json"])
        .arg(&temporary)
        .stdin(Stdio::null())
        .stdout(fs::File::create(path.with_extension("out"))?)
        .stderr(fs::File::create(&log)?)
        .status()
        .context("bench/mixers/run.sh cannot be started")?;
    if !status.success() {
        bail!(
            "bench/mixers/run.sh ended with {status}: {}",
            read(&log)?.trim()
        );
    }
    fs::rename(&temporary, path).with_context(|| shown(&temporary))?;
    done(kind, path).with_context(|| {
        format!(
            "bench/mixers/run.sh measured no {kind:?}; crates/nn/tests/kinds lists what there is"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(kind: &str, seconds: fn(f64) -> f64) -> Cost {
        let list: Vec<f64> = LENGTHS
            .iter()
            .map(|&length| seconds(length as f64))
            .collect();
        Cost {
            kind: kind.to_owned(),
            width: 32,
            rounds: 3,
            tokens: LENGTHS.to_vec(),
            forward_seconds: list.clone(),
            training_seconds: list.clone(),
            kept_bytes: list,
        }
    }

    #[test]
    fn what_a_call_costs_anyway_does_not_flatten_exponents() {
        let squares = cost("a", |n| if n < 1024.0 { 1e6 } else { n * n });
        let fit = squares.fit(Measure::Forward).unwrap();
        assert!((fit.exponent - 2.0).abs() < 1e-9);
        let line = cost("b", |n| 4000.0 * n);
        match line.cross_over(&squares, Measure::Training) {
            Some(CrossOver::From(length)) => {
                assert!((3900.0..4100.0).contains(&length), "{length}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_a_file_or_other_lengths_are_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cost.json");
        assert!(done("pool", &path).is_none());
        let list = |length: usize| format!("{:?}", vec![1.0; length]);
        let row = |tokens: &[usize], count| {
            format!(
                r#"[{{"kind": "pool", "claimed": 1.0, "width": 32, "rounds": 3, "tokens": {tokens:?},
                "forward_seconds": {0}, "training_seconds": {0}, "kept_bytes": {0}}}]"#,
                list(count)
            )
        };
        for (text, is_done) in [
            (row(&LENGTHS, 8), true),
            (row(&LENGTHS, 7), false),
            (row(&[1024], 1), false),
            (row(&LENGTHS, 8)[..50].to_owned(), false),
            ("[]".to_owned(), false),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(done("pool", &path).is_some(), is_done, "{text}");
        }
    }
}
