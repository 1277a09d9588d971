//! `cloze tokenizer`, as people run it, in a folder of its own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const TEXTS: &str = "\
the old mill stood near the river and the miller sold flour there every morning
she walked along the river until the morning light fell on the bridge
old books and old letters stood on the shelves of the old shop
";

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("texts.txt"), TEXTS).unwrap();
    folder
}

fn cloze(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloze"))
        .arg("tokenizer")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn ok(output: &Output) -> (String, String) {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap());
    assert!(output.status.success(), "{err}");
    (out, err)
}

fn error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn each_model_writes_the_files_of_its_kind() {
    let folder = folder();
    let common = [
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    for (model, size, more) in [
        ("wordpiece", "66", &["vocab.txt"][..]),
        ("byte-pairs", "280", &["merges.txt", "vocab.json"]),
        ("unigram", "45", &[]),
        ("wordlevel", "9", &[]),
    ] {
        let arguments = [
            "train",
            "--data",
            "texts.txt",
            "--model",
            model,
            "--vocab-size",
            size,
            "-o",
            model,
        ];
        let (out, err) = ok(&cloze(folder.path(), &arguments));
        assert_eq!(out, "");
        assert!(err.contains("3 texts, "), "{err}");
        assert!(err.contains(&format!("{size} tokens, in {model}")), "{err}");
        let mut expected = [&common, more].concat();
        expected.sort_unstable();
        assert_eq!(names(&folder.path().join(model)), expected);
        let again = error(&cloze(folder.path(), &arguments));
        assert!(again.contains("does not exist yet"), "{again}");
    }
    assert_eq!(
        names(folder.path()),
        [
            "byte-pairs",
            "texts.txt",
            "unigram",
            "wordlevel",
            "wordpiece"
        ]
    );
}

#[test]
fn texts_come_from_columns_and_pipes() {
    let folder = folder();
    let rows: Vec<String> = TEXTS
        .lines()
        .map(|text| serde_json::json!({ "body": text }).to_string())
        .collect();
    fs::write(folder.path().join("texts.jsonl"), rows.join("\n")).unwrap();
    let train = |data: &str, name: &str, more: &[&str]| {
        let arguments = [
            &["train", "--data", data, "--vocab-size", "90", "-o", name],
            more,
        ]
        .concat();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloze"))
            .arg("tokenizer")
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(TEXTS.as_bytes())
            .unwrap();
        ok(&child.wait_with_output().unwrap());
        fs::read_to_string(folder.path().join(name).join("tokenizer.json")).unwrap()
    };
    let lines = train("texts.txt", "lines", &["--threads", "1"]);
    assert_eq!(
        train(
            "texts.jsonl",
            "objects",
            &["--text", "body", "--threads", "2"]
        ),
        lines
    );
    assert_eq!(train("-", "pipe", &[]), lines);
}

#[test]
fn weights_repeat_a_file_and_balance_repeats_it_often_enough() {
    let folder = folder();
    fs::write(
        folder.path().join("small.txt"),
        "ibuprofen and paracetamol\n",
    )
    .unwrap();
    fs::write(
        folder.path().join("thrice.txt"),
        "ibuprofen and paracetamol\n".repeat(3),
    )
    .unwrap();
    let train = |data: &str, name: &str| {
        let arguments = [
            "train",
            "--data",
            "texts.txt",
            "--data",
            data,
            "--vocab-size",
            "120",
            "-o",
            name,
        ];
        let (_, err) = ok(&cloze(folder.path(), &arguments));
        (
            fs::read_to_string(folder.path().join(name).join("vocab.txt")).unwrap(),
            err,
        )
    };
    let (weighted, _) = train("small.txt:3", "weighted");
    let (repeated, _) = train("thrice.txt", "repeated");
    assert_eq!(weighted, repeated);
    // 164 letters against 23.
    let (balanced, err) = train("small.txt:balance", "balanced");
    assert!(err.contains("small.txt counts 8 times"), "{err}");
    assert!(
        balanced.lines().any(|token| token == "ibuprofen"),
        "{balanced}"
    );
}

#[test]
fn more_tokens_are_learnt_for_a_tokenizer_there_is() {
    let folder = folder();
    fs::write(
        folder.path().join("drugs.txt"),
        "ibuprofen and paracetamol\n".repeat(3),
    )
    .unwrap();
    ok(&cloze(
        folder.path(),
        &[
            "train",
            "--data",
            "texts.txt",
            "--vocab-size",
            "90",
            "-o",
            "old",
        ],
    ));
    let extend = [
        "train",
        "--data",
        "drugs.txt",
        "--extend",
        "old",
        "--vocab-size",
        "125",
        "-o",
        "new",
    ];
    ok(&cloze(folder.path(), &extend));
    let vocabulary =
        |name: &str| fs::read_to_string(folder.path().join(name).join("vocab.txt")).unwrap();
    let (old, new) = (vocabulary("old"), vocabulary("new"));
    assert!(
        new.starts_with(&old) && new.lines().any(|token| token == "ibuprofen"),
        "{new}"
    );
    assert_eq!(
        names(&folder.path().join("new")),
        names(&folder.path().join("old"))
    );
    let clash = cloze(
        folder.path(),
        &[&extend[..8], &["x", "--lowercase"]].concat(),
    );
    assert_eq!(clash.status.code(), Some(2));
}

#[test]
fn tokens_are_shown_with_their_places() {
    let folder = folder();
    ok(&cloze(
        folder.path(),
        &[
            "train",
            "--data",
            "texts.txt",
            "--vocab-size",
            "90",
            "-o",
            "t",
        ],
    ));
    let (out, _) = ok(&cloze(folder.path(), &["show", "t", "the old 橋", "mill"]));
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["id", "token", "characters", "text", "word", "segment"]
    );
    assert_eq!(rows[1], ["2", "[CLS]", "0", "special"]);
    assert_eq!(rows[2][1..], ["the", "0-3", "the", "0", "0"]);
    assert_eq!(rows[4], ["1", "[UNK]", "8-9", "橋", "2", "0", "unknown"]);
    assert_eq!(rows.last().unwrap(), &["3", "[SEP]", "1", "special"]);
    let (out, _) = ok(&cloze(folder.path(), &["show", "t", "the old", "--json"]));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["tokens"][1]["text"], "the");
    assert_eq!(value["tokens"][1]["end"], 3);
    assert_eq!(value["tokens"][0]["special"], true);
}

