//! Tokens into vectors by plain loops.

use super::norm::norm;
use crate::op::encode::embed::Embed;
use crate::reference::Float;

/// Each token becomes the sum of its rows, normed if so set.
pub fn embed<T: Float>(tables: &Embed, ids: &[u32], segments: &[u32], offsets: &[u32]) -> Vec<T> {
    let width = tables.width;
    let mut out = vec![T::ZERO; ids.len() * width];
    for bounds in offsets.windows(2) {
        for token in bounds[0] as usize..bounds[1] as usize {
            let place = token - bounds[0] as usize;
            let mut add = |table: &[f32], row: usize| {
                for i in 0..width {
                    out[token * width + i] += T::from_f64(table[row * width + i].into());
                }
            };
            add(tables.tokens, ids[token] as usize);
            if let Some((table, offset)) = tables.positions {
                add(table, offset + place);
            }
            if let Some(table) = tables.segments {
                add(table, segments.get(token).map_or(0, |&s| s as usize));
            }
        }
    }
    match &tables.norm {
        Some(settings) => norm(settings, &out),
        None => out,
    }
}
