//! Precision, recall and F1 from counts, of one class or averaged over several.
//!
//! ```text
//! precision = hits / predicted      recall = hits / support      F1 = 2 · hits / (predicted + support)
//! ```
//!
//! Each is 0 where it would divide by 0, as scikit-learn and seqeval have it.
//!
//! # Source
//! `precision_recall_fscore_support` of scikit-learn 1.9 and of seqeval 1.2.2.

use serde::Serialize;

/// What was found of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Predicted and true.
    pub hits: u64,
    /// Predicted.
    pub predicted: u64,
    /// True.
    pub support: u64,
}

/// Precision, recall and F1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Prf {
    /// Share of what was predicted that is true.
    pub precision: f64,
    /// Share of what is true that was predicted.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// How classes become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// Counts are added up first.
    Micro,
    /// Every class counts the same.
    Macro,
    /// A class counts by its support.
    Weighted,
}

impl Counts {
    /// The three numbers of this class.
    pub fn prf(self) -> Prf {
        Prf {
            precision: ratio(self.hits as f64, self.predicted as f64),
            recall: ratio(self.hits as f64, self.support as f64),
            f1: ratio(
                (2 * self.hits) as f64,
                (self.predicted + self.support) as f64,
            ),
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.predicted += other.predicted;
        self.support += other.support;
    }
}

/// The three numbers over classes. All 0 without classes, or for [`Average::Weighted`] without support.
///
/// # Departures
/// Both packages' macro average of no classes is not a number.
pub fn average(classes: &[Counts], average: Average) -> Prf {
    let weigh = |weight: &dyn Fn(&Counts) -> f64| {
        let mut sum = Prf::default();
        let mut total = 0.0;
        for class in classes {
            let (prf, weight) = (class.prf(), weight(class));
            total += weight;
            sum.precision += weight * prf.precision;
            sum.recall += weight * prf.recall;
            sum.f1 += weight * prf.f1;
        }
        Prf {
            precision: ratio(sum.precision, total),
            recall: ratio(sum.recall, total),
            f1: ratio(sum.f1, total),
        }
    };
    match average {
        Average::Micro => {
            let mut all = Counts::default();
            for &class in classes {
                all += class;
            }
            all.prf()
        }
        Average::Macro => weigh(&|_| 1.0),
        Average::Weighted => weigh(&|class| class.support as f64),
    }
}

/// A quotient, or 0 where there is nothing to divide by.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
