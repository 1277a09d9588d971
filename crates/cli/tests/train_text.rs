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
        let mut grouped = String::from("text\tlabel\twriter\n");
        for (at, line) in files[1].lines().skip(1).enumerate() {
            writeln!(grouped, "{line}\tw{}", at * 7 % 23).unwrap();
        }
        fs::write(folder.path().join("grouped.tsv"), grouped).unwrap();
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

/// The arguments that train a small encoder by `recipe` on `data`; `settings` go over what all have.
fn fresh(recipe: &str, data: &str, out: &str, settings: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = ["train", recipe, "--tokenizer", "tokenizer", "--data", data]
        .map(str::to_owned)
        .to_vec();
    let all = [
        "model.config.hidden_size=48",
        "model.config.num_hidden_layers=2",
        "model.config.num_attention_heads=4",
        "model.config.intermediate_size=96",
        "optim.lr=3e-3",
        "batch.max_tokens=512",
    ];
    for setting in all.iter().chain(settings) {
        arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
    }
    arguments.extend(["-o".to_owned(), out.to_owned()]);
    arguments
}

fn run(arguments: &[String]) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    cloze(base(), &arguments)
}

/// Trains by `recipe` at once, and with an interruption: the same bits. The metrics of the validation part.
fn twice(recipe: &str, data: &str, out: &str, settings: &[&str]) -> Value {
    let arguments = fresh(recipe, data, out, settings);
    ok(run(&arguments));
    let parts = format!("{out}-parts");
    let mut arguments = fresh(recipe, data, &parts, settings);
    arguments.extend(["--max-steps", "3"].map(str::to_owned));
    ok(run(&arguments));
    ok(cloze(base(), &["train", "--resume", &parts]));
    for file in ["model.safetensors", "metrics.json"] {
        let [whole, parts] = [out, &*parts].map(|name| fs::read(base().join(name).join(file)));
        assert!(whole.unwrap() == parts.unwrap(), "{file} differs");
    }
    let judged = judged(&[out]);
    let found = metrics(&base().join(out));
    assert_eq!(judged["models"][0]["metrics"], found);
    found
}

/// Documents whose lines tell of one person, so that lines of two documents do not belong together.
fn documents() -> &'static str {
    static FILE: OnceLock<()> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut numbers = Numbers(11);
        let mut text = String::new();
        for at in 0..240 {
            let (name, city) = (NAMES[at % NAMES.len()], numbers.pick(&CITIES));
            for verb in ["went to", "saw", "left"] {
                writeln!(text, "{name} {verb} {city}").unwrap();
            }
            text.push('\n');
        }
        fs::write(base().join("documents.txt"), text).unwrap();
    });
    "documents.txt"
}

#[test]
fn whether_a_segment_follows_is_learned_beside_blanks() {
    let settings = [
        "model.max_len=24",
        "epochs=24",
        "objective.pair.short_prob=0.5",
    ];
    let found = twice("bert/pretrain", documents(), "pairs", &settings);
    assert_at_least(&found, "pair-accuracy", 0.7);
    let tensors = tensors("pairs");
    for name in [
        "bert.pooler.dense.weight",
        "cls.seq_relationship.bias",
        "cls.predictions.bias",
    ] {
        assert!(tensors.contains_key(name), "no {name}");
    }
    ok(cloze(
        base(),
        &["predict", "pairs", "--input-text", "Anna [MASK] Oslo"],
    ));
    assert_goes_on("pairs");
}

#[test]
fn the_order_of_segments_is_learned_by_albert() {
    let settings = [
        "model.max_len=24",
        "epochs=2",
        "model.config.model_type=albert",
        "model.config.embedding_size=16",
        "objective.pair.kind=sentence-order",
    ];
    let found = twice("bert/pretrain", documents(), "order", &settings);
    assert!(found["pair-accuracy"].is_number(), "{found}");
    let tensors = tensors("order");
    for name in ["albert.pooler.weight", "sop_classifier.classifier.weight"] {
        assert!(tensors.contains_key(name), "no {name}");
    }
}

/// A folder that was trained on can be trained further, for labels.
fn assert_goes_on(model: &str) {
    let out = format!("{model}-classify");
    let arguments = [
        "train",
        "bert/classify",
        "--model",
        model,
        "--data",
        "labels.tsv",
        "-o",
        &out,
        "--set",
        "epochs=1",
        "--set",
        "batch.max_tokens=512",
    ];
    ok(cloze(base(), &arguments));
}

