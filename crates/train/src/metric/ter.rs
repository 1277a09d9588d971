//! Translation edit rate: how many words must be inserted, deleted, replaced or moved to make the reference.
//!
//! ```text
//! TER = 100 · edits / words of the reference
//! ```
//!
//! A run of words that also stands in the reference may be moved as one edit. Finding the fewest edits with moves takes
//! too long, so the best single move is made as long as one helps, and moves are limited in length, in distance and in
//! number tried. Of several references the fewest edits count, over the mean of their lengths.
//!
//! # Source
//! Snover et al., A Study of Translation Edit Rate, AMTA 2006; the limits and the order of preference are those of the
//! program tercom, as sacrebleu 2.6 has them.

use std::collections::HashMap;

use super::text;

/// Longest run that is moved.
const MAX_MOVE_WORDS: usize = 10;
/// Farthest that it may stand in the reference from where it stands in the hypothesis.
const MAX_MOVE_DISTANCE: usize = 50;
/// Cells beside the diagonal in which edits are sought.
const BEAM: usize = 25;
/// Moves that are tried in all for one hypothesis.
const MAX_MOVES_TRIED: usize = 1000;

/// How texts become words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Part punctuation from words, and resolve `&amp;` and its like.
    pub normalize: bool,
    /// Leave out `. , ? : ; ! " ( )`.
    pub no_punctuation: bool,
    /// Tell capital from small letters.
    pub case_sensitive: bool,
}

/// Edits of one hypothesis, or of all when added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ter {
    /// Edits.
    pub edits: u64,
    /// Words of the reference; of several their mean.
    pub reference_len: f64,
}

impl Ter {
    /// The edits of one hypothesis.
    ///
    /// # Panics
    /// If there is no reference.
    pub fn of(hypothesis: &str, references: &[&str], settings: Settings) -> Self {
        assert!(!references.is_empty(), "there is a reference");
        let mut numbers = HashMap::new();
        let mut numbered = |line: &str| -> Vec<u32> {
            let words = text::words(line).map(|word| {
                let next = numbers.len() as u32;
                *numbers.entry(word.to_owned()).or_insert(next)
            });
            words.collect()
        };
        let hypothesis = numbered(&settings.prepare(hypothesis));
        let (mut fewest, mut length) = (u64::MAX, 0);
        for reference in references {
            // sacrebleu does it twice with references; the second time parts an `'s` that stood before punctuation.
            let reference = numbered(&settings.prepare(&settings.prepare(reference)));
            fewest = fewest.min(edits(&hypothesis, &reference));
            length += reference.len();
        }
        Self {
            edits: fewest,
            reference_len: length as f64 / references.len() as f64,
        }
    }

    /// The rate: 0 for equal texts, and above 100 where there are more edits than words. 100 for words without any in
    /// the reference.
    pub fn score(&self) -> f64 {
        if self.reference_len > 0.0 {
            100.0 * (self.edits as f64 / self.reference_len)
        } else if self.edits > 0 {
            100.0
        } else {
            0.0
        }
    }
}

impl std::ops::AddAssign<&Self> for Ter {
    fn add_assign(&mut self, other: &Self) {
        self.edits += other.edits;
        self.reference_len += other.reference_len;
    }
}

impl Settings {
    fn prepare(self, line: &str) -> String {
        let mut line = text::trim_end(line).to_owned();
        if line.is_empty() {
            return line;
        }
        if !self.case_sensitive {
            line = line.to_lowercase();
        }
        if self.normalize {
            line = text::unescape(&line.replace("\n-", "").replace('\n', " "));
            line = text::surround(&format!(" {line} "), text::is_western_mark);
            line = text::part_western(&line.replace("'s ", " 's "));
        }
        if self.no_punctuation {
            line.retain(|character| !".,?:;!\"()".contains(character));
        }
        line
    }
}

fn edits(hypothesis: &[u32], reference: &[u32]) -> u64 {
    if reference.is_empty() {
        return hypothesis.len() as u64;
    }
    let mut words = hypothesis.to_vec();
    let (mut moves, mut tried) = (0, 0);
    loop {
        let table = Table::of(&words, reference);
        let best = best_move(&words, reference, &table, &mut tried);
        match best {
            Some(best) if tried < MAX_MOVES_TRIED && best.gain > 0 => words = best.words,
            _ => return moves + table.distance(),
        }
        moves += 1;
    }
}

/// What a word of one text becomes in the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Replace,
    Delete,
    Insert,
}

/// The distance between beginnings of the two texts, and its last edit.
type Cell = (u64, Edit);

/// A distance that was not computed: far from overflow, far above any other.
const UNKNOWN: Cell = (u64::MAX / 2, Edit::Keep);

