//! Every mixer, listed once: agreement with plain loops, gradients, packing, direction, repetition.

mod reference;
mod tiny;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use cloze_data::batch::PackedBatch;
use cloze_nn::mixer::Single;
use cloze_nn::weights::{self, Values};
use cloze_nn::{Encoder, Noise, Sequences, influence, objective};
use cloze_spec::Model;
use cloze_spec::inventory::parameters;
use cloze_spec::mixer::{
    Alibi, Attention, Axial, Blocks, Buckets, ByLayer, Clipped, DeltaRule, Direction, Disentangled,
    Doubling, Fixed, Fourier, Gate, GatedConvolution, GranularPool, Grid, Hard, HashedAttention,
    Identity, LowRankRecurrent, Mixer, Pool, Position, Quasiseparable, Random, Room, Rotary,
    RoutedAttention, Score, SelectiveScan, Sink, Spans, SubspaceAttention, SummaryAttention,
    TokenMlp, TopK,
};
use cloze_spec::objective::Loss;
use rayon::ThreadPoolBuilder;
use reference::Point;
use serde_json::{Value, from_value};
use tiny::{ITEMS, MAX_LEN, batch, bits, by_name, model, numbers, read, values};

const ROOM: Room = Room {
    width: 12,
    max_len: 40,
};

fn blocks(size: usize, global: usize) -> Blocks {
    Blocks {
        size,
        near: 1,
        global,
        random: 1,
        seed: 5,
    }
}

fn buckets(buckets: usize) -> Position {
    Position::Buckets(Buckets {
        buckets,
        max_distance: 12,
    })
}

fn disentangled(span: usize, max_distance: Option<usize>) -> Position {
    Position::Disentangled(Disentangled { span, max_distance })
}

