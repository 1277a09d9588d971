use cloze_spec::encoder::alibi_slopes;
use cloze_spec::mixer::{
    Attention, Blocks, HashedAttention, Position, RoutedAttention, Score, Spans, SubspaceAttention,
    SummaryAttention,
};
use rand::Rng;

use super::pool::drawn;
use super::{Point, Rows, add, apply, dot, head, join, sigmoid, softmax as soften, sum};

/// Queries, keys and values of one head.
fn parts(settings: &Attention, point: &Point, x: &Rows, index: usize) -> [Rows; 3] {
    let maps = point.linears("qkv", x);
    let of = |part: usize| {
        head(
            &maps,
            part * settings.heads + index,
            x[0].len() / settings.heads,
        )
    };
    if settings.tied {
        [of(0), of(0), of(1)]
    } else {
        [of(0), of(1), of(2)]
    }
}

pub fn softmax(settings: &Attention, point: &Point, base: &Point) -> Rows {
    let (heads, width) = (settings.heads, point.x[0].len());
    let channels = width / heads;
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let matrix = |point: &Point| {
                let [mut query, mut key, _] = parts(settings, point, &point.x, index);
                if let Some(Position::Rotary(rotary)) = &settings.position {
                    turn(&mut query, f64::from(rotary.base));
                    turn(&mut key, f64::from(rotary.base));
                }
                weights(settings, point, index, &query, &key)
            };
            let mut shares = matrix(point);
            if let Some(Score::Hard(_)) = settings.score {
                // One for the largest there, and the change of the softmax since.
                for (row, there) in shares.iter_mut().zip(matrix(base)) {
                    let most = there.iter().copied().fold(0.0, f64::max);
                    for (share, there) in row.iter_mut().zip(there) {
                        *share += if there < most { 0.0 } else { 1.0 } - there;
                    }
                }
            }
            let [_, _, value] = parts(settings, point, &point.x, index);
            let mut mixed = apply(&shares, &value);
            if settings.gate.is_some() {
                let weight = &point.get("gate.weight")[index * channels..][..channels];
                for (mixed, x) in mixed.iter_mut().zip(head(&point.x, index, channels)) {
                    let open = sigmoid(dot(weight, &x) + point.get("gate.bias")[index]);
                    for m in mixed {
                        *m *= open;
                    }
                }
            }
            mixed
        })
        .collect();
    point.linears("output", &join(&mixed))
}

fn turn(x: &mut Rows, base: f64) {
    for (at, x) in x.iter_mut().enumerate() {
        let half = x.len() / 2;
        for pair in 0..half {
            let angle = at as f64 * base.powf(-2.0 * pair as f64 / (2 * half) as f64);
            let (a, b) = (x[pair], x[pair + half]);
            x[pair] = a * angle.cos() - b * angle.sin();
            x[pair + half] = b * angle.cos() + a * angle.sin();
        }
    }
}

/// Which tokens the blocks of a sequence of `len` tokens let see which.
fn block_sees(settings: &Blocks, causal: bool, len: usize) -> impl Fn(usize, usize) -> bool {
    let count = len.div_ceil(settings.size);
    let end = move |block: usize, global: usize| {
        block < global || (!causal && block >= count.saturating_sub(global))
    };
    let luck: Vec<Vec<usize>> = (0..count)
        .map(|block| {
            let mut rng = drawn(settings.seed, &format!("mixer.{block}"));
            let numbers: Vec<u64> = (0..count).map(|_| rng.next_u64()).collect();
            let mut others: Vec<usize> = (0..count)
                .filter(|&other| block.abs_diff(other) > settings.near)
                .filter(|&other| !end(other, settings.global))
                .filter(|&other| !causal || other < block)
                .collect();
            others.sort_by_key(|&other| numbers[other]);
            others.truncate(settings.random);
            others
        })
        .collect();
    let Blocks {
        size, near, global, ..
    } = *settings;
    move |query, key| {
        let (query, key) = (query / size, key / size);
        end(query, global)
            || end(key, global)
            || query.abs_diff(key) <= near
            || luck[query].contains(&key)
    }
}

