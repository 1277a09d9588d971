//! Every mixer again, one sequence at a time, as its definition reads: plain loops in `f64`, and the matrix of weights
//! between tokens wherever there is one. Layers without a mixer too.
#![allow(dead_code, reason = "every test file uses its own part")]

mod attention;
mod convolution;
pub mod layer;
mod pool;
mod state;

use cloze_nn::weights::Values;
use cloze_spec::mixer::{Mixer, Room};

/// A row of channels a token.
pub type Rows = Vec<Vec<f64>>;

/// Parameters and tokens that a function is asked about.
pub struct Point {
    /// What the parameters' names begin with.
    pub prefix: String,
    pub weights: std::collections::BTreeMap<String, Vec<f64>>,
    pub x: Rows,
}

impl Point {
    pub fn new(values: &Values, x: &[f32], width: usize) -> Self {
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
        Self {
            prefix: "mixer.".to_owned(),
            weights: values
                .iter()
                .map(|(name, x)| (name.clone(), wide(x)))
                .collect(),
            x: x.chunks(width).map(wide).collect(),
        }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.weights[&format!("{}{name}", self.prefix)]
    }

    /// `weight · x + bias`, the bias where there is one.
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight"));
        let bias = self.weights.get(&format!("{}{name}.bias", self.prefix));
        let row = |(index, row): (usize, &[f64])| dot(row, x) + bias.map_or(0.0, |b| b[index]);
        weight.chunks(x.len()).enumerate().map(row).collect()
    }

    /// [`Self::linear`] of every token.
    fn linears(&self, name: &str, x: &Rows) -> Rows {
        x.iter().map(|x| self.linear(name, x)).collect()
    }

    /// Each channel by itself over a square of a grid's places.
    fn depthwise_grid(&self, name: &str, x: &Rows, columns: usize) -> Rows {
        let width = x[0].len();
        let weight = self.get(&format!("{name}.weight"));
        let side = (weight.len() / width).isqrt();
        let reach = (side / 2) as isize;
        let mut mixed: Rows = vec![self.get(&format!("{name}.bias")).to_vec(); x.len()];
        for (at, sum) in mixed.iter_mut().enumerate() {
            for (from, x) in x.iter().enumerate() {
                let down = (from / columns) as isize - (at / columns) as isize;
                let right = (from % columns) as isize - (at % columns) as isize;
                if down.abs() <= reach && right.abs() <= reach {
                    let tap = (down + reach) as usize * side + (right + reach) as usize;
                    for channel in 0..width {
                        sum[channel] += weight[tap * width + channel] * x[channel];
                    }
                }
            }
        }
        mixed
    }

    /// Each channel by itself, token `t` seeing `before` tokens before it.
    fn depthwise(&self, name: &str, x: &Rows, before: usize) -> Rows {
        let width = x[0].len();
        let weight = self.get(&format!("{name}.weight"));
        let bias = self.weights.get(&format!("{}{name}.bias", self.prefix));
        let value = |at: usize, channel: usize| {
            let taps = weight.chunks(width).enumerate();
            let sum: f64 = taps
                .filter_map(|(tap, row)| {
                    let from = (at + tap).checked_sub(before)?;
                    Some(row[channel] * x.get(from)?[channel])
                })
                .sum();
            sum + bias.map_or(0.0, |b| b[channel])
        };
        (0..x.len())
            .map(|at| (0..width).map(|channel| value(at, channel)).collect())
            .collect()
    }
}

