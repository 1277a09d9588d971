use burn::tensor::{Tensor, TensorData};

/// How unlikely the labels of all texts are, by label: the sum over the texts of `−ln Σ` of the shares of all paths that give
/// them, divided by the number of labels. A label that a text gives once is one that several tokens in a row may give; between
/// two that are the same is one that gives none.
///
/// # Shapes
/// `logits: [N, C + 1]`, the last column that of no label; `offsets: [B + 1]`, `labels: B` → `[1]`
/// # Source
/// Graves et al., Connectionist Temporal Classification, ICML 2006, §4: sums forward and backward, here in logarithms and `f64`;
/// the gradient of a score is its share less that of all paths through it (§4.2, equation 16).
/// # Departures
/// The mean is over labels, so that the rates of other losses fit.
/// # Panics
/// If a text has fewer tokens than its labels take.
pub(super) fn loss(logits: Tensor<2>, offsets: &[u32], labels: &[Vec<u32>]) -> Tensor<1> {
    let [rows, width] = logits.dims();
    let device = logits.device();
    let scores: Vec<f32> = logits
        .clone()
        .into_data()
        .try_into_vec()
        .expect("encoders compute in f32");
    let texts = offsets.windows(2).zip(labels);
    let each: Vec<(f64, Vec<f64>)> = texts
        .map(|(ends, labels)| {
            let own = ends[0] as usize * width..ends[1] as usize * width;
            text_loss(&scores[own], width, labels)
        })
        .collect();
    let count = labels.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let loss = each.iter().map(|(loss, _)| loss).sum::<f64>() / count;
    let gradient = each.iter().flat_map(|(_, gradient)| gradient);
    let gradient: Vec<f32> = gradient.map(|g| (g / count) as f32).collect();
    let gradient = Tensor::<2>::from_data(TensorData::new(gradient, [rows, width]), &device);
    // A plane through the loss, of its slope: what Burn differentiates is what was found above.
    let plane = (logits * gradient).sum();
    plane.clone() - plane.detach() + Tensor::from_data([loss as f32], &device)
}

/// `−ln Σ` of the shares of all paths of one text, and its gradient, `[T, C + 1]`.
fn text_loss(logits: &[f32], width: usize, labels: &[u32]) -> (f64, Vec<f64>) {
    let blank = width - 1;
    let log_shares: Vec<f64> = logits.chunks(width).flat_map(log_softmax).collect();
    let tokens = log_shares.len() / width;
    // No label, a label, no label, a label, …: [S]
    let states: Vec<usize> = (0..=2 * labels.len())
        .map(|at| {
            if at % 2 == 0 {
                blank
            } else {
                labels[at / 2] as usize
            }
        })
        .collect();
    let count = states.len();
    // From where a state may be come to beside itself and the one before: the label before, if it is another.
    let skips = |at: usize| at >= 2 && states[at] != blank && states[at] != states[at - 2];
    let share = |token: usize, at: usize| log_shares[token * width + states[at]];
    let none = f64::NEG_INFINITY;

    let mut before = vec![none; tokens * count];
    let mut after = vec![none; tokens * count];
    for token in 0..tokens {
        for at in 0..count {
            let come = if token == 0 {
                if at < 2 { 0.0 } else { none }
            } else {
                let last = &before[(token - 1) * count..][..count];
                let one = if at > 0 { last[at - 1] } else { none };
                let two = if skips(at) { last[at - 2] } else { none };
                log_sum([last[at], one, two])
            };
            before[token * count + at] = come + share(token, at);
        }
    }
    // Without the token's own share, so that a path's is `before + after`.
    for token in (0..tokens).rev() {
        for at in 0..count {
            after[token * count + at] = if token + 1 == tokens {
                if at + 2 >= count { 0.0 } else { none }
            } else {
                let next = |to: usize| after[(token + 1) * count + to] + share(token + 1, to);
                let one = if at + 1 < count { next(at + 1) } else { none };
                let two = if at + 2 < count && skips(at + 2) {
                    next(at + 2)
                } else {
                    none
                };
                log_sum([next(at), one, two])
            };
        }
    }
    let ends = &before[(tokens - 1) * count..];
    let second = if count > 1 { ends[count - 2] } else { none };
    let whole = log_sum([ends[count - 1], second, none]);
    assert!(whole > none, "{tokens} tokens have room for the labels");
    let mut gradient: Vec<f64> = log_shares.iter().map(|log| log.exp()).collect();
    for token in 0..tokens {
        for (at, &state) in states.iter().enumerate() {
            let through = before[token * count + at] + after[token * count + at] - whole;
            gradient[token * width + state] -= through.exp();
        }
    }
    (-whole, gradient)
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = most + row.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - log).collect()
}

