//! Who competes with the targets, and the loop that finds out how they fare.
//!
//! Ranks among few sampled items order models differently from ranks among all (Krichene and Rendle, On sampled
//! metrics for item recommendation, KDD 2020). The full ranking decides; the sampled one is for comparison with
//! publications that have nothing else.

use cloze_data::Cases;
use cloze_kernels::op::rank::{rank_of, top_k};
use cloze_spec::recipe::Evaluate;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::metric::ranking::{self, RankingAccumulator, RankingMetrics};

/// The items that a target is ranked among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// All items of the vocabulary.
    Full {
        /// Leave out what is in the history. A target that is there too stays: to buy again is a thing to foresee.
        exclude_seen: bool,
    },
    /// The case's targets and some other items that are in neither its history nor its targets: drawn one after
    /// another by popularity, without replacement; fewer if fewer have ever been bought. A user gets the same ones
    /// whatever the model and the other cases.
    ///
    /// # Source
    /// Sun et al., BERT4Rec, CIKM 2019, arXiv:1904.06690, §4.2, with 100 negatives.
    Sampled {
        /// How many.
        negatives: usize,
        /// Where their randomness comes from.
        seed: u64,
    },
}

/// How a ranking is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The items that a target is ranked among.
    pub candidates: Candidates,
    /// Lengths of the lists that are judged.
    pub cutoffs: Vec<usize>,
}

impl Protocol {
    /// The protocols that a recipe asks for: the full ranking first, then the sampled one if it is asked for.
    pub fn of(settings: &Evaluate, seed: u64) -> Vec<Self> {
        let full = Candidates::Full {
            exclude_seen: settings.exclude_seen,
        };
        let sampled = settings
            .sampled_negatives
            .map(|negatives| Candidates::Sampled { negatives, seed });
        [Some(full), sampled]
            .into_iter()
            .flatten()
            .map(|candidates| Self {
                candidates,
                cutoffs: settings.cutoffs.clone(),
            })
            .collect()
    }

    /// The candidates in words, for tables and reports.
    pub fn name(&self) -> String {
        match self.candidates {
            Candidates::Full { exclude_seen: true } => "all unseen items".to_owned(),
            Candidates::Full {
                exclude_seen: false,
            } => "all items".to_owned(),
            Candidates::Sampled { negatives, .. } => {
                format!("{negatives} negatives sampled by popularity")
            }
        }
    }
}

/// Ranks the targets of every case under each protocol, and returns the metrics of each.
///
/// `score(cases, scores)` is asked for the scores of some cases at a time, given by index: one row of `num_items` for
/// each. It is called from this thread, in order; the ranking runs over the current rayon pool and gives the same
/// bits at any number of threads. A score that is NaN ranks behind every number.
///
/// `popularity` is how often each item was bought; only sampled candidates need it. A target that is listed twice
/// counts once.
///
/// # Panics
/// If `popularity` is not of length `num_items`, or a case has an item that is out of range.
pub fn evaluate(
    cases: &Cases,
    num_items: usize,
    popularity: &[u64],
    protocols: &[Protocol],
    score: &mut dyn FnMut(&[usize], &mut [f32]),
) -> Vec<RankingMetrics> {
    /// Scores in memory at once: 64 MiB.
    const MAX_SCORES: usize = 1 << 24;
    /// Beyond these, a batch of a model gains nothing.
    const MAX_ROWS: usize = 256;
    assert_eq!(popularity.len(), num_items, "a popularity for every item");
    let sampler = Sampler::new(popularity);
    let rows = (MAX_SCORES / num_items.max(1)).clamp(1, MAX_ROWS);
    let mut scores = vec![0.0; rows.min(cases.len()) * num_items];
    let mut sums: Vec<_> = protocols
        .iter()
        .map(|protocol| RankingAccumulator::new(&protocol.cutoffs, num_items))
        .collect();
    let indices: Vec<usize> = (0..cases.len()).collect();
    for batch in indices.chunks(rows) {
        let scores = &mut scores[..batch.len() * num_items];
        score(batch, scores);
        let judged: Vec<Vec<Judged>> = scores
            .par_chunks(num_items)
            .zip(batch)
            .map_init(
                || vec![false; num_items],
                |is_known, (scores, &case)| {
                    let case = Case::new(cases, case);
                    protocols
                        .iter()
                        .map(|protocol| case.judge(protocol, scores, &sampler, is_known))
                        .collect()
                },
            )
            .collect();
        for case in judged {
            for (sums, judged) in sums.iter_mut().zip(case) {
                sums.add(&judged.ranks, &judged.top);
            }
        }
    }
    sums.into_iter().map(RankingAccumulator::finish).collect()
}

