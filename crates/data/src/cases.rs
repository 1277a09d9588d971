//! Histories as batches that ask for the next item.

use std::ops::Range;

use crate::Cases;
use crate::batch::PackedBatch;

/// One sequence a history, with one prediction each: of the item that comes next.
///
/// With a `blank` (the number of items), a model of the cloze objective is asked: the last `max_len - 1` items, then
/// the blank, whose place is to be predicted. Without, a model of the next-item objective: the last `max_len` items,
/// the last of which foretells. Labels are left empty.
///
/// # Panics
/// If a sequence would have no token: a history is empty and there is no blank.
pub fn next_item_batch<'a>(
    histories: impl IntoIterator<Item = &'a [u32]>,
    max_len: usize,
    blank: Option<u32>,
) -> PackedBatch {
    let keep = max_len - usize::from(blank.is_some());
    let mut batch = PackedBatch::new();
    let mut tokens = Vec::with_capacity(max_len);
    for history in histories {
        tokens.clear();
        tokens.extend_from_slice(&history[history.len().saturating_sub(keep)..]);
        tokens.extend(blank);
        assert!(
            !tokens.is_empty(),
            "a history without items foretells nothing"
        );
        let first = batch.push(&tokens);
        batch.rows.push(first + tokens.len() as u32 - 1);
    }
    batch
}

/// All cases in order, in batches of at most `max_tokens` tokens (but at least one case), each with the range of its
/// cases. The label of a case is the first of its targets. `max_len` and `blank` as in [`next_item_batch`].
pub fn case_batches(
    cases: &Cases,
    max_len: usize,
    max_tokens: usize,
    blank: Option<u32>,
) -> impl Iterator<Item = (Range<usize>, PackedBatch)> + '_ {
    let len =
        move |case| (cases.histories.get(case).len() + usize::from(blank.is_some())).min(max_len);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == cases.len() {
            return None;
        }
        let (mut end, mut tokens) = (start + 1, len(start));
        while end < cases.len() && tokens + len(end) <= max_tokens {
            tokens += len(end);
            end += 1;
        }
        let range = start..end;
        start = end;
        let mut batch = next_item_batch(
            range.clone().map(|case| cases.histories.get(case)),
            max_len,
            blank,
        );
        batch.labels = range
            .clone()
            .map(|case| cases.targets.get(case)[0])
            .collect();
        Some((range, batch))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Sequences;

    const ITEMS: u32 = 9;

    fn cases(histories: &[Vec<u32>]) -> Cases {
        Cases {
            users: (0..histories.len() as u32).collect(),
            histories: Sequences::from_rows(histories),
            targets: Sequences::from_rows(histories.iter().map(|history| [history[0], 0])),
        }
    }

    #[test]
    fn a_blank_takes_the_place_after_the_newest_items() {
        let batch = next_item_batch([&[1, 2, 3, 4][..], &[5], &[]], 3, Some(ITEMS));
        batch.assert_valid(ITEMS as usize);
        assert_eq!(batch.tokens, [3, 4, ITEMS, 5, ITEMS, ITEMS]);
        assert_eq!(
            (batch.offsets, batch.rows),
            (vec![0, 3, 5, 6], vec![2, 4, 5])
        );
    }

    #[test]
    fn without_a_blank_the_newest_item_foretells() {
        let batch = next_item_batch([&[1, 2, 3, 4][..], &[5]], 3, None);
        assert_eq!((batch.tokens, batch.rows), (vec![2, 3, 4, 5], vec![2, 3]));
    }

    #[test]
    #[should_panic(expected = "a history without items")]
    fn an_empty_history_without_a_blank_is_refused() {
        next_item_batch([&[1][..], &[]], 3, None);
    }

    proptest! {
        #[test]
        fn every_case_comes_once_in_order_within_the_budget(
            histories in prop::collection::vec(prop::collection::vec(0..ITEMS, 1..20), 0..30),
            max_len in 2_usize..12,
            max_tokens in 12_usize..60,
            asks_blank in any::<bool>(),
        ) {
            let cases = cases(&histories);
            let blank = asks_blank.then_some(ITEMS);
            let mut next = 0;
            for (range, batch) in case_batches(&cases, max_len, max_tokens, blank) {
                batch.assert_valid(ITEMS as usize);
                prop_assert_eq!(range.start, next);
                prop_assert_eq!((range.len(), range.len()), (batch.len(), batch.labels.len()));
                prop_assert!(batch.tokens.len() <= max_tokens);
                let labels: Vec<u32> = histories[range.clone()].iter().map(|history| history[0]).collect();
                prop_assert_eq!(&batch.labels, &labels);
                next = range.end;
            }
            prop_assert_eq!(next, histories.len());
        }
    }
}
