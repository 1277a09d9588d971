use serde::{Deserialize, Serialize};

use super::{Objective, Texts};
use crate::Faults;

/// Cross-validation: the files in so many parts of about the same size, each left out once and judged by a model that
/// learned from the others.
///
/// Parts have about the same share of each class, where texts have one class. What each model is chosen by is a share of
/// those that it learns from, never of what it is judged by.
///
/// # Source
/// Kohavi, A Study of Cross-Validation and Bootstrap for Accuracy Estimation and Model Selection, IJCAI 1995, §2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folds {
    /// Number of parts.
    pub count: usize,
    /// Column of tables whose equal values stay in one part, such as a patient's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The part that is left out, from 1; none: each in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<usize>,
}

impl Folds {
    pub(super) fn check(&self, texts: &Texts, objective: Option<&Objective>, faults: &mut Faults) {
        faults.check(self.count >= 2, "data.folds.count", || {
            format!("expected at least 2 parts, found {}", self.count)
        });
        let only = self.only.unwrap_or(1);
        faults.check((1..=self.count).contains(&only), "data.folds.only", || {
            format!("expected a part from 1 to {}, found {only}", self.count)
        });
        for (key, is_empty) in [
            ("corpus", texts.corpus.is_empty()),
            ("validation", texts.validation.is_empty()),
            ("test", texts.test.is_empty()),
        ] {
            faults.check(is_empty, &format!("data.{key}"), || {
                "expected none beside data.folds, which parts data.files".to_owned()
            });
        }
        let has_labels = !matches!(objective, Some(Objective::MaskedToken(_)));
        faults.check(has_labels, "data.folds", || {
            "expected an objective with labels to judge by, found masked tokens; leave it out"
                .to_owned()
        });
        let is_table = matches!(
            objective,
            Some(Objective::Sequence(_) | Objective::Transcript(_))
        );
        faults.check(self.group.is_none() || is_table, "data.folds.group", || {
            "expected an objective over rows of tables, found another; questions about one text stay together by themselves"
                .to_owned()
        });
    }
}