/// Makes a scorer of one history into a scorer of cases, for [`evaluate`]: `score(history, row)` fills one row, and
/// rows are filled in parallel.
pub fn by_history<'a>(
    cases: &'a Cases,
    num_items: usize,
    score: impl Fn(&[u32], &mut [f32]) + Sync + 'a,
) -> impl FnMut(&[usize], &mut [f32]) + 'a {
    move |batch, scores| {
        scores
            .par_chunks_mut(num_items)
            .zip(batch)
            .for_each(|(row, &case)| score(cases.histories.get(case), row));
    }
}

/// How a case fared: the ranks of its targets, rising, and the best items.
struct Judged {
    ranks: Vec<u32>,
    top: Vec<u32>,
}

struct Case<'a> {
    user: u32,
    history: &'a [u32],
    /// Without repetition.
    targets: Vec<u32>,
}

impl<'a> Case<'a> {
    fn new(cases: &'a Cases, index: usize) -> Self {
        let mut targets = cases.targets.get(index).to_vec();
        targets.sort_unstable();
        targets.dedup();
        Self {
            user: cases.users[index],
            history: cases.histories.get(index),
            targets,
        }
    }

    /// `is_known` is scratch memory: false for every item, before and after.
    fn judge(
        &self,
        protocol: &Protocol,
        scores: &[f32],
        sampler: &Sampler,
        is_known: &mut [bool],
    ) -> Judged {
        let mark = |is_known: &mut [bool], items: &[u32], value| {
            for &item in items {
                is_known[item as usize] = value;
            }
        };
        let mut judged = match protocol.candidates {
            Candidates::Full { exclude_seen } => {
                if exclude_seen {
                    mark(is_known, self.history, true);
                    mark(is_known, &self.targets, false);
                }
                let skip = |item: u32| is_known[item as usize];
                let longest = protocol.cutoffs.iter().max().copied().unwrap_or(0);
                Judged {
                    ranks: self
                        .targets
                        .iter()
                        .map(|&target| rank_of(scores, target, skip))
                        .collect(),
                    top: top_k(scores, longest, skip)
                        .into_iter()
                        .map(|(item, _)| item)
                        .collect(),
                }
            }
            Candidates::Sampled { negatives, seed } => {
                mark(is_known, self.history, true);
                mark(is_known, &self.targets, true);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(u64::from(self.user));
                let mut candidates = self.targets.clone();
                candidates.extend(sampler.draw(negatives, is_known, &mut rng));
                mark(is_known, &candidates, false);
                let scores: Vec<f32> = candidates
                    .iter()
                    .map(|&item| scores[item as usize])
                    .collect();
                Judged {
                    ranks: (0..self.targets.len() as u32)
                        .map(|target| rank_of(&scores, target, |_| false))
                        .collect(),
                    top: Vec::new(),
                }
            }
        };
        mark(is_known, self.history, false);
        ranking::spread(&mut judged.ranks);
        judged
    }
}

/// Draws items by popularity.
struct Sampler {
    /// Purchases of each item and all before it.
    cumulative: Vec<u64>,
}

impl Sampler {
    fn new(popularity: &[u64]) -> Self {
        let cumulative = popularity
            .iter()
            .scan(0, |sum, &count| {
                *sum += count;
                Some(*sum)
            })
            .collect();
        Self { cumulative }
    }