#[test]
fn tokens_of_a_generator_are_found() {
    let settings = [
        "model.config.embedding_size=32",
        "epochs=12",
        "model.max_len=24",
    ];
    let found = twice("electra", "corpus.txt", "replaced", &settings);
    assert_at_least(&found, "replaced", 0.02);
    // More than by calling every token its own.
    let never = 1.0 - found["replaced"].as_f64().unwrap();
    assert_at_least(&found, "accuracy", never + 0.01);
    assert!(found["perplexity"].as_f64().unwrap() < 60.0, "{found}");
    let (own, generator) = (tensors("replaced"), tensors("replaced/generator"));
    for name in [
        "discriminator_predictions.dense.weight",
        "discriminator_predictions.dense_prediction.bias",
    ] {
        assert!(own.contains_key(name), "no {name}");
    }
    let same = |name: &str| own[name] == generator[name];
    assert!(same("electra.embeddings.word_embeddings.weight"));
    assert!(same("electra.embeddings.LayerNorm.bias"));
    assert!(generator.contains_key("generator_lm_head.bias"));
    assert!(own.keys().all(|name| !name.contains("generator")));
    ok(cloze(
        base(),
        &[
            "predict",
            "replaced/generator",
            "--input-text",
            "Anna saw the [MASK]",
            "--top",
            "1",
        ],
    ));
    assert_goes_on("replaced");
}

#[test]
fn tokens_say_where_they_stand() {
    let settings = [
        "model.max_len=24",
        "epochs=16",
        "objective.hidden_share=0.25",
    ];
    let found = twice("mp3", "corpus.txt", "places", &settings);
    // The place is clear from the kind of word, save of pieces of words.
    assert_at_least(&found, "accuracy", 0.7);
    assert!(found["mean-distance"].as_f64().unwrap() < 1.0, "{found}");
    let positions = &tensors("places")["embeddings.position_embeddings.weight"];
    assert!(positions.iter().all(|&byte| byte == 0));
    assert_eq!(names(&judged(&["places"])), ["places", "usual place"]);
    assert_goes_on("places");
}

#[test]
fn a_decoder_helps_and_is_not_written() {
    let settings = ["model.max_len=24", "epochs=2"];
    twice("bpdec", "corpus.txt", "decoded", &settings);
    ok(run(&fresh("bert", "corpus.txt", "plain", &settings)));
    let [decoded, plain] = ["decoded", "plain"].map(tensors);
    assert!(decoded.keys().eq(plain.keys()));
    assert!(decoded != plain);
    let len = |model: &str| {
        let file = base().join(model).join("model.safetensors");
        fs::metadata(file).unwrap().len()
    };
    assert_eq!(len("decoded"), len("plain"));
    assert!(!base().join("decoded/scaffold.safetensors").exists());
    // Without layers it is the same as without a decoder.
    let none = [&settings[..], &["objective.decoder.visible=[]"]].concat();
    ok(run(&fresh("bpdec", "corpus.txt", "undecoded", &none)));
    assert!(tensors("undecoded") == plain);
}

