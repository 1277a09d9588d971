//! More tokens for a tokenizer there is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{Model as _, ModelWrapper, Tokenizer};

use super::folder::Configs;
use super::pairs::{self, Merge, Pieces, Until};
use super::{Trained, shape, tokenizers_from};
use crate::Error;
use crate::text::folder;
use crate::text::tokenizer::guard;

/// A tokenizer that is to have more tokens.
pub struct Extension {
    folder: PathBuf,
    until: Until,
}

impl Extension {
    /// The tokenizer of `folder`, and what becomes of it.
    pub fn open(folder: &Path, pieces: usize, least: u64) -> Result<(Tokenizer, Self), Error> {
        let files = folder::read(folder)?;
        let fault = |message: String| Error::Tokenizer {
            path: files.path.clone(),
            message,
        };
        let tokenizer = guard(|| {
            let tokenizer = files.parse()?;
            folder::check_growth(&tokenizer)?;
            Ok(tokenizer)
        });
        let tokenizer = tokenizer.map_err(fault)?;
        let refused = match tokenizer.get_model() {
            ModelWrapper::WordLevel(_) => Some("whole words only"),
            ModelWrapper::BPE(model)
                if model
                    .end_of_word_suffix
                    .as_ref()
                    .is_some_and(|suffix| !suffix.is_empty()) =>
            {
                Some("pieces that say where words end")
            }
            ModelWrapper::BPE(_) | ModelWrapper::WordPiece(_) | ModelWrapper::Unigram(_) => None,
        };
        if let Some(found) = refused {
            return Err(fault(format!(
                "expected word pieces, byte pairs or a unigram model to extend, found one of {found}"
            )));
        }
        let has = tokenizer.get_vocab(true).into_values().max();
        let has = has.map_or(0, |id| id as usize + 1);
        if pieces <= has {
            return Err(fault(format!(
                "expected a larger vocabulary than the {has} ids it has, found {pieces}; ask for more"
            )));
        }
        let until = Until {
            pieces,
            least: least.max(1),
        };
        let folder = folder.to_owned();
        Ok((tokenizer, Self { folder, until }))
    }

