use cloze_spec::mixer::{GranularPool, Pool, Random, Room, TokenMlp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Point, Rows, add, apply, dot, gelu, softmax};

pub fn neighbours(settings: &Pool, point: &Point) -> Rows {
    let len = point.x.len();
    let matrix: Rows = (0..len)
        .map(|at| {
            let seen = |k: usize| at.abs_diff(k) <= settings.radius && !(settings.causal && k > at);
            let count = (0..len).filter(|&k| seen(k)).count() as f64;
            (0..len)
                .map(|k| {
                    let own = if k == at { 1.0 } else { 0.0 };
                    let mean = if seen(k) { 1.0 / count } else { 0.0 };
                    mean - own
                })
                .collect()
        })
        .collect();
    apply(&matrix, &point.x)
}

/// Numbers by chance of a seed and a name.
pub fn drawn(seed: u64, name: &str) -> ChaCha8Rng {
    let mut stream = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        stream = (stream ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

pub fn random(settings: &Random, room: Room, point: &Point) -> Rows {
    let mut rng = drawn(settings.seed, "mixer");
    let len = point.x.len();
    let matrix: Rows = (0..len)
        .map(|at| {
            let row: Vec<f64> = (0..room.max_len)
                .map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX))
                .collect();
            let seen = if settings.causal { at + 1 } else { len };
            let mut row = softmax(&row[..seen]);
            row.resize(len, 0.0);
            row
        })
        .collect();
    apply(&matrix, &point.x)
}

pub fn token_mlp(settings: &TokenMlp, room: Room, point: &Point) -> Rows {
    let (len, width) = (point.x.len(), point.x[0].len());
    let (up, down) = (point.get("up.weight"), point.get("down.weight"));
    let mut mixed = vec![vec![0.0; width]; len];
    for channel in 0..width {
        let inner: Vec<f64> = (0..settings.width)
            .map(|f| {
                let row = &up[f * room.max_len..][..len];
                let sum: f64 = row.iter().zip(&point.x).map(|(w, x)| w * x[channel]).sum();
                gelu(sum + point.get("up.bias")[f])
            })
            .collect();
        for (at, mixed) in mixed.iter_mut().enumerate() {
            let row = &down[at * settings.width..][..settings.width];
            mixed[channel] = dot(row, &inner) + point.get("down.bias")[at];
        }
    }
    mixed
}

pub fn fourier(point: &Point) -> Rows {
    let (len, width) = (point.x.len(), point.x[0].len());
    let value = |at: usize, channel: usize| -> f64 {
        let term = |from: usize, other: usize| {
            let turn = (at * from) as f64 / len as f64 + (channel * other) as f64 / width as f64;
            point.x[from][other] * (std::f64::consts::TAU * turn).cos()
        };
        (0..len)
            .map(|from| (0..width).map(|other| term(from, other)).sum::<f64>())
            .sum()
    };
    (0..len)
        .map(|at| (0..width).map(|channel| value(at, channel)).collect())
        .collect()
}

pub fn granular(settings: &GranularPool, point: &Point) -> Rows {
    let (len, width) = (point.x.len(), point.x[0].len());
    let maps = point.linears("maps", &point.x);
    let part = |at: usize, part: usize, channel: usize| maps[at][part * width + channel];
    let channels = width / settings.heads;
    let mut sequence = vec![0.0; width];
    for head in 0..settings.heads {
        let of = |at: usize, index: usize| -> Vec<f64> {
            (0..channels)
                .map(|c| part(at, index, head * channels + c))
                .collect()
        };
        let mut mean = vec![0.0; channels];
        (0..len).for_each(|at| add(&mut mean, &of(at, 0), 1.0 / len as f64));
        let scores: Vec<f64> = (0..len)
            .map(|at| dot(&mean, &of(at, 1)) / (channels as f64).sqrt())
            .collect();
        for (at, share) in softmax(&scores).into_iter().enumerate() {
            add(
                &mut sequence[head * channels..][..channels],
                &of(at, 1),
                share,
            );
        }
    }
    let most = |from: usize, to: usize, index: usize, channel: usize| {
        (from..to)
            .map(|at| part(at, index, channel))
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let mixed: Rows = (0..len)
        .map(|at| {
            let first = at / settings.segment * settings.segment;
            let end = (first + settings.segment).min(len);
            let near = at.saturating_sub(settings.radius)..(at + settings.radius + 1).min(len);
            (0..width)
                .map(|c| {
                    (sequence[c] + most(first, end, 3, c)) * part(at, 2, c)
                        + most(near.start, near.end, 4, c)
                })
                .collect()
        })
        .collect();
    point.linears("output", &mixed)
}
