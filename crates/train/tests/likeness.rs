//! `BERTScore` against numbers that the package bert-score gave `tools/golden/likeness.py`.

use std::path::Path;

use cloze_runtime::model::Checkpoint;
use cloze_train::metric::bert_score::{BertScore, rescale};
use cloze_train::metric::counts::Prf;
use serde::Deserialize;

/// Both compute in single precision.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    predictions: Vec<String>,
    references: Vec<Vec<String>>,
    baseline: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    layer: usize,
    idf: bool,
    rescaled: bool,
    expected: Vec<[f64; 3]>,
}

#[test]
fn every_text_scores_what_the_package_gives_it() {
    let golden: Golden = serde_json::from_str(include_str!("golden/likeness.json")).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden/sentence");
    let texts: Vec<(&str, Vec<&str>)> = golden
        .predictions
        .iter()
        .zip(&golden.references)
        .map(|(own, known)| (&**own, known.iter().map(String::as_str).collect()))
        .collect();
    for case in golden.cases {
        let mut scorer =
            BertScore::new(Checkpoint::open(&model).unwrap(), Some(case.layer)).unwrap();
        if case.idf {
            let all: Vec<&str> = texts.iter().flat_map(|(_, known)| known).copied().collect();
            scorer.weigh(&all).unwrap();
        }
        let row = golden.baseline.lines().nth(1 + case.layer).unwrap();
        let row: Vec<f64> = row.split(',').map(|value| value.parse().unwrap()).collect();
        let nothing = Prf {
            precision: row[1],
            recall: row[2],
            f1: row[3],
        };
        let scores = scorer.scores(&texts).unwrap();
        for (at, (score, expected)) in scores.into_iter().zip(case.expected).enumerate() {
            let score = if case.rescaled {
                rescale(score, nothing)
            } else {
                score
            };
            for (found, expected) in [score.precision, score.recall, score.f1]
                .iter()
                .zip(expected)
            {
                let off = (found - expected).abs();
                assert!(
                    off < TOLERANCE,
                    "layer {}, text {at}: {found}, not {expected}",
                    case.layer
                );
            }
        }
    }
}
