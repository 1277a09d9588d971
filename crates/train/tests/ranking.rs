//! Ranking metrics against numbers made by `tools/golden/ranking.py`.

use std::collections::BTreeMap;

use cloze_data::{Cases, Sequences};
use cloze_kernels::op::rank::rank_of;
use cloze_train::eval::{Candidates, Protocol, evaluate};
use cloze_train::metric::ranking::ndcg;
use serde::Deserialize;

/// Sums in another order differ in the last bits.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Golden {
    cutoffs: Vec<usize>,
    rankings: Vec<Ranking>,
    graded: Graded,
}

#[derive(Deserialize)]
struct Ranking {
    name: String,
    cases: Vec<Case>,
    exclude_seen: bool,
    expected: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Case {
    scores: Vec<f32>,
    history: Vec<u32>,
    targets: Vec<u32>,
}

#[derive(Deserialize)]
struct Graded {
    relevance: Vec<f64>,
    scores: Vec<f32>,
    expected: BTreeMap<usize, f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/ranking.json")).expect("the script writes this shape")
}

#[test]
fn metrics_are_those_of_the_reference() {
    let golden = golden();
    assert_eq!(golden.rankings.len(), 4);
    for ranking in &golden.rankings {
        let cases = Cases {
            users: (0..ranking.cases.len() as u32).collect(),
            histories: Sequences::from_rows(ranking.cases.iter().map(|case| &case.history)),
            targets: Sequences::from_rows(ranking.cases.iter().map(|case| &case.targets)),
        };
        let items = ranking.cases[0].scores.len();
        let protocol = Protocol {
            candidates: Candidates::Full {
                exclude_seen: ranking.exclude_seen,
            },
            cutoffs: golden.cutoffs.clone(),
        };
        let mut score = |batch: &[usize], rows: &mut [f32]| {
            for (row, &case) in rows.chunks_mut(items).zip(batch) {
                row.copy_from_slice(&ranking.cases[case].scores);
            }
        };
        let metrics = evaluate(&cases, items, &vec![1; items], &[protocol], &mut score).remove(0);
        assert_eq!(ranking.expected.len(), 3 * golden.cutoffs.len() + 1);
        for (name, expected) in &ranking.expected {
            let found = metrics.named(name).unwrap();
            assert!(
                (found - expected).abs() < TOLERANCE,
                "{}, exclude_seen {}: {name} is {found}, expected {expected}",
                ranking.name,
                ranking.exclude_seen
            );
        }
    }
}

#[test]
fn graded_gains_are_those_of_the_reference() {
    let graded = golden().graded;
    let gains: Vec<_> = (0..)
        .zip(&graded.relevance)
        .map(|(item, &gain)| (rank_of(&graded.scores, item, |_| false), gain))
        .collect();
    for (&cutoff, expected) in &graded.expected {
        let found = ndcg(&gains, cutoff);
        assert!(
            (found - expected).abs() < TOLERANCE,
            "{cutoff}: {found} {expected}"
        );
    }
}
