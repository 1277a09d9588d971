//! Cutting users' sequences into training, validation and test parts.

use crate::Sequences;

/// Evaluation cases: what is known of a user, and what she did next.
///
/// `users`, `histories` and `targets` are parallel. A user is an index into the user ids of the data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cases {
    /// The user of each case.
    pub users: Vec<u32>,
    /// What the model is shown; never empty.
    pub histories: Sequences,
    /// What it should have ranked high; never empty, one item under leave-one-out.
    pub targets: Sequences,
}

impl Cases {
    /// Number of cases.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are no cases.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// The three parts of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// One sequence per user, in the order of the users; possibly empty for some.
    pub train: Sequences,
    /// Cases to choose settings and the stopping point by.
    pub validation: Cases,
    /// Cases to report.
    pub test: Cases,
}
