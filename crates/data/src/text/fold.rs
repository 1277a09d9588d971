//! Examples in parts that are each left out once.

use std::collections::HashMap;

use crate::stream::{Purpose, Stream};

/// Which part each example is in, of `count`, drawn from `seed`: those of a group in one, each class and all together spread as
/// evenly as that allows.
///
/// Groups are dealt out from the largest to the smallest, those of a size in random order, each to the part that has the fewest of its
/// classes, as shares of each class; of equal ones to that with the fewest examples.
///
/// # Panics
/// If there are fewer groups or classes than examples.
pub(super) fn folds(groups: &[usize], classes: &[usize], count: usize, seed: u64) -> Vec<usize> {
    assert_eq!(groups.len(), classes.len(), "a class for each example");
    let group_count = groups.iter().max().map_or(0, |last| last + 1);
    let class_count = classes.iter().max().map_or(0, |last| last + 1);
    let mut totals = vec![0.0; class_count];
    let mut members: Vec<HashMap<usize, usize>> = vec![HashMap::new(); group_count];
    for (&group, &class) in groups.iter().zip(classes) {
        totals[class] += 1.0;
        *members[group].entry(class).or_default() += 1;
    }
    let sizes: Vec<usize> = members.iter().map(|of| of.values().sum()).collect();
    let mut order: Vec<usize> = (0..group_count).collect();
    Stream::new(seed, 0, Purpose::Folds, 0).draw(&mut order, group_count);
    order.sort_by_key(|&group| std::cmp::Reverse(sizes[group]));
    let mut part_of = vec![0; group_count];
    let mut filled = vec![vec![0.0; class_count]; count];
    let mut fold_sizes = vec![0; count];
    for group in order {
        let mut own: Vec<_> = members[group]
            .iter()
            .map(|(&class, &of)| (class, of))
            .collect();
        own.sort_unstable();
        // How much the sum of squared shares grows.
        let cost = |fold: usize| -> f64 {
            let classes = own.iter().map(|&(class, of)| {
                let (before, more) = (filled[fold][class], of as f64);
                more * (2.0_f64).mul_add(before, more) / (totals[class] * totals[class])
            });
            classes.sum()
        };
        let fold = (0..count)
            .min_by(|&a, &b| {
                let costs = cost(a).total_cmp(&cost(b));
                costs.then(fold_sizes[a].cmp(&fold_sizes[b]))
            })
            .expect("there are parts");
        part_of[group] = fold;
        fold_sizes[fold] += sizes[group];
        for (class, of) in own {
            filled[fold][class] += of as f64;
        }
    }
    groups.iter().map(|&group| part_of[group]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_part_has_its_share_of_each_class(
            classes in prop::collection::vec(0_usize..4, 1..200),
            count in 2_usize..7,
            seed in any::<u64>(),
        ) {
            let groups: Vec<usize> = (0..classes.len()).collect();
            let found = folds(&groups, &classes, count, seed);
            for class in 0..4 {
                let mut of = vec![0; count];
                let own = found.iter().zip(&classes).filter(|(_, other)| **other == class);
                own.for_each(|(&fold, _)| of[fold] += 1);
                prop_assert!(of.iter().max().unwrap() - of.iter().min().unwrap() <= 1, "{of:?}");
            }
        }

        #[test]
        fn a_group_is_in_one_part_and_parts_are_alike(
            groups in prop::collection::vec(0_usize..40, 100..300),
            count in 2_usize..5,
            seed in any::<u64>(),
        ) {
            let found = folds(&groups, &vec![0; groups.len()], count, seed);
            let mut parts = HashMap::new();
            let mut sizes = vec![0_usize; count];
            for (group, fold) in groups.iter().zip(&found) {
                prop_assert_eq!(*parts.entry(group).or_insert(fold), fold);
                sizes[*fold] += 1;
            }
            // No more apart than the largest group.
            let largest = (0..40).map(|group| groups.iter().filter(|of| **of == group).count()).max().unwrap();
            let apart = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            prop_assert!(apart <= largest, "{sizes:?}");
        }
    }

    #[test]
    fn other_seeds_give_other_parts() {
        let (groups, classes): (Vec<usize>, Vec<usize>) = ((0..50).collect(), vec![0; 50]);
        assert_eq!(
            folds(&groups, &classes, 5, 1),
            folds(&groups, &classes, 5, 1)
        );
        assert_ne!(
            folds(&groups, &classes, 5, 1),
            folds(&groups, &classes, 5, 2)
        );
    }
}
