use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use cloze_spec::mixer;
use rand::Rng;

use super::{Mixer, drawn};
use crate::layout::Layout;
use crate::noise::Noise;
use crate::sequences::Sequences;

/// Fixed random weights between positions: each row a softmax of numbers from 0 to 1 over the tokens it sees.
///
/// # Source
/// Yu et al., CVPR 2022, arXiv:2111.11418, table 5 and its public code.
#[derive(Module, Debug)]
pub(crate) struct Random {
    /// What the softmax divides by its sum: `[max_len, max_len]`, 0 where a token may not see.
    #[module(skip)]
    weights: Arc<[f32]>,
    max_len: usize,
}

impl Random {
    /// `name` tells layers apart.
    pub fn new(settings: &mixer::Random, room: mixer::Room, name: &str) -> Self {
        let mut rng = drawn(settings.seed, name);
        let max_len = room.max_len;
        let mut weight = |index: usize| {
            let number = rng.next_u32() as f32 / u32::MAX as f32;
            let hidden = settings.causal && index % max_len > index / max_len;
            if hidden { 0.0 } else { number.exp() }
        };
        Self {
            weights: (0..max_len * max_len).map(&mut weight).collect(),
            max_len,
        }
    }
}

impl Mixer for Random {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let device = x.device();
        let layout = Layout::within(&sequences.offsets, self.max_len);
        let places = layout.places;
        let rows = self.weights.chunks(self.max_len).take(places);
        let weights: Vec<f32> = rows.flat_map(|row| &row[..places]).copied().collect();
        let weights =
            Tensor::<2>::from_data(TensorData::new(weights, [places, places]), &device).unsqueeze();
        let sum = Tensor::<3>::matmul(weights.clone(), layout.spread(x)); // [B, T, D]
        // Positions beyond a sequence's end see its tokens too, so none of the sums is 0.
        let total = weights.matmul(layout.taken(&device)); // [B, T, 1]
        sequences.wanted(layout.pack(sum / total), selected)
    }
}