/// The matrix of weights of one head; of hard attention the softmax that its gradient follows.
fn weights(settings: &Attention, point: &Point, head: usize, query: &Rows, key: &Rows) -> Rows {
    let len = query.len();
    let global = settings.global.unwrap_or(0);
    let blocks = settings.blocks.as_ref();
    let blocks = blocks.map(|blocks| block_sees(blocks, settings.causal, len));
    let seen = |q: usize, k: usize| {
        if let Some(sees) = &blocks {
            return sees(q, k) && !(settings.causal && k > q);
        }
        let near = settings.window.is_none_or(|window| q.abs_diff(k) <= window);
        (near || q < global || k < global) && !(settings.causal && k > q)
    };
    let table = point
        .weights
        .get(&format!("{}position.weight", point.prefix));
    let vectors = match &settings.position {
        Some(Position::Disentangled(_)) => {
            let rows = table.expect("vectors").chunks(point.x[0].len());
            let rows: Rows = rows.map(<[f64]>::to_vec).collect();
            Some(parts(settings, point, &rows, head))
        }
        _ => None,
    };
    let channels = query[0].len() as f64;
    let score = |q: usize, k: usize| {
        let apart = q as isize - k as isize;
        let row = |position: &Position| position.row(apart, settings.causal).expect("a row");
        let product = dot(&query[q], &key[k]);
        let plain = product / channels.sqrt();
        match &settings.position {
            Some(Position::Alibi(_)) => {
                plain - f64::from(alibi_slopes(settings.heads)[head]) * apart.unsigned_abs() as f64
            }
            Some(position @ Position::Buckets(_)) => {
                plain + table.expect("numbers")[row(position) * settings.heads + head]
            }
            Some(position @ Position::Disentangled(_)) => {
                let [as_query, as_key, _] = vectors.as_ref().expect("vectors");
                let row = row(position);
                let met = dot(&query[q], &as_key[row]) + dot(&key[k], &as_query[row]);
                (product + met) / (3.0 * channels).sqrt()
            }
            Some(Position::Rotary(_)) | None => plain,
        }
    };
    (0..len)
        .map(|q| {
            let keys: Vec<usize> = (0..len).filter(|&k| seen(q, k)).collect();
            let mut scores: Vec<f64> = keys.iter().map(|&k| score(q, k)).collect();
            let shares = match &settings.score {
                None | Some(Score::Hard(_)) => soften(&scores),
                Some(Score::Clipped(clipped)) => {
                    let low = -f64::from(clipped.alpha) / keys.len() as f64;
                    let spread = f64::from(clipped.stretch) - low;
                    soften(&scores)
                        .into_iter()
                        .map(|p| (spread * p + low).clamp(0.0, 1.0))
                        .collect()
                }
                Some(Score::TopK(top)) => {
                    let mut sorted = scores.clone();
                    sorted.sort_by(|a, b| b.total_cmp(a));
                    let least = sorted[top.keep.min(keys.len()) - 1];
                    scores
                        .iter_mut()
                        .filter(|s| **s < least)
                        .for_each(|s| *s = f64::NEG_INFINITY);
                    soften(&scores)
                }
                Some(Score::Sink(_)) => {
                    scores.push(point.get("sink.bias")[head]);
                    soften(&scores)
                }
            };
            let mut row = vec![0.0; len];
            keys.iter()
                .zip(shares)
                .for_each(|(&k, share)| row[k] = share);
            row
        })
        .collect()
}

pub fn subspace(settings: &SubspaceAttention, point: &Point) -> Rows {
    let part = point.linears("subspace", &point.x);
    let channels = part[0].len() / settings.heads;
    let plain = Attention::plain(settings.heads, settings.causal, 0.0);
    let mixed: Vec<Rows> = (0..settings.heads)
        .map(|index| {
            let part = head(&part, index, channels);
            apply(&weights(&plain, point, index, &part, &part), &part)
        })
        .collect();
    point.linears("output", &join(&mixed))
}