fn log_sum(logs: [f64; 3]) -> f64 {
    let most = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use cloze_data::text::path;
    use serde_json::{Value, from_value};

    use super::*;

    fn scores(tokens: usize, width: usize, seed: usize) -> Vec<f32> {
        let wave = |at: usize| ((at * 37 + seed * 11) as f32 * 0.61).sin() * 2.0;
        (0..tokens * width).map(wave).collect()
    }

    /// The sum over all paths, one by one.
    fn by_enumeration(logits: &[f32], width: usize, labels: &[u32]) -> f64 {
        let logs: Vec<Vec<f64>> = logits.chunks(width).map(log_softmax).collect();
        let mut sum = 0.0;
        for mut number in 0..width.pow(logs.len() as u32) {
            let (mut share, mut found, mut before) = (0.0, Vec::new(), width - 1);
            for row in &logs {
                let state = number % width;
                number /= width;
                share += row[state];
                if state != before && state + 1 != width {
                    found.push(state as u32);
                }
                before = state;
            }
            if found == labels {
                sum += share.exp();
            }
        }
        -sum.ln()
    }

    #[test]
    fn all_paths_are_summed() {
        for (tokens, labels) in [
            (1, &[][..]),
            (1, &[1]),
            (3, &[0, 0]),
            (4, &[0, 1]),
            (5, &[1, 1, 0]),
            (5, &[0, 1, 0, 1]),
            (5, &[]),
        ] {
            let logits = scores(tokens, 3, labels.len());
            let (found, _) = text_loss(&logits, 3, labels);
            let expected = by_enumeration(&logits, 3, labels);
            assert!(
                (found - expected).abs() < 1e-10,
                "{labels:?}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        let labels = [2, 2, 0];
        let logits = scores(7, 4, 1);
        let (_, gradient) = text_loss(&logits, 4, &labels);
        for at in 0..logits.len() {
            let moved = |by: f32| {
                let mut logits = logits.clone();
                logits[at] += by;
                text_loss(&logits, 4, &labels).0
            };
            let step = 1.0 / 1024.0;
            let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!(
                (slope - gradient[at]).abs() < 1e-5,
                "{at}: {slope}, not {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn likely_and_impossible_scores_stay_numbers() {
        let mut logits = vec![-1e4; 6 * 3];
        for (token, label) in [2, 0, 0, 2, 1, 2].into_iter().enumerate() {
            logits[token * 3 + label] = 1e4;
        }
        let (loss, gradient) = text_loss(&logits, 3, &[0, 1]);
        assert!(loss.abs() < 1e-9, "{loss}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-9));
        let (loss, gradient) = text_loss(&logits, 3, &[1, 0]);
        assert!(loss > 1e4 && loss.is_finite(), "{loss}");
        assert!(gradient.iter().all(|g| g.is_finite()));
        assert_eq!(path::best(&logits, 3).0, [0, 1]);
    }

    #[test]
    fn pytorch_gives_the_same() {
        let cases = include_str!("../../tests/golden/ctc.jsonl").lines();
        for mut case in cases.map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let floats = |value: Value| from_value::<Vec<f32>>(value).unwrap();
            let [logits, losses, gradients] =
                ["logits", "losses", "gradient"].map(|key| floats(case[key].take()));
            let offsets: Vec<u32> = from_value(case["offsets"].take()).unwrap();
            let labels: Vec<Vec<u32>> = from_value(case["labels"].take()).unwrap();
            let rows = offsets[offsets.len() - 1] as usize;
            let logits = TensorData::new(logits.clone(), [rows, logits.len() / rows]);
            let logits = Tensor::<2>::from_data(logits, &Device::flex().autodiff()).require_grad();
            let loss = loss(logits.clone(), &offsets, &labels);
            let count = labels.iter().map(Vec::len).sum::<usize>().max(1) as f32;
            let gradient = logits.grad(&loss.backward()).unwrap().mul_scalar(count);
            let floats = |data: TensorData| data.try_into_vec::<f32>().unwrap();
            let found = floats(loss.into_data())[0] * count;
            let expected: f32 = losses.iter().sum();
            assert!(
                (found - expected).abs() <= 1e-5 * expected,
                "{found}, not {expected}"
            );
            // PyTorch sums in f32.
            for (found, expected) in floats(gradient.into_data()).iter().zip(&gradients) {
                assert!((found - expected).abs() < 2e-5, "{found}, not {expected}");
            }
        }
    }
}
