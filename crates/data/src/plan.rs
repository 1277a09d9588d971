//! What a model sees in an epoch, and in which order.

use std::ops::Range;
use std::sync::Arc;

use cloze_spec::batch::Batch;
use cloze_spec::objective::{LastItem, Loss, Objective, SampledSoftmax};
use cloze_spec::stage::Train;

use crate::Sequences;
use crate::batch::PackedBatch;
use crate::mask::{self, Hidden};
use crate::sampler::Sampler;
use crate::stream::{Purpose, Stream};
use crate::window::windows;

/// The batches of one epoch.
///
/// It depends on nothing but what it is made from, and batch `i` on nothing but the plan and `i`. So batches can be
/// made in any order, on any thread, and a run resumes at batch `i` without state from the ones before.
///
/// Sequences of about the same length share a batch, for devices on which a batch costs as much as its longest
/// sequence times their number: the windows are shuffled, cut into pools of some 64 batches, each pool is sorted by
/// length and cut into batches, and the batches of all pools are shuffled.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    source: Arc<Source>,
    seed: u64,
    epoch: u64,
    /// Every window as often as it is taken, those of a batch side by side: window · copies + copy.
    instances: Vec<usize>,
    /// The instances of each batch.
    batches: Vec<Range<usize>>,
}

/// What is the same for every epoch.
#[derive(Debug)]
struct Source {
    tokens: Vec<u32>,
    /// Parts of `tokens`.
    windows: Vec<Range<usize>>,
    items: usize,
    objective: Objective,
    batch: Batch,
    /// Times that a window is taken an epoch.
    copies: usize,
    /// Where negatives come from and how many a prediction needs, if any.
    negatives: Option<(Sampler, usize)>,
}

impl BatchPlan {
    /// Plans `epoch` of training on `sequences` of items below `items` with a model that takes `max_len` tokens.
    ///
    /// The plan is empty if nothing can be predicted: there is no item, or no second item for the next-item objective.
    ///
    /// # Panics
    /// If an item is out of range, or `settings.batch.max_tokens` is below `max_len`.
    pub fn new(
        sequences: &Sequences,
        items: usize,
        max_len: usize,
        settings: &Train,
        seed: u64,
        epoch: u64,
    ) -> Self {
        Self::from_source(
            Arc::new(Source::new(sequences, items, max_len, settings)),
            seed,
            epoch,
        )
    }

    /// The plan of another epoch of the same training; shares what is the same for both.
    #[must_use]
    pub fn at_epoch(&self, epoch: u64) -> Self {
        Self::from_source(self.source.clone(), self.seed, epoch)
    }

    fn from_source(source: Arc<Source>, seed: u64, epoch: u64) -> Self {
        let mut instances: Vec<usize> = (0..source.windows.len() * source.copies).collect();
        let count = instances.len();
        Stream::new(seed, epoch, Purpose::Order, 0).draw(&mut instances, count);
        let mut batches = group(&mut instances, &source);
        let count = batches.len();
        Stream::new(seed, epoch, Purpose::Order, 1).draw(&mut batches, count);
        Self {
            source,
            seed,
            epoch,
            instances,
            batches,
        }
    }

