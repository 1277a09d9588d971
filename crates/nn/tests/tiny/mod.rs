//! What tests of this room share: numbers, comparison, a small model with weights, batches, gradients by name.
#![allow(dead_code, reason = "every test file uses its own part")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use cloze_data::batch::{Candidates, PackedBatch};
use cloze_nn::weights::{self, Values};
use cloze_spec::Model;
use cloze_spec::block::{Block, Residual};
use cloze_spec::embed::{Embed, Item, Positions};
use cloze_spec::ffn::{Activation, Ffn, Mlp};
use cloze_spec::head::{Head, Tied};
use cloze_spec::init::{Init, TruncatedNormal};
use cloze_spec::inventory::parameters;
use cloze_spec::mixer::{Attention, Mixer};
use cloze_spec::model::Stack;
use cloze_spec::norm::{Layer, Norm};
use cloze_spec::objective::{Bce, Gbce, Loss, SampledSoftmax, Sampler};

/// The GPU that the build has a backend for, or else the CPU.
pub fn device_under_test() -> Device {
    #[cfg(feature = "cuda")]
    return Device::cuda(0);
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    return Device::metal(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(all(feature = "vulkan", not(any(feature = "cuda", feature = "metal"))))]
    return Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
    #[cfg(not(any(feature = "cuda", feature = "metal", feature = "vulkan")))]
    Device::flex()
}

/// How much coarser than in f32 products of matrices are there: Burn has CUDA multiply in TF32, which keeps 11 of the 24 bits of
/// a factor.
pub const COARSER: f64 = if cfg!(feature = "cuda") { 1024.0 } else { 1.0 };

/// Items of the small model.
pub const ITEMS: usize = 23;
/// The token that stands for a masked item.
pub const BLANK: u32 = ITEMS as u32;
/// Its longest sequence.
pub const MAX_LEN: usize = 9;

/// `n` numbers in −1..1, the same for the same seed.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let step = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    // The first ones still resemble those of the next seed.
    std::iter::repeat_with(step).skip(8).take(n).collect()
}

/// `n` ids below `below`.
pub fn ids(seed: u64, n: usize, below: usize) -> Vec<u32> {
    let id = |x: f32| ((f32::midpoint(x, 1.0) * below as f32) as u32).min(below as u32 - 1);
    numbers(seed, n).into_iter().map(id).collect()
}

/// The largest error is within `largest`, and the root mean square error within `rms`, both as a share of the largest
/// value wanted: one element may be unlucky, not all.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], largest: f64, rms: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let size = want.iter().fold(0.0_f32, |size, w| size.max(w.abs()));
    assert!(size > 0.0 && size.is_finite(), "{what}: nothing to compare");
    let mut squares = 0.0;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = f64::from(got - want).abs() / f64::from(size);
        assert!(
            error <= largest,
            "{what}[{i}] is {got}, needs {want}; off by {error:e} of {size}"
        );
        squares += error * error;
    }
    let found = (squares / got.len() as f64).sqrt();
    assert!(
        found <= rms,
        "{what}: root mean square error is {found:e} of {size}"
    );
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_into_vec().expect("f32")
}

/// Two layers of BERT4Rec's shape, with sides that fill no vector register, and without dropout.
pub fn model() -> Model {
    Model {
        max_len: MAX_LEN,
        width: 12,
        init: Init::TruncatedNormal(TruncatedNormal { std: 0.02 }),
        embed: Embed::Item(Item {
            positions: Positions::FromStart,
            norm: true,
            dropout: 0.0,
        }),
        stack: Stack {
            layers: 2,
            block: Block::PostNorm(Residual::plain(0.0)),
            norm: Norm::Layer(Layer { eps: 1e-6 }),
            mixer: Mixer::Attention(Attention::plain(3, false, 0.0)),
            ffn: Ffn::Mlp(Mlp {
                width: 19,
                activation: Activation::Gelu,
            }),
            codebook: None,
        },
        head: Head::Tied(Tied {
            transform: true,
            bias: true,
        }),
    }
}

/// The same with widths that fill registers and tiles.
pub fn wide_model() -> Model {
    let mut model = model();
    model.width = 64;
    attention(&mut model).heads = 2;
    model.stack.ffn = Ffn::Mlp(Mlp {
        width: 256,
        activation: Activation::Gelu,
    });
    model
}

