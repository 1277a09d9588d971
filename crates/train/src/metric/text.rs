//! Text as Python sees it: the reference implementations split, strip and classify characters by its rules.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Blanks by `str.isspace`: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `str.rstrip()`.
pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Some characters, by what Unicode says of them.
pub(super) struct Characters(Vec<(char, char)>);

pub(super) static PUNCTUATION: LazyLock<Characters> = LazyLock::new(|| Characters::of(r"\p{P}"));
pub(super) static SYMBOLS: LazyLock<Characters> = LazyLock::new(|| Characters::of(r"\p{S}"));
pub(super) static NUMBERS: LazyLock<Characters> = LazyLock::new(|| Characters::of(r"\p{N}"));
/// What `\w` matches, and `\b` stands at the ends of.
pub(super) static WORD: LazyLock<Characters> = LazyLock::new(|| Characters::of(r"[\p{L}\p{N}_]"));

impl Characters {
    fn of(class: &str) -> Self {
        let pattern = regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind);
        let Ok(HirKind::Class(Class::Unicode(class))) = pattern else {
            unreachable!("{class} is a class of characters");
        };
        let ranges = class.ranges().iter();
        Self(ranges.map(|range| (range.start(), range.end())).collect())
    }

    pub fn contain(&self, character: char) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= character);
        after > 0 && character <= self.0[after - 1].1
    }
}

/// How often each run of `n` items occurs.
pub(super) fn ngrams<T: Hash + Eq>(items: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}

/// What two such counts share.
pub(super) fn overlap<T: Hash + Eq>(a: &HashMap<T, u64>, b: &HashMap<T, u64>) -> u64 {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    few.iter()
        .filter_map(|(item, &count)| Some(count.min(*many.get(item)?)))
        .sum()
}

/// Puts blanks around or between every two neighbours of which `first` takes one and `second` the other: before them,
/// between them and behind them, as `blanks` says. A character is in one such pair at most, the leftmost.
pub(super) fn part(
    text: &str,
    first: impl Fn(char) -> bool,
    second: impl Fn(char) -> bool,
    blanks: [bool; 3],
) -> String {
    let mut parted = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(one) = rest.next() {
        let pair = if first(one) {
            rest.next_if(|&other| second(other))
        } else {
            None
        };
        let Some(other) = pair else {
            parted.push(one);
            continue;
        };
        for (blank, character) in blanks.into_iter().zip([Some(one), Some(other), None]) {
            if blank {
                parted.push(' ');
            }
            parted.extend(character);
        }
    }
    parted
}

/// Puts a blank before and behind each of the characters.
pub(super) fn surround(text: &str, these: impl Fn(char) -> bool) -> String {
    let mut parted = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if these(character) {
            parted.extend([' ', character, ' ']);
        } else {
            parted.push(character);
        }
    }
    parted
}

/// The part of the tokenizers 13a and tercom for languages that are written with the Latin alphabet.
pub(super) fn part_western(text: &str) -> String {
    let digit = |character: char| character.is_ascii_digit();
    let stop = |character: char| character == '.' || character == ',';
    let text = part(text, |c| !digit(c), stop, [false, true, true]);
    let text = part(&text, stop, |c| !digit(c), [true, true, false]);
    part(&text, digit, |c| c == '-', [false, true, true])
}

/// Punctuation of ASCII that 13a and tercom part from words in any case: all but `'`, `,`, `-` and `.`; blanks too.
pub(super) fn is_western_mark(character: char) -> bool {
    matches!(character, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// `&quot;`, `&amp;`, `&lt;` and `&gt;`, one after the other, so that `&amp;lt;` becomes `<`.
pub(super) fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
}
