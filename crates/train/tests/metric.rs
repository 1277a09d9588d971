//! Metrics of labels and texts against numbers that the reference packages gave `tools/golden/metric.py`.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;

use cloze_train::metric::answer::{self, Rules};
use cloze_train::metric::bleu::{Bleu, Smoothing, Tokenizer};
use cloze_train::metric::chrf::Chrf;
use cloze_train::metric::classification::Confusion;
use cloze_train::metric::counts::{Average, Counts, Prf, average};
use cloze_train::metric::curve::{self, Classes};
use cloze_train::metric::entity::{self, Scheme};
use cloze_train::metric::multilabel::Multilabel;
use cloze_train::metric::perplexity::Perplexity;
use cloze_train::metric::rouge::Rouge;
use cloze_train::metric::ter::{self, Ter};
use cloze_train::metric::{calibration, mcnemar, regression};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Relative to numbers above 1, absolute below: the packages add in another order.
const TOLERANCE: f64 = 1e-12;

type Numbers = BTreeMap<String, Option<f64>>;

#[derive(Default)]
struct Found(Numbers);

impl Found {
    fn add(&mut self, name: impl Into<String>, value: impl Into<Option<f64>>) {
        self.0.insert(name.into(), value.into());
    }

    fn prf(&mut self, name: &str, prf: Prf) {
        self.add(format!("{name}.precision"), prf.precision);
        self.add(format!("{name}.recall"), prf.recall);
        self.add(format!("{name}.f1"), prf.f1);
    }

    fn averages(&mut self, counts: &[Counts]) {
        self.prf("micro", average(counts, Average::Micro));
        self.prf("macro", average(counts, Average::Macro));
        self.prf("weighted", average(counts, Average::Weighted));
    }
}

/// A value of a case.
fn take<T: DeserializeOwned>(case: &Value, name: &str) -> T {
    T::deserialize(&case[name]).unwrap_or_else(|error| panic!("{name} of {case}: {error}"))
}

fn compute(case: &Value) -> Numbers {
    let mut found = Found::default();
    match case["metric"].as_str().unwrap() {
        "classification" => classification(case, &mut found),
        "scores" => scores(case, &mut found),
        "multilabel" => multilabel(case, &mut found),
        "regression" => {
            let (a, b): (Vec<f64>, Vec<f64>) = (take(case, "labels"), take(case, "predictions"));
            found.add("pearson", regression::pearson(&a, &b));
            found.add("spearman", regression::spearman(&a, &b));
            found.add("mse", regression::mean_squared_error(&a, &b));
            found.add("mae", regression::mean_absolute_error(&a, &b));
        }
        "entities" => entities(case, &mut found),
        "answers" => answers(case, &mut found),
        "bleu" => bleu(case, &mut found),
        "chrf" => {
            let (with_words, lowercase) = (take(case, "with_words"), take(case, "lowercase"));
            let of = |own: &str, known: &[&str]| Chrf::of(own, known, with_words, lowercase);
            let mut sum = Chrf::default();
            for (number, counts) in each_text(case, of).into_iter().enumerate() {
                sum += &counts;
                found.add(format!("sentence.{number}"), counts.score());
            }
            found.add("chrf", sum.score());
        }
        "ter" => {
            let settings = ter::Settings {
                normalize: take(case, "normalize"),
                no_punctuation: take(case, "no_punctuation"),
                case_sensitive: take(case, "case_sensitive"),
            };
            let mut sum = Ter::default();
            let counts = each_text(case, |own, known| Ter::of(own, known, settings));
            for (number, counts) in counts.into_iter().enumerate() {
                sum += &counts;
                found.add(format!("sentence.{number}"), counts.score());
            }
            found.add("ter", sum.score());
        }
        "rouge" => {
            let stem = take(case, "stem");
            let scores = each_text(case, |own, known| Rouge::of(own, known, stem));
            for (number, scores) in scores.into_iter().enumerate() {
                found.prf(&format!("{number}.rouge1"), scores.rouge1);
                found.prf(&format!("{number}.rouge2"), scores.rouge2);
                found.prf(&format!("{number}.rougeL"), scores.rouge_l);
                found.prf(&format!("{number}.rougeLsum"), scores.rouge_lsum);
            }
        }
        "perplexity" => {
            let mut sums = Perplexity::default();
            for text in take::<Vec<Vec<f64>>>(case, "log_probs") {
                sums.add(text.iter().sum(), text.len() as u64);
            }
            found.add("perplexity", sums.over_tokens());
            found.add("mean_perplexity", sums.mean_over_texts());
        }
        "mcnemar" => {
            let test = mcnemar::of_counts(take(case, "only_first"), take(case, "only_second"));
            found.add("exact_p", test.exact_p);
            if test.chi_squared.is_some() {
                found.add("chi_squared", test.chi_squared);
                found.add("chi_squared_p", test.chi_squared_p);
            }
        }
        other => panic!("no metric {other}"),
    }
    found.0
}

