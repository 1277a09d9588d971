//! How the tokens of a sequence see each other.

mod attention;
mod block_pattern;
mod delta_rule;
mod fourier;
mod gated_convolution;
mod granular_pool;
mod hashed_attention;
mod identity;
mod low_rank_recurrent;
mod pool;
mod quasiseparable;
mod random;
mod routed_attention;
mod scored;
mod selective_scan;
mod subspace_attention;
mod summary_attention;
mod token_mlp;

use std::collections::BTreeMap;

use attention::Attention;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cloze_spec::mixer;
use delta_rule::DeltaRule;
use fourier::Fourier;
use gated_convolution::GatedConvolution;
use granular_pool::GranularPool;
use hashed_attention::HashedAttention;
use identity::Identity;
use low_rank_recurrent::LowRankRecurrent;
use pool::Pool;
use quasiseparable::Quasiseparable;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use random::Random;
use routed_attention::RoutedAttention;
use selective_scan::SelectiveScan;
use subspace_attention::SubspaceAttention;
use summary_attention::SummaryAttention;
use token_mlp::TokenMlp;

use crate::layout::by_length;
use crate::noise::Noise;
use crate::op;
use crate::sequences::Sequences;
use crate::weights::{Source, Values};

/// Mixing between the tokens of each sequence.
pub(crate) trait Mixer {
    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]`, the batch's `rows` alone, if `selected`.
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2>;

    /// How much each token of one sequence takes of each, by head, where the mixer sums values by such numbers alone.
    ///
    /// # Shapes
    /// `x: [T, D]` → `[H, T, T]`, a row a token that takes.
    fn shares(&self, _: Tensor<2>) -> Option<Tensor<3>> {
        None
    }

    /// What it gives where its values are summed by `shares` and not by its own; of those that have such.
    ///
    /// # Shapes
    /// `x: [T, D]`, `shares: [H, T, T]` → `[T, D]`
    fn summed(&self, _x: Tensor<2>, _shares: Tensor<3>) -> Option<Tensor<2>> {
        None
    }
}

/// Sums of `values`, head by head, by `shares`.
///
/// # Shapes
/// `shares: [H, T, T]`, `values: [T, H·K]` → `[T, H·K]`
pub(crate) fn sum_by(shares: Tensor<3>, values: Tensor<2>) -> Tensor<2> {
    let ([heads, tokens, _], width) = (shares.dims(), values.dims()[1]);
    let values = values.reshape([tokens, heads, width / heads]);
    let summed = shares.matmul(values.swap_dims(0, 1));
    summed.swap_dims(0, 1).reshape([tokens, width])
}

/// The shares by which `mix` sums values: it is given such as say where they stand.
///
/// # Shapes
/// `mix: [T, H·K]` → `[T, H·K]`; `[H, T, T]`
pub(crate) fn read_shares(
    [tokens, heads, head_width]: [usize; 3],
    device: &Device,
    mix: impl Fn(Tensor<2>) -> Tensor<2>,
) -> Tensor<3> {
    let width = heads * head_width;
    let parts = (0..tokens).step_by(head_width).map(|first| {
        let count = head_width.min(tokens - first);
        let mut places = vec![0.0; tokens * width];
        for channel in 0..count {
            for head in 0..heads {
                places[(first + channel) * width + head * head_width + channel] = 1.0;
            }
        }
        mix(op::floats(places, [tokens, width], device))
            .reshape([tokens, heads, head_width])
            .narrow(2, 0, count)
            .swap_dims(0, 1)
    });
    Tensor::cat(parts.collect(), 2)
}

/// One mixer by itself, without an encoder around it, for measuring and comparing.
#[derive(Module, Debug)]
pub struct Single {
    mixer: AnyMixer,
}

impl Single {
    /// Puts a mixer together from `values`, named as [`mixer::Mixer::parameters`] lists them under `mixer`.
    ///
    /// # Panics
    /// If `values` lack a parameter or have one of another length.
    pub fn new(
        settings: &mixer::Mixer,
        room: mixer::Room,
        values: &Values,
        device: &Device,
    ) -> Self {
        let (parameters, _) = settings.parameters("mixer", room);
        let shapes: BTreeMap<_, _> = parameters.into_iter().map(|p| (p.name, p.shape)).collect();
        let source = Source {
            values,
            shapes,
            device,
            lora_scale: 1.0,
        };
        Self {
            mixer: AnyMixer::new(settings, room, &source, "mixer"),
        }
    }

    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]`, the batch's `rows` alone, if `selected`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        self.mixer.forward(x, sequences, selected, noise)
    }

    /// How much each token of one sequence takes of each, by head, where the mixer sums values by such numbers alone.
    ///
    /// # Shapes
    /// `x: [T, D]` → `[H, T, T]`
    pub fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        self.mixer.shares(x)
    }

    /// What it gives where its values are summed by `shares` and not by its own; of those that have such.
    ///
    /// # Shapes
    /// `x: [T, D]`, `shares: [H, T, T]` → `[T, D]`
    pub fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        self.mixer.summed(x, shares)
    }
}

