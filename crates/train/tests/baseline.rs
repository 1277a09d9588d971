//! Baselines on texts against numbers that scikit-learn gave `tools/golden/linear.py`.

use cloze_train::text::baseline::{Kind, Linear};
use serde::Deserialize;

/// Of probabilities and numbers: both stop when little is left to gain.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    kind: String,
    train: Vec<String>,
    targets: Vec<Vec<f64>>,
    test: Vec<String>,
    expected: Vec<Vec<f64>>,
}

fn singles(texts: Vec<String>) -> Vec<Vec<String>> {
    texts.into_iter().map(|text| vec![text]).collect()
}

#[test]
fn linear_models_of_terms_are_those_of_scikit_learn() {
    let lines = include_str!("golden/linear.jsonl").lines();
    for (index, line) in lines.enumerate() {
        let case: Case = serde_json::from_str(line).unwrap();
        let kind = match (&*case.kind, case.targets[0].len()) {
            ("classes", 1) | ("sets", _) => Kind::Logistic,
            ("classes", _) => Kind::Softmax,
            ("numbers", _) => Kind::Squares,
            other => panic!("{other:?}"),
        };
        let linear = Linear::fit(&singles(case.train), kind, &case.targets.concat());
        let found = linear.predict(&singles(case.test));
        let expected = case.expected.concat();
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (found - expected).abs();
            assert!(
                off < TOLERANCE,
                "case {index}, {at}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn the_texts_of_a_pair_have_terms_of_their_own() {
    let pair = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
    let texts = [
        pair("cats sleep", "dogs bark"),
        pair("dogs bark", "cats sleep"),
    ];
    let linear = Linear::fit(&texts, Kind::Logistic, &[1.0, 0.0]);
    let found = linear.predict(&texts);
    assert!(found[0] > 0.6 && found[1] < 0.4, "{found:?}");
}

#[test]
fn nothing_to_learn_from_gives_the_share_of_each_class() {
    let texts = [
        vec![String::new()],
        vec!["!".to_owned()],
        vec!["a".to_owned()],
    ];
    let linear = Linear::fit(&texts, Kind::Logistic, &[1.0, 0.0, 0.0]);
    assert!((linear.predict(&texts[..1])[0] - 1.0 / 3.0).abs() < 1e-4);
}
