//! Ranking by a full sort.

use std::cmp::Ordering;

/// Best first: higher scores first, NaN last, lower ids first among equals.
fn order(a: (u32, f32), b: (u32, f32)) -> Ordering {
    match (a.1.is_nan(), b.1.is_nan()) {
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if a.1 > b.1 => Ordering::Less,
        (false, false) if a.1 < b.1 => Ordering::Greater,
        _ => a.0.cmp(&b.0),
    }
}

/// The `k` best of `scores` that `skip` leaves, best first.
pub fn top_k(scores: &[f32], k: usize, skip: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
    let mut all: Vec<_> = (0..).zip(scores.iter().copied()).collect();
    all.retain(|&(id, _)| !skip(id));
    all.sort_by(|&a, &b| order(a, b));
    all.truncate(k);
    all
}

/// The place of `target`, from 1, behind every other that is not worse.
pub fn rank_of(scores: &[f32], target: u32, skip: impl Fn(u32) -> bool) -> u32 {
    let own = (0, scores[target as usize]);
    let ahead = |&(id, score): &(u32, f32)| {
        id != target && !skip(id) && order((0, score), own) != Ordering::Greater
    };
    1 + (0..).zip(scores.iter().copied()).filter(ahead).count() as u32
}
