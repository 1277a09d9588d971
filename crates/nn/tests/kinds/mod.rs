//! Every kind of mixer at the size at which its cost is looked at, and what it is to grow with.

use burn::tensor::Device;
use cloze_nn::mixer::Single;
use cloze_nn::weights::{self, Values};
use cloze_spec::mixer::{
    Alibi, Attention, Axial, Blocks, DeltaRule, Direction, Doubling, Fixed, Fourier,
    GatedConvolution, GranularPool, Grid, HashedAttention, Identity, LowRankRecurrent, Mixer, Pool,
    Position, Quasiseparable, Random, Room, RoutedAttention, SelectiveScan, Spans,
    SubspaceAttention, SummaryAttention, TokenMlp,
};

/// Channels of a token.
pub const WIDTH: usize = 32;

/// A kind of mixer.
pub struct Kind {
    pub name: &'static str,
    pub mixer: Mixer,
    /// Cost is at most about this power of the tokens.
    pub exponent: f64,
}

/// All kinds for sequences of `tokens` tokens; only what is meant to follow the length does.
#[expect(clippy::too_many_lines, reason = "a list, one entry a kind")]
pub fn kinds(tokens: usize) -> Vec<Kind> {
    let kind = |name, exponent, mixer| Kind {
        name,
        mixer,
        exponent,
    };
    let attention = |change: fn(&mut Attention)| {
        let mut settings = Attention::plain(2, false, 0.0);
        change(&mut settings);
        Mixer::Attention(settings)
    };
    let summary = |spans| {
        Mixer::SummaryAttention(SummaryAttention {
            heads: 2,
            spans,
            causal: false,
        })
    };
    // The power of two next to the square root.
    let block = 1 << tokens.ilog2().div_ceil(2);
    vec![
        kind("attention", 2.0, attention(|_| {})),
        kind(
            "attention, alibi",
            2.0,
            attention(|a| a.position = Some(Position::Alibi(Alibi {}))),
        ),
        kind(
            "attention, window 64 and 4 global",
            1.0,
            attention(|a| (a.window, a.global) = (Some(64), Some(4))),
        ),
        kind(
            "attention, blocks of 32",
            1.0,
            attention(|a| {
                a.blocks = Some(Blocks {
                    size: 32,
                    near: 1,
                    global: 1,
                    random: 2,
                    seed: 1,
                });
            }),
        ),
        kind(
            "delta-rule",
            1.0,
            Mixer::DeltaRule(DeltaRule {
                heads: 2,
                kernel: 3,
                chunk: 64,
                causal: false,
            }),
        ),
        // As the tokens times their logarithm, in steps.
        kind("fourier", 1.3, Mixer::Fourier(Fourier {})),
        kind(
            "gated-convolution",
            1.0,
            Mixer::GatedConvolution(GatedConvolution {
                order: 3,
                kernel: 7,
                scale: 1.0 / 3.0,
                causal: false,
            }),
        ),
        kind(
            "granular-pool",
            1.0,
            Mixer::GranularPool(GranularPool {
                heads: 2,
                segment: 32,
                radius: 1,
            }),
        ),
        kind(
            "hashed-attention",
            1.0,
            Mixer::HashedAttention(HashedAttention {
                heads: 2,
                bits: 16,
                anchors: 25,
            }),
        ),
        kind("identity", 1.0, Mixer::Identity(Identity {})),
        kind(
            "low-rank-recurrent",
            1.0,
            Mixer::LowRankRecurrent(LowRankRecurrent {
                hidden: 16,
                heads: 5,
            }),
        ),
        kind(
            "pool",
            1.0,
            Mixer::Pool(Pool {
                radius: 1,
                causal: false,
            }),
        ),
        kind(
            "quasiseparable",
            1.0,
            Mixer::Quasiseparable(Quasiseparable {
                head_width: 16,
                state: 16,
                expand: 2,
                kernel: 7,
                chunk: 64,
            }),
        ),
        kind(
            "random",
            2.0,
            Mixer::Random(Random {
                seed: 1,
                causal: false,
            }),
        ),
        kind(
            "routed-attention, blocks of √tokens",
            1.5,
            Mixer::RoutedAttention(RoutedAttention {
                heads: 2,
                block,
                keep: 4,
                kernel: 5,
                grid: None,
            }),
        ),
        kind(
            "routed-attention, grid of √tokens columns",
            1.5,
            Mixer::RoutedAttention(RoutedAttention {
                heads: 2,
                block,
                keep: 4,
                kernel: 3,
                grid: Some(Grid {
                    columns: block,
                    block_columns: block / 4,
                }),
            }),
        ),
        kind(
            "selective-scan",
            1.0,
            Mixer::SelectiveScan(SelectiveScan {
                state: 8,
                expand: 2,
                rank: 2,
                kernel: 4,
                direction: Direction::Both,
            }),
        ),
        kind(
            "subspace-attention",
            2.0,
            Mixer::SubspaceAttention(SubspaceAttention {
                heads: 2,
                causal: false,
                dropout: 0.0,
            }),
        ),
        kind(
            "summary-attention, blocks of √tokens",
            1.5,
            summary(Spans::Fixed(Fixed { block })),
        ),
        kind(
            "summary-attention, rows of √tokens",
            1.5,
            summary(Spans::Axial(Axial { columns: block })),
        ),
        kind(
            "summary-attention, doubling",
            1.2,
            summary(Spans::Doubling(Doubling {})),
        ),
        kind("token-mlp", 1.0, Mixer::TokenMlp(TokenMlp { width: 64 })),
    ]
}

/// The mixer with fresh weights.
pub fn single(mixer: &Mixer, tokens: usize, device: &Device) -> Single {
    let room = Room {
        width: WIDTH,
        max_len: tokens,
    };
    let (parameters, starts) = mixer.parameters("mixer", room);
    let mut values: Values = weights::fresh(&parameters, 0.1, 1);
    weights::begin(&mut values, &starts, 1);
    Single::new(mixer, room, &values, device)
}

/// The slope of a line through the logarithms of both.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let rise: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let run: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    rise / run
}
