//! Labelled stretches of words, and the tags that write them.

use std::fmt;
use std::ops::Range;

use crate::error::quoted;

/// How tags of words write stretches: `O` outside, and inside a letter, `-` and the label, or the letter alone where there
/// is one kind of stretch only.
///
/// # Source
/// Ramshaw and Marcus, arXiv:cmp-lg/9505040; Tjong Kim Sang and Veenstra, EACL 1999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `I` inside; `B` for the first word of a stretch that follows one of the same label at once.
    Iob1,
    /// `B` for the first word of every stretch, `I` for the others.
    Iob2,
    /// `B`, `I`, `E` for the last word of a stretch, and `S` for the only one.
    Bioes,
    /// No stretches: each word has a label of its own, such as its part of speech.
    Words,
}

/// A labelled stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The label, without a letter before it.
    pub label: String,
    /// Words of the sentence; at least one.
    pub words: Range<usize>,
}

/// A tag that cannot stand where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The word that has it.
    pub word: usize,
    /// What could stand there.
    pub expected: String,
    /// The tag, for a message.
    pub found: String,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iob1 => "IOB1",
            Self::Iob2 => "IOB2",
            Self::Bioes => "BIOES",
            Self::Words => "a label a word",
        })
    }
}

impl Scheme {
    /// Those of stretches, first what is meant where several fit.
    pub const ALL: [Self; 3] = [Self::Iob2, Self::Iob1, Self::Bioes];

    /// The stretches that the tags of a sentence write, first to last.
    ///
    /// # Errors
    /// The first tag that this scheme would not have there.
    pub fn spans(self, tags: &[&str]) -> Result<Vec<Span>, Misplaced> {
        if self == Self::Words {
            let labels = tags.iter().zip(0..);
            return Ok(labels
                .map(|(label, word)| Span {
                    label: (*label).to_owned(),
                    words: word..word + 1,
                })
                .collect());
        }
        let mut spans: Vec<Span> = Vec::new();
        // Label of the stretch that the word before is in and that may go on.
        let mut open: Option<&str> = None;
        for (word, tag) in tags.iter().enumerate() {
            let fail = |expected: String| {
                Err(Misplaced {
                    word,
                    expected,
                    found: quoted(tag),
                })
            };
            let Some((letter, label)) = split(tag) else {
                return fail(format!("O, or {} with - and a label", self.letters()));
            };
            let goes_on = open == Some(label);
            let begins = match (self, letter) {
                (Self::Bioes, 'O' | 'B' | 'S') if let Some(open) = open => {
                    let [inside, end] = ['I', 'E'].map(|letter| joined(letter, open));
                    return fail(format!(
                        "{inside} or {end}, as the stretch before has no end"
                    ));
                }
                (_, 'O') => {
                    open = None;
                    continue;
                }
                (Self::Iob1, 'B') if !goes_on => {
                    let inside = joined('I', label);
                    return fail(format!(
                        "{inside}, as B stands only between two stretches of a label"
                    ));
                }
                (Self::Iob1, 'I') => !goes_on,
                (_, 'B') | (Self::Bioes, 'S') => true,
                (Self::Iob2 | Self::Bioes, 'I') | (Self::Bioes, 'E') if goes_on => false,
                (Self::Iob2, 'I') => return fail(joined('B', label)),
                (Self::Bioes, 'I') => {
                    return fail(format!("{} or {}", joined('B', label), joined('S', label)));
                }
                (Self::Bioes, 'E') => return fail(joined('S', label)),
                _ => return fail(format!("O, or {} with - and a label", self.letters())),
            };
            if begins {
                spans.push(Span {
                    label: label.to_owned(),
                    words: word..word,
                });
            }
            let last = spans.last_mut().expect("what goes on has begun");
            last.words.end = word + 1;
            open = (!matches!(letter, 'E' | 'S')).then_some(label);
        }
        match (self, open, tags.last()) {
            (Self::Bioes, Some(label), Some(tag)) => Err(Misplaced {
                word: tags.len() - 1,
                expected: format!("E or S for the last word of a stretch of {label:?}"),
                found: quoted(tag),
            }),
            _ => Ok(spans),
        }
    }