/// Gives the rows of the table of distances, one for each number of words from none up, within the beam.
fn rows(words: &[u32], reference: &[u32], mut each: impl FnMut(&[Cell])) {
    let width = reference.len() + 1;
    let mut before: Vec<Cell> = (0..width as u64)
        .map(|count| (count, Edit::Insert))
        .collect();
    let mut own = vec![UNKNOWN; width];
    let slope = reference.len() as f64 / words.len().max(1) as f64;
    // Of texts of very different lengths neighbouring rows might have no column in common.
    let beam = if slope / 2.0 > BEAM as f64 {
        (slope / 2.0).ceil() as usize + BEAM
    } else {
        BEAM
    };
    each(&before);
    for row in 1..=words.len() {
        own.fill(UNKNOWN);
        let diagonal = (row as f64 * slope).floor() as usize;
        let end = if row == words.len() {
            width
        } else {
            width.min(diagonal + beam)
        };
        for column in diagonal.saturating_sub(beam)..end {
            if column == 0 {
                own[0] = (before[0].0 + 1, Edit::Delete);
                continue;
            }
            let aligned = if words[row - 1] == reference[column - 1] {
                (before[column - 1].0, Edit::Keep)
            } else {
                (before[column - 1].0 + 1, Edit::Replace)
            };
            let deleted = (before[column].0 + 1, Edit::Delete);
            let inserted = (own[column - 1].0 + 1, Edit::Insert);
            for edit in [aligned, deleted, inserted] {
                if edit.0 < own[column].0 {
                    own[column] = edit;
                }
            }
        }
        each(&own);
        std::mem::swap(&mut before, &mut own);
    }
}

/// The fewest edits without moves.
fn distance(words: &[u32], reference: &[u32]) -> u64 {
    let mut last = 0;
    rows(words, reference, |row| last = row[reference.len()].0);
    last
}

/// The whole table.
struct Table {
    width: usize,
    /// `[words + 1, reference + 1]`.
    cells: Vec<Cell>,
}

impl Table {
    fn of(words: &[u32], reference: &[u32]) -> Self {
        let width = reference.len() + 1;
        let mut cells = Vec::with_capacity((words.len() + 1) * width);
        rows(words, reference, |row| cells.extend_from_slice(row));
        Self { width, cells }
    }

    fn distance(&self) -> u64 {
        self.cells[self.cells.len() - 1].0
    }

    /// The edits from the first word to the last.
    fn path(&self) -> Vec<Edit> {
        let mut path = Vec::new();
        let (mut row, mut column) = (self.cells.len() / self.width - 1, self.width - 1);
        while row > 0 || column > 0 {
            let edit = self.cells[row * self.width + column].1;
            path.push(edit);
            row -= usize::from(edit != Edit::Insert);
            column -= usize::from(edit != Edit::Delete);
        }
        path.reverse();
        path
    }
}

struct Move {
    /// Edits that it saves.
    gain: i64,
    length: usize,
    start: usize,
    target: usize,
    words: Vec<u32>,
}

impl Move {
    /// The most saved, then the longest run, then the earliest, then moved to the earliest place.
    fn rank(&self) -> (i64, usize, std::cmp::Reverse<(usize, usize)>) {
        (
            self.gain,
            self.length,
            std::cmp::Reverse((self.start, self.target)),
        )
    }
}

fn best_move(words: &[u32], reference: &[u32], table: &Table, tried: &mut usize) -> Option<Move> {
    // For each word of the reference the place in the hypothesis at or, where it is missing, after which it stands: one
    // more than the index, so that 0 is before all.
    let (mut place, mut is_wrong, mut is_missed) = (Vec::new(), Vec::new(), Vec::new());
    for edit in table.path() {
        if edit != Edit::Insert {
            is_wrong.push(edit != Edit::Keep);
        }
        if edit != Edit::Delete {
            place.push(is_wrong.len());
            is_missed.push(edit != Edit::Keep);
        }
    }
    let mut best: Option<Move> = None;
    for (start, at, length) in common_runs(words, reference) {
        // Neither what is in its place nor what is where it should be is moved, nor a run into itself.
        let useless = !is_wrong[start..start + length].contains(&true)
            || !is_missed[at..at + length].contains(&true)
            || (start + 1..=start + length).contains(&place[at]);
        if useless {
            continue;
        }
        let mut last = None;
        for offset in 0..=length {
            // Behind the place of the word before the run in the reference, then behind that of each word of it.
            let target = match (at + offset).checked_sub(1) {
                None => 0,
                Some(word) => place[word],
            };
            if last.replace(target) == Some(target) {
                continue;
            }
            let words = moved(words, start, length, target);
            let gain = table.distance() as i64 - distance(&words, reference) as i64;
            *tried += 1;
            let next = Move {
                gain,
                length,
                start,
                target,
                words,
            };
            if best.as_ref().is_none_or(|best| next.rank() > best.rank()) {
                best = Some(next);
            }
        }
        if *tried >= MAX_MOVES_TRIED {
            break;
        }
    }
    best
}

/// Runs that both texts have: where in each, and how many words.
fn common_runs(words: &[u32], reference: &[u32]) -> Vec<(usize, usize, usize)> {
    let mut runs = Vec::new();
    for start in 0..words.len() {
        for at in 0..reference.len() {
            if start.abs_diff(at) <= MAX_MOVE_DISTANCE {
                let equal = words[start..]
                    .iter()
                    .zip(&reference[at..])
                    .take(MAX_MOVE_WORDS);
                let length = equal.take_while(|(a, b)| a == b).count();
                runs.extend((1..=length).map(|length| (start, at, length)));
            }
        }
    }
    runs
}

fn moved(words: &[u32], start: usize, length: usize, target: usize) -> Vec<u32> {
    let run = &words[start..start + length];
    let mut rest = [&words[..start], &words[start + length..]].concat();
    // A place within the run means as many words behind its start.
    let target = if target > start + length {
        target - length
    } else {
        target.min(rest.len())
    };
    rest.splice(target..target, run.iter().copied());
    rest
}
