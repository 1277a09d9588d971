use super::*;
use crate::encoder::{DropoutRates, Sequence};
use crate::hugging_face::draft::defaults;

fn texts(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn sequence(labels: &[&str], problem: Problem) -> Task {
    let labels = texts(labels);
    Task::Sequence(Sequence { labels, problem })
}

fn tasks() -> [Task; 7] {
    let token = Task::Token {
        labels: texts(&["O", "B-PER", "I-PER"]),
    };
    [
        Task::Vector,
        Task::MaskedToken,
        sequence(&["no", "maybe", "yes"], Problem::SingleLabel),
        sequence(&["red", "round"], Problem::MultiLabel),
        sequence(&["stars"], Problem::Regression),
        token,
        Task::Span,
    ]
}

fn of(fixture: &Fixture, task: Task) -> Result<Draft, Error> {
    Draft::of(&fixture.described().unwrap(), &fixture.encoder(), task)
}

/// What is written, read again: the same encoder, each row of each parameter from the row of a tensor that it became.
fn assert_reads_back(draft: &Draft, name: &str) {
    let mut tensors = Tensors::new();
    let targets = draft.tensors();
    for target in &targets {
        let rows: usize = target.rows.iter().map(Range::len).sum();
        assert_eq!(rows, target.shape[0], "{name}: {target:?}");
        let before = tensors.insert(target.tensor.clone(), target.shape.clone());
        assert_eq!(before, None, "{name}: {target:?} is written twice");
    }
    let folder = scratch(draft.config()).read().unwrap();
    let resolved = folder.resolve(&tensors);
    let resolved = resolved.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&resolved.encoder, draft.encoder(), "{name}");
    for source in &resolved.parameters {
        let mut rows = Vec::new();
        for piece in &source.pieces {
            let target = targets.iter().find(|target| target.tensor == piece.tensor);
            let target = target.unwrap();
            assert_eq!(target.parameter, source.parameter.name, "{name}");
            let written: Vec<usize> = target.rows.iter().cloned().flatten().collect();
            rows.extend_from_slice(&written[piece.rows.clone()]);
        }
        let expected: Vec<usize> = (0..source.parameter.shape[0]).collect();
        assert_eq!(rows, expected, "{name}: {}", source.parameter.name);
    }
}

#[test]
fn what_a_family_writes_for_a_task_reads_back() {
    let mut without = BTreeSet::new();
    for fixture in fixtures() {
        for task in tasks() {
            let name = format!("{}: {task:?}", fixture.name);
            match of(&fixture, task.clone()) {
                Ok(draft) => {
                    let head = draft.encoder().head.as_ref().unwrap();
                    assert_eq!(head.task, task, "{name}");
                    assert_reads_back(&draft, &name);
                }
                Err(error) => {
                    assert!(error.to_string().contains("architectures"), "{error}");
                    let model_type = fixture.config["model_type"].as_str().unwrap();
                    without.insert(format!("{model_type} {task:?}"));
                }
            }
        }
    }
    let expected = [
        "deberta-v2 Vector",
        "distilbert Vector",
        "electra Vector",
        "gte Span",
        "gte Vector",
        "modernbert Vector",
        "nomic_bert Span",
        "nomic_bert Vector",
    ];
    assert!(without.iter().eq(&expected), "{without:?}");
}

#[test]
fn new_encoders_read_back_and_are_those_of_a_folder_with_the_same_settings() {
    let mut types = BTreeSet::new();
    for fixture in fixtures() {
        let model_type = fixture.config["model_type"].as_str().unwrap();
        let is_published =
            fixture.config.contains_key("auto_map") || fixture.config.contains_key("_name_or_path");
        // Release 5 has no distances in BERT.
        let is_gone = fixture.name == "bert-relative-key";
        let Some(known) = defaults(model_type).filter(|_| !is_published && !is_gone) else {
            continue;
        };
        types.insert(model_type.to_owned());
        let mut config = fixture.config.clone();
        config.retain(|key, _| key == "model_type" || known.contains_key(key));
        for task in tasks() {
            let Ok(expected) = of(&fixture, task.clone()) else {
                assert!(Draft::new(config.clone(), 42, task).is_err());
                continue;
            };
            let draft = Draft::new(config.clone(), 42, task).unwrap();
            assert_reads_back(&draft, fixture.name);
            // Two of its settings are said otherwise in release 5.
            if fixture.name != "modernbert-5" {
                assert_eq!(draft.encoder(), expected.encoder(), "{}", fixture.name);
            }
        }
    }
    let expected = [
        "albert",
        "bert",
        "deberta-v2",
        "distilbert",
        "electra",
        "gte",
        "modernbert",
        "mpnet",
        "nomic_bert",
        "roberta",
        "xlm-roberta",
    ];
    assert!(types.iter().eq(&expected), "{types:?}");
}

