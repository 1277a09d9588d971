//! The program, as people run it, in a folder of its own.

#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test may stop, and need not be fast"
)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use program::{cloze, error, ok};
use tempfile::TempDir;

/// A shop where each item is followed by the next one of its aisle: quick to learn, and checkable.
fn shop() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut csv = String::from("customer,sku,at\n");
    for user in 0..60 {
        for step in 0..12 {
            let item = (user * 5 + step) % 30;
            csv += &format!("c{user},sku-{item},2024-01-{:02}T10:00:00Z\n", step + 1);
        }
    }
    fs::write(folder.path().join("orders.csv"), csv).unwrap();
    let titles: String = (0..30).map(|i| format!("sku-{i},Thing {i}\n")).collect();
    fs::write(
        folder.path().join("names.csv"),
        format!("sku,name\n{titles}"),
    )
    .unwrap();
    folder
}

const TINY: [&str; 22] = [
    "train",
    "bert4rec",
    "--data",
    "orders.csv",
    "--user",
    "customer",
    "--item",
    "sku",
    "--time",
    "at",
    "--titles",
    "names.csv,sku,name",
    "--set",
    "model.max_len=10",
    "--set",
    "batch.max_tokens=120",
    "--set",
    "model.width=32",
    "--set",
    "epochs=6",
    "--set",
    "validate.every_epochs=2",
];

fn train(folder: &Path, more: &[&str]) -> Output {
    cloze(folder, &[&TINY, more].concat())
}

fn weights(folder: &Path, model: &str) -> Vec<u8> {
    fs::read(folder.join(model).join("model.safetensors")).unwrap()
}

fn newest_checkpoint(folder: &Path, model: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join(model).join("training")).unwrap();
    entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_none())
        .max()
        .unwrap()
}

fn state_without_clock(folder: &Path, model: &str) -> serde_json::Value {
    let text = fs::read_to_string(newest_checkpoint(folder, model).join("state.json")).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state.as_object_mut().unwrap().remove("seconds");
    state
}

