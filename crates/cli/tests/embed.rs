//! Pretrained encoders, as people run them on files of texts.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "a test may stop, and need not be fast"
)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use program::{cloze, error, ok};
use serde_json::Value;
use tempfile::TempDir;

/// A tiny sentence-transformers folder, of which a text's vector is three poolings, a dense map and a normalisation.
fn encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden/sentence")
}

/// The same encoder in a folder that does not say how to embed, so that the mean is taken.
fn plain(folder: &Path) -> &'static str {
    let to = folder.join("plain");
    fs::create_dir(&to).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(encoder().join(name), to.join(name)).unwrap();
    }
    "plain"
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn vector(row: &Value) -> Vec<f32> {
    let numbers = row["embedding"].as_array().unwrap().iter();
    numbers.map(|x| x.as_f64().unwrap() as f32).collect()
}

fn is_near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

/// The rows of a folder's shards: text, start, end, vector.
fn rows(folder: &Path) -> Vec<(i64, i64, i64, Vec<f32>)> {
    let mut rows = Vec::new();
    for shard in shards(folder) {
        let file = fs::File::open(shard).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let numbers = |name: &str| {
                let column = batch[name].as_primitive::<Int64Type>();
                column.values().to_vec()
            };
            let spans = numbers("start").into_iter().zip(numbers("end"));
            let vectors = batch["embedding"].as_fixed_size_list();
            for (row, (text, (start, end))) in numbers("text").into_iter().zip(spans).enumerate() {
                let values = vectors.value(row);
                let values = values.as_primitive::<Float32Type>().values().to_vec();
                rows.push((text, start, end, values));
            }
        }
    }
    rows
}

/// The finished shards of a job, in order.
fn shards(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut shards: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect();
    shards.sort();
    shards
}

#[test]
fn texts_become_vectors_in_their_order() {
    let folder = TempDir::new().unwrap();
    let model = encoder();
    let model = model.to_str().unwrap();
    let lines: String = (0..40)
        .map(|i| format!("the cat {} sat\n", "on the mat ".repeat(i % 7)))
        .collect();
    fs::write(folder.path().join("texts.txt"), &lines).unwrap();
    let all = ok(cloze(
        folder.path(),
        &["embed", model, "texts.txt", "--batch-tokens", "32"],
    ));
    let rows: Vec<&str> = all.lines().collect();
    assert_eq!(rows.len(), 40);
    assert_eq!(
        rows[0], rows[7],
        "the same text has the same vector, wherever it stands"
    );
    assert_ne!(rows[0], rows[1]);
    let together = ok(cloze(
        folder.path(),
        &["embed", model, "texts.txt", "--threads", "1"],
    ));
    assert_eq!(all, together, "batches and threads change no bit");

    // Shards, and the same job again.
    let job = [
        "embed",
        model,
        "texts.txt",
        "-o",
        "vectors/",
        "--shard-rows",
        "16",
    ];
    ok(cloze(folder.path(), &job));
    assert_eq!(shards(&folder.path().join("vectors")).len(), 3);
    let again = cloze(folder.path(), &job);
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing to do"));
    let other = [&job[..], &["--vectors", "int8"]].concat();
    error(&cloze(folder.path(), &other), 1);

    let nope = ["embed", model, "texts.txt", "--prompt", "nope"];
    let message = error(&cloze(folder.path(), &nope), 1);
    assert!(message.contains("nope"), "{message}");
    let message = error(&cloze(folder.path(), &["embed", "absent", "texts.txt"]), 1);
    assert!(message.contains("absent: no such folder"), "{message}");
}

/// Each of its words is one token, and they are more than the model takes.
const LONG: &str = "the cat sat to the mat and the mat is red how is the river the water of the bank is not the text of the title";