/// What `mixer` makes of a sequence. What has no gradient, such as a choice, is made at `base`.
pub fn mix(mixer: &Mixer, room: Room, point: &Point, base: &Point) -> Rows {
    match mixer {
        Mixer::Attention(settings) => attention::softmax(settings, point, base),
        Mixer::ByLayer(_) => unreachable!("no mixer of its own"),
        Mixer::DeltaRule(settings) => state::delta_rule(settings, point),
        Mixer::Fourier(_) => pool::fourier(point),
        Mixer::GatedConvolution(settings) => convolution::gated(settings, room, point),
        Mixer::GranularPool(settings) => pool::granular(settings, point),
        Mixer::HashedAttention(settings) => attention::hashed(settings, point, base),
        Mixer::Identity(_) => point.x.clone(),
        Mixer::LowRankRecurrent(settings) => state::low_rank_recurrent(settings, point),
        Mixer::Pool(settings) => pool::neighbours(settings, point),
        Mixer::Quasiseparable(settings) => state::quasiseparable(settings, room, point),
        Mixer::Random(settings) => pool::random(settings, room, point),
        Mixer::RoutedAttention(settings) => attention::routed(settings, point, base),
        Mixer::SelectiveScan(settings) => state::selective_scan(settings, room, point),
        Mixer::SubspaceAttention(settings) => attention::subspace(settings, point),
        Mixer::SummaryAttention(settings) => attention::summary(settings, point),
        Mixer::TokenMlp(settings) => pool::token_mlp(settings, room, point),
    }
}

/// What a mixer that sums values makes of a sequence, by matrices of weights, one a head, that somebody else found.
pub fn assembled(mixer: &Mixer, point: &Point, shares: &[Rows]) -> Rows {
    let map = match mixer {
        Mixer::Attention(_) | Mixer::SummaryAttention(_) => "qkv",
        Mixer::HashedAttention(_) => "key_value",
        Mixer::SubspaceAttention(_) => "subspace",
        other => panic!("{other:?} sums no values"),
    };
    let width = point.x[0].len();
    let last = |row: Vec<f64>| row[row.len() - width..].to_vec();
    let values: Rows = point.linears(map, &point.x).into_iter().map(last).collect();
    let channels = width / shares.len();
    let each = shares.iter().enumerate();
    let mixed: Vec<Rows> = each
        .map(|(index, shares)| apply(shares, &head(&values, index, channels)))
        .collect();
    point.linears("output", &join(&mixed))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

/// `x Φ(x)`, the integral of the normal density by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let steps = 200;
    let width = x / f64::from(steps);
    let density = |i: i32| {
        let at = f64::from(i) * width;
        (-at * at / 2.0).exp() / std::f64::consts::TAU.sqrt()
    };
    let inner: f64 = (1..steps)
        .map(|i| if i % 2 == 1 { 4.0 } else { 2.0 } * density(i))
        .sum();
    let half = width / 3.0 * (density(0) + inner + density(steps));
    x * (0.5 + half)
}

fn add(sum: &mut [f64], x: &[f64], factor: f64) {
    sum.iter_mut().zip(x).for_each(|(s, x)| *s += factor * x);
}

/// `M · x` of a matrix of weights between tokens.
fn apply(matrix: &Rows, x: &Rows) -> Rows {
    matrix
        .iter()
        .map(|row| {
            let mut sum = vec![0.0; x[0].len()];
            for (weight, x) in row.iter().zip(x) {
                add(&mut sum, x, *weight);
            }
            sum
        })
        .collect()
}

/// The channels of one head of each token.
fn head(x: &Rows, head: usize, width: usize) -> Rows {
    x.iter()
        .map(|x| x[head * width..(head + 1) * width].to_vec())
        .collect()
}

/// The channels of all heads side by side again.
fn join(heads: &[Rows]) -> Rows {
    (0..heads[0].len())
        .map(|at| heads.iter().flat_map(|head| head[at].clone()).collect())
        .collect()
}

fn reversed(x: &Rows) -> Rows {
    x.iter().rev().cloned().collect()
}

fn sum(a: &Rows, b: &Rows) -> Rows {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

/// `x / √(mean x² + eps) · gain`
fn rms(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let scale = (dot(x, x) / x.len() as f64 + eps).sqrt();
    x.iter().zip(gain).map(|(x, g)| x / scale * g).collect()
}
