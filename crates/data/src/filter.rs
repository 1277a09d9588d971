//! Dropping repeated events, and users and items with too few.

use std::collections::HashSet;

use cloze_spec::data::Duplicates;

use crate::source::Log;

/// Drops repeated items of a user as `duplicates` says; of equals the earliest stays.
pub fn drop_duplicates(log: &mut Log, duplicates: Duplicates) {
    if duplicates == Duplicates::Keep {
        return;
    }
    let (order, offsets) = log.by_user();
    let mut keep = vec![true; log.events.len()];
    let mut seen = HashSet::new();
    for bounds in offsets.windows(2) {
        let user = &order[bounds[0]..bounds[1]];
        let item = |index: usize| log.events[index].item;
        match duplicates {
            Duplicates::Keep => {}
            Duplicates::Merge => {
                seen.clear();
                for &index in user {
                    keep[index] = seen.insert(item(index));
                }
            }
            Duplicates::MergeConsecutive => {
                for pair in user.windows(2) {
                    keep[pair[1]] = item(pair[0]) != item(pair[1]);
                }
            }
        }
    }
    let mut keep = keep.into_iter();
    log.events
        .retain(|_| keep.next().expect("one flag per event"));
}

/// Drops users and items with too few events, again and again until all that are left have enough, then all ids
/// without events; returns how often something was dropped. Ids keep their order.
///
/// What is left is the largest part of the log in which everyone has enough, whatever the order of dropping.
pub fn k_core(log: &mut Log, min_user_events: u32, min_item_events: u32) -> usize {
    let mut rounds = 0;
    loop {
        let (users, items) = counts(log);
        let before = log.events.len();
        log.events.retain(|event| {
            users[event.user as usize] >= min_user_events
                && items[event.item as usize] >= min_item_events
        });
        if log.events.len() == before {
            drop_unused(&mut log.users, &users, &mut log.events, |event| {
                &mut event.user
            });
            drop_unused(&mut log.items, &items, &mut log.events, |event| {
                &mut event.item
            });
            return rounds;
        }
        rounds += 1;
    }
}

/// Events of each user and of each item.
fn counts(log: &Log) -> (Vec<u32>, Vec<u32>) {
    let mut users = vec![0_u32; log.users.len()];
    let mut items = vec![0_u32; log.items.len()];
    for event in &log.events {
        for count in [
            &mut users[event.user as usize],
            &mut items[event.item as usize],
        ] {
            *count = count.saturating_add(1);
        }
    }
    (users, items)
}

fn drop_unused<E>(
    ids: &mut Vec<String>,
    counts: &[u32],
    events: &mut [E],
    id_of: impl Fn(&mut E) -> &mut u32,
) {
    let mut next = 0;
    let renumbered: Vec<u32> = counts
        .iter()
        .map(|&count| {
            let number = next;
            next += u32::from(count > 0);
            number
        })
        .collect();
    let mut kept = counts.iter();
    ids.retain(|_| kept.next().is_some_and(|&count| count > 0));
    for event in events {
        let id = id_of(event);
        *id = renumbered[*id as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Event;

    fn log(events: &[(u32, u32, i64)]) -> Log {
        let events: Vec<_> = events
            .iter()
            .map(|&(user, item, time)| Event { user, item, time })
            .collect();
        Log {
            users: (0..10).map(|i| format!("u{i}")).collect(),
            items: (0..10).map(|i| format!("i{i}")).collect(),
            timed: true,
            events,
        }
    }

    fn triples(log: &Log) -> Vec<(&str, &str, i64)> {
        log.events
            .iter()
            .map(|event| {
                (
                    log.users[event.user as usize].as_str(),
                    log.items[event.item as usize].as_str(),
                    event.time,
                )
            })
            .collect()
    }

    #[test]
    fn merging_keeps_the_earliest_by_time_not_by_place() {
        let mut log = log(&[(3, 1, 9), (3, 2, 5), (3, 1, 4), (4, 1, 8), (3, 1, 4)]);
        drop_duplicates(&mut log, Duplicates::Merge);
        assert_eq!(
            triples(&log),
            [("u3", "i2", 5), ("u3", "i1", 4), ("u4", "i1", 8)]
        );
    }

    #[test]
    fn runs_are_merged_and_returns_to_an_item_stay() {
        let mut log = log(&[
            (3, 1, 1),
            (3, 1, 2),
            (4, 1, 3),
            (3, 2, 4),
            (3, 1, 5),
            (3, 1, 6),
        ]);
        drop_duplicates(&mut log, Duplicates::MergeConsecutive);
        let times: Vec<_> = log.events.iter().map(|event| event.time).collect();
        assert_eq!(times, [1, 3, 4, 5]);
    }

    #[test]
    fn dropping_goes_on_until_everyone_has_enough() {
        // Item 3 falls first; then user 2 has one event left and falls, then item 2.
        let mut log = log(&[
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 2),
            (1, 1, 3),
            (2, 2, 4),
            (2, 3, 5),
            (0, 2, 6),
        ]);
        assert_eq!(k_core(&mut log, 2, 2), 3);
        assert_eq!(log.users, ["u0", "u1"]);
        assert_eq!(log.items, ["i0", "i1"]);
        assert_eq!(
            triples(&log),
            [
                ("u0", "i0", 0),
                ("u0", "i1", 1),
                ("u1", "i0", 2),
                ("u1", "i1", 3)
            ]
        );
    }

    #[test]
    fn a_minimum_of_one_drops_only_unused_ids() {
        let mut log = log(&[(7, 2, 0), (3, 9, 1)]);
        assert_eq!(k_core(&mut log, 1, 1), 0);
        assert_eq!(log.users, ["u3", "u7"]);
        assert_eq!(triples(&log), [("u7", "i2", 0), ("u3", "i9", 1)]);
    }

    #[test]
    fn nothing_may_be_left() {
        let mut log = log(&[(0, 0, 0)]);
        assert_eq!(k_core(&mut log, 2, 1), 1);
        assert!(log.events.is_empty() && log.users.is_empty() && log.items.is_empty());
    }
}
