use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Columns, Texts};
use crate::Faults;
use crate::objective::no_settings;

/// Files that belong together, one of several such parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// What it is called in reports.
    pub name: String,
    /// To learn from.
    pub files: Vec<PathBuf>,
    /// To choose by; none: a share of the files, as of data without corpora.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<PathBuf>,
    /// Its columns; none: those of all texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// How much it counts beside the others, where [`Mix::Given`] asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Which share of the texts of an epoch each corpus has.
///
/// An epoch is as long as it takes for every text to be learned from at least once. A corpus whose share is greater than its
/// size is gone through several times; hidden tokens are others each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mix {
    /// By size: each text once.
    #[default]
    #[serde(deserialize_with = "no_settings")]
    Natural,
    /// All the same.
    ///
    /// # Source
    /// Wada et al., 2020, arXiv:2005.07202, §2: pre-training on all corpora at once after up-sampling the small one.
    #[serde(deserialize_with = "no_settings")]
    Balanced,
    /// By a power of the size.
    ///
    /// # Source
    /// Conneau and Lample, Cross-lingual Language Model Pretraining, 2019, arXiv:1901.07291, §3.1.
    Temperature(Temperature),
    /// By the corpora's weights.
    #[serde(deserialize_with = "no_settings")]
    Given,
}

/// How much less sizes count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// The power: 1 is by size, 0 all the same.
    pub exponent: f64,
}

impl Mix {
    pub(super) fn is_natural(&self) -> bool {
        *self == Self::Natural
    }

    /// The share of each corpus, by its number of texts and its weight, if it has one.
    ///
    /// # Panics
    /// If a weight is missing that is to be given.
    pub fn shares(self, sizes: &[(usize, Option<f64>)]) -> Vec<f64> {
        let parts = sizes.iter().map(|&(size, weight)| match self {
            Self::Natural => size as f64,
            Self::Balanced => 1.0,
            Self::Temperature(Temperature { exponent }) => (size as f64).powf(exponent),
            Self::Given => weight.expect("every corpus has a weight"),
        });
        let parts: Vec<f64> = parts.collect();
        let sum: f64 = parts.iter().sum();
        parts.into_iter().map(|part| part / sum).collect()
    }
}

impl Texts {
    /// The same with one corpus for all data.
    #[must_use]
    pub fn only(&self, corpus: &Corpus) -> Self {
        Self {
            files: corpus.files.clone(),
            validation: corpus.validation.clone(),
            columns: corpus.columns.as_ref().unwrap_or(&self.columns).clone(),
            corpus: Vec::new(),
            mix: Mix::Natural,
            ..self.clone()
        }
    }

    pub(super) fn check_corpora(&self, faults: &mut Faults) {
        if let Mix::Temperature(Temperature { exponent }) = self.mix {
            faults.check((0.0..=1.0).contains(&exponent), "data.mix.exponent", || {
                format!(
                    "expected a power from 0, all corpora alike, to 1, by size; found {exponent}"
                )
            });
        }
        if self.corpus.is_empty() {
            faults.check(self.mix == Mix::Natural, "data.mix", || {
                "expected corpora to mix, each a [[data.corpus]] or --corpus NAME=FILE, found none".to_owned()
            });
            return;
        }
        for (key, is_empty, where_else) in [
            (
                "files",
                self.files.is_empty(),
                "give them a name, as a corpus of their own",
            ),
            (
                "validation",
                self.validation.is_empty(),
                "each corpus has its own",
            ),
        ] {
            faults.check(is_empty, &format!("data.{key}"), || {
                format!("expected none beside data.corpus; {where_else}")
            });
        }
        faults.check(self.per_class.is_none(), "data.per_class", || {
            "expected none beside data.corpus".to_owned()
        });
        let mut seen = BTreeSet::new();
        let pairs = |corpus: &Corpus| {
            let columns = corpus.columns.as_ref().unwrap_or(&self.columns);
            columns.second.is_some()
        };
        for (index, corpus) in self.corpus.iter().enumerate() {
            let path = format!("data.corpus.{index}");
            faults.check(
                !corpus.name.is_empty() && seen.insert(&corpus.name),
                &format!("{path}.name"),
                || {
                    format!(
                        "expected a name that no other corpus has, found {:?}",
                        corpus.name
                    )
                },
            );
            faults.check(!corpus.files.is_empty(), &format!("{path}.files"), || {
                "expected at least one file, found none".to_owned()
            });
            faults.check(
                pairs(corpus) == pairs(&self.corpus[0]),
                &format!("{path}.columns.second"),
                || "expected pairs in every corpus or in none".to_owned(),
            );
            let path = format!("{path}.weight");
            match (self.mix, corpus.weight) {
                (Mix::Given, None) => faults.check(false, &path, || {
                    "expected a weight, as of every corpus where data.mix is given, found none"
                        .to_owned()
                }),
                (Mix::Given, Some(weight)) => {
                    faults.check(weight > 0.0 && weight.is_finite(), &path, || {
                        format!("expected a number above 0, found {weight}")
                    });
                }
                (_, Some(_)) => faults.check(false, &path, || {
                    "expected none, as data.mix does not go by weights; set data.mix.kind=given"
                        .to_owned()
                }),
                (_, None) => {}
            }
        }
    }
}