    /// Number of batches. It varies a little between epochs, as windows meet in other batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batch `index`, with candidates if the loss is over some items only.
    ///
    /// # Panics
    /// If there is no batch `index`.
    pub fn build(&self, index: usize) -> PackedBatch {
        let source = &*self.source;
        let mut batch = PackedBatch::new();
        let mut places = Vec::new();
        for &instance in &self.instances[self.batches[index].clone()] {
            let window = &source.tokens[source.windows[instance / source.copies].clone()];
            match &source.objective {
                Objective::NextItem(_) => {
                    let first = batch.push(&window[..window.len() - 1]);
                    batch.rows.extend(first..batch.tokens.len() as u32);
                    batch.labels.extend_from_slice(&window[1..]);
                }
                Objective::Cloze(cloze) => {
                    let copy = instance % source.copies;
                    let mut stream =
                        Stream::new(self.seed, self.epoch, Purpose::Mask, instance as u64);
                    let is_last = match cloze.last_item {
                        LastItem::Never => false,
                        LastItem::Extra => copy == cloze.duplicates,
                        LastItem::Share(share) => stream.unit() < share,
                    };
                    let hidden = if is_last {
                        Hidden::Last
                    } else {
                        Hidden::Random
                    };
                    mask::push(
                        &mut batch,
                        window,
                        hidden,
                        cloze,
                        source.items,
                        &mut stream,
                        &mut places,
                    );
                }
            }
        }
        batch.candidates = source.negatives.as_ref().map(|(sampler, count)| {
            let log_q = matches!(
                source.objective.loss(),
                Loss::SampledSoftmax(SampledSoftmax { log_q: true, .. })
            );
            let mut stream = Stream::new(self.seed, self.epoch, Purpose::Negatives, index as u64);
            sampler.candidates(&batch.labels, *count, log_q, &mut stream)
        });
        batch
    }
}

impl Source {
    fn new(sequences: &Sequences, items: usize, max_len: usize, settings: &Train) -> Self {
        let Train {
            objective,
            window,
            batch,
            ..
        } = settings;
        assert!(
            batch.max_tokens >= max_len,
            "a batch of {} tokens cannot hold a sequence of {max_len}",
            batch.max_tokens
        );
        let mut counts = vec![0; items];
        for &item in &sequences.items {
            assert!(
                (item as usize) < items,
                "item {item} is out of range: there are {items}"
            );
            counts[item as usize] += 1;
        }
        // The last item of a window for next-item prediction is only a label: `max_len` tokens remain.
        let (size, shortest, copies) = match objective {
            Objective::Cloze(cloze) => (
                max_len,
                1,
                cloze.duplicates + usize::from(cloze.last_item == LastItem::Extra),
            ),
            Objective::NextItem(_) => (max_len + 1, 2, 1),
        };
        let mut all = Vec::new();
        for &[from, to] in sequences.offsets.array_windows() {
            let parts = windows(to - from, size, max_len, window);
            let long_enough = parts.into_iter().filter(|part| part.len() >= shortest);
            all.extend(long_enough.map(|part| from + part.start..from + part.end));
        }
        let sampler = objective.loss().negatives().filter(|_| !all.is_empty());
        Self {
            tokens: sequences.items.clone(),
            windows: all,
            items,
            objective: objective.clone(),
            batch: *batch,
            copies,
            negatives: sampler.map(|(count, kind)| (Sampler::new(kind, &counts), count)),
        }
    }

    /// Tokens that an instance puts into its batch.
    fn tokens_of(&self, instance: usize) -> usize {
        let len = self.windows[instance / self.copies].len();
        match self.objective {
            Objective::Cloze(_) => len,
            Objective::NextItem(_) => len - 1,
        }
    }
}

/// Sorts `instances` by length within pools, and cuts each pool into batches that keep to the budget.
fn group(instances: &mut [usize], source: &Source) -> Vec<Range<usize>> {
    const POOL_BATCHES: usize = 64;
    let Batch {
        max_tokens,
        max_sequences,
    } = source.batch;
    let max_sequences = max_sequences.unwrap_or(usize::MAX);
    let pool_tokens = max_tokens.saturating_mul(POOL_BATCHES);
    let pool_sequences = max_sequences.saturating_mul(POOL_BATCHES);
    let mut batches = Vec::new();
    for pool in cut(
        instances,
        0..instances.len(),
        source,
        pool_tokens,
        pool_sequences,
    ) {
        instances[pool.clone()].sort_by_key(|&instance| source.tokens_of(instance));
        batches.extend(cut(instances, pool, source, max_tokens, max_sequences));
    }
    batches
}

