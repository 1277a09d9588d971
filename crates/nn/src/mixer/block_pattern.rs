//! Which blocks of a sequence see which: neighbours, the ends, and some drawn by chance.

use cloze_spec::mixer::Blocks;
use rand::Rng;

use super::drawn;

/// Whether a block of `count` stands at an end that sees all and is seen by all.
fn is_end(settings: &Blocks, block: usize, count: usize, causal: bool) -> bool {
    block < settings.global || !causal && block + settings.global >= count
}

/// The blocks at the ends of a sequence of `count` blocks, in order.
pub(super) fn ends(settings: &Blocks, count: usize, causal: bool) -> Vec<usize> {
    (0..count)
        .filter(|&block| is_end(settings, block, count, causal))
        .collect()
}

/// The blocks that each block of a sequence of `count` blocks sees, in order; none for those at the ends, which see all.
///
/// `name` tells layers apart.
pub(super) fn seen(settings: &Blocks, name: &str, count: usize, causal: bool) -> Vec<Vec<usize>> {
    let of = |block: usize| {
        if is_end(settings, block, count, causal) {
            return Vec::new();
        }
        let mut rng = drawn(settings.seed, &format!("{name}.{block}"));
        let (mut seen, mut others) = (Vec::new(), Vec::new());
        for other in 0..if causal { block + 1 } else { count } {
            // Drawn for every block, so that each one's number is the same in a longer sequence.
            let number = rng.next_u64();
            let near = block.abs_diff(other) <= settings.near;
            if near || is_end(settings, other, count, causal) {
                seen.push(other);
            } else {
                others.push((number, other));
            }
        }
        others.sort_unstable();
        seen.extend(others.iter().take(settings.random).map(|&(_, other)| other));
        seen.sort_unstable();
        seen
    };
    (0..count).map(of).collect()
}