fn classification(case: &Value, found: &mut Found) {
    let (labels, predictions): (Vec<usize>, Vec<usize>) =
        (take(case, "labels"), take(case, "predictions"));
    let mut confusion = Confusion::new(take(case, "classes"));
    for (&label, &prediction) in labels.iter().zip(&predictions) {
        confusion.add(label, prediction);
    }
    found.add("accuracy", confusion.accuracy());
    found.add("mcc", confusion.mcc());
    let classes = confusion.per_class();
    found.averages(&classes);
    for (class, counts) in classes.iter().enumerate() {
        found.prf(&class.to_string(), counts.prf());
    }
}

fn scores(case: &Value, found: &mut Found) {
    let labels: Vec<usize> = take(case, "labels");
    let scores: Vec<f64> = take(case, "scores");
    let classes: usize = take(case, "classes");
    found.add("brier", calibration::brier(&scores, &labels, classes));
    let (mut confidences, mut is_correct) = (Vec::new(), Vec::new());
    for (row, &label) in scores.chunks(classes).zip(&labels) {
        let most = row.iter().copied().fold(0.0, f64::max);
        confidences.push(most);
        is_correct.push(row.iter().position(|&score| score >= most) == Some(label));
    }
    let bins = calibration::bins(&confidences, &is_correct, 15);
    found.add("ece", calibration::expected_error(&bins));
    if classes == 2 {
        let column: Vec<f64> = scores.chunks(2).map(|row| row[1]).collect();
        let is_positive: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
        found.add("roc_auc", curve::roc_auc(&column, &is_positive));
        let precision = curve::average_precision(&column, &is_positive);
        found.add("average_precision", precision);
    } else {
        for (name, mean) in [("macro", Classes::Macro), ("weighted", Classes::Weighted)] {
            let areas = [
                (
                    "roc_auc",
                    curve::roc_auc as fn(&[f64], &[bool]) -> Option<f64>,
                ),
                ("average_precision", curve::average_precision),
            ];
            for (area, of) in areas {
                let value = curve::one_against_rest(of, &scores, &labels, classes, mean);
                found.add(format!("{area}.{name}"), value);
            }
        }
    }
}

fn multilabel(case: &Value, found: &mut Found) {
    let mut sums = Multilabel::new(take(case, "classes"));
    let (labels, predictions): (Vec<Vec<usize>>, Vec<Vec<usize>>) =
        (take(case, "labels"), take(case, "predictions"));
    for (labels, predictions) in labels.iter().zip(&predictions) {
        sums.add(labels, predictions);
    }
    found.averages(sums.per_label());
    found.prf("samples", sums.samples());
    found.add("subset_accuracy", sums.subset_accuracy());
    found.add("hamming_loss", sums.hamming_loss());
}

fn entities(case: &Value, found: &mut Found) {
    let scheme = match case["scheme"].as_str().unwrap() {
        "conll" => Scheme::Conll,
        "iob1" => Scheme::Iob1,
        "iob2" => Scheme::Iob2,
        "ioe2" => Scheme::Ioe2,
        "iobes" => Scheme::Iobes,
        "bilou" => Scheme::Bilou,
        other => panic!("no scheme {other}"),
    };
    let (labels, predictions): (Vec<Vec<String>>, Vec<Vec<String>>) =
        (take(case, "labels"), take(case, "predictions"));
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    for (labels, predictions) in labels.iter().zip(&predictions) {
        let [labels, predictions] =
            [labels, predictions].map(|tags| scheme.entities(tags).unwrap());
        for (kind, count) in entity::counts(&labels, &predictions) {
            *counts.entry(kind).or_default() += count;
        }
    }
    found.averages(&counts.into_values().collect::<Vec<_>>());
}

fn answers(case: &Value, found: &mut Found) {
    #[derive(Deserialize)]
    struct Question {
        answers: Vec<String>,
        prediction: String,
        no_answer: f64,
    }
    let questions: Vec<Question> = take(case, "questions");
    let rules = if case["rules"] == "v1" {
        Rules::V1
    } else {
        Rules::V2
    };
    let judged: Vec<_> = questions
        .iter()
        .map(|question| rules.judge(&question.prediction, &question.answers))
        .collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    found.add("exact", mean(judged.iter().map(|one| one.exact).collect()));
    found.add("f1", mean(judged.iter().map(|one| one.f1).collect()));
    if rules == Rules::V2 {
        let cut = judged.iter().zip(&questions);
        let cut = cut.map(|(one, question)| one.with_threshold(question.no_answer, 0.5).f1);
        found.add("f1.thresholded", mean(cut.collect()));
        let with_answer = judged.iter().filter(|one| one.has_answer).map(|one| one.f1);
        let with_answer = mean(with_answer.collect());
        found.add(
            "f1.has_answer",
            with_answer.is_finite().then_some(with_answer),
        );
        let no_answer: Vec<f64> = questions
            .iter()
            .map(|question| question.no_answer)
            .collect();
        let best = answer::best_threshold(&judged, &no_answer, |one| one.f1);
        found.add("best_f1", best.best);
        found.add("best_f1.threshold", best.threshold);
    }
}

