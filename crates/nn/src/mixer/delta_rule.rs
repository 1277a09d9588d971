use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::{Layout, depthwise, sides, states_before};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::norm::Rms;
use crate::op::Activation;
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// `S ← S(I − βkkᵀ) + βvkᵀ`, `o = S q`: what the state holds at a key is replaced by a share of `β`.
///
/// # Source
/// Yang et al., `NeurIPS` 2024, arXiv:2406.06484, §3: chunks by the compact form of products of such steps.
#[derive(Module, Debug)]
pub(crate) struct DeltaRule {
    qkv: Linear,
    convolution: Kernel,
    strength: Linear,
    norm: Rms,
    output: Linear,
    heads: usize,
    chunk: usize,
    causal: bool,
}

/// Weights of a convolution without bias.
#[derive(Module, Debug)]
struct Kernel {
    weight: Weight<2>,
}

impl DeltaRule {
    pub fn new(settings: &mixer::DeltaRule, source: &Source<'_>, name: &str) -> Self {
        Self {
            qkv: Linear::unbiased(source, &format!("{name}.qkv")),
            convolution: Kernel {
                weight: source.parameter(&format!("{name}.convolution.weight")),
            },
            strength: Linear::unbiased(source, &format!("{name}.strength")),
            norm: Rms::new(1e-5, source, &format!("{name}.norm")),
            output: Linear::unbiased(source, &format!("{name}.output")),
            heads: settings.heads,
            chunk: settings.chunk,
            causal: settings.causal,
        }
    }
}

impl Mixer for DeltaRule {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let heads = self.heads;
        let [tokens, width] = x.dims();
        let head_width = width / heads;
        let kernel = self.convolution.weight.val();
        let reach = sides(kernel.dims()[0], self.causal);
        let qkv = self.qkv.forward(x.clone(), Activation::Identity);
        let qkv = activation::silu(depthwise(qkv, &sequences.offsets, reach, &kernel)); // [N, 3D]
        let part = |index: usize| {
            qkv.clone()
                .slice([0..tokens, index * width..(index + 1) * width])
        };
        let unit = |index: usize| {
            let part = part(index).reshape([tokens, heads, head_width]);
            let square = part.clone().square().sum_dim(2).add_scalar(1e-6);
            (part / square.sqrt()).reshape([tokens, width])
        };
        let query = unit(0).div_scalar((head_width as f32).sqrt());
        let (key, value) = (unit(1), part(2));
        let strength = activation::sigmoid(self.strength.forward(x, Activation::Identity));
        let layout = Layout::padded(&sequences.offsets, self.chunk);
        let one = |layout: &Layout, direction: usize| {
            let strength = strength
                .clone()
                .slice([0..tokens, direction * heads..(direction + 1) * heads]);
            let parts = [query.clone(), key.clone(), value.clone()];
            rule(layout, self.chunk, parts, strength)
        };
        let mut mixed = one(&layout, 0);
        if !self.causal {
            mixed = mixed + one(&layout.reversed(), 1);
        }
        let mixed = self
            .norm
            .forward(mixed.reshape([tokens * heads, head_width]));
        let mixed = sequences.wanted(mixed.reshape([tokens, width]), selected);
        self.output.forward(mixed, Activation::Identity)
    }
}

/// The rule along each row of the layout.
///
/// # Shapes
/// `query, key, value: [N, D]`, `strength: [N, H]` → `[N, D]`
fn rule(layout: &Layout, chunk: usize, parts: [Tensor<2>; 3], strength: Tensor<2>) -> Tensor<2> {
    let device = strength.device();
    let (rows, places) = (layout.rows, layout.places);
    let (heads, chunks) = (strength.dims()[1], places / chunk);
    let inner = parts[0].dims()[1];
    // [N, H·X] → [B, H, c, C, X]; where no token is, keys and strengths are 0, so that the state stays
    let blocks = |x: Tensor<2>| {
        let wide = x.dims()[1] / heads;
        layout
            .spread(x)
            .reshape([rows, chunks, chunk, heads, wide])
            .permute([0, 3, 1, 2, 4])
    };
    let [query, key, value] = parts.map(blocks);
    let strength = blocks(strength);
    let stronger = key.clone() * strength.clone();
    let overlap = stronger.clone().matmul(key.clone().transpose()).tril(-1); // A
    let inverse = inverse(&overlap.reshape([rows * heads * chunks, chunk, chunk]))
        .reshape([rows, heads, chunks, chunk, chunk]);
    let erased = inverse.clone().matmul(stronger); // W
    let written = inverse.matmul(value * strength); // U
    let near = query.clone().matmul(key.clone().transpose()).tril(0);

    let width = inner / heads;
    let same = Tensor::<2>::eye(width, &device).unsqueeze::<5>();
    let key = key.transpose();
    let keep = same - key.clone().matmul(erased.clone());
    let add = key.matmul(written.clone());
    let state = states_before(keep, add, Tensor::matmul); // Sᵀ before each chunk
    let change = written - erased.matmul(state.clone());
    let given = (query.matmul(state) + near.matmul(change))
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, places, inner]);
    layout.pack(given)
}

/// `(I + A)⁻¹` of strictly lower triangular `A`, by halves: each level joins blocks whose inverses are known.
///
/// # Shapes
/// `[G, C, C]` → the same, `C` a power of two
fn inverse(lower: &Tensor<3>) -> Tensor<3> {
    let device = lower.device();
    let [count, size, _] = lower.dims();
    let mut inverse = Tensor::<4>::ones([count, size, 1, 1], &device);
    let mut half = 1;
    while half < size {
        let (whole, pairs) = (2 * half, size / (2 * half));
        let diagonal: Vec<i32> = (0..pairs as i32)
            .map(|at| at * (pairs as i32 + 1))
            .collect();
        let diagonal = Tensor::<1, burn::tensor::Int>::from_data(diagonal.as_slice(), &device);
        let below = lower
            .clone()
            .reshape([count, pairs, whole, pairs, whole])
            .swap_dims(2, 3)
            .reshape([count, pairs * pairs, whole, whole])
            .select(1, diagonal)
            .slice([0..count, 0..pairs, half..whole, 0..half]); // [G, m, b, b]
        let known = inverse.reshape([count, pairs, 2, half, half]);
        let of = |index: usize| {
            known
                .clone()
                .slice([0..count, 0..pairs, index..index + 1])
                .reshape([count, pairs, half, half])
        };
        let (first, second) = (of(0), of(1));
        let corner = second.clone().matmul(below).matmul(first.clone()).neg();
        let nothing = Tensor::zeros([count, pairs, half, half], &device);
        let top = Tensor::cat(vec![first, nothing], 3);
        let bottom = Tensor::cat(vec![corner, second], 3);
        inverse = Tensor::cat(vec![top, bottom], 2);
        half = whole;
    }
    inverse.reshape([count, size, size])
}
