//! Metrics of ranked lists: HR, NDCG, recall, MRR, coverage.
//!
//! A case has targets, all equally relevant, and each target a rank, counted from 1. With one target a case:
//!
//! ```text
//! HR@k = recall@k = [rank ≤ k]      NDCG@k = [rank ≤ k] / log2(rank + 1)      MRR = 1 / rank
//! ```
//!
//! With several, HR asks for any of them, recall for their share, MRR for the first, and NDCG divides by the gain of
//! the best possible list. All are means over cases.
//!
//! # Ties
//! Ranks are pessimistic: a candidate with the target's score stands before it. A model that scores everything alike
//! gets nothing, where optimistic ranks would make it perfect.
//!
//! # Source
//! Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002, with base 2 and every rank
//! discounted; Sun et al., BERT4Rec, CIKM 2019, arXiv:1904.06690, §4.2.

use serde::{Deserialize, Serialize};

/// The cutoff of the per-case values that comparisons of models use.
pub const CASE_CUTOFF: usize = 10;

/// Metrics of lists of one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtCutoff {
    /// Length of the lists, the 10 of `ndcg@10`.
    pub cutoff: usize,
    /// Share of cases with a target in the list.
    pub hr: f64,
    /// Normalised discounted cumulative gain.
    pub ndcg: f64,
    /// Mean share of a case's targets that are in the list.
    pub recall: f64,
    /// Share of all items that are in any case's list; absent where the candidates were drawn by lot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
}

/// Metrics over cases. All zero when there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingMetrics {
    /// Number of cases.
    pub cases: usize,
    /// Mean reciprocal rank of the first target.
    pub mrr: f64,
    /// What depends on the length of the list, in the order the lengths were asked for.
    pub at: Vec<AtCutoff>,
    /// NDCG@10 of each case, in the order of the cases, for [`bootstrap::paired`](super::bootstrap::paired). Not stored.
    #[serde(skip)]
    pub case_ndcg: Vec<f64>,
}

impl RankingMetrics {
    /// The value of `mrr`, or of `hr@K`, `ndcg@K`, `recall@K` or `coverage@K` where K is one of the cutoffs.
    pub fn named(&self, name: &str) -> Option<f64> {
        if name == "mrr" {
            return Some(self.mrr);
        }
        let (metric, cutoff) = name.split_once('@')?;
        let cutoff: usize = cutoff.parse().ok()?;
        let at = self.at.iter().find(|at| at.cutoff == cutoff)?;
        match metric {
            "hr" => Some(at.hr),
            "ndcg" => Some(at.ndcg),
            "recall" => Some(at.recall),
            "coverage" => at.coverage,
            _ => None,
        }
    }

    /// Every value with its name, as [`named`](Self::named) takes it: metric by metric, then `mrr`.
    pub fn values(&self) -> Vec<(String, f64)> {
        let mut names = Vec::new();
        for metric in ["hr", "ndcg", "recall", "coverage"] {
            names.extend(self.at.iter().map(|at| format!("{metric}@{}", at.cutoff)));
        }
        names.push("mrr".to_owned());
        names
            .into_iter()
            .filter_map(|name| self.named(&name).map(|value| (name, value)))
            .collect()
    }
}

/// Sums over cases, added one by one.
#[derive(Debug, Clone)]
pub struct RankingAccumulator {
    items: usize,
    cases: usize,
    reciprocal_ranks: f64,
    at: Vec<Sums>,
    case_ndcg: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Sums {
    cutoff: usize,
    hits: usize,
    ndcg: f64,
    recall: f64,
    /// Whether each item has been in a list.
    is_listed: Vec<bool>,
}

impl RankingAccumulator {
    /// Nothing yet, for lists of the lengths `cutoffs` out of `items` items.
    pub fn new(cutoffs: &[usize], items: usize) -> Self {
        Self {
            items,
            cases: 0,
            reciprocal_ranks: 0.0,
            at: cutoffs
                .iter()
                .map(|&cutoff| Sums {
                    cutoff,
                    hits: 0,
                    ndcg: 0.0,
                    recall: 0.0,
                    is_listed: vec![false; items],
                })
                .collect(),
            case_ndcg: Vec::new(),
        }
    }

