//! `cloze predict` with pretrained encoders, as people run it.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A tiny model of the tests of the engine.
fn model(name: &str) -> String {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests");
    home.join(name).to_str().unwrap().to_owned()
}

/// A folder with files of texts.
fn texts() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "prompts.txt",
        "The [MASK] sat.\nno mask\n[MASK] is <mask>\n",
    );
    write(
        "pairs.csv",
        "url,premise,hypothesis\nu1,the cat sat,red mat\nu2,how is water,\"the river, red\"\n",
    );
    write(
        "questions.jsonl",
        "{\"id\": 7, \"question\": \"who sat?\", \"context\": \"The cat sat.\"}\n\
         {\"id\": 8, \"question\": \"who sat?\", \"context\": \"\"}\n",
    );
    let lines: Vec<String> = (0..40)
        .map(|i| format!("the cat {} sat", "on the mat ".repeat(i % 12)))
        .collect();
    write("lines.txt", &lines.join("\n"));
    folder
}

fn predict(folder: &Path, model_name: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloze"))
        .args(["predict", &model(model_name)])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn ok(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn warning(output: &Output) -> String {
    ok(output);
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn masks_are_filled() {
    let folder = texts();
    let run = |more: &[&str]| predict(folder.path(), "pipelines/masks", more);
    let table = ok(&run(&["--input-text", "The <mask> sat.", "--top", "2"]));
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("score") && table.contains("sat."), "{table}");

    let output = run(&["prompts.txt", "--candidates", "cat, river"]);
    assert!(warning(&output).contains("1 of 3 texts have no mask, [MASK]"));
    let found = lines(&ok(&output));
    assert_eq!(found.len(), 3);
    let one = found[0]["fills"].as_array().unwrap();
    assert_eq!(one.len(), 2);
    let word = one[0]["token"].as_str().unwrap();
    assert_eq!(one[0]["filled"], format!("The {word} sat."));
    assert_eq!(found[1]["fills"], Value::Array(Vec::new()));
    let two = found[2]["fills"].as_array().unwrap();
    let masks: Vec<_> = two
        .iter()
        .map(|fill| fill["mask"].as_u64().unwrap())
        .collect();
    assert_eq!(masks, [0, 0, 1, 1]);
    assert!(!two[0]["filled"].as_str().unwrap().contains('['));

    let message = error(&run(&["--input-text", "nothing hidden"]));
    assert!(
        message.contains("the text has no mask, [MASK]"),
        "{message}"
    );
    let message = error(&run(&["prompts.txt", "--candidates", "catfish"]));
    assert!(
        message.contains("--candidates: expected candidates of one token"),
        "{message}"
    );
}

#[test]
fn pairs_are_labelled_and_scored() {
    let folder = texts();
    let columns = [
        "pairs.csv",
        "--text",
        "premise",
        "--pair",
        "hypothesis",
        "--id",
        "url",
    ];
    let run = |name: &str, more: &[&str]| predict(folder.path(), name, &[&columns, more].concat());
    let found = lines(&ok(&run("pipelines/labels", &[])));
    assert_eq!(found[0]["id"], "u1");
    let labels = found[0]["labels"].as_array().unwrap();
    let sum: f64 = labels
        .iter()
        .map(|label| label["score"].as_f64().unwrap())
        .sum();
    assert!(labels.len() == 3 && (sum - 1.0).abs() < 1e-5, "{labels:?}");

    // A table has a row for each label; with --top 1, for each text.
    ok(&run(
        "pipelines/labels",
        &["--top", "1", "-o", "labels.csv"],
    ));
    let csv = fs::read_to_string(folder.path().join("labels.csv")).unwrap();
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!((rows[0], rows.len()), ("id,row,label,score", 3));
    let best = labels[0]["label"].as_str().unwrap();
    assert!(rows[1].starts_with(&format!("u1,0,{best},0.")), "{csv}");
    assert!(rows[2].starts_with("u2,1,"), "{csv}");

    let score = |more: &[&str]| {
        let found = lines(&ok(&run("golden/cross-encoder", more)));
        found[1]["score"].as_f64().unwrap()
    };
    let (sigmoid, raw) = (score(&[]), score(&["--raw-scores"]));
    assert!(
        (1.0 / (1.0 + (-raw).exp()) - sigmoid).abs() < 1e-6,
        "{raw} {sigmoid}"
    );

    let pair = ["--input-text", "the cat sat", "--input-pair", "red mat"];
    let table = ok(&predict(folder.path(), "pipelines/labels", &pair));
    assert!(table.lines().nth(1).unwrap().contains(best), "{table}");
}

#[test]
fn entities_and_answers_have_their_places() {
    let folder = texts();
    let tokens = |more: &[&str]| predict(folder.path(), "pipelines/tokens", more);
    let text = "The cat sat on the red mat.";
    ok(&tokens(&[
        "--input-text",
        text,
        "--aggregation",
        "none",
        "-o",
        "tokens.jsonl",
    ]));
    let written = fs::read_to_string(folder.path().join("tokens.jsonl")).unwrap();
    let all = lines(&written)[0]["tokens"].as_array().unwrap().clone();
    let words: Vec<&str> = all
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        words,
        ["The", "cat", "sat", "o", "n", "the", "red", "mat", "."]
    );
    for found in lines(&ok(&tokens(&["lines.txt", "--aggregation", "average"]))) {
        for entity in found["entities"].as_array().unwrap() {
            assert!(entity["start"].as_u64().unwrap() < entity["end"].as_u64().unwrap());
        }
    }

    let answers = |more: &[&str]| predict(folder.path(), "pipelines/answers", more);
    let found = lines(&ok(&answers(&[
        "questions.jsonl",
        "--id",
        "id",
        "--no-answer",
        "--top",
        "2",
    ])));
    assert_eq!(found[1]["id"], "8");
    let nothing = &found[1]["answers"][0];
    assert!(
        nothing["answer"].is_null() && nothing["start"].is_null(),
        "{nothing}"
    );
    let asked = ["--question", "who sat?", "--context", "The cat sat."];
    let table = ok(&answers(&asked));
    assert!(
        table.starts_with(" answer") || table.starts_with("answer"),
        "{table}"
    );
    let message = error(&answers(&["--question", "who sat?"]));
    assert!(message.contains("--context"), "{message}");
}

#[test]
fn batches_and_threads_change_no_bit_and_shards_go_on() {
    let folder = texts();
    let run = |more: &[&str]| predict(folder.path(), "pipelines/labels", more);
    let all = ok(&run(&["lines.txt", "--batch-tokens", "16"]));
    assert_eq!(all, ok(&run(&["lines.txt", "--threads", "1"])));

    let output = run(&["lines.txt", "-o", "labels/", "--shard-rows", "16"]);
    assert!(warning(&output).contains("texts were longer than 40 tokens and were cut"));
    let names: Vec<PathBuf> = files(&folder.path().join("labels"));
    assert_eq!(names.len(), 4, "three parts and a manifest: {names:?}");
    let again = run(&["lines.txt", "-o", "labels/", "--shard-rows", "16"]);
    assert!(warning(&again).contains("nothing to do"));
    let message = error(&run(&[
        "lines.txt",
        "-o",
        "labels/",
        "--shard-rows",
        "16",
        "--top",
        "1",
    ]));
    assert!(message.contains("another job"), "{message}");
    let message = error(&run(&["lines.txt", "--long", "error"]));
    assert!(message.contains("lines.txt: text 10"), "{message}");
}

#[test]
fn options_of_other_models_are_one_error() {
    let folder = texts();
    let run = |name: &str, more: &[&str]| error(&predict(folder.path(), name, more));
    let message = run(
        "pipelines/masks",
        &["prompts.txt", "--user", "a", "--exclude-seen"],
    );
    assert!(
        message.contains("a text encoder takes no --exclude-seen, --user"),
        "{message}"
    );
    let message = run(
        "pipelines/masks",
        &["prompts.txt", "--no-answer", "--aggregation", "max"],
    );
    assert!(
        message.contains("fills masks and takes no --aggregation, --no-answer"),
        "{message}"
    );
    let message = run("golden/sentence", &["prompts.txt"]);
    assert!(
        message.contains("a pooler") && message.contains("embed"),
        "{message}"
    );
    let message = run("absent", &["prompts.txt", "--top", "3"]);
    assert!(message.contains("absent: no such folder"), "{message}");
    let message = run("pipelines/labels", &["lines.txt", "--top", "0"]);
    assert!(message.contains("--top 0"), "{message}");
    let message = run("pipelines/labels", &["lines.txt", "-o", "labels.npy"]);
    assert!(message.contains(".npy"), "{message}");
}

#[test]
fn texts_of_a_reference_hold_the_tokenizer_and_what_follows_the_encoder() {
    let verify = |name: &str, more: &[&str]| {
        let home = model(&format!("golden/{name}"));
        let golden = format!("{home}/golden.safetensors");
        let arguments = [&["verify", &*home, "--golden", &*golden], more].concat();
        let command = Command::new(env!("CARGO_BIN_EXE_cloze"))
            .args(arguments)
            .output();
        command.unwrap()
    };
    assert!(ok(&verify("cross-encoder", &[])).contains("scores"));
    assert!(ok(&verify("sentence-prompt", &[])).contains("embeddings"));
    let message = error(&verify("cross-encoder-v6-raw", &["--weights", "int8"]));
    assert!(message.contains("is off by"), "{message}");
}
