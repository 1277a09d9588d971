//! Hiding items for the cloze objective.

use cloze_spec::objective::{Cloze, Mixed, Replace};

use crate::batch::PackedBatch;
use crate::stream::Stream;

/// Which items of a window are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Drawn without replacement, as many as the objective says.
    Random,
    /// The last one, which a blank replaces: what a recommendation looks like.
    Last,
}

/// Appends `window` with some items hidden, and the hidden items as what is to be predicted. `places` is scratch.
pub(crate) fn push(
    batch: &mut PackedBatch,
    window: &[u32],
    hidden: Hidden,
    settings: &Cloze,
    items: usize,
    stream: &mut Stream,
    places: &mut Vec<u32>,
) {
    let first = batch.push(window);
    places.clear();
    match hidden {
        Hidden::Last => places.push(window.len() as u32 - 1),
        Hidden::Random => {
            places.extend(0..window.len() as u32);
            let count = settings.masked_count(window.len());
            stream.draw(places, count);
            places.truncate(count);
            places.sort_unstable();
        }
    }
    for &place in &*places {
        let row = first + place;
        batch.rows.push(row);
        batch.labels.push(window[place as usize]);
        let blank = items as u32;
        batch.tokens[row as usize] = match (hidden, settings.replace) {
            (Hidden::Last, _) | (Hidden::Random, Replace::Always) => blank,
            (Hidden::Random, Replace::Mixed(Mixed { mask, random })) => {
                let chance = stream.unit();
                if chance < mask {
                    blank
                } else if chance < mask + random {
                    stream.below(blank)
                } else {
                    window[place as usize]
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use cloze_spec::objective::{LastItem, Loss};
    use proptest::prelude::*;

    use super::*;
    use crate::stream::Purpose;

    const ITEMS: usize = 1000;

    fn cloze(mask_prob: f64, max_masked: Option<usize>, replace: Replace) -> Cloze {
        Cloze {
            mask_prob,
            max_masked,
            replace,
            last_item: LastItem::Never,
            duplicates: 1,
            loss: Loss::Softmax,
        }
    }

    fn masked(window: &[u32], hidden: Hidden, settings: &Cloze, index: u64) -> PackedBatch {
        let mut batch = PackedBatch::new();
        let mut stream = Stream::new(7, 0, Purpose::Mask, index);
        push(
            &mut batch,
            window,
            hidden,
            settings,
            ITEMS,
            &mut stream,
            &mut Vec::new(),
        );
        batch
    }

    proptest! {
        #[test]
        fn as_many_items_as_the_formula_says_are_hidden_and_no_other_changes(
            window in prop::collection::vec(0..ITEMS as u32, 1..250),
            mask_prob in 0.001_f64..=1.0,
            max_masked in prop::option::of(1_usize..50),
            index in any::<u64>(),
        ) {
            let settings = cloze(mask_prob, max_masked, Replace::Always);
            let batch = masked(&window, Hidden::Random, &settings, index);
            batch.assert_valid(ITEMS);
            let wanted = ((mask_prob * window.len() as f64).round() as usize).max(1).min(max_masked.unwrap_or(250));
            prop_assert_eq!(batch.rows.len(), wanted);
            let mut restored = batch.tokens.clone();
            for (&row, &label) in batch.rows.iter().zip(&batch.labels) {
                prop_assert_eq!(restored[row as usize], ITEMS as u32);
                restored[row as usize] = label;
            }
            prop_assert_eq!(restored, window);
        }
    }

    #[test]
    fn only_the_last_item_is_hidden_when_recommending_is_practised() {
        let settings = cloze(
            0.5,
            None,
            Replace::Mixed(Mixed {
                mask: 0.0,
                random: 0.0,
            }),
        );
        let batch = masked(&[4, 5, 6], Hidden::Last, &settings, 0);
        assert_eq!(batch.tokens, [4, 5, ITEMS as u32]);
        assert_eq!((batch.rows, batch.labels), (vec![2], vec![6]));
    }

    #[test]
    fn every_place_is_hidden_as_often() {
        let settings = cloze(0.2, None, Replace::Always);
        let mut counts = [0_u32; 20];
        for index in 0..5000 {
            for row in masked(&[1; 20], Hidden::Random, &settings, index).rows {
                counts[row as usize] += 1;
            }
        }
        // 1000 each is expected; the standard deviation is 28.
        assert!(
            counts.iter().all(|count| count.abs_diff(1000) < 150),
            "{counts:?}"
        );
    }

    #[test]
    fn blanks_random_items_and_kept_items_have_their_shares() {
        let settings = cloze(
            1.0,
            None,
            Replace::Mixed(Mixed {
                mask: 0.8,
                random: 0.1,
            }),
        );
        let window = vec![1; 10_000];
        let batch = masked(&window, Hidden::Random, &settings, 0);
        assert_eq!(batch.labels, window);
        let blanks = batch
            .tokens
            .iter()
            .filter(|&&token| token == ITEMS as u32)
            .count();
        let kept = batch.tokens.iter().filter(|&&token| token == 1).count();
        let random = window.len() - blanks - kept;
        // Standard deviations are 40 and 30.
        assert!(
            blanks.abs_diff(8000) < 200 && kept.abs_diff(1000) < 150 && random.abs_diff(1000) < 150
        );
    }
}
