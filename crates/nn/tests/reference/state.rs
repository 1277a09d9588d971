use std::cmp::Ordering;

use cloze_spec::mixer::{DeltaRule, LowRankRecurrent, Quasiseparable, Room, SelectiveScan};

use super::{
    Point, Rows, add, apply, dot, head, join, reversed, rms, sigmoid, silu, softmax, softplus, sum,
};

fn map(x: &Rows, f: impl Fn(f64) -> f64) -> Rows {
    x.iter()
        .map(|x| x.iter().map(|&x| f(x)).collect())
        .collect()
}

fn columns(x: &Rows, from: usize, wide: usize) -> Rows {
    x.iter().map(|x| x[from..from + wide].to_vec()).collect()
}

/// The matrix of weights of each head, entry by entry.
pub fn quasiseparable(settings: &Quasiseparable, room: Room, point: &Point) -> Rows {
    let (inner, heads, state) = (
        settings.expand * room.width,
        settings.heads(room.width),
        settings.state,
    );
    let input = point.linears("input", &point.x);
    let gate = map(&columns(&input, 0, inner), silu);
    let convolved = columns(&input, inner, inner + 4 * state);
    let convolved = map(
        &point.depthwise("convolution", &convolved, settings.kernel / 2),
        silu,
    );
    let steps: Rows = columns(&input, 2 * inner + 4 * state, 2 * heads)
        .iter()
        .map(|row| {
            let step = |(x, bias): (&f64, &f64)| softplus(x + bias);
            row.iter().zip(point.get("step")).map(step).collect()
        })
        .collect();
    let value = columns(&convolved, 0, inner);
    let [write_f, read_f, write_b, read_b] =
        [0, 1, 2, 3].map(|part| columns(&convolved, inner + part * state, state));
    let own = point.linears("diagonal", &value);
    let len = point.x.len();
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let rate = -point.get("log_rate")[index].exp();
            let decay = |range: std::ops::Range<usize>, column: usize| -> f64 {
                range.map(|m| (steps[m][column] * rate).exp()).product()
            };
            let entry = |i: usize, j: usize| match i.cmp(&j) {
                Ordering::Equal => own[i][index],
                Ordering::Greater => {
                    dot(&read_f[i - 1], &write_f[j]) * decay(j + 1..i, index) * steps[j][index]
                }
                Ordering::Less => {
                    let column = heads + index;
                    dot(&read_b[i + 1], &write_b[j]) * decay(i + 1..j, column) * steps[j][column]
                }
            };
            let matrix = (0..len)
                .map(|i| (0..len).map(|j| entry(i, j)).collect())
                .collect();
            apply(&matrix, &head(&value, index, settings.head_width))
        })
        .collect();
    let mixed: Rows = join(&mixed)
        .iter()
        .zip(&gate)
        .map(|(mixed, gate)| {
            let normed = rms(mixed, point.get("norm.gain"), 1e-5);
            normed.iter().zip(gate).map(|(n, g)| n * g).collect()
        })
        .collect();
    point.linears("output", &mixed)
}

pub fn selective_scan(settings: &SelectiveScan, room: Room, point: &Point) -> Rows {
    let (inner, state) = (settings.expand * room.width, settings.state);
    let input = point.linears("input", &point.x);
    let (value, gate) = (columns(&input, 0, inner), columns(&input, inner, inner));
    let mut mixed = vec![vec![0.0; inner]; point.x.len()];
    for &(pass, backward) in settings.direction.passes() {
        let turn = |x: &Rows| if backward { reversed(x) } else { x.clone() };
        let part = |part: &str| format!("{pass}.{part}");
        let convolution = part("convolution");
        let x = map(
            &point.depthwise(&convolution, &turn(&value), settings.kernel - 1),
            silu,
        );
        let rate = point.get(&part("log_rate"));
        let mut held = vec![0.0; inner * state];
        let given: Rows = x
            .iter()
            .map(|x| {
                let selected = point.linear(&part("select"), x);
                let (rank, rest) = selected.split_at(settings.rank);
                let (write, read) = rest.split_at(state);
                let step = point.linear(&part("step"), rank);
                (0..inner)
                    .map(|channel| {
                        let step = softplus(step[channel]);
                        let held = &mut held[channel * state..][..state];
                        for (s, held) in held.iter_mut().enumerate() {
                            let decay = (-step * rate[channel * state + s].exp()).exp();
                            *held = decay * *held + step * x[channel] * write[s];
                        }
                        dot(held, read) + point.get(&part("skip.gain"))[channel] * x[channel]
                    })
                    .collect()
            })
            .collect();
        mixed = sum(&mixed, &turn(&given));
    }
    let mixed: Rows = mixed
        .iter()
        .zip(&map(&gate, silu))
        .map(|(mixed, gate)| mixed.iter().zip(gate).map(|(m, g)| m * g).collect())
        .collect();
    point.linears("output", &mixed)
}

