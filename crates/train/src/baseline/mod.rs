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
struct SparseRows {
    /// Where each row starts, and one last entry: where the last one ends.
    offsets: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl SparseRows {
    fn new(rows: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Self {
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

    fn get(&self, row: u32) -> &[(u32, f32)] {
        &self.entries[self.offsets[row as usize]..self.offsets[row as usize + 1]]
    }
}
