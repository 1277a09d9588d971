use std::ops::Range;

/// Windows of at most `size` tokens over all of them, each beginning `overlap` tokens before the end of the one before;
/// one empty window over no tokens.
///
/// With `whole_words` a window ends before the word that does not fit and begins at the first word within the overlap,
/// save in words longer than a window.
pub fn windows(
    words: &[Option<u32>],
    size: usize,
    overlap: usize,
    whole_words: bool,
) -> Vec<Range<usize>> {
    assert!(
        overlap < size,
        "an overlap of {overlap} in windows of {size}"
    );
    let splits_word =
        |at: usize| whole_words && words[at].is_some() && at > 0 && words[at - 1] == words[at];
    let end_from = |start: usize| {
        if words.len() - start <= size {
            return words.len();
        }
        let most = start + size;
        let end = (start + 1..=most).rev().find(|&at| !splits_word(at));
        end.unwrap_or(most)
    };
    let (mut all, mut start) = (Vec::new(), 0);
    loop {
        let end = end_from(start);
        all.push(start..end);
        if end == words.len() {
            return all;
        }
        // A window may begin where it still gets further than the one before.
        let starts = (start + 1).max(end.saturating_sub(overlap))..end;
        start = starts
            .filter(|&at| !splits_word(at))
            .find(|&at| end_from(at) > end)
            .unwrap_or(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(lengths: &[usize]) -> Vec<Option<u32>> {
        let words = lengths.iter().zip(0..);
        words
            .flat_map(|(&length, word)| std::iter::repeat_n(Some(word), length))
            .collect()
    }

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "one window is a list of one range"
    )]
    fn windows_overlap_by_as_much_as_was_asked_and_stop_at_the_end() {
        let single = words(&[1; 10]);
        assert_eq!(windows(&single, 4, 0, true), [0..4, 4..8, 8..10]);
        assert_eq!(windows(&single, 4, 1, true), [0..4, 3..7, 6..10]);
        assert_eq!(windows(&single, 4, 3, false)[..2], [0..4, 1..5]);
        assert_eq!(windows(&single, 10, 9, false), [0..10]);
        assert_eq!(windows(&[], 4, 1, true), [0..0]);
    }

    #[test]
    fn windows_end_between_words_and_split_only_words_that_are_longer() {
        let some = words(&[3, 3, 3, 1]);
        assert_eq!(windows(&some, 5, 0, true), [0..3, 3..6, 6..10]);
        assert_eq!(windows(&some, 5, 0, false), [0..5, 5..10]);
        assert_eq!(windows(&some, 7, 4, true), [0..6, 3..10]);
        assert_eq!(
            windows(&words(&[2, 9]), 4, 1, true),
            [0..2, 2..6, 6..10, 10..11]
        );
    }

    proptest! {
        #[test]
        fn windows_cover_every_token_within_their_size(
            lengths in prop::collection::vec(1_usize..9, 0..60),
            size in 1_usize..20, overlap in 0_usize..20, whole_words: bool,
        ) {
            let words = words(&lengths);
            let overlap = overlap.min(size - 1);
            let windows = windows(&words, size, overlap, whole_words);
            prop_assert_eq!(windows[0].start, 0);
            prop_assert_eq!(windows[windows.len() - 1].end, words.len());
            prop_assert!(windows.iter().all(|window| window.len() <= size));
            for pair in windows.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end);
                prop_assert!(pair[1].start <= pair[0].end);
                prop_assert!(pair[0].end - pair[1].start <= overlap);
            }
        }
    }
}
