use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::{Mixer, read_shares, sum_by};
use crate::layout::Layout;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::Activation;
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// Attention by the likeness `codes · codes + c` of codes of ±1, `c` above the bits, computed as three sums a sequence.
///
/// # Source
/// Liu et al., `NeurIPS` 2022, arXiv:2209.09004, §4.
#[derive(Module, Debug)]
pub(crate) struct HashedAttention {
    key_value: Linear,
    anchor: Weight<3>,
    hash: Hash,
    output: Linear,
}

/// Weights and thresholds of the bits: `[H, bits, anchors]` and `[H, bits]`.
#[derive(Module, Debug)]
struct Hash {
    weight: Weight<3>,
    bias: Weight<2>,
}

impl HashedAttention {
    pub fn new(_: &mixer::HashedAttention, source: &Source<'_>, name: &str) -> Self {
        Self {
            key_value: Linear::new(source, &format!("{name}.key_value")),
            anchor: source.parameter(&format!("{name}.anchor")),
            hash: Hash {
                weight: source.parameter(&format!("{name}.hash.weight")),
                bias: source.parameter(&format!("{name}.hash.bias")),
            },
            output: Linear::new(source, &format!("{name}.output")),
        }
    }
}

impl HashedAttention {
    /// What each token takes from the others, before the output map: keys and values `[N, 2D]` → `[N, D]`.
    fn take(&self, maps: &Tensor<2>, offsets: &[u32]) -> Tensor<2> {
        let device = maps.device();
        let tokens = maps.dims()[0];
        let anchor = self.anchor.val();
        let [heads, anchors, head_width] = anchor.dims();
        let width = heads * head_width;
        let layout = Layout::padded(offsets, 1);
        let (rows, places) = (layout.rows, layout.places);
        // [N, D] → [B, H, T, K]
        let spread = |part: usize| {
            let part = maps
                .clone()
                .slice([0..tokens, part * width..(part + 1) * width]);
            layout
                .spread(part)
                .reshape([rows, places, heads, head_width])
                .swap_dims(1, 2)
        };
        let (keys, values) = (spread(0), spread(1));
        let length = keys.clone().square().sum_dim(3).add_scalar(1e-12).sqrt();
        let keys = keys / length; // of length 1, or 0
        let taken = layout.taken(&device).unsqueeze_dim::<4>(1); // [B, 1, T, 1]
        let counts = layout.counts(&device).unsqueeze_dim::<4>(1); // [B, 1, 1, 1]

        let anchor = anchor.unsqueeze::<4>(); // [1, H, M, K]
        let apart = keys.clone().square().sum_dim(3)
            + anchor.clone().square().sum_dim(3).swap_dims(2, 3)
            - keys.matmul(anchor.transpose()).mul_scalar(2.0); // [B, H, T, M]
        let spread = (apart.clone() * taken.clone()).sum_dim(3).sum_dim(2)
            / counts.clone().mul_scalar(anchors as f32);
        let kernel = (apart.neg() / spread.mul_scalar(2.0)).exp();
        let hash = self.hash.weight.val().unsqueeze::<4>().transpose(); // [1, H, M, bits]
        let bits = hash.dims()[3];
        let code = kernel.matmul(hash) + self.hash.bias.val().reshape([1, heads, 1, bits]);
        let code = sign(code) * taken; // [B, H, T, bits], 0 where no token is

        let offset = bits as f32 + 1.0;
        let stored = code.clone().transpose().matmul(values.clone()); // [B, H, bits, K]
        let weight = code.clone().sum_dim(2).transpose(); // [B, H, bits, 1]
        let sum = code.clone().matmul(stored) + values.sum_dim(2).mul_scalar(offset);
        let total = code.matmul(weight) + counts.mul_scalar(offset);
        let mixed = (sum / total).swap_dims(1, 2).reshape([rows, places, width]);
        layout.pack(mixed)
    }
}

impl Mixer for HashedAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let maps = self.key_value.forward(x, Activation::Identity); // [N, 2D]
        let mixed = self.take(&maps, &sequences.offsets);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }

    fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        let ([tokens, width], device) = (x.dims(), x.device());
        let keys = self.key_value.forward(x, Activation::Identity);
        let keys = keys.narrow(1, 0, width);
        let [heads, _, head_width] = self.anchor.val().dims();
        Some(read_shares(
            [tokens, heads, head_width],
            &device,
            |values| {
                let maps = Tensor::cat(vec![keys.clone(), values], 1);
                self.take(&maps, &[0, tokens as u32])
            },
        ))
    }

    fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        let width = x.dims()[1];
        let maps = self.key_value.forward(x, Activation::Identity);
        let mixed = sum_by(shares, maps.narrow(1, width, width));
        Some(self.output.forward(mixed, Activation::Identity))
    }
}

/// −1 or 1, −1 for 0. The gradient goes straight through where the input lies between them.
///
/// # Source
/// Bengio et al., 2013, arXiv:1308.3432; cut off as in Courbariaux et al., 2016, arXiv:1602.02830, §1.3.
fn sign(x: Tensor<4>) -> Tensor<4> {
    let sign = x
        .clone()
        .greater_elem(0.0)
        .float()
        .mul_scalar(2.0)
        .sub_scalar(1.0);
    let through = x.clamp(-1.0, 1.0);
    sign + (through.clone() - through.detach())
}
