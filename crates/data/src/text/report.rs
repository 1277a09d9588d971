use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Limit, Long, Tokenizer};
use crate::Error;

/// How a tokenizer takes texts apart.
///
/// A word is what stands between white space, without punctuation at its ends, so that tokenizers can be compared whatever
/// they take for words. Scripts that put no blanks between words have none worth counting: there,
/// [`Self::chars_per_token`] says more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Texts.
    pub texts: u64,
    /// Their characters.
    pub chars: u64,
    /// Their words.
    pub words: u64,
    /// Their tokens, without special ones around them.
    pub tokens: u64,
    /// Tokens among them that stand for what the vocabulary cannot spell.
    pub unknown: u64,
    /// Tokens that have a part in words.
    word_tokens: u64,
    /// Words that are one token, and known.
    whole: u64,
    /// How many texts have how many tokens, special ones included.
    lengths: BTreeMap<usize, u64>,
    /// Words of most tokens, and how many.
    longest: Vec<(usize, String)>,
}

impl Report {
    /// Adds what `tokenizer` makes of `texts`, on the threads of the current pool of rayon.
    ///
    /// # Errors
    /// If it cannot take a text.
    pub fn add<T: AsRef<str> + Sync>(
        &mut self,
        tokenizer: &Tokenizer,
        texts: &[T],
    ) -> Result<(), Error> {
        const TEXTS: usize = 64;
        let some = |texts: &[T]| {
            let mut part = Self::default();
            for text in texts {
                part.add_text(tokenizer, text.as_ref())?;
            }
            Ok(part)
        };
        let parts: Vec<Result<Self, Error>> = texts.par_chunks(TEXTS).map(some).collect();
        parts.into_iter().try_for_each(|part| {
            self.merge(part?);
            Ok(())
        })
    }

    /// Tokens for each word.
    pub fn fertility(&self) -> f64 {
        share(self.word_tokens, self.words)
    }

    /// Words that are one known token, of all words.
    pub fn whole(&self) -> f64 {
        share(self.whole, self.words)
    }

    /// Unknown tokens, of all tokens.
    pub fn unknown(&self) -> f64 {
        share(self.unknown, self.tokens)
    }

    /// Characters for each token.
    pub fn chars_per_token(&self) -> f64 {
        share(self.chars, self.tokens)
    }

    /// Tokens for each text, special ones included.
    pub fn mean_len(&self) -> f64 {
        let sum = self
            .lengths
            .iter()
            .map(|(&len, &texts)| len as u64 * texts)
            .sum();
        share(sum, self.texts)
    }

    /// The least number of tokens, special ones included, that `percent` of the texts do not exceed; 0 without texts.
    pub fn percentile(&self, percent: u64) -> usize {
        let needed = (self.texts * percent).div_ceil(100);
        let mut seen = 0;
        let mut lens = self.lengths.iter();
        let found = lens.find(|(_, texts)| {
            seen += **texts;
            seen >= needed
        });
        found.map_or(0, |(&len, _)| len)
    }

    /// Texts of more than `max_len` tokens, special ones included, of all texts.
    pub fn longer_than(&self, max_len: usize) -> f64 {
        let longer = self.lengths.iter().filter(|(len, _)| **len > max_len);
        share(longer.map(|(_, texts)| texts).sum(), self.texts)
    }

    /// Words that take most tokens, at most ten, and how many they take.
    pub fn longest(&self) -> impl Iterator<Item = (&str, usize)> {
        self.longest
            .iter()
            .map(|(tokens, word)| (word.as_str(), *tokens))
    }

    /// All of it; `max_len` is that of [`Self::longer_than`].
    pub fn to_json(&self, max_len: Option<usize>) -> Value {
        let longest = self
            .longest()
            .map(|(word, tokens)| json!({ "word": word, "tokens": tokens }));
        json!({
            "texts": self.texts,
            "chars": self.chars,
            "words": self.words,
            "tokens": self.tokens,
            "tokens_per_word": self.fertility(),
            "words_whole": self.whole(),
            "tokens_unknown": self.unknown(),
            "chars_per_token": self.chars_per_token(),
            "len_mean": self.mean_len(),
            "len_percentiles": { "50": self.percentile(50), "90": self.percentile(90), "99": self.percentile(99) },
            "len_most": self.percentile(100),
            "max_len": max_len,
            "texts_too_long": max_len.map(|max_len| self.longer_than(max_len)),
            "longest_words": longest.collect::<Vec<_>>(),
        })
    }

