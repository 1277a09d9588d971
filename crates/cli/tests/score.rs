//! `cloze score`, as people run it.

#![expect(clippy::unwrap_used, reason = "a test may stop")]
#![expect(clippy::float_cmp, reason = "what is compared is exact")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn cloze(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_cloze"))
        .arg("score")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(folder: &TempDir, arguments: &[&str]) -> String {
    let output = cloze(folder.path(), arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(folder, &[arguments, &["--json"]].concat())).unwrap()
}

fn error(folder: &TempDir, arguments: &[&str]) -> String {
    let output = cloze(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn value(json: &Value, metric: &str) -> f64 {
    let value = json["metrics"][metric]["value"].as_f64();
    value.unwrap_or_else(|| panic!("no {metric} in {json}"))
}

const CSV: &str = "label,prediction\ncat,cat\ndog,cat\ndog,dog\ncat,cat\n";

#[test]
fn classes_are_scored_from_one_file_or_two() {
    let folder = folder(&[
        ("both.csv", CSV),
        ("gold.txt", "cat\ndog\ndog\ncat\n"),
        ("own.txt", "cat\ncat\ndog\ncat\n"),
    ]);
    let one = json(&folder, &["classification", "both.csv"]);
    assert_eq!(value(&one, "accuracy"), 0.75);
    assert_eq!(value(&one, "recall"), 0.5, "of the last class, dog");
    assert_eq!(
        one["confusion"]["counts"],
        serde_json::json!([[2, 0], [1, 1]])
    );
    assert_eq!(one["by_class"]["cat"]["support"], 2);
    let two = json(
        &folder,
        &["classification", "own.txt", "--references", "gold.txt"],
    );
    assert_eq!(one["metrics"], two["metrics"]);
    let cat = json(
        &folder,
        &["classification", "both.csv", "--positive", "cat"],
    );
    assert_eq!(value(&cat, "recall"), 1.0);
    let table = text(&folder, &["classification", "both.csv"]);
    assert!(
        table.starts_with("4 examples\n") && table.contains("accuracy"),
        "{table}"
    );
    assert!(
        table.contains("by class") && table.contains("true \\ predicted"),
        "{table}"
    );
}

#[test]
fn quotes_may_be_characters_like_others() {
    let folder = folder(&[
        (
            "open.tsv",
            "prediction\tsentence\tlabel\na\t\"open\ta\nb\tplain\tb\n",
        ),
        (
            "open",
            "prediction\tsentence\tlabel\na\t\"open\ta\nb\tplain\tb\n",
        ),
    ]);
    let fault = error(&folder, &["classification", "open.tsv"]);
    assert!(fault.contains("(a quote left open?)"), "{fault}");
    for file in [&["open.tsv"][..], &["open", "--format", "tsv"]] {
        let arguments = [&["classification", "--no-quotes"], file].concat();
        assert_eq!(value(&json(&folder, &arguments), "accuracy"), 1.0);
    }
}

#[test]
fn scores_say_what_is_predicted_and_how_well_they_are_calibrated() {
    let folder = folder(&[
        (
            "three.jsonl",
            "{\"label\":\"a\",\"p\":[0.7,0.2,0.1]}\n{\"label\":\"b\",\"p\":[0.1,0.8,0.1]}\n\
             {\"label\":\"c\",\"p\":[0.6,0.2,0.2]}\n",
        ),
        ("two.csv", "label,p\n0,-2\n1,2\n1,-1\n"),
        (
            "short.jsonl",
            "{\"label\":\"a\",\"p\":[0.7,0.3]}\n{\"label\":\"b\",\"p\":[1]}\n{\"label\":\"c\",\"p\":[1]}\n",
        ),
    ]);
    let three = json(
        &folder,
        &[
            "classification",
            "three.jsonl",
            "--scores",
            "p",
            "--bins",
            "10",
        ],
    );
    assert_eq!(value(&three, "accuracy"), 2.0 / 3.0);
    let brier = (0.09 + 0.04 + 0.01 + 0.01 + 0.04 + 0.01 + 0.36 + 0.04 + 0.64) / 3.0;
    assert!((value(&three, "brier") - brier).abs() < 1e-12);
    assert!((value(&three, "ece") - (0.3 + 0.2 + 0.6) / 3.0).abs() < 1e-12);
    assert_eq!(three["reliability"].as_array().unwrap().len(), 10);
    let logits = ["classification", "two.csv", "--scores", "p", "--logits"];
    let two = json(&folder, &logits);
    assert_eq!(
        (value(&two, "accuracy"), value(&two, "roc_auc")),
        (2.0 / 3.0, 1.0)
    );
    let raw = json(&folder, &logits[..4]);
    assert!(raw["metrics"].get("ece").is_none() && raw["metrics"].get("roc_auc").is_some());
    let message = error(&folder, &["classification", "short.jsonl", "--scores", "p"]);
    assert!(
        message.contains("short.jsonl: line 1, column \"p\": expected 3 scores"),
        "{message}"
    );
}

#[test]
fn intervals_and_comparisons_come_out_the_same_every_time() {
    let rows = |flip: usize| {
        let rows: Vec<String> = (0..200)
            .map(|i| {
                format!(
                    "{},{}\n",
                    i % 2,
                    if i % flip == 0 { 1 - i % 2 } else { i % 2 }
                )
            })
            .collect();
        format!("label,prediction\n{}", rows.concat())
    };
    let folder = folder(&[("good.csv", &rows(20)), ("bad.csv", &rows(3))]);
    let arguments = [
        "classification",
        "good.csv",
        "--against",
        "bad.csv",
        "--bootstrap",
        "200",
    ];
    let found = json(&folder, &arguments);
    assert_eq!(found, json(&folder, &arguments));
    let accuracy = &found["metrics"]["accuracy"];
    assert!(accuracy["low"].as_f64() < accuracy["value"].as_f64());
    let difference = &found["against"]["metrics"]["accuracy"];
    assert!(difference["low"].as_f64() > Some(0.0), "{difference}");
    assert!(found["against"]["mcnemar"]["exact_p"].as_f64() < Some(1e-6));
    let other = json(&folder, &[&arguments[..], &["--seed", "1"]].concat());
    assert_ne!(
        found["metrics"]["mcc"]["low"],
        other["metrics"]["mcc"]["low"]
    );
    let table = text(
        &folder,
        &["classification", "good.csv", "--against", "bad.csv"],
    );
    assert!(
        table.contains("McNemar") && table.contains("1000 draws"),
        "{table}"
    );
}

#[test]
fn labels_numbers_and_log_probabilities_are_scored() {
    let folder = folder(&[
        (
            "many.jsonl",
            "{\"label\":[\"a\",\"b\"],\"prediction\":[\"b\"]}\n{\"label\":[],\"prediction\":[]}\n",
        ),
        ("many.csv", "label,prediction\na;b,b\n,\n"),
        ("numbers.tsv", "label\tprediction\n1\t2\n2\t3\n3\t4.5\n"),
        (
            "texts.jsonl",
            "{\"log_probs\":[-1.0,-3.0]}\n{\"log_probs\":[]}\n",
        ),
        ("sums.csv", "total,count\n-4,2\n"),
    ]);
    let many = json(&folder, &["multilabel", "many.jsonl"]);
    assert_eq!(
        (
            value(&many, "subset_accuracy"),
            value(&many, "hamming_loss")
        ),
        (0.5, 0.25)
    );
    let same = json(&folder, &["multilabel", "many.csv", "--separator", ";"]);
    assert_eq!(many["metrics"], same["metrics"]);
    let numbers = json(&folder, &["regression", "numbers.tsv"]);
    assert!((value(&numbers, "spearman") - 1.0).abs() < 1e-12);
    assert_eq!(value(&numbers, "mae"), 3.5 / 3.0);
    let perplexity = json(&folder, &["perplexity", "texts.jsonl"]);
    assert!((value(&perplexity, "perplexity") - 2_f64.exp()).abs() < 1e-12);
    let sums = json(
        &folder,
        &[
            "perplexity",
            "sums.csv",
            "--log-probs",
            "total",
            "--tokens",
            "count",
        ],
    );
    assert_eq!(value(&sums, "perplexity"), value(&perplexity, "perplexity"));
}

#[test]
fn entities_are_read_from_lists_lines_and_conll_files() {
    let folder = folder(&[
        (
            "tags.jsonl",
            "{\"label\":[\"B-A\",\"I-A\",\"O\"],\"prediction\":[\"I-A\",\"I-A\",\"O\"]}\n",
        ),
        ("own.txt", "I-A I-A O\n"),
        ("gold.txt", "B-A I-A O\n"),
        (
            "tags.conll",
            "-DOCSTART- -X- O O\n\nx NN B-A I-A\ny NN I-A I-A\nz NN O O\n",
        ),
    ]);
    for files in [
        &["tags.jsonl"][..],
        &["own.txt", "--references", "gold.txt"],
        &["tags.conll"],
    ] {
        let arguments = [&["entities"], files].concat();
        let lenient = json(&folder, &arguments);
        assert_eq!(value(&lenient, "f1_micro"), 1.0, "{files:?}");
        assert_eq!(value(&lenient, "token_accuracy"), 2.0 / 3.0);
        let strict = json(&folder, &[&arguments[..], &["--scheme", "iob2"]].concat());
        assert_eq!(value(&strict, "f1_micro"), 0.0, "{files:?}");
        assert_eq!(strict["by_type"]["A"]["support"], 1);
    }
}

const SQUAD: &str = r#"{"version": "v2.0", "data": [{"paragraphs": [{"context": "", "qas": [
    {"id": "1", "answers": [{"text": "the Moon", "answer_start": 0}]},
    {"id": "2", "answers": [], "is_impossible": true}]}]}]}"#;