#[test]
fn a_model_is_trained_evaluated_and_used() {
    let shop = shop();
    let printed = ok(train(shop.path(), &["-o", "model"]));
    assert!(
        printed.contains("ranked among all unseen items") && printed.contains("popularity"),
        "{printed}"
    );
    let files = [
        "config.json",
        "model.safetensors",
        "items.parquet",
        "recipe.toml",
        "metrics.json",
        "report.html",
    ];
    for file in files.iter().chain(&["metrics.jsonl"]) {
        assert!(shop.path().join("model").join(file).is_file(), "{file}");
    }

    let evaluated = ok(cloze(shop.path(), &["eval", "model", "--json"]));
    let saved = fs::read_to_string(shop.path().join("model/metrics.json")).unwrap();
    let (evaluated, saved): (serde_json::Value, serde_json::Value) = (
        serde_json::from_str(&evaluated).unwrap(),
        serde_json::from_str(&saved).unwrap(),
    );
    assert_eq!(
        evaluated, saved,
        "what training reports is what a later evaluation finds"
    );

    let one = ok(cloze(
        shop.path(),
        &[
            "predict",
            "model",
            "--items",
            "sku-3,sku-4",
            "--top",
            "3",
            "--exclude-seen",
        ],
    ));
    assert!(
        one.contains("Thing 4") && one.lines().filter(|l| l.contains("sku-")).count() == 5,
        "{one}"
    );

    fs::write(
        shop.path().join("h.jsonl"),
        "{\"user\":\"x\",\"items\":[\"sku-7\",\"nope\"]}\n{\"items\":[\"gone\"]}\n",
    )
    .unwrap();
    let output = cloze(shop.path(), &["predict", "model", "h.jsonl", "--top", "2"]);
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = ok(output);
    assert!(
        warned.contains("2 items that the model does not know")
            && warned.contains("1 of 2 histories"),
        "{warned}"
    );
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (
            first["user"].as_str(),
            first["items"].as_array().map(Vec::len)
        ),
        (Some("x"), Some(2))
    );
    assert_eq!(first["unknown"][0], "nope");

    for name in ["out.parquet", "out.csv", "out.jsonl"] {
        ok(cloze(
            shop.path(),
            &["predict", "model", "h.jsonl", "-o", name],
        ));
        assert!(
            fs::metadata(shop.path().join(name)).unwrap().len() > 0,
            "{name}"
        );
    }
    fs::write(shop.path().join("allow.txt"), "sku-1\nsku-2\n").unwrap();
    let allowed = ok(cloze(
        shop.path(),
        &[
            "predict",
            "model",
            "--items",
            "sku-5",
            "--allow",
            "allow.txt",
        ],
    ));
    assert_eq!(
        allowed.lines().filter(|l| l.contains("Thing")).count(),
        3,
        "{allowed}"
    );
    let inspected = ok(cloze(shop.path(), &["inspect", "model", "--parameters"]));
    assert!(inspected.contains("layer.1.ffn.down.weight"), "{inspected}");
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one() {
    let shop = shop();
    ok(train(shop.path(), &["-o", "whole"]));
    ok(train(shop.path(), &["-o", "parts", "--max-steps", "1"]));
    for steps in ["7", "8", "20"] {
        ok(cloze(
            shop.path(),
            &["train", "--resume", "parts", "--max-steps", steps],
        ));
    }
    ok(cloze(
        shop.path(),
        &["train", "--resume", "parts", "--threads", "1"],
    ));
    assert_eq!(weights(shop.path(), "whole"), weights(shop.path(), "parts"));
    assert_eq!(
        state_without_clock(shop.path(), "whole"),
        state_without_clock(shop.path(), "parts")
    );
    for file in ["model", "mean", "square"].map(|name| format!("{name}.safetensors")) {
        let read = |model| fs::read(newest_checkpoint(shop.path(), model).join(&file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
}

#[test]
fn a_run_killed_at_any_moment_can_be_gone_on_with_exactly() {
    let shop = shop();
    let more = ["--set", "validate.every_epochs=1", "--set", "epochs=12"];
    ok(train(shop.path(), &[&more[..], &["-o", "whole"]].concat()));
    let mut killed = 0;
    for wait in [60, 90, 130, 170, 210, 250] {
        let folder = shop.path().join("parts");
        let arguments: Vec<&str> = if folder.join("recipe.toml").exists() {
            vec!["train", "--resume", "parts"]
        } else {
            [&TINY[..], &more, &["-o", "parts"]].concat()
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloze"))
            .args(arguments)
            .current_dir(shop.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        killed > 0,
        "no run was still going on when it was to be killed"
    );
    // What a crash in the middle of a checkpoint leaves behind.
    let torn = shop.path().join("parts/training/999999.tmp");
    fs::create_dir_all(&torn).unwrap();
    fs::write(torn.join("model.safetensors"), b"half").unwrap();
    ok(cloze(shop.path(), &["train", "--resume", "parts"]));
    assert_eq!(weights(shop.path(), "whole"), weights(shop.path(), "parts"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let shop = shop();
    let folder = shop.path();
    let said = error(&cloze(folder, &["train", "bert4rek", "-o", "m"]), 1);
    assert!(
        said.contains("expected a built-in recipe") && said.contains("bert4rec"),
        "{said}"
    );
    let said = error(&cloze(folder, &["train", "bert4rec", "-o", "m"]), 1);
    assert!(said.contains("name it with --data FILE"), "{said}");
    let said = error(&train(folder, &["-o", "m", "--set", "optim.lrate=1"]), 1);
    assert!(said.contains("unknown field `lrate`"), "{said}");
    let said = error(
        &cloze(
            folder,
            &["train", "bert4rec", "--data", "orders.csv", "-o", "m"],
        ),
        1,
    );
    assert!(
        said.contains("orders.csv") && said.contains("customer"),
        "{said}"
    );
    let said = error(&cloze(folder, &["eval", "nowhere"]), 1);
    assert!(said.contains("nowhere is no model folder"), "{said}");
    assert!(
        !folder.join("m").exists(),
        "a run that cannot start leaves nothing behind"
    );
    error(&cloze(folder, &["train"]), 2);
    error(&cloze(folder, &["predict", "m"]), 2);

    ok(train(folder, &["-o", "m", "--set", "epochs=1"]));
    let said = error(&train(folder, &["-o", "m"]), 1);
    assert!(said.contains("cloze train --resume m"), "{said}");
    let said = error(&cloze(folder, &["predict", "m", "--items", "sku-999"]), 1);
    assert!(said.contains("none of these items is known"), "{said}");
    let said = error(
        &cloze(
            folder,
            &["predict", "m", "--items", "sku-1", "-o", "out.txt"],
        ),
        1,
    );
    assert!(said.contains(".parquet, .csv or .jsonl"), "{said}");
    fs::write(folder.join("m/model.safetensors"), b"not tensors").unwrap();
    let said = error(&cloze(folder, &["predict", "m", "--items", "sku-1"]), 1);
    assert!(said.contains("is no safetensors file"), "{said}");
}

#[test]
fn rows_that_cannot_be_read_are_an_error_or_counted() {
    let shop = shop();
    let path = shop.path().join("orders.csv");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replacen("2024-01-03T10:00:00Z", "yesterday", 1);
    fs::write(&path, text).unwrap();
    let said = error(&train(shop.path(), &["-o", "m"]), 1);
    assert!(
        said.contains("orders.csv: line 4, column \"at\"") && said.contains("yesterday"),
        "{said}"
    );
    let output = train(
        shop.path(),
        &["-o", "m", "--skip-bad-rows", "--set", "epochs=1"],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ok(output);
    assert!(said.contains("1 of 720 rows skipped"), "{said}");
}

#[test]
fn help_teaches_and_completions_are_made() {
    let shop = shop();
    for command in [
        "quickstart",
        "train",
        "eval",
        "predict",
        "analyse",
        "inspect",
        "recipes",
        "completions",
    ] {
        assert!(ok(cloze(shop.path(), &["--help"])).contains(command));
        assert!(ok(cloze(shop.path(), &[command, "--help"])).contains("Usage: cloze"));
    }
    assert!(ok(cloze(shop.path(), &["completions", "bash"])).contains("_cloze"));
    assert!(ok(cloze(shop.path(), &["recipes"])).contains("sasrec/ml-1m"));
    let printed = ok(cloze(shop.path(), &["recipes", "bert4rec"]));
    fs::write(shop.path().join("mine.toml"), printed).unwrap();
    assert!(ok(cloze(shop.path(), &["inspect", "mine.toml"])).contains("BERT4Rec"));
}
