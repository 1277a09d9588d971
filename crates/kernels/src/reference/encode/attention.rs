//! Attention with distances by plain loops.
//!
//! # Source
//! Vaswani et al., Attention Is All You Need, NIPS 2017, arXiv:1706.03762, §3.2.

use crate::op::encode::attention::{Attention, Position};
use crate::reference::{Float, sum};

/// Each asked-for token becomes the mean of its sequence's values, weighted by the softmax of its scores.
///
/// # Shapes
/// `qkv: [N, 3·H·K]` → `[N, H·K]`, or `[S, H·K]` where S queries are named.
pub fn forward<T: Float>(shape: &Attention, qkv: &[T]) -> Vec<T> {
    let (size, width) = (shape.head_width, shape.heads * shape.head_width);
    let tokens = shape.offsets[shape.offsets.len() - 1];
    let all: Vec<u32> = (0..tokens).collect();
    let queries = shape.queries.unwrap_or(&all);
    let mut out = vec![T::ZERO; queries.len() * width];
    let at = |token: usize, part: usize, head: usize, i: usize| {
        qkv[token * 3 * width + part * width + head * size + i]
    };
    for (row, &token) in queries.iter().enumerate() {
        let query = token as usize;
        let sequence = shape.offsets.partition_point(|&start| start <= token) - 1;
        let (start, end) = (
            shape.offsets[sequence] as usize,
            shape.offsets[sequence + 1] as usize,
        );
        let window = shape.window.unwrap_or(usize::MAX);
        let seen: Vec<usize> = (start..end)
            .filter(|&key| key.abs_diff(query) <= window)
            .collect();
        let growth = match shape.log_scale {
            Some(most) if end - start > most => ((end - start) as f64).ln() / (most as f64).ln(),
            _ => 1.0,
        };
        let scale = T::from_f64(f64::from(shape.scale) * growth);
        for head in 0..shape.heads {
            let score = |&key: &usize| {
                let distance = key as isize - query as isize;
                let content = sum(size, |i| at(query, 0, head, i) * at(key, 1, head, i));
                let [for_query, for_key] = vectors(shape, head, distance).map(|vector| {
                    move |i: usize| T::from_f64(vector.map_or(0.0, |vector| vector[i].into()))
                });
                let of_query = sum(size, |i| at(query, 0, head, i) * for_query(i));
                let of_key = sum(size, |i| at(key, 1, head, i) * for_key(i));
                (content + of_query + of_key) * scale + T::from_f64(bias(shape, head, distance))
            };
            let scores: Vec<T> = seen.iter().map(score).collect();
            let top = scores.iter().fold(T::NEG_INFINITY, |top, &s| top.max(s));
            let total = sum(scores.len(), |key| (scores[key] - top).exp());
            for i in 0..size {
                out[row * width + head * size + i] = sum(scores.len(), |key| {
                    (scores[key] - top).exp() / total * at(seen[key], 2, head, i)
                });
            }
        }
    }
    out
}

/// What the head adds to the score of a key `distance` after the query.
fn bias(shape: &Attention, head: usize, distance: isize) -> f64 {
    match shape.position {
        Position::None | Position::Key { .. } | Position::Disentangled { .. } => 0.0,
        Position::Alibi { slopes } => -f64::from(slopes[head]) * distance.unsigned_abs() as f64,
        Position::Bias { table } => {
            let columns = table.len() / shape.heads;
            let max = columns as isize / 2;
            f64::from(table[head * columns + (distance.clamp(-max, max) + max) as usize])
        }
    }
}

/// What the query, and the key `distance` after it, meet.
fn vectors<'a>(shape: &Attention<'a>, head: usize, distance: isize) -> [Option<&'a [f32]>; 2] {
    let size = shape.head_width;
    let column = |columns: usize| {
        let max = columns as isize / 2;
        (max - distance).clamp(0, 2 * max) as usize
    };
    match shape.position {
        Position::None | Position::Alibi { .. } | Position::Bias { .. } => [None; 2],
        Position::Key { table, keys } => {
            let vector = &table[column(table.len() / size) * size..][..size];
            [Some(vector), keys.then_some(vector)]
        }
        Position::Disentangled {
            keys,
            queries,
            rows,
        } => {
            let row = rows[column(rows.len())] as usize;
            let from = row * shape.heads * size + head * size;
            [keys, queries].map(|table| table.map(|table| &table[from..][..size]))
        }
    }
}
