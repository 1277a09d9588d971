//! `cloze analyse`: models of texts and of items, any mixer, tables, JSON and pages.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod program;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use program::{cloze, error, ok};
use serde_json::Value;
use tempfile::TempDir;

/// A small encoder of texts with a head, from another room's tests.
fn pipeline(name: &str) -> String {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/pipelines");
    home.join(name).display().to_string()
}

fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&ok(cloze(folder.path(), &arguments))).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

/// A page is whole, and asks for nothing from elsewhere.
fn page(folder: &TempDir, name: &str) -> String {
    let html = fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(html.ends_with("</html>\n") && html.contains("prefers-color-scheme: dark"));
    for outside in ["http:", "https:", "src=", "href=", "<script", "url(", "NaN"] {
        assert!(!html.contains(outside), "{outside}");
    }
    html
}

/// A shop where each item is followed by the next one of its aisle, and a model of it with this mixer.
fn shop(mixer: &str) -> TempDir {
    shop_of("bert4rec", mixer)
}

fn shop_of(recipe: &str, mixer: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut csv = String::from("user,item,time\n");
    for user in 0..40 {
        for step in 0..8 {
            writeln!(csv, "c{user},sku-{},{step}", (user * 5 + step) % 20).unwrap();
        }
    }
    fs::write(folder.path().join("orders.csv"), csv).unwrap();
    let mixer = format!("model.stack.mixer={mixer}");
    let mut arguments = vec!["train", recipe, "--data", "orders.csv", "-o", "model"];
    for set in [
        "model.max_len=10",
        "batch.max_tokens=120",
        "model.width=16",
        "epochs=1",
        &mixer,
    ] {
        arguments.extend(["--set", set]);
    }
    ok(cloze(folder.path(), &arguments));
    folder
}

#[test]
fn shares_of_attention_sum_to_one_and_are_drawn() {
    let folder = TempDir::new().unwrap();
    let model = pipeline("masks");
    let text = "the [MASK] of";
    let found = json(
        &folder,
        &[
            "analyse",
            "mixing",
            &model,
            "--text",
            text,
            "--report",
            "page.html",
        ],
    );
    let mixing = &found["sequences"][0]["mixing"];
    let tokens = mixing["tokens"].as_array().unwrap().len();
    assert!(
        mixing["tokens"]
            .as_array()
            .unwrap()
            .contains(&"[MASK]".into())
    );
    let layers = mixing["layers"].as_array().unwrap();
    assert!(!layers.is_empty());
    let mut maps = 0;
    for layer in layers {
        assert_eq!(
            (&layer["mixer"], &layer["how"]),
            (&"attention".into(), &"shares".into())
        );
        for head in layer["heads"].as_array().unwrap() {
            maps += 1;
            let rows = head["rows"].as_array().unwrap();
            assert_eq!(rows.len(), tokens);
            for row in rows {
                assert!((numbers(row).iter().sum::<f64>() - 1.0).abs() < 1e-5);
            }
            let breadth = head["summary"]["breadth"].as_f64().unwrap();
            assert!((1.0..=tokens as f64 + 1e-6).contains(&breadth));
        }
    }
    // A mean of each layer's, where it has several.
    let html = page(&folder, "page.html");
    assert_eq!(html.matches("<svg").count(), maps + layers.len());
    let influence = json(
        &folder,
        &["analyse", "mixing", &model, "--text", text, "--influence"],
    );
    let layer = &influence["sequences"][0]["mixing"]["layers"][0];
    assert_eq!(layer["how"], "influence");
    assert_eq!(layer["heads"].as_array().unwrap().len(), 1);
}

