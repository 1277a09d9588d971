//! Histories as batches that ask for the next item.

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

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: u32 = 9;

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
}