/// Likeness of all pairs of codes, each row divided by its sum.
pub fn hashed(settings: &HashedAttention, point: &Point, base: &Point) -> Rows {
    let (heads, width) = (settings.heads, point.x[0].len());
    let channels = width / heads;
    let maps = point.linears("key_value", &point.x);
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let here = bits(settings, point, index);
            let there = bits(settings, base, index);
            let code: Rows = here
                .iter()
                .zip(&there)
                .map(|(here, there)| {
                    let straight = |(here, there): (&f64, &f64)| {
                        let sign = if *there > 0.0 { 1.0 } else { -1.0 };
                        sign + here.clamp(-1.0, 1.0) - there.clamp(-1.0, 1.0)
                    };
                    here.iter().zip(there).map(straight).collect()
                })
                .collect();
            let matrix: Rows = code
                .iter()
                .map(|a| {
                    let row = code.iter().map(|b| dot(a, b) + settings.bits as f64 + 1.0);
                    let row: Vec<f64> = row.collect();
                    let total: f64 = row.iter().sum();
                    row.into_iter().map(|s| s / total).collect()
                })
                .collect();
            apply(&matrix, &head(&maps, heads + index, channels))
        })
        .collect();
    point.linears("output", &join(&mixed))
}

/// What the bits of a head's codes are the signs of.
fn bits(settings: &HashedAttention, point: &Point, index: usize) -> Rows {
    let channels = point.x[0].len() / settings.heads;
    let (anchors, bits) = (settings.anchors, settings.bits);
    let maps = point.linears("key_value", &point.x);
    let anchor = &point.get("anchor")[index * anchors * channels..][..anchors * channels];
    let weight = &point.get("hash.weight")[index * bits * anchors..][..bits * anchors];
    let bias = &point.get("hash.bias")[index * bits..][..bits];
    let apart: Rows = head(&maps, index, channels)
        .iter()
        .map(|key| {
            let length = dot(key, key).sqrt();
            let distance = |anchor: &[f64]| {
                let square = |(k, a): (&f64, &f64)| (k / length - a).powi(2);
                key.iter().zip(anchor).map(square).sum()
            };
            anchor.chunks(channels).map(distance).collect()
        })
        .collect();
    let spread = apart.iter().flatten().sum::<f64>() / (apart.len() * anchors) as f64;
    apart
        .iter()
        .map(|apart| {
            let kernel: Vec<f64> = apart.iter().map(|d| (-d / (2.0 * spread)).exp()).collect();
            let bit = |(row, bias): (&[f64], &f64)| dot(row, &kernel) + bias;
            weight.chunks(anchors).zip(bias).map(bit).collect()
        })
        .collect()
}

/// Which tokens each token meets directly, and which spans it meets as summaries.
fn tiling(settings: &SummaryAttention, at: usize, len: usize) -> (Vec<usize>, Vec<Vec<usize>>) {
    let causal = settings.causal;
    let span = |from: usize, to: usize| (from..to.min(len)).collect::<Vec<_>>();
    match &settings.spans {
        Spans::Fixed(fixed) => {
            let block = fixed.block;
            let own = at / block;
            let direct = span(own * block, (own + 1) * block);
            let others = (0..len.div_ceil(block)).filter(|&b| b != own && !(causal && b > own));
            (
                direct.into_iter().filter(|&k| !causal || k <= at).collect(),
                others.map(|b| span(b * block, (b + 1) * block)).collect(),
            )
        }
        Spans::Axial(_) => unreachable!("rows are no spans of one summary"),
        Spans::Doubling(_) => {
            let siblings = (0..usize::BITS - len.leading_zeros()).filter_map(|level| {
                let sibling = (at >> level) ^ 1;
                let found = span(sibling << level, (sibling + 1) << level);
                let ahead = causal && sibling > at >> level;
                (!found.is_empty() && !ahead).then_some(found)
            });
            (vec![at], siblings.collect())
        }
    }
}

