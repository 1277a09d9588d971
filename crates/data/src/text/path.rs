//! Labels along a text, where most tokens give none and the same label several times in a row counts once.
//!
//! # Source
//! Graves et al., Connectionist Temporal Classification, ICML 2006, §3.

/// How many tokens a sequence of labels takes: one each, and one without a label between two that are the same.
pub fn tokens(labels: &[u32]) -> usize {
    labels.len() + labels.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// The labels of the likeliest path, and how likely that path is. It need not be of the likeliest sequence, which many paths may
/// share.
///
/// # Shapes
/// `logits: [T, C + 1]`, the last column that of no label
pub fn best(logits: &[f32], width: usize) -> (Vec<u32>, f64) {
    let (mut labels, mut before, mut log) = (Vec::new(), width - 1, 0.0);
    for row in logits.chunks(width) {
        let mut label = 0;
        for (at, &score) in row.iter().enumerate() {
            if score > row[label] {
                label = at;
            }
        }
        let sum: f64 = row.iter().map(|x| f64::from(x - row[label]).exp()).sum();
        log -= sum.ln();
        if label != before && label + 1 != width {
            labels.push(label as u32);
        }
        before = label;
    }
    (labels, log.exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_count_once_and_blanks_not_at_all() {
        let of = |path: &[usize]| {
            let rows = path.iter().flat_map(|&at| {
                let mut row = [0.0, 0.0, 0.0];
                row[at] = 2.0;
                row
            });
            best(&rows.collect::<Vec<f32>>(), 3)
        };
        assert_eq!(of(&[2, 0, 0, 2, 0, 1, 1, 2]).0, [0, 0, 1]);
        assert_eq!(of(&[2, 2]).0, [0; 0]);
        assert_eq!(of(&[]), (Vec::new(), 1.0));
        let share = 2_f64.exp() / (2_f64.exp() + 2.0);
        assert!((of(&[1, 2]).1 - share * share).abs() < 1e-12);
        assert_eq!(
            [tokens(&[]), tokens(&[0, 1, 0]), tokens(&[1, 1, 1])],
            [0, 3, 5]
        );
    }
}