#[test]
fn mixers_without_shares_show_influence_of_items_too() {
    let shop = shop(
        r#"{ kind = "by-layer", pattern = [{ kind = "pool", radius = 1, causal = false }, { kind = "fourier" }] }"#,
    );
    let items = "sku-1,sku-2,sku-3,sku-4";
    let found = json(
        &shop,
        &[
            "analyse",
            "mixing",
            "model",
            "--items",
            items,
            "--report",
            "page.html",
        ],
    );
    let mixing = &found["sequences"][0]["mixing"];
    assert_eq!(mixing["tokens"][4], "(blank)");
    let layer = &mixing["layers"][0];
    assert_eq!(
        (&layer["mixer"], &layer["how"]),
        (&"pool".into(), &"influence".into())
    );
    // The mean of the neighbours less the token itself.
    let rows = layer["heads"][0]["rows"].as_array().unwrap();
    let third = [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0 / 3.0, 0.0];
    for (found, expected) in numbers(&rows[2]).into_iter().zip(third) {
        assert!((found - expected).abs() < 1e-5, "{rows:?}");
    }
    assert_eq!(mixing["layers"][1]["mixer"], "fourier");
    page(&shop, "page.html");

    let lens = json(
        &shop,
        &[
            "analyse",
            "lens",
            "model",
            "--items",
            items,
            "--report",
            "lens.html",
        ],
    );
    assert_eq!(lens["sequences"][0]["lens"]["places"][0]["at"], 4);
    page(&shop, "lens.html");
    let wrong = error(
        &cloze(
            shop.path(),
            &["analyse", "mixing", "model", "--items", "sku-1,sku-99"],
        ),
        1,
    );
    assert!(wrong.contains("does not know item \"sku-99\""), "{wrong}");
    let wrong = error(
        &cloze(
            shop.path(),
            &["analyse", "mixing", "model", "--text", "sku-1"],
        ),
        1,
    );
    assert!(wrong.contains("--items"), "{wrong}");
    let wrong = error(&cloze(shop.path(), &["analyse", "mixing", "model"]), 1);
    assert!(wrong.contains("--items"), "{wrong}");
    let wrong = error(
        &cloze(
            shop.path(),
            &["analyse", "probe", "model", "--data", "orders.csv"],
        ),
        1,
    );
    assert!(wrong.contains("expected a model of texts"), "{wrong}");
}

#[test]
fn a_lens_ends_where_the_model_does() {
    let folder = TempDir::new().unwrap();
    let model = pipeline("masks");
    let text = "the [MASK] of";
    let found = json(
        &folder,
        &[
            "analyse",
            "lens",
            &model,
            "--text",
            text,
            "--report",
            "page.html",
        ],
    );
    let place = &found["sequences"][0]["lens"]["places"][0];
    let last = place["stream"].as_array().unwrap().last().unwrap();
    assert_eq!(last["kl"], 0.0);
    assert_eq!(
        (&last["rank"], &last["top"][0][0]),
        (&1.into(), &place["word"])
    );
    // What `cloze predict` says, by the other engine.
    let out = folder.path().join("filled.jsonl").display().to_string();
    let predict = [
        "predict",
        &model,
        "--input-text",
        text,
        "--top",
        "1",
        "-o",
        &out,
    ];
    ok(cloze(folder.path(), &predict));
    let filled: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    let filled = filled.to_string();
    assert!(filled.contains(place["word"].as_str().unwrap()), "{filled}");
    let kinds = place["added"].as_array().unwrap().len();
    let layers = found["depth"]["stream"].as_array().unwrap().len() / 2;
    assert_eq!(kinds, 2 * layers);
    page(&folder, "page.html");
    let named = json(
        &folder,
        &["analyse", "lens", &model, "--text", text, "--word", "the"],
    );
    assert_eq!(named["sequences"][0]["lens"]["places"][0]["word"], "the");
    let wrong = error(
        &cloze(
            folder.path(),
            &["analyse", "lens", &pipeline("labels"), "--text", "the"],
        ),
        1,
    );
    assert!(
        wrong.contains("expected a model that fills masks"),
        "{wrong}"
    );
    let long = "the ".repeat(80);
    let wrong = error(
        &cloze(
            folder.path(),
            &["analyse", "mixing", &model, "--text", &long],
        ),
        1,
    );
    assert!(
        wrong.contains("tokens to look at") && wrong.contains("--max-tokens"),
        "{wrong}"
    );
}