    /// Adds a case: the ranks of its targets, rising, and the best items in order, as many as the largest cutoff
    /// asks for (or are left). `top` serves coverage only and may be empty where that means nothing.
    ///
    /// # Panics
    /// If there are no ranks, or they do not rise from 1 or more.
    pub fn add(&mut self, ranks: &[u32], top: &[u32]) {
        let first = *ranks.first().expect("a case has a target");
        assert!(
            first > 0 && ranks.is_sorted_by(|a, b| a < b),
            "ranks rise from 1: {ranks:?}"
        );
        self.cases += 1;
        self.reciprocal_ranks += 1.0 / f64::from(first);
        let gains: Vec<_> = ranks.iter().map(|&rank| (rank, 1.0)).collect();
        for sums in &mut self.at {
            let hits = ranks.partition_point(|&rank| rank as usize <= sums.cutoff);
            sums.hits += usize::from(hits > 0);
            sums.recall += hits as f64 / ranks.len() as f64;
            sums.ndcg += ndcg(&gains, sums.cutoff);
            for &item in top.iter().take(sums.cutoff) {
                sums.is_listed[item as usize] = true;
            }
        }
        self.case_ndcg.push(ndcg(&gains, CASE_CUTOFF));
    }

    /// The means.
    pub fn finish(self) -> RankingMetrics {
        let cases = self.cases.max(1) as f64;
        RankingMetrics {
            cases: self.cases,
            mrr: self.reciprocal_ranks / cases,
            at: self
                .at
                .into_iter()
                .map(|sums| {
                    let listed = sums.is_listed.iter().filter(|&&listed| listed).count();
                    AtCutoff {
                        cutoff: sums.cutoff,
                        hr: sums.hits as f64 / cases,
                        ndcg: sums.ndcg / cases,
                        recall: sums.recall / cases,
                        coverage: (listed > 0).then(|| listed as f64 / self.items as f64),
                    }
                })
                .collect(),
            case_ndcg: self.case_ndcg,
        }
    }
}

/// Normalised discounted cumulative gain of one list cut at `cutoff`, given the rank (from 1) and gain of everything
/// that is relevant to any degree: Σ gain / log2(rank + 1) over what is in the list, divided by the same sum for the
/// best order. 0 where nothing is relevant.
pub fn ndcg(gains: &[(u32, f64)], cutoff: usize) -> f64 {
    let discount = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
    let reached: f64 = gains
        .iter()
        .filter(|(rank, _)| *rank as usize <= cutoff)
        .map(|&(rank, gain)| gain * discount(rank as usize))
        .sum();
    let mut best: Vec<f64> = gains.iter().map(|&(_, gain)| gain).collect();
    best.sort_unstable_by(|a, b| b.total_cmp(a));
    let possible: f64 = best
        .iter()
        .take(cutoff)
        .zip(1..)
        .map(|(gain, rank)| gain * discount(rank))
        .sum();
    if possible > 0.0 {
        reached / possible
    } else {
        0.0
    }
}

/// Makes the ranks of several targets rise. Pessimistic ranks of targets with one score are all that of the last of
/// them; here each takes a place of its own, since they cannot push one another out of the list.
pub fn spread(ranks: &mut [u32]) {
    ranks.sort_unstable();
    for i in (1..ranks.len()).rev() {
        ranks[i - 1] = ranks[i - 1].min(ranks[i] - 1);
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "what is compared is computed in the same way, or exactly"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(cases: &[&[u32]], cutoffs: &[usize]) -> RankingMetrics {
        let mut sums = RankingAccumulator::new(cutoffs, 50);
        for ranks in cases {
            sums.add(ranks, &[]);
        }
        sums.finish()
    }

    #[test]
    fn one_target_gives_the_usual_formulas() {
        let metrics = of(&[&[1], &[3], &[12]], &[1, 5]);
        assert_eq!(metrics.cases, 3);
        assert_eq!(metrics.named("hr@1"), Some(1.0 / 3.0));
        assert_eq!(metrics.named("hr@5"), Some(2.0 / 3.0));
        assert_eq!(metrics.named("recall@5"), metrics.named("hr@5"));
        assert_eq!(metrics.named("ndcg@5"), Some((1.0 + 0.5) / 3.0));
        assert_eq!(metrics.mrr, (1.0 + 1.0 / 3.0 + 1.0 / 12.0) / 3.0);
        assert_eq!(metrics.case_ndcg, [1.0, 0.5, 0.0]);
    }

    #[test]
    fn several_targets_share_recall_and_are_held_against_the_best_list() {
        let metrics = of(&[&[2, 4, 30]], &[2, 10]);
        assert_eq!(metrics.named("hr@2"), Some(1.0));
        assert_eq!(metrics.named("recall@2"), Some(1.0 / 3.0));
        assert_eq!(metrics.named("recall@10"), Some(2.0 / 3.0));
        assert_eq!(metrics.mrr, 0.5);
        let third = 1.0 / 3_f64.log2();
        assert_eq!(metrics.named("ndcg@2"), Some(third / (1.0 + third)));
        let expected = (third + 1.0 / 5_f64.log2()) / (1.0 + third + 0.5);
        assert_eq!(metrics.named("ndcg@10"), Some(expected));
        assert_eq!(of(&[&[1, 2, 3]], &[2]).named("ndcg@2"), Some(1.0));
    }

    #[test]
    fn coverage_counts_each_listed_item_once_and_is_absent_without_lists() {
        let mut sums = RankingAccumulator::new(&[1, 3], 10);
        sums.add(&[1], &[4, 5, 6]);
        sums.add(&[2], &[4, 6, 9]);
        let metrics = sums.finish();
        assert_eq!(metrics.named("coverage@1"), Some(0.1));
        assert_eq!(metrics.named("coverage@3"), Some(0.4));
        assert_eq!(of(&[&[1]], &[3]).named("coverage@3"), None);
    }

    #[test]
    fn every_value_has_the_name_it_is_found_by() {
        let metrics = of(&[&[2], &[7]], &[1, 5, 10]);
        let values = metrics.values();
        let names: Vec<_> = values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "hr@1",
                "hr@5",
                "hr@10",
                "ndcg@1",
                "ndcg@5",
                "ndcg@10",
                "recall@1",
                "recall@5",
                "recall@10",
                "mrr"
            ]
        );
        for (name, value) in &values {
            assert_eq!(metrics.named(name), Some(*value));
        }
        for unknown in ["ndcg@3", "map@5", "ndcg", "ndcg@", ""] {
            assert_eq!(metrics.named(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn no_cases_give_zeros_rather_than_no_numbers() {
        let metrics = RankingAccumulator::new(&[5], 10).finish();
        assert_eq!((metrics.cases, metrics.mrr), (0, 0.0));
        assert_eq!(metrics.named("ndcg@5"), Some(0.0));
    }

    #[test]
    fn json_keeps_everything_but_the_cases() {
        let metrics = of(&[&[2], &[7]], &[5]);
        let json = serde_json::to_string(&metrics).unwrap();
        let read: RankingMetrics = serde_json::from_str(&json).unwrap();
        assert_eq!(
            read,
            RankingMetrics {
                case_ndcg: vec![],
                ..metrics
            }
        );
    }

    #[test]
    fn tied_targets_take_places_of_their_own() {
        let spread_of = |mut ranks: Vec<u32>| {
            spread(&mut ranks);
            ranks
        };
        assert_eq!(spread_of(vec![5, 5, 5]), [3, 4, 5]);
        assert_eq!(spread_of(vec![9, 2, 2, 4]), [1, 2, 4, 9]);
        assert_eq!(spread_of(vec![3]), [3]);
    }

    proptest! {
        #[test]
        fn values_are_shares_and_grow_with_the_list(ranks in prop::collection::btree_set(1_u32..60, 1..20)) {
            let ranks: Vec<_> = ranks.into_iter().collect();
            let metrics = of(&[&ranks], &[1, 5, 10, 50]);
            for (name, value) in metrics.values() {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{} is {}", name, value);
            }
            for pair in metrics.at.windows(2) {
                prop_assert!(pair[0].hr <= pair[1].hr && pair[0].recall <= pair[1].recall);
            }
        }
    }
}
