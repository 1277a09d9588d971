//! Random numbers that depend on nothing but what they are for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What numbers are drawn for; each purpose has numbers of its own.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    Order,
    Mask,
    Negatives,
    HoldOut,
    Few,
    Mixture,
    Folds,
    Pair,
    Context,
}

/// Random numbers keyed by a seed, an epoch, a purpose and an index: the same key, the same numbers.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, epoch: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        key[16..24].copy_from_slice(&(purpose as u64).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// A number in `0..n`, all alike.
    ///
    /// # Source
    /// Lemire, Fast Random Integer Generation in an Interval, ACM TOMACS 29(1), 2019, arXiv:1805.10941.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0, "no number is below 0");
        loop {
            let product = u64::from(self.0.next_u32()) * u64::from(n);
            // The low half tells the few draws that would favour some numbers; `n` bounds the cost of the division.
            let low = product as u32;
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Puts `count` values drawn from `values` without replacement at its front, in random order; all of them, a
    /// shuffle.
    ///
    /// # Source
    /// Knuth, The Art of Computer Programming 2, §3.4.2, algorithm P.
    pub(crate) fn draw<T>(&mut self, values: &mut [T], count: usize) {
        let len = values.len();
        assert!(
            u32::try_from(len).is_ok(),
            "at most 2³² values can be drawn from, found {len}"
        );
        for i in 0..count.min(len.saturating_sub(1)) {
            let other = i + self.below((len - i) as u32) as usize;
            values.swap(i, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_counts() {
        let first = |seed, epoch, purpose, index| Stream::new(seed, epoch, purpose, index).bits();
        let base = first(1, 2, Purpose::Mask, 3);
        assert_eq!(base, first(1, 2, Purpose::Mask, 3));
        for other in [
            first(2, 2, Purpose::Mask, 3),
            first(1, 1, Purpose::Mask, 3),
            first(1, 2, Purpose::Order, 3),
            first(1, 2, Purpose::Mask, 2),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn numbers_below_a_bound_are_all_alike() {
        let mut stream = Stream::new(0, 0, Purpose::Mask, 0);
        let mut counts = [0_u32; 7];
        let draws = 70_000;
        for _ in 0..draws {
            counts[stream.below(7) as usize] += 1;
        }
        // The standard deviation of a count is 93.
        assert!(
            counts.iter().all(|&count| count.abs_diff(draws / 7) < 500),
            "{counts:?}"
        );
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn every_order_is_drawn() {
        let mut orders = std::collections::BTreeMap::new();
        let draws = 24_000;
        for index in 0..draws {
            let mut values = [0, 1, 2, 3];
            Stream::new(0, 0, Purpose::Order, index).draw(&mut values, 4);
            *orders.entry(values).or_insert(0_u64) += 1;
        }
        assert_eq!(orders.len(), 24);
        assert!(
            orders
                .values()
                .all(|&count| count.abs_diff(draws / 24) < 160),
            "{orders:?}"
        );
    }
}