/// Every kind with every option, small enough that blocks, chunks and windows end within the sequences.
#[expect(clippy::too_many_lines, reason = "a list, one entry a kind")]
fn cases() -> Vec<(&'static str, Mixer)> {
    let attention = || Attention::plain(3, false, 0.0);
    let options = |change: fn(&mut Attention)| {
        let mut settings = attention();
        change(&mut settings);
        Mixer::Attention(settings)
    };
    let scan = |direction| {
        Mixer::SelectiveScan(SelectiveScan {
            state: 3,
            expand: 2,
            rank: 2,
            kernel: 4,
            direction,
        })
    };
    let delta = |kernel, causal| {
        Mixer::DeltaRule(DeltaRule {
            heads: 3,
            kernel,
            chunk: 4,
            causal,
        })
    };
    let summary = |spans, causal| {
        Mixer::SummaryAttention(SummaryAttention {
            heads: 3,
            spans,
            causal,
        })
    };
    let gated = |order, kernel, causal| {
        Mixer::GatedConvolution(GatedConvolution {
            order,
            kernel,
            scale: 1.0 / 3.0,
            causal,
        })
    };
    vec![
        ("attention", options(|_| {})),
        ("attention, causal", options(|a| a.causal = true)),
        ("attention, window", options(|a| a.window = Some(3))),
        (
            "attention, window, causal",
            options(|a| (a.window, a.causal) = (Some(5), true)),
        ),
        (
            "attention, window and global",
            options(|a| (a.window, a.global) = (Some(3), Some(2))),
        ),
        (
            "attention, window and global, causal",
            options(|a| (a.window, a.global, a.causal) = (Some(2), Some(3), true)),
        ),
        (
            "attention, clipped",
            options(|a| {
                a.score = Some(Score::Clipped(Clipped {
                    alpha: 0.5,
                    stretch: 1.1,
                }));
            }),
        ),
        (
            "attention, clipped, window",
            options(|a| {
                a.window = Some(4);
                a.score = Some(Score::Clipped(Clipped {
                    alpha: 0.4,
                    stretch: 1.0,
                }));
            }),
        ),
        (
            "attention, top-k",
            options(|a| a.score = Some(Score::TopK(TopK { keep: 3 }))),
        ),
        (
            "attention, top-1",
            options(|a| a.score = Some(Score::TopK(TopK { keep: 1 }))),
        ),
        (
            "attention, hard",
            options(|a| a.score = Some(Score::Hard(Hard {}))),
        ),
        (
            "attention, hard, window and global",
            options(|a| {
                (a.window, a.global) = (Some(3), Some(1));
                a.score = Some(Score::Hard(Hard {}));
            }),
        ),
        ("attention, tied", options(|a| a.tied = true)),
        (
            "attention, blocks",
            options(|a| a.blocks = Some(blocks(3, 1))),
        ),
        (
            "attention, blocks, causal",
            options(|a| (a.blocks, a.causal) = (Some(blocks(4, 2)), true)),
        ),
        (
            "attention, blocks without ends, alibi",
            options(|a| {
                a.blocks = Some(blocks(4, 0));
                a.position = Some(Position::Alibi(Alibi {}));
            }),
        ),
        (
            "attention, blocks, disentangled",
            options(|a| {
                a.blocks = Some(blocks(2, 1));
                a.position = Some(disentangled(5, None));
            }),
        ),
        (
            "attention, buckets",
            options(|a| a.position = Some(buckets(8))),
        ),
        (
            "attention, buckets, causal, blocks",
            options(|a| {
                (a.blocks, a.causal) = (Some(blocks(3, 1)), true);
                a.position = Some(buckets(5));
            }),
        ),
        (
            "attention, disentangled",
            options(|a| a.position = Some(disentangled(6, Some(20)))),
        ),
        (
            "attention, disentangled, tied, causal, window",
            options(|a| {
                (a.tied, a.causal, a.window) = (true, true, Some(5));
                a.position = Some(disentangled(4, None));
            }),
        ),
        (
            "attention, sink",
            options(|a| a.score = Some(Score::Sink(Sink {}))),
        ),
        (
            "attention, gate",
            options(|a| a.gate = Some(Gate { open: 0.5 })),
        ),
        (
            "attention, alibi, window and global",
            options(|a| {
                (a.window, a.global) = (Some(4), Some(1));
                a.position = Some(Position::Alibi(Alibi {}));
            }),
        ),
        (
            "attention, rotary, causal",
            options(|a| {
                a.causal = true;
                a.position = Some(Position::Rotary(Rotary { base: 100.0 }));
            }),
        ),
        ("delta-rule", delta(3, false)),
        ("delta-rule, causal", delta(4, true)),
        ("fourier", Mixer::Fourier(Fourier {})),
        ("gated-convolution", gated(3, 5, false)),
        ("gated-convolution, causal", gated(1, 4, true)),
        (
            "granular-pool",
            Mixer::GranularPool(GranularPool {
                heads: 3,
                segment: 4,
                radius: 1,
            }),
        ),
        (
            "hashed-attention",
            Mixer::HashedAttention(HashedAttention {
                heads: 2,
                bits: 5,
                anchors: 4,
            }),
        ),
        ("identity", Mixer::Identity(Identity {})),
        (
            "low-rank-recurrent",
            Mixer::LowRankRecurrent(LowRankRecurrent {
                hidden: 9,
                heads: 3,
            }),
        ),
        (
            "pool",
            Mixer::Pool(Pool {
                radius: 2,
                causal: false,
            }),
        ),
        (
            "pool, causal",
            Mixer::Pool(Pool {
                radius: 3,
                causal: true,
            }),
        ),
        (
            "quasiseparable",
            Mixer::Quasiseparable(Quasiseparable {
                head_width: 6,
                state: 5,
                expand: 2,
                kernel: 5,
                chunk: 4,
            }),
        ),
        (
            "random",
            Mixer::Random(Random {
                seed: 7,
                causal: false,
            }),
        ),
        (
            "random, causal",
            Mixer::Random(Random {
                seed: 7,
                causal: true,
            }),
        ),
        (
            "routed-attention",
            Mixer::RoutedAttention(RoutedAttention {
                heads: 3,
                block: 4,
                keep: 2,
                kernel: 5,
                grid: None,
            }),
        ),
        (
            "routed-attention, grid",
            Mixer::RoutedAttention(RoutedAttention {
                heads: 3,
                block: 6,
                keep: 2,
                kernel: 3,
                grid: Some(Grid {
                    columns: 5,
                    block_columns: 3,
                }),
            }),
        ),
        ("selective-scan, both", scan(Direction::Both)),
        ("selective-scan, forward", scan(Direction::Forward)),
        ("selective-scan, backward", scan(Direction::Backward)),
        (
            "subspace-attention",
            Mixer::SubspaceAttention(SubspaceAttention {
                heads: 3,
                causal: false,
                dropout: 0.0,
            }),
        ),
        (
            "summary-attention, fixed",
            summary(Spans::Fixed(Fixed { block: 4 }), false),
        ),
        (
            "summary-attention, fixed, causal",
            summary(Spans::Fixed(Fixed { block: 3 }), true),
        ),
        (
            "summary-attention, doubling",
            summary(Spans::Doubling(Doubling {}), false),
        ),
        (
            "summary-attention, doubling, causal",
            summary(Spans::Doubling(Doubling {}), true),
        ),
        (
            "summary-attention, axial",
            summary(Spans::Axial(Axial { columns: 3 }), false),
        ),
        (
            "summary-attention, axial, causal",
            summary(Spans::Axial(Axial { columns: 4 }), true),
        ),
        ("token-mlp", Mixer::TokenMlp(TokenMlp { width: 7 })),
    ]
}

