//! Which parts of long sequences are learned from.

use std::ops::Range;

use cloze_spec::batch::{Sliding, Window};

/// The windows of a sequence of `len` items, each at most `size` long, the last one ending with the last item.
///
/// Sliding windows start at 0 and at every `step` before the last window's start: beside the first, which may overlap
/// more, all are full and `step` apart. `max_len` is what the step is a share of, in items, rounded down.
///
/// # Source
/// The authors' code of BERT4Rec, `create_training_instances`.
/// # Departures
/// A step that rounds down to 0 is 1; there it is an error.
pub fn windows(len: usize, size: usize, max_len: usize, settings: &Window) -> Vec<Range<usize>> {
    let last = len.saturating_sub(size);
    let starts = match settings {
        _ if len == 0 => Vec::new(),
        Window::Last => vec![last],
        Window::Sliding(Sliding { step }) => {
            let step = ((step * max_len as f64) as usize).max(1);
            let mut starts: Vec<usize> = (1..=last).rev().step_by(step).collect();
            starts.push(0);
            starts.reverse();
            starts
        }
    };
    starts
        .into_iter()
        .map(|start| start..len.min(start + size))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sliding(step: f64) -> Window {
        Window::Sliding(Sliding { step })
    }

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "one window is a range, not its items"
    )]
    fn windows_are_those_of_the_original_code() {
        // Starts by its `range(len - size, 0, -step)`, a 0 appended, reversed.
        assert_eq!(windows(10, 4, 4, &sliding(0.5)), [0..4, 2..6, 4..8, 6..10]);
        assert_eq!(
            windows(11, 4, 4, &sliding(0.5)),
            [0..4, 1..5, 3..7, 5..9, 7..11]
        );
        assert_eq!(windows(9, 4, 4, &sliding(1.0)), [0..4, 1..5, 5..9]);
        assert_eq!(windows(53, 50, 50, &sliding(0.1)), [0..50, 3..53]);
        assert_eq!(windows(6, 4, 4, &sliding(0.1)), [0..4, 1..5, 2..6]);
        for short in [1, 3, 4] {
            assert_eq!(windows(short, 4, 4, &sliding(0.5)), [0..short]);
            assert_eq!(windows(short, 4, 4, &Window::Last), [0..short]);
        }
        assert_eq!(windows(10, 4, 4, &Window::Last), [6..10]);
        assert!(
            windows(0, 4, 4, &sliding(0.5)).is_empty()
                && windows(0, 4, 4, &Window::Last).is_empty()
        );
    }

    proptest! {
        #[test]
        fn sliding_windows_cover_every_item_and_end_with_the_last(
            len in 1_usize..400, size in 1_usize..60, step in 0.001_f64..=1.0,
        ) {
            let windows = windows(len, size, size, &sliding(step));
            prop_assert_eq!(windows[0].start, 0);
            prop_assert_eq!(windows[windows.len() - 1].end, len);
            prop_assert!(windows.iter().all(|window| window.len() == size.min(len)));
            for pair in windows.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[1].start <= pair[0].end);
            }
        }
    }
}
