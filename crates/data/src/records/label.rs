//! Names of classes and labels.

use std::collections::BTreeSet;

/// Labels that a message names, at most.
const SHOWN: usize = 12;

/// The labels that occur, in order: as numbers if all are whole ones.
pub fn sorted(labels: impl IntoIterator<Item = String>) -> Vec<String> {
    let labels: BTreeSet<String> = labels.into_iter().collect();
    let mut labels: Vec<String> = labels.into_iter().collect();
    let number = |label: &String| label.parse::<i64>().ok();
    if labels.iter().all(|label| number(label).is_some()) {
        labels.sort_by_key(number);
    }
    labels
}

/// Labels in words, for a message: the first of them, and how many more there are.
pub fn listed<S: AsRef<str>>(labels: &[S]) -> String {
    let first = labels.iter().take(SHOWN);
    let mut shown: Vec<String> = first.map(|label| format!("{:?}", label.as_ref())).collect();
    if labels.len() > SHOWN {
        shown.push(format!("or one of {} more", labels.len() - SHOWN));
    }
    shown.join(", ")
}
