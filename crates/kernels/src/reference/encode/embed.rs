//! Tokens into vectors by plain loops.

use super::norm::norm;
use crate::op::encode::embed::{Embed, Table};
use crate::reference::Float;

/// Each token becomes the sum of its rows, normed if so set.
pub fn embed<T: Float>(tables: &Embed, ids: &[u32], segments: &[u32], offsets: &[u32]) -> Vec<T> {
    let width = tables.width;
    let mut out = vec![T::ZERO; ids.len() * width];
    for bounds in offsets.windows(2) {
        for token in bounds[0] as usize..bounds[1] as usize {
            let place = token - bounds[0] as usize;
            let mut add = |table: Table<'_>, row: usize| {
                for i in 0..width {
                    out[token * width + i] += T::from_f64(number(table, row * width + i));
                }
            };
            add(tables.tokens, ids[token] as usize);
            if let Some((table, offset)) = tables.positions {
                add(Table::F32(table), offset + place);
            }
            if let Some(table) = tables.segments {
                let table = Table::F32(table);
                add(table, segments.get(token).map_or(0, |&s| s as usize));
            }
        }
    }
    match &tables.norm {
        Some(settings) => norm(settings, &out),
        None => out,
    }
}

fn number(table: Table<'_>, index: usize) -> f64 {
    match table {
        Table::F32(floats) => floats[index].into(),
        Table::Bf16(bits) => f32::from_bits(u32::from(bits[index]) << 16).into(),
        Table::F16(bits) => {
            let bits = bits[index];
            let (exponent, fraction) =
                (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
            let size = match exponent {
                0 => fraction * f64::from(-14).exp2(),
                _ => (1.0 + fraction) * f64::from(exponent - 15).exp2(),
            };
            if bits >> 15 == 1 { -size } else { size }
        }
    }
}
