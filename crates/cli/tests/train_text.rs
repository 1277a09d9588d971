//! `cloze train` on texts, end to end: a tokenizer and an encoder from nothing, then every kind of head on it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod program;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;

use program::{cloze, error, ok};
use serde_json::Value;
use tempfile::TempDir;

/// The same numbers in every run (Knuth's linear congruential generator, MMIX).
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        of[(self.0 >> 33) as usize % of.len()]
    }
}

const NAMES: [&str; 8] = [
    "Anna", "Boris", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hugo",
];
const CITIES: [&str; 6] = ["Oslo", "Lima", "Quito", "Dakar", "Hanoi", "Turin"];
const GOOD: [&str; 4] = ["lovely", "bright", "splendid", "kind"];
const BAD: [&str; 4] = ["awful", "dull", "broken", "rude"];
const THINGS: [&str; 5] = ["house", "garden", "river", "market", "bridge"];

fn sentence(numbers: &mut Numbers, mood: &[&str]) -> String {
    format!(
        "{} saw the {} {} in {}",
        numbers.pick(&NAMES),
        numbers.pick(mood),
        numbers.pick(&THINGS),
        numbers.pick(&CITIES)
    )
}

/// A folder with texts of each kind, a tokenizer and a small encoder that has learned to fill blanks in them.
fn base() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let mut numbers = Numbers(7);
        let mut files = [(); 5].map(|()| String::new());
        let [corpus, labels, degrees, words, topics] = &mut files;
        let mut questions = Vec::new();
        labels.push_str("text\tlabel\n");
        degrees.push_str("text,label\n");
        for at in 0..400 {
            let is_good = at % 2 == 0;
            let text = sentence(&mut numbers, if is_good { &GOOD } else { &BAD });
            writeln!(corpus, "{text}").unwrap();
            let label = if is_good { "good" } else { "bad" };
            writeln!(labels, "{text}\t{label}").unwrap();
            writeln!(degrees, "{text},{}", if is_good { 4.5 } else { 1.0 }).unwrap();
            let found = |list: &[&str]| list.iter().any(|word| text.contains(word));
            let of = [("good", found(&GOOD)), ("wet", text.contains("river"))];
            let of: Vec<&str> = of
                .iter()
                .filter(|(_, has)| *has)
                .map(|(name, _)| *name)
                .collect();
            writeln!(topics, "{}", serde_json::json!({"text": text, "label": of})).unwrap();
            for word in text.split(' ') {
                let tag = match word {
                    word if NAMES.contains(&word) => "B-PER",
                    word if CITIES.contains(&word) => "B-LOC",
                    _ => "O",
                };
                writeln!(words, "{word} {tag}").unwrap();
            }
            words.push('\n');
            let place = text.rsplit(' ').next().unwrap();
            questions.push(serde_json::json!({"context": text, "qas": [{
                "id": at.to_string(),
                "question": "in which city",
                "answers": [{"text": place, "answer_start": text.len() - place.len()}],
            }]}));
        }
        let squad = serde_json::json!({"data": [{"title": "all", "paragraphs": questions}]});
        let names = [
            "corpus.txt",
            "labels.tsv",
            "degrees.csv",
            "words.conll",
            "topics.jsonl",
        ];
        for (name, text) in names.iter().zip(&files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::write(folder.path().join("questions.json"), squad.to_string()).unwrap();
        ok(cloze(
            folder.path(),
            &[
                "tokenizer",
                "train",
                "--data",
                "corpus.txt",
                "--model",
                "wordpiece",
                "--vocab-size",
                "120",
                "-o",
                "tokenizer",
            ],
        ));
        ok(cloze(
            folder.path(),
            &new("encoder", &["--set", "epochs=12"]),
        ));
        folder
    });
    folder.path()
}

/// The arguments that train a new small encoder.
fn new<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "train",
        "bert",
        "--tokenizer",
        "tokenizer",
        "--data",
        "corpus.txt",
        "--set",
        "model.config.hidden_size=48",
        "--set",
        "model.config.num_hidden_layers=2",
        "--set",
        "model.config.num_attention_heads=4",
        "--set",
        "model.config.intermediate_size=96",
        "--set",
        "optim.lr=3e-3",
        "--set",
        "batch.max_tokens=512",
        "-o",
        out,
    ];
    arguments.extend(more);
    arguments
}

