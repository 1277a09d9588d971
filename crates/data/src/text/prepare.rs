use std::borrow::Cow;

/// A text as the tokenizer sees it, and where its characters were.
pub struct Prepared<'a> {
    pub text: Cow<'a, str>,
    /// Characters taken away before the text.
    stripped: u32,
    /// Place before lower-casing of each character, where the count changed, and of the end.
    places: Option<Vec<u32>>,
    /// Characters of the prompt.
    prompt: u32,
}

/// `prompt` and `text` as one, without blanks around it, in lower case: each if asked for.
pub fn prepare<'a>(prompt: &str, text: &'a str, strip: bool, lowercase: bool) -> Prepared<'a> {
    let mut whole = if prompt.is_empty() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{prompt}{text}"))
    };
    let mut stripped = 0;
    if strip {
        let end = whole.trim_end_matches(is_blank).len();
        let start = end - whole[..end].trim_start_matches(is_blank).len();
        stripped = whole[..start].chars().count() as u32;
        whole = match whole {
            Cow::Borrowed(whole) => Cow::Borrowed(&whole[start..end]),
            Cow::Owned(whole) => Cow::Owned(whole[start..end].to_owned()),
        };
    }
    let mut places = None;
    if lowercase {
        // The dotted capital I becomes two characters, and nothing else does.
        if whole.contains('\u{130}') {
            let lowered = whole.chars().zip(0..).flat_map(|(letter, place)| {
                std::iter::repeat_n(place, letter.to_lowercase().count())
            });
            let end = whole.chars().count() as u32;
            places = Some(lowered.chain([end]).collect());
        }
        whole = Cow::Owned(whole.to_lowercase());
    }
    Prepared {
        text: whole,
        stripped,
        places,
        prompt: prompt.chars().count() as u32,
    }
}

impl Prepared<'_> {
    /// Characters of the text as it was, without the prompt, of characters here.
    pub fn original(&self, (start, end): (usize, usize)) -> (u32, u32) {
        let (start, end) = match &self.places {
            None => (start as u32, end as u32),
            Some(places) if end > start => (places[start], places[end - 1] + 1),
            Some(places) => (places[start], places[start]),
        };
        let back = |place: u32| (place + self.stripped).saturating_sub(self.prompt);
        (back(start), back(end))
    }
}

/// Python's idea of white space, which has four control characters more.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_to_the_text_as_it_was() {
        let prepared = prepare("", "\u{1f} \u{2003}aİB  ", true, true);
        assert_eq!(prepared.text, "ai\u{307}b");
        let spans = [(0, 1), (1, 2), (1, 3), (2, 3), (2, 4), (4, 4)];
        let back = spans.map(|span| prepared.original(span));
        assert_eq!(back, [(3, 4), (4, 5), (4, 5), (4, 5), (4, 6), (6, 6)]);
    }

    #[test]
    fn the_prompt_has_no_place_in_the_text() {
        let prepared = prepare(" query: ", "ÄB ", true, false);
        assert_eq!(prepared.text, "query: ÄB");
        let back = [(0, 5), (6, 8), (7, 9)].map(|span| prepared.original(span));
        assert_eq!(back, [(0, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn a_capital_sigma_at_the_end_of_a_word_keeps_the_count() {
        let prepared = prepare("", "ΟΔΟΣ", false, true);
        assert_eq!(prepared.text, "οδος");
        assert_eq!(prepared.original((3, 4)), (3, 4));
    }
}
