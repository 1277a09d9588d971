//! Cutting users' sequences into training, validation and test parts.

use std::num::NonZeroUsize;

use cloze_spec::data;

use crate::{Error, Sequences};

/// Evaluation cases: what is known of a user, and what she did next.
///
/// `users`, `histories` and `targets` are parallel. A user is an index into the user ids of the data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cases {
    /// The user of each case.
    pub users: Vec<u32>,
    /// What the model is shown; never empty.
    pub histories: Sequences,
    /// What it should have ranked high; never empty, one item under leave-one-out.
    pub targets: Sequences,
}

impl Cases {
    /// Number of cases.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are no cases.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Adds the case of `user` whose history ends and whose targets start at `cut` of her sequence, and whose
    /// targets end at `end`; nothing if either would be empty.
    fn push(&mut self, sequences: &Sequences, user: usize, cut: usize, end: usize) {
        if 0 < cut && cut < end {
            self.users.push(user as u32);
            push_part(&mut self.histories, sequences, user, 0, cut);
            push_part(&mut self.targets, sequences, user, cut, end);
        }
    }
}

/// The three parts of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// One sequence per user, in the order of the users; some may be empty.
    pub train: Sequences,
    /// Cases to choose settings and the stopping point by.
    pub validation: Cases,
    /// Cases to report.
    pub test: Cases,
}

impl Split {
    /// Splits as `settings` say.
    ///
    /// # Errors
    /// If a split by time is asked for and there are no times, or nothing is left to train on.
    pub fn new(sequences: &Sequences, settings: &data::Split) -> Result<Self, Error> {
        let split = match settings {
            data::Split::LeaveOneOut(settings) => leave_one_out(sequences, settings),
            data::Split::Time(shares) => by_time(sequences, shares)?,
        };
        if split.train.tokens() == 0 {
            return Err(Error::Split(
                "no event is left to train on; lower validation_share and test_share".into(),
            ));
        }
        Ok(split)
    }
}

/// Each user's last item is the target for testing, the one before it for validation, and what precedes a target
/// is its history; the rest is for training. Users with fewer than three items only train, and users who are not
/// asked to validate train on their item before the last too.
///
/// # Leakage
/// A model learns from what other users did after the moment of a case, which no deployed model could. Comparable
/// with most publications, but not a forecast of what a deployment will reach: for that, split by time.
///
/// # Source
/// Kang et al., Self-Attentive Sequential Recommendation, ICDM 2018, arXiv:1808.09781, §IV; Sun et al.,
/// BERT4Rec, CIKM 2019, arXiv:1904.06690, §4.1.
///
/// # Departures
/// The code of BERT4Rec trains on the validation items too and does not validate; here those who validate hold
/// theirs out, and it is part of the history only when testing.
fn leave_one_out(sequences: &Sequences, settings: &data::LeaveOneOut) -> Split {
    const MIN_ITEMS: usize = 3;
    let eligible = sequences.iter().filter(|row| row.len() >= MIN_ITEMS);
    let eligible = eligible.count();
    let wanted = settings
        .validation_users
        .map_or(eligible, NonZeroUsize::get);
    let wanted = wanted.min(eligible);
    // Spread evenly: each eligible user adds wanted / eligible of a validating one, and whoever completes one is it.
    let mut part = 0;
    let mut split = Split::default();
    for user in 0..sequences.len() {
        let len = sequences.get(user).len();
        if len < MIN_ITEMS {
            push_part(&mut split.train, sequences, user, 0, len);
            continue;
        }
        part += wanted;
        let validates = part >= eligible;
        if validates {
            part -= eligible;
            split.validation.push(sequences, user, len - 2, len - 1);
        }
        let end = if validates { len - 2 } else { len - 1 };
        push_part(&mut split.train, sequences, user, 0, end);
        split.test.push(sequences, user, len - 1, len);
    }
    split
}

/// The log is cut for everyone at two moments, so that the shares of events lie between and after them; events at
/// the moment of a cut lie after it. Training ends at the first cut. A case's history is all before its cut, its
/// targets all from there to the next one; users without one or the other are no case.
///
/// # Leakage
/// None of the future: what is trained on is older than every target. (Which users and items are rare enough to be
/// dropped is still decided on the whole log.)
fn by_time(sequences: &Sequences, shares: &data::TimeSplit) -> Result<Split, Error> {
    if sequences.times.is_empty() {
        return Err(Error::Split(
            "a split by time needs times, and the data has none; name their column in data.columns.time, or split by leave-one-out".into(),
        ));
    }
    let mut times = sequences.times.clone();
    times.sort_unstable();
    let cut_at = |held_out: f64| {
        let index = (times.len() as f64 * (1.0 - held_out)) as usize;
        times[index.min(times.len() - 1)]
    };
    let test_cut = cut_at(shares.test_share);
    let validation_cut = cut_at(shares.validation_share + shares.test_share);
    let mut split = Split::default();
    for user in 0..sequences.len() {
        let times = sequences.times(user);
        let first = times.partition_point(|&time| time < validation_cut);
        let second = times.partition_point(|&time| time < test_cut);
        push_part(&mut split.train, sequences, user, 0, first);
        split.validation.push(sequences, user, first, second);
        split.test.push(sequences, user, second, times.len());
    }
    Ok(split)
}

