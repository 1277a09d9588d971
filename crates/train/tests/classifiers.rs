//! Classifiers on features against numbers that scikit-learn gave `tools/golden/classifiers.py`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use cloze_data::text::terms::Terms;
use cloze_runtime::predict::features::{Rule, Scale};
use cloze_spec::text::{Classifier, Forest, Grams};
use cloze_train::text::features::Learning;
use serde::Deserialize;

/// Of probabilities: the optimum is one, and both stop close to it.
const PROBABILITY: f64 = 1e-6;
/// Of a distance from the border, as a logistic function: of it both know no more than their tolerance.
const DISTANCE: f64 = 1e-5;
/// Of a weight of a term, in f32.
const WEIGHT: f32 = 1e-6;

#[derive(Deserialize)]
#[serde(untagged)]
enum Case {
    Terms {
        terms: Grams,
        train: Vec<String>,
        texts: Vec<String>,
        expected: Vec<Vec<(u32, f32)>>,
    },
    Classes {
        classifier: Classifier,
        rows: Vec<Vec<f32>>,
        classes: Vec<u32>,
        test: Vec<Vec<f32>>,
        expected: Vec<Vec<f64>>,
    },
}

/// Zeros are left out of every second row, as of terms.
fn sparse(rows: &[Vec<f32>]) -> Vec<Vec<(u32, f32)>> {
    let rows = rows.iter().enumerate();
    rows.map(|(at, row)| {
        let values = (0..).zip(row.iter().copied());
        values.filter(|(_, x)| at % 2 == 0 || *x != 0.0).collect()
    })
    .collect()
}

fn learned(rows: &[Vec<f32>], classes: &[u32], seed: u64, classifier: Classifier) -> Rule {
    let learning = Learning {
        rows: &sparse(rows),
        width: rows[0].len(),
        classes,
        count: 1 + *classes.iter().max().unwrap() as usize,
        seed,
    };
    learning.rule(classifier).unwrap()
}

#[test]
fn classifiers_and_terms_are_those_of_scikit_learn() {
    let lines = include_str!("golden/classifiers.jsonl").lines();
    for (index, line) in lines.enumerate() {
        match serde_json::from_str(line).unwrap() {
            Case::Terms {
                terms,
                train,
                texts,
                expected,
            } => {
                let train: Vec<Vec<String>> = train.into_iter().map(|text| vec![text]).collect();
                let terms = Terms::fit(&train, terms);
                // As a folder has them.
                let json = serde_json::to_string(&terms).unwrap();
                let terms: Terms = serde_json::from_str(&json).unwrap();
                for (text, expected) in texts.iter().zip(expected) {
                    let found = terms.row(&[text]);
                    assert_eq!(found.len(), expected.len(), "case {index}: {text}");
                    for (found, expected) in found.iter().zip(&expected) {
                        assert_eq!(found.0, expected.0, "case {index}: {text}");
                        assert!(
                            (found.1 - expected.1).abs() < WEIGHT,
                            "case {index}: {text}"
                        );
                    }
                }
            }
            Case::Classes {
                classifier,
                rows,
                classes,
                test,
                expected,
            } => {
                let rule = learned(&rows, &classes, 1, classifier);
                for (row, expected) in sparse(&test).iter().zip(&expected) {
                    let found = rule.scores(row, rows[0].len());
                    if let [distance] = expected[..] {
                        let expected = 1.0 / (1.0 + (-distance).exp());
                        assert_eq!(found[1] > 0.5, distance > 0.0, "case {index}: {distance}");
                        assert!(
                            (found[1] - expected).abs() < DISTANCE,
                            "case {index}: {found:?}, not {expected}"
                        );
                        continue;
                    }
                    for (found, expected) in found.iter().zip(expected) {
                        assert!(
                            (found - expected).abs() < PROBABILITY,
                            "case {index}: {found}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// Points in rings: no line parts them, and no single feature.
fn rings() -> (Vec<Vec<f32>>, Vec<u32>) {
    let points = (0..240_u32).map(|at| {
        let angle = at as f32 * 2.399;
        let class = at % 3;
        let radius = 1.0 + class as f32 + 0.3 * (at as f32 * 0.7).sin();
        (
            vec![radius * angle.cos(), radius * angle.sin(), (at % 7) as f32],
            class,
        )
    });
    points.unzip()
}

#[test]
fn what_is_not_linear_is_learned_and_seeds_give_the_same_trees() {
    let (rows, classes) = rings();
    let (own, rest) = rows.split_at(180);
    let right = |rule: &Rule| {
        let found = sparse(rest).into_iter().map(|row| {
            let scores = rule.scores(&row, 3);
            (0..3)
                .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
                .unwrap() as u32
        });
        found
            .zip(&classes[180..])
            .filter(|(found, class)| found == *class)
            .count()
    };
    let forest = Classifier::RandomForest(Forest { trees: 60 });
    let trees = learned(own, &classes[..180], 5, forest);
    assert!(right(&trees) >= 50, "{}", right(&trees));
    let json = |rule: &Rule| serde_json::to_string(rule).unwrap();
    assert_eq!(
        json(&trees),
        json(&learned(own, &classes[..180], 5, forest))
    );
    assert_ne!(
        json(&trees),
        json(&learned(own, &classes[..180], 6, forest))
    );
    let bumps: Classifier = serde_json::from_str(r#"{"kind": "rbf-svm", "c": 10.0}"#).unwrap();
    let bumps = learned(own, &classes[..180], 5, bumps);
    assert!(right(&bumps) >= 50, "{}", right(&bumps));
}

#[test]
fn values_that_are_all_the_same_are_left_as_they_are() {
    let scale = Scale::of(&[0.1, 1.0, 0.1, 3.0, 0.1, 5.0], 2);
    assert!((scale.deviation[0] - 1.0).abs() < 1e-12);
    assert!((scale.mean[1] - 3.0).abs() < 1e-12);
    assert!((scale.deviation[1] - (8.0_f64 / 3.0).sqrt()).abs() < 1e-12);
}