#[test]
fn a_walk_leads_through_every_part_and_says_who_moved_it() {
    let folder = TempDir::new().unwrap();
    let model = pipeline("masks");
    let walk = [
        "analyse",
        "walk",
        &model,
        "--text",
        "the [MASK] of",
        "--report",
        "page.html",
    ];
    let found = json(&folder, &walk);
    let place = &found["sequences"][0]["walk"]["places"][0];
    let states = place["states"].as_array().unwrap();
    assert!(states[0]["step"].is_null() && states[1]["turn"].is_null());
    for state in &states[2..] {
        assert!(state["step"].as_f64().unwrap() > 0.0);
        assert!(state["turn"].as_f64().unwrap().abs() <= 1.0 + 1e-9);
    }
    assert!((states[0]["start"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!((states.last().unwrap()["end"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let straightness = place["straightness"].as_f64().unwrap();
    assert!(straightness > 0.0 && straightness < 1.0);
    let moved = place["moved"].as_array().unwrap();
    assert_eq!(2 * moved.len() + 1, states.len());
    for layer in moved {
        let shares = layer["by"].as_array().unwrap();
        let shares: Vec<f64> = shares.iter().map(|by| by[1].as_f64().unwrap()).collect();
        assert!(shares.is_sorted_by(|a, b| a >= b) && shares[0] > 0.0);
        assert!(shares.iter().sum::<f64>() <= 1.0 + 1e-9);
    }
    let html = page(&folder, "page.html");
    assert!(html.contains("class=\"plane\"") && html.contains("Who moved whom"));
}

#[test]
fn other_shares_cost_something_and_none_where_there_are_none() {
    let folder = TempDir::new().unwrap();
    let model = pipeline("masks");
    let text = "the of and in to a the of and in to a";
    let pattern = |of: &[&str]| {
        let report = ["--report", "page.html"];
        json(&folder, &[&["analyse", "pattern"], of, &report].concat())["pattern"].clone()
    };
    let hidden = ["--hidden", "0.5"];
    let found = pattern(&[&[&*model, "--text", text], &hidden[..]].concat());
    assert!(found["words"].as_u64().unwrap() > 2);
    assert!(found["loss"]["mean"].as_f64().unwrap() > 0.0);
    let layers = found["layers"].as_array().unwrap();
    assert!(layers[0]["layer"].is_null() && layers[1]["layer"] == 0);
    for layer in layers {
        for cost in ["by_place", "alike"] {
            assert!(layer[cost]["mean"].as_f64().unwrap().abs() > 0.0, "{layer}");
        }
    }
    page(&folder, "page.html");
    let wrong = cloze(
        folder.path(),
        &[
            "analyse", "pattern", &model, "--text", text, "--hidden", "1.5",
        ],
    );
    assert!(error(&wrong, 1).contains("--hidden"));

    let attention = r#"{ kind = "attention", heads = 2, causal = false, dropout = 0.0 }"#;
    let items = ["--items", "sku-1,sku-2,sku-3,sku-4"];
    for (recipe, mixer, hidden) in [
        ("bert4rec", attention.to_owned(), 1),
        ("sasrec", attention.replace("false", "true"), 3),
    ] {
        let shop = shop_of(recipe, &mixer);
        let found = json(
            &shop,
            &[&["analyse", "pattern", "model"], &items[..]].concat(),
        );
        assert_eq!(found["pattern"]["words"], hidden);
    }
    let shop = shop(r#"{ kind = "pool", radius = 1, causal = false }"#);
    let wrong = cloze(
        shop.path(),
        &[&["analyse", "pattern", "model"], &items[..]].concat(),
    );
    assert!(error(&wrong, 1).contains("sums values by shares"));
}

#[test]
fn probes_read_what_is_there_and_nothing_of_other_labels() {
    let folder = TempDir::new().unwrap();
    let words = ["the", "of", "and", "in", "to", "a"];
    let (mut texts, mut tagged) = (String::from("text,label,size\n"), String::new());
    for at in 0..160_usize {
        let kind = at * 7 % 3;
        let word = |place: usize| words[(at * 5 + place * place + at / 7) % 6];
        writeln!(
            texts,
            "{} {} {},{},{kind}",
            words[kind],
            word(1),
            word(2),
            ["x", "y", "z"][kind]
        )
        .unwrap();
        for place in 0..4 {
            writeln!(tagged, "{0} {1}", word(place), word(place).len()).unwrap();
        }
        tagged.push('\n');
    }
    fs::write(folder.path().join("texts.csv"), texts).unwrap();
    fs::write(folder.path().join("words.conll"), tagged).unwrap();
    let model = pipeline("labels");
    let found = json(
        &folder,
        &[
            "analyse",
            "probe",
            &model,
            "--data",
            "words.conll",
            "--report",
            "page.html",
        ],
    );
    let probes = &found["probes"];
    assert_eq!(probes["test"], 160);
    let first = &probes["sites"][0];
    assert_eq!(first["site"], "embedding");
    let value = |of: &Value| of["value"].as_f64().unwrap();
    // A word's length is in its vector.
    assert!(value(&first["read"]) > 0.99, "{first}");
    let usual = value(&probes["baseline"]);
    assert!(usual < 0.7);
    for site in probes["sites"].as_array().unwrap() {
        let [low, high] = ["low", "high"].map(|end| site["read"][end].as_f64().unwrap());
        assert!(low <= value(&site["read"]) && value(&site["read"]) <= high);
        assert!(site["shuffled"].as_f64().unwrap() < usual + 0.15, "{site}");
    }
    page(&folder, "page.html");
    let texts = json(
        &folder,
        &[
            "analyse",
            "probe",
            &model,
            "--data",
            "texts.csv",
            "--seed",
            "3",
        ],
    );
    assert_eq!(
        texts["probes"]["labels"],
        serde_json::json!(["x", "y", "z"])
    );
    let again = json(
        &folder,
        &[
            "analyse",
            "probe",
            &model,
            "--data",
            "texts.csv",
            "--seed",
            "3",
        ],
    );
    assert_eq!(texts, again);
    let sizes = json(
        &folder,
        &[
            "analyse",
            "probe",
            &model,
            "--data",
            "texts.csv",
            "--label",
            "size",
            "--of",
            "numbers",
        ],
    );
    assert_eq!(sizes["probes"]["metric"], "r2");
    assert!(sizes["probes"]["baseline"]["value"].as_f64().unwrap() < 0.05);
}

#[test]
fn codes_are_learned_resumed_shown_and_set() {
    let shop = shop(r#"{ kind = "fourier" }"#);
    let run = |arguments: &[&str]| ok(cloze(shop.path(), arguments));
    let codes = r#"model.stack.codebook={ sites = ["ffn", "mixer"], codes = 12, groups = 2, dead_after = 3 }"#;
    let train = |more: &[&str]| {
        let mut arguments = vec!["train", "bert4rec", "--data", "orders.csv"];
        for set in [
            "model.max_len=10",
            "batch.max_tokens=80",
            "model.width=16",
            "epochs=3",
            codes,
        ] {
            arguments.extend(["--set", set]);
        }
        arguments.extend(more);
        run(&arguments);
    };
    train(&["-o", "whole"]);
    train(&["-o", "parts", "--max-steps", "4"]);
    run(&["train", "--resume", "parts"]);
    let weights =
        |model: &str| fs::read(shop.path().join(model).join("model.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("parts"));

    let items = "sku-1,sku-2,sku-3,sku-4";
    let found = json(
        &shop,
        &[
            "analyse",
            "codes",
            "whole",
            "--items",
            items,
            "--report",
            "page.html",
        ],
    );
    let sites = found["codes"]["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 4);
    assert_eq!(
        (&sites[0]["site"], &sites[0]["codes"]),
        (&"layer.0.mixer".into(), &24.into())
    );
    for site in sites {
        let counts = site["chosen"].as_array().unwrap().iter();
        let counts = counts.map(|code| code["count"].as_u64().unwrap());
        // Five tokens, a code of each group.
        assert_eq!(counts.sum::<u64>(), 10);
    }
    page(&shop, "page.html");
    let steer = |code: &str| {
        let set = format!("layer.1.ffn={code}");
        let found = json(
            &shop,
            &["analyse", "codes", "whole", "--items", items, "--set", &set],
        );
        found["sequences"][0]["steered"]["places"][0]["divergence"]
            .as_f64()
            .unwrap()
    };
    let own = |code: &Value| code["count"] == 5 && code["code"].as_u64().unwrap() < 12;
    let chosen = sites[3]["chosen"].as_array().unwrap();
    if let Some(code) = chosen.iter().find(|code| own(code)) {
        assert_eq!(steer(&code["code"].to_string()).to_bits(), 0);
    }
    let other = (0..12)
        .find(|code| chosen.iter().all(|own| own["code"] != *code))
        .unwrap();
    assert!(steer(&other.to_string()) > 0.0);
    let wrong = error(
        &cloze(
            shop.path(),
            &[
                "analyse",
                "codes",
                "whole",
                "--items",
                items,
                "--set",
                "layer.1.ffn=24",
            ],
        ),
        1,
    );
    assert!(wrong.contains("expected a code below 24"), "{wrong}");
    let wrong = error(
        &cloze(
            shop.path(),
            &["analyse", "codes", "model", "--items", items],
        ),
        1,
    );
    assert!(
        wrong.contains("expected a model that speaks in codes"),
        "{wrong}"
    );
}

#[test]
fn codes_are_swapped_between_histories() {
    let shop = shop(r#"{ kind = "fourier" }"#);
    let codes = r#"model.stack.codebook={ sites = ["ffn"], codes = 12 }"#;
    let mut train = vec!["train", "bert4rec", "--data", "orders.csv", "-o", "coded"];
    for set in ["model.max_len=10", "batch.max_tokens=80", "epochs=1", codes] {
        train.extend(["--set", set]);
    }
    ok(cloze(shop.path(), &train));
    let items = [
        "--items",
        "sku-1,sku-2,sku-3,sku-4",
        "--items",
        "sku-7,sku-8",
        "--items",
        "sku-12",
    ];
    let swap = ["analyse", "codes", "coded", "--swap"];
    let swaps = json(&shop, &[&swap, &items[..]].concat())["swaps"].clone();
    assert!((1..=3).contains(&swaps["swapped"].as_u64().unwrap()));
    for codes in ["to_other", "by_chance"] {
        let share = swaps[codes]["mean"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{swaps}");
    }
    let wrong = error(&cloze(shop.path(), &[&swap, &items[..2]].concat()), 1);
    assert!(wrong.contains("expected two sequences"), "{wrong}");
}

#[test]
fn codes_of_texts_are_trained_by_the_recipe_and_tell_labels() {
    let folder = TempDir::new().unwrap();
    let (mut texts, mut tagged) = (String::new(), String::new());
    for at in 0..60_usize {
        let digits: Vec<usize> = (0..8)
            .map(|place| (at * 7 + place * (at % 3 + 1)) % 10)
            .collect();
        let words: Vec<String> = digits.iter().map(ToString::to_string).collect();
        texts.extend([&*words.join(" "), "\n"]);
        for digit in digits {
            let tag = if digit < 5 { "low" } else { "high" };
            writeln!(tagged, "{digit}\t{tag}").unwrap();
        }
        tagged.push('\n');
    }
    fs::write(folder.path().join("texts.txt"), texts).unwrap();
    fs::write(folder.path().join("words.conll"), tagged).unwrap();
    let run = |arguments: &[&str]| ok(cloze(folder.path(), arguments));
    let tokenizer = ["--model", "wordlevel", "--vocab-size", "20", "-o", "digits"];
    run(&[
        &["tokenizer", "train", "--data", "texts.txt"],
        &tokenizer[..],
    ]
    .concat());
    let mut train = vec![
        "train",
        "codebook-features",
        "--data",
        "texts.txt",
        "--tokenizer",
        "digits",
    ];
    for set in [
        "model.max_len=16",
        "model.config.hidden_size=16",
        "model.config.num_hidden_layers=1",
        "model.config.intermediate_size=32",
        "model.config.codebook.codes=9",
        "batch.max_tokens=160",
        "epochs=1",
    ] {
        train.extend(["--set", set]);
    }
    train.extend(["-o", "coded"]);
    run(&train);
    let found = json(
        &folder,
        &[
            "analyse",
            "codes",
            "coded",
            "--data",
            "words.conll",
            "--label",
            "1",
            "--report",
            "page.html",
        ],
    );
    let detectors = &found["detectors"];
    assert_eq!(detectors["test"], 15 * 8);
    for mean in ["code_f1", "channel_f1"] {
        assert!(
            (0.0..=1.0).contains(&detectors[mean].as_f64().unwrap()),
            "{detectors}"
        );
    }
    assert_eq!(detectors["labels"].as_array().unwrap().len(), 2);
    page(&folder, "page.html");
    let set = ["--text", "1 2 [MASK] 4", "--set", "layer.0.ffn@3=8"];
    let found = json(
        &folder,
        &[&["analyse", "codes", "coded"], &set[..]].concat(),
    );
    let place = &found["sequences"][0]["steered"]["places"][0];
    assert_eq!(place["token"], "[MASK]");
    // What is said does not depend on the engine that predicts.
    let out = folder.path().join("filled.jsonl").display().to_string();
    run(&[
        "predict",
        "coded",
        "--input-text",
        "1 2 [MASK] 4",
        "--top",
        "1",
        "-o",
        &out,
    ]);
    let filled = fs::read_to_string(out).unwrap();
    let said = place["before"][0][0].as_str().unwrap();
    assert!(
        filled.contains(&format!("\"{said}\"")),
        "{filled}, not {said}"
    );
}