#[test]
fn tokenizers_are_measured_beside_each_other() {
    let folder = folder();
    for (size, name) in [("56", "small"), ("66", "large")] {
        ok(&cloze(
            folder.path(),
            &[
                "train",
                "--data",
                "texts.txt",
                "--vocab-size",
                size,
                "--max-length",
                "17",
                "-o",
                name,
            ],
        ));
    }
    let (out, _) = ok(&cloze(
        folder.path(),
        &["report", "large", "texts.txt", "--with", "small"],
    ));
    assert!(out.starts_with("3 texts, 41 words, "), "{out}");
    let row = |name: &str| {
        let line = out
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap();
        line.trim_start()[name.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("vocabulary"), ["66", "56"]);
    assert_eq!(row("tokens unknown"), ["0.00", "%", "0.00", "%"]);
    let fertility: Vec<f64> = row("tokens for each word")
        .iter()
        .map(|x| x.parse().unwrap())
        .collect();
    assert!(fertility[0] < fertility[1], "{out}");
    assert_eq!(row("fits"), ["17", "17"]);
    let (out, _) = ok(&cloze(
        folder.path(),
        &[
            "report",
            "large",
            "texts.txt",
            "--with",
            "small",
            "--json",
            "--max-length",
            "5",
        ],
    ));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value[1]["tokenizer"], "small");
    assert_eq!(value[0]["texts"], 3);
    assert_eq!(value[0]["texts_too_long"], 1.0);
    assert_eq!(
        value[0]["tokens_per_word"]
            .as_f64()
            .map(|x| format!("{x:.3}")),
        Some(format!("{:.3}", fertility[0]))
    );
}

#[test]
fn faults_are_one_line_that_says_what_to_do() {
    let folder = folder();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    fs::write(folder.path().join("latin1.txt"), b"first line\nm\xfchle\n").unwrap();
    fs::write(folder.path().join("texts.csv"), "body\nthe mill\n").unwrap();
    fs::write(folder.path().join("blank.csv"), "text\n\"  \"\n").unwrap();
    let failed = |arguments: &[&str]| {
        let arguments = [&["train", "-o", "out"], arguments].concat();
        let found = error(&cloze(folder.path(), &arguments));
        assert!(!folder.path().join("out").exists(), "{found}");
        found
    };
    for (arguments, expected) in [
        (
            &["--data", "empty.txt"][..],
            "expected words to learn from, found none in 0 texts",
        ),
        (
            &["--data", "blank.csv"],
            "found none in 1 texts; is it the right column?",
        ),
        (&["--data", "texts.csv"], "texts.csv: no column \"text\""),
        (&["--data", "latin1.txt"], "latin1.txt: line 2"),
        (&["--data", "gone.txt"], "gone.txt: "),
        (
            &["--data", "texts.txt:0"],
            "expected a weight of at least 1",
        ),
        (
            &["--data", "texts.txt", "--vocab-size", "12"],
            "raise the size of the vocabulary or limit the alphabet",
        ),
        (
            &["--data", "texts.txt", "--unify", "alef"],
            "add --language arabic",
        ),
        (
            &[
                "--data",
                "texts.txt",
                "--model",
                "unigram",
                "--min-frequency",
                "3",
            ],
            "leave it out",
        ),
        (
            &["--data", "texts.txt", "--extend", "."],
            "expected tokenizer.json, vocab.txt",
        ),
    ] {
        let found = failed(arguments);
        assert!(found.contains(expected), "{found}");
    }
}
