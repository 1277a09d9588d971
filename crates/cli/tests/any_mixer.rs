//! A recipe with another mixer: `mixer.kind` is all that changes, in training, resumption, evaluation and use, of items and
//! of texts.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod program;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use program::{cloze, error, ok};
use tempfile::TempDir;

/// Each kind as it would stand in a recipe.
const MIXERS: [&str; 22] = [
    r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.2, window = 3, global = 1, gate = { open = 0.5 } }"#,
    r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.2, blocks = { size = 2, near = 1, global = 1, random = 1, seed = 1 }, position = { kind = "buckets", buckets = 8, max_distance = 16 } }"#,
    r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.0, position = { kind = "disentangled", span = 8 } }"#,
    r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.0, tied = true, score = { kind = "hard" } }"#,
    r#"{ kind = "by-layer", pattern = [{ kind = "pool", radius = 1, causal = false }, { kind = "fourier" }] }"#,
    r#"{ kind = "delta-rule", heads = 2, kernel = 3, chunk = 4, causal = false }"#,
    r#"{ kind = "fourier" }"#,
    r#"{ kind = "gated-convolution", order = 3, kernel = 5, scale = 0.333, causal = false }"#,
    r#"{ kind = "granular-pool", heads = 2, segment = 4, radius = 1 }"#,
    r#"{ kind = "hashed-attention", heads = 2, bits = 8, anchors = 5 }"#,
    r#"{ kind = "identity" }"#,
    r#"{ kind = "low-rank-recurrent", hidden = 12, heads = 3 }"#,
    r#"{ kind = "pool", radius = 2, causal = false }"#,
    r#"{ kind = "quasiseparable", head_width = 16, state = 8, expand = 2, kernel = 7, chunk = 4 }"#,
    r#"{ kind = "random", seed = 1, causal = false }"#,
    r#"{ kind = "routed-attention", heads = 2, block = 4, keep = 2, kernel = 5 }"#,
    r#"{ kind = "routed-attention", heads = 2, block = 4, keep = 2, kernel = 3, grid = { columns = 5, block_columns = 2 } }"#,
    r#"{ kind = "selective-scan", state = 4, expand = 2, rank = 2, kernel = 4, direction = "both" }"#,
    r#"{ kind = "subspace-attention", heads = 2, causal = false, dropout = 0.1 }"#,
    r#"{ kind = "summary-attention", heads = 2, spans = { kind = "doubling" }, causal = false }"#,
    r#"{ kind = "summary-attention", heads = 2, spans = { kind = "axial", columns = 3 }, causal = false }"#,
    r#"{ kind = "token-mlp", width = 16 }"#,
];

/// A shop where each item is followed by the next one of its aisle.
fn shop() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut csv = String::from("customer,sku,at\n");
    for user in 0..40 {
        for step in 0..10 {
            writeln!(csv, "c{user},sku-{},{step}", (user * 5 + step) % 20).unwrap();
        }
    }
    fs::write(folder.path().join("orders.csv"), csv).unwrap();
    folder
}

fn train<'a>(mixer: &'a str, recipe: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", recipe, "--data", "orders.csv"];
    arguments.extend(["--user", "customer", "--item", "sku", "--time", "at"]);
    for set in [
        "model.max_len=10",
        "batch.max_tokens=120",
        "model.width=16",
        "epochs=2",
        "validate.every_epochs=1",
        mixer,
    ] {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    arguments
}

fn weights(folder: &Path, model: &str) -> Vec<u8> {
    fs::read(folder.join(model).join("model.safetensors")).unwrap()
}