    /// The tags of a sentence of `words` words.
    ///
    /// # Panics
    /// If spans are empty, overlap, are out of order, or reach beyond the sentence; where each word has a label, if one has none.
    pub fn tags(self, words: usize, spans: &[Span]) -> Vec<String> {
        if self == Self::Words {
            assert_eq!(spans.len(), words, "a label a word");
            return spans.iter().map(|span| span.label.clone()).collect();
        }
        let mut tags: Vec<String> = Vec::with_capacity(words);
        let mut before: Option<&Span> = None;
        for span in spans {
            let Range { start, end } = span.words;
            assert!(
                tags.len() <= start && start < end && end <= words,
                "{span:?} after {} of {words} words",
                tags.len()
            );
            tags.resize(start, "O".to_owned());
            let touches = before
                .is_some_and(|before| before.words.end == start && before.label == span.label);
            for word in start..end {
                let (first, last) = (word == start, word + 1 == end);
                let letter = match self {
                    Self::Iob1 if first && touches => 'B',
                    Self::Iob2 | Self::Bioes if first && !(last && self == Self::Bioes) => 'B',
                    Self::Bioes if first => 'S',
                    Self::Bioes if last => 'E',
                    _ => 'I',
                };
                tags.push(joined(letter, &span.label));
            }
            before = Some(span);
        }
        tags.resize(words, "O".to_owned());
        tags
    }

    /// The same stretches in another scheme.
    ///
    /// # Errors
    /// As [`Self::spans`].
    pub fn convert(self, tags: &[&str], to: Self) -> Result<Vec<String>, Misplaced> {
        Ok(to.tags(tags.len(), &self.spans(tags)?))
    }

    /// Whether a tag may write a stretch.
    pub(super) fn is_tag(tag: &str) -> bool {
        split(tag).is_some()
    }

    /// Whether a tag may stand after another, each given by letter and label; nothing stands for the ends of a sentence.
    pub(crate) fn allows(self, before: Option<(char, &str)>, tag: Option<(char, &str)>) -> bool {
        let label = |(_, label)| label;
        let open = match (self, before) {
            (Self::Bioes, Some(('E' | 'S' | 'O', _))) | (_, None | Some(('O', _))) => None,
            (_, Some(before)) => Some(before),
        };
        let goes_on = open.is_some() && open.map(label) == tag.map(label);
        match (self, tag) {
            (Self::Bioes, Some(('I' | 'E', _)))
            | (Self::Iob2, Some(('I', _)))
            | (Self::Iob1, Some(('B', _))) => goes_on,
            (Self::Bioes, _) => open.is_none(),
            (Self::Iob1 | Self::Iob2 | Self::Words, _) => true,
        }
    }

    /// The scheme of stretches that has the fewest sentences at fault.
    pub(super) fn detect(faulty: [u64; 3]) -> Self {
        let fewest = Self::ALL
            .iter()
            .zip(faulty)
            .min_by_key(|(_, faulty)| *faulty);
        *fewest.expect("there are schemes").0
    }

    fn letters(self) -> &'static str {
        match self {
            Self::Iob1 | Self::Iob2 => "B or I",
            Self::Bioes | Self::Words => "B, I, E or S",
        }
    }
}

fn joined(letter: char, label: &str) -> String {
    if label.is_empty() {
        letter.into()
    } else {
        format!("{letter}-{label}")
    }
}

/// Letter and label of a tag.
pub(crate) fn split(tag: &str) -> Option<(char, &str)> {
    let mut rest = tag.chars();
    let letter = rest.next()?;
    let label = match (letter, rest.as_str()) {
        ('O' | 'B' | 'I' | 'E' | 'S', "") => "",
        ('B' | 'I' | 'E' | 'S', rest) => {
            rest.strip_prefix('-').filter(|label| !label.is_empty())?
        }
        _ => return None,
    };
    Some((letter, label))
}