/// The state step by step.
pub fn delta_rule(settings: &DeltaRule, point: &Point) -> Rows {
    let (heads, width) = (settings.heads, point.x[0].len());
    let channels = width / heads;
    let before = if settings.causal {
        settings.kernel - 1
    } else {
        settings.kernel / 2
    };
    let qkv = point.linears("qkv", &point.x);
    let qkv = map(&point.depthwise("convolution", &qkv, before), silu);
    let strength = map(&point.linears("strength", &point.x), sigmoid);
    let unit = |x: &Rows| -> Rows {
        x.iter()
            .map(|x| {
                let length = (dot(x, x) + 1e-6).sqrt();
                x.iter().map(|x| x / length).collect()
            })
            .collect()
    };
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let part = |part: usize| head(&qkv, part * heads + index, channels);
            let (query, key, value) = (unit(&part(0)), unit(&part(1)), part(2));
            let pass = |direction: usize| {
                let turn = |x: &Rows| {
                    if direction == 1 {
                        reversed(x)
                    } else {
                        x.clone()
                    }
                };
                let strength = turn(&columns(&strength, direction * heads + index, 1));
                let (query, key, value) = (turn(&query), turn(&key), turn(&value));
                let mut state = vec![vec![0.0; channels]; channels];
                let given: Rows = (0..key.len())
                    .map(|at| {
                        for (row, v) in state.iter_mut().zip(&value[at]) {
                            let error = v - dot(row, &key[at]);
                            add(row, &key[at], strength[at][0] * error);
                        }
                        let scale = (channels as f64).sqrt();
                        state
                            .iter()
                            .map(|row| dot(row, &query[at]) / scale)
                            .collect()
                    })
                    .collect();
                turn(&given)
            };
            let mut mixed = pass(0);
            if !settings.causal {
                mixed = sum(&mixed, &pass(1));
            }
            mixed
                .iter()
                .map(|mixed| rms(mixed, point.get("norm.gain"), 1e-5))
                .collect()
        })
        .collect();
    point.linears("output", &join(&mixed))
}

pub fn low_rank_recurrent(settings: &LowRankRecurrent, point: &Point) -> Rows {
    let hidden = settings.hidden;
    let input = point.linears("input", &point.x);
    let pass = |direction: usize, name: &str| {
        let turn = |x: &Rows| {
            if direction == 1 {
                reversed(x)
            } else {
                x.clone()
            }
        };
        let input = turn(&columns(&input, direction * 3 * hidden, 3 * hidden));
        let mut held = vec![0.0; hidden];
        let states: Rows = input
            .iter()
            .map(|input| {
                let product = point.linear(name, &held);
                for i in 0..hidden {
                    let reset = sigmoid(input[i] + product[i]);
                    let update = sigmoid(input[hidden + i] + product[hidden + i]);
                    let new = (input[2 * hidden + i] + reset * product[2 * hidden + i]).tanh();
                    held[i] = (1.0 - update) * new + update * held[i];
                }
                held.clone()
            })
            .collect();
        turn(&states)
    };
    let states = join(&[pass(0, "forward"), pass(1, "backward")]);
    let both = 2 * hidden;
    let mut context = vec![0.0; both];
    for state in &states {
        add(&mut context, state, 1.0 / states.len() as f64);
    }
    // The bilinear form of each head, whole: M = p qᵀ.
    let (p, q) = (point.get("context.weight"), point.get("state.weight"));
    let scores: Rows = states
        .iter()
        .map(|state| {
            let scores: Vec<f64> = (0..settings.heads)
                .map(|index| {
                    let (p, q) = (&p[index * both..][..both], &q[index * both..][..both]);
                    let mut form = 0.0;
                    for (p, c) in p.iter().zip(&context) {
                        for (q, h) in q.iter().zip(state) {
                            form += c * p * q * h;
                        }
                    }
                    form.tanh()
                })
                .collect();
            let length = dot(&scores, &scores).sqrt();
            scores.iter().map(|s| s / length).collect()
        })
        .collect();
    let pooled: Vec<f64> = (0..settings.heads)
        .flat_map(|index| {
            let scores: Vec<f64> = scores.iter().map(|s| s[index]).collect();
            let mut pooled = vec![0.0; both];
            for (state, share) in states.iter().zip(softmax(&scores)) {
                add(&mut pooled, state, share);
            }
            pooled
        })
        .collect();
    let pooled = point.linear("pooled", &pooled);
    let all = vec![pooled; states.len()];
    sum(&point.linears("output", &states), &all)
}
