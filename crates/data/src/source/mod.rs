//! Event logs from files: who took which item, and when.

/// One interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Index into [`Log::users`].
    pub user: u32,
    /// Index into [`Log::items`].
    pub item: u32,
    /// When, in the unit of its source: integers as given, microseconds for floats' and ISO 8601 dates; 0 when untimed.
    pub time: i64,
}

/// An event log in memory: ids are interned, in order of first sight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// User ids.
    pub users: Vec<String>,
    /// Item ids.
    pub items: Vec<String>,
    /// Interactions, in the order of the files.
    pub events: Vec<Event>,
    /// Whether the source has times.
    pub timed: bool,
}
