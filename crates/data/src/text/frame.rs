use std::ops::Range;

use super::Encoding;

/// A special token and its segment.
type Special = (u32, u32);

/// What a tokenizer puts around one text or two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub before: Vec<Special>,
    pub between: Vec<Special>,
    pub after: Vec<Special>,
    /// Of each text's own tokens.
    pub segments: [u32; 2],
}

/// The tokens of a text alone.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pub ids: Vec<u32>,
    pub offsets: Vec<(u32, u32)>,
    pub words: Vec<Option<u32>>,
    /// How many at the start belong to the prompt.
    pub prompt: usize,
}

impl Frame {
    /// The frame that `process` puts around texts, learnt from what it makes of one token for each.
    pub fn learn(
        process: impl FnOnce(
            tokenizers::Encoding,
            Option<tokenizers::Encoding>,
        ) -> tokenizers::Result<tokenizers::Encoding>,
        pair: bool,
    ) -> Result<Self, String> {
        const TEXTS: [u32; 2] = [u32::MAX, u32::MAX - 1];
        let text = |index: usize| {
            let token = tokenizers::Token::new(TEXTS[index], String::new(), (0, 0));
            tokenizers::Encoding::from_tokens(vec![token], index as u32)
        };
        let processed = process(text(0), pair.then(|| text(1))).map_err(|e| e.to_string())?;
        let mut frame = Self::default();
        let mut seen = 0;
        let tokens = processed.get_ids().iter().zip(processed.get_type_ids());
        for ((&id, &segment), &special) in tokens.zip(processed.get_special_tokens_mask()) {
            if special == 0 {
                if TEXTS.get(seen) != Some(&id) {
                    return Err(
                        "expected post-processing that keeps each text once, in order".into(),
                    );
                }
                frame.segments[seen] = segment;
                seen += 1;
                continue;
            }
            let place = match (seen, pair) {
                (0, _) => &mut frame.before,
                (1, true) => &mut frame.between,
                _ => &mut frame.after,
            };
            place.push((id, segment));
        }
        if seen != 1 + usize::from(pair) {
            return Err("expected post-processing that keeps each text, found one left out".into());
        }
        Ok(frame)
    }

    /// Number of special tokens.
    pub fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// Its tokens around `first` and `second`: some ranges of the pieces of each.
    pub fn around(
        &self,
        first: (&Pieces, [Range<usize>; 2]),
        second: Option<(&Pieces, Range<usize>)>,
        cut: usize,
    ) -> Encoding {
        let mut all = Encoding {
            cut,
            ..Encoding::default()
        };
        all.add_specials(&self.before);
        let (pieces, ranges) = first;
        let start = all.len();
        for range in ranges.iter().cloned() {
            all.add_pieces(pieces, range, self.segments[0]);
        }
        all.first = start..all.len();
        let prompt: usize = ranges
            .iter()
            .map(|range| range.len().min(pieces.prompt.saturating_sub(range.start)))
            .sum();
        if pieces.prompt > 0 {
            all.prompt = start + prompt;
        }
        all.add_specials(&self.between);
        if let Some((pieces, range)) = second {
            let start = all.len();
            all.add_pieces(pieces, range, self.segments[1]);
            all.second = Some(start..all.len());
        }
        all.add_specials(&self.after);
        all
    }
}

impl Encoding {
    fn add_specials(&mut self, specials: &[Special]) {
        for &(id, segment) in specials {
            self.ids.push(id);
            self.segments.push(segment);
        }
        self.offsets.resize(self.len(), (0, 0));
        self.words.resize(self.len(), None);
        self.is_special.resize(self.len(), true);
    }

    fn add_pieces(&mut self, pieces: &Pieces, range: Range<usize>, segment: u32) {
        self.ids.extend_from_slice(&pieces.ids[range.clone()]);
        self.offsets
            .extend_from_slice(&pieces.offsets[range.clone()]);
        self.words.extend_from_slice(&pieces.words[range]);
        self.segments.resize(self.len(), segment);
        self.is_special.resize(self.len(), false);
    }
}