fn weights_of(mixer: &Mixer, seed: u64) -> Values {
    let (parameters, _) = mixer.parameters("mixer", ROOM);
    let value = |(index, p): (u64, cloze_spec::inventory::Parameter)| {
        let offset = if p.name.ends_with("gain") { 1.0 } else { 0.0 };
        let numbers = numbers(seed * 1000 + index, p.shape.iter().product());
        (
            p.name,
            numbers.into_iter().map(|x| offset + 0.5 * x).collect(),
        )
    };
    let mut values: Values = (0..).zip(parameters).map(value).collect();
    if let Mixer::HashedAttention(settings) = mixer {
        // So that tokens differ in every bit: weights larger, and thresholds in the middle of what they meet.
        let weight = values.get_mut("mixer.hash.weight").expect("weights");
        for w in weight.iter_mut() {
            *w *= 4.0;
        }
        let middles: Vec<f32> = weight
            .chunks(settings.anchors)
            .map(|row| -0.62 * row.iter().sum::<f32>())
            .collect();
        values.insert("mixer.hash.bias".to_owned(), middles);
    }
    values
}

/// The tokens' channels of sequences of these lengths, each sequence's from its own seed.
fn tokens(seeds: &[u64], lens: &[usize]) -> Vec<f32> {
    let sequence = |(&seed, &len): (&u64, &usize)| numbers(seed, len * ROOM.width);
    seeds.iter().zip(lens).flat_map(sequence).collect()
}

fn sequences(lens: &[usize]) -> Sequences {
    let mut batch = PackedBatch::new();
    for &len in lens {
        batch.push(&vec![0; len]);
    }
    batch.rows = (0..batch.tokens.len() as u32).step_by(3).collect();
    Sequences::new(&batch)
}

fn tensor(x: &[f32], width: usize, device: &Device) -> Tensor<2> {
    let shape = [x.len() / width, width];
    Tensor::from_data(TensorData::new(x.to_vec(), shape), device)
}

fn forward(mixer: &Mixer, room: Room, values: &Values, x: &[f32], lens: &[usize]) -> Vec<f32> {
    let device = Device::flex();
    let single = Single::new(mixer, room, values, &device);
    read(&single.forward(
        tensor(x, room.width, &device),
        &sequences(lens),
        false,
        &mut Noise::none(),
    ))
}