fn residual(model: &mut Model) -> &mut Residual {
    match &mut model.stack.block {
        Block::PostNorm(residual) | Block::PreNorm(residual) | Block::Sandwich(residual) => {
            residual
        }
    }
}

/// The settings of the small model's mixer.
pub fn attention(model: &mut Model) -> &mut Attention {
    match &mut model.stack.mixer {
        Mixer::Attention(attention) => attention,
        other => panic!("expected attention, found {other:?}"),
    }
}

pub fn with_dropout(mut model: Model, prob: f32) -> Model {
    let Embed::Item(embed) = &mut model.embed;
    embed.dropout = prob;
    residual(&mut model).dropout = prob;
    attention(&mut model).dropout = prob;
    model
}

pub fn with_positions(mut model: Model, positions: Positions) -> Model {
    let Embed::Item(embed) = &mut model.embed;
    embed.positions = positions;
    model
}

pub fn causal(mut model: Model) -> Model {
    attention(&mut model).causal = true;
    model
}

/// What a parameter is within its component: `gain` of `layer.0.mixer_norm.gain`.
pub fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Weights far from 0 everywhere, biases too, and gains around 1: what is multiplied, added or forgotten shows.
pub fn values(model: &Model, items: usize, seed: u64) -> Values {
    let value = |(index, p): (usize, cloze_spec::inventory::Parameter)| {
        let offset = if last_part(&p.name) == "gain" {
            1.0
        } else {
            0.0
        };
        let count = p.shape.iter().product();
        let numbers = numbers(seed * 1000 + index as u64, count);
        (
            p.name,
            numbers.into_iter().map(|x| offset + 0.4 * x).collect(),
        )
    };
    parameters(model, items)
        .into_iter()
        .enumerate()
        .map(value)
        .collect()
}

/// Sequences of random items with blanks among them, the last token of each always one, and the items that they hide.
pub fn batch(seed: u64, items: usize, lens: &[usize]) -> PackedBatch {
    let mut batch = PackedBatch::new();
    let count = lens.iter().sum();
    let (drawn, chance) = (ids(seed, count, items), numbers(seed + 1, count));
    for &len in lens {
        let first = batch.tokens.len();
        let mut tokens = drawn[first..first + len].to_vec();
        for (index, token) in tokens.iter_mut().enumerate() {
            if index + 1 == len || chance[first + index] < -0.6 {
                batch.rows.push((first + index) as u32);
                batch.labels.push(*token);
                *token = items as u32;
            }
        }
        batch.push(&tokens);
    }
    batch
}

/// Adds what a sampled loss needs: each right item with `negatives` others, and some correction of each score.
pub fn with_candidates(
    mut batch: PackedBatch,
    seed: u64,
    items: usize,
    negatives: usize,
) -> PackedBatch {
    let mut drawn = ids(seed, batch.labels.len() * negatives, items).into_iter();
    let candidates = batch
        .labels
        .iter()
        .flat_map(|&label| {
            std::iter::once(label).chain(drawn.by_ref().take(negatives).collect::<Vec<_>>())
        })
        .collect::<Vec<_>>();
    let correction = Some(numbers(seed + 1, candidates.len()));
    batch.candidates = Some(Candidates {
        ids: candidates,
        correction,
    });
    batch
}

pub const NEGATIVES: usize = 5;

pub fn losses() -> [Loss; 4] {
    [
        Loss::Softmax,
        Loss::SampledSoftmax(SampledSoftmax {
            negatives: NEGATIVES,
            sampler: Sampler::Uniform,
            log_q: true,
        }),
        Loss::Bce(Bce {
            negatives: NEGATIVES,
            sampler: Sampler::Uniform,
        }),
        Loss::Gbce(Gbce {
            negatives: NEGATIVES,
            t: 0.75,
        }),
    ]
}

/// The gradient of each parameter by its name; a parameter that has none is absent.
pub fn by_name(model: &impl Module, gradients: Gradients) -> Values {
    let mut collect = Collect {
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut collect);
    let named = weights::names(model).into_iter().zip(collect.found);
    named
        .filter_map(|(name, found)| Some((name, found?)))
        .collect()
}

struct Collect {
    gradients: Gradients,
    found: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(&mut self.gradients);
        self.found.push(gradient.map(|gradient| read(&gradient)));
    }
}