#[test]
fn answers_are_judged_by_question_or_by_row() {
    let folder = folder(&[
        ("squad.json", SQUAD),
        ("own.json", r#"{"1": "Moon!", "2": "Mars", "3": "?"}"#),
        ("none.json", r#"{"1": 0.1, "2": 0.8}"#),
        ("half.json", r#"{"1": "Moon"}"#),
        (
            "rows.jsonl",
            "{\"answers\":[\"the Moon\"],\"prediction\":\"Moon!\"}\n{\"answers\":[],\"prediction\":\"Mars\"}\n",
        ),
    ]);
    let arguments = ["answers", "own.json", "--references", "squad.json"];
    let found = json(&folder, &arguments);
    assert_eq!(
        (value(&found, "exact"), value(&found, "no_answer_exact")),
        (50.0, 0.0)
    );
    let rows = json(&folder, &["answers", "rows.jsonl"]);
    assert_eq!(found["metrics"], rows["metrics"]);
    let scored = [&arguments[..], &["--no-answer-scores", "none.json"]].concat();
    let scored = json(&folder, &scored);
    assert_eq!(
        (
            value(&scored, "best_f1"),
            value(&scored, "best_f1_threshold")
        ),
        (100.0, 0.1)
    );
    let cut = [
        "--no-answer-scores",
        "none.json",
        "--no-answer-threshold",
        "0.5",
    ];
    assert_eq!(
        value(&json(&folder, &[&arguments[..], &cut].concat()), "exact"),
        100.0
    );
    let message = error(
        &folder,
        &["answers", "half.json", "--references", "squad.json"],
    );
    assert!(
        message.contains("half.json: expected an answer to each of 2 questions, found none to 1"),
        "{message}"
    );
}

#[test]
fn texts_are_scored_line_by_line_empty_ones_too() {
    let folder = folder(&[
        (
            "own.txt",
            "the cat sat on the mat .\n\nhello there world again\n",
        ),
        (
            "gold.txt",
            "the cat sat on the mat .\nsomething\nhello there world again\n",
        ),
        (
            "rows.jsonl",
            "{\"prediction\":\"a b c d\",\"reference\":[\"x\",\"a b c d\"]}\n",
        ),
    ]);
    let lines = json(
        &folder,
        &["generation", "own.txt", "--references", "gold.txt"],
    );
    assert_eq!(lines["texts"], 3);
    assert!((value(&lines, "ter") - 100.0 / 12.0).abs() < 1e-12);
    assert!((value(&lines, "rouge1") - 2.0 / 3.0).abs() < 1e-12);
    let rows = json(
        &folder,
        &[
            "generation",
            "rows.jsonl",
            "--metrics",
            "bleu,sentence-bleu,chrf++",
        ],
    );
    for metric in ["bleu", "sentence_bleu", "chrf++"] {
        assert!((value(&rows, metric) - 100.0).abs() < 1e-9, "{metric}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let folder = folder(&[
        ("both.csv", CSV),
        (
            "other.csv",
            "label,prediction\ncat,cat\ncat,cat\ndog,dog\ncat,cat\n",
        ),
        (
            "third.csv",
            "label,prediction\ncat,cat\ndog,cow\ndog,dog\ncat,cat\n",
        ),
        ("own.txt", "cat\ncat\n"),
        ("gold.txt", "cat\ndog\ndog\n"),
        (
            "hole.jsonl",
            "{\"label\":\"a\",\"prediction\":\"a\"}\n{\"label\":\"a\",\"prediction\":null}\n",
        ),
        (
            "broken.jsonl",
            "{\"label\":\"a\",\"prediction\":\"a\"}\n{\"label\"\n",
        ),
        (
            "tags.jsonl",
            "{\"label\":[\"B-A\"],\"prediction\":[\"E-A\"]}\n",
        ),
        ("tags.conll", "x O O\n\ny B-A S-A\n"),
        (
            "short.jsonl",
            "{\"label\":[\"O\",\"O\"],\"prediction\":[\"O\"]}\n",
        ),
        ("numbers.csv", "label,prediction\n1,NaN\n"),
        ("positive.csv", "log_probs\n0.5\n"),
        ("empty.csv", "label,prediction\n"),
    ]);
    for (arguments, expected) in [
        (
            &["classification", "own.txt", "--references", "gold.txt"][..],
            "gold.txt: expected 2 rows, as many as own.txt has, found 3",
        ),
        (
            &["classification", "both.csv", "--classes", "cat,bird"],
            "both.csv: line 3, column \"label\": expected a class of --classes, \"cat\", \"bird\", found \"dog\"",
        ),
        (
            &["classification", "both.csv", "--prediction", "predicted"],
            "no column \"predicted\", did you mean \"prediction\"?",
        ),
        (
            &["classification", "own.txt"],
            "expected the columns label, prediction, found plain lines",
        ),
        (
            &["classification", "both.csv", "--against", "other.csv"],
            "other.csv: line 3, column \"label\": expected \"dog\" as in both.csv, found \"cat\"",
        ),
        (
            &["classification", "both.csv", "--against", "third.csv"],
            "third.csv: expected the classes that both.csv has, found others",
        ),
        (
            &["classification", "hole.jsonl"],
            "hole.jsonl: line 2, column \"prediction\": expected a class, found nothing",
        ),
        (
            &["classification", "broken.jsonl"],
            "broken.jsonl: line 2: expected a JSON object",
        ),
        (
            &["classification", "empty.csv"],
            "empty.csv: expected predictions, found none",
        ),
        (
            &["entities", "tags.jsonl", "--scheme", "iob2"],
            "tags.jsonl: line 1, column \"prediction\": expected O, B-TYPE or I-TYPE at tag 1, found \"E-A\"",
        ),
        (
            &["entities", "tags.conll", "--scheme", "iob1"],
            "tags.conll: line 3: expected O, B-TYPE or I-TYPE, found \"S-A\"",
        ),
        (
            &["entities", "short.jsonl"],
            "short.jsonl: line 1, column \"prediction\": expected 2 tags, as many as the true ones, found 1",
        ),
        (
            &["regression", "numbers.csv"],
            "numbers.csv: line 2, column \"prediction\": expected a number, found \"NaN\"",
        ),
        (
            &["perplexity", "positive.csv"],
            "expected log probabilities: numbers of at most 0",
        ),
        (&["answers", "missing.jsonl"], "missing.jsonl"),
    ] {
        let message = error(&folder, arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_page_shows_the_confusion_and_the_calibration() {
    let folder = folder(&[("rows.csv", "label,p\n0,0.2\n1,0.9\n1,0.4\n0,0.1\n")]);
    text(
        &folder,
        &[
            "classification",
            "rows.csv",
            "--scores",
            "p",
            "--report",
            "report.html",
        ],
    );
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("Confusion") && page.contains("Calibration") && page.contains("roc_auc"));
    assert!(!page.contains("NaN") && !page.contains("http"));
}

/// The small encoder that the runtime is tested with.
const ENCODER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtime/tests/golden/sentence"
);

#[test]
fn texts_are_as_alike_as_the_package_bert_score_says() {
    let golden = include_str!("../../train/tests/golden/likeness.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let rows = golden["predictions"].as_array().unwrap().iter();
    let rows = rows.zip(golden["references"].as_array().unwrap());
    let rows = rows.map(|(prediction, reference)| {
        serde_json::json!({"prediction": prediction, "reference": reference}).to_string()
    });
    let folder = folder(&[
        ("texts.jsonl", &rows.collect::<Vec<_>>().join("\n")),
        ("baseline.csv", golden["baseline"].as_str().unwrap()),
    ]);
    for case in golden["cases"].as_array().unwrap() {
        let layer = case["layer"].to_string();
        let mut arguments = vec!["generation", "texts.jsonl", "--metrics", "chrf"];
        arguments.extend(["--bertscore", ENCODER, "--layer", &layer]);
        arguments.extend((case["idf"] == true).then_some("--idf"));
        if case["rescaled"] == true {
            arguments.extend(["--baseline", "baseline.csv"]);
        }
        let found = json(&folder, &arguments);
        let expected: Vec<Vec<f64>> = serde_json::from_value(case["expected"].clone()).unwrap();
        let table = &found["by_bertscore"][format!("layer {layer}")];
        for (column, name) in ["precision", "recall", "f1"].iter().enumerate() {
            let mean = expected.iter().map(|row| row[column]).sum::<f64>() / expected.len() as f64;
            let off = (table[name].as_f64().unwrap() - mean).abs();
            assert!(off < 1e-5, "{name} of {case}: {found}, not {mean}");
        }
        assert_eq!(table["f1"], found["metrics"]["bertscore"]["value"]);
    }
    let far = ["generation", "texts.jsonl", "--bertscore", ENCODER];
    let message = error(&folder, &[&far[..], &["--layer", "99"]].concat());
    assert!(message.contains("expected one of its"), "{message}");
}
