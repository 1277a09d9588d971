//! From files to a data set that is ready to be learned from.

use std::path::PathBuf;

use cloze_spec::data::Interactions;

use crate::source::{self, BadRows, Log, ReadReport};
use crate::{Error, ItemVocabulary, Sequences, Split, filter, titles};

/// A log of interactions, read, filtered and split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The items; tokens are in order of first sight.
    pub vocabulary: ItemVocabulary,
    /// The users, by number.
    pub user_ids: Vec<String>,
    /// What to train on and what to measure on.
    pub split: Split,
    /// What was read.
    pub report: ReadReport,
    /// How much is left.
    pub stats: Stats,
    /// A hash of users, items and events in order; the same on every machine. Equal for equal data, so that training
    /// is resumed on the data it began with.
    pub fingerprint: u64,
}

/// Sizes of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events read.
    pub events_read: usize,
    /// Users read.
    pub users_read: usize,
    /// Items read.
    pub items_read: usize,
    /// Events left after dropping duplicates, rare users and rare items.
    pub events: usize,
    /// Users left.
    pub users: usize,
    /// Items left.
    pub items: usize,
    /// Items left that have a title.
    pub titled_items: usize,
    /// Rounds of dropping rare users and items.
    pub rounds: usize,
}

/// Reads, filters and splits a log: `files` if there are any, else those that `settings` name.
///
/// The vocabulary is that of the whole filtered log, held-out parts included: an item first bought in them can be a
/// target, and counts as a miss of a model that never saw it. Its counts are of the training part.
///
/// # Errors
/// Whatever is wrong with the files; and if nothing is left to train on.
pub fn prepare(
    settings: &Interactions,
    files: &[PathBuf],
    bad_rows: BadRows,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Dataset, Error> {
    let files = if files.is_empty() {
        &settings.files
    } else {
        files
    };
    if files.is_empty() {
        return Err(Error::NoFiles);
    }
    let (mut log, mut report) = source::read(files, settings, bad_rows, progress)?;
    let mut stats = Stats {
        events_read: log.events.len(),
        users_read: log.users.len(),
        items_read: log.items.len(),
        ..Stats::default()
    };
    filter::drop_duplicates(&mut log, settings.duplicates);
    stats.rounds = filter::k_core(&mut log, settings.min_user_events, settings.min_item_events);
    if log.events.is_empty() {
        return Err(Error::NothingLeft {
            rows: report.rows,
            skipped: report.skipped,
            min_user_events: settings.min_user_events,
            min_item_events: settings.min_item_events,
        });
    }
    stats.events = log.events.len();
    stats.users = log.users.len();
    stats.items = log.items.len();
    let sequences = Sequences::from_log(&log);
    let Log { users, items, .. } = log;
    let fingerprint = fingerprint(&users, &items, &sequences);
    let split = Split::new(&sequences, &settings.split)?;
    let mut counts = vec![0; items.len()];
    for &item in &split.train.items {
        counts[item as usize] += 1;
    }
    let titles = match &settings.titles {
        None => vec![None; items.len()],
        Some(table) => {
            let (mut titles, read) = titles::read(table, bad_rows)?;
            report.skipped += read.skipped;
            report.first_skipped.extend(read.first_skipped);
            items.iter().map(|item| titles.remove(item)).collect()
        }
    };
    stats.titled_items = titles.iter().flatten().count();
    Ok(Dataset {
        vocabulary: ItemVocabulary::new(items, titles, counts),
        user_ids: users,
        split,
        report,
        stats,
        fingerprint,
    })
}

/// FNV-1a with 64 bits over lengths, ids, items and times.
///
/// # Source
/// Fowler, Noll, Vo and Eastlake, The FNV Non-Cryptographic Hash Algorithm, draft-eastlake-fnv.
fn fingerprint(users: &[String], items: &[String], sequences: &Sequences) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for ids in [users, items] {
        add(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            add(&(id.len() as u64).to_le_bytes());
            add(id.as_bytes());
        }
    }
    for &offset in &sequences.offsets {
        add(&(offset as u64).to_le_bytes());
    }
    for &item in &sequences.items {
        add(&item.to_le_bytes());
    }
    for &time in &sequences.times {
        add(&time.to_le_bytes());
    }
    hash
}