#[test]
fn chunks_of_long_texts_are_embedded_as_texts_of_their_own() {
    let folder = TempDir::new().unwrap();
    let model = plain(folder.path());
    fs::write(
        folder.path().join("texts.txt"),
        format!("the cat\n{LONG}\n"),
    )
    .unwrap();
    let embed = |input: &str, more: &[&str]| {
        let command = [&["embed", model, input], more].concat();
        json_lines(&ok(cloze(folder.path(), &command)))
    };
    let size = ["--long", "chunk", "--chunk-tokens", "5", "--overlap", "1"];
    let chunks = embed("texts.txt", &size);
    assert!(chunks.len() > 5, "{chunks:?}");
    assert_eq!(embed("texts.txt", &size[..4]), chunks, "of five, a quarter");
    assert_eq!(
        (&chunks[0]["text"], &chunks[0]["end"]),
        (&0.into(), &7.into())
    );
    let of_long: Vec<&Value> = chunks.iter().filter(|row| row["text"] == 1).collect();
    let span = |row: &Value| {
        let place = |name: &str| row[name].as_u64().unwrap() as usize;
        (place("start"), place("end"))
    };
    assert_eq!(span(of_long[0]).0, 0);
    assert_eq!(span(of_long[of_long.len() - 1]).1, LONG.len());
    let alone: String = of_long
        .iter()
        .map(|row| {
            let (start, end) = span(row);
            format!("{}\n", &LONG[start..end])
        })
        .collect();
    fs::write(folder.path().join("alone.txt"), &alone).unwrap();
    let alone = embed("alone.txt", &[]);
    for (chunk, alone) in of_long.iter().zip(&alone) {
        assert_eq!(chunk["embedding"], alone["embedding"]);
    }

    // One vector a text: the mean, each chunk weighing as many tokens as it has.
    let means = embed("texts.txt", &[&size[..], &["--chunks", "mean"]].concat());
    assert_eq!(means.len(), 2);
    assert_eq!(means[0]["embedding"], chunks[0]["embedding"]);
    assert_eq!(span(&means[1]), (0, LONG.len()));
    let tokens = |row: &Value| {
        let (start, end) = span(row);
        LONG[start..end].split(' ').count() as f32
    };
    let total: f32 = of_long.iter().map(|row| tokens(row)).sum();
    let mut expected = vec![0.0; vector(of_long[0]).len()];
    for row in &of_long {
        for (sum, x) in expected.iter_mut().zip(vector(row)) {
            *sum += tokens(row) / total * x;
        }
    }
    assert!(is_near(&vector(&means[1]), &expected));

    // Where the model normalises, so is the mean.
    let sentence = encoder();
    let sentence = sentence.to_str().unwrap();
    let command = [
        &["embed", sentence, "texts.txt", "--chunks", "mean"],
        &size[..],
    ]
    .concat();
    for row in json_lines(&ok(cloze(folder.path(), &command))) {
        let norm: f32 = vector(&row).iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

#[test]
fn late_chunks_know_the_rest_of_their_text() {
    let folder = TempDir::new().unwrap();
    let model = plain(folder.path());
    let short = "the cat sat to the mat and the river is not red";
    let lines = [short, LONG, ""].map(|text| format!("{{\"text\": {text:?}}}\n"));
    fs::write(folder.path().join("texts.jsonl"), lines.concat()).unwrap();
    let embed = |more: &[&str]| {
        let command = [&["embed", model, "texts.jsonl", "--overlap", "0"], more].concat();
        json_lines(&ok(cloze(folder.path(), &command)))
    };
    let parts = embed(&["--long", "late", "--chunk-tokens", "4"]);
    let chunks = embed(&["--long", "chunk", "--chunk-tokens", "4"]);
    let place = |row: &Value| (row["text"].clone(), row["start"].clone());
    assert_eq!(
        parts[..3].iter().map(place).collect::<Vec<_>>(),
        chunks[..3].iter().map(place).collect::<Vec<_>>()
    );
    assert!(!is_near(&vector(&parts[1]), &vector(&chunks[1])));
    // A text longer than the model takes is run in windows, each in parts to its end.
    let ends = parts.iter().filter(|row| row["text"] == 1);
    let ends: Vec<u64> = ends.map(|row| row["end"].as_u64().unwrap()).collect();
    assert!(ends.is_sorted(), "{ends:?}");
    assert_eq!(ends.last(), Some(&(LONG.len() as u64)));

    let empty = &parts[parts.len() - 1];
    assert_eq!((&empty["text"], &empty["end"]), (&2.into(), &0.into()));
    assert!(vector(empty).iter().all(|x| x.is_finite()));

    // The mean over parts is the mean over all tokens, which one part of the whole text has.
    let mean = embed(&["--long", "late", "--chunk-tokens", "4", "--chunks", "mean"]);
    let whole = embed(&["--long", "late", "--chunk-tokens", "50"]);
    assert!(is_near(&vector(&mean[0]), &vector(&whole[0])));

    let other = encoder();
    let late = ["--long", "late", "--chunk-tokens", "4", "--overlap", "0"];
    let command = [
        &["embed", other.to_str().unwrap(), "texts.jsonl"],
        &late[..],
    ]
    .concat();
    let message = error(&cloze(folder.path(), &command), 1);
    assert!(message.contains("pooled by their mean"), "{message}");
    let refused = |more: &[&str], code: i32| {
        let command = [&["embed", model, "texts.jsonl"], more].concat();
        error(&cloze(folder.path(), &command), code)
    };
    let message = refused(&["--long", "late"], 2);
    assert!(message.contains("--chunk-tokens"), "{message}");
    let message = refused(&["--chunks", "mean"], 1);
    assert!(message.contains("add --long chunk"), "{message}");
    let alike = ["--chunk-tokens", "30", "--overlap", "30"];
    let message = refused(&[&["--long", "chunk"], &alike[..]].concat(), 1);
    assert!(message.contains("--overlap 30"), "{message}");
    let message = refused(&["--long", "chunk", "--chunk-tokens", "33"], 1);
    assert!(message.contains("at most 22 tokens"), "{message}");
}

/// Texts of many lengths, one a line.
fn texts(count: usize) -> String {
    let words: Vec<&str> = LONG.split(' ').collect();
    (0..count)
        .map(|i| {
            let words = words.iter().cycle().skip(i).take(1 + i * 7 % 40);
            format!("{}\n", words.copied().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

#[test]
fn a_job_of_chunks_cut_at_any_shard_is_gone_on_with_exactly() {
    let folder = TempDir::new().unwrap();
    let model = plain(folder.path());
    fs::write(folder.path().join("texts.txt"), texts(30)).unwrap();
    for long in ["chunk", "late"] {
        let job = |output: &str| {
            let more = ["--chunk-tokens", "6", "--overlap", "2", "--shard-rows", "9"];
            let command = ["embed", model, "texts.txt", "--long", long, "-o", output];
            ok(cloze(folder.path(), &[&command[..], &more].concat()));
        };
        let whole = folder.path().join(format!("{long}-whole"));
        job(whole.to_str().unwrap());
        let expected = rows(&whole);
        let all = shards(&whole);
        assert!(all.len() > 5);
        let manifest = fs::read_to_string(whole.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        for done in 0..all.len() {
            let cut = folder.path().join(format!("{long}-{done}"));
            fs::create_dir(&cut).unwrap();
            for shard in &all[..done] {
                fs::copy(shard, cut.join(shard.file_name().unwrap())).unwrap();
            }
            // What a kill in the middle of the next shard leaves.
            fs::write(cut.join(format!("part-{done:05}.parquet.tmp")), "half").unwrap();
            let mut manifest = manifest.clone();
            manifest["complete"] = false.into();
            manifest["shards"].as_array_mut().unwrap().truncate(done);
            fs::write(cut.join("manifest.json"), manifest.to_string()).unwrap();
            let written = |shard: &PathBuf| fs::metadata(shard).unwrap().modified().unwrap();
            let before: Vec<_> = shards(&cut).iter().map(written).collect();
            job(cut.to_str().unwrap());
            assert_eq!(rows(&cut), expected, "{long}, after {done} shards");
            let after: Vec<_> = shards(&cut)[..done].iter().map(written).collect();
            assert_eq!(before, after, "what is there is not made again");
        }
    }
}

#[test]
fn a_job_of_chunks_killed_at_any_moment_loses_and_doubles_nothing() {
    let folder = TempDir::new().unwrap();
    let model = plain(folder.path());
    fs::write(folder.path().join("texts.txt"), texts(6000)).unwrap();
    let job = |output: &str| {
        let options = "--long chunk --chunk-tokens 8 --overlap 2 --shard-rows 500 --batch-tokens 512 --threads 1";
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloze"));
        command
            .args(["embed", model, "texts.txt", "-o", output])
            .args(options.split(' '))
            .current_dir(folder.path())
            .stderr(Stdio::null());
        command
    };
    assert!(job("whole/").status().unwrap().success());
    let mut killed = 0;
    for wait in [40, 60, 80, 100, 120, 150, 180] {
        let mut child = job("parts/").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        killed > 0,
        "no job was still going on when it was to be killed"
    );
    assert!(job("parts/").status().unwrap().success());
    assert_eq!(
        rows(&folder.path().join("whole")),
        rows(&folder.path().join("parts"))
    );
}

#[test]
fn encoders_are_held_to_reference_outputs() {
    let folder = TempDir::new().unwrap();
    let home = encoder().with_file_name("bert");
    let (model, golden) = (home.to_str().unwrap(), home.join("golden.safetensors"));
    let golden = golden.to_str().unwrap();
    let table = ok(cloze(folder.path(), &["verify", model, "--golden", golden]));
    assert!(table.contains("layer 0"), "{table}");
    let strict = ["verify", model, "--golden", golden, "--weights", "int8"];
    let message = error(&cloze(folder.path(), &strict), 1);
    assert!(message.contains("is off by"), "{message}");
}

#[test]
fn a_model_shows_what_it_is_and_how_it_would_run() {
    let folder = TempDir::new().unwrap();
    let home = encoder();
    let shown = ok(cloze(folder.path(), &["inspect", home.to_str().unwrap()]));
    for part in [
        "BertModel, as sentence-transformers has it",
        "2 layers of 24 channels",
        "at most 24 tokens (the encoder would take 40)",
        "WordPiece, 101 tokens; around a text [CLS] [SEP]; mask [MASK]",
        "the mean of the token vectors",
        "CPU engine",
        "int8",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.lines().count() <= 24, "one screen: {shown}");
    let prompts = home.with_file_name("sentence-prompt");
    let shown = ok(cloze(
        folder.path(),
        &["inspect", prompts.to_str().unwrap()],
    ));
    assert!(shown.contains("query \"query: \", the default"), "{shown}");
    let labels = home.with_file_name("cross-encoder-labels");
    let list = ["inspect", labels.to_str().unwrap(), "--parameters"];
    let shown = ok(cloze(folder.path(), &list));
    assert!(shown.contains("labels: "), "{shown}");
    assert!(shown.contains("layer.1.ffn.down.weight"), "{shown}");
    let message = error(&cloze(folder.path(), &["inspect", "bert4rek"]), 1);
    for part in ["built-in recipe (ad-bert, ", "not in the cache"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn speed_is_measured_on_random_tokens_and_on_ones_own_texts() {
    let folder = TempDir::new().unwrap();
    let home = encoder();
    let model = home.to_str().unwrap();
    let table = ok(cloze(folder.path(), &["bench", model, "--seconds", "0"]));
    assert!(
        table.contains("64 mixed") && table.contains("tokens/s"),
        "{table}"
    );
    fs::write(folder.path().join("texts.txt"), texts(20)).unwrap();
    let own = ["bench", model, "--input", "texts.txt", "--json"];
    let own = [&own[..], &["--seconds", "0", "--weights", "int8"]].concat();
    let found: Value = serde_json::from_str(&ok(cloze(folder.path(), &own))).unwrap();
    let cases = found["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    assert_eq!(
        (&cases[1]["texts"], &cases[1]["runs"]),
        (&20.into(), &20.into())
    );
    let speed = |name: &str| cases[1][name].as_f64().unwrap();
    assert!(speed("tokens_per_second") > speed("texts_per_second"));
    assert!(speed("ms_p99") >= speed("ms_p50"));
    assert!(found["peak_gflops"].as_f64().unwrap() > 0.0);
}