/// Gradients of a weighted sum of the output: of each parameter, and under `x` of the tokens.
fn gradients(
    mixer: &Mixer,
    room: Room,
    values: &Values,
    x: &[f32],
    lens: &[usize],
    cotangent: &[f32],
) -> Values {
    let device = Device::flex().autodiff();
    let single = Single::new(mixer, room, values, &device);
    let x = tensor(x, room.width, &device).require_grad();
    let output = single.forward(x.clone(), &sequences(lens), false, &mut Noise::none());
    let mut gradients = (output * tensor(cotangent, room.width, &device))
        .sum()
        .backward();
    let tokens = x.grad_remove(&mut gradients).expect("of the tokens");
    let mut found = by_name(&single, gradients);
    found.insert("x".to_owned(), read(&tokens));
    found
}

/// The largest difference, as a share of the largest number wanted.
fn apart(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0.0_f64, |size, w| size.max(w.abs()));
    assert!(size > 0.0, "something to compare");
    let differences = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
    let largest = differences.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most });
    largest / size
}

/// The lengths that everything is tried on: one, those around blocks of 3, 4 and 5, and the longest.
const LENS: [usize; 11] = [1, 2, 3, 4, 5, 7, 8, 9, 16, 29, 40];
const SEEDS: [u64; 11] = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];

/// As values are, through one more pass; the differences themselves are good to about 1e-8.
const GRADIENT: f64 = 1e-4;

/// Largest differences found, for the table.
struct Found {
    kind: &'static str,
    parameters: usize,
    value: f64,
    gradient: f64,
}

#[test]
fn every_mixer_is_what_its_definition_says() {
    // f32 against f64, of sums of some hundred terms that a norm or a recurrence may stretch.
    const VALUE: f64 = 1e-5;
    let mut table = Vec::new();
    for (kind, mixer) in cases() {
        let values = weights_of(&mixer, 3);
        let x = tokens(&SEEDS, &LENS);
        let found = Found {
            kind,
            parameters: values.values().map(Vec::len).sum(),
            value: value(&mixer, &values, &x),
            gradient: gradient(kind, &mixer, &values),
        };
        packing(kind, &mixer, &values, &x);
        resuming(kind, &mixer, &values);
        println!(
            "{:45} {:4} parameters  value {:.1e}  gradient {:.1e}  packing, padding and resuming exact",
            found.kind, found.parameters, found.value, found.gradient
        );
        table.push(found);
    }
    for found in table {
        let kind = found.kind;
        assert!(found.value <= VALUE, "{kind}: off by {}", found.value);
        assert!(
            found.gradient <= GRADIENT,
            "{kind}: a gradient is off by {}",
            found.gradient
        );
    }
}

/// Numbers of other programs: what made each line says `tools/golden/mixers.py`.
#[test]
fn other_programs_give_the_same() {
    // Theirs are f64, or f32 like ours; both sum a few dozen terms.
    const VALUE: f64 = 1e-5;
    let room = Room {
        width: 8,
        max_len: 9,
    };
    for line in include_str!("golden/mixers.jsonl").lines() {
        let mut line: Value = serde_json::from_str(line).expect("a case");
        let mut take = |key: &str| line[key].take();
        let mixer = take("mixer");
        let what = format!("{mixer} by {}", take("source"));
        let mixer: Mixer = from_value(mixer).expect("settings");
        let lens: Vec<usize> = from_value(take("lens")).expect("lengths");
        let values: Values = from_value(take("weights")).expect("numbers by name");
        let values = values.into_iter();
        let values = values
            .map(|(name, x)| (format!("mixer.{name}"), x))
            .collect();
        let [x, cotangent] = ["x", "cotangent"].map(|key| {
            let numbers: Vec<f32> = from_value(take(key)).expect("numbers");
            numbers
        });
        let output: Vec<f64> = from_value(take("output")).expect("numbers");
        let off = apart(&forward(&mixer, room, &values, &x, &lens), &output);
        assert!(off <= VALUE, "{what}: off by {off}");
        let found = gradients(&mixer, room, &values, &x, &lens, &cotangent);
        let wanted: BTreeMap<String, Vec<f64>> =
            from_value(take("gradients")).expect("numbers by name");
        assert_eq!(found.len(), wanted.len(), "{what}");
        let mut worst = 0.0_f64;
        for (name, want) in wanted {
            let ours = found.get(&format!("mixer.{name}")).or(found.get(&name));
            let off = apart(ours.expect("a gradient"), &want);
            assert!(
                off <= VALUE,
                "{what}: the gradient of {name} is off by {off}"
            );
            worst = worst.max(off);
        }
        println!("value {off:.1e}  gradient {worst:.1e}  {what}");
    }
}