/// Rows of a grid, by the definition: what each token gets of its own row first, then one softmax a token.
fn axial(settings: &SummaryAttention, columns: usize, point: &Point) -> Rows {
    let qkv = point.linears("qkv", &point.x);
    let (heads, width, len) = (settings.heads, point.x[0].len(), point.x.len());
    let channels = width / heads;
    let scale = (channels as f64).sqrt();
    let part = |part: usize, index: usize| head(&qkv, part * heads + index, channels);
    let row = |r: usize| (r * columns..((r + 1) * columns).min(len)).collect::<Vec<_>>();
    let weighted = |shares: &[f64], values: &[&Vec<f64>]| {
        let mut sum = vec![0.0; channels];
        for (share, value) in shares.iter().zip(values) {
            add(&mut sum, value, *share);
        }
        sum
    };
    let own: Vec<Rows> = (0..heads)
        .map(|index| {
            let [query, key, value] = [0, 1, 2].map(|p| part(p, index));
            (0..len)
                .map(|at| {
                    let tokens = row(at / columns);
                    let scores: Vec<f64> = tokens
                        .iter()
                        .map(|&k| dot(&query[at], &key[k]) / scale)
                        .collect();
                    let values: Vec<&Vec<f64>> = tokens.iter().map(|&k| &value[k]).collect();
                    weighted(&soften(&scores), &values)
                })
                .collect()
        })
        .collect();
    let keys: Rows = sum(&point.x, &point.linears("summary.map", &join(&own)))
        .iter()
        .map(|x| {
            let mean = x.iter().sum::<f64>() / width as f64;
            let x: Vec<f64> = x.iter().map(|x| x - mean).collect();
            let normed = super::rms(&x, point.get("summary.norm.gain"), 1e-6);
            let bias = point.get("summary.norm.bias");
            let normed: Vec<f64> = normed.iter().zip(bias).map(|(x, b)| x + b).collect();
            point.linear("summary.key", &normed)
        })
        .collect();
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let [query, key, value] = [0, 1, 2].map(|p| part(p, index));
            let far_key = head(&keys, index, channels);
            (0..len)
                .map(|at| {
                    let (r, c) = (at / columns, at % columns);
                    let direct = row(r).into_iter().filter(|&k| !settings.causal || k <= at);
                    // Who speaks for each other row in this column.
                    let others = (0..len.div_ceil(columns))
                        .filter(|&other| other != r && !(settings.causal && other > r))
                        .map(|other| *row(other).get(c).unwrap_or(&(len - 1)));
                    let met: Vec<(f64, &Vec<f64>)> = direct
                        .map(|k| (dot(&query[at], &key[k]), &value[k]))
                        .chain(others.map(|k| (dot(&query[at], &far_key[k]), &own[index][k])))
                        .collect();
                    let scores: Vec<f64> = met.iter().map(|(score, _)| score / scale).collect();
                    let values: Vec<&Vec<f64>> = met.iter().map(|(_, value)| *value).collect();
                    weighted(&soften(&scores), &values)
                })
                .collect()
        })
        .collect();
    point.linears("output", &join(&mixed))
}

