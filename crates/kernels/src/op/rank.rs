//! The best of many scores, and the place of one among them.

use std::cmp::Reverse;

/// Ids and scores of the `k` best that `skip` leaves, best first; NaN comes last, equals by lower id.
///
/// Fewer than `k` come back when fewer are left. Time grows with the number of scores, not with its logarithm too: candidates
/// gather in a buffer of 2k, which is halved when full, and a score below the worst of the best k never enters.
pub fn top_k(scores: &[f32], k: usize, skip: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
    if k == 0 {
        return Vec::new();
    }
    // Smaller is better: by score, then by id.
    let place = |&(id, score): &(u32, f32)| (Reverse(worth(score)), id);
    let full = k.saturating_mul(2);
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(full.min(scores.len()));
    // Ids rise, so an equal score that comes later is worse. Until k numbers are known, anything enters.
    let mut bar: Option<f32> = None;
    for (block, first) in scores.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        if bar.is_some_and(|bar| !any(block, |score| score > bar)) {
            continue;
        }
        for (id, &score) in (first..).zip(block) {
            if bar.is_some_and(|bar| score <= bar || score.is_nan()) || skip(id) {
                continue;
            }
            best.push((id, score));
            if best.len() == full {
                best.select_nth_unstable_by_key(k - 1, place);
                best.truncate(k);
                bar = Some(best[k - 1].1).filter(|bar| !bar.is_nan());
            }
        }
    }
    best.sort_unstable_by_key(place);
    best.truncate(k);
    best
}

/// The place of `target` among those that `skip` leaves, from 1 and pessimistic: every other score that is not lower is ahead.
///
/// The target takes part whatever `skip` says. NaN is lower than every number.
///
/// # Panics
/// Where `scores` has no `target`.
pub fn rank_of(scores: &[f32], target: u32, skip: impl Fn(u32) -> bool) -> u32 {
    let own = scores[target as usize];
    let is_ahead = |score: f32| score >= own || own.is_nan();
    let mut rank = 1;
    for (block, first) in scores.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        if any(block, is_ahead) {
            let ahead = |&(id, &score): &(u32, &f32)| is_ahead(score) && id != target && !skip(id);
            rank += (first..).zip(block).filter(ahead).count() as u32;
        }
    }
    rank
}

/// Scores that are looked at together before any is looked at alone: most blocks hold nothing of interest.
const BLOCK: usize = 64;

/// Whether any score is such. Looks at all of them, which compilers turn into vector instructions.
fn any(block: &[f32], is_such: impl Fn(f32) -> bool) -> bool {
    block.iter().fold(false, |any, &score| any | is_such(score))
}

/// An integer in the order of the scores: NaN below everything, the two zeros equal.
fn worth(score: f32) -> i64 {
    if score.is_nan() {
        return i64::MIN;
    }
    let magnitude = i64::from(score.abs().to_bits());
    if score < 0.0 { -magnitude } else { magnitude }
}
