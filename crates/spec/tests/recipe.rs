//! Recipes: every shipped one stands, and mistakes are told where they are.

use std::path::{Path, PathBuf};

use cloze_spec::recipe::{Any, Document, Recipe, Source};
use cloze_spec::stage::Stage;

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

fn base(name: &str) -> Option<Source> {
    let path = match name.split_once('/') {
        Some((system, size)) => recipes().join(format!("{system}/sizes/{size}.toml")),
        None => recipes().join(name).join("recipe.toml"),
    };
    Source::read(&path).ok()
}

fn bert4rec() -> Source {
    base("bert4rec").expect("shipped")
}

fn parse(text: &str, overrides: &[&str]) -> Result<Recipe, String> {
    let source = Source {
        name: "mine.toml".to_owned(),
        text: text.to_owned(),
    };
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    Recipe::parse(&source, base, &overrides).map_err(|error| error.to_string())
}

fn lr(recipe: &Recipe) -> f64 {
    let Stage::Train(stage) = &recipe.stage[0];
    let cloze_spec::optim::Optim::Adamw(optim) = &stage.optim;
    optim.lr
}

#[test]
fn every_shipped_recipe_and_size_is_valid_and_survives_being_written() {
    let mut count = 0;
    for system in std::fs::read_dir(recipes())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        let sizes = std::fs::read_dir(system.join("sizes"))
            .into_iter()
            .flatten()
            .map(|e| e.unwrap().path());
        for path in sizes.chain([system.join("recipe.toml")]) {
            let recipe = Any::parse(&Source::read(&path).unwrap(), base, &[]).unwrap();
            let written = Source {
                name: "written.toml".to_owned(),
                text: recipe.to_toml(),
            };
            assert_eq!(
                Any::parse(&written, base, &[]).unwrap(),
                recipe,
                "{}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count >= 7, "found {count} recipes only");
}

#[test]
fn an_unknown_key_is_told_with_line_column_and_the_nearest_name() {
    let text = "base = \"bert4rec\"\n\n[model.stack]\nlayerz = 3\n";
    assert_eq!(
        parse(text, &[]).unwrap_err(),
        "mine.toml:4:1: unknown field `layerz`, expected one of `layers`, `block`, `norm`, `mixer`, `ffn`, `codebook`; did you mean `layers`?"
    );
}

#[test]
fn an_unknown_key_within_a_table_with_a_kind_is_told_too() {
    let text = "base = \"bert4rec\"\n[[stage]]\noptim = { lr = 1e-3, beta3 = 0.9 }\n";
    let message = parse(text, &[]).unwrap_err();
    assert!(
        message.starts_with("mine.toml:3:22: unknown field `beta3`"),
        "{message}"
    );
    assert!(message.ends_with("did you mean `beta1`?"), "{message}");
}

#[test]
fn an_unknown_kind_is_told_with_the_kinds_there_are() {
    let text = "base = \"bert4rec\"\n[model.stack]\nmixer = { kind = \"atention\", heads = 2 }\n";
    let message = parse(text, &[]).unwrap_err();
    assert!(
        message.starts_with("mine.toml:3:18: unknown variant `atention`"),
        "{message}"
    );
    assert!(message.ends_with("did you mean `attention`?"), "{message}");
}

#[test]
fn broken_toml_is_told_with_line_and_column() {
    let message = parse("base = \"bert4rec\"\n[model\n", &[]).unwrap_err();
    assert!(message.starts_with("mine.toml:2:"), "{message}");
}

#[test]
fn a_base_has_a_base_that_is_not_itself() {
    let named = |text: &str| Source {
        name: "recipe mine".to_owned(),
        text: text.to_owned(),
    };
    let over = |name: &str| match name {
        "mine" => Some(named(
            "base = \"bert4rec\"\n[model]\nwidth = 32\nmax_len = 77\n",
        )),
        "round" => Some(named("base = \"round\"\n")),
        other => base(other),
    };
    let text = |text: &str| Recipe::parse(&named(text), over, &[]);
    let recipe = text("base = \"mine\"\nmodel.max_len = 50\n").unwrap();
    assert_eq!((recipe.model.width, recipe.model.max_len), (32, 50));
    assert_eq!(recipe.stage, parse(&bert4rec().text, &[]).unwrap().stage);
    let message = text("base = \"round\"\n").unwrap_err().to_string();
    assert!(
        message.contains("the recipe \"round\" builds on itself"),
        "{message}"
    );
}

#[test]
fn a_pretrained_encoder_takes_the_place_of_a_new_one() {
    let source = base("bert").expect("shipped");
    let over = ["model.base=\"encoder\"".to_owned()];
    let Any::Text(recipe) = Any::parse(&source, base, &over).unwrap() else {
        panic!("a recipe over texts");
    };
    assert!(recipe.model.config.is_empty());
    assert_eq!(recipe.model.base.as_deref(), Some("encoder"));
    let both = ["model.base=\"encoder\"", "model.config.hidden_size=8"].map(str::to_owned);
    let message = Any::parse(&source, base, &both).unwrap_err().to_string();
    assert!(message.contains("found both"), "{message}");
}

#[test]
fn a_base_that_does_not_exist_is_told() {
    let message = parse("base = \"bert5rec\"", &[]).unwrap_err();
    assert!(
        message.contains("there is no recipe \"bert5rec\""),
        "{message}"
    );
}

#[test]
fn all_faults_of_values_are_reported_together() {
    let message = parse(
        "base = \"bert4rec\"\n[model]\nwidth = 63\nmax_len = 1\n",
        &["optim.lr=-1"],
    )
    .unwrap_err();
    for part in [
        "3 faults",
        "model.max_len",
        "model.stack.mixer.heads",
        "stage.0.optim.lr",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn overrides_reach_any_value_by_the_short_path_and_the_long_one() {
    for text in ["optim.lr=5e-4", "stage.0.optim.lr = 5e-4"] {
        assert!((lr(&parse("base = \"bert4rec\"", &[text]).unwrap()) - 5e-4).abs() < 1e-12);
    }
    let recipe = parse(
        "base = \"bert4rec\"",
        &["optim.lr=1", "model.width=128", "seed=7"],
    )
    .unwrap();
    assert_eq!(
        (lr(&recipe), recipe.model.width, recipe.seed),
        (1.0, 128, 7)
    );
    let recipe = parse(
        "base = \"bert4rec\"",
        &["schedule={kind=\"cosine\",warmup_steps=3}"],
    )
    .unwrap();
    let Stage::Train(stage) = &recipe.stage[0];
    assert_eq!(
        stage.schedule,
        cloze_spec::schedule::Schedule::Cosine(cloze_spec::schedule::Warmup {
            warmup_steps: 3,
            warmup_share: 0.0
        })
    );
}

#[test]
fn a_wrong_override_is_told_as_such() {
    let message = parse("base = \"bert4rec\"", &["optim.lrr=1e-3"]).unwrap_err();
    assert!(
        message.starts_with("--set optim.lrr=1e-3: unknown field `lrr`"),
        "{message}"
    );
    let message = parse("base = \"bert4rec\"", &["epoch=3"]).unwrap_err();
    assert_eq!(
        message,
        "--set epoch=3: there is no \"epoch\"; did you mean \"epochs\"?"
    );
    let message = parse("base = \"bert4rec\"", &["optim.lr"]).unwrap_err();
    assert!(
        message.starts_with("--set optim.lr: expected path=value"),
        "{message}"
    );
}

#[test]
fn a_table_of_another_kind_replaces_the_base_whole() {
    let recipe = parse(
        "base = \"bert4rec\"\n[[stage]]\nschedule = { kind = \"constant\", warmup_steps = 5 }\n",
        &[],
    );
    assert!(recipe.is_ok(), "{recipe:?}");
    let text = bert4rec()
        .text
        .replace("kind = \"linear\"", "kind = \"wsd\"");
    let message = parse(&text, &[]).unwrap_err();
    assert!(message.contains("missing field `decay_share`"), "{message}");
}

#[test]
fn an_objective_and_a_mixer_that_contradict_each_other_are_refused() {
    let message = parse(
        "base = \"bert4rec\"\n[model.stack]\nmixer = { causal = true }\n",
        &[],
    )
    .unwrap_err();
    assert!(
        message.contains("model.stack.mixer.causal: expected false"),
        "{message}"
    );
}