fn value(mixer: &Mixer, values: &Values, x: &[f32]) -> f64 {
    let mut rest = x;
    let mut want = Vec::new();
    for len in LENS {
        let (mine, others) = rest.split_at(len * ROOM.width);
        let point = Point::new(values, mine, ROOM.width);
        want.extend(
            reference::mix(mixer, ROOM, &point, &point)
                .into_iter()
                .flatten(),
        );
        rest = others;
    }
    apart(&forward(mixer, ROOM, values, x, &LENS), &want)
}

/// Every number of every gradient against central differences of the definition.
fn gradient(kind: &str, mixer: &Mixer, values: &Values) -> f64 {
    const STEP: f64 = 1e-6;
    let lens = [1, 11, 6];
    let x = tokens(&[31, 32, 33], &lens);
    let cotangent = numbers(34, x.len());
    let found = gradients(mixer, ROOM, values, &x, &lens, &cotangent);
    let names: Vec<&String> = values.keys().collect();
    for name in &names {
        assert!(found.contains_key(*name), "{kind}: {name} has no gradient");
    }
    let mut parts = Vec::new();
    let mut first = 0;
    for len in lens {
        let range = first * ROOM.width..(first + len) * ROOM.width;
        parts.push((range.clone(), Point::new(values, &x[range], ROOM.width)));
        first += len;
    }
    let loss = |changed: &Point, part: usize| -> f64 {
        let (range, base) = &parts[part];
        let mixed = reference::mix(mixer, ROOM, changed, base);
        let terms = mixed.iter().flatten().zip(&cotangent[range.clone()]);
        terms.map(|(m, c)| m * f64::from(*c)).sum()
    };
    let slope = |part: usize, change: &dyn Fn(&mut Point, f64)| {
        let at = |step: f64| {
            let (range, _) = &parts[part];
            let mut point = Point::new(values, &x[range.clone()], ROOM.width);
            change(&mut point, step);
            loss(&point, part)
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    };
    let mut worst = 0.0_f64;
    for name in names {
        let want: Vec<f64> = (0..values[name].len())
            .map(|index| {
                let change = |point: &mut Point, step: f64| {
                    point.weights.get_mut(name).expect("a parameter")[index] += step;
                };
                (0..lens.len()).map(|part| slope(part, &change)).sum()
            })
            .collect();
        let off = apart(&found[name], &want);
        assert!(
            off <= GRADIENT,
            "{kind}: the gradient of {name} is off by {off}"
        );
        worst = worst.max(off);
    }
    let mut want = Vec::new();
    for (part, len) in lens.into_iter().enumerate() {
        for index in 0..len * ROOM.width {
            let change = |point: &mut Point, step: f64| {
                point.x[index / ROOM.width][index % ROOM.width] += step;
            };
            want.push(slope(part, &change));
        }
    }
    worst.max(apart(&found["x"], &want))
}

#[test]
fn shares_make_what_the_mixer_makes() {
    const VALUE: f64 = 1e-5;
    let device = Device::flex();
    for (kind, mixer) in cases() {
        let values = weights_of(&mixer, 3);
        let sums_values = match &mixer {
            Mixer::Attention(_) | Mixer::HashedAttention(_) | Mixer::SubspaceAttention(_) => true,
            Mixer::SummaryAttention(settings) => !matches!(settings.spans, Spans::Axial(_)),
            _ => false,
        };
        for (len, seed) in LENS.into_iter().zip(SEEDS) {
            let x = numbers(seed, len * ROOM.width);
            let single = Single::new(&mixer, ROOM, &values, &device);
            let shares = single.shares(tensor(&x, ROOM.width, &device));
            assert_eq!(shares.is_some(), sums_values, "{kind}");
            let Some(shares) = shares else { break };
            let found: Vec<f64> = read(&shares).into_iter().map(f64::from).collect();
            let heads = found.chunks(len * len);
            let heads: Vec<_> = heads
                .map(|head| head.chunks(len).map(<[f64]>::to_vec).collect())
                .collect();
            let point = Point::new(&values, &x, ROOM.width);
            let made = reference::assembled(&mixer, &point, &heads).concat();
            let made: Vec<f32> = made.into_iter().map(|x| x as f32).collect();
            let off = apart(
                &made,
                &reference::mix(&mixer, ROOM, &point, &point).concat(),
            );
            assert!(off <= VALUE, "{kind} of {len}: off by {off}");

            // Of what each token gives alone, all add up to that; what is left is the same for every sum.
            let x = tensor(&x, ROOM.width, &device);
            let summed = |shares| single.summed(x.clone(), shares).unwrap();
            let none = summed(shares.zeros_like());
            let alone = (0..len).map(|from| {
                let places = Tensor::<1>::from_floats(
                    &*(0..len).map(|at| f32::from(at == from)).collect::<Vec<_>>(),
                    &device,
                );
                summed(shares.clone() * places.unsqueeze()) - none.clone()
            });
            let all = alone.fold(none.clone(), |sum, part| sum + part);
            let want: Vec<f64> =
                read(&single.forward(x.clone(), &sequences(&[len]), false, &mut Noise::none()))
                    .into_iter()
                    .map(f64::from)
                    .collect();
            let off = apart(&read(&all), &want);
            assert!(off <= VALUE, "{kind} of {len}: sums are off by {off}");
        }
    }
}

/// Every block of the Jacobian against central differences of the definition.
#[test]
fn influence_is_how_much_a_change_comes_through() {
    const STEP: f64 = 1e-6;
    let device = Device::flex().autodiff();
    let len = 11;
    for (kind, mixer) in cases() {
        let values = weights_of(&mixer, 3);
        let x = numbers(31, len * ROOM.width);
        let single = Single::new(&mixer, ROOM, &values, &device);
        let found = influence(&tensor(&x, ROOM.width, &device), |x, offsets| {
            let lens: Vec<usize> = offsets.windows(2).map(|w| (w[1] - w[0]) as usize).collect();
            single.forward(x, &sequences(&lens), false, &mut Noise::none())
        });
        let base = Point::new(&values, &x, ROOM.width);
        let mut squares = vec![0.0; len * len];
        for index in 0..x.len() {
            let (from, channel) = (index / ROOM.width, index % ROOM.width);
            let moved = |step: f64| {
                let mut point = Point::new(&values, &x, ROOM.width);
                point.x[from][channel] += step;
                reference::mix(&mixer, ROOM, &point, &base)
            };
            let (up, down) = (moved(STEP), moved(-STEP));
            for (to, (up, down)) in up.iter().zip(&down).enumerate() {
                let slopes = up.iter().zip(down).map(|(u, d)| (u - d) / (2.0 * STEP));
                squares[to * len + from] += slopes.map(|slope| slope * slope).sum::<f64>();
            }
        }
        let width = ROOM.width as f64;
        let want: Vec<f64> = squares.iter().map(|sum| (sum / width).sqrt()).collect();
        let off = apart(&found, &want);
        assert!(off <= GRADIENT, "{kind}: off by {off}");
    }
}

/// Wider than there are directions: from signs by chance, within a few percent, and the same each time.
#[test]
fn influence_of_many_channels_is_told_from_few_directions() {
    let (tokens, width) = (5, 96);
    let device = Device::flex().autodiff();
    let x = tensor(&numbers(5, tokens * width), width, &device);
    let weight = tensor(&numbers(6, width * width), width, &device);
    let next = |x: Tensor<2>, _: &[u32]| x.matmul(weight.clone());
    let found = influence(&x, next);
    assert_eq!(bits(&found), bits(&influence(&x, next)));
    let square: f64 = read(&weight).iter().map(|w| f64::from(w * w)).sum();
    let want = (square / width as f64).sqrt();
    for (at, found) in found.into_iter().enumerate() {
        if at % tokens == at / tokens {
            assert!(
                (f64::from(found) / want - 1.0).abs() < 0.05,
                "{found}, not {want}"
            );
        } else {
            assert_eq!(found.to_bits(), 0);
        }
    }
}

/// Two steps downhill, the second by the same module or by one made again of its weights: the same bits.
fn resuming(kind: &str, mixer: &Mixer, values: &Values) {
    let lens = [1, 11, 6];
    let x = tokens(&[35, 36, 37], &lens);
    let device = Device::flex().autodiff();
    let step = |single: Single| {
        let x = tensor(&x, ROOM.width, &device).require_grad();
        let output = single.forward(x, &sequences(&lens), false, &mut Noise::none());
        single.map(&mut Downhill(output.square().sum().backward()))
    };
    let first = step(Single::new(mixer, ROOM, values, &device));
    let stored = weights::values(&first);
    let again = step(Single::new(mixer, ROOM, &stored, &device));
    let (on, again) = (weights::values(&step(first)), weights::values(&again));
    assert!(values.is_empty() || on != stored, "{kind}: nothing moves");
    for (name, on) in on {
        assert!(bits(&on) == bits(&again[&name]), "{kind}: {name}");
    }
}

/// Moves every parameter a little against its gradient.
struct Downhill(Gradients);

impl ModuleMapper for Downhill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let gradient = tensor.grad_remove(&mut self.0).expect("of all");
            Tensor::from_inner(tensor.inner() - gradient.mul_scalar(1e-3)).require_grad()
        })
    }
}

