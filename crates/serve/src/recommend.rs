use cloze_data::ItemVocabulary;

/// A model that recommends items, whatever it runs on.
pub trait Recommend: Send + Sync {
    /// The items.
    fn vocabulary(&self) -> &ItemVocabulary;

    /// Longest history in items; of longer ones the newest count.
    fn max_len(&self) -> usize;

    /// Whether a history's own items are left out where a request does not say.
    fn excludes_seen(&self) -> bool;

    /// The best items for each history, best first, with their scores. No history is empty.
    fn recommend(&self, histories: &[&[u32]], choice: &Choice) -> Vec<Vec<(u32, f32)>>;
}

/// What may be recommended, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Most recommendations for a history.
    pub top: usize,
    /// Leave the history's own items out.
    pub exclude_seen: bool,
    /// Nothing but these, ascending; none: anything.
    pub allow: Option<Vec<u32>>,
    /// None of these, ascending.
    pub deny: Vec<u32>,
}
