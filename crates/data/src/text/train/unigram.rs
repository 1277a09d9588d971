//! Pieces with probabilities, the least useful taken away until few enough are left.

use std::collections::HashMap;

use tokenizers::AddedToken;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};

/// Pieces for `words`, each with its logarithm of probability; `specials` come first. `letters` are all in.
///
/// # Departures
/// Runs on one thread: the trainer's sums depend on how words are shared out among threads.
/// # Source
/// Kudo, Subword Regularization, ACL 2018, arXiv:1804.10959, §3.2; the trainer is that of the `tokenizers` package.
pub fn learn(
    words: &HashMap<String, u64>,
    specials: &[&str],
    unknown: &str,
    pieces: usize,
) -> Result<Vec<(String, f64)>, String> {
    let mut words: Vec<_> = words
        .iter()
        .map(|(word, &count)| (word.clone(), count))
        .collect();
    words.sort_unstable();
    // The trainer counts letters in 32 bits.
    let letters = |(word, count): &(String, u64)| count.saturating_mul(word.chars().count() as u64);
    let all = words.iter().map(letters).fold(0, u64::saturating_add);
    let scale = all.div_ceil(u64::from(u32::MAX) / 2).max(1);
    let words = words.into_iter();
    let words = words
        .map(|(word, count)| (word, (count / scale).max(1) as u32))
        .collect();
    let special = |token: &&str| AddedToken::from(*token, true);
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(pieces).map_err(|e| e.to_string())?)
        .special_tokens(specials.iter().map(special).collect())
        .unk_token(Some(unknown.to_owned()))
        .build()
        .map_err(|e| e.to_string())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let model = pool.map_err(|e| e.to_string())?.install(|| {
        let mut model = Unigram::default();
        let trained = trainer
            .do_train(words, &mut model)
            .map_err(|e| e.to_string());
        trained.map(|_| model)
    })?;
    let mut found: Vec<(String, f64)> = model.iter().cloned().collect();
    let rest = found.split_off(specials.len());
    found.extend(in_order(rest, pieces.saturating_sub(specials.len())));
    Ok(found)
}

/// The same `pieces` every time, and at most `most` of them: the trainer hands out the scores of letters that it had
/// dropped, and must have, in no order.
fn in_order(mut pieces: Vec<(String, f64)>, most: usize) -> Vec<(String, f64)> {
    /// By how much each such letter scores above the one before it.
    const STEP: f64 = 0.0001;
    let is_letter = |piece: &str| piece.chars().nth(1).is_none();
    pieces.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let mut above = 0.0;
    let mut lowest = None;
    let mut given = Vec::new();
    for (index, (_, score)) in pieces
        .iter()
        .enumerate()
        .filter(|(_, (piece, _))| is_letter(piece))
    {
        let lowest = *lowest.get_or_insert(*score);
        let is_next = score.to_bits() == (lowest + (above + STEP)).to_bits();
        above += if is_next { STEP } else { 0.0 };
        if score.to_bits() == (lowest + above).to_bits() {
            given.push(index);
        }
    }
    let mut spellings: Vec<String> = given.iter().map(|&index| pieces[index].0.clone()).collect();
    spellings.sort_unstable();
    for (index, spelling) in given.into_iter().zip(spellings) {
        pieces[index].0 = spelling;
    }
    let mut surplus = pieces.len().saturating_sub(most);
    pieces.retain(|(piece, _)| {
        let goes = surplus > 0 && !is_letter(piece);
        surplus -= usize::from(goes);
        !goes
    });
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    // As precise as SentencePiece writes them, and short enough that every reader makes the same number of them.
    for (_, score) in &mut pieces {
        *score = (*score * 1e6).round() / 1e6;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_handed_out_in_another_order_make_the_same_pieces() {
        let lowest = -9.25;
        let [one, two] = [lowest + 0.0001, lowest + 0.0001 + 0.0001];
        let piece = |text: &str, score| (text.to_owned(), score);
        let rest = [piece("ab", -3.0), piece("a", -4.0), piece("bc", -9.3)];
        let mut first = vec![piece("x", lowest), piece("y", one), piece("z", two)];
        let mut second = vec![piece("z", lowest), piece("x", one), piece("y", two)];
        first.extend(rest.clone());
        second.extend(rest);
        assert_eq!(in_order(first.clone(), 9), in_order(second, 9));
        let kept: Vec<_> = in_order(first, 5)
            .into_iter()
            .map(|(piece, _)| piece)
            .collect();
        assert_eq!(kept, ["ab", "a", "z", "y", "x"]);
    }
}