/// Alone and among others, in any order: the same bits.
fn packing(kind: &str, mixer: &Mixer, values: &Values, x: &[f32]) {
    let together = forward(mixer, ROOM, values, x, &LENS);
    let turned: Vec<u64> = SEEDS.into_iter().rev().collect();
    let lens: Vec<usize> = LENS.into_iter().rev().collect();
    let mut turned = forward(mixer, ROOM, values, &tokens(&turned, &lens), &lens);
    let mut first = 0;
    for len in LENS {
        let range = first * ROOM.width..(first + len) * ROOM.width;
        let alone = forward(mixer, ROOM, values, &x[range.clone()], &[len]);
        let other = turned.split_off(turned.len() - alone.len());
        let among = bits(&together[range]);
        assert!(
            bits(&alone) == among,
            "{kind}: neighbours change {len} tokens"
        );
        assert!(
            bits(&other) == among,
            "{kind}: their order changes {len} tokens"
        );
        first += len;
    }
}

#[test]
fn only_what_says_so_sees_what_comes_after() {
    let lens = [4, 17];
    let (seen, last) = (4 + 16, 4 + 5);
    for (kind, mixer) in cases() {
        let values = weights_of(&mixer, 4);
        let x = tokens(&[41, 42], &lens);
        let before = forward(&mixer, ROOM, &values, &x, &lens);
        let changed = |token: usize| {
            let mut x = x.clone();
            x[token * ROOM.width..(token + 1) * ROOM.width]
                .iter_mut()
                .for_each(|x| *x *= -2.0);
            let after = forward(&mixer, ROOM, &values, &x, &lens);
            (0..lens.iter().sum())
                .filter(|row| {
                    let range = row * ROOM.width..(row + 1) * ROOM.width;
                    bits(&before[range.clone()]) != bits(&after[range])
                })
                .collect::<Vec<usize>>()
        };
        let (late, early) = (changed(seen), changed(last));
        if mixer.sees_future() {
            assert!(
                matches!(mixer, Mixer::Identity(_)) || early.iter().any(|&row| row < last),
                "{kind}: nothing before token {last} sees it"
            );
        } else {
            assert!(late.iter().all(|&row| row >= seen), "{kind}: {late:?}");
            assert!(early.iter().all(|&row| row >= last), "{kind}: {early:?}");
        }
        assert!(late.iter().chain(&early).all(|&row| row >= 4), "{kind}");
    }
}

