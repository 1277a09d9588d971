//! Labelled stretches of tokens, from tags such as `B-PER I-PER O`. An entity counts if its type, its first and its last
//! token are all right.
//!
//! # Source
//! seqeval 1.2.2: its default mode, which reads tags as the script `conlleval` of CoNLL-2000 does, and its strict mode.

use std::collections::BTreeMap;

use super::counts::Counts;

/// How tags say where entities begin and end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// As `conlleval` reads `B-`, `I-`, `E-` and `S-`: an entity ends where the type changes, and one that begins without
    /// `B-` counts all the same.
    #[default]
    Conll,
    /// `B-` only where an entity follows another of its type; else `I-`.
    Iob1,
    /// Every entity begins with `B-`.
    Iob2,
    /// Every entity ends with `E-`.
    Ioe2,
    /// `B-`, `I-`, `E-`, or `S-` for a single token.
    Iobes,
    /// The same with `L-` for `E-` and `U-` for `S-`.
    Bilou,
}

/// A labelled stretch of tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity {
    /// The type; `_` for bare prefixes.
    pub kind: String,
    /// Its first token.
    pub start: usize,
    /// The token behind its last.
    pub end: usize,
}

/// A tag that the scheme does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag {place}: expected {expected}, found {tag:?}")]
pub struct BadTag {
    /// Which of the sequence, from 1.
    pub place: usize,
    /// What the scheme has.
    pub expected: String,
    /// What is there.
    pub tag: String,
}

/// A tag in two parts; prefixes are one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag<'a> {
    prefix: u8,
    kind: &'a str,
}

const OUTSIDE: Tag = Tag {
    prefix: b'O',
    kind: "_",
};

impl Scheme {
    /// The entities of a sequence of tags, in order.
    ///
    /// A scheme finds an entity where the tags keep its rules from beginning to end; tags that do not are outside of every
    /// entity.
    ///
    /// # Errors
    /// A tag that is neither `O` nor one of the scheme's prefixes, alone or with `-` and a type.
    /// # Departures
    /// seqeval warns of tags that are none in its default mode, and takes their first letter for a prefix.
    pub fn entities<T: AsRef<str>>(self, tags: &[T]) -> Result<Vec<Entity>, BadTag> {
        let tags: Vec<Tag> = tags
            .iter()
            .enumerate()
            .map(|(index, tag)| {
                self.parse(tag.as_ref())
                    .ok_or_else(|| self.bad(index, tag.as_ref()))
            })
            .collect::<Result<_, _>>()?;
        Ok(match self {
            Self::Conll => lenient(&tags),
            _ => self.strict(tags),
        })
    }

    /// The letters that tags begin with.
    fn prefixes(self) -> &'static str {
        match self {
            Self::Conll | Self::Iobes => "BIES",
            Self::Iob1 | Self::Iob2 => "BI",
            Self::Ioe2 => "IE",
            Self::Bilou => "BILU",
        }
    }

    fn parse(self, tag: &str) -> Option<Tag<'_>> {
        let prefix = *tag.as_bytes().first()?;
        let rest = &tag.get(1..)?;
        if prefix == b'O' {
            return rest.is_empty().then_some(OUTSIDE);
        }
        let known = self.prefixes().as_bytes().contains(&prefix);
        let kind = match self {
            _ if rest.is_empty() => "_",
            Self::Conll => rest.strip_prefix('-')?,
            _ => rest.strip_prefix('-')?.trim_matches('-'),
        };
        let kind = if kind.is_empty() { "_" } else { kind };
        known.then_some(Tag { prefix, kind })
    }

    fn bad(self, index: usize, tag: &str) -> BadTag {
        let mut expected = "O".to_owned();
        let prefixes: Vec<char> = self.prefixes().chars().collect();
        for (place, prefix) in prefixes.iter().enumerate() {
            let joint = if place + 1 == prefixes.len() {
                " or "
            } else {
                ", "
            };
            expected.extend([joint, &format!("{prefix}-TYPE")]);
        }
        BadTag {
            place: index + 1,
            expected,
            tag: tag.to_owned(),
        }
    }

    fn strict(self, mut tags: Vec<Tag>) -> Vec<Entity> {
        tags.push(OUTSIDE);
        let mut entities = Vec::new();
        let (mut index, mut before) = (0, OUTSIDE);
        while index < tags.len() {
            let start = index;
            index += 1;
            if self.begins(before, tags[start]) {
                while index < tags.len() && self.goes_on(tags[index - 1], tags[index]) {
                    index += 1;
                }
                if index < tags.len() && self.ends(tags[index - 1], tags[index]) {
                    entities.push(Entity {
                        kind: tags[start].kind.to_owned(),
                        start,
                        end: index,
                    });
                }
            }
            before = tags[index - 1];
        }
        entities
    }

    /// Whether an entity begins with `next`, after `before`.
    #[expect(clippy::match_same_arms, reason = "rules stand by scheme")]
    fn begins(self, before: Tag, next: Tag) -> bool {
        let same = before.kind == next.kind;
        match (self, before.prefix, next.prefix) {
            (Self::Iob1, b'O' | b'B', b'I') => true,
            (Self::Iob1 | Self::Ioe2, b'I', b'I') => !same,
            (Self::Iob1, b'I' | b'B', b'B') => same,
            (Self::Ioe2, b'O' | b'E', b'I' | b'E') => true,
            (Self::Ioe2, b'I', b'E') => !same,
            (Self::Iob2, _, b'B')
            | (Self::Iobes, _, b'B' | b'S')
            | (Self::Bilou, _, b'B' | b'U') => true,
            _ => false,
        }
    }

    /// Whether the entity of `before` goes on with `next`.
    fn goes_on(self, before: Tag, next: Tag) -> bool {
        let follows = matches!(
            (self, before.prefix, next.prefix),
            (
                Self::Iob1 | Self::Iob2 | Self::Iobes | Self::Bilou,
                b'B' | b'I',
                b'I'
            ) | (Self::Iobes, b'B' | b'I', b'E')
                | (Self::Bilou, b'B' | b'I', b'L')
                | (Self::Ioe2, b'I', b'I' | b'E')
        );
        follows && before.kind == next.kind
    }

    /// Whether the entity of `before` may end there, given what is next.
    #[expect(clippy::match_same_arms, reason = "rules stand by scheme")]
    fn ends(self, before: Tag, next: Tag) -> bool {
        let same = before.kind == next.kind;
        match (self, before.prefix, next.prefix) {
            (Self::Iob1 | Self::Iob2, b'I' | b'B', b'O')
            | (Self::Iob1 | Self::Iob2, b'I', b'B') => true,
            (Self::Iob1 | Self::Iob2, b'I' | b'B', b'I') => !same,
            (Self::Iob1, b'B', b'B') => same,
            (Self::Iob2, b'B', b'B') | (Self::Ioe2 | Self::Iobes, b'E', _) => true,
            (Self::Iobes, b'S', _) | (Self::Bilou, b'U' | b'L', _) => true,
            _ => false,
        }
    }
}

