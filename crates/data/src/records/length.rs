//! Batches of texts of similar length.

/// Indices of `lengths` in batches of at most `max_tokens` tokens, the longest texts first; a text that is longer is a
/// batch of its own. Texts of a batch are neighbours in length, so that attention over them takes about the same time
/// each. Every index is in exactly one batch, whatever order [`in_order`] has to restore.
pub fn batches(lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        let length = lengths[index];
        match batches.last_mut() {
            Some(batch) if length <= room => {
                batch.push(index);
                room -= length;
            }
            _ => {
                batches.push(vec![index]);
                room = max_tokens.saturating_sub(length);
            }
        }
    }
    batches
}

/// Results of [`batches`] in the order of the texts.
///
/// # Panics
/// If the results are not as many as the texts.
pub fn in_order<T>(batches: &[Vec<usize>], results: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut indices = batches.iter().flatten();
    let mut numbered: Vec<(usize, T)> = results
        .into_iter()
        .map(|result| (*indices.next().expect("one result for each text"), result))
        .collect();
    assert!(indices.next().is_none(), "one result for each text");
    numbered.sort_unstable_by_key(|(index, _)| *index);
    numbered.into_iter().map(|(_, result)| result).collect()
}

/// Gathers texts until there are enough to form batches of: the bound on how far a job looks ahead.
#[derive(Debug)]
pub struct Window<T> {
    max_tokens: usize,
    max_texts: usize,
    tokens: usize,
    texts: Vec<T>,
}

impl<T> Window<T> {
    /// A window that is full at `max_tokens` tokens or `max_texts` texts, whichever comes first.
    pub fn new(max_tokens: usize, max_texts: usize) -> Self {
        Self {
            max_tokens,
            max_texts,
            tokens: 0,
            texts: Vec::new(),
        }
    }

    /// Takes in a text of `tokens` tokens; gives all texts back, in their order, if the window is full with it.
    pub fn push(&mut self, text: T, tokens: usize) -> Option<Vec<T>> {
        self.texts.push(text);
        self.tokens += tokens;
        let full = self.tokens >= self.max_tokens || self.texts.len() >= self.max_texts;
        full.then(|| self.take())
    }

    /// The texts of a window that is not full.
    pub fn take(&mut self) -> Vec<T> {
        self.tokens = 0;
        std::mem::take(&mut self.texts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_within_the_budget(
            lengths in prop::collection::vec(0_usize..50, 0..80), max_tokens in 0_usize..100
        ) {
            let batches = batches(&lengths, max_tokens);
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&i| lengths[i]).sum();
                prop_assert!(tokens <= max_tokens || lengths[batch[0]] > max_tokens);
                prop_assert!(lengths[batch[0]] <= max_tokens || batch[1..].iter().all(|&i| lengths[i] == 0));
            }
            let flat: Vec<usize> = batches.iter().flatten().copied().collect();
            prop_assert!(flat.iter().map(|&i| lengths[i]).rev().is_sorted());
            let expected: Vec<usize> = (0..lengths.len()).collect();
            prop_assert_eq!(in_order(&batches, flat), expected);
        }
    }

    #[test]
    fn small_texts_fill_a_batch_to_its_budget() {
        assert_eq!(
            batches(&[3, 9, 2, 5, 20], 10),
            [vec![4], vec![1], vec![3, 0, 2]]
        );
    }

    #[test]
    fn a_window_gives_its_texts_when_full() {
        let mut window = Window::new(10, 3);
        assert_eq!(window.push('a', 4), None);
        assert_eq!(window.push('b', 6), Some(vec!['a', 'b']));
        assert_eq!(window.push('c', 1), None);
        assert_eq!(window.push('d', 1), None);
        assert_eq!(window.push('e', 1), Some(vec!['c', 'd', 'e']));
        assert_eq!(window.push('f', 1), None);
        assert_eq!(window.take(), ['f']);
    }
}