#[test]
fn the_same_again_gives_the_same_bits_on_any_number_of_threads() {
    let lens = [9, 1, 23, 16];
    let x = tokens(&[51, 52, 53, 54], &lens);
    let cotangent = numbers(55, x.len());
    for (kind, mixer) in cases() {
        let values = weights_of(&mixer, 5);
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| {
                let gradients = gradients(&mixer, ROOM, &values, &x, &lens, &cotangent);
                let gradients: Vec<Vec<u32>> = gradients.values().map(|g| bits(g)).collect();
                (bits(&forward(&mixer, ROOM, &values, &x, &lens)), gradients)
            })
        };
        let one = on(1);
        assert!(on(1) == one, "{kind}: once more");
        assert!(on(3) == one, "{kind}: on three threads");
    }
}

#[test]
fn rows_asked_for_are_those_of_the_whole() {
    let lens = [9, 1, 23];
    let x = tokens(&[61, 62, 63], &lens);
    for (kind, mixer) in cases() {
        let device = Device::flex();
        let single = Single::new(&mixer, ROOM, &weights_of(&mixer, 6), &device);
        let sequences = sequences(&lens);
        let some = |selected| {
            let noise = &mut Noise::none();
            read(&single.forward(tensor(&x, ROOM.width, &device), &sequences, selected, noise))
        };
        let whole = some(false);
        let rows = sequences.rows.iter();
        let want: Vec<f32> = rows
            .flat_map(|&row| whole[row as usize * ROOM.width..][..ROOM.width].to_vec())
            .collect();
        assert!(bits(&some(true)) == bits(&want), "{kind}");
    }
}