    fn weight(&self, item: usize) -> u64 {
        let before = item.checked_sub(1).map_or(0, |i| self.cumulative[i]);
        self.cumulative[item] - before
    }

    /// Up to `count` items, none of them marked in `is_known`, each drawn in proportion to the popularity of those
    /// that are left. Marks what it draws.
    fn draw(&self, count: usize, is_known: &mut [bool], rng: &mut ChaCha8Rng) -> Vec<u32> {
        /// Past these many tries a draw, most of the popularity is gone, and a pass over all items is cheaper.
        const TRIES: usize = 20;
        let mut drawn = Vec::with_capacity(count);
        let total = self.cumulative.last().copied().unwrap_or(0);
        let tries = if total == 0 { 0 } else { TRIES * count };
        for _ in 0..tries {
            if drawn.len() == count {
                break;
            }
            // Refusing what was drawn before is the same as drawing from the rest.
            let at = rng.random_range(0..total);
            let item = self.cumulative.partition_point(|&sum| sum <= at);
            if !is_known[item] {
                is_known[item] = true;
                drawn.push(item as u32);
            }
        }
        if drawn.len() < count {
            // The order of exponential variables of these rates is that of successive draws (Efraimidis and
            // Spirakis, Weighted random sampling with a reservoir, 2006).
            let mut rest: Vec<(f64, u32)> = (0..is_known.len())
                .filter(|&item| !is_known[item] && self.weight(item) > 0)
                .map(|item| {
                    let uniform: f64 = rng.random();
                    let moment = -(1.0 - uniform).ln() / self.weight(item) as f64;
                    (moment, item as u32)
                })
                .collect();
            rest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (_, item) in rest.into_iter().take(count - drawn.len()) {
                is_known[item as usize] = true;
                drawn.push(item);
            }
        }
        drawn
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "what is compared is computed in the same way, or exactly"
)]
mod tests {
    use std::collections::BTreeMap;

    use cloze_data::Sequences;
    use proptest::prelude::*;

    use super::*;

    fn full(exclude_seen: bool) -> Protocol {
        Protocol {
            candidates: Candidates::Full { exclude_seen },
            cutoffs: vec![1, 2, 10],
        }
    }

    fn sampled(negatives: usize) -> Protocol {
        Protocol {
            candidates: Candidates::Sampled { negatives, seed: 5 },
            cutoffs: vec![1, 2, 10],
        }
    }

    fn cases(rows: &[(&[u32], &[u32])]) -> Cases {
        Cases {
            users: (0..rows.len() as u32).collect(),
            histories: Sequences::from_rows(rows.iter().map(|row| row.0)),
            targets: Sequences::from_rows(rows.iter().map(|row| row.1)),
        }
    }

    /// Metrics of one protocol when every case gets `scores`.
    fn judge(cases: &Cases, protocol: &Protocol, scores: &[f32]) -> RankingMetrics {
        let popularity = vec![1; scores.len()];
        let mut scorer = by_history(cases, scores.len(), |_, row| row.copy_from_slice(scores));
        let protocols = std::slice::from_ref(protocol);
        evaluate(cases, scores.len(), &popularity, protocols, &mut scorer).remove(0)
    }

    #[test]
    fn seen_items_give_way_only_when_excluded() {
        let cases = cases(&[(&[0, 1, 0], &[2])]);
        let scores = [0.9, 0.8, 0.7, 0.1];
        assert_eq!(judge(&cases, &full(false), &scores).mrr, 1.0 / 3.0);
        assert_eq!(judge(&cases, &full(true), &scores).mrr, 1.0);
    }

    #[test]
    fn a_target_that_was_bought_before_stays_a_candidate() {
        let cases = cases(&[(&[0, 1], &[1])]);
        let metrics = judge(&cases, &full(true), &[0.9, 0.5, 0.7]);
        assert_eq!(metrics.mrr, 0.5);
        assert_eq!(metrics.named("coverage@2"), Some(2.0 / 3.0));
    }

