use std::ops::Range;

use cloze_spec::text::Pair;

use super::examples::{BEGINS_WORD, Examples, SECOND_SEGMENT, SPECIAL, Truth};
use super::frame::Frame;
use crate::stream::{Purpose, Stream};

/// How pairs are made of the lines of documents.
#[derive(Clone, Debug)]
pub struct Pairing {
    pub(super) settings: Pair,
    pub(super) frame: Frame,
    /// Longest text in tokens.
    pub(super) max_len: usize,
    pub(super) seed: u64,
}

impl Pairing {
    /// The pairs of an epoch, of `lines` whose records are documents.
    ///
    /// A text takes lines from where the one before ended, up to its length, and is cut in two after one of them; a line that
    /// fills it alone, or is longer, is cut between words. Where the second segment is another's, the document goes on after the
    /// first.
    pub(super) fn draw(&self, examples: &Examples, epoch: u64) -> Examples {
        let (offsets, tokens) = examples.held();
        let lines = &Lines { offsets, tokens };
        let documents: Vec<Range<usize>> = examples
            .records
            .chunk_by(|a, b| a == b)
            .scan(0, |start, lines| {
                let own = *start..*start + lines.len();
                *start = own.end;
                Some(own)
            })
            .collect();
        let room = self.max_len - self.frame.len();
        let mut pairs = Examples::new(Truth::Tokens);
        let mut classes = Vec::new();
        for (number, document) in documents.iter().enumerate() {
            let mut stream = Stream::new(self.seed, epoch, Purpose::Pair, number as u64);
            let last = lines.offsets[document.end];
            let mut at = lines.offsets[document.start];
            while at < last {
                let target = if stream.unit() < self.settings.segments().short_prob {
                    2 + stream.below(room as u32 - 1) as usize
                } else {
                    room
                };
                let end = end(lines, document, at, target, room);
                if end - at < 2 {
                    at = end;
                    continue;
                }
                let cut = cut(lines, document, at..end, &mut stream);
                let is_as_it_was = stream.unit() < 0.5;
                let [first, second] = match (&self.settings, is_as_it_was) {
                    (_, true) => [at..cut, cut..end],
                    (Pair::SentenceOrder(_), false) => [cut..end, at..cut],
                    (Pair::NextSentence(_), false) => {
                        let wanted = target.saturating_sub(cut - at).max(1);
                        [
                            at..cut,
                            elsewhere(lines, &documents, number, wanted, &mut stream),
                        ]
                    }
                };
                at = match self.settings {
                    Pair::NextSentence(_) if !is_as_it_was => cut,
                    Pair::NextSentence(_) | Pair::SentenceOrder(_) => end,
                };
                self.push(&mut pairs, lines, [first, second], number);
                classes.push(u32::from(!is_as_it_was));
            }
        }
        pairs.truth = Truth::Pairs(classes);
        pairs
    }

    /// Appends two stretches of tokens of `lines` as one text.
    fn push(
        &self,
        pairs: &mut Examples,
        lines: &Lines<'_>,
        stretches: [Range<usize>; 2],
        document: usize,
    ) {
        let frame = &self.frame;
        let mark = |segment: u32| if segment > 0 { SECOND_SEGMENT } else { 0 };
        let specials = [&frame.before, &frame.between, &frame.after];
        let mut own = stretches.into_iter().zip(frame.segments);
        let mut text = Vec::new();
        for specials in specials {
            let specials = specials.iter();
            text.extend(specials.map(|&(id, segment)| id | SPECIAL | BEGINS_WORD | mark(segment)));
            if let Some((stretch, segment)) = own.next() {
                let tokens = lines.tokens[stretch].iter();
                text.extend(tokens.map(|token| token | mark(segment)));
            }
        }
        pairs.push_tokens(text.into_iter(), document);
    }
}

/// Lines of documents: line `i` is the tokens `offsets[i]..offsets[i + 1]`.
struct Lines<'a> {
    offsets: &'a [usize],
    tokens: &'a [u32],
}

/// Where a text ends that begins at token `at`: after the line that makes it `target` tokens long, or before one that makes it
/// longer than `room`; within the first line if that alone is.
fn end(lines: &Lines<'_>, document: &Range<usize>, at: usize, target: usize, room: usize) -> usize {
    let ends = &lines.offsets[document.start + 1..=document.end];
    let ends = &ends[ends.partition_point(|&end| end <= at)..];
    let fitting = &ends[..ends.partition_point(|&end| end - at <= room)];
    let enough = fitting.partition_point(|&end| end - at < target);
    if let Some(&end) = fitting.get(enough).or(fitting.last()) {
        return end;
    }
    let begins = |&token: &usize| lines.tokens[token] & BEGINS_WORD > 0;
    (at + 1..=at + room).rev().find(begins).unwrap_or(at + room)
}

/// A token of `text`, not the first, for the second segment to begin with: a line's, or else a word's.
fn cut(
    lines: &Lines<'_>,
    document: &Range<usize>,
    text: Range<usize>,
    stream: &mut Stream,
) -> usize {
    let within = text.start + 1..text.end;
    let starts = &lines.offsets[document.clone()];
    let first = starts.partition_point(|start| *start < within.start);
    let starts = &starts[first..starts.partition_point(|start| *start < within.end)];
    if !starts.is_empty() {
        return starts[stream.below(starts.len() as u32) as usize];
    }
    let begins = |&token: &usize| lines.tokens[token] & BEGINS_WORD > 0;
    let words: Vec<usize> = within.clone().filter(begins).collect();
    if words.is_empty() {
        return within.start + stream.below(within.len() as u32) as usize;
    }
    words[stream.below(words.len() as u32) as usize]
}

/// At most `wanted` tokens from the start of some line of another document than number `own`.
fn elsewhere(
    lines: &Lines<'_>,
    documents: &[Range<usize>],
    own: usize,
    wanted: usize,
    stream: &mut Stream,
) -> Range<usize> {
    let other = stream.below(documents.len() as u32 - 1) as usize;
    let other = &documents[other + usize::from(other >= own)];
    let line = other.start + stream.below(other.len() as u32) as usize;
    let start = lines.offsets[line];
    start..(start + wanted).min(lines.offsets[other.end])
}