/// Appends items `from..to` of a sequence, with their times.
fn push_part(into: &mut Sequences, sequences: &Sequences, index: usize, from: usize, to: usize) {
    let times = sequences.times(index);
    into.push(
        &sequences.get(index)[from..to],
        times.get(from..to).unwrap_or_default(),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timed(rows: &[&[(u32, i64)]]) -> Sequences {
        let mut sequences = Sequences::new();
        for row in rows {
            let (items, times): (Vec<_>, Vec<_>) = row.iter().copied().unzip();
            sequences.push(&items, &times);
        }
        sequences
    }

    fn rows(sequences: &Sequences) -> Vec<&[u32]> {
        sequences.iter().collect()
    }

    #[test]
    fn leave_one_out_gives_the_last_two_items_away() {
        let sequences = Sequences::from_rows([&[1, 2, 3, 4][..], &[5, 6], &[7, 8, 9], &[]]);
        let everybody = data::Split::LeaveOneOut(data::LeaveOneOut::default());
        let split = Split::new(&sequences, &everybody).unwrap();
        assert_eq!(rows(&split.train), [&[1, 2][..], &[5, 6], &[7], &[]]);
        assert_eq!(split.validation.users, [0, 2]);
        assert_eq!(rows(&split.validation.histories), [&[1, 2][..], &[7]]);
        assert_eq!(rows(&split.validation.targets), [[3], [8]]);
        assert_eq!(split.test.users, [0, 2]);
        assert_eq!(rows(&split.test.histories), [&[1, 2, 3][..], &[7, 8]]);
        assert_eq!(rows(&split.test.targets), [[4], [9]]);
    }

    #[test]
    fn those_who_do_not_validate_train_on_their_item_before_the_last() {
        let sequences = Sequences::from_rows([[1, 2, 3, 4]; 10]);
        let some = data::Split::LeaveOneOut(data::LeaveOneOut {
            validation_users: NonZeroUsize::new(3),
        });
        let split = Split::new(&sequences, &some).unwrap();
        assert_eq!(split.validation.users, [3, 6, 9]);
        assert_eq!(split.test.len(), 10);
        for user in 0..10 {
            let held_out = if split.validation.users.contains(&user) {
                2
            } else {
                1
            };
            assert_eq!(split.train.get(user as usize).len(), 4 - held_out);
        }
    }

    #[test]
    fn a_split_by_time_cuts_everyone_at_the_same_moments() {
        // Ten events at times 0..10; half is held out: cuts at 5 and 8.
        let sequences = timed(&[
            &[(1, 0), (2, 4), (3, 5), (4, 7), (5, 8)],
            &[(6, 1), (7, 2), (8, 3)],
            &[(9, 6), (10, 9)],
        ]);
        let shares = data::TimeSplit {
            validation_share: 0.3,
            test_share: 0.2,
        };
        let split = Split::new(&sequences, &data::Split::Time(shares)).unwrap();
        assert_eq!(rows(&split.train), [&[1, 2][..], &[6, 7, 8], &[]]);
        assert_eq!(split.train.times(0), [0, 4]);
        assert_eq!(split.validation.users, [0]);
        assert_eq!(rows(&split.validation.targets), [[3, 4]]);
        assert_eq!(split.test.users, [0, 2]);
        assert_eq!(rows(&split.test.histories), [&[1, 2, 3, 4][..], &[9]]);
        assert_eq!(rows(&split.test.targets), [[5], [10]]);
    }

    #[test]
    fn a_split_by_time_of_untimed_data_is_refused() {
        let sequences = Sequences::from_rows([[1, 2, 3]]);
        let shares = data::TimeSplit {
            validation_share: 0.1,
            test_share: 0.1,
        };
        let error = Split::new(&sequences, &data::Split::Time(shares)).unwrap_err();
        assert!(error.to_string().contains("data.columns.time"));
    }

    #[test]
    fn times_that_are_all_equal_leave_nothing_to_train_on() {
        let sequences = timed(&[&[(1, 5), (2, 5), (3, 5)]]);
        let shares = data::TimeSplit {
            validation_share: 0.3,
            test_share: 0.3,
        };
        assert!(matches!(
            Split::new(&sequences, &data::Split::Time(shares)),
            Err(Error::Split(_))
        ));
    }

    proptest! {
        #[test]
        fn no_split_by_time_lets_the_future_into_a_history(
            users in prop::collection::vec(prop::collection::vec(0_i64..50, 0..12), 1..20),
            validation_share in 0.01_f64..0.5,
            test_share in 0.01_f64..0.49,
        ) {
            let mut sequences = Sequences::new();
            for mut times in users {
                times.sort_unstable();
                sequences.push(&vec![0; times.len()], &times);
            }
            let shares = data::TimeSplit { validation_share, test_share };
            if let Ok(split) = Split::new(&sequences, &data::Split::Time(shares)) {
                let train_end = *split.train.times.iter().max().unwrap();
                for cases in [&split.validation, &split.test] {
                    let history_end = cases.histories.times.iter().max();
                    prop_assert!(cases.targets.times.iter().all(|time| Some(time) > history_end));
                    prop_assert!(cases.targets.times.iter().all(|time| *time > train_end));
                    prop_assert!(cases.histories.iter().chain(cases.targets.iter()).all(|row| !row.is_empty()));
                    prop_assert_eq!(cases.len(), cases.histories.len());
                    prop_assert_eq!(cases.len(), cases.targets.len());
                }
            }
        }
    }
}
