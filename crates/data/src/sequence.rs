//! Item sequences, one per user, laid end to end.

use crate::source::Log;

/// Sequences of items, concatenated: sequence `i` is `items[offsets[i]..offsets[i + 1]]`.
///
/// `offsets` starts with 0, never decreases and ends with `items.len()`. `times` is empty, or as long as `items`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Where each sequence starts, and one last entry: where the last one ends.
    pub offsets: Vec<usize>,
    /// Item ids of all sequences.
    pub items: Vec<u32>,
    /// Time of each item, in the unit of its source; empty when the source has no times.
    pub times: Vec<i64>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self::new()
    }
}

impl Sequences {
    /// No sequences.
    pub fn new() -> Self {
        Self {
            offsets: vec![0],
            items: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Untimed sequences from rows of item ids.
    pub fn from_rows<R: AsRef<[u32]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut sequences = Self::new();
        for row in rows {
            sequences.push(row.as_ref(), &[]);
        }
        sequences
    }

    /// One sequence per user of `log`, in the order of its users; events of a user by time, and in their
    /// original order where times are equal or there are none.
    pub fn from_log(log: &Log) -> Self {
        let (order, offsets) = log.by_user();
        Self {
            items: order.iter().map(|&i| log.events[i].item).collect(),
            times: if log.timed {
                order.iter().map(|&i| log.events[i].time).collect()
            } else {
                Vec::new()
            },
            offsets,
        }
    }

    /// Appends one sequence.
    ///
    /// # Panics
    /// If `times` is neither empty nor as long as `items`, or if some sequences have times and others have none.
    pub fn push(&mut self, items: &[u32], times: &[i64]) {
        self.items.extend_from_slice(items);
        self.times.extend_from_slice(times);
        assert!(
            self.times.is_empty() || self.times.len() == self.items.len(),
            "a time for every item or for none: {} times, {} items",
            self.times.len(),
            self.items.len()
        );
        self.offsets.push(self.items.len());
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of items in all sequences together.
    pub fn tokens(&self) -> usize {
        self.items.len()
    }

    /// Items of sequence `i`.
    ///
    /// # Panics
    /// If there is no sequence `i`.
    pub fn get(&self, i: usize) -> &[u32] {
        &self.items[self.offsets[i]..self.offsets[i + 1]]
    }

    /// Times of the items of sequence `i`; empty when untimed.
    ///
    /// # Panics
    /// If there is no sequence `i`.
    pub fn times(&self, i: usize) -> &[i64] {
        if self.times.is_empty() {
            &[]
        } else {
            &self.times[self.offsets[i]..self.offsets[i + 1]]
        }
    }

    /// All sequences in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> + '_ {
        self.offsets
            .array_windows()
            .map(|&[from, to]| &self.items[from..to])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Event;

    fn log(timed: bool, events: &[(u32, u32, i64)]) -> Log {
        Log {
            users: vec!["ann".into(), "bob".into(), "cyd".into()],
            items: (0..10).map(|i| i.to_string()).collect(),
            events: events
                .iter()
                .map(|&(user, item, time)| Event { user, item, time })
                .collect(),
            timed,
        }
    }

    #[test]
    fn users_keep_their_order_and_events_are_sorted_by_time_then_by_original_order() {
        let events = [(2, 1, 9), (0, 5, 3), (2, 2, 4), (0, 6, 3), (0, 7, 1)];
        let sequences = Sequences::from_log(&log(true, &events));
        assert_eq!(sequences.offsets, [0, 3, 3, 5]);
        assert_eq!(sequences.items, [7, 5, 6, 2, 1]);
        assert_eq!(sequences.times, [1, 3, 3, 4, 9]);
        assert_eq!(sequences.times(2), [4, 9]);
    }

    #[test]
    fn without_times_file_order_is_kept() {
        let events = [(2, 1, 0), (0, 5, 0), (2, 2, 0), (0, 3, 0)];
        let sequences = Sequences::from_log(&log(false, &events));
        assert_eq!(
            sequences.iter().collect::<Vec<_>>(),
            [&[5, 3][..], &[], &[1, 2]]
        );
        assert!(sequences.times.is_empty() && sequences.times(0).is_empty());
        assert_eq!((sequences.len(), sequences.tokens()), (3, 4));
    }

    #[test]
    #[should_panic(expected = "a time for every item or for none")]
    fn half_timed_sequences_are_refused() {
        let mut sequences = Sequences::from_rows([[1, 2]]);
        sequences.push(&[3], &[7]);
    }
}