fn bleu(case: &Value, found: &mut Found) {
    let tokenizer = match case["tokenizer"].as_str().unwrap() {
        "13a" => Tokenizer::V13a,
        "intl" => Tokenizer::Intl,
        "zh" => Tokenizer::Zh,
        "char" => Tokenizer::Char,
        "none" => Tokenizer::None,
        other => panic!("no tokenizer {other}"),
    };
    let smoothing = match case["smoothing"].as_str().unwrap() {
        "exp" => Smoothing::Exp,
        "floor" => Smoothing::Floor(0.1),
        "add-k" => Smoothing::AddK(1.0),
        "none" => Smoothing::None,
        other => panic!("no smoothing {other}"),
    };
    let lowercase = take(case, "lowercase");
    let mut sum = Bleu::default();
    let counts = each_text(case, |own, known| {
        Bleu::of(own, known, tokenizer, lowercase)
    });
    for (number, counts) in counts.into_iter().enumerate() {
        sum += &counts;
        found.add(format!("sentence.{number}"), counts.score(smoothing, true));
    }
    found.add("bleu", sum.score(smoothing, false));
    found.add("bp", sum.brevity_penalty());
    found.add("hypothesis_len", sum.hypothesis_len as f64);
    found.add("reference_len", sum.reference_len as f64);
}

fn each_text<T>(case: &Value, of: impl Fn(&str, &[&str]) -> T) -> Vec<T> {
    let (own, known): (Vec<String>, Vec<Vec<String>>) =
        (take(case, "predictions"), take(case, "references"));
    let texts = own.iter().zip(&known);
    texts
        .map(|(own, known)| of(own, &known.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect()
}

/// The largest difference, after checking that the same numbers are there.
fn difference(case: &Value) -> f64 {
    let (expected, found): (Numbers, Numbers) = (take(case, "expected"), compute(case));
    let names = |numbers: &Numbers| numbers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found));
    let mut most = 0.0_f64;
    for (name, expected) in expected {
        let found = found[&name];
        let (Some(a), Some(b)) = (expected, found) else {
            assert_eq!(expected, found, "{name} of {case}");
            continue;
        };
        let off = (a - b).abs() / a.abs().max(1.0);
        assert!(off <= TOLERANCE, "{name} is {b}, expected {a}: {case}");
        most = most.max(off);
    }
    most
}

#[test]
fn metrics_are_those_of_the_reference_packages() {
    let cases = include_str!("golden/metric.jsonl");
    assert_eq!(cases.lines().count(), 34);
    for case in cases.lines() {
        difference(&serde_json::from_str(case).unwrap());
    }
}

proptest! {
    /// A corpus is the sum of its texts, whatever their order, and nothing beats the reference itself.
    #[test]
    fn the_order_of_texts_does_not_matter_and_the_reference_is_best(
        texts in prop::collection::vec(("[a-d .,é&]{0,30}", "[a-d .,é&]{0,30}"), 1..6)
    ) {
        let sum = |texts: &[(String, String)]| {
            let (mut bleu, mut chrf, mut ter) = (Bleu::default(), Chrf::default(), Ter::default());
            for (own, known) in texts {
                let known = [known.as_str()];
                bleu += &Bleu::of(own, &known, Tokenizer::V13a, false);
                chrf += &Chrf::of(own, &known, true, false);
                ter += &Ter::of(own, &known, ter::Settings::default());
            }
            (bleu.score(Smoothing::Exp, true), chrf.score(), ter.score())
        };
        let mut turned = texts.clone();
        turned.reverse();
        let (found, other) = (sum(&texts), sum(&turned));
        prop_assert_eq!((found.0, found.1), (other.0, other.1));
        prop_assert!((found.2 - other.2).abs() < 1e-9);
        for (_, known) in &texts {
            let (bleu, chrf, ter) = sum(&[(known.clone(), known.clone())]);
            let has_tokens = !known.trim().is_empty();
            let most = if has_tokens { 100.0 } else { 0.0 };
            prop_assert!((bleu - most).abs() < 1e-9 && (chrf - most).abs() < 1e-9, "{bleu} {chrf}");
            prop_assert!(ter == 0.0);
            let rouge = Rouge::of(known, &[known], true);
            prop_assert!((rouge.rouge1.f1 - 1.0).abs() < 1e-12 || rouge.rouge1 == Prf::default());
            prop_assert_eq!(rouge.rouge1, rouge.rouge_l);
        }
    }

    /// Other names for types, and another order of sentences, are the same entities.
    #[test]
    fn renaming_types_changes_no_entity(
        tags in prop::collection::vec("[BIES]-[XY]|O", 0..20)
    ) {
        let renamed: Vec<String> = tags.iter().map(|tag| tag.replace('X', "Z")).collect();
        for scheme in [Scheme::Conll, Scheme::Iobes] {
            let (own, other) = (scheme.entities(&tags).unwrap(), scheme.entities(&renamed).unwrap());
            let places = |entities: &[entity::Entity]| {
                entities.iter().map(|entity| (entity.start, entity.end)).collect::<Vec<_>>()
            };
            prop_assert_eq!(places(&own), places(&other));
            prop_assert!(own.iter().all(|entity| entity.start < entity.end && entity.end <= tags.len()));
        }
    }
}
