//! Any number of labels for each example.
//!
//! # Source
//! `f1_score`, `accuracy_score` and `hamming_loss` of scikit-learn 1.9 on indicator matrices.

use super::counts::{Counts, Prf, ratio};

/// Sums over examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Multilabel {
    per_label: Vec<Counts>,
    examples: u64,
    exact: u64,
    wrong: u64,
    samples: Prf,
}

impl Multilabel {
    /// No example yet.
    pub fn new(labels: usize) -> Self {
        Self {
            per_label: vec![Counts::default(); labels],
            examples: 0,
            exact: 0,
            wrong: 0,
            samples: Prf::default(),
        }
    }

    /// Adds an example: its labels and those predicted, rising.
    ///
    /// # Panics
    /// If they do not rise, or there is no such label.
    pub fn add(&mut self, labels: &[usize], predictions: &[usize]) {
        let rises = |list: &[usize]| list.is_sorted_by(|a, b| a < b);
        assert!(rises(labels) && rises(predictions), "labels rise");
        let mut own = Counts {
            hits: 0,
            predicted: predictions.len() as u64,
            support: labels.len() as u64,
        };
        for &label in labels {
            self.per_label[label].support += 1;
        }
        for &label in predictions {
            let hit = u64::from(labels.binary_search(&label).is_ok());
            self.per_label[label].predicted += 1;
            self.per_label[label].hits += hit;
            own.hits += hit;
        }
        self.examples += 1;
        self.exact += u64::from(labels == predictions);
        self.wrong += own.predicted + own.support - 2 * own.hits;
        let prf = own.prf();
        self.samples.precision += prf.precision;
        self.samples.recall += prf.recall;
        self.samples.f1 += prf.f1;
    }

    /// Hits, predictions and support of each label.
    pub fn per_label(&self) -> &[Counts] {
        &self.per_label
    }

    /// The means over examples of each example's own precision, recall and F1.
    pub fn samples(&self) -> Prf {
        let mean = |sum| ratio(sum, self.examples as f64);
        Prf {
            precision: mean(self.samples.precision),
            recall: mean(self.samples.recall),
            f1: mean(self.samples.f1),
        }
    }

    /// Share of examples whose labels were all predicted and no others.
    pub fn subset_accuracy(&self) -> f64 {
        ratio(self.exact as f64, self.examples as f64)
    }

    /// Share of pairs of an example and a label that were predicted wrongly.
    pub fn hamming_loss(&self) -> f64 {
        let pairs = self.examples * self.per_label.len() as u64;
        ratio(self.wrong as f64, pairs as f64)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is compared is exact")]
mod tests {
    use super::*;

    #[test]
    fn an_example_without_labels_scores_nothing_but_can_be_exact() {
        let mut sums = Multilabel::new(3);
        sums.add(&[], &[]);
        sums.add(&[0, 2], &[0, 1]);
        assert_eq!(sums.samples().f1, 0.25);
        assert_eq!(sums.subset_accuracy(), 0.5);
        assert_eq!(sums.hamming_loss(), 2.0 / 6.0);
    }
}