    fn add_text(&mut self, tokenizer: &Tokenizer, text: &str) -> Result<(), Error> {
        let whole = Limit {
            max_len: usize::MAX,
            long: Long::Error,
        };
        let encodings = tokenizer.encode(text.into(), whole)?;
        let chars: Vec<char> = text.chars().collect();
        self.texts += 1;
        self.chars += chars.len() as u64;
        for encoding in encodings {
            *self.lengths.entry(encoding.len()).or_default() += 1;
            let unknown = tokenizer.unknown();
            let tokens = encoding.first.clone();
            let is_unknown = |token: usize| unknown == Some(encoding.ids[token]);
            self.tokens += tokens.len() as u64;
            self.unknown += tokens.clone().filter(|&token| is_unknown(token)).count() as u64;
            // Tokens stand in the order of the text, so those of a word come after those that end before it.
            let mut next = tokens.start;
            for word in words(&chars) {
                let [start, end] = [word.start, word.end].map(|place| place as u32);
                while next < tokens.end && encoding.offsets[next].1 <= start {
                    next += 1;
                }
                let begins_before = |token: &usize| encoding.offsets[*token].0 < end;
                let count = (next..tokens.end).take_while(begins_before).count();
                self.words += 1;
                self.word_tokens += count as u64;
                self.whole += u64::from(count == 1 && !is_unknown(next));
                self.consider(count, || chars[word].iter().collect());
            }
        }
        Ok(())
    }

    /// Puts a word among the longest if it belongs there.
    fn consider(&mut self, tokens: usize, word: impl FnOnce() -> String) {
        const SHOWN: usize = 10;
        let rank = |tokens: usize, word: &str| (std::cmp::Reverse(tokens), word.to_owned());
        if self.longest.len() == SHOWN && self.longest[SHOWN - 1].0 > tokens || tokens < 2 {
            return;
        }
        let word = word();
        let at = self
            .longest
            .binary_search_by_key(&rank(tokens, &word), |(tokens, word)| rank(*tokens, word));
        if let Err(place) = at {
            self.longest.insert(place, (tokens, word));
            // A word may take more tokens in one place than in another.
            let mut seen = HashSet::new();
            self.longest.retain(|(_, word)| seen.insert(word.clone()));
            self.longest.truncate(SHOWN);
        }
    }

    fn merge(&mut self, other: Self) {
        self.texts += other.texts;
        self.chars += other.chars;
        self.words += other.words;
        self.tokens += other.tokens;
        self.unknown += other.unknown;
        self.word_tokens += other.word_tokens;
        self.whole += other.whole;
        for (len, texts) in other.lengths {
            *self.lengths.entry(len).or_default() += texts;
        }
        for (tokens, word) in other.longest {
            self.consider(tokens, || word);
        }
    }
}

/// Where words are: between white space, without what is neither letter nor digit at their ends.
fn words(chars: &[char]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut place = 0;
    std::iter::from_fn(move || {
        let start = place + chars[place..].iter().position(|c| c.is_alphanumeric())?;
        let rest = &chars[start..];
        let len = rest.iter().position(|c| c.is_whitespace());
        let rest = &rest[..len.unwrap_or(rest.len())];
        place = start + rest.len();
        let last = rest.iter().rposition(|c| c.is_alphanumeric())?;
        Some(start..start + last + 1)
    })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_the_punctuation_at_their_ends() {
        let text: Vec<char> = " «Ankara'da», 3,5 % … e-mail. ".chars().collect();
        let found: Vec<String> = words(&text)
            .map(|word| text[word].iter().collect())
            .collect();
        assert_eq!(found, ["Ankara'da", "3,5", "e-mail"]);
        assert_eq!(words(&[]).count(), 0);
    }

    #[test]
    fn percentiles_are_lengths_that_occur() {
        let report = Report {
            texts: 10,
            lengths: [(3, 5), (4, 4), (90, 1)].into(),
            ..Report::default()
        };
        let found = [1, 50, 51, 90, 91, 100].map(|percent| report.percentile(percent));
        assert_eq!(found, [3, 3, 4, 4, 90, 90]);
        assert_eq!(
            format!("{} {}", report.longer_than(4), report.longer_than(90)),
            "0.1 0"
        );
        assert_eq!(Report::default().percentile(50), 0);
    }
}