    #[test]
    fn equal_scores_count_against_the_target_but_not_targets_against_each_other() {
        let scores = [0.5; 8];
        assert_eq!(
            judge(&cases(&[(&[0], &[3])]), &full(false), &scores).mrr,
            1.0 / 8.0
        );
        let two = judge(&cases(&[(&[0], &[3, 4, 3])]), &full(true), &scores);
        assert_eq!(two.mrr, 1.0 / 6.0);
        assert_eq!(two.named("recall@10"), Some(1.0));
    }

    #[test]
    fn a_model_that_breaks_down_ranks_last() {
        let cases = cases(&[(&[0], &[3])]);
        assert_eq!(judge(&cases, &full(false), &[f32::NAN; 20]).mrr, 1.0 / 20.0);
        assert_eq!(judge(&cases, &sampled(9), &[f32::NAN; 20]).mrr, 1.0 / 10.0);
    }

    #[test]
    fn negatives_are_new_to_the_user_and_distinct() {
        let mut history: Vec<u32> = (0..30).collect();
        history.extend(0..10);
        let cases = cases(&[(&history, &[30, 31])]);
        let mut asked = 0;
        // Known items and targets score lowest, so only they could be ranked behind the targets.
        let scores: Vec<f32> = (0..60)
            .map(|item| f32::from(u8::from(item >= 32)))
            .collect();
        for negatives in [0, 1, 10, 28, 100] {
            let metrics = judge(&cases, &sampled(negatives), &scores);
            let expected = 1.0 / (negatives.min(28) as f64 + 1.0);
            assert_eq!(metrics.mrr, expected, "{negatives}");
            asked += metrics.cases;
        }
        assert_eq!(asked, 5);
    }