    pub fn train(
        &self,
        tokenizer: &Tokenizer,
        words: &HashMap<String, u64>,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Trained, Error> {
        let configs = Configs::of(&self.folder)?;
        let extended = guard(|| self.extended(tokenizer, words, tell));
        let tokenizer = extended.map_err(|message| Error::Tokenizer {
            path: self.folder.clone(),
            message,
        })?;
        Ok(Trained { tokenizer, configs })
    }

    fn extended(
        &self,
        tokenizer: &Tokenizer,
        words: &HashMap<String, u64>,
        tell: &mut dyn FnMut(usize),
    ) -> Result<Tokenizer, String> {
        let old = tokenizer.get_vocab(true);
        let mut pieces = Pieces::default();
        for (spelling, &id) in &old {
            pieces.put(spelling, id);
        }
        let with_letters = {
            let letters = self.missing(tokenizer.get_model(), words)?;
            let room = self.until.pieces.saturating_sub(pieces.len());
            for letter in letters.into_iter().take(room) {
                pieces.add(&letter);
            }
            with_pieces(tokenizer, &pieces, &[], 0)?
        };
        let model = with_letters.get_model();
        let mut spelled = Vec::with_capacity(words.len());
        for (word, &count) in words {
            if let Some(word) = known(model, word)? {
                spelled.push((word, count));
            }
        }
        let total = spelled
            .iter()
            .map(|(word, count)| word.len() as u64 * count)
            .sum();
        let prefix = prefix(model);
        let merges = pairs::learn(&mut pieces, spelled, &prefix, self.until, tell);
        let extended = with_pieces(&with_letters, &pieces, &merges, total)?;
        let new = extended.get_vocab(true);
        match old.iter().find(|(token, id)| new.get(*token) != Some(id)) {
            Some((token, id)) => Err(format!(
                "token {token:?} would lose its id, {id}; its vocabulary contradicts itself"
            )),
            None => Ok(extended),
        }
    }

    /// Pieces of one character that words need and `model` lacks, the most frequent first.
    fn missing(
        &self,
        model: &ModelWrapper,
        words: &HashMap<String, u64>,
    ) -> Result<Vec<String>, String> {
        let prefix = prefix(model);
        let mut counts: HashMap<String, u64> = HashMap::new();
        for (word, &count) in words {
            if known(model, word)?.is_some() {
                continue;
            }
            for (place, letter) in word.chars().enumerate() {
                let piece = format!("{}{letter}", if place > 0 { &*prefix } else { "" });
                if model.token_to_id(&piece).is_none() {
                    *counts.entry(piece).or_default() += count;
                }
            }
        }
        let mut letters: Vec<(String, u64)> = counts.into_iter().collect();
        letters.retain(|&(_, count)| count >= self.until.least);
        letters.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(letters.into_iter().map(|(letter, _)| letter).collect())
    }
}

/// What pieces within words begin with.
fn prefix(model: &ModelWrapper) -> String {
    match model {
        ModelWrapper::WordPiece(model) => model.continuing_subword_prefix.clone(),
        ModelWrapper::BPE(model) => model
            .get_continuing_subword_prefix()
            .clone()
            .unwrap_or_default(),
        ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => String::new(),
    }
}

/// The pieces of `word`, if the model can spell it.
fn known(model: &ModelWrapper, word: &str) -> Result<Option<Vec<u32>>, String> {
    let tokens = model.tokenize(word).map_err(|e| e.to_string())?;
    let prefix = prefix(model);
    // What is unknown is spelled otherwise than the word, or left out.
    let mut rest = word;
    for (place, token) in tokens.iter().enumerate() {
        let spelling = match place {
            0 => &*token.value,
            _ => token.value.strip_prefix(&prefix).unwrap_or(&token.value),
        };
        match rest.strip_prefix(spelling) {
            Some(after) if model.token_to_id(&token.value) == Some(token.id) => rest = after,
            _ => return Ok(None),
        }
    }
    let ids = tokens.iter().map(|token| token.id).collect();
    Ok(rest.is_empty().then_some(ids))
}

/// `tokenizer` with these pieces, and `merges` after those it has; the pieces of the words that taught them are `total`.
fn with_pieces(
    tokenizer: &Tokenizer,
    pieces: &Pieces,
    merges: &[Merge],
    total: u64,
) -> Result<Tokenizer, String> {
    let mut value = serde_json::to_value(tokenizer).map_err(|e| e.to_string())?;
    let model = &mut value["model"];
    let spellings = pieces.spellings();
    if let ModelWrapper::Unigram(_) = tokenizer.get_model() {
        let learnt: HashMap<u32, u64> =
            merges.iter().map(|merge| (merge.id, merge.count)).collect();
        let all = model["vocab"]
            .as_array_mut()
            .ok_or("expected a list of pieces")?;
        let scores = all.iter().filter_map(|piece| piece[1].as_f64());
        let lowest = scores.fold(0.0, f64::min);
        for (id, spelling) in (0..).zip(spellings).skip(all.len()) {
            let score = match learnt.get(&id) {
                Some(&count) => ((count as f64 / total as f64).ln() * 1e6).round() / 1e6,
                None => lowest,
            };
            // An id that nothing has is a piece that no text holds.
            let spelling = if spelling.is_empty() {
                format!("<unused{id}>")
            } else {
                spelling.clone()
            };
            all.push(json!([spelling, score]));
        }
    } else {
        model["vocab"] = shape::ids(spellings);
        if let Some(all) = model.get_mut("merges").and_then(Value::as_array_mut) {
            let spelled = |id: u32| &*spellings[id as usize];
            all.extend(
                merges
                    .iter()
                    .map(|merge| json!([spelled(merge.pair.0), spelled(merge.pair.1)])),
            );
        }
    }
    tokenizers_from(&value)
}