pub fn summary(settings: &SummaryAttention, point: &Point) -> Rows {
    if let Spans::Axial(axial_settings) = &settings.spans {
        return axial(settings, axial_settings.columns, point);
    }
    let qkv = point.linears("qkv", &point.x);
    let (heads, width, len) = (settings.heads, point.x[0].len(), point.x.len());
    let channels = width / heads;
    let scale = (channels as f64).sqrt();
    let largest = |x: &Rows, span: &[usize]| -> Vec<f64> {
        (0..channels)
            .map(|c| {
                span.iter()
                    .map(|&j| x[j][c])
                    .fold(f64::NEG_INFINITY, f64::max)
            })
            .collect()
    };
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let part = |part: usize| head(&qkv, part * heads + index, channels);
            let (query, key) = (part(0), part(1));
            let matrix: Rows = (0..len)
                .map(|at| {
                    let (direct, spans) = tiling(settings, at, len);
                    let mut met: Vec<usize> = direct
                        .iter()
                        .chain(spans.iter().flatten())
                        .copied()
                        .collect();
                    met.sort_unstable();
                    let all = if settings.causal && matches!(settings.spans, Spans::Doubling(_)) {
                        at + 1
                    } else if settings.causal {
                        met.len()
                    } else {
                        len
                    };
                    assert!(met.iter().copied().eq(0..all), "every token once: {met:?}");
                    let near = direct.iter().map(|&k| dot(&query[at], &key[k]) / scale);
                    let far = spans
                        .iter()
                        .map(|span| dot(&query[at], &largest(&key, span)) / scale);
                    let shares = soften(&near.chain(far).collect::<Vec<_>>());
                    let mut row = vec![0.0; len];
                    for (&k, share) in direct.iter().zip(&shares) {
                        row[k] = *share;
                    }
                    for (span, share) in spans.iter().zip(&shares[direct.len()..]) {
                        let asks = largest(&query, span);
                        let inner: Vec<f64> =
                            span.iter().map(|&j| dot(&asks, &key[j]) / scale).collect();
                        for (&j, inner) in span.iter().zip(soften(&inner)) {
                            row[j] = share * inner;
                        }
                    }
                    row
                })
                .collect();
            apply(&matrix, &part(2))
        })
        .collect();
    point.linears("output", &join(&mixed))
}

pub fn routed(settings: &RoutedAttention, point: &Point, base: &Point) -> Rows {
    let qkv = point.linears("qkv", &point.x);
    let (heads, width, len) = (settings.heads, point.x[0].len(), point.x.len());
    let channels = width / heads;
    let count = len.div_ceil(settings.block);
    // Which block a token stands in, and how many blocks there are.
    let (block_of, count): (Box<dyn Fn(usize) -> usize>, usize) = match &settings.grid {
        None => (Box::new(|at| at / settings.block), count),
        Some(grid) => {
            let (columns, wide) = (grid.columns, grid.block_columns);
            let across = columns.div_ceil(wide);
            let high = settings.block / wide;
            let of = move |at: usize| at / columns / high * across + at % columns / wide;
            (Box::new(of), len.div_ceil(columns * high) * across)
        }
    };
    let block = |b: usize| -> Vec<usize> { (0..len).filter(|&at| block_of(at) == b).collect() };
    let routes: Vec<Vec<usize>> = {
        let qkv = base.linears("qkv", &base.x);
        let mean = |part: usize, b: usize| {
            let mut mean = vec![0.0; width];
            for at in block(b) {
                let row = &qkv[at][part * width..(part + 1) * width];
                add(&mut mean, row, 1.0 / block(b).len() as f64);
            }
            mean
        };
        (0..count)
            .map(|q| {
                let mut order: Vec<usize> = (0..count).filter(|&b| !block(b).is_empty()).collect();
                let suits = |k: usize| dot(&mean(0, q), &mean(1, k));
                order.sort_by(|&a, &b| suits(b).total_cmp(&suits(a)));
                order.truncate(settings.keep);
                order
            })
            .collect()
    };
    let mixed: Vec<Rows> = (0..heads)
        .map(|index| {
            let part = |part: usize| head(&qkv, part * heads + index, channels);
            let (query, key) = (part(0), part(1));
            let matrix: Rows = (0..len)
                .map(|at| {
                    let route = &routes[block_of(at)];
                    let keys: Vec<usize> = route.iter().flat_map(|&b| block(b)).collect();
                    let score = |&k: &usize| dot(&query[at], &key[k]) / (channels as f64).sqrt();
                    let shares = soften(&keys.iter().map(score).collect::<Vec<_>>());
                    let mut row = vec![0.0; len];
                    keys.iter()
                        .zip(shares)
                        .for_each(|(&k, share)| row[k] = share);
                    row
                })
                .collect();
            apply(&matrix, &part(2))
        })
        .collect();
    let value = qkv.iter().map(|row| row[2 * width..].to_vec()).collect();
    let local = match &settings.grid {
        None => point.depthwise("convolution", &value, settings.kernel / 2),
        Some(grid) => point.depthwise_grid("convolution", &value, grid.columns),
    };
    point.linears("output", &sum(&join(&mixed), &local))
}