    #[test]
    fn negatives_follow_popularity_and_come_from_what_was_ever_bought() {
        let popularity = [8, 4, 2, 1, 0, 5];
        let sampler = Sampler::new(&popularity);
        let mut first = BTreeMap::new();
        let mut second = BTreeMap::new();
        let draws = 40_000;
        for stream in 0..draws {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            rng.set_stream(stream);
            let mut is_known = [false, false, false, false, false, true];
            let drawn = sampler.draw(2, &mut is_known, &mut rng);
            *first.entry(drawn[0]).or_insert(0.0) += 1.0 / draws as f64;
            *second.entry((drawn[0], drawn[1])).or_insert(0.0) += 1.0 / draws as f64;
        }
        assert_eq!(first.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        for (&item, &share) in &first {
            let expected = popularity[item as usize] as f64 / 15.0;
            assert!(
                (share - expected).abs() < 0.01,
                "{item}: {share} {expected}"
            );
        }
        for (&(a, b), &share) in &second {
            let (a, b) = (popularity[a as usize] as f64, popularity[b as usize] as f64);
            let expected = a / 15.0 * b / (15.0 - a);
            assert!(
                (share - expected).abs() < 0.01,
                "{a} {b}: {share} {expected}"
            );
        }
    }

    #[test]
    fn what_tries_do_not_find_is_drawn_by_the_same_law() {
        // One item has nearly all popularity and is known: nearly every try is refused.
        let mut popularity = vec![u64::from(u32::MAX); 1];
        popularity.extend([3, 1, 1, 0]);
        let sampler = Sampler::new(&popularity);
        let mut counts = [0.0; 5];
        let draws = 20_000;
        for stream in 0..draws {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            rng.set_stream(stream);
            let drawn = sampler.draw(1, &mut [true, false, false, false, false], &mut rng);
            counts[drawn[0] as usize] += 1.0 / draws as f64;
        }
        for (share, expected) in counts.into_iter().zip([0.0, 0.6, 0.2, 0.2, 0.0]) {
            assert!((share - expected).abs() < 0.015, "{share} {expected}");
        }
    }

    #[test]
    fn a_recipe_asks_for_the_full_ranking_first() {
        let mut settings = Evaluate {
            cutoffs: vec![5, 10],
            exclude_seen: true,
            sampled_negatives: Some(100),
        };
        let names: Vec<_> = Protocol::of(&settings, 3)
            .iter()
            .map(Protocol::name)
            .collect();
        assert_eq!(
            names,
            ["all unseen items", "100 negatives sampled by popularity"]
        );
        settings.sampled_negatives = None;
        assert_eq!(
            Protocol::of(&settings, 3),
            [Protocol {
                cutoffs: vec![5, 10],
                ..full(true)
            }]
        );
    }

    #[test]
    fn no_cases_are_no_work() {
        let none = Cases::default();
        let protocols = [full(true), sampled(10)];
        let metrics = evaluate(&none, 3, &[1, 1, 1], &protocols, &mut |_, _| {
            panic!("nothing is to be scored")
        });
        assert!(metrics.iter().all(|metrics| metrics.cases == 0));
    }

    /// Cases with scores that depend on the history, some of them equal.
    fn many(users: usize) -> (Cases, impl Fn(&[u32], &mut [f32]) + Sync) {
        let rows: Vec<(Vec<u32>, Vec<u32>)> = (0..users as u32)
            .map(|user| {
                let item = |i: u32| (user * 31 + i * i * 7) % 97;
                ((0..=user % 9).map(item).collect(), vec![item(50), item(51)])
            })
            .collect();
        let borrowed: Vec<(&[u32], &[u32])> = rows.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        (cases(&borrowed), |history: &[u32], row: &mut [f32]| {
            let last = history[history.len() - 1];
            for (item, score) in (0..).zip(row) {
                *score = ((item * 37 + last * 11) % 53) as f32;
            }
        })
    }

    #[test]
    fn threads_change_nothing_and_batches_are_asked_for_in_order() {
        let (cases, score) = many(600);
        let popularity: Vec<u64> = (0..97).map(|item| item % 5).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut next = 0;
            let mut rows = by_history(&cases, 97, &score);
            let metrics = pool.install(|| {
                evaluate(
                    &cases,
                    97,
                    &popularity,
                    &[full(true), sampled(20)],
                    &mut |batch, scores| {
                        assert_eq!((batch[0], scores.len()), (next, batch.len() * 97));
                        next += batch.len();
                        rows(batch, scores);
                    },
                )
            });
            assert_eq!(next, 600);
            metrics
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn negatives_do_not_depend_on_the_other_cases() {
        let (all, score) = many(40);
        let popularity = vec![1; 97];
        let judge = |cases: &Cases| {
            let mut rows = by_history(cases, 97, &score);
            evaluate(cases, 97, &popularity, &[sampled(20)], &mut rows)
                .remove(0)
                .case_ndcg
        };
        let part = Cases {
            users: all.users[30..].to_vec(),
            histories: Sequences::from_rows((30..40).map(|i| all.histories.get(i))),
            targets: Sequences::from_rows((30..40).map(|i| all.targets.get(i))),
        };
        assert_eq!(judge(&part), judge(&all)[30..]);
    }

    proptest! {
        #[test]
        fn the_full_ranking_is_that_of_a_sorted_list(
            scores in prop::collection::vec(-3_i8..3, 12),
            history in prop::collection::vec(0_u32..12, 1..8),
            target in 0_u32..12,
            exclude_seen: bool,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut list: Vec<u32> = (0..12)
                .filter(|item| *item == target || !exclude_seen || !history.contains(item))
                .collect();
            // Worst for the target: it comes last among its equals.
            list.sort_by(|&a, &b| {
                scores[b as usize].total_cmp(&scores[a as usize]).then((a == target).cmp(&(b == target)))
            });
            let rank = list.iter().position(|&item| item == target).unwrap() + 1;
            let metrics = judge(&cases(&[(&history, &[target])]), &full(exclude_seen), &scores);
            prop_assert_eq!(metrics.mrr, 1.0 / rank as f64);
            prop_assert_eq!(metrics.named("hr@2").unwrap(), f64::from(u8::from(rank <= 2)));
        }
    }
}
