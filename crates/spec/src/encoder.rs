//! Pretrained text encoders, resolved: what each layer computes, with nothing left to a family's habits.
//!
//! [`hugging_face`](crate::hugging_face) makes an [`Encoder`] of a model folder; the engines run it. Families differ in
//! these settings only: no engine asks which one it runs.

use crate::mixer::Room;
use crate::{model, norm};

/// A text encoder: embedding, layers, and what follows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// Channels of a token between layers, `D`.
    pub width: usize,
    /// Longest sequence in tokens, special ones included.
    pub max_len: usize,
    /// Tokens into vectors.
    pub embed: Embed,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Norm of the last layer's output.
    pub final_norm: Option<Norm>,
    /// What positions look like to attention, where layers share one table.
    pub relative: Option<Relative>,
    /// What is made of the token vectors.
    pub head: Option<Head>,
}

impl Encoder {
    /// Multiplications and additions that the token vectors of a sequence of `len` tokens take: those of linear maps, of
    /// scores and of their sums over values, and of convolutions. Everything else is little, or as products with positions
    /// are, of few families. None where a layer has a mixer of the recipes, which are not counted.
    pub fn operations(&self, len: usize) -> Option<u64> {
        let embed = &self.embed;
        let projection = embed.projection.map_or(0, |_| embed.width * self.width);
        let layer = |layer: &Layer| {
            let layer = layer.attention()?;
            let (attention, ffn) = (&layer.attention, &layer.ffn);
            let inner = attention.heads * attention.head_width;
            let maps = if ffn.gated { 3 } else { 2 };
            let convolution = layer.convolution.map_or(0, |convolution| {
                convolution.kernel * self.width * self.width / convolution.groups
            });
            let a_token = 4 * inner * self.width + maps * ffn.width * self.width + convolution;
            let window = attention.window.unwrap_or(len);
            let seen = (0..len).map(|at| len.min(at + window + 1) - at.saturating_sub(window));
            Some(len * a_token + 2 * inner * seen.sum::<usize>())
        };
        let layers = self.layers.iter().map(layer).sum::<Option<usize>>()?;
        Some(2 * (len * projection + layers) as u64)
    }
}

/// Tokens into vectors: the sum of tables, then norm and projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Embed {
    /// Rows of the token table, `V`.
    pub vocab: usize,
    /// Channels of the tables, `E`.
    pub width: usize,
    /// Position vectors: token `i` of a sequence has row `offset + i`.
    pub positions: Option<Positions>,
    /// Rows of the segment table.
    pub segments: Option<usize>,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// From `E` to `D` channels.
    pub projection: Option<Projection>,
}

/// A table of position vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Rows of the table.
    pub rows: usize,
    /// Row of a sequence's first token.
    pub offset: usize,
}

/// A linear map of the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether it comes before the norm, which is then `D` wide, rather than after.
    pub before_norm: bool,
}

/// Normalisation of a token's channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// What is taken out.
    pub kind: NormKind,
    /// Added to the variance; a hyperbolic tangent has none.
    pub eps: f32,
    /// Whether a learned vector is added.
    pub bias: bool,
}

/// What a norm takes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// Mean and variance (Ba et al., arXiv:1607.06450).
    Layer,
    /// The root of the mean square (Zhang & Sennrich, arXiv:1910.07467).
    Rms,
    /// Nothing: `tanh(slope · x)` stands in its place (Zhu et al., arXiv:2503.10622).
    DynamicTanh {
        /// The learned slope before training.
        slope: f32,
    },
}