#[test]
fn any_mixer_is_trained_resumed_evaluated_and_used() {
    let shop = shop();
    let run = |arguments: &[&str]| ok(cloze(shop.path(), arguments));
    for (index, mixer) in MIXERS.iter().enumerate() {
        let set = format!("model.stack.mixer={mixer}");
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{name}-{index}"));
        run(&train(&set, "bert4rec", &["-o", &whole]));
        run(&train(
            &set,
            "bert4rec",
            &["-o", &parts, "--max-steps", "2"],
        ));
        run(&["train", "--resume", &parts]);
        assert_eq!(
            weights(shop.path(), &whole),
            weights(shop.path(), &parts),
            "{mixer}"
        );
        let evaluated = run(&["eval", &whole, "--json"]);
        let saved = fs::read_to_string(shop.path().join(&whole).join("metrics.json")).unwrap();
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&evaluated), json(&saved), "{mixer}");
        let history = ["predict", &whole, "--items", "sku-3,sku-4", "--top", "3"];
        let found = run(&history);
        assert!(found.matches("sku-").count() >= 3, "{mixer}: {found}");
    }
}

#[test]
fn what_looks_back_only_foretells_the_next_item() {
    let shop = shop();
    for (index, mixer) in [
        r#"model.stack.mixer={ kind = "pool", radius = 3, causal = true }"#,
        r#"model.stack.mixer={ kind = "delta-rule", heads = 2, kernel = 3, chunk = 4, causal = true }"#,
        r#"model.stack.mixer={ kind = "selective-scan", state = 4, expand = 2, rank = 2, kernel = 4, direction = "forward" }"#,
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("next-{index}");
        ok(cloze(shop.path(), &train(mixer, "sasrec", &["-o", &out])));
    }
    let mixer =
        r#"model.stack.mixer={ kind = "granular-pool", heads = 2, segment = 4, radius = 1 }"#;
    let told = error(
        &cloze(shop.path(), &train(mixer, "sasrec", &["-o", "no"])),
        1,
    );
    assert!(told.contains("the next item is in plain sight"), "{told}");
}