/// Numbers by chance for the layer of this name, the same for the same seed.
fn drawn(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a (Fowler, Noll and Vo, 1991): short, and the same everywhere.
    let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// A mixer of any kind.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one stands in each layer, and the tensors it names are larger by far"
)]
pub(crate) enum AnyMixer {
    Attention(Attention),
    DeltaRule(DeltaRule),
    Fourier(Fourier),
    GatedConvolution(GatedConvolution),
    GranularPool(GranularPool),
    HashedAttention(HashedAttention),
    Identity(Identity),
    LowRankRecurrent(LowRankRecurrent),
    Pool(Pool),
    Quasiseparable(Quasiseparable),
    Random(Random),
    RoutedAttention(RoutedAttention),
    SelectiveScan(SelectiveScan),
    SubspaceAttention(SubspaceAttention),
    SummaryAttention(SummaryAttention),
    TokenMlp(TokenMlp),
}

impl AnyMixer {
    /// The mixer of one layer.
    pub fn new(
        settings: &mixer::Mixer,
        room: mixer::Room,
        source: &Source<'_>,
        name: &str,
    ) -> Self {
        use mixer::Mixer as Kind;
        match settings {
            Kind::ByLayer(_) => unreachable!("a layer has one mixer of the list"),
            Kind::Attention(settings) => {
                Self::Attention(Attention::new(settings, room.width, source, name))
            }
            Kind::DeltaRule(settings) => Self::DeltaRule(DeltaRule::new(settings, source, name)),
            Kind::Fourier(settings) => Self::Fourier(Fourier::new(settings)),
            Kind::GatedConvolution(settings) => {
                Self::GatedConvolution(GatedConvolution::new(settings, source, name))
            }
            Kind::GranularPool(settings) => {
                Self::GranularPool(GranularPool::new(settings, source, name))
            }
            Kind::HashedAttention(settings) => {
                Self::HashedAttention(HashedAttention::new(settings, source, name))
            }
            Kind::Identity(settings) => Self::Identity(Identity::new(settings)),
            Kind::LowRankRecurrent(settings) => {
                Self::LowRankRecurrent(LowRankRecurrent::new(settings, source, name))
            }
            Kind::Pool(settings) => Self::Pool(Pool::new(settings)),
            Kind::Quasiseparable(settings) => {
                Self::Quasiseparable(Quasiseparable::new(settings, source, name))
            }
            Kind::Random(settings) => Self::Random(Random::new(settings, room, name)),
            Kind::RoutedAttention(settings) => {
                Self::RoutedAttention(RoutedAttention::new(settings, source, name))
            }
            Kind::SelectiveScan(settings) => {
                Self::SelectiveScan(SelectiveScan::new(settings, source, name))
            }
            Kind::SubspaceAttention(settings) => {
                Self::SubspaceAttention(SubspaceAttention::new(settings, source, name))
            }
            Kind::SummaryAttention(settings) => {
                Self::SummaryAttention(SummaryAttention::new(settings, source, name))
            }
            Kind::TokenMlp(settings) => Self::TokenMlp(TokenMlp::new(settings, source, name)),
        }
    }

    /// Whether it lays its sequences out in rows of equal length.
    fn pads(&self, device: &Device) -> bool {
        match self {
            Self::Attention(attention) => !attention.is_fused(device),
            Self::GatedConvolution(_)
            | Self::Identity(_)
            | Self::Pool(_)
            | Self::SelectiveScan(_)
            | Self::SubspaceAttention(_) => false,
            Self::DeltaRule(_) | Self::GranularPool(_) | Self::Quasiseparable(_) => {
                !op::on_host(device)
            }
            Self::Fourier(_)
            | Self::HashedAttention(_)
            | Self::LowRankRecurrent(_)
            | Self::Random(_)
            | Self::RoutedAttention(_)
            | Self::SummaryAttention(_)
            | Self::TokenMlp(_) => true,
        }
    }

    fn any(&self) -> &dyn Mixer {
        match self {
            Self::Attention(mixer) => mixer,
            Self::DeltaRule(mixer) => mixer,
            Self::Fourier(mixer) => mixer,
            Self::GatedConvolution(mixer) => mixer,
            Self::GranularPool(mixer) => mixer,
            Self::HashedAttention(mixer) => mixer,
            Self::Identity(mixer) => mixer,
            Self::LowRankRecurrent(mixer) => mixer,
            Self::Pool(mixer) => mixer,
            Self::Quasiseparable(mixer) => mixer,
            Self::Random(mixer) => mixer,
            Self::RoutedAttention(mixer) => mixer,
            Self::SelectiveScan(mixer) => mixer,
            Self::SubspaceAttention(mixer) => mixer,
            Self::SummaryAttention(mixer) => mixer,
            Self::TokenMlp(mixer) => mixer,
        }
    }
}

impl Mixer for AnyMixer {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        if !self.pads(&x.device()) {
            return self.any().forward(x, sequences, selected, noise);
        }
        by_length(x, sequences, selected, |x, sequences| {
            self.any().forward(x, sequences, selected, noise)
        })
    }

    fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        self.any().shares(x)
    }

    fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        self.any().summed(x, shares)
    }
}