impl From<&norm::Norm> for Norm {
    fn from(settings: &norm::Norm) -> Self {
        let (kind, eps, bias) = match settings {
            norm::Norm::Layer(layer) => (NormKind::Layer, layer.eps, true),
            norm::Norm::Rms(rms) => (NormKind::Rms, rms.eps, false),
            norm::Norm::DynamicTanh(tanh) => {
                (NormKind::DynamicTanh { slope: tanh.slope }, 0.0, true)
            }
        };
        Self { kind, eps, bias }
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// Attention as pretrained families have it.
    Attention(AttentionLayer),
    /// Any mixer of the recipes.
    Mixer(MixerLayer),
}

impl Layer {
    /// Which set of parameters it uses, `layer.{weights}.*`; layers that share weights name the same.
    pub fn weights(&self) -> usize {
        match self {
            Self::Attention(layer) => layer.weights,
            Self::Mixer(layer) => layer.weights,
        }
    }

    /// The same with another set of parameters.
    #[must_use]
    pub fn with_weights(&self, weights: usize) -> Self {
        match self.clone() {
            Self::Attention(layer) => Self::Attention(AttentionLayer { weights, ..layer }),
            Self::Mixer(layer) => Self::Mixer(MixerLayer { weights, ..layer }),
        }
    }

    /// A layer of the pretrained families; none if it has a mixer of the recipes.
    pub fn attention(&self) -> Option<&AttentionLayer> {
        match self {
            Self::Attention(layer) => Some(layer),
            Self::Mixer(_) => None,
        }
    }
}

/// A layer as recipes of recommenders have it, with a mixer, feed-forward part, norms and wiring of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct MixerLayer {
    /// Which set of parameters it uses, as [`Layer::weights`].
    pub weights: usize,
    /// What its mixer is built for.
    pub room: Room,
    /// What it is made of. The share of a branch that training drops is that of [`DropoutRates`]; a mixer's own stays.
    pub parts: model::Layer,
}

/// A layer of the pretrained families.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionLayer {
    /// Which set of parameters it uses, `layer.{weights}.*`; layers that share weights name the same.
    pub weights: usize,
    /// Where the norms stand.
    pub order: Order,
    /// The norm before or after attention; a pre-norm layer may have none.
    pub mixer_norm: Option<Norm>,
    /// The norm before or after the feed-forward part.
    pub ffn_norm: Norm,
    /// Between tokens.
    pub attention: Attention,
    /// A convolution along the sequence beside this layer, its sum normed onto the layer's output.
    pub convolution: Option<Convolution>,
    /// Within a token.
    pub ffn: Ffn,
}

/// Where a layer's norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `x + f(norm(x))`
    PreNorm,
    /// `norm(x + f(x))`
    PostNorm,
}

/// Multi-head softmax attention over the tokens of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Heads, `H`.
    pub heads: usize,
    /// Channels of a head, `K`.
    pub head_width: usize,
    /// Factor on the scores; `1/√K` mostly.
    pub scale: f32,
    /// Whether query, key and value maps have a bias.
    pub qkv_bias: bool,
    /// Whether the output map has a bias.
    pub output_bias: bool,
    /// Norm of all heads' queries together, and of keys, before the product; `H·K` wide.
    pub qk_norm: Option<Norm>,
    /// What a token knows of distance.
    pub position: Position,
    /// How far a token sees to each side, itself not counted; everything if none.
    pub window: Option<usize>,
    /// Scores grow by `ln n / ln m` for a sequence of `n > m` tokens, where this is `m`.
    pub log_scale: Option<usize>,
}

/// What attention knows of distance.
#[derive(Debug, Clone, PartialEq)]
pub enum Position {
    /// Nothing.
    None,
    /// Queries and keys are turned by angles that grow with their position (Su et al., arXiv:2104.09864).
    Rotary(Rotary),
    /// Scores fall with distance, by a slope per head (Press et al., arXiv:2108.12409), the same to both sides.
    Alibi,
    /// Each head adds a learned number per bucket of distance, from [`Encoder::relative`] (Raffel et al., arXiv:1910.10683).
    Buckets,
    /// Queries, and perhaps keys, meet a vector per distance (Shaw et al., arXiv:1803.02155; Huang et al., arXiv:2009.13658).
    Key(RelativeKey),
    /// Content meets position vectors of [`Encoder::relative`] (He et al., arXiv:2006.03654).
    Disentangled(Disentangled),
}

/// Rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Angle of channel pair `i` at position `p`: `p · frequencies[i]`. Half as many as there are turned channels, the
    /// first of a head; scaling of long inputs is already in them.
    pub frequencies: Vec<f32>,
    /// Factor on the turned channels; 1 mostly.
    pub amplitude: f32,
    /// Pairs are neighbours `(2i, 2i + 1)` rather than halves `(i, i + R/2)`.
    pub interleaved: bool,
}

/// Vectors per distance, in each layer's own table `[2·max_distance + 1, K]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeKey {
    /// The table's row `query − key + max_distance` is taken.
    pub max_distance: usize,
    /// Keys meet the vector too.
    pub keys: bool,
}

/// Which of content and position meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disentangled {
    /// Queries of content meet keys of position.
    pub content_to_position: bool,
    /// Keys of content meet queries of position.
    pub position_to_content: bool,
    /// Positions are mapped by the layer's own query and key weights, rather than by further ones.
    pub shared_maps: bool,
}

/// A table of distances that all layers use.
#[derive(Debug, Clone, PartialEq)]
pub enum Relative {
    /// `[buckets, H]`: numbers added to scores.
    Bias {
        /// Buckets, half for each direction.
        buckets: usize,
        /// Distances from here on share the last bucket.
        max_distance: usize,
        /// Heads, `H`.
        heads: usize,
    },
    /// `[2·span, D]`: vectors of distances.
    Vectors {
        /// Rows to each side, `span`.
        span: usize,
        /// Near distances have a bucket each, far ones share logarithmic ones, up to this distance; no buckets if none.
        buckets_to: Option<usize>,
        /// Norm of the table's rows.
        norm: Option<Norm>,
    },
}

impl Relative {
    /// The table's row for a query `distance = query − key` places after a key.
    ///
    /// # Source
    /// Buckets of numbers as T5 has them (Raffel et al., arXiv:1910.10683, §2.1); of vectors as `DeBERTa` has them (He et al.,
    /// arXiv:2111.09543, and its public code), where distances are exact up to half the buckets and logarithmic beyond.
    pub fn row(&self, distance: isize) -> usize {
        match self {
            Self::Bias {
                buckets,
                max_distance,
                ..
            } => {
                let half = buckets / 2;
                let exact = half / 2;
                let direction = if distance < 0 { half } else { 0 };
                let far = distance.unsigned_abs();
                let bucket = if far < exact {
                    far
                } else {
                    let ratio = (far as f32 / exact as f32).ln()
                        / (*max_distance as f32 / exact as f32).ln();
                    (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
                };
                direction + bucket
            }
            Self::Vectors {
                span, buckets_to, ..
            } => {
                let span = *span as isize;
                let mid = span / 2;
                let place = match buckets_to {
                    Some(max) if distance.abs() > mid => {
                        let ratio = (distance.abs() as f32 / mid as f32).ln()
                            / ((*max as f32 - 1.0) / mid as f32).ln();
                        let far = (ratio * (mid as f32 - 1.0)).ceil() as isize + mid;
                        far * distance.signum()
                    }
                    _ => distance,
                };
                (place + span).clamp(0, 2 * span - 1) as usize
            }
        }
    }
}

/// How fast [`Position::Alibi`] lowers the scores of each of `heads` heads with distance.
///
/// For a power of two, a geometric sequence down to 2⁻⁸; for other numbers, that of the next lower power, and every other
/// of the next higher one.
///
/// # Source
/// Press et al., arXiv:2108.12409, §3, and its public code.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let power = |n: usize| {
        let start = (-8.0 / n as f64).exp2();
        (1..=n).map(move |i| start.powi(i as i32) as f32)
    };
    let lower = if heads.is_power_of_two() {
        heads
    } else {
        heads.next_power_of_two() / 2
    };
    let further = power(2 * lower).step_by(2).take(heads - lower);
    power(lower).chain(further).collect()
}