#[test]
fn mistakes_in_a_mixer_are_told_with_their_place() {
    let shop = shop();
    let told = |mixer: &str| {
        let set = format!("model.stack.mixer={mixer}");
        error(
            &cloze(shop.path(), &train(&set, "bert4rec", &["-o", "no"])),
            1,
        )
    };
    let heads = told(r#"{ kind = "granular-pool", heads = 5, segment = 0, radius = 1 }"#);
    assert!(
        heads.contains("model.stack.mixer.heads: expected a divisor of the width 16, found 5")
            && heads.contains("model.stack.mixer.segment: expected at least 1, found 0"),
        "{heads}"
    );
    let position = told(
        r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.0, window = 2, blocks = { size = 0, near = 1, global = 1, random = 1, seed = 1 }, position = { kind = "buckets", buckets = 3, max_distance = 2 } }"#,
    );
    for fault in [
        "blocks.size: expected at least 1, found 0",
        "blocks: expected no window beside them",
        "position.buckets: expected an even number from 4, found 3",
        "position.max_distance: expected at least as many as buckets, 3, found 2",
    ] {
        let fault = format!("model.stack.mixer.{fault}");
        assert!(position.contains(&fault), "{fault}: {position}");
    }
    let grid = told(
        r#"{ kind = "routed-attention", heads = 2, block = 4, keep = 2, kernel = 3, grid = { columns = 5, block_columns = 3 } }"#,
    );
    assert!(
        grid.contains("grid.block_columns: expected a divisor of the block's tokens, 4"),
        "{grid}"
    );
    let nested = told(
        r#"{ kind = "by-layer", pattern = [{ kind = "gated-convolution", order = 9, kernel = 4, scale = 1.0, causal = false }] }"#,
    );
    assert!(
        nested.contains("model.stack.mixer.pattern.0.order")
            && nested.contains("model.stack.mixer.pattern.0.kernel: expected an odd number"),
        "{nested}"
    );
    let unknown = told(r#"{ kind = "granular-pools", heads = 4 }"#);
    assert!(
        unknown.contains("did you mean `granular-pool`?"),
        "{unknown}"
    );
}

/// Sentences of which the last word follows from the first, a file of them with labels, and a tokenizer.
fn texts() -> TempDir {
    let folder = TempDir::new().unwrap();
    let (mut corpus, mut labels) = (String::new(), String::from("text\tlabel\n"));
    for at in 0..60 {
        let (who, mood, end) = [("anna", "good", "home"), ("boris", "bad", "away")][at % 2];
        let often = "again and ".repeat(at % 7);
        writeln!(corpus, "{who} is {mood} {often}goes {end}").unwrap();
        writeln!(labels, "{who} is {mood} {often}goes {end}\t{mood}").unwrap();
    }
    fs::write(folder.path().join("corpus.txt"), corpus).unwrap();
    fs::write(folder.path().join("labels.tsv"), labels).unwrap();
    let tokenizer =
        "tokenizer train --data corpus.txt --model wordpiece --vocab-size 60 -o tokenizer";
    let arguments: Vec<&str> = tokenizer.split(' ').collect();
    ok(cloze(folder.path(), &arguments));
    folder
}

/// Arguments that train a new encoder whose settings, but for its size, are `components`.
fn encoder(components: &str, out: &str, more: &[&str]) -> Vec<String> {
    let config = format!(
        r#"model.config={{ model_type = "cloze-mixer", hidden_size = 16, num_hidden_layers = 2, max_position_embeddings = 32, {components} }}"#
    );
    let recipe = [
        "train",
        "bert",
        "--tokenizer",
        "tokenizer",
        "--data",
        "corpus.txt",
    ];
    let sets = [
        "model.max_len=24",
        "epochs=1",
        "batch.max_tokens=300",
        &config,
    ];
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let all = recipe.into_iter().chain(sets).chain(["-o", out]);
    all.chain(more.iter().copied()).map(str::to_owned).collect()
}

fn run_in(folder: &TempDir, arguments: &[String]) -> String {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ok(cloze(folder.path(), &arguments))
}

/// What a trained folder scores, as it was when it was trained and as it is when it is opened.
fn scores(folder: &TempDir, model: &str) -> [serde_json::Value; 2] {
    let evaluated = ok(cloze(folder.path(), &["eval", model, "--json"]));
    let saved = fs::read_to_string(folder.path().join(model).join("metrics.json")).unwrap();
    let [evaluated, saved] =
        [evaluated, saved].map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
    [
        saved["validation"].clone(),
        evaluated["models"][0]["metrics"].clone(),
    ]
}

#[test]
fn any_mixer_fills_blanks_embeds_and_classifies_texts() {
    let folder = texts();
    let run = |arguments: &[&str]| ok(cloze(folder.path(), arguments));
    for (index, mixer) in MIXERS.iter().enumerate() {
        let components = format!("intermediate_size = 24, mixer = {mixer}");
        let model = format!("encoder-{index}");
        run_in(&folder, &encoder(&components, &model, &[]));
        let [saved, opened] = scores(&folder, &model);
        assert!(saved["perplexity"].is_number(), "{mixer}: {saved}");
        assert_eq!(saved, opened, "{mixer}");
        let filled = run(&["predict", &model, "--input-text", "anna is [MASK]"]);
        assert!(filled.contains("anna is"), "{mixer}: {filled}");

        // A text's vector has the same bits beside others, of other lengths, and alone.
        let one = "boris is bad again and again and goes away";
        let all = format!("anna\n{one}\n{}\n", "anna goes home again and ".repeat(3));
        fs::write(folder.path().join("all.txt"), all).unwrap();
        fs::write(folder.path().join("one.txt"), one).unwrap();
        let [all, one] = ["all.txt", "one.txt"].map(|texts| run(&["embed", &model, texts]));
        let embedding = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["embedding"].clone()
        };
        let alone = embedding(one.lines().next().unwrap());
        assert_eq!(alone.as_array().unwrap().len(), 16, "{mixer}");
        assert_eq!(embedding(all.lines().nth(1).unwrap()), alone, "{mixer}");

        let tuned = format!("classifier-{index}");
        let sets = "--set epochs=1 --set batch.max_tokens=300 --set model.max_len=24";
        let mut arguments = vec!["train", "bert/classify", "--model", &model, "--data"];
        arguments.extend(["labels.tsv", "-o", &tuned]);
        arguments.extend(sets.split(' '));
        run(&arguments);
        let [saved, opened] = scores(&folder, &tuned);
        assert_eq!(saved, opened, "{mixer}");
        let label = run(&["predict", &tuned, "--input-text", "anna is good"]);
        assert!(
            label.contains("good") || label.contains("bad"),
            "{mixer}: {label}"
        );
    }
    let patterned = MIXERS.iter().position(|mixer| mixer.contains("by-layer"));
    let patterned = format!("encoder-{}", patterned.expect("one of each layer"));
    let told = run(&["inspect", &patterned]);
    assert!(
        told.contains("pool, fourier; a table of 32 positions"),
        "{told}"
    );
    assert!(told.contains("runs on       Burn on CPU"), "{told}");
    let speed = run(&["bench", "encoder-1", "--seconds", "0"]);
    assert!(speed.contains("not counted"), "{speed}");
    let refused = cloze(
        folder.path(),
        &["embed", "encoder-1", "one.txt", "--weights", "int8"],
    );
    let told = error(&refused, 1);
    assert!(told.contains("expected weights as f32"), "{told}");
}