#[test]
fn batches_grow_and_a_run_that_was_interrupted_knows_how_far() {
    let settings = [
        "model.max_len=24",
        "epochs=3",
        "batch_warmup={ from_tokens = 64, share = 0.5 }",
    ];
    twice("bert", "corpus.txt", "grown", &settings);
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
fn labels_of_words_are_judged_word_by_word() {
    let folder = base();
    let words = fs::read_to_string(folder.join("words.conll")).unwrap();
    let mut rows = String::new();
    for sentence in words.split_terminator("\n\n") {
        rows.push_str("# text = as follows\n1-2\tboth\t_\t_\t_\t_\t_\t_\t_\t_\n");
        for (at, word) in sentence.lines().enumerate() {
            let (word, tag) = word.split_once(' ').unwrap();
            let upos = match (tag, word) {
                ("O", "saw") => "VERB",
                ("O", "the" | "in") => "X",
                ("O", word) if THINGS.contains(&word) => "NOUN",
                ("O", _) => "ADJ",
                _ => "PROPN",
            };
            writeln!(rows, "{}\t{word}\t_\t{upos}\t{tag}\t_\t_\t_\t_\t_", at + 1).unwrap();
        }
        rows.push('\n');
    }
    fs::write(folder.join("words.conllu"), rows).unwrap();
    let settings = [
        "optim.lr=2e-3",
        "batch.max_tokens=512",
        "epochs=15",
        "data.columns.label=upos",
    ];
    ok(train("bert/tag", "words.conllu", "upos", &settings));
    let found = metrics(&folder.join("upos"));
    assert_at_least(&found, "accuracy", 0.95);
    assert_at_least(&found, "macro-f1", 0.95);
    assert_eq!(found.as_object().unwrap().len(), 2, "{found}");
    let all = judged(&["upos", "--data", "words.conllu"]);
    assert_eq!(names(&all), ["upos", "lexicon"]);
    assert_at_least(&all["models"][1]["metrics"], "accuracy", 1.0);
    assert_eq!(
        (&all["sentences"], &all["metric"]),
        (&400.into(), &"accuracy".into())
    );
    // By number, and labels of stretches in the same file.
    ok(train(
        "bert/tag",
        "words.conllu",
        "xpos",
        &["epochs=1", "data.columns.label=\"4\""],
    ));
    assert!(metrics(&folder.join("xpos"))["f1"].is_f64());

    for (data, settings, expected) in [
        (
            "words.conllu",
            &[][..],
            "words.conllu: expected the column of labels, such as --label upos, by its number from 0 or its name in CoNLL-U",
        ),
        (
            "words.conll",
            &["data.columns.label=pos"],
            "words.conll: expected a column, by its number from 0 or its name in CoNLL-U, found \"pos\"; names are id, form,",
        ),
        (
            "words.conllu",
            &["data.columns.label=upos", "objective.tags=stretches"],
            "words.conllu: line 3, column \"3\": expected O, or B or I with - and a label (IOB2), found \"PROPN\"\n",
        ),
    ] {
        let text = error(&train("bert/tag", data, "nowhere", settings), 1);
        assert!(text.contains(expected), "{text}\ndoes not say\n{expected}");
    }
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
    let endless = |context: &str| {
        serde_json::json!({"context": context, "qas": [{
            "id": "endless",
            "question": "in which city ".repeat(200),
            "answers": [{"text": "Dakar", "answer_start": 3}],
        }]})
    };
    let paragraphs = [endless("in Dakar"), endless("to Dakar")];
    let squad = serde_json::json!({"data": [{"title": "all", "paragraphs": paragraphs}]});
    fs::write(base().join("endless.json"), squad.to_string()).unwrap();
    let text = error(&train("bert/answer", "endless.json", "nowhere", &[]), 1);
    assert!(
        text.contains(
            "question \"endless\": 3 special tokens and 600 of the first text leave 0 of"
        ),
        "{text}"
    );
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
        let page = fs::read_to_string(folder.join(out).join("report.html")).unwrap();
        assert!(
            page.contains("Finished") && page.contains("tf-idf + logistic"),
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
    for recipe in ["ad-bert", "ad-bert/mean", "ad-bert/attention"] {
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
    sections_are_windows_of_their_own(&[&settings[..], &windows].concat());
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

/// A text may be a list of texts, none of whose windows has tokens of two.
fn sections_are_windows_of_their_own(settings: &[&str]) {
    let folder = base();
    let table = fs::read_to_string(folder.join("long.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|line| {
        let (text, label) = line.split_once('\t').unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        let sections: Vec<String> = words.chunks(7).map(|words| words.join(" ")).collect();
        serde_json::json!({"text": sections, "label": label}).to_string()
    });
    let rows: Vec<String> = rows.collect();
    fs::write(folder.join("sections.jsonl"), rows.join("\n")).unwrap();
    ok(train(
        "ad-bert/attention",
        "sections.jsonl",
        "sections",
        settings,
    ));
    assert_at_least(&metrics(&folder.join("sections")), "accuracy", 0.95);
    let arguments = [
        "predict",
        "sections",
        "sections.jsonl",
        "--top",
        "1",
        "-o",
        "by-section.jsonl",
    ];
    ok(cloze(folder, &arguments));
    let lines = fs::read_to_string(folder.join("by-section.jsonl")).unwrap();
    let right = lines.lines().zip(&rows).filter(|(line, row)| {
        let [line, row]: [Value; 2] = [*line, row].map(|text| serde_json::from_str(text).unwrap());
        line["labels"][0]["label"] == row["label"]
    });
    assert!(right.count() >= 380);
    let text = error(&train("bert/classify", "sections.jsonl", "nowhere", &[]), 1);
    assert!(text.contains("expected text, found a list of 4"), "{text}");
    fs::write(
        folder.join("bad.jsonl"),
        "{\"text\": [\"a\", [\"b\"]], \"label\": \"x\"}\n",
    )
    .unwrap();
    let text = error(&train("ad-bert", "bad.jsonl", "nowhere", settings), 1);
    assert!(
        text.contains("expected text, or a list of texts, found a list of 2"),
        "{text}"
    );
}

/// What each sentence says, as labels in the order of its words.
fn write_said(path: &Path) {
    let mut numbers = Numbers(31);
    let mut table = "text\tlabel\n".to_owned();
    for at in 0..400 {
        let is_good = at % 2 == 0;
        let text = sentence(&mut numbers, if is_good { &GOOD } else { &BAD });
        let words: Vec<&str> = text.split(' ').collect();
        let mood = if is_good { "good" } else { "bad" };
        writeln!(table, "{text}\t{mood},{},{}", words[4], words[6]).unwrap();
    }
    fs::write(path, table).unwrap();
}

#[test]
fn sequences_of_labels_are_written_or_read_along_the_text() {
    let folder = base();
    write_said(&folder.join("said.tsv"));
    for (recipe, out) in [("slu", "written"), ("slu/ctc", "along")] {
        let settings = [
            "epochs=20",
            "model.max_len=32",
            "model.config.model_type=bert",
        ];
        let found = twice(recipe, "said.tsv", out, &settings);
        assert_at_least(&found, "exact-match", 0.9);
        let rate = found["error-rate"].as_f64().unwrap();
        assert!(rate < 0.05, "{rate}");
        let all = judged(&[out]);
        assert_eq!(names(&all), [out, "majority", "tf-idf + logistic"]);
        // What Burn found while it learned, the engine finds too.
        let predictions = format!("{out}.jsonl");
        let said = ok(cloze(
            folder,
            &["predict", out, "said.tsv", "-o", &predictions],
        ));
        assert!(said.is_empty(), "{said}");
        let lines = fs::read_to_string(folder.join(predictions)).unwrap();
        let table = fs::read_to_string(folder.join("said.tsv")).unwrap();
        let right = lines
            .lines()
            .zip(table.lines().skip(1))
            .filter(|(line, row)| {
                let line: Value = serde_json::from_str(line).unwrap();
                let score = line["score"].as_f64().unwrap();
                assert!((0.0..=1.0001).contains(&score), "{line}");
                row.split('\t').nth(1) == line["label"].as_str()
            });
        let right = right.count();
        assert!(right >= 360, "{out}: {right}");
        assert_goes_on(out);
        let config = fs::read_to_string(folder.join(format!("{out}-classify/config.json")));
        assert!(!config.unwrap().contains("cloze_transcript"));
    }
    for (settings, expected) in [
        (
            ["model.max_len=32", "objective.decode.most=2"],
            "text 1: its labels take 3 labels, found room for 2",
        ),
        (
            ["model.max_len=32", "objective.decode.heads=5"],
            "a divisor of the encoder's width 48, found 5",
        ),
        (
            ["model.max_len=32", "objective.decode={ kind = \"ctc\" }"],
            "ctc judges whole sequences",
        ),
    ] {
        let text = error(&train("slu", "said.tsv", "nowhere", &settings), 1);
        assert!(text.contains(expected), "{text}");
    }
    fs::write(
        folder.join("long-labels.tsv"),
        "text\tlabel\na\tx,x,x,x\nb\tx\n",
    )
    .unwrap();
    let text = error(&train("slu/ctc", "long-labels.tsv", "nowhere", &[]), 1);
    assert!(
        text.contains("its labels take 7 tokens, found room for"),
        "{text}"
    );
    let damaged = fs::read(folder.join("written/scaffold.safetensors")).unwrap();
    fs::write(
        folder.join("written-parts/scaffold.safetensors"),
        &damaged[..damaged.len() / 2],
    )
    .unwrap();
    let text = error(
        &cloze(folder, &["predict", "written-parts", "--input-text", "a"]),
        1,
    );
    assert!(text.contains("scaffold.safetensors"), "{text}");
}

/// What somebody thinks of what they saw, by what they care for.
fn write_tastes(path: &Path) {
    let mut numbers = Numbers(41);
    let mut table = "text,cares,age,label\n".to_owned();
    for _ in 0..600 {
        let moods = [(); 2].map(|()| numbers.pick(&["good", "bad"]) == "good");
        let [first, second] = moods.map(|good| numbers.pick(if good { &GOOD } else { &BAD }));
        let cares = numbers.pick(&["house", "garden"]);
        let age = numbers.pick(&["20", "35", "", "50"]);
        let label = if moods[usize::from(cares == "garden")] {
            "good"
        } else {
            "bad"
        };
        let name = numbers.pick(&NAMES);
        writeln!(
            table,
            "{name} saw the {first} house the {second} garden,{cares},{age},{label}"
        )
        .unwrap();
    }
    fs::write(path, table).unwrap();
}

#[test]
fn columns_beside_a_text_say_which_words_matter() {
    let folder = base();
    write_tastes(&folder.join("tastes.csv"));
    let settings = [
        "optim.lr=2e-3",
        "batch.max_tokens=1024",
        "epochs=15",
        "model.max_len=32",
    ];
    let columns = [
        "data.columns.categories=[\"cares\"]",
        "data.columns.numbers=[\"age\"]",
    ];
    let with = [&settings[..], &columns].concat();
    ok(train("consumer-preferences", "tastes.csv", "tastes", &with));
    let found = metrics(&folder.join("tastes"));
    assert_at_least(&found, "accuracy", 0.93);
    ok(train("bert/classify", "tastes.csv", "blind", &settings));
    let blind = metrics(&folder.join("blind"))["accuracy"].as_f64().unwrap();
    assert!(
        blind < 0.9,
        "half of what is liked is not for everybody: {blind}"
    );
    let all = judged(&["tastes"]);
    assert_eq!(all["models"][0]["metrics"], found);
    // What Burn says of a batch, the engine and the parts behind it say of each.
    let table = fs::read_to_string(folder.join("tastes.csv")).unwrap();
    let predict = |data: &str| -> Vec<Value> {
        ok(cloze(
            folder,
            &[
                "predict",
                "tastes",
                data,
                "--top",
                "1",
                "-o",
                "tastes.jsonl",
            ],
        ));
        let lines = fs::read_to_string(folder.join("tastes.jsonl")).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["labels"][0]["label"].clone())
            .collect()
    };
    let said = predict("tastes.csv");
    let right = said.iter().zip(table.lines().skip(1));
    let right = right
        .filter(|(said, row)| row.ends_with(said.as_str().unwrap()))
        .count();
    assert!(right >= 570, "{right}");
    // Who cares for the other thing thinks otherwise, where the two differ.
    let turned = table
        .replace(",house,", ",?,")
        .replace(",garden,", ",house,")
        .replace(",?,", ",garden,");
    fs::write(folder.join("turned.csv"), turned).unwrap();
    let turned = predict("turned.csv");
    let differs =
        |row: &str| GOOD.iter().any(|w| row.contains(w)) && BAD.iter().any(|w| row.contains(w));
    let both = table
        .lines()
        .skip(1)
        .zip(said.iter().zip(&turned))
        .filter(|(row, _)| differs(row));
    let both: Vec<bool> = both.map(|(_, (said, turned))| said != turned).collect();
    let changed = both.iter().filter(|changed| **changed).count();
    assert!(changed * 10 > both.len() * 8, "{changed} of {}", both.len());

    columns_that_are_wrong_are_told(&settings, &with);
}

/// Of the model that is there, and of others.
fn columns_that_are_wrong_are_told(settings: &[&str], with: &[&str]) {
    let folder = base();
    let text = error(
        &cloze(folder, &["predict", "tastes", "--input-text", "a"]),
        1,
    );
    assert!(
        text.contains("expected a file with the columns age, cares beside the text"),
        "{text}"
    );
    let old = format!("text,cares,age,label\n{}", "a,house,old,good\n".repeat(9));
    fs::write(folder.join("old.csv"), old).unwrap();
    let text = error(&cloze(folder, &["predict", "tastes", "old.csv"]), 1);
    assert!(
        text.contains("column \"age\": expected a number, found \"old\""),
        "{text}"
    );
    let text = error(
        &train("consumer-preferences", "old.csv", "nowhere", with),
        1,
    );
    assert!(
        text.contains("column \"age\": expected numbers, found \"old\""),
        "{text}"
    );
    let text = error(
        &train("consumer-preferences", "tastes.csv", "nowhere", settings),
        1,
    );
    assert!(
        text.contains("name them in data.columns.numbers and data.columns.categories"),
        "{text}"
    );
    let text = error(&train("bert/classify", "tastes.csv", "nowhere", with), 1);
    assert!(
        text.contains("data.columns: expected an objective with readout"),
        "{text}"
    );
    assert_goes_on("tastes");
    let config = fs::read_to_string(folder.join("tastes/config.json")).unwrap();
    for (right, wrong, expected) in [
        (
            "\"heads\": 4",
            "\"heads\": 5",
            "readout.heads: expected a divisor of the encoder's width 48",
        ),
        (
            "\"house\"",
            "\"house\", \"river\"",
            "scaffold.safetensors: tensor",
        ),
        (
            "\"layers\": 1",
            "\"lairs\": 1",
            "config.json: cloze_readout: ",
        ),
    ] {
        let changed = config.replace(right, wrong);
        assert_ne!(changed, config, "{right}");
        fs::write(folder.join("tastes/config.json"), changed).unwrap();
        let text = error(&cloze(folder, &["predict", "tastes", "tastes.csv"]), 1);
        assert!(text.contains(expected), "{wrong}: {text}");
    }
    let config = fs::read_to_string(folder.join("tastes-classify/config.json")).unwrap();
    assert!(!config.contains("cloze_readout"), "{config}");
}

/// Pairs of sentences of one mood, or of two.
fn write_pairs(path: &Path) {
    let mut numbers = Numbers(43);
    let mut table = "first\tsecond\tlabel\n".to_owned();
    for _ in 0..400 {
        let moods = [(); 2].map(|()| numbers.pick(&["+", "-"]) == "+");
        let [first, second] =
            moods.map(|good| sentence(&mut numbers, if good { &GOOD } else { &BAD }));
        let label = if moods[0] == moods[1] {
            "same"
        } else {
            "other"
        };
        writeln!(table, "{first}\t{second}\t{label}").unwrap();
    }
    fs::write(path, table).unwrap();
}

#[test]
fn pairs_are_read_word_by_word_from_where_a_search_began() {
    let folder = base();
    write_pairs(&folder.join("pairs.tsv"));
    let settings = [
        "optim.lr=5e-3",
        "batch.max_tokens=512",
        "epochs=15",
        "model.max_len=32",
        "objective.readout.width=16",
        "objective.readout.start.generations=2",
        "model.init_std=0.02",
    ];
    ok(train("plagiarism", "pairs.tsv", "read-pairs", &settings));
    let found = metrics(&folder.join("read-pairs"));
    assert_at_least(&found, "accuracy", 0.9);
    assert_eq!(judged(&["read-pairs"])["models"][0]["metrics"], found);
    // The encoder stays as it is.
    let (old, new) = (tensors("encoder"), tensors("read-pairs"));
    let name = "bert.encoder.layer.0.output.dense.weight";
    assert!(old[name] == new[name]);
    let interrupted = [
        &[
            "train",
            "plagiarism",
            "--model",
            "encoder",
            "--data",
            "pairs.tsv",
        ][..],
        &["-o", "read-pairs-parts", "--max-steps", "3"],
    ]
    .concat();
    let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
    ok(cloze(
        folder,
        &interrupted.into_iter().chain(settings).collect::<Vec<_>>(),
    ));
    ok(cloze(folder, &["train", "--resume", "read-pairs-parts"]));
    for file in ["model.safetensors", "scaffold.safetensors", "metrics.json"] {
        let [whole, parts] = ["read-pairs", "read-pairs-parts"]
            .map(|name| fs::read(folder.join(name).join(file)).unwrap());
        assert!(whole == parts, "{file} differs");
    }
    ok(cloze(
        folder,
        &[
            "predict",
            "read-pairs",
            "pairs.tsv",
            "--text",
            "first",
            "--pair",
            "second",
            "--top",
            "1",
            "-o",
            "read-pairs.jsonl",
        ],
    ));
    let lines = fs::read_to_string(folder.join("read-pairs.jsonl")).unwrap();
    let table = fs::read_to_string(folder.join("pairs.tsv")).unwrap();
    let right = lines
        .lines()
        .zip(table.lines().skip(1))
        .filter(|(line, row)| {
            let line: Value = serde_json::from_str(line).unwrap();
            row.ends_with(line["labels"][0]["label"].as_str().unwrap())
        });
    let right = right.count();
    assert!(right >= 380, "{right}");
    let few = ["objective.readout.start.population=3"];
    let text = error(&train("plagiarism", "pairs.tsv", "nowhere", &few), 1);
    assert!(
        text.contains("population: expected at least 4, found 3"),
        "{text}"
    );
    let single = ["objective.readout={ kind = \"recurrent\", width = 8 }"];
    let text = error(&train("bert/classify", "labels.tsv", "nowhere", &single), 1);
    assert!(
        text.contains("name the second in data.columns.second"),
        "{text}"
    );
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
    assert!(
        said.contains("classes are unbalanced: the rarest, \"bad\", has "),
        "{said}"
    );
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
fn tokens_in_a_file_teach_the_same_as_tokens_in_memory() {
    let folder = base();
    ok(cloze(
        folder,
        &new("stored", &["--set", "epochs=3", "--stored"]),
    ));
    ok(cloze(folder, &new("held", &["--set", "epochs=3"])));
    assert!(tensors("stored") == tensors("held"), "the weights differ");
    let parts = ["--set", "epochs=3", "--stored", "--max-steps", "4"];
    ok(cloze(folder, &new("stored-parts", &parts)));
    ok(cloze(folder, &["train", "--resume", "stored-parts"]));
    assert!(
        tensors("stored-parts") == tensors("held"),
        "the weights differ"
    );
    assert_eq!(judged(&["stored"])["models"], {
        let mut models = judged(&["held"])["models"].take();
        models[0]["model"] = "stored".into();
        models
    });
    let text = error(
        &train(
            "bert/classify",
            "labels.tsv",
            "nowhere",
            &["data.stored=true"],
        ),
        1,
    );
    assert!(
        text.contains("data.stored: expected an objective of masked tokens"),
        "{text}"
    );
}

/// A cross-validation of labels whose writers stay together.
fn folds(out: &str, more: &[&str]) -> Output {
    let settings = [
        "train",
        "bert/classify",
        "--model",
        "encoder",
        "--data",
        "grouped.tsv",
        "--folds",
        "3",
        "--group",
        "writer",
        "--set",
        "optim.lr=2e-3",
        "--set",
        "batch.max_tokens=512",
        "--set",
        "epochs=2",
        "-o",
        out,
    ];
    cloze(base(), &[&settings, more].concat())
}

fn saved(name: &str) -> Value {
    let text = fs::read_to_string(base().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_text_is_judged_once_by_a_model_that_has_not_seen_it() {
    let folder = base();
    let labels = fs::read_to_string(folder.join("labels.tsv")).unwrap();
    let said = ok(folds("folds", &["--set", "epochs=5"]));
    assert!(
        said.contains("out-of-fold part, 400 texts") && said.contains("over 3 folds"),
        "{said}"
    );
    let found = saved("folds/metrics.json");
    let accuracy = &found["folds"]["accuracy"];
    let values: Vec<f64> = (0..3)
        .map(|at| accuracy["folds"][at].as_f64().unwrap())
        .collect();
    let mean = values.iter().sum::<f64>() / 3.0;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    assert!((accuracy["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((accuracy["deviation"].as_f64().unwrap() - (squares / 2.0).sqrt()).abs() < 1e-12);
    assert_at_least(&found["out-of-fold"], "accuracy", 0.9);

    let (mut rows, mut right) = (Vec::new(), 0);
    let mut fold_of = BTreeMap::new();
    for fold in 1..=3 {
        let folder = folder.join(format!("folds/fold-{fold}"));
        let own = fs::read_to_string(folder.join("predictions.jsonl")).unwrap();
        let test = saved(&format!("folds/fold-{fold}/metrics.json"))["test"].take();
        assert_eq!(test["accuracy"], accuracy["folds"][fold - 1]);
        for line in own.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let row = line["row"].as_u64().unwrap() as usize;
            let text = labels.lines().nth(row + 1).unwrap();
            assert!(
                text.ends_with(line["label"].as_str().unwrap()),
                "{line} {text}"
            );
            right += usize::from(line["label"] == line["prediction"]);
            assert_eq!(
                *fold_of.entry(row * 7 % 23).or_insert(fold),
                fold,
                "a group is in one fold"
            );
            rows.push(row);
        }
    }
    rows.sort_unstable();
    assert_eq!(rows, (0..400).collect::<Vec<_>>());
    let together = found["out-of-fold"]["accuracy"].as_f64().unwrap();
    assert!((together - right as f64 / 400.0).abs() < 1e-12);
    // A fold's model is judged again by what it has not seen.
    let again = judged(&["folds/fold-2"]);
    assert_eq!(
        again["models"][0]["metrics"]["accuracy"],
        accuracy["folds"][1]
    );
    assert_eq!(again["part"], "test");
}

#[test]
fn a_cross_validation_that_was_interrupted_goes_on_in_its_fold() {
    let folder = base();
    ok(folds("folds-whole", &[]));
    let found = saved("folds-whole/metrics.json");
    ok(folds("folds-parts", &["--max-steps", "5"]));
    assert!(!folder.join("folds-parts/fold-2").exists());
    let resume = || ok(cloze(folder, &["train", "--resume", "folds-parts"]));
    resume();
    assert_eq!(saved("folds-parts/metrics.json")["folds"], found["folds"]);
    let weights = folder.join("folds-parts/fold-1/model.safetensors");
    let changed = || fs::metadata(&weights).unwrap().modified().unwrap();
    let before = changed();
    fs::remove_dir_all(folder.join("folds-parts/fold-3")).unwrap();
    resume();
    assert_eq!(changed(), before, "what is done is not done again");
    assert_eq!(saved("folds-parts/metrics.json")["folds"], found["folds"]);
    assert!(
        tensors("folds-whole/fold-3") == tensors("folds-parts/fold-3"),
        "the weights differ"
    );
    let text = error(&cloze(folder, &["eval", "folds-parts"]), 1);
    let expected = "folds-parts: expected one model, found several of a cross-validation";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn folds_that_cannot_be_are_told() {
    for (more, expected) in [
        (
            &["--set", "data.folds.count=1"][..],
            "data.folds.count: expected at least 2 parts, found 1",
        ),
        (
            &["--set", "data.folds.count=30"],
            "expected at least as many groups as data.folds.count, 30, found 23",
        ),
        (
            &["--set", "data.folds.group=author"],
            "no column \"author\"",
        ),
        (
            &["--set", "data.validation=[\"labels.tsv\"]"],
            "data.validation: expected none beside data.folds, which parts data.files",
        ),
    ] {
        let text = error(&folds("folds-nowhere", more), 1);
        assert!(text.contains(expected), "{text}\ndoes not say\n{expected}");
    }
}

#[test]
fn corpora_are_mixed_reported_on_and_resumed() {
    let folder = base();
    let corpus = fs::read_to_string(folder.join("corpus.txt")).unwrap();
    let (lines, mut small) = (corpus.lines().take(60), String::from("body\n"));
    lines.for_each(|line| writeln!(small, "{line} {line}").unwrap());
    fs::write(folder.join("small.csv"), small).unwrap();
    let arguments = |out: &'static str, more: &[&'static str]| {
        let mut arguments = new(
            out,
            &["--set", "epochs=2", "--set", "data.columns.text=body"],
        );
        let at = arguments.iter().position(|one| *one == "--data").unwrap();
        arguments.splice(
            at..at + 2,
            [
                "--corpus",
                "large=corpus.txt",
                "--corpus",
                "small=small.csv",
            ],
        );
        arguments.extend(more);
        arguments
    };
    let run = |out, more: &[&'static str]| {
        let output = cloze(folder, &arguments(out, more));
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        (ok(output), said)
    };
    let (table, said) = run("mixed", &["--mix", "balanced"]);
    assert!(
        said.contains(
            "small: 57 training texts, 50.0 % of an epoch, each 6.67 times; 3 for validation"
        ),
        "{said}"
    );
    assert!(
        said.contains("  large ") && said.contains("  small "),
        "{said}"
    );
    assert!(
        table.contains("corpus") && table.contains("unigram"),
        "{table}"
    );
    let found = metrics(&folder.join("mixed"));
    assert!(found["corpora"]["small"]["perplexity"].is_f64(), "{found}");
    run("mixed-parts", &["--mix", "balanced", "--max-steps", "7"]);
    ok(cloze(folder, &["train", "--resume", "mixed-parts"]));
    assert!(
        tensors("mixed") == tensors("mixed-parts"),
        "the weights differ"
    );
    assert_eq!(found, metrics(&folder.join("mixed-parts")));

    for (more, expected) in [
        (
            &["--corpus", "small.csv"][..],
            "--corpus small.csv: expected a name and a file, such as medical=notes.txt, found no name",
        ),
        (
            &["--mix", "even"],
            "--mix even: expected natural, balanced or a power of the sizes, such as 0.5",
        ),
        (
            &["--mix", "2"],
            "data.mix.exponent: expected a power from 0, all corpora alike, to 1, by size; found 2",
        ),
        (
            &["--corpus", "third=small.csv:2"],
            "data.corpus.0.weight: expected a weight, as of every corpus where data.mix is given, found none",
        ),
        (
            &["--set", "data.files=[\"corpus.txt\"]"],
            "data.files: expected none beside data.corpus; give them a name, as a corpus of their own",
        ),
    ] {
        let text = error(&cloze(folder, &arguments("nowhere", more)), 1);
        assert!(text.contains(expected), "{text}\ndoes not say\n{expected}");
    }
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
fn settings_of_pretraining_that_do_not_fit_are_told_in_one_line() {
    let folder = base();
    for (arguments, expected) in [
        (
            &[
                "bert/pretrain",
                "--tokenizer",
                "tokenizer",
                "--data",
                "corpus.txt",
                "--validation",
                "corpus.txt",
            ][..],
            "expected at least two, with empty lines between",
        ),
        (
            &[
                "bert/pretrain",
                "--tokenizer",
                "tokenizer",
                "--data",
                documents(),
                "--set",
                "model.config.model_type=roberta",
            ],
            "found RobertaForPreTraining",
        ),
        (
            &["bert/pretrain", "--set", "data.documents=lines"],
            "expected \"paragraphs\", since pairs are made of lines",
        ),
        (
            &[
                "mp3",
                "--tokenizer",
                "tokenizer",
                "--data",
                "corpus.txt",
                "--set",
                "model.config.model_type=modernbert",
            ],
            "expected one of the families that have such a class",
        ),
        (
            &["electra", "--set", "objective.generator_share=2.0"],
            "expected a share above 0, up to 1, found 2",
        ),
        (
            &[
                "electra",
                "--tokenizer",
                "tokenizer",
                "--data",
                "corpus.txt",
                "--set",
                "model.config.model_type=bert",
            ],
            "bert has no such setting",
        ),
        (
            &["bpdec", "--set", "objective.decoder.visible=[0.5, 0.2]"],
            "falling nowhere",
        ),
        (
            &[
                "bert",
                "--set",
                "batch_warmup={ from_tokens = 9, share = 0.5 }",
            ],
            "expected from model.max_len 128 to batch.max_tokens 4096, found 9",
        ),
        (
            &[
                "bert",
                "--tokenizer",
                "tokenizer",
                "--data",
                "corpus.txt",
                "--set",
                "precision=bf16",
            ],
            "expected \"f32\", since there is no bf16 where this trains",
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
