//! Merging pairs of pieces, the most frequent first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Pieces and their ids.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    spellings: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Pieces {
    /// Number of ids, unused ones included.
    pub fn len(&self) -> usize {
        self.spellings.len()
    }

    pub fn id(&self, spelling: &str) -> Option<u32> {
        self.ids.get(spelling).copied()
    }

    /// The id of `spelling`, the next free one if it is new.
    pub fn add(&mut self, spelling: &str) -> u32 {
        if let Some(id) = self.id(spelling) {
            return id;
        }
        let id = self.len() as u32;
        self.put(spelling, id);
        id
    }

    /// Gives `spelling` the id it has elsewhere.
    pub fn put(&mut self, spelling: &str, id: u32) {
        let used = id as usize + 1;
        self.spellings.resize(self.len().max(used), String::new());
        spelling.clone_into(&mut self.spellings[id as usize]);
        self.ids.insert(spelling.to_owned(), id);
    }

    /// Spellings by id; empty where an id is not used.
    pub fn spellings(&self) -> &[String] {
        &self.spellings
    }
}

/// A pair that became one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    pub pair: (u32, u32),
    pub id: u32,
    /// How often the pair stood in the words.
    pub count: u64,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// Pieces in all.
    pub pieces: usize,
    /// How often a pair must stand in the words.
    pub least: u64,
}

/// A pair and the words it stands in; it may have left some of them.
#[derive(Default)]
struct Pair {
    count: u64,
    words: Vec<u32>,
}

/// Merges the most frequent pair of neighbours in `words`, each with its count, again and again; of pairs as frequent, the
/// one with the lower ids. New pieces are added to `pieces`; `prefix` is taken off the second of a pair. `tell` hears how
/// many pieces there are.
///
/// The result depends on the counts alone, not on the order of words. A vocabulary of such merges applied in their order,
/// on top of the pieces that the words began with, gives the same pieces.
/// # Source
/// Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, ACL 2016, arXiv:1508.07909, §3.2.
pub fn learn(
    pieces: &mut Pieces,
    mut words: Vec<(Vec<u32>, u64)>,
    prefix: &str,
    until: Until,
    tell: &mut dyn FnMut(usize),
) -> Vec<Merge> {
    let mut pairs: HashMap<(u32, u32), Pair> = HashMap::new();
    for (index, (word, count)) in (0..).zip(&words) {
        for pair in neighbours(word) {
            let pair = pairs.entry(pair).or_default();
            pair.count += count;
            if pair.words.last() != Some(&index) {
                pair.words.push(index);
            }
        }
    }
    let entry = |(&pair, state): (&(u32, u32), &Pair)| (state.count, Reverse(pair));
    // Entries may be out of date: a pair whose count fell is put back when it comes up, one whose count rose is in again.
    let mut queue: BinaryHeap<_> = pairs.iter().map(entry).collect();
    let mut merges = Vec::new();
    while pieces.len() < until.pieces {
        let Some((count, Reverse(pair))) = queue.pop() else {
            break;
        };
        let now = pairs.get(&pair).map_or(0, |pair| pair.count);
        if now != count {
            if 0 < now && now < count {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if count < until.least {
            break;
        }
        let [first, second] = [pair.0, pair.1].map(|id| &*pieces.spellings[id as usize]);
        let spelling = format!("{first}{}", second.strip_prefix(prefix).unwrap_or(second));
        let id = pieces.add(&spelling);
        merges.push(Merge { pair, id, count });
        let places = pairs.remove(&pair).map_or_else(Vec::new, |pair| pair.words);
        let mut grown = Vec::new();
        for index in places {
            let (word, count) = &mut words[index as usize];
            if !neighbours(word).any(|found| found == pair) {
                continue;
            }
            for old in neighbours(word) {
                // The merged pair itself is gone already.
                if let Some(old) = pairs.get_mut(&old) {
                    old.count -= *count;
                }
            }
            replace(word, pair, id);
            for new in neighbours(word) {
                let state = pairs.entry(new).or_default();
                state.count += *count;
                if (new.0 == id || new.1 == id) && state.words.last() != Some(&index) {
                    state.words.push(index);
                    grown.push(new);
                }
            }
        }
        grown.sort_unstable();
        grown.dedup();
        queue.extend(
            grown
                .iter()
                .filter_map(|pair| pairs.get_key_value(pair))
                .map(entry),
        );
        tell(pieces.len());
    }
    merges
}

fn neighbours(word: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    word.windows(2).map(|two| (two[0], two[1]))
}

/// Puts `id` in the place of every `pair` of `word`, from the left.
fn replace(word: &mut Vec<u32>, pair: (u32, u32), id: u32) {
    let (mut read, mut written) = (0, 0);
    while read < word.len() {
        let is_pair = word[read] == pair.0 && word.get(read + 1) == Some(&pair.1);
        word[written] = if is_pair { id } else { word[read] };
        read += 1 + usize::from(is_pair);
        written += 1;
    }
    word.truncate(written);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, counting everything anew for each merge.
    fn plain(words: &[(Vec<u32>, u64)], letters: u32, until: Until) -> Vec<Merge> {
        let mut pieces = letters_of(letters);
        let mut words = words.to_vec();
        let mut merges = Vec::new();
        while pieces.len() < until.pieces {
            let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
            for (word, count) in &words {
                neighbours(word).for_each(|pair| *counts.entry(pair).or_default() += count);
            }
            let best = counts
                .into_iter()
                .max_by_key(|&(pair, count)| (count, Reverse(pair)));
            let Some((pair, count)) = best.filter(|(_, count)| *count >= until.least) else {
                break;
            };
            let spelled = [pair.0, pair.1].map(|id| pieces.spellings()[id as usize].clone());
            let id = pieces.add(&spelled.concat());
            for (word, _) in &mut words {
                replace(word, pair, id);
            }
            merges.push(Merge { pair, id, count });
        }
        merges
    }

    fn letters_of(count: u32) -> Pieces {
        let mut pieces = Pieces::default();
        for letter in ('a'..).take(count as usize) {
            pieces.add(&letter.to_string());
        }
        pieces
    }

    proptest! {
        #[test]
        fn merges_are_those_of_counting_anew_each_time(
            words in proptest::collection::vec((proptest::collection::vec(0..3_u32, 0..12), 1..5_u64), 0..20),
            least in 1..4_u64,
        ) {
            let until = Until { pieces: 40, least };
            let expected = plain(&words, 3, until);
            let found = learn(&mut letters_of(3), words, "", until, &mut |_| {});
            prop_assert_eq!(found, expected);
        }
    }
}
