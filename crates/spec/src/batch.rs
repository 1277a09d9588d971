//! How sequences are cut and put together for training.

use serde::{Deserialize, Serialize};

use crate::objective::{fault, no_settings};

/// How many sequences make a batch. Nothing is padded, so its cost is its number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Most tokens of all its sequences together; no less than the longest sequence has.
    pub max_tokens: usize,
    /// Most sequences; absent: as many as `max_tokens` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sequences: Option<usize>,
}

impl Batch {
    /// What is wrong with values whose types are right, each fault with its key under `path`.
    pub fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        fault(&mut faults, self.max_tokens > 0, || {
            format!("{path}.max_tokens: expected at least 1, found 0")
        });
        fault(&mut faults, self.max_sequences != Some(0), || {
            format!("{path}.max_sequences: expected at least 1, found 0; leave it out for no limit")
        });
        faults
    }
}

/// Which parts of a long sequence are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Window {
    /// Overlapping windows over all of it.
    ///
    /// # Source
    /// The authors' code of BERT4Rec (Sun et al., CIKM 2019), `prop_sliding_window`.
    Sliding(Sliding),
    /// Its end only.
    ///
    /// # Source
    /// Kang and `McAuley`, Self-Attentive Sequential Recommendation, ICDM 2018, arXiv:1808.09781, §III.
    #[serde(deserialize_with = "no_settings")]
    Last,
}

/// Settings of sliding windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sliding {
    /// From the start of a window to that of the next, as a share of the longest sequence the model takes.
    pub step: f64,
}

impl Window {
    /// What is wrong with values whose types are right, each fault with its key under `path`.
    pub fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        match self {
            Self::Sliding(Sliding { step }) => {
                fault(&mut faults, *step > 0.0 && *step <= 1.0, || {
                    format!(
                        "{path}.step: expected a share above 0, up to 1, of the longest sequence, found {step}"
                    )
                });
            }
            Self::Last => {}
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_written_back() {
        let batch: Batch = toml::from_str("max_tokens = 4096").unwrap();
        assert_eq!(
            batch,
            Batch {
                max_tokens: 4096,
                max_sequences: None
            }
        );
        for text in ["kind = \"sliding\"\nstep = 0.5\n", "kind = \"last\"\n"] {
            let window: Window = toml::from_str(text).unwrap();
            assert_eq!(toml::to_string(&window).unwrap(), text);
        }
        assert!(toml::from_str::<Batch>("max_tokens = 4096\nmax_len = 3").is_err());
        assert!(toml::from_str::<Window>("kind = \"sliding\"\nstep = 0.5\nstride = 3").is_err());
        assert!(toml::from_str::<Window>("kind = \"last\"\nstep = 0.5").is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let batch = Batch {
            max_tokens: 0,
            max_sequences: Some(0),
        };
        assert_eq!(
            batch.faults("stage.0.batch"),
            [
                "stage.0.batch.max_tokens: expected at least 1, found 0",
                "stage.0.batch.max_sequences: expected at least 1, found 0; leave it out for no limit"
            ]
        );
        for step in [0.0, -0.5, 1.01, f64::NAN] {
            assert_eq!(
                Window::Sliding(Sliding { step }).faults("window").len(),
                1,
                "{step}"
            );
        }
        assert!(
            Window::Sliding(Sliding { step: 1.0 })
                .faults("window")
                .is_empty()
        );
        assert!(Window::Last.faults("window").is_empty());
    }
}
