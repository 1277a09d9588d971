//! What a trained model has to beat: recommenders that only count.
//!
//! Each is fitted to training sequences and scores every item for a history: `score(history, out)`, where `out` has
//! one place for each item. They have no randomness, and equal scores are left equal for the ranking to settle.

pub mod bigram;
pub mod item_knn;
pub mod popularity;

pub use bigram::Bigram;
pub use item_knn::ItemKnn;
pub use popularity::Popularity;

/// Rows of items with values, laid end to end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SparseRows {
    /// Where each row starts, and one last entry: where the last one ends.
    offsets: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl SparseRows {
    pub(crate) fn new(rows: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Self {
        let mut sparse = Self {
            offsets: vec![0],
            entries: Vec::new(),
        };
        for row in rows {
            sparse.entries.extend(row);
            sparse.offsets.push(sparse.entries.len());
        }
        sparse
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn get(&self, row: u32) -> &[(u32, f32)] {
        &self.entries[self.offsets[row as usize]..self.offsets[row as usize + 1]]
    }

    /// The same by column: which of the `count` columns stand in which rows, rising, with their values.
    pub(crate) fn transposed(&self, count: usize) -> Self {
        let mut ends = vec![0; count + 1];
        for &(column, _) in &self.entries {
            ends[column as usize + 1] += 1;
        }
        for column in 0..count {
            ends[column + 1] += ends[column];
        }
        let offsets = ends.clone();
        let mut entries = vec![(0, 0.0); self.entries.len()];
        for row in 0..self.offsets.len() as u32 - 1 {
            for &(column, value) in self.get(row) {
                let next = &mut ends[column as usize];
                entries[*next] = (row, value);
                *next += 1;
            }
        }
        Self { offsets, entries }
    }
}