#[test]
fn texts_are_learned_the_same_after_an_interruption_with_other_components_too() {
    let folder = texts();
    for (index, components) in [
        r#"intermediate_size = 24, mixer = { kind = "granular-pool", heads = 2, segment = 4, radius = 1 }"#,
        r#"block = { kind = "sandwich", dropout = 0.1, layer_scale = 0.1 }, norm = { kind = "dynamic-tanh", slope = 0.5 },
           ffn = { kind = "polynomial", width = 24, of = "norm", order = 3 }, position_embedding_type = "none",
           mixer = { kind = "selective-scan", state = 4, expand = 2, rank = 2, kernel = 4, direction = "both" }"#,
        r#"block = { kind = "pre-norm", dropout = 0.0 }, norm = { kind = "rms", eps = 1e-6 }, ffn = { kind = "absent" },
           mixer = { kind = "attention", heads = 2, causal = false, dropout = 0.1, position = { kind = "rotary", base = 100.0 } }"#,
    ]
    .into_iter()
    .enumerate()
    {
        let components = components.replace('\n', " ");
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{name}-{index}"));
        run_in(&folder, &encoder(&components, &whole, &[]));
        // Layers computed twice give the same bits too.
        let again = ["--max-steps", "2", "--set", "gradient_checkpointing=true"];
        run_in(&folder, &encoder(&components, &parts, &again));
        ok(cloze(folder.path(), &["train", "--resume", &parts]));
        let [saved, opened] = scores(&folder, &whole);
        assert_eq!(saved, opened, "{components}");
        assert_eq!(
            weights(folder.path(), &whole),
            weights(folder.path(), &parts),
            "{components}"
        );
    }
}

#[test]
fn mistakes_in_an_encoder_of_texts_are_told_with_their_place() {
    let folder = texts();
    let told = |components: &str| {
        let arguments = encoder(components, "no", &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        error(&cloze(folder.path(), &arguments), 1)
    };
    let heads = told(
        r#"intermediate_size = 24, norm = { kind = "rms", eps = 0.0 },
           mixer = { kind = "granular-pool", heads = 5, segment = 0, radius = 1 }"#
            .replace('\n', " ")
            .as_str(),
    );
    for expected in [
        "model.config.mixer.heads: expected a divisor of the width 16, found 5",
        "model.config.mixer.segment: expected at least 1, found 0",
        "model.config.norm.eps: expected a positive number, found 0",
    ] {
        assert!(heads.contains(expected), "{expected} is not in {heads}");
    }
    let unknown = told(r#"intermediate_size = 24, mixer = { kind = "granular-pools" }"#);
    assert!(
        unknown.contains("model.config.mixer: unknown variant")
            && unknown.contains("did you mean `granular-pool`?"),
        "{unknown}"
    );
}
