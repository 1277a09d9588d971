use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::objective::{Objective, Problem};
use crate::Faults;
use crate::batch::Batch;

/// A classifier of the older kinds on features of texts: vectors of an encoder that stays as it is, weighted terms, shares of
/// words in the categories of a list. All that is fitted is fitted to the training part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// What is to be predicted: one label a text.
    pub objective: Objective,
    /// What the classifier is told of a text, one after the other.
    pub features: Vec<Feature>,
    /// The classifier.
    pub classifier: Classifier,
    /// How many tokens the encoder runs at a time.
    pub batch: Batch,
    /// The metric that decides.
    pub metric: String,
}

/// Numbers that are told of a text, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Feature {
    /// A vector of the encoder; each channel with mean 0 and deviation 1 over the training texts.
    Encoder(Pooled),
    /// Weighted runs of words or characters, each text of length 1.
    Terms(Grams),
    /// Shares of words in the categories of a list, scaled as vectors are.
    Lexicon(WordList),
}

/// A vector that stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pooled {
    /// What is made of the tokens' vectors.
    pub pool: Pooling,
    /// The layer whose output it is, counted from 1; 0: the embedding; none: the last, after the final norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
}

/// What is made of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The first one.
    First,
    /// The mean.
    Mean,
    /// The largest of each channel.
    Max,
}

/// Which runs of words or characters are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grams {
    /// Runs of what.
    pub unit: TermUnit,
    /// Shortest run.
    pub min: usize,
    /// Longest run.
    pub max: usize,
    /// Training texts that must have it.
    #[serde(default = "one")]
    pub min_texts: usize,
    /// Most terms: the most frequent ones.
    #[serde(default = "many")]
    pub max_terms: usize,
}

fn one() -> usize {
    1
}

fn many() -> usize {
    20_000
}

/// What terms are runs of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TermUnit {
    /// Words of two characters and more.
    Words,
    /// Characters, blanks among them.
    Characters,
}

/// A list of words in categories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordList {
    /// The file, `.dic`; relative to the working folder.
    pub file: PathBuf,
}

/// A classifier, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Classifier {
    /// Linear, by the cross-entropy and squared weights.
    Logistic(Cost),
    /// Linear, by the hinge loss and squared weights; of more than two classes each against the rest.
    LinearSvm(Cost),
    /// The same in the space of Gaussian bumps around the training texts.
    RbfSvm(Rbf),
    /// Each feature normal and by itself, given the class.
    #[serde(deserialize_with = "crate::objective::no_settings")]
    NaiveBayes,
    /// Many trees, each of texts and features drawn at random.
    RandomForest(Forest),
}

/// What misses cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// What the losses weigh against half the squared weights.
    pub c: f64,
}

/// Settings of [`Classifier::RbfSvm`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rbf {
    /// What the losses weigh against half the squared weights.
    pub c: f64,
    /// A bump is `exp(−gamma · distance²)`; none: 1 divided by the number of features and by the variance of all their values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
}

/// Settings of [`Classifier::RandomForest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forest {
    /// Number of trees.
    pub trees: usize,
}

impl Fit {
    pub(super) fn check(&self, path: &str, faults: &mut Faults) {
        let is_single = matches!(
            &self.objective,
            Objective::Sequence(sequence)
                if sequence.problem == Problem::SingleLabel && sequence.loss == super::LabelLoss::default()
                    && sequence.chunks.is_none() && sequence.readout.is_none()
        );
        faults.check(is_single, &format!("{path}.objective"), || {
            "expected { kind = \"sequence\", problem = \"single-label\" } alone, found another"
                .to_owned()
        });
        faults.check(
            !self.features.is_empty(),
            &format!("{path}.features"),
            || "expected one or more, found none".to_owned(),
        );
        for (index, feature) in self.features.iter().enumerate() {
            let Feature::Terms(grams) = feature else {
                continue;
            };
            let path = format!("{path}.features.{index}");
            faults.check(grams.min >= 1 && grams.min <= grams.max, &path, || {
                format!(
                    "expected min from 1 up to max, found {} and {}",
                    grams.min, grams.max
                )
            });
            faults.check_positive(&format!("{path}.max_terms"), grams.max_terms);
        }
        let place = |name: &str| format!("{path}.classifier.{name}");
        let mut positive = |name: &str, value: f64| {
            faults.check(value > 0.0 && value.is_finite(), &place(name), || {
                format!("expected a number above 0, found {value}")
            });
        };
        match self.classifier {
            Classifier::Logistic(Cost { c }) | Classifier::LinearSvm(Cost { c }) => {
                positive("c", c);
            }
            Classifier::RbfSvm(Rbf { c, gamma }) => {
                positive("c", c);
                positive("gamma", gamma.unwrap_or(1.0));
            }
            Classifier::NaiveBayes => {}
            Classifier::RandomForest(Forest { trees }) => {
                faults.check_positive(&place("trees"), trees);
            }
        }
        faults.extend(self.batch.faults(&format!("{path}.batch")));
    }
}
