use burn::tensor::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::op::Dropout;

/// Where dropout comes from: a seed a forward pass, from which each place that drops takes its own. What parts of the model learn
/// from on the way, beside the model's loss, is left here.
///
/// The n-th place of a pass gets the same values whenever seed and n are the same, so a resumed run drops what the
/// uninterrupted one would have.
#[derive(Debug, Clone)]
pub struct Noise {
    seed: Option<u64>,
    place: u64,
    owed: Vec<Tensor<1>>,
}

impl Noise {
    /// Nothing is dropped: for evaluation and use.
    pub const fn none() -> Self {
        Self {
            seed: None,
            place: 0,
            owed: Vec::new(),
        }
    }

    /// Dropout for one training pass.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed: Some(seed),
            place: 0,
            owed: Vec::new(),
        }
    }

    /// Dropout of probability `prob` for the next place of the pass.
    pub(crate) fn dropout(&mut self, prob: f32) -> Dropout {
        match self.seed {
            Some(seed) if prob > 0.0 => {
                self.place += 1;
                Dropout {
                    prob,
                    seed: mix(seed ^ mix(self.place)),
                }
            }
            _ => Dropout::NONE,
        }
    }

    /// Leaves what a part learns from, beside the model's loss: `[1]`.
    pub(crate) fn owe(&mut self, loss: Tensor<1>) {
        self.owed.push(loss);
    }

    /// The model's loss and all that parts left, `[1]`.
    pub(crate) fn with_owed(&mut self, loss: Tensor<1>) -> Tensor<1> {
        let owed = std::mem::take(&mut self.owed).into_iter();
        owed.fold(loss, |loss, owed| loss + owed)
    }

    /// Random numbers for the next place of the pass; without a seed, the same in every pass.
    pub(crate) fn numbers(&mut self) -> ChaCha8Rng {
        self.place += 1;
        ChaCha8Rng::seed_from_u64(mix(self.seed.unwrap_or(0) ^ mix(self.place)))
    }
}

/// The finaliser of `SplitMix64` (Steele et al., OOPSLA 2014): every bit of the input reaches every bit of the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_each_pass_has_its_own_seed_and_keeps_it() {
        let pass = |seed: u64| {
            let mut noise = Noise::new(seed);
            (0..9)
                .map(|_| noise.dropout(0.1).seed)
                .collect::<Vec<u64>>()
        };
        let mut seeds: Vec<u64> = (0..9).flat_map(pass).collect();
        assert_eq!(pass(3), seeds[27..36]);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 81);
    }

    #[test]
    fn nothing_is_dropped_without_a_seed_or_a_probability() {
        assert_eq!(Noise::none().dropout(0.5), Dropout::NONE);
        assert_eq!(Noise::new(1).dropout(0.0), Dropout::NONE);
    }
}