/// The small encoder, trained on by a recipe: what the program says.
fn train(recipe: &str, data: &str, out: &str, settings: &[&str]) -> Output {
    let mut arguments = vec![
        "train", recipe, "--model", "encoder", "--data", data, "-o", out,
    ];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    cloze(base(), &arguments)
}

/// What the `recipe` on `data` makes of the encoder: the metrics of the validation part.
fn tuned(recipe: &str, data: &str, out: &str) -> Value {
    let settings = ["optim.lr=2e-3", "batch.max_tokens=512", "epochs=15"];
    ok(train(recipe, data, out, &settings));
    metrics(&base().join(out))
}

fn metrics(model: &Path) -> Value {
    let text = fs::read_to_string(model.join("metrics.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["validation"].clone()
}

/// The tensors that a model folder holds, as bytes.
fn tensors(model: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(base().join(model).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter();
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()))
        .collect()
}

#[track_caller]
fn assert_at_least(metrics: &Value, name: &str, least: f64) {
    let found = metrics[name].as_f64().unwrap();
    assert!(
        found >= least,
        "{name}: expected at least {least}, found {found} in {metrics}"
    );
}

#[test]
fn a_new_encoder_learns_to_fill_blanks() {
    let folder = base();
    // Each of the four words that vary is one of 4 to 8; two others always follow from their place.
    let found = metrics(&folder.join("encoder"));
    assert!(found["perplexity"].as_f64().unwrap() < 12.0, "{found}");
    let out = ok(cloze(
        folder,
        &[
            "predict",
            "encoder",
            "--input-text",
            "Anna saw the kind garden [MASK] Oslo",
            "--top",
            "1",
        ],
    ));
    assert!(out.contains(" in "), "{out}");
}

#[test]
fn labels_of_texts() {
    assert_at_least(
        &tuned("bert/classify", "labels.tsv", "classify"),
        "accuracy",
        0.95,
    );
    let out = ok(cloze(
        base(),
        &[
            "predict",
            "classify",
            "--input-text",
            "Hugo saw the rude market in Lima",
            "--top",
            "1",
        ],
    ));
    assert!(out.contains("bad") && !out.contains("good"), "{out}");
}

#[test]
fn several_labels_of_a_text() {
    assert_at_least(
        &tuned("bert/multilabel", "topics.jsonl", "topics"),
        "micro-f1",
        0.95,
    );
}

#[test]
fn numbers_of_texts() {
    assert_at_least(
        &tuned("bert/regress", "degrees.csv", "degrees"),
        "spearman",
        0.8,
    );
}

#[test]
fn entities_in_sentences() {
    assert_at_least(&tuned("bert/tag", "words.conll", "tag"), "f1", 0.95);
    let out = ok(cloze(
        base(),
        &[
            "predict",
            "tag",
            "--input-text",
            "Elif saw the bright bridge in Quito",
            "--aggregation",
            "first",
        ],
    ));
    assert!(
        out.contains("PER") && out.contains("Elif") && out.contains("Quito"),
        "{out}"
    );
}

#[test]
fn labels_of_words_that_are_chosen_together() {
    let folder = base();
    // Every second city has its river's name behind it, so that there is something inside of an entity.
    let words = fs::read_to_string(folder.join("words.conll")).unwrap();
    let words = words.replace("Oslo B-LOC", "Oslo B-LOC\nAnna I-LOC");
    fs::write(folder.join("long.conll"), words).unwrap();
    for (kind, out) in [("constrained", "legal"), ("crf", "chain")] {
        let decode = format!("objective.decode.kind={kind}");
        let settings = [
            &*decode,
            "optim.lr=2e-3",
            "batch.max_tokens=512",
            "epochs=15",
        ];
        ok(train("bert/tag", "long.conll", out, &settings));
        assert_at_least(&metrics(&folder.join(out)), "f1", 0.95);
        // What follows what stands in a file of its own: others find their tensors alone.
        assert!(tensors(out).keys().all(|name| !name.contains("transition")));
        let bytes = fs::read(folder.join(out).join("transitions.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let steps = file.tensor("transitions").unwrap();
        assert_eq!(steps.shape(), [6, 6]);
        let learned = steps.data().iter().any(|byte| *byte != 0);
        assert_eq!(learned, kind == "crf");
        let all = judged(&[out]);
        assert_eq!(all["models"][0]["metrics"], metrics(&folder.join(out)));
        let found = ok(cloze(
            folder,
            &[
                "predict",
                out,
                "--input-text",
                "Hugo saw the dull river in Oslo Anna",
            ],
        ));
        assert!(
            found.contains("Oslo Anna") && found.contains("Hugo"),
            "{found}"
        );
    }
    let short = [
        "objective.decode.kind=crf",
        "batch.max_tokens=512",
        "epochs=2",
    ];
    ok(train("bert/tag", "long.conll", "chain-whole", &short));
    let mut parts = vec![
        "train",
        "bert/tag",
        "--model",
        "encoder",
        "--data",
        "long.conll",
    ];
    parts.extend(["-o", "chain-parts", "--max-steps", "5"]);
    parts.extend(short.iter().flat_map(|setting| ["--set", *setting]));
    ok(cloze(folder, &parts));
    ok(cloze(folder, &["train", "--resume", "chain-parts"]));
    for file in ["model.safetensors", "transitions.safetensors"] {
        let [whole, parts] =
            ["chain-whole", "chain-parts"].map(|name| folder.join(name).join(file));
        assert!(
            fs::read(whole).unwrap() == fs::read(parts).unwrap(),
            "{file}"
        );
    }

    let weighed = [
        "objective.decode.kind=crf",
        "objective.loss.focal_gamma=1.0",
    ];
    let text = error(&train("bert/tag", "long.conll", "nowhere", &weighed), 1);
    assert!(text.contains("judges whole sequences"), "{text}");
    fs::write(
        folder.join("legal/transitions.safetensors"),
        bytes_of_nothing(),
    )
    .unwrap();
    let arguments = ["predict", "legal", "--input-text", "Anna"];
    let text = error(&cloze(folder, &arguments), 1);
    assert!(text.contains("of shape [6, 6]"), "{text}");
}

/// A file of tensors without any.
fn bytes_of_nothing() -> Vec<u8> {
    let none: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
    safetensors::serialize(none, None).unwrap()
}

#[test]
fn answers_to_questions() {
    assert_at_least(
        &tuned("bert/answer", "questions.json", "answer"),
        "exact-match",
        0.9,
    );
    let out = ok(cloze(
        base(),
        &[
            "predict",
            "answer",
            "--question",
            "in which city",
            "--context",
            "Greta saw the dull river in Dakar",
        ],
    ));
    assert!(out.contains("Dakar"), "{out}");
}

#[test]
fn classifiers_on_features_of_an_encoder_that_stays_as_it_is() {
    let folder = base();
    fs::write(
        folder.join("moods.dic"),
        "%\n1 good\n2 bad\n%\nlovely 1\nbright 1\nsplen* 1\nkind 1\nawful 2\ndull 2\nbroken 2\nrude 2\n",
    )
    .unwrap();
    let lexicon = "features=[{ kind = \"lexicon\", file = \"moods.dic\" }]";
    let layers = "features=[{ kind = \"encoder\", pool = \"max\", layer = 1 }, { kind = \"encoder\", pool = \"first\" }]";
    let linear = "classifier={ kind = \"linear-svm\", c = 1.0 }";
    for (recipe, settings, out, least) in [
        ("prompt-injection", &[][..], "logistic", 0.95),
        ("prompt-injection/terms", &[], "terms", 0.95),
        ("prompt-injection/svm", &[], "bumps", 0.95),
        ("prompt-injection/forest", &[], "forest", 0.8),
        ("prompt-injection/bayes", &[lexicon], "lexicon", 1.0),
        ("personality", &[layers, linear], "layers", 0.8),
    ] {
        ok(train(recipe, "labels.tsv", out, settings));
        assert_at_least(&metrics(&folder.join(out)), "accuracy", least);
        let all = judged(&[out]);
        assert_eq!(
            all["models"][0]["metrics"],
            metrics(&folder.join(out)),
            "{out}"
        );
        let predict = ["predict", out, "--top", "1", "--input-text"];
        let told = ok(cloze(
            folder,
            &[&predict[..], &["Hugo saw the rude market in Lima"]].concat(),
        ));
        assert!(told.contains("bad"), "{out}: {told}");
    }
    // The encoder is as it was; what was fitted is fitted again to the same bytes.
    assert!(tensors("logistic") == tensors("encoder"));
    let features = folder.join("logistic/features.json");
    let fitted = fs::read(&features).unwrap();
    fs::remove_file(&features).unwrap();
    ok(cloze(folder, &["train", "--resume", "logistic"]));
    assert!(fs::read(&features).unwrap() == fitted);
    let all = judged(&["logistic", "--with", "forest", "--no-baselines"]);
    assert_eq!(names(&all), ["logistic", "forest"]);

    let damaged = String::from_utf8(fitted)
        .unwrap()
        .replacen("\"outputs\":1", "\"outputs\":2", 1);
    fs::write(folder.join("terms/features.json"), damaged).unwrap();
    let text = error(
        &cloze(folder, &["predict", "terms", "--input-text", "a"]),
        1,
    );
    assert!(text.contains("train the folder again"), "{text}");
    for (setting, expected) in [
        (
            "features=[{ kind = \"encoder\", pool = \"mean\", layer = 9 }]",
            "layer: expected at most 2",
        ),
        (
            "classifier={ kind = \"logistic\", c = 0.0 }",
            "classifier.c: expected a number above 0",
        ),
        (
            "objective.problem=regression",
            "expected { kind = \"sequence\"",
        ),
        ("metric=rouge", "expected one of accuracy"),
        (
            "features=[{ kind = \"lexicon\", file = \"words.conll\" }]",
            "expected a line of %",
        ),
    ] {
        let text = error(
            &train("prompt-injection", "labels.tsv", "nowhere", &[setting]),
            1,
        );
        assert!(text.contains(expected), "{setting}: {text}");
        fs::remove_dir_all(folder.join("nowhere")).ok();
    }
}

/// Texts of four sentences, of which one tells the label.
fn write_long(path: &Path) {
    let mut numbers = Numbers(23);
    let mut table = "text\tlabel\n".to_owned();
    for at in 0..400 {
        let mood = if at % 2 == 0 { &GOOD } else { &BAD };
        let told = (at * 7) % 4;
        let sentences: Vec<String> = (0..4)
            .map(|place| match sentence(&mut numbers, mood) {
                text if place == told => text,
                text => mood
                    .iter()
                    .fold(text, |text, word| text.replace(*word, "old")),
            })
            .collect();
        let label = if at % 2 == 0 { "good" } else { "bad" };
        writeln!(table, "{}\t{label}", sentences.join(" ")).unwrap();
    }
    fs::write(path, table).unwrap();
}

#[test]
fn long_texts_by_their_windows() {
    let folder = base();
    write_long(&folder.join("long.tsv"));
    // Some words are several tokens: a sentence or so fits.
    let settings = [
        "optim.lr=1e-3",
        "epochs=15",
        "model.max_len=16",
        "batch={ max_tokens = 1024, max_sequences = 8 }",
    ];
    let windows = ["objective.chunks.overlap=3", "objective.chunks.most=16"];
    for recipe in ["ad-bert", "ad-bert/mean"] {
        let out = recipe.replace('/', "-");
        ok(train(
            recipe,
            "long.tsv",
            &out,
            &[&settings[..], &windows].concat(),
        ));
        assert_at_least(&metrics(&folder.join(&out)), "accuracy", 0.9);
        let all = judged(&[&out]);
        assert_eq!(all["models"][0]["metrics"], metrics(&folder.join(&out)));
        // What Burn says of all windows together, the engine says of them by itself.
        let found = ok(cloze(
            folder,
            &[
                "predict",
                &out,
                "long.tsv",
                "--top",
                "1",
                "-o",
                &format!("{out}.jsonl"),
            ],
        ));
        assert!(found.is_empty(), "{found}");
        let lines = fs::read_to_string(folder.join(format!("{out}.jsonl"))).unwrap();
        let table = fs::read_to_string(folder.join("long.tsv")).unwrap();
        let right = lines
            .lines()
            .zip(table.lines().skip(1))
            .filter(|(line, row)| {
                let line: Value = serde_json::from_str(line).unwrap();
                row.ends_with(line["labels"][0]["label"].as_str().unwrap())
            });
        assert!(right.count() >= 360, "{out}");
    }
    let few = ["objective.chunks.overlap=3", "objective.chunks.most=1"];
    ok(train(
        "ad-bert",
        "long.tsv",
        "first",
        &[&settings[..], &few].concat(),
    ));
    let accuracy = metrics(&folder.join("first"))["accuracy"].as_f64().unwrap();
    assert!(
        accuracy < 0.85,
        "one window of several says it seldom: {accuracy}"
    );
    let text = error(
        &cloze(
            folder,
            &[
                "predict",
                "ad-bert",
                "--input-text",
                "a",
                "--input-pair",
                "b",
            ],
        ),
        1,
    );
    assert!(text.contains("takes one text"), "{text}");
    let wide = ["model.max_len=16", "objective.chunks.overlap=9"];
    let text = error(&train("ad-bert", "long.tsv", "nowhere", &wide), 1);
    assert!(text.contains("an overlap of up to 4"), "{text}");
    // A head of another kind knows nothing of windows.
    ok(cloze(
        folder,
        &[
            "train",
            "bert/classify",
            "--model",
            "ad-bert",
            "--data",
            "labels.tsv",
            "-o",
            "whole-again",
            "--set",
            "epochs=1",
        ],
    ));
    let config = fs::read_to_string(folder.join("whole-again/config.json")).unwrap();
    assert!(!config.contains("cloze_chunks"), "{config}");
}

/// What `cloze eval` says.
fn judged(arguments: &[&str]) -> Value {
    let out = ok(cloze(base(), &[&["eval"], arguments, &["--json"]].concat()));
    serde_json::from_str(&out).unwrap()
}

fn names(judged: &Value) -> Vec<&str> {
    let models = judged["models"].as_array().unwrap().iter();
    models.map(|one| one["model"].as_str().unwrap()).collect()
}

#[test]
fn models_stand_beside_baselines_and_each_other() {
    let folder = base();
    let found = tuned("bert/classify", "labels.tsv", "judged");
    ok(train(
        "bert/classify",
        "labels.tsv",
        "unfinished",
        &["epochs=1"],
    ));
    let all = judged(&["judged", "--with", "unfinished"]);
    let expected = ["judged", "unfinished", "majority", "tf-idf + logistic"];
    assert_eq!(names(&all), expected);
    assert_eq!(all["texts"], 40);
    let saved = fs::read_to_string(folder.join("judged/metrics.json")).unwrap();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    let models = &all["models"];
    assert_eq!(models[0]["metrics"], found);
    for at in [2, 3] {
        let of_training = &saved["baselines"]["validation"][expected[at]];
        assert_eq!(&models[at]["metrics"], of_training);
    }
    // Four words say it all.
    assert_at_least(&models[3]["metrics"], "accuracy", 0.95);
    assert!(models[2]["metrics"]["accuracy"].as_f64().unwrap() < 0.7);
    let (low, high) = (
        &models[2]["interval"]["low"],
        &models[2]["interval"]["high"],
    );
    assert!(low.as_f64() < high.as_f64(), "{all}");
    let test = &all["mcnemar"]["majority"];
    assert!(test["exact_p"].as_f64().unwrap() < 0.01, "{all}");

    let given = ok(cloze(
        folder,
        &["eval", "judged", "--data", "labels.tsv", "--no-baselines"],
    ));
    assert!(given.starts_with("given part, 400 texts\n"), "{given}");
    assert!(!given.contains("majority"), "{given}");

    let page = fs::read_to_string(folder.join("judged/report.html")).unwrap();
    for part in ["Confusion", "Calibration", "tf-idf + logistic", "McNemar"] {
        assert!(page.contains(part), "no {part}");
    }
    for (arguments, expected) in [
        (
            &["--with", "encoder"][..],
            "expected a model that predicts what judged does",
        ),
        (&["--user", "u"], "--user: expected a recipe over items"),
        (&["--data", "missing.tsv"], "missing.tsv"),
    ] {
        let text = error(
            &cloze(folder, &[&["eval", "judged"], arguments].concat()),
            1,
        );
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_few_texts_of_each_class_are_drawn_and_unbalanced_classes_told_of() {
    let folder = base();
    let told = |data: &str, out: &str, more: &[&str]| {
        let output = train("bert/classify", data, out, &[&["epochs=1"], more].concat());
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        ok(output);
        said
    };
    let said = told("labels.tsv", "few", &["data.per_class=3"]);
    assert!(said.contains("6 training texts"), "{said}");
    assert!(said.contains("40 validation texts"), "{said}");
    assert!(!said.contains("unbalanced"), "{said}");
    assert_eq!(judged(&["few"])["texts"], 40);
    let labels = fs::read_to_string(folder.join("labels.tsv")).unwrap();
    let mut bad = 0;
    let rows = labels.lines().filter(|line| {
        bad += usize::from(line.ends_with("bad"));
        !line.ends_with("bad") || bad <= 10
    });
    let rows: Vec<&str> = rows.collect();
    fs::write(folder.join("rare.tsv"), rows.join("\n")).unwrap();
    let said = told("rare.tsv", "rare", &[]);
    assert!(said.contains("classes are unbalanced"), "{said}");
    let few = ["data.per_class=3"];
    let text = error(&train("bert/regress", "degrees.csv", "nowhere", &few), 1);
    assert!(
        text.contains("expected an objective with one label a text"),
        "{text}"
    );
}

#[test]
fn every_task_has_something_to_beat() {
    for (recipe, data, model, name, metric, least) in [
        (
            "bert/multilabel",
            "topics.jsonl",
            "sets",
            "tf-idf + logistic",
            "micro-f1",
            0.95,
        ),
        (
            "bert/regress",
            "degrees.csv",
            "numbers",
            "tf-idf + ridge",
            "spearman",
            0.8,
        ),
        ("bert/tag", "words.conll", "words", "lexicon", "f1", 1.0),
        // The whole sentence for its last word, of six.
        (
            "bert/answer",
            "questions.json",
            "asked",
            "sentence",
            "f1",
            0.2,
        ),
    ] {
        ok(train(recipe, data, model, &["epochs=1"]));
        let all = judged(&[model]);
        let models = all["models"].as_array().unwrap();
        let own = models.iter().find(|one| one["model"] == name);
        let own = own.unwrap_or_else(|| panic!("no {name} in {all}"));
        assert_at_least(&own["metrics"], metric, least);
    }
    let all = judged(&["encoder"]);
    assert_eq!(names(&all), ["encoder", "unigram"]);
    let perplexity = |at: usize| all["models"][at]["metrics"]["perplexity"].as_f64().unwrap();
    assert!(
        perplexity(0) < perplexity(1) && perplexity(1) < 120.0,
        "{all}"
    );
}

#[test]
fn a_run_that_was_interrupted_ends_with_the_same_bits() {
    let folder = base();
    ok(cloze(folder, &new("whole", &["--set", "epochs=3"])));
    ok(cloze(
        folder,
        &new("parts", &["--set", "epochs=3", "--max-steps", "4"]),
    ));
    assert!(
        !folder.join("parts/model.safetensors").exists(),
        "no validation has been yet"
    );
    ok(cloze(folder, &["train", "--resume", "parts"]));
    let [whole, parts] = ["whole", "parts"]
        .map(|name| fs::read(folder.join(name).join("model.safetensors")).unwrap());
    assert!(whole == parts, "the weights differ");
    assert_eq!(
        metrics(&folder.join("whole")),
        metrics(&folder.join("parts"))
    );
}

#[test]
fn parameters_that_are_frozen_stay_as_they_are() {
    let settings = ["epochs=1", "model.freeze=[\"embed.\", \"layer.0.\"]"];
    ok(train("bert/classify", "labels.tsv", "frozen", &settings));
    let (before, after) = (tensors("encoder"), tensors("frozen"));
    let same = |name: &str| before[name] == after[name];
    assert!(same("bert.embeddings.word_embeddings.weight"));
    assert!(same("bert.encoder.layer.0.output.dense.weight"));
    assert!(!same("bert.encoder.layer.1.output.dense.weight"));
}

#[test]
fn what_is_missing_or_wrong_is_told_in_one_line() {
    let folder = base();
    fs::write(
        folder.join("bad.tsv"),
        "text\tlabel\na b\tgood\nc d\tugly\n",
    )
    .unwrap();
    for (arguments, expected) in [
        (
            &["bert/classify", "--data", "labels.tsv"][..],
            "name its folder, or its name on the hub, with --model",
        ),
        (
            &["bert", "--data", "corpus.txt"],
            "`cloze tokenizer train` makes one",
        ),
        (&["bert/classify", "--model", "encoder"], "pass --data FILE"),
        (
            &[
                "bert/classify",
                "--model",
                "encoder",
                "--data",
                "labels.tsv",
                "--label",
                "mood",
            ],
            "no column \"mood\"",
        ),
        (
            &[
                "bert/classify",
                "--model",
                "encoder",
                "--data",
                "labels.tsv",
                "--user",
                "u",
            ],
            "--user: expected a recipe over items",
        ),
        (
            &[
                "bert/classify",
                "--model",
                "encoder",
                "--data",
                "labels.tsv",
                "--validation",
                "bad.tsv",
            ],
            "bad.tsv: line 3, column \"label\": expected a label of the training part (\"bad\", \"good\"), found \"ugly\"",
        ),
        (
            &[
                "bert/tag",
                "--model",
                "encoder",
                "--data",
                "labels.tsv",
                "--set",
                "validate.metric=rouge",
            ],
            "expected one of f1, precision, recall, accuracy",
        ),
        (
            &[
                "bert",
                "--tokenizer",
                "tokenizer",
                "--data",
                "corpus.txt",
                "--set",
                "model.config.hidden_sise=3",
            ],
            "hidden_size",
        ),
    ] {
        let arguments = [&["train"], arguments, &["-o", "nowhere"]].concat();
        let text = error(&cloze(folder, &arguments), 1);
        assert!(text.contains(expected), "{arguments:?}\n{text}");
        assert!(!folder.join("nowhere").exists(), "{arguments:?}");
    }
}

#[test]
fn updates_of_low_rank_learn_and_are_written_as_weights() {
    let folder = base();
    let settings = [
        "epochs=8",
        "optim.lr=1e-2",
        "model.lora={ rank = 4, alpha = 8.0 }",
    ];
    ok(train("bert/classify", "labels.tsv", "lora", &settings));
    assert_at_least(&metrics(&folder.join("lora")), "accuracy", 0.95);
    let (before, after) = (tensors("encoder"), tensors("lora"));
    let same = |name: &str| before[name] == after[name];
    assert!(after.keys().all(|name| !name.contains("lora")));
    assert!(same("bert.encoder.layer.0.output.LayerNorm.weight"));
    assert!(!same("bert.encoder.layer.0.output.dense.weight"));
    // What is written answers as what was judged: the metrics are of the folder, read again.
    let out = ok(cloze(
        folder,
        &[
            "predict",
            "lora",
            "--input-text",
            "Anna saw the awful river in Oslo",
            "--top",
            "1",
        ],
    ));
    assert!(out.contains("bad"), "{out}");
}
