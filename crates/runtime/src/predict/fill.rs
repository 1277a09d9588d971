use std::borrow::Cow;
use std::path::Path;

use cloze_data::text::{Encoding, Input, Long, Tokenizer};
use cloze_kernels::op::encode::score::softmax;
use rayon::prelude::*;

use super::{Predict, one_text, places};
use crate::model::TextModel;
use crate::{Error, Rows};

/// Logits that are held at the same time.
const LOGITS: usize = 1 << 22;

/// Says which tokens may stand behind the masks of a text.
///
/// A mask is spelled as the tokenizer has it, or `[MASK]` or `<mask>`.
pub struct FillMask {
    /// Most tokens for a mask, at least 1.
    pub top: usize,
    model: TextModel,
    mask: u32,
    /// How the tokenizer spells it.
    spelled: String,
    /// Tokens that are scored, or all.
    candidates: Vec<u32>,
}

/// A token for a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// The token.
    pub id: u32,
    /// How it is written alone: blanks and prefixes as the tokenizer has them.
    pub token: String,
    /// Its probability among all tokens of the vocabulary.
    pub score: f32,
    /// Its characters within a text, and whether it begins a word.
    written: (String, bool),
}

/// The masks of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filled {
    /// For each mask that the model saw, tokens from the likeliest down.
    pub masks: Vec<Vec<Fill>>,
    /// The text before, between and after the masks.
    between: Vec<String>,
    /// The blanks that belong to each mask, before and after it.
    blanks: Vec<[String; 2]>,
    /// How the tokenizer spells a mask.
    mask: String,
}

/// A text with the tokenizer's own masks, `spelled` so, in the place of `[MASK]` and `<mask>`.
pub fn own_masks<'a>(tokenizer: &Tokenizer, spelled: &str, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for usual in ["[MASK]", "<mask>"] {
        let is_other = usual != spelled && tokenizer.id(usual).is_none();
        if is_other && text.contains(usual) {
            text = Cow::Owned(text.replace(usual, spelled));
        }
    }
    text
}

impl FillMask {
    pub(super) fn new(model: TextModel, path: &Path) -> Result<Self, Error> {
        let mask = model.tokenizer().mask();
        let spelled = mask.and_then(|mask| model.tokenizer().token(mask));
        let (Some(mask), Some(spelled)) = (mask, spelled) else {
            let message = "expected a tokenizer with a mask token, found none";
            return Err(cloze_data::Error::Tokenizer {
                path: path.to_owned(),
                message: message.to_owned(),
            }
            .into());
        };
        Ok(Self {
            top: 5,
            model,
            mask,
            spelled,
            candidates: Vec::new(),
        })
    }

    /// How the tokenizer spells a mask.
    pub fn mask(&self) -> &str {
        &self.spelled
    }

    /// Scores these words only. Each is taken as it stands after a blank, else without one, else as the vocabulary spells it.
    ///
    /// # Departures
    /// The pipeline of `transformers` looks in the vocabulary first, where byte-pair encoding has the token that continues a
    /// word, and takes the first token of several.
    /// # Errors
    /// If there are none, or some are not one token: all of these at once.
    pub fn set_candidates(&mut self, words: &[String]) -> Result<(), Error> {
        self.candidates = self.candidates(words)?;
        Ok(())
    }

    /// The tokens of words, as [`Self::set_candidates`] takes them, each once.
    ///
    /// # Errors
    /// As there.
    pub fn candidates(&self, words: &[String]) -> Result<Vec<u32>, Error> {
        let tokenizer = self.model.tokenizer();
        let mut refused = Vec::new();
        let mut candidates = Vec::new();
        for word in words {
            match tokenizer.single(word)? {
                Some(id) if candidates.contains(&id) => {}
                Some(id) => candidates.push(id),
                None => {
                    let tokens = tokenizer.encode_whole(word)?;
                    let tokens = &tokens.ids[tokens.body()];
                    let tokens = tokens.iter().filter_map(|&id| tokenizer.token(id));
                    let tokens: Vec<_> = tokens.collect();
                    refused.push(format!("{word:?} is {}", tokens.join(" + ")));
                }
            }
        }
        if refused.is_empty() && !candidates.is_empty() {
            return Ok(candidates);
        }
        let found = if refused.is_empty() {
            "none".to_owned()
        } else {
            refused.join(", ")
        };
        Err(Error::Input(format!(
            "expected candidates of one token each, found {found}; leave these out"
        )))
    }

