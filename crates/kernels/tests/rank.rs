//! Ranking against a full sort.

use cloze_kernels::op::rank::{rank_of, top_k};
use cloze_kernels::reference;
use proptest::prelude::*;

/// Few values, so that ties are common; all the odd ones too.
fn score() -> impl Strategy<Value = f32> {
    let odd = vec![0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    prop_oneof![4 => (-6_i8..6).prop_map(f32::from), 2 => any::<f32>(), 1 => prop::sample::select(odd)]
}

fn comparable(ranked: Vec<(u32, f32)>) -> Vec<(u32, u32)> {
    ranked
        .into_iter()
        .map(|(id, score)| (id, score.to_bits()))
        .collect()
}

proptest! {
    #[test]
    fn top_is_the_head_of_a_full_sort(
        scores in prop::collection::vec(score(), 0..200),
        k in prop::sample::select(vec![0_usize, 1, 2, 3, 10, 64, 199, 1000]),
        modulus in 1_u32..5,
    ) {
        let skip = |id: u32| id % modulus == 1;
        let want = reference::rank::top_k(&scores, k, skip);
        prop_assert_eq!(comparable(top_k(&scores, k, skip)), comparable(want));
    }

    #[test]
    fn rank_counts_all_that_are_not_worse(
        scores in prop::collection::vec(score(), 1..100),
        target: prop::sample::Index,
        modulus in 1_u32..5,
    ) {
        let skip = |id: u32| id % modulus == 1;
        let target = target.index(scores.len()) as u32;
        let want = reference::rank::rank_of(&scores, target, skip);
        prop_assert_eq!(rank_of(&scores, target, skip), want);
    }
}

#[test]
fn ties_are_against_the_target_and_nan_is_last() {
    let scores = [1.0, 3.0, f32::NAN, 3.0, 2.0];
    assert_eq!(rank_of(&scores, 1, |_| false), 2);
    assert_eq!(rank_of(&scores, 1, |id| id == 3), 1);
    assert_eq!(rank_of(&scores, 4, |_| false), 3);
    assert_eq!(rank_of(&scores, 2, |_| false), 5);
    let ids: Vec<u32> = top_k(&scores, 9, |_| false)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, [1, 3, 4, 0, 2]);
}
