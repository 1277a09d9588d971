//! A recipe with another mixer: `mixer.kind` is all that changes, in training, resumption, evaluation and use.

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
        heads.contains("model.stack.mixer.heads: expected a divisor of model.width 16, found 5")
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