/// Cuts `range` of `instances` into runs, each as long as both limits allow.
fn cut(
    instances: &[usize],
    range: Range<usize>,
    source: &Source,
    max_tokens: usize,
    max_sequences: usize,
) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut tokens) = (range.start, 0);
    for at in range.clone() {
        let len = source.tokens_of(instances[at]);
        if at > start && (tokens + len > max_tokens || at - start == max_sequences) {
            runs.push(start..at);
            (start, tokens) = (at, 0);
        }
        tokens += len;
    }
    if start < range.end {
        runs.push(start..range.end);
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ITEMS: usize = 50;

    fn settings(
        objective: &Value,
        window: &Value,
        max_tokens: usize,
        max_sequences: Option<usize>,
    ) -> Train {
        serde_json::from_value(json!({
            "objective": objective,
            "window": window,
            "batch": { "max_tokens": max_tokens, "max_sequences": max_sequences },
            "accumulate": 1,
            "epochs": 3,
            "optim": { "kind": "adamw", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0 },
            "schedule": { "kind": "constant", "warmup_steps": 0 },
            "validate": { "every_epochs": 1, "metric": "mrr" },
        }))
        .unwrap()
    }

    fn cloze(last_item: &Value, duplicates: usize, loss: &Value) -> Value {
        json!({
            "kind": "cloze", "mask_prob": 0.2, "replace": { "kind": "always" }, "last_item": last_item,
            "duplicates": duplicates, "loss": loss,
        })
    }

    fn next_item(loss: &Value) -> Value {
        json!({ "kind": "next-item", "loss": loss })
    }

    fn softmax() -> Value {
        json!({ "kind": "softmax" })
    }

    fn sliding() -> Value {
        json!({ "kind": "sliding", "step": 0.5 })
    }

    /// Every sequence of `batch` with what was hidden put back.
    fn restored(batch: &PackedBatch) -> Vec<Vec<u32>> {
        let mut tokens = batch.tokens.clone();
        for (&row, &label) in batch.rows.iter().zip(&batch.labels) {
            tokens[row as usize] = label;
        }
        batch
            .offsets
            .array_windows()
            .map(|&[from, to]| tokens[from as usize..to as usize].to_vec())
            .collect()
    }

    fn all(plan: &BatchPlan) -> Vec<PackedBatch> {
        (0..plan.len()).map(|index| plan.build(index)).collect()
    }

    /// Sequences whose lengths and items vary.
    fn sequences(count: usize) -> Sequences {
        let mut stream = Stream::new(99, 0, Purpose::Order, 0);
        Sequences::from_rows((0..count).map(|_| {
            let len = stream.below(40);
            (0..len)
                .map(|_| stream.below(ITEMS as u32))
                .collect::<Vec<_>>()
        }))
    }

    fn objectives() -> impl Strategy<Value = Value> {
        let loss = prop_oneof![
            Just(softmax()),
            Just(
                json!({ "kind": "sampled-softmax", "negatives": 3, "sampler": "popularity", "log_q": true })
            ),
            Just(json!({ "kind": "gbce", "negatives": 2, "t": 0.5 })),
        ];
        let last_item = prop_oneof![
            Just(json!("never")),
            Just(json!("extra")),
            Just(json!({ "share": 0.5 }))
        ];
        prop_oneof![
            loss.clone().prop_map(|loss| next_item(&loss)),
            (last_item, 1_usize..4, loss)
                .prop_map(|(last_item, duplicates, loss)| cloze(&last_item, duplicates, &loss)),
        ]
    }

    proptest! {
        #[test]
        fn batches_are_valid_unpadded_and_keep_to_the_budget(
            rows in prop::collection::vec(prop::collection::vec(0..ITEMS as u32, 0..60), 1..25),
            objective in objectives(),
            is_sliding in any::<bool>(),
            max_len in 2_usize..20,
            spare_tokens in 0_usize..60,
            max_sequences in prop::option::of(1_usize..6),
            seed in any::<u64>(),
        ) {
            let window = if is_sliding { sliding() } else { json!({ "kind": "last" }) };
            let settings = settings(&objective, &window, max_len + spare_tokens, max_sequences);
            let plan = BatchPlan::new(&Sequences::from_rows(&rows), ITEMS, max_len, &settings, seed, 1);
            let is_cloze = matches!(settings.objective, Objective::Cloze(_));
            let mut seen = BTreeMap::new();
            for batch in all(&plan) {
                batch.assert_valid(ITEMS);
                prop_assert!(!batch.is_empty() && batch.tokens.len() <= max_len + spare_tokens);
                prop_assert!(batch.len() <= max_sequences.unwrap_or(usize::MAX));
                prop_assert_eq!(batch.candidates.is_some(), settings.objective.loss().negatives().is_some());
                let sequences: Vec<Vec<u32>> = if is_cloze {
                    restored(&batch)
                } else {
                    prop_assert_eq!(batch.rows.len(), batch.tokens.len());
                    // Every label is the next token, so a window is its first token and the labels.
                    batch.offsets.array_windows().map(|&[from, to]| {
                        let (from, to) = (from as usize, to as usize);
                        [&[batch.tokens[from]], &batch.labels[from..to]].concat()
                    }).collect()
                };
                for sequence in sequences {
                    prop_assert!(sequence.len() <= max_len + usize::from(!is_cloze));
                    *seen.entry(sequence).or_insert(0_usize) += 1;
                }
            }
            // Every window comes as often as it should, and nothing else comes.
            let copies = match &settings.objective {
                Objective::Cloze(cloze) => cloze.duplicates + usize::from(cloze.last_item == LastItem::Extra),
                Objective::NextItem(_) => 1,
            };
            let mut expected = BTreeMap::new();
            let size = max_len + usize::from(!is_cloze);
            for row in &rows {
                for part in windows(row.len(), size, max_len, &settings.window) {
                    if is_cloze || part.len() > 1 {
                        *expected.entry(row[part].to_vec()).or_insert(0) += copies;
                    }
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn every_item_but_the_first_is_foretold_from_full_histories() {
        let rows = [(0..50).collect::<Vec<u32>>()];
        for step in [0.5, 1.0] {
            let window = json!({ "kind": "sliding", "step": step });
            let settings = settings(&next_item(&softmax()), &window, 100, None);
            let plan = BatchPlan::new(&Sequences::from_rows(&rows), ITEMS, 8, &settings, 0, 0);
            let mut labels: Vec<u32> = all(&plan)
                .into_iter()
                .flat_map(|batch| batch.labels)
                .collect();
            labels.sort_unstable();
            labels.dedup();
            assert_eq!(labels, (1..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_same_seed_and_epoch_give_the_same_bits_and_others_give_others() {
        let loss = json!({ "kind": "sampled-softmax", "negatives": 4, "sampler": "popularity", "log_q": true });
        let settings = settings(&cloze(&json!("extra"), 2, &loss), &sliding(), 100, Some(8));
        let sequences = sequences(60);
        let plan = |seed, epoch| BatchPlan::new(&sequences, ITEMS, 20, &settings, seed, epoch);
        let first = all(&plan(5, 2));
        assert_eq!(first, all(&plan(5, 2)));
        assert_eq!(first, all(&plan(5, 0).at_epoch(2)));
        assert_ne!(first, all(&plan(5, 3)));
        assert_ne!(first, all(&plan(6, 2)));
    }

    #[test]
    fn a_batch_is_the_same_alone_in_any_order_and_prefetched_from_the_middle() {
        let settings = settings(
            &cloze(&json!("extra"), 2, &softmax()),
            &sliding(),
            100,
            None,
        );
        let plan = BatchPlan::new(&sequences(60), ITEMS, 20, &settings, 5, 2);
        let first = all(&plan);
        let mut backwards: Vec<_> = (0..plan.len())
            .rev()
            .map(|index| plan.build(index))
            .collect();
        backwards.reverse();
        assert_eq!(first, backwards);
        let middle = plan.len() / 2;
        assert!(middle > 3);
        let resumed: Vec<_> = crate::prefetch::Prefetch::new(plan, middle).collect();
        assert_eq!(first[middle..], resumed);
    }

    #[test]
    fn the_extra_copy_of_each_window_hides_its_last_item_alone() {
        let sequences = Sequences::from_rows((0..40).map(|user| vec![user; 20]));
        let settings = settings(
            &cloze(&json!("extra"), 2, &softmax()),
            &sliding(),
            400,
            None,
        );
        let mut last_alone = 0;
        for batch in all(&BatchPlan::new(&sequences, ITEMS, 20, &settings, 0, 0)) {
            for (&[from, to], place) in batch.offsets.array_windows().zip(0..) {
                let rows: Vec<u32> = batch
                    .rows
                    .iter()
                    .copied()
                    .filter(|row| (from..to).contains(row))
                    .collect();
                assert!(
                    rows == [to - 1] || rows.len() == 4,
                    "sequence {place}: {rows:?}"
                );
                last_alone += usize::from(rows == [to - 1]);
            }
        }
        assert_eq!(last_alone, 40);
    }

    #[test]
    fn a_share_of_windows_hides_its_last_item_alone() {
        let sequences = Sequences::from_rows(vec![vec![1; 20]; 1000]);
        let settings = settings(
            &cloze(&json!({ "share": 0.3 }), 1, &softmax()),
            &sliding(),
            400,
            None,
        );
        let plan = BatchPlan::new(&sequences, ITEMS, 20, &settings, 0, 0);
        let rows: usize = all(&plan).iter().map(|batch| batch.rows.len()).sum();
        // One row for those, four for the rest; the standard deviation of the number of those is 14.
        let last_alone = (4 * 1000 - rows) / 3;
        assert!(last_alone.abs_diff(300) < 75, "{last_alone}");
    }

    #[test]
    fn blanks_differ_between_epochs_and_copies() {
        let sequences = Sequences::from_rows([(0..50).collect::<Vec<_>>()]);
        let settings = settings(
            &cloze(&json!("never"), 3, &softmax()),
            &sliding(),
            200,
            None,
        );
        let plan = BatchPlan::new(&sequences, ITEMS, 50, &settings, 0, 0);
        let batches = [plan.build(0), plan.at_epoch(1).build(0)];
        let mut hidden: Vec<Vec<u32>> = batches
            .iter()
            .flat_map(|b| b.labels.chunks(10).map(<[u32]>::to_vec))
            .collect();
        hidden.sort();
        hidden.dedup();
        assert_eq!(hidden.len(), 6);
    }

    #[test]
    fn sequences_of_about_the_same_length_share_a_batch() {
        let settings = settings(
            &cloze(&json!("never"), 1, &softmax()),
            &sliding(),
            200,
            None,
        );
        let plan = BatchPlan::new(&sequences(2000), ITEMS, 40, &settings, 0, 0);
        let (mut tokens, mut padded) = (0, 0);
        for batch in all(&plan) {
            let longest = batch
                .offsets
                .array_windows()
                .map(|[from, to]| to - from)
                .max()
                .unwrap();
            tokens += batch.tokens.len();
            padded += longest as usize * batch.len();
        }
        assert!(tokens * 100 > padded * 95, "{tokens} of {padded}");
    }

    #[test]
    fn a_plan_without_anything_to_predict_is_empty() {
        let nothing = Sequences::from_rows([&[][..], &[]]);
        let single = Sequences::from_rows([[1], [2]]);
        let loss = json!({ "kind": "bce", "negatives": 1, "sampler": "popularity" });
        for (sequences, objective) in [
            (&nothing, cloze(&json!("extra"), 1, &loss)),
            (&single, next_item(&loss)),
        ] {
            let settings = settings(&objective, &sliding(), 100, None);
            assert!(BatchPlan::new(sequences, ITEMS, 20, &settings, 0, 0).is_empty());
        }
    }

    #[test]
    #[should_panic(expected = "a batch of 19 tokens cannot hold a sequence of 20")]
    fn a_budget_below_the_longest_sequence_is_refused() {
        let settings = settings(&next_item(&softmax()), &sliding(), 19, None);
        BatchPlan::new(&sequences(1), ITEMS, 20, &settings, 0, 0);
    }
}