#[test]
fn bodies_keep_the_names_that_their_families_save() {
    for fixture in fixtures() {
        let resolved = fixture.resolve();
        let draft = of(&fixture, Task::MaskedToken).unwrap();
        let is_body = |parameter: &str| !parameter.starts_with("head.");
        let bare = |names: BTreeSet<String>| {
            let mut ends = names.iter().filter_map(|name| name.find("embeddings."));
            let prefix = ends.next().unwrap();
            let bare = names.iter().map(|name| name[prefix..].to_owned());
            bare.collect::<BTreeSet<_>>()
        };
        let sources = resolved.parameters.iter();
        let saved = sources
            .filter(|source| is_body(&source.parameter.name))
            .flat_map(|source| source.pieces.iter().map(|piece| piece.tensor.clone()));
        let targets = draft.tensors().into_iter();
        let written = targets
            .filter(|target| is_body(&target.parameter))
            .map(|target| target.tensor);
        let (saved, written) = (bare(saved.collect()), bare(written.collect()));
        assert_eq!(saved, written, "{}", fixture.name);
    }
}

fn recipe(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn settings_say_class_labels_and_type_and_forget_what_they_were() {
    let fixture = fixture("xlm-roberta")
        .set("transformers_version", "4.1.0".into())
        .set("torch_dtype", "float16".into())
        .set("auto_map", json!({"AutoModel": "a--b.C"}))
        .set("num_labels", 3.into());
    let draft = of(&fixture, sequence(&["bad", "good"], Problem::SingleLabel)).unwrap();
    let config = draft.config();
    for (key, value) in [
        (
            "architectures",
            json!(["XLMRobertaForSequenceClassification"]),
        ),
        ("id2label", json!({"0": "bad", "1": "good"})),
        ("label2id", json!({"bad": 0, "good": 1})),
        ("problem_type", json!("single_label_classification")),
        ("torch_dtype", json!("float32")),
        ("vocab_size", json!(42)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    for key in ["transformers_version", "auto_map", "num_labels"] {
        assert!(!config.contains_key(key), "{key}");
    }
    let span = of(&fixture, Task::Span).unwrap();
    for key in ["id2label", "label2id", "problem_type"] {
        assert!(!span.config().contains_key(key), "{key}");
    }
    // Code in another repository is still needed.
    let jina = of(&super::fixture("jina"), Task::MaskedToken).unwrap();
    assert_eq!(
        jina.config()["architectures"],
        json!(["JinaBertForMaskedLM"])
    );
    assert!(jina.config().contains_key("auto_map"));
    // The first settings of BERT have no type.
    let antique = super::fixture("bert")
        .without("model_type")
        .without("architectures");
    let draft = of(&antique, Task::Span).unwrap();
    assert_eq!(draft.config()["model_type"], "bert");
    assert_reads_back(&draft, "antique");
}

#[test]
fn a_masked_token_head_stays_and_a_token_table_may_grow() {
    let untied = fixture("bert-5-untied");
    let draft = of(&untied, Task::MaskedToken).unwrap();
    assert_eq!(draft.encoder(), &untied.encoder());
    let biases: Vec<_> = draft
        .tensors()
        .into_iter()
        .filter(|target| target.parameter == "head.output.bias")
        .map(|target| target.tensor)
        .collect();
    let expected = ["cls.predictions.decoder.bias", "cls.predictions.bias"];
    assert_eq!(biases, expected);

    let mut grown = fixture("roberta-mlm").encoder();
    grown.embed.vocab = 50;
    grown
        .head
        .as_mut()
        .unwrap()
        .output
        .as_mut()
        .unwrap()
        .outputs = 50;
    let folder = fixture("roberta-mlm").described().unwrap();
    let draft = Draft::of(&folder, &grown, Task::MaskedToken).unwrap();
    assert_eq!(draft.encoder(), &grown);
    assert_eq!(draft.config()["vocab_size"], 50);

    grown.layers.truncate(1);
    let fault = Draft::of(&folder, &grown, Task::Span).unwrap_err();
    assert!(
        fault.to_string().contains("encoder: expected the one"),
        "{fault}"
    );
}

#[test]
fn faults_of_a_new_model_are_told_together() {
    let fault =
        |json: &str, task: Task| Draft::new(recipe(json), 100, task).unwrap_err().to_string();
    let found = fault(
        r#"{"model_type": "bert", "hiden_size": 64, "vocab_size": 5, "pad_token_id": 100, "hidden_dropout_prob": 1.0,
            "position_embedding_type": "alibi"}"#,
        sequence(&["a", "a"], Problem::SingleLabel),
    );
    for expected in [
        "model.config.hiden_size: bert has no such setting, found 64; did you mean hidden_size?",
        "model.config.vocab_size: follows from the vocabulary and the task; leave it out",
        "model.config.pad_token_id: expected a whole number from 0 to 99, found 100",
        "model.config.position_embedding_type: expected one of absolute, found \"alibi\"",
        "hidden_dropout_prob: expected a share from 0 up to, not including, 1, found 1.0",
        "id2label: expected labels that differ, found [\"a\", \"a\"]",
    ] {
        assert!(found.contains(expected), "{expected}\nis not in\n{found}");
    }
    let found = fault(r#"{"model_type": "distilbert"}"#, Task::Vector);
    assert!(
        found.contains(
            "expected one of the families that have such a class, bert, roberta, xlm-roberta, camembert, albert, mpnet, new, cloze-mixer, found DistilBertModel"
        ),
        "{found}"
    );
    let found = fault(r#"{"hidden_size": 64}"#, Task::Span);
    assert!(found.contains("model_type: expected one of "), "{found}");
    assert!(found.contains("found nothing"), "{found}");
    let empty = Task::Token { labels: Vec::new() };
    let found = fault(r#"{"model_type": "bert"}"#, empty);
    assert!(
        found.contains("id2label: expected at least one label"),
        "{found}"
    );
}

#[test]
fn what_a_new_model_leaves_out_is_the_family_s() {
    let draft = Draft::new(
        recipe(r#"{"model_type": "modernbert", "num_hidden_layers": 4}"#),
        1000,
        Task::MaskedToken,
    )
    .unwrap();
    let encoder = draft.encoder();
    assert_eq!(
        (encoder.width, encoder.layers.len(), encoder.max_len),
        (768, 4, 8192)
    );
    // A padding row beyond the table is no row.
    assert_eq!(draft.config()["pad_token_id"], Value::Null);
}

#[test]
fn dropout_has_each_family_s_names() {
    let dropout = |json: &str, task: Task| Draft::new(recipe(json), 100, task).unwrap().dropout();
    let shares = |hidden, attention, head| DropoutRates {
        hidden,
        attention,
        head,
    };
    let labels = || sequence(&["no", "yes"], Problem::SingleLabel);
    let bert = r#"{"model_type": "bert", "hidden_dropout_prob": 0.2}"#;
    assert_eq!(dropout(bert, labels()), shares(0.2, 0.1, 0.2));
    assert_eq!(dropout(bert, Task::Span), shares(0.2, 0.1, 0.0));
    let own = r#"{"model_type": "bert", "classifier_dropout": 0.3}"#;
    assert_eq!(dropout(own, labels()), shares(0.1, 0.1, 0.3));
    let distil = r#"{"model_type": "distilbert"}"#;
    assert_eq!(dropout(distil, labels()), shares(0.1, 0.1, 0.2));
    assert_eq!(dropout(distil, Task::Span), shares(0.1, 0.1, 0.1));
    assert_eq!(dropout(distil, Task::MaskedToken), shares(0.1, 0.1, 0.0));
    let albert = r#"{"model_type": "albert"}"#;
    assert_eq!(dropout(albert, labels()), shares(0.0, 0.0, 0.1));
    let modern = r#"{"model_type": "modernbert", "classifier_dropout": 0.4}"#;
    assert_eq!(dropout(modern, Task::Span), shares(0.0, 0.0, 0.4));
    let deberta = r#"{"model_type": "deberta-v2", "cls_dropout": 0.0}"#;
    assert_eq!(dropout(deberta, labels()), shares(0.1, 0.1, 0.0));
}

fn mixed(components: &str) -> String {
    format!(
        r#"{{"model_type": "cloze-mixer", "hidden_size": 8, "num_hidden_layers": 3, "max_position_embeddings": 12, {components}}}"#
    )
}

#[test]
fn encoders_with_mixers_read_back_under_the_names_of_the_inventory() {
    for components in [
        r#""intermediate_size": 20, "mixer": {"kind": "attention", "heads": 2, "causal": false, "dropout": 0.0}"#,
        r#""intermediate_size": 20, "hidden_act": "relu", "mixer": {"kind": "by-layer", "pattern": [{"kind": "fourier"},
            {"kind": "token-mlp", "width": 5}]}"#,
        r#""mixer": {"kind": "granular-pool", "heads": 2, "segment": 4, "radius": 1}, "ffn": {"kind": "memory", "bits": 2,
            "extra_bits": 1}, "norm": {"kind": "dynamic-tanh", "slope": 0.25}, "position_embedding_type": "none",
            "block": {"kind": "sandwich", "dropout": 0.25, "layer_scale": 0.1}"#,
    ] {
        for task in tasks() {
            let draft = Draft::new(recipe(&mixed(components)), 42, task.clone()).unwrap();
            assert_reads_back(&draft, components);
            let parameters = encoder_parameters(draft.encoder());
            let names = parameters.iter().map(|parameter| &parameter.name);
            let tensors = draft.tensors();
            assert!(tensors.iter().map(|target| &target.tensor).eq(names));
            let config = draft.config();
            // What a component takes the place of says nothing.
            assert!(!config.contains_key("num_attention_heads"));
            assert_eq!(
                config.contains_key("norm"),
                !config.contains_key("layer_norm_eps")
            );
            // And once more as what an encoder is fine-tuned from.
            let folder = scratch(config).read().unwrap();
            let again = Draft::of(&folder, draft.encoder(), task).unwrap();
            assert_eq!(again.encoder(), draft.encoder());
            assert_eq!(again.dropout(), draft.dropout());
        }
    }
    let last = r#""intermediate_size": 20, "mixer": {"kind": "identity"}, "block": {"kind": "pre-norm", "dropout": 0.25},
        "norm": {"kind": "dynamic-tanh", "slope": 0.25}"#;
    let draft = Draft::new(recipe(&mixed(last)), 42, Task::MaskedToken).unwrap();
    assert!((draft.dropout().hidden - 0.25).abs() < 1e-6);
    let starts = crate::inventory::encoder_starts(draft.encoder());
    let starts: Vec<_> = starts.into_iter().map(|(name, _)| name).collect();
    assert!(
        starts.contains(&"final_norm.slope".to_owned()),
        "{starts:?}"
    );
    assert_eq!(draft.encoder().operations(5), None);
}

#[test]
fn settings_alone_cannot_ask_for_any_amount_of_numbers() {
    let told = |config: &str| {
        let fault = Draft::new(recipe(config), 42, Task::MaskedToken).unwrap_err();
        fault.to_string()
    };
    let random = r#""intermediate_size": 20, "mixer": {"kind": "random", "seed": 10000000000, "causal": false}"#;
    let random = mixed(random).replace("_embeddings\": 12", "_embeddings\": 1000000");
    let found = told(&random);
    assert!(
        found.contains("model.config.max_position_embeddings: tables"),
        "{found}"
    );
    let wide = mixed(
        r#""mixer": {"kind": "identity"}, "ffn": {"kind": "gated", "width": 18446744073709551615, "activation": "gelu"}"#,
    );
    let found = told(&wide);
    assert!(
        found.contains(
            "model.config.ffn: expected whole numbers of at most 262144, found 18446744073709551615"
        ),
        "{found}"
    );
}