    /// As [`Self::run`] with another `top` and other `candidates`, which are all tokens if none.
    ///
    /// # Errors
    /// As there.
    pub fn likeliest(
        &self,
        windows: &[&Encoding],
        top: usize,
        candidates: &[u32],
    ) -> Result<Vec<<Self as Predict>::Output>, Error> {
        let engine = self.model.engine();
        let batch = self.model.batch(windows);
        let tokens = batch.tokens.iter().zip(0_u32..);
        let rows = tokens.filter(|&(&token, _)| token == self.mask);
        let rows: Vec<u32> = rows.map(|(_, row)| row).collect();
        let mut vectors = Vec::new();
        engine.run(&batch, Rows::Some(&rows), &mut vectors)?;
        let (width, vocab) = (engine.encoder().width, engine.encoder().embed.vocab);
        let together = (LOGITS / vocab).max(1);
        let (mut logits, mut found) = (Vec::new(), Vec::new());
        for vectors in vectors.chunks(together * width) {
            engine.head(vectors, &mut logits)?;
            softmax(self.model.isa(), vocab, &mut logits);
            let rows = logits.par_chunks_exact(vocab);
            found.par_extend(rows.map(|row| best(row, top, candidates)));
        }
        let mut found = found.into_iter();
        let of_window = |window: &&Encoding| {
            let masks = window.ids.iter().filter(|id| **id == self.mask).count();
            found.by_ref().take(masks).collect()
        };
        Ok(windows.iter().map(of_window).collect())
    }
}

/// The likeliest tokens of a mask, by the probabilities of all.
fn best(scores: &[f32], top: usize, candidates: &[u32]) -> Vec<(u32, f32)> {
    let score = |id: u32| scores[id as usize];
    let mut ids: Vec<u32> = if candidates.is_empty() {
        (0..scores.len() as u32).collect()
    } else {
        candidates.to_vec()
    };
    let order = |a: &u32, b: &u32| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
    let top = top.max(1);
    if top < ids.len() {
        ids.select_nth_unstable_by(top, order);
        ids.truncate(top);
    }
    ids.sort_unstable_by(order);
    ids.into_iter().map(|id| (id, score(id))).collect()
}

impl Predict for FillMask {
    /// The likeliest tokens of each mask and their scores.
    type Output = Vec<Vec<(u32, f32)>>;
    type Prediction = Filled;

    fn model(&self) -> &TextModel {
        &self.model
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        let text = own_masks(
            self.model.tokenizer(),
            &self.spelled,
            one_text(input, "filling masks")?,
        );
        self.model.windows((&*text).into(), long)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Self::Output>, Error> {
        self.likeliest(windows, self.top, &self.candidates)
    }

    fn decode(
        &self,
        input: Input<'_>,
        windows: &[Encoding],
        outputs: &[Self::Output],
    ) -> Result<Filled, Error> {
        let text: Vec<char> = own_masks(self.model.tokenizer(), &self.spelled, input.first)
            .chars()
            .collect();
        let string = |from: usize, to: usize| text[from..to.max(from)].iter().collect::<String>();
        let mut filled = Filled {
            mask: self.spelled.clone(),
            ..Filled::default()
        };
        let mut end = 0;
        for (window, at) in places(windows) {
            let ids = &windows[window].ids;
            if ids[at] != self.mask {
                continue;
            }
            let earlier = ids[..at].iter().filter(|id| **id == self.mask).count();
            let tokenizer = self.model.tokenizer();
            let fills = outputs[window][earlier].iter();
            let fills = fills.map(|&(id, score)| Fill::new(tokenizer, id, score));
            filled.masks.push(fills.collect::<Result<_, _>>()?);
            let (from, to) = windows[window].offsets[at];
            let (from, to) = (from as usize, to as usize);
            let blank = |letter: &&char| letter.is_whitespace();
            let before = text[from..to].iter().take_while(blank).count();
            let after = text[from + before..to].iter().rev();
            let after = after.take_while(blank).count();
            filled.between.push(string(end, from));
            filled
                .blanks
                .push([string(from, from + before), string(to - after, to)]);
            end = to;
        }
        filled.between.push(string(end, text.len()));
        Ok(filled)
    }
}

impl Fill {
    fn new(tokenizer: &Tokenizer, id: u32, score: f32) -> Result<Self, Error> {
        Ok(Self {
            id,
            token: tokenizer.decode(&[id], false)?,
            score,
            written: tokenizer.written(id)?,
        })
    }
}

impl Filled {
    /// The text with the likeliest token in each mask.
    pub fn text(&self) -> String {
        self.with(|mask| &self.masks[mask][0])
    }

    /// The text with the token that `choose` takes for each mask. One that continues a word joins what stands before it.
    pub fn with<'a>(&'a self, choose: impl Fn(usize) -> &'a Fill) -> String {
        self.written(|mask| Some(choose(mask)))
    }

    /// The text with a token in one of its masks; the others stay.
    pub fn with_one(&self, mask: usize, fill: &Fill) -> String {
        self.written(|other| (other == mask).then_some(fill))
    }

    fn written<'a>(&'a self, choose: impl Fn(usize) -> Option<&'a Fill>) -> String {
        let mut text = self.between[0].clone();
        for (mask, [before, after]) in self.blanks.iter().enumerate() {
            let (written, begins) = match choose(mask) {
                Some(fill) => (&*fill.written.0, fill.written.1),
                None => (&*self.mask, true),
            };
            if begins {
                text.push_str(before);
            } else if before.is_empty() {
                text.truncate(text.trim_end().len());
            }
            text.push_str(written);
            text.push_str(after);
            text.push_str(&self.between[mask + 1]);
        }
        text
    }
}
