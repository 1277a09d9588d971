//! How much of a text is in the categories of a word list.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::terms::words;
use crate::{Error, Place};

/// Words in categories. An entry that ends with `*` stands for all words that begin so; a word may be in several categories.
///
/// # Source
/// Pennebaker et al., Linguistic Inquiry and Word Count, 2001, which has such lists and counts so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lexicon {
    /// Names of the categories, in the order of the shares.
    pub categories: Vec<String>,
    words: HashMap<String, Vec<u32>>,
    beginnings: HashMap<String, Vec<u32>>,
}

impl Lexicon {
    /// Reads a list as such programs have it, `.dic`: between two lines of `%` a number and a name for each category, after them
    /// a word and the numbers of its categories a line, all apart by blanks.
    ///
    /// # Errors
    /// If the file cannot be read, has no such lines, or names a category that it does not have.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let fail = |line: usize, message: String| {
            let place = Place::Line(line as u64 + 1);
            Err(Error::Text(format!(
                "{}: {place}: {message}",
                path.display()
            )))
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lexicon = Self::default();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut marks = 0;
        for (at, line) in text.lines().enumerate() {
            let mut parts = line.split_whitespace();
            let Some(first) = parts.next() else {
                continue;
            };
            match (first, marks) {
                ("%", _) => marks += 1,
                (_, 0) => return fail(at, "expected a line of % before the categories".to_owned()),
                (number, 1) => {
                    let name = parts.collect::<Vec<_>>().join(" ");
                    numbers.insert(number, lexicon.categories.len() as u32);
                    lexicon.categories.push(name);
                }
                (word, _) => {
                    let mut of = Vec::new();
                    for number in parts {
                        let Some(&category) = numbers.get(number) else {
                            return fail(
                                at,
                                format!("expected the number of a category, found {number:?}"),
                            );
                        };
                        of.push(category);
                    }
                    let word = word.to_lowercase();
                    match word.strip_suffix('*') {
                        Some(beginning) => lexicon.beginnings.insert(beginning.to_owned(), of),
                        None => lexicon.words.insert(word, of),
                    };
                }
            }
        }
        if marks < 2 || lexicon.categories.is_empty() {
            return fail(
                0,
                "expected categories between two lines of %, and words after them".to_owned(),
            );
        }
        Ok(lexicon)
    }

    /// Of a text's words, how many of 100 are in each category.
    pub fn shares(&self, text: &str) -> Vec<f32> {
        let text = text.to_lowercase();
        let mut counts = vec![0_u32; self.categories.len()];
        let mut total = 0_u32;
        for word in words(&text) {
            total += 1;
            let ends = word.char_indices().map(|(at, _)| at).chain([word.len()]);
            let beginnings = ends.filter_map(|end| self.beginnings.get(&word[..end]));
            let mut of: Vec<u32> = beginnings
                .chain(self.words.get(word))
                .flatten()
                .copied()
                .collect();
            of.sort_unstable();
            of.dedup();
            for category in of {
                if let Some(count) = counts.get_mut(category as usize) {
                    *count += 1;
                }
            }
        }
        let share = |count: u32| 100.0 * count as f32 / total.max(1) as f32;
        counts.into_iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_beginnings_count_once_a_category() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.dic");
        let list = "%\n1\tgood\n22 bad mood\n%\nlove* 1\nlovely 1 22\nHate 22\n";
        std::fs::write(&path, list).unwrap();
        let lexicon = Lexicon::read(&path).unwrap();
        assert_eq!(lexicon.categories, ["good", "bad mood"]);
        assert_eq!(lexicon.shares("Lovely! We hate it."), [25.0, 50.0]);
        assert_eq!(lexicon.shares("Loved, clove"), [50.0, 0.0]);
        assert_eq!(lexicon.shares(""), [0.0, 0.0]);
        for (text, expected) in [
            ("love 1", "line 1: expected a line of %"),
            (
                "%\n1 good\n%\nlove 2",
                "line 4: expected the number of a category, found \"2\"",
            ),
            ("%\n1 good", "expected categories between two lines"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Lexicon::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