/// The small model with another mixer in its layers.
fn with_mixer(mixer: Mixer) -> Model {
    let mut model = model();
    model.stack.mixer = mixer;
    model.validate("test").expect("a model that can be");
    model
}

#[test]
fn an_encoder_of_any_mixer_has_the_parameters_of_its_inventory_and_learns() {
    let all = Mixer::ByLayer(ByLayer {
        pattern: vec![cases()[14].1.clone(), cases()[0].1.clone()],
    });
    for (kind, mixer) in cases().into_iter().chain([("by-layer", all)]) {
        let model = with_mixer(mixer);
        let fresh = weights::init(&model, ITEMS, 1);
        let needed: Vec<String> = parameters(&model, ITEMS)
            .into_iter()
            .map(|p| p.name)
            .collect();
        for given in [fresh, values(&model, ITEMS, 1)] {
            let encoder = Encoder::new(&model, ITEMS, &given, &Device::flex().autodiff());
            assert_eq!(weights::names(&encoder), needed, "{kind}");
            assert_eq!(weights::values(&encoder), given, "{kind}");
            let batch = batch(4, ITEMS, &[MAX_LEN, 1, 4, 7]);
            let loss = objective::loss(&encoder, &batch, &Loss::Softmax, &mut Noise::new(9));
            let gradients = by_name(&encoder, loss.backward());
            assert!(loss.into_scalar::<f32>().is_finite(), "{kind}");
            assert!(
                gradients.keys().eq(given.keys()),
                "{kind}: a parameter is unused"
            );
            for (name, gradient) in gradients {
                assert!(gradient.iter().all(|g| g.is_finite()), "{kind}: {name}");
            }
        }
    }
}

#[test]
fn parameters_are_counted_by_their_modules() {
    for (kind, mixer) in cases() {
        let single = Single::new(&mixer, ROOM, &weights_of(&mixer, 7), &Device::flex());
        let listed = mixer.parameters("mixer", ROOM).0;
        let count: usize = listed
            .iter()
            .map(|p| p.shape.iter().product::<usize>())
            .sum();
        assert_eq!(single.num_params(), count, "{kind}");
    }
}
