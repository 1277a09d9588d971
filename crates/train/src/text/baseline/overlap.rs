use std::collections::HashSet;

use cloze_data::annotation::Question;
use cloze_data::text::terms::words;

/// The sentence of the context that shares most words with the question; the first of several.
///
/// Sentences end with `.`, `!` or `?` and a blank after it, with `。`, `！` or `？`, and with lines.
pub(super) fn answer(question: &Question) -> &str {
    let asked = question.question.to_lowercase();
    let asked: HashSet<&str> = words(&asked).collect();
    let shared = |sentence: &str| {
        let sentence = sentence.to_lowercase();
        let found: HashSet<&str> = words(&sentence).collect();
        found.intersection(&asked).count()
    };
    let mut best = ("", 0);
    for sentence in sentences(&question.context) {
        let count = shared(sentence);
        if best.0.is_empty() || count > best.1 {
            best = (sentence, count);
        }
    }
    best.0
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut ends: Vec<usize> = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((_, character)) = characters.next() {
        let next = characters.peek();
        let ends_here = match character {
            '.' | '!' | '?' => next.is_some_and(|(_, next)| next.is_whitespace()),
            '。' | '！' | '？' | '\n' => true,
            _ => false,
        };
        if let (true, Some(&(end, _))) = (ends_here, next) {
            ends.push(end);
        }
    }
    ends.push(text.len());
    let mut start = 0;
    ends.into_iter()
        .map(move |end| text[std::mem::replace(&mut start, end)..end].trim())
        .filter(|sentence| !sentence.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_keep_numbers_and_their_own_marks() {
        let text = " It cost 3.50 then. Who paid?! Nobody\n次に。 e.g.";
        let found: Vec<&str> = sentences(text).collect();
        assert_eq!(
            found,
            [
                "It cost 3.50 then.",
                "Who paid?!",
                "Nobody",
                "次に。",
                "e.g."
            ]
        );
        assert_eq!(sentences("").count(), 0);
    }
}