fn lenient(tags: &[Tag]) -> Vec<Entity> {
    let mut entities = Vec::new();
    let (mut start, mut before) = (0, OUTSIDE);
    for (index, &next) in tags.iter().chain([&OUTSIDE]).enumerate() {
        let changes = before.kind != next.kind;
        let ends = match before.prefix {
            b'O' => false,
            b'E' | b'S' => true,
            _ => changes || matches!(next.prefix, b'B' | b'S' | b'O'),
        };
        if ends {
            entities.push(Entity {
                kind: before.kind.to_owned(),
                start,
                end: index,
            });
        }
        let begins = match next.prefix {
            b'O' => false,
            b'B' | b'S' => true,
            _ => changes || matches!(before.prefix, b'E' | b'S' | b'O'),
        };
        if begins {
            start = index;
        }
        before = next;
    }
    entities
}

/// Hits, predictions and support of each type of entity in one sequence.
pub fn counts(labels: &[Entity], predictions: &[Entity]) -> BTreeMap<String, Counts> {
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    for entity in labels {
        counts.entry(entity.kind.clone()).or_default().support += 1;
    }
    for entity in predictions {
        let of = counts.entry(entity.kind.clone()).or_default();
        of.predicted += 1;
        of.hits += u64::from(labels.contains(entity));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(scheme: Scheme, tags: &str) -> Vec<(String, usize, usize)> {
        let tags: Vec<&str> = tags.split(' ').collect();
        let entities = scheme.entities(&tags).unwrap();
        entities
            .into_iter()
            .map(|e| (e.kind, e.start, e.end))
            .collect()
    }

    #[test]
    fn one_sequence_means_different_things_by_scheme() {
        let a = |start, end| ("A".to_owned(), start, end);
        assert_eq!(found(Scheme::Conll, "I-A I-A O"), [a(0, 2)]);
        assert_eq!(found(Scheme::Iob1, "I-A I-A O"), [a(0, 2)]);
        assert!(found(Scheme::Iob2, "I-A I-A O").is_empty());
        assert_eq!(found(Scheme::Conll, "I-A B-A O"), [a(0, 1), a(1, 2)]);
        assert_eq!(
            found(Scheme::Iobes, "B-A I-A E-A S-A B-A"),
            [a(0, 3), a(3, 4)]
        );
        assert_eq!(found(Scheme::Bilou, "U-A B-A L-A"), [a(0, 1), a(1, 3)]);
        assert_eq!(found(Scheme::Ioe2, "I-A E-A E-A"), [a(0, 2), a(2, 3)]);
    }

    #[test]
    fn tags_of_other_schemes_are_refused_with_their_place() {
        for (scheme, tags, place) in [
            (Scheme::Iob2, ["O", "E-A"], 2),
            (Scheme::Conll, ["PER", "O"], 1),
            (Scheme::Iobes, ["O-A", "O"], 1),
            (Scheme::Bilou, ["B-A", "é"], 2),
            (Scheme::Bilou, ["B-A", ""], 2),
        ] {
            assert_eq!(scheme.entities(&tags).unwrap_err().place, place, "{tags:?}");
        }
        let message = Scheme::Iob1.entities(&["S-A"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "tag 1: expected O, B-TYPE or I-TYPE, found \"S-A\""
        );
    }
}
