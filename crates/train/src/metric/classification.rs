//! One class of several for each example: the confusion matrix and what follows from it.
//!
//! # Source
//! `confusion_matrix`, `accuracy_score` and `matthews_corrcoef` of scikit-learn 1.9; the latter is `R_K` of Gorodkin,
//! Comparing two K-category assignments by a K-category correlation coefficient, 2004.

use super::counts::{Counts, ratio};

/// How often each class was taken for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[C, C]`: rows are true classes, columns predicted ones.
    counts: Vec<u64>,
}

impl Confusion {
    /// No example yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Adds an example.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn add(&mut self, label: usize, prediction: usize) {
        assert!(prediction < self.classes, "class {prediction}");
        self.counts[label * self.classes + prediction] += 1;
    }

    /// Adds the examples of another part.
    ///
    /// # Panics
    /// If it has other classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "the same classes");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Examples of the class `label` that were taken for `prediction`.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        self.counts[label * self.classes + prediction]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of examples.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Hits, predictions and support of each class.
    pub fn per_class(&self) -> Vec<Counts> {
        (0..self.classes)
            .map(|class| Counts {
                hits: self.count(class, class),
                predicted: (0..self.classes)
                    .map(|label| self.count(label, class))
                    .sum(),
                support: (0..self.classes)
                    .map(|other| self.count(class, other))
                    .sum(),
            })
            .collect()
    }

    /// Share of examples that were predicted right; 0 without examples.
    pub fn accuracy(&self) -> f64 {
        let hits: u64 = (0..self.classes)
            .map(|class| self.count(class, class))
            .sum();
        ratio(hits as f64, self.total() as f64)
    }

    /// Matthews' correlation coefficient, with `n` examples, `c` hits, and for each class `t` true and `p` predicted:
    ///
    /// ```text
    /// (c · n − Σ t·p) / √((n² − Σ p²) · (n² − Σ t²))
    /// ```
    ///
    /// 0 where all examples are, or were predicted to be, of one class.
    pub fn mcc(&self) -> f64 {
        let n = self.total() as f64;
        let (mut hits, mut both, mut predicted, mut support) = (0.0, 0.0, 0.0, 0.0);
        for class in self.per_class() {
            let (p, t) = (class.predicted as f64, class.support as f64);
            hits += class.hits as f64;
            both += p * t;
            predicted += p * p;
            support += t * t;
        }
        let spread = (n * n - predicted) * (n * n - support);
        ratio(hits * n - both, spread.sqrt())
    }
}

/// The place of the first of the largest, which is the class that scores speak for.
pub fn largest<T: PartialOrd + Copy>(scores: &[T]) -> usize {
    let mut best = 0;
    for (place, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is compared is exact")]
mod tests {
    use proptest::prelude::*;

    use super::super::counts::{Average, average};
    use super::*;

    fn of(classes: usize, pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(classes);
        for &(label, prediction) in pairs {
            confusion.add(label, prediction);
        }
        confusion
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let none = of(2, &[]);
        assert_eq!((none.accuracy(), none.mcc()), (0.0, 0.0));
        let one_sided = of(2, &[(0, 0), (1, 0)]);
        assert_eq!(one_sided.mcc(), 0.0);
        assert_eq!(one_sided.per_class()[1].prf().precision, 0.0);
    }

    proptest! {
        #[test]
        fn order_and_names_of_classes_change_nothing(
            pairs in prop::collection::vec((0_usize..4, 0_usize..4), 1..60)
        ) {
            let confusion = of(4, &pairs);
            let mut turned: Vec<_> = pairs.iter().map(|&(a, b)| ((a + 1) % 4, (b + 1) % 4)).collect();
            turned.reverse();
            let other = of(4, &turned);
            prop_assert_eq!(confusion.accuracy(), other.accuracy());
            prop_assert!((confusion.mcc() - other.mcc()).abs() < 1e-14);
            for kind in [Average::Micro, Average::Macro, Average::Weighted] {
                let (a, b) = (average(&confusion.per_class(), kind), average(&other.per_class(), kind));
                prop_assert!((a.f1 - b.f1).abs() < 1e-14 && (a.precision - b.precision).abs() < 1e-14);
            }
            let micro = average(&confusion.per_class(), Average::Micro);
            prop_assert_eq!(micro.f1, confusion.accuracy());
            prop_assert!(confusion.mcc().abs() <= 1.0 + 1e-14);
        }
    }
}