/// A convolution along the sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Convolution {
    /// Tokens seen, odd.
    pub kernel: usize,
    /// Channels are convolved in this many groups.
    pub groups: usize,
    /// What follows it.
    pub activation: Activation,
    /// Norm of the sum.
    pub norm: Norm,
}

/// A feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ffn {
    /// Channels inside, `F`.
    pub width: usize,
    /// What follows the first map.
    pub activation: Activation,
    /// The first map has `2F` outputs, `activation` of the first half times the second: `[2F, D]` on disk.
    pub gated: bool,
    /// Whether the first map has a bias.
    pub up_bias: bool,
    /// Whether the second map has a bias.
    pub down_bias: bool,
}

/// Shares dropped in training.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropoutRates {
    /// Of the embedding, and of what each part of a layer adds.
    pub hidden: f32,
    /// Of attention's probabilities, but of mixers of the recipes, which say their own.
    pub attention: f32,
    /// Of what goes into a head's output map.
    pub head: f32,
}

impl DropoutRates {
    /// Nothing.
    pub const NONE: Self = Self {
        hidden: 0.0,
        attention: 0.0,
        head: 0.0,
    };
}

/// An elementwise function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x·Φ(x)`, by the error function.
    Gelu,
    /// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`
    GeluTanh,
    /// `x·σ(1.702x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `x·σ(x)`
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `σ(x) = 1/(1 + e⁻ˣ)`
    Sigmoid,
}

/// What is made of the token vectors: which of them, a transform, and an output map, each if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What the outputs mean.
    pub task: Task,
    /// One vector per sequence rather than per token.
    pub pool: Option<Pool>,
    /// Before the output map.
    pub transform: Option<Transform>,
    /// Into scores.
    pub output: Option<Output>,
}

/// What a head's outputs mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// The transform's output itself, one vector a sequence.
    Vector,
    /// A score for each token of the vocabulary.
    MaskedToken,
    /// Labels of a sequence or pair.
    Sequence(Sequence),
    /// Labels of each token.
    Token {
        /// Name of each output.
        labels: Vec<String>,
    },
    /// Scores of a token being the first, and the last, of the answer.
    Span,
}

/// Labels of a sequence or pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// Name of each output.
    pub labels: Vec<String>,
    /// What makes scores of the outputs.
    pub problem: Problem,
}

/// What makes scores of a sequence's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// One label is true: softmax.
    SingleLabel,
    /// Each label is true or not: sigmoid.
    MultiLabel,
    /// Numbers, as they are.
    Regression,
}

/// Which vector stands for a sequence in its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The first token's.
    First,
    /// The mean of all.
    Mean,
}

/// A linear map with what follows it, before a head's outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// Outputs.
    pub width: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows.
    pub activation: Activation,
    /// The norm after that.
    pub norm: Option<Norm>,
}

/// A head's output map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Outputs, `C`.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// The token table is its weight.
    pub tied: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected rows from transformers 4.57.6, `MPNetEncoder.relative_position_bucket` and
    // `modeling_deberta_v2.build_relative_position`.
    #[test]
    fn distances_have_the_buckets_of_the_public_code() {
        let bias = Relative::Bias {
            buckets: 32,
            max_distance: 128,
            heads: 12,
        };
        let rows = [0, 1, 7, 8, 11, 12, 64, 127, 500, -1, -8, -500].map(|d| bias.row(d));
        assert_eq!(rows, [0, 1, 7, 8, 8, 9, 14, 15, 15, 17, 24, 31]);
        let vectors = Relative::Vectors {
            span: 8,
            buckets_to: Some(32),
            norm: None,
        };
        let rows = [0, 3, 4, 5, 8, 31, 100, -4, -5, -31, -100].map(|d| vectors.row(d));
        assert_eq!(rows, [8, 11, 12, 13, 14, 15, 15, 4, 3, 1, 0]);
    }

    #[test]
    fn alibi_slopes_fill_up_from_the_next_power_of_two() {
        assert_eq!(alibi_slopes(4), [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(alibi_slopes(6)[4..], [0.5, 0.125]);
    }
}
