//! How the tokens of a sequence see each other.

mod attention;
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
mod selective_scan;
mod subspace_attention;
mod summary_attention;
mod token_mlp;

pub use attention::{Alibi, Attention, Clipped, Gate, Position, Rotary, Score, Sink, TopK};
pub use delta_rule::DeltaRule;
pub use fourier::Fourier;
pub use gated_convolution::GatedConvolution;
pub use granular_pool::GranularPool;
pub use hashed_attention::HashedAttention;
pub use identity::Identity;
pub use low_rank_recurrent::LowRankRecurrent;
pub use pool::Pool;
pub use quasiseparable::Quasiseparable;
pub use random::Random;
pub use routed_attention::RoutedAttention;
pub use selective_scan::{Direction, SelectiveScan};
use serde::{Deserialize, Serialize};
pub use subspace_attention::SubspaceAttention;
pub use summary_attention::{Doubling, Fixed, Spans, SummaryAttention};
pub use token_mlp::TokenMlp;

use crate::Faults;
use crate::inventory::{List, Parameter, Start};

/// A mixer, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
    /// Another mixer for each layer.
    ByLayer(ByLayer),
    /// Linear attention that corrects its state.
    DeltaRule(DeltaRule),
    /// Fourier transform.
    Fourier(Fourier),
    /// Products of convolved neighbours.
    GatedConvolution(GatedConvolution),
    /// Pooling at three grains.
    GranularPool(GranularPool),
    /// Attention between codes of ±1.
    HashedAttention(HashedAttention),
    /// No mixing.
    Identity(Identity),
    /// Recurrent states, and what heads pool from them.
    LowRankRecurrent(LowRankRecurrent),
    /// Mean of neighbours.
    Pool(Pool),
    /// State spaces of both directions with a free diagonal.
    Quasiseparable(Quasiseparable),
    /// Fixed random weights.
    Random(Random),
    /// Attention within chosen blocks.
    RoutedAttention(RoutedAttention),
    /// State space with selection.
    SelectiveScan(SelectiveScan),
    /// Attention with one map for queries, keys and values.
    SubspaceAttention(SubspaceAttention),
    /// Attention to near tokens and to summaries.
    SummaryAttention(SummaryAttention),
    /// Linear maps along the sequence.
    TokenMlp(TokenMlp),
}

/// Another mixer for each layer: the first layer has the first of the list, and after its last it begins again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByLayer {
    /// The mixers, none of them by layer again.
    pub pattern: Vec<Mixer>,
}

/// What a mixer is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Channels of a token, `D`.
    pub width: usize,
    /// Longest sequence in tokens.
    pub max_len: usize,
}

/// What every mixer's settings tell of themselves.
trait Settings {
    /// Notes what cannot stand.
    fn check(&self, path: &str, room: Room, faults: &mut Faults);

    /// Lists the parameters, in the order of the forward pass.
    fn list(&self, name: &str, room: Room, list: &mut List);

    /// Whether a token may see what comes after it.
    fn sees_future(&self) -> bool;

    /// How many numbers are computed once and kept, of no file.
    fn computed(&self, _: Room) -> usize {
        0
    }
}

impl Mixer {
    /// Whether a token may see what comes after it.
    pub fn sees_future(&self) -> bool {
        self.settings().sees_future()
    }

    /// The mixer of a layer.
    pub fn of_layer(&self, layer: usize) -> &Self {
        match self {
            Self::ByLayer(by_layer) => &by_layer.pattern[layer % by_layer.pattern.len()],
            mixer => mixer,
        }
    }

    /// The parameters of one mixer under `name`, with what those begin with that are no matrix, gain or bias.
    pub fn parameters(&self, name: &str, room: Room) -> (Vec<Parameter>, Vec<(String, Start)>) {
        let mut list = List::default();
        self.list(name, room, &mut list);
        (list.parameters, list.starts)
    }

    pub(crate) fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        self.settings().check(path, room, faults);
    }

    pub(crate) fn list(&self, name: &str, room: Room, list: &mut List) {
        self.settings().list(name, room, list);
    }

    pub(crate) fn computed(&self, room: Room) -> usize {
        self.settings().computed(room)
    }

    fn settings(&self) -> &dyn Settings {
        match self {
            Self::Attention(settings) => settings,
            Self::ByLayer(settings) => settings,
            Self::DeltaRule(settings) => settings,
            Self::Fourier(settings) => settings,
            Self::GatedConvolution(settings) => settings,
            Self::GranularPool(settings) => settings,
            Self::HashedAttention(settings) => settings,
            Self::Identity(settings) => settings,
            Self::LowRankRecurrent(settings) => settings,
            Self::Pool(settings) => settings,
            Self::Quasiseparable(settings) => settings,
            Self::Random(settings) => settings,
            Self::RoutedAttention(settings) => settings,
            Self::SelectiveScan(settings) => settings,
            Self::SubspaceAttention(settings) => settings,
            Self::SummaryAttention(settings) => settings,
            Self::TokenMlp(settings) => settings,
        }
    }
}

impl Settings for ByLayer {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        let path = format!("{path}.pattern");
        faults.check(!self.pattern.is_empty(), &path, || {
            "expected one mixer or more, found none".to_owned()
        });
        for (index, mixer) in self.pattern.iter().enumerate() {
            let path = format!("{path}.{index}");
            let nested = matches!(mixer, Mixer::ByLayer(_));
            faults.check(!nested, &format!("{path}.kind"), || {
                "expected a mixer, found another list by layer".to_owned()
            });
            if !nested {
                mixer.check(&path, room, faults);
            }
        }
    }

    fn list(&self, _: &str, _: Room, _: &mut List) {
        unreachable!("a layer has one mixer of the list")
    }

    fn sees_future(&self) -> bool {
        self.pattern.iter().any(Mixer::sees_future)
    }
}

fn check_heads(path: &str, heads: usize, room: Room, faults: &mut Faults) {
    let path = format!("{path}.heads");
    faults.check_positive(&path, heads);
    faults.check(
        heads == 0 || room.width.is_multiple_of(heads),
        &path,
        || {
            format!(
                "expected a divisor of the width {}, found {heads}",
                room.width
            )
        },
    );
}

fn check_odd(path: &str, kernel: usize, faults: &mut Faults) {
    faults.check(kernel % 2 == 1, &format!("{path}.kernel"), || {
        format!("expected an odd number, found {kernel}")
    });
}
