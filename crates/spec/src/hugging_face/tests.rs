mod draft;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::encoder::{Layer, Norm, Pool, Position, Problem, Task};
use crate::inventory::encoder_parameters;
use crate::sentence::{Module, PoolingMode};

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloze-hugging-face-{}-{number}", std::process::id());
        let scratch = Self(std::env::temp_dir().join(name));
        for (name, content) in files {
            let file = scratch.0.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        scratch
    }

    fn read(&self) -> Result<Folder, Error> {
        Folder::read(&self.0)
    }

    /// The faults of a folder that cannot be read.
    fn fault(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone)]
struct Fixture {
    name: &'static str,
    config: Map<String, Value>,
    tensors: Tensors,
}

fn fixtures() -> Vec<Fixture> {
    let sections = include_str!("fixtures.txt").split("\n# ").skip(1);
    sections.map(parse).collect()
}

fn parse(section: &'static str) -> Fixture {
    let mut lines = section.lines();
    let name = lines.next().unwrap();
    let config: Map<String, Value> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let count = |keys: &[&str]| keys.iter().find_map(|key| config.get(*key)?.as_u64());
    let layers = count(&["num_hidden_layers", "n_layers", "n_layer"]).unwrap();
    let mut tensors = Tensors::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let [stem, shape, ends] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let shape: Vec<usize> = shape.split('x').map(|n| n.parse().unwrap()).collect();
        let stems: Vec<String> = if stem.contains("groups.{}") {
            let groups = count(&["num_hidden_groups"]).unwrap();
            let inner = count(&["inner_group_num"]).unwrap();
            let one = |run: u64| {
                let group = stem.replacen("{}", &(run / inner).to_string(), 1);
                group.replacen("{}", &(run % inner).to_string(), 1)
            };
            (0..groups * inner).map(one).collect()
        } else if stem.contains("{}") {
            let first = u64::from(stem.ends_with("attn_norm"));
            let one = |layer: u64| stem.replace("{}", &layer.to_string());
            (first..layers).map(one).collect()
        } else {
            vec![stem.to_owned()]
        };
        for stem in stems {
            if ends.contains('w') {
                tensors.insert(format!("{stem}.weight"), shape.clone());
            }
            if ends.contains('b') {
                tensors.insert(format!("{stem}.bias"), vec![shape[0]]);
            }
        }
    }
    Fixture {
        name,
        config,
        tensors,
    }
}

fn fixture(name: &str) -> Fixture {
    let mut all = fixtures().into_iter();
    all.find(|fixture| fixture.name == name).unwrap()
}

fn scratch(config: &Map<String, Value>) -> Scratch {
    let config = serde_json::to_string(config).unwrap();
    Scratch::new(&[("config.json", &config), ("model.safetensors", "")])
}

impl Fixture {
    fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.config.remove(key);
        self
    }

    fn try_resolve(&self) -> Result<Resolved, Error> {
        scratch(&self.config).read()?.resolve(&self.tensors)
    }

    /// The folder without the trip over the disk.
    fn described(&self) -> Result<Folder, Error> {
        let faults = RefCell::new(Faults::default());
        let keys = Keys::new(CONFIG, &self.config, &faults);
        let family = family::family(&keys);
        if let Some(family) = family {
            family::encoder(&keys, family, None);
        }
        faults.into_inner().into_result(self.name)?;
        Ok(Folder {
            transitions: None,
            path: PathBuf::from(self.name),
            config: self.config.clone(),
            embedder: None,
            modules: Vec::new(),
            is_sparse: false,
            score_activation: None,
            tokenizer_max_len: None,
            weights: Vec::new(),
            tokenizer: Vec::new(),
            family: family.expect("an unknown family is a fault"),
        })
    }

    fn resolve(&self) -> Resolved {
        let resolved = self.try_resolve();
        resolved.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn encoder(&self) -> Encoder {
        self.resolve().encoder
    }

    fn fault(&self) -> String {
        self.try_resolve().unwrap_err().to_string()
    }

    fn renamed(mut self, rename: impl Fn(&str) -> String) -> Self {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .map(|(name, shape)| (rename(&name), shape))
            .collect();
        self
    }
}

impl Resolved {
    /// The pieces of a parameter, as text.
    fn pieces(&self, parameter: &str) -> Vec<String> {
        let mut sources = self.parameters.iter();
        let source = sources.find(|source| source.parameter.name == parameter);
        let source = source.unwrap_or_else(|| panic!("no parameter {parameter}"));
        let text = |piece: &Piece| format!("{} {:?}", piece.tensor, piece.rows);
        source.pieces.iter().map(text).collect()
    }
}

#[test]
fn every_family_resolves_and_each_parameter_is_made_of_as_many_rows_as_it_has() {
    for fixture in fixtures() {
        let resolved = fixture.resolve();
        let parameters: Vec<_> = resolved
            .parameters
            .iter()
            .map(|source| source.parameter.clone())
            .collect();
        assert_eq!(parameters, encoder_parameters(&resolved.encoder));
        let mut used = BTreeSet::new();
        for source in &resolved.parameters {
            let rows: usize = source.pieces.iter().map(|piece| piece.rows.len()).sum();
            assert_eq!(rows, source.parameter.shape[0], "{source:?}");
            used.extend(source.pieces.iter().map(|piece| piece.tensor.clone()));
        }
        let unused: Vec<_> = fixture
            .tensors
            .keys()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect();
        let expected: &[&str] = match fixture.name {
            "bert-5-untied" => &["cls.predictions.bias"],
            "bert-relative-key" => &["bert.embeddings.position_embeddings.weight"],
            _ => &[],
        };
        assert_eq!(unused, expected, "{}", fixture.name);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn tensors_of_each_family_make_the_parameters() {
    let cases: [(&str, &str, &[&str]); 22] = [
        (
            "roberta-mlm",
            "layer.1.mixer.qkv.weight",
            &[
                "roberta.encoder.layer.1.attention.self.query.weight 0..24",
                "roberta.encoder.layer.1.attention.self.key.weight 0..24",
                "roberta.encoder.layer.1.attention.self.value.weight 0..24",
            ],
        ),
        (
            "roberta-mlm",
            "head.norm.gain",
            &["lm_head.layer_norm.weight 0..24"],
        ),
        ("roberta-mlm", "head.output.bias", &["lm_head.bias 0..42"]),
        (
            "xlm-roberta",
            "head.output.weight",
            &["classifier.out_proj.weight 0..3"],
        ),
        (
            "bert",
            "head.transform.weight",
            &["pooler.dense.weight 0..24"],
        ),
        (
            "bert-5-untied",
            "head.output.weight",
            &["cls.predictions.decoder.weight 0..42"],
        ),
        (
            "bert-5-untied",
            "head.output.bias",
            &["cls.predictions.decoder.bias 0..42"],
        ),
        (
            "distilbert-mlm",
            "layer.0.mixer_norm.bias",
            &["distilbert.transformer.layer.0.sa_layer_norm.bias 0..24"],
        ),
        (
            "distilbert-mlm",
            "head.output.bias",
            &["vocab_projector.bias 0..42"],
        ),
        (
            "albert-mlm",
            "layer.3.ffn.down.bias",
            &["albert.encoder.albert_layer_groups.1.albert_layers.1.ffn_output.bias 0..24"],
        ),
        (
            "albert-mlm",
            "head.output.bias",
            &["predictions.bias 0..42"],
        ),
        (
            "electra",
            "embed.projection.weight",
            &["electra.embeddings_project.weight 0..24"],
        ),
        (
            "electra-mlm",
            "head.output.bias",
            &["generator_lm_head.bias 0..42"],
        ),
        (
            "mpnet-mlm",
            "relative.weight",
            &["mpnet.encoder.relative_attention_bias.weight 0..32"],
        ),
        (
            "deberta-v2-apart",
            "layer.0.mixer.position_query.bias",
            &["deberta.encoder.layer.0.attention.self.pos_query_proj.bias 0..24"],
        ),
        (
            "deberta-v2-conv",
            "layer.0.convolution_norm.gain",
            &["deberta.encoder.conv.LayerNorm.weight 0..24"],
        ),
        (
            "deberta-5-mlm",
            "head.output.bias",
            &["lm_predictions.lm_head.bias 0..42"],
        ),
        (
            "modernbert-5",
            "layer.1.ffn.up.weight",
            &["model.layers.1.mlp.Wi.weight 0..72"],
        ),
        (
            "nomic",
            "layer.1.ffn.up.weight",
            &[
                "encoder.layers.1.mlp.fc12.weight 0..36",
                "encoder.layers.1.mlp.fc11.weight 0..36",
            ],
        ),
        (
            "jina",
            "layer.0.ffn.up.weight",
            &["encoder.layer.0.mlp.gated_layers.weight 0..72"],
        ),
        (
            "jina-qk",
            "layer.0.ffn.up.weight",
            &[
                "encoder.layer.0.mlp.up_gated_layer.weight 36..72",
                "encoder.layer.0.mlp.up_gated_layer.weight 0..36",
            ],
        ),
        (
            "gte-5",
            "layer.1.ffn.up.weight",
            &[
                "gte.encoder.layer.1.mlp.up_gate_proj.weight 36..72",
                "gte.encoder.layer.1.mlp.up_gate_proj.weight 0..36",
            ],
        ),
    ];
    for (name, parameter, pieces) in cases {
        assert_eq!(fixture(name).resolve().pieces(parameter), pieces, "{name}");
    }
}

#[test]
fn the_names_of_transformers_5_own_classes_are_known_too() {
    let nomic = fixture("nomic-5-mlm");
    let expected = nomic.encoder();
    let native = nomic.renamed(|name| {
        [
            ("encoder.layers", "layers"),
            ("emb_ln", "embeddings.LayerNorm"),
            ("attn.out_proj", "self_attn.o_proj"),
            ("fc11", "up_proj"),
            ("fc12", "gate_proj"),
            ("fc2", "down_proj"),
            ("norm1", "post_attention_layernorm"),
            ("norm2", "post_mlp_layernorm"),
            ("transform.layer_norm", "transform.LayerNorm"),
        ]
        .iter()
        .fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
    });
    let resolved = native.resolve();
    assert_eq!(resolved.encoder, expected);
    let gate = &resolved.pieces("layer.0.ffn.up.weight")[0];
    assert_eq!(gate, "nomic_bert.layers.0.mlp.gate_proj.weight 0..36");
}

#[test]
fn prefixes_and_the_first_names_of_gains_change_nothing() {
    let expected = fixture("roberta-mlm").encoder();
    let bare = fixture("roberta-mlm").renamed(|name| name.replace("roberta.", ""));
    assert_eq!(bare.encoder(), expected);
    let wrapped = fixture("roberta-mlm").renamed(|name| format!("module.{name}"));
    assert_eq!(wrapped.encoder(), expected);
    let antique = fixture("bert").renamed(|name| {
        let gamma = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        gamma.replace("LayerNorm.bias", "LayerNorm.beta")
    });
    let resolved = antique.resolve();
    assert_eq!(
        resolved.pieces("embed.norm.gain"),
        ["embeddings.LayerNorm.gamma 0..24"]
    );
    assert_eq!(
        resolved.pieces("layer.1.ffn_norm.bias"),
        ["encoder.layer.1.output.LayerNorm.beta 0..24"]
    );
}

#[test]
fn the_first_settings_of_bert_have_the_head_of_their_weights() {
    let mut antique = fixture("bert")
        .without("model_type")
        .without("architectures");
    assert_eq!(antique.encoder().head.unwrap().task, Task::Vector);
    antique
        .tensors
        .insert("classifier.weight".to_owned(), vec![5, 24]);
    antique
        .tensors
        .insert("classifier.bias".to_owned(), vec![5]);
    let Task::Sequence(sequence) = antique.encoder().head.unwrap().task else {
        panic!("expected labels of a sequence");
    };
    assert_eq!(sequence.labels.len(), 5);
    assert_eq!(sequence.problem, Problem::SingleLabel);
}

#[test]
fn labels_are_as_many_as_the_weights_have() {
    let labels = |fixture: &Fixture| match fixture.encoder().head.unwrap().task {
        Task::Sequence(sequence) => (sequence.labels, sequence.problem),
        other => panic!("expected labels of a sequence, found {other:?}"),
    };
    // Three outputs, beside the default names of two.
    let two = serde_json::json!({"0": "LABEL_0", "1": "LABEL_1"});
    let early = fixture("gte-5")
        .set("id2label", two)
        .set("num_labels", 3.into());
    let (names, problem) = labels(&early);
    assert_eq!(names, ["LABEL_0", "LABEL_1", "LABEL_2"]);
    assert_eq!(problem, Problem::SingleLabel);
    assert!(
        early
            .set("num_labels", 4.into())
            .fault()
            .contains("classifier")
    );
    // One output is a number only if the settings say so.
    let mut one = fixture("gte-5").set("id2label", serde_json::json!({"0": "LABEL_0"}));
    one.tensors
        .insert("classifier.weight".to_owned(), vec![1, 24]);
    one.tensors.insert("classifier.bias".to_owned(), vec![1]);
    assert_eq!(labels(&one).1, Problem::MultiLabel);
    let number = one.set("problem_type", "regression".into());
    assert_eq!(labels(&number).1, Problem::Regression);
}

#[test]
fn a_class_whose_head_the_weights_lack_is_a_body() {
    let mut body = fixture("mpnet-mlm");
    body.tensors.retain(|name, _| !name.starts_with("lm_head"));
    assert_eq!(body.encoder().head, None);
    // Half a head is a fault.
    let mut half = fixture("mpnet-mlm");
    half.tensors.remove("lm_head.dense.weight");
    assert!(
        half.fault()
            .contains("tensor \"lm_head.dense.weight\": expected [24, 24], found nothing")
    );
}

#[test]
fn a_tied_map_is_the_token_table_even_where_a_copy_was_saved() {
    let mut copied = fixture("roberta-mlm");
    copied
        .tensors
        .insert("lm_head.decoder.weight".to_owned(), vec![42, 24]);
    copied
        .tensors
        .insert("lm_head.decoder.bias".to_owned(), vec![42]);
    let resolved = copied.resolve();
    assert!(resolved.encoder.head.as_ref().unwrap().output.unwrap().tied);
    assert_eq!(resolved.pieces("head.output.bias"), ["lm_head.bias 0..42"]);
}

#[test]
fn missing_unknown_and_misshapen_tensors_are_one_error() {
    let mut bert = fixture("bert");
    bert.tensors.remove("encoder.layer.0.output.dense.bias");
    bert.tensors.insert(
        "encoder.layer.1.attention.self.key.weight".to_owned(),
        vec![24, 23],
    );
    bert.tensors
        .insert("embeddings.LayerNorm.weight".to_owned(), Vec::new());
    bert.tensors
        .insert("encoder.layer.2.output.dense.bias".to_owned(), vec![24]);
    let fault = bert.fault();
    for expected in [
        "4 faults",
        r#"tensor "encoder.layer.0.output.dense.bias": expected [24], found nothing"#,
        r#"tensor "encoder.layer.1.attention.self.key.weight": expected [24, 24], found [24, 23]"#,
        r#"tensor "embeddings.LayerNorm.weight": expected [24], found []"#,
        r#"tensor "encoder.layer.2.output.dense.bias": not expected, found [24]"#,
    ] {
        assert!(fault.contains(expected), "{expected}\nis not in\n{fault}");
    }
}

#[test]
fn buffers_and_heads_of_other_tasks_are_no_faults() {
    let mut bert = fixture("bert-relative-key");
    for name in [
        "bert.embeddings.position_ids",
        "cls.seq_relationship.weight",
        "cls.predictions.bias",
        "qa_outputs.weight",
        "bert.encoder.layer.0.attention.rotary_emb.inv_freq",
    ] {
        bert.tensors.insert(name.to_owned(), vec![1]);
    }
    let expected = fixture("bert-relative-key").resolve();
    assert_eq!(bert.resolve(), expected);
    bert.tensors
        .insert("bert.embeddings.further.weight".to_owned(), vec![1]);
    assert!(bert.fault().contains("bert.embeddings.further.weight"));
}

#[test]
fn mpnet_has_32_buckets_whatever_the_settings_say() {
    let mut mpnet = fixture("mpnet-mlm").set("relative_attention_num_buckets", json!(64));
    let table = "mpnet.encoder.relative_attention_bias.weight";
    mpnet.tensors.insert(table.to_owned(), vec![64, 3]);
    assert_eq!(
        mpnet.resolve().pieces("relative.weight"),
        [format!("{table} 0..32")]
    );
}

#[test]
fn positions_of_each_family_are_as_its_code_has_them() {
    let embed = fixture("roberta-mlm").encoder().embed;
    assert_eq!(embed.positions.unwrap().offset, 2);
    let roberta = fixture("roberta-mlm").encoder();
    assert_eq!(roberta.max_len, roberta.embed.positions.unwrap().rows - 2);
    let key = fixture("bert-relative-key").encoder();
    assert_eq!(key.embed.positions, None);
    let Position::Key(relative) = &key.layers[0].attention().unwrap().attention.position else {
        panic!("expected vectors per distance");
    };
    assert_eq!((relative.max_distance, relative.keys), (27, false));
    let albert = fixture("albert-mlm").encoder();
    let weights: Vec<_> = albert.layers.iter().map(Layer::weights).collect();
    assert_eq!(weights, [0, 1, 0, 1, 2, 3, 2, 3]);
    let first = |name: &str| {
        fixture(name).encoder().layers[0]
            .attention()
            .unwrap()
            .clone()
    };
    // Three terms of 8 channels each.
    assert!((first("deberta-v2-apart").attention.scale - 24f32.sqrt().recip()).abs() < 1e-7);
    assert_eq!(first("deberta-v2-conv").convolution.unwrap().kernel, 3);
    assert!(matches!(first("jina").attention.position, Position::Alibi));
    let norm: Option<Norm> = first("jina-qk").attention.qk_norm;
    assert!(norm.is_some_and(|norm| norm.bias));
}

#[test]
fn modernbert_layers_see_what_both_generations_say() {
    let turns = |encoder: &Encoder| -> Vec<(Option<usize>, f32)> {
        let one = |layer: &Layer| {
            let layer = layer.attention().unwrap();
            let Position::Rotary(rotary) = &layer.attention.position else {
                panic!("expected rotary positions");
            };
            (layer.attention.window, rotary.frequencies[2])
        };
        encoder.layers.iter().map(one).collect()
    };
    let old = fixture("modernbert-biased").encoder();
    let seen: Vec<_> = turns(&old);
    assert_eq!(seen[0].0, None);
    assert_eq!((seen[1].0, seen[2].0), (Some(4), None));
    assert!((seen[0].1 - 160_000f32.powf(-0.5)).abs() < 1e-8);
    assert!((seen[1].1 - 0.01).abs() < 1e-8);
    assert_eq!(old.layers[0].attention().unwrap().mixer_norm, None);
    assert_eq!(old.head.unwrap().pool, Some(Pool::Mean));
    let new = turns(&fixture("modernbert-5").encoder());
    let windows: Vec<_> = new.iter().map(|(window, _)| *window).collect();
    assert_eq!(windows, [Some(3), None, Some(3), None]);
    assert!((new[0].1 - 30f32.powf(-0.5)).abs() < 1e-6);
    assert!((new[1].1 - 500f32.powf(-0.5)).abs() < 1e-6);
}

#[test]
fn rotary_angles_are_scaled_as_the_settings_say() {
    let angles = |fixture: Fixture| {
        let encoder = fixture.encoder();
        let Position::Rotary(rotary) = &encoder.layers[0].attention().unwrap().attention.position
        else {
            panic!("expected rotary positions");
        };
        rotary.frequencies.clone()
    };
    // https://kexue.fm/archives/9706: theta 200 grows by 8, angles of 8 channels shrink by 8^(2/8).
    let ntk = angles(fixture("gte"));
    for (pair, angle) in ntk.into_iter().enumerate() {
        let expected = 1600f64.powf(-(pair as f64) / 4.0) / 8f64.powf(0.25);
        assert!((f64::from(angle) / expected - 1.0).abs() < 1e-6);
    }
    let linear = json!({"rope_type": "linear", "rope_theta": 10_000, "factor": 4});
    let linear = angles(fixture("gte-5").set("rope_parameters", linear));
    assert!((linear[0] - 0.25).abs() < 1e-7);
    let yarn = fixture("gte-5").set("rope_parameters", json!({"rope_type": "yarn"}));
    assert!(yarn.fault().contains(
        "rope_parameters: rope_type: expected one of default, linear, dynamic, ntk, found \"yarn\""
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_is_not_supported_is_named_with_what_was_found() {
    let cases = [
        (
            "bert",
            "is_decoder",
            json!(true),
            "is_decoder: true is not supported",
        ),
        (
            "bert",
            "pruned_heads",
            json!({"0": [1]}),
            "pruned_heads: {\"0\":[1]} is not supported",
        ),
        (
            "bert",
            "model_type",
            json!("t5"),
            "model_type: expected one of bert, roberta, xlm-roberta",
        ),
        (
            "bert",
            "hidden_act",
            json!("mish"),
            "hidden_act: expected one of gelu, gelu_python, gelu_new",
        ),
        (
            "bert",
            "hidden_size",
            json!(25),
            "num_attention_heads: expected a divisor of hidden_size, 25, found 3",
        ),
        (
            "bert",
            "num_attention_heads",
            json!(0),
            "num_attention_heads: expected a whole number from 1",
        ),
        (
            "bert",
            "position_embedding_type",
            json!("sine"),
            "position_embedding_type: expected one of absolute",
        ),
        (
            "nomic",
            "num_experts",
            json!(8),
            "num_experts: 8 is not supported",
        ),
        (
            "nomic",
            "prenorm",
            json!(true),
            "prenorm: true is not supported",
        ),
        (
            "nomic",
            "rotary_emb_scale_base",
            json!(512),
            "rotary_emb_scale_base: 512 is not supported",
        ),
        (
            "gte",
            "logn_attention_scale",
            json!(true),
            "logn_attention_clip1: scores that shrink",
        ),
        (
            "deberta-v2-conv",
            "conv_kernel_size",
            json!(4),
            "conv_kernel_size: expected an odd number",
        ),
        (
            "deberta-v2-conv",
            "pos_att_type",
            json!("p2p"),
            "pos_att_type: expected c2p, p2c or both, found \"p2p\"",
        ),
        (
            "modernbert-5",
            "layer_types",
            json!(["full_attention"]),
            "layer_types: expected one for each of 4 layers, found 1",
        ),
        (
            "xlm-roberta",
            "id2label",
            json!({"0": "a", "2": "b"}),
            "id2label: expected texts numbered from 0",
        ),
        (
            "xlm-roberta",
            "problem_type",
            json!("ranking"),
            "problem_type: expected one of single_label",
        ),
    ];
    for (name, key, value, expected) in cases {
        let fault = fixture(name).set(key, value).fault();
        assert!(fault.contains(expected), "{expected}\nis not in\n{fault}");
    }
}

#[test]
fn settings_alone_cannot_ask_for_any_amount_of_memory() {
    let long = |name: &str| fixture(name).set("max_position_embeddings", json!(1 << 24));
    let fault = long("gte").set("num_attention_heads", json!(1)).fault();
    let expected =
        "max_position_embeddings: tables of positions and distances would have 402653184 values";
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn all_faults_of_the_settings_are_one_error() {
    let bert = fixture("bert")
        .set("hidden_act", json!("mish"))
        .set("vocab_size", json!("many"))
        .set("layer_norm_eps", json!(-1))
        .without("num_hidden_layers");
    let fault = bert.fault();
    assert!(fault.contains("4 faults"), "{fault}");
    for key in [
        "hidden_act",
        "vocab_size",
        "layer_norm_eps",
        "num_hidden_layers",
    ] {
        assert!(
            fault.contains(&format!("config.json: {key}: expected")),
            "{fault}"
        );
    }
}

#[test]
fn hostile_values_of_any_key_end_in_a_fault_that_names_a_key_or_in_a_sane_encoder() {
    let values = [
        json!(0),
        json!(-1),
        json!(3),
        json!(1_u64 << 40),
        json!(u64::MAX),
        json!(1e300),
        json!(1e-300),
        json!("x"),
        json!([]),
        json!([[1]]),
        json!({}),
        json!({"0": {}}),
        json!(true),
        Value::Null,
    ];
    for fixture in fixtures() {
        let name = fixture.name;
        for key in fixture.config.keys() {
            for value in &values {
                let hostile = fixture.clone().set(key, value.clone());
                match hostile
                    .described()
                    .and_then(|folder| folder.resolve(&hostile.tensors))
                {
                    Ok(resolved) => {
                        let scale = resolved.encoder.layers[0]
                            .attention()
                            .unwrap()
                            .attention
                            .scale;
                        assert!(scale.is_finite() && scale > 0.0, "{name}: {key}: {value}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        let names = error.contains("config.json: ") || error.contains("tensor \"");
                        assert!(names, "{name}: {key}: {value}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn files_that_are_no_settings_end_in_errors_with_their_path() {
    let deep = "[".repeat(100_000);
    for (content, expected) in [
        ("", "config.json: is no JSON: EOF"),
        ("[1]", "config.json: expected an object, found [1]"),
        (
            "{\"hidden_size\": NaN}",
            "config.json: is no JSON: expected value",
        ),
        (
            deep.as_str(),
            "config.json: is no JSON: recursion limit exceeded",
        ),
        (
            "{}",
            "config.json: model_type: expected the name of a family, found nothing",
        ),
    ] {
        let fault = Scratch::new(&[("config.json", content), ("model.safetensors", "")]).fault();
        assert!(fault.contains(expected), "{expected}\nis not in\n{fault}");
    }
    let scratch = Scratch::new(&[("README.md", "")]);
    for (name, found) in [("README.md", "a file"), ("absent", "nothing")] {
        let fault = Folder::read(&scratch.0.join(name)).unwrap_err().to_string();
        let expected = format!("{name}: expected a model folder, found {found}");
        assert!(fault.ends_with(&expected), "{fault}");
    }
    let fault = scratch.fault();
    assert!(fault.contains("config.json: expected the model's settings, found no such file"));
}

#[test]
fn weights_are_one_file_or_those_of_an_index_within_the_folder() {
    let config = serde_json::to_string(&fixture("bert").config).unwrap();
    let read = |files: &[(&str, &str)]| {
        let mut all = vec![("config.json", config.as_str())];
        all.extend(files);
        let scratch = Scratch::new(&all);
        let folder = scratch.read().map_err(|error| error.to_string())?;
        let name = |path: &PathBuf| path.strip_prefix(&scratch.0).unwrap().display().to_string();
        Ok::<Vec<String>, String>(folder.weights.iter().map(name).collect())
    };
    let safe = ("model.safetensors", "");
    assert_eq!(
        read(&[("pytorch_model.bin", ""), safe]).unwrap(),
        ["model.safetensors"]
    );
    assert_eq!(
        read(&[("pytorch_model.bin", "")]).unwrap(),
        ["pytorch_model.bin"]
    );
    let index = r#"{"weight_map": {"a": "2.bin", "b": "1.bin", "c": "2.bin"}}"#;
    let index = ("pytorch_model.bin.index.json", index);
    assert_eq!(
        read(&[index, ("1.bin", ""), ("2.bin", "")]).unwrap(),
        ["1.bin", "2.bin"]
    );
    let fault = read(&[index, ("1.bin", "")]).unwrap_err();
    assert!(
        fault.contains(
            "expected 2 files in this folder, found it without 1 of them (2.bin); fetch them too"
        ),
        "{fault}"
    );
    let none = ("model.safetensors.index.json", r#"{"weight_map": {}}"#);
    let fault = read(&[none]).unwrap_err();
    assert!(fault.contains("at least one file, found none"), "{fault}");
    let pointer = "version https://git-lfs.github.com/spec/v1\n";
    let fault = read(&[("model.safetensors.index.json", pointer)]).unwrap_err();
    assert!(fault.contains("run git lfs pull"), "{fault}");
    for path in ["../secret", "/etc/passwd"] {
        let index = format!(r#"{{"weight_map": {{"a": "{path}"}}}}"#);
        let fault = read(&[("model.safetensors.index.json", &index)]).unwrap_err();
        assert!(
            fault.contains("weight_map: \"a\": expected a file of this folder"),
            "{fault}"
        );
    }
    assert!(
        read(&[])
            .unwrap_err()
            .contains("found neither; is it a whole model folder?")
    );
    let fault = read(&[("tf_model.h5", "")]).unwrap_err();
    assert!(
        fault.contains("found only tf_model.h5; in Python, load the folder with from_tf=True"),
        "{fault}"
    );
}

/// A folder for embeddings of 24 channels.
fn sentence(files: &[(&str, &str)]) -> Scratch {
    let config = serde_json::to_string(&fixture("bert").config).unwrap();
    let mut all = vec![("config.json", config.as_str()), ("model.safetensors", "")];
    all.extend(files);
    Scratch::new(&all)
}

const OLD_MODULES: &str = r#"[
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

#[test]
fn old_sentence_folders_pool_in_the_order_of_the_flags() {
    let folder = sentence(&[
        ("modules.json", OLD_MODULES),
        (
            "sentence_roberta_config.json",
            r#"{"max_seq_length": 16, "do_lower_case": true}"#,
        ),
        (
            "1_Pooling/config.json",
            r#"{"word_embedding_dimension": 24, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true, "pooling_mode_max_tokens": false}"#,
        ),
        (
            "2_Dense/config.json",
            r#"{"in_features": 48, "out_features": 8, "bias": true, "activation_function": "torch.nn.modules.linear.Identity"}"#,
        ),
    ]);
    let embedder = folder.read().unwrap().embedder.unwrap();
    let [
        Module::Pooling(pooling),
        Module::Dense(dense),
        Module::Normalize,
    ] = &embedder.modules[..]
    else {
        panic!("{embedder:?}");
    };
    assert_eq!(pooling.modes, [PoolingMode::First, PoolingMode::Mean]);
    assert!(pooling.include_prompt);
    assert_eq!(
        (dense.inputs, dense.outputs, dense.activation),
        (48, 8, Activation::Identity)
    );
    assert_eq!(dense.folder, Path::new("2_Dense"));
    assert_eq!((embedder.max_len, embedder.lowercase), (Some(16), true));
}

#[test]
fn sentence_folders_of_release_6_pool_in_the_order_of_the_list() {
    let folder = sentence(&[
        (
            "modules.json",
            r#"[
            {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}]"#,
        ),
        (
            "sentence_bert_config.json",
            r#"{"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}"#,
        ),
        ("tokenizer_config.json", r#"{"model_max_length": 20}"#),
        (
            "1_Pooling/config.json",
            r#"{"embedding_dimension": 24, "pooling_mode": ["lasttoken", "cls"], "include_prompt": false}"#,
        ),
        (
            "config_sentence_transformers.json",
            r#"{"model_type": "SentenceTransformer", "prompts": {"query": "q: "}, "default_prompt_name": "query", "similarity_fn_name": "dot", "truncate_dim": 10}"#,
        ),
    ]);
    let embedder = folder.read().unwrap().embedder.unwrap();
    let [Module::Pooling(pooling)] = &embedder.modules[..] else {
        panic!("{embedder:?}");
    };
    assert_eq!(pooling.modes, [PoolingMode::Last, PoolingMode::First]);
    assert!(!pooling.include_prompt);
    assert_eq!(embedder.max_len, Some(20));
    assert_eq!(embedder.prompts["query"], "q: ");
    assert_eq!(embedder.default_prompt.as_deref(), Some("query"));
    assert_eq!(embedder.similarity.as_deref(), Some("dot"));
    assert_eq!(embedder.truncate_dim, Some(10));
}

#[test]
fn faults_of_sentence_folders_name_their_files() {
    let pooling = r#"{"word_embedding_dimension": 32, "pooling_mode": "best"}"#;
    let dense =
        r#"{"in_features": 7, "out_features": 0, "activation_function": "torch.nn.Hardswish"}"#;
    let fault = sentence(&[
        ("modules.json", OLD_MODULES),
        ("1_Pooling/config.json", pooling),
        ("2_Dense/config.json", dense),
        (
            "config_sentence_transformers.json",
            r#"{"default_prompt_name": "query", "prompts": {"p": 1}}"#,
        ),
    ])
    .fault();
    for expected in [
        "1_Pooling/config.json: embedding_dimension: expected the encoder's width, 24, found 32",
        "1_Pooling/config.json: pooling_mode: expected one or several of cls",
        "2_Dense/config.json: in_features: expected the outputs of the step before, 24, found 7",
        "2_Dense/config.json: out_features: expected a whole number from 1",
        "2_Dense/config.json: activation_function: expected one of Identity",
        "config_sentence_transformers.json: default_prompt_name: expected one of the prompts",
        "config_sentence_transformers.json: prompts: p: expected a text, found 1",
    ] {
        assert!(fault.contains(expected), "{expected}\nis not in\n{fault}");
    }
    for (modules, expected) in [
        ("{}", "modules.json: expected a list of modules"),
        ("[]", "expected the class Transformer first, found nothing"),
        (
            r#"[{"type": "a.WordEmbeddings", "path": ""}]"#,
            "found WordEmbeddings, which is not supported",
        ),
        (
            r#"[{"type": "a.Transformer", "path": "../other"}]"#,
            "expected a folder within the model's",
        ),
        (
            r#"[{"type": "a.Transformer", "path": ""}, {"type": "a.LSTM", "path": "1"}]"#,
            "found LSTM, which is not supported there",
        ),
    ] {
        let fault = sentence(&[("modules.json", modules)]).fault();
        assert!(fault.contains(expected), "{expected}\nis not in\n{fault}");
    }
}

#[test]
fn a_sparse_encoder_is_told_from_others() {
    let modules = |first: &str| {
        format!(
            r#"[{{"path": "", "type": "sentence_transformers.sparse_encoder.models.{first}"}},
                {{"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"}}]"#
        )
    };
    for first in ["MLMTransformer", "Transformer"] {
        let settings = [
            ("modules.json", &*modules(first)),
            (
                "1_SpladePooling/config.json",
                r#"{"pooling_strategy": "max", "activation_function": "relu"}"#,
            ),
            ("sentence_bert_config.json", r#"{"max_seq_length": 16}"#),
            (
                "config_sentence_transformers.json",
                r#"{"model_type": "SparseEncoder"}"#,
            ),
        ];
        let folder = sentence(&settings).read().unwrap();
        assert_eq!((folder.is_sparse, folder.embedder), (true, None));
        assert_eq!(folder.tokenizer_max_len, Some(16));
        let mut sums = settings;
        sums[1].1 = r#"{"pooling_strategy": "sum"}"#;
        let fault = sentence(&sums).fault();
        assert!(
            fault.contains("pooling_strategy") && fault.contains("not supported"),
            "{fault}"
        );
    }
    let pooled =
        r#"[{"type": "a.MLMTransformer", "path": ""}, {"type": "a.Pooling", "path": "1"}]"#;
    let fault = sentence(&[("modules.json", pooled)]).fault();
    assert!(fault.contains("MLMTransformer"), "{fault}");
    assert!(!scratch(&fixture("bert").config).read().unwrap().is_sparse);
}

#[test]
fn a_cross_encoder_says_what_makes_scores() {
    let read = |bert: Fixture| scratch(&bert.config).read().unwrap().score_activation;
    let new = json!({"activation_fn": "torch.nn.modules.linear.Identity"});
    assert_eq!(
        read(fixture("bert").set("sentence_transformers", new)),
        Some(ScoreActivation::Each(Activation::Identity))
    );
    let old = json!("torch.nn.modules.activation.Sigmoid");
    assert_eq!(
        read(fixture("bert").set("sbert_ce_default_activation_function", old)),
        Some(ScoreActivation::Each(Activation::Sigmoid))
    );
    assert_eq!(read(fixture("bert")), None);
    let six = sentence(&[
        (
            "modules.json",
            r#"[{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]"#,
        ),
        (
            "config_sentence_transformers.json",
            r#"{"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Softmax"}"#,
        ),
    ]);
    let folder = six.read().unwrap();
    assert_eq!(
        (folder.embedder, folder.score_activation),
        (None, Some(ScoreActivation::Softmax))
    );
}

#[test]
fn a_tokenizer_without_a_limit_has_none() {
    let limit = |text: &str| {
        let folder = sentence(&[("tokenizer_config.json", text)]);
        folder.read().unwrap().tokenizer_max_len
    };
    assert_eq!(
        limit(r#"{"model_max_length": 1000000000000000019884624838656}"#),
        None
    );
    assert_eq!(limit(r#"{"model_max_length": 512}"#), Some(512));
    assert_eq!(limit("{}"), None);
}

#[test]
fn our_own_folders_are_not_taken_for_others() {
    let ours = Scratch::new(&[("config.json", r#"{"model_type": "cloze"}"#)]);
    assert!(!Folder::is_at(&ours.0));
    assert!(Folder::is_at(&scratch(&fixture("bert").config).0));
}

/// What is chosen of a repository with these files, read at the same place.
fn listing(scratch: &Scratch, has: &[&str]) -> Listing {
    let listing = Listing::new(&|file| has.contains(&file), &mut |file| {
        Ok::<_, Error>(scratch.0.join(file))
    });
    listing.unwrap()
}

#[test]
fn of_a_repository_only_what_makes_the_model_is_wanted() {
    let scratch = Scratch::new(&[
        (
            "modules.json",
            r#"[{"type": "models.Transformer", "path": "0_Transformer"}, {"type": "models.Pooling", "path": "1_Pooling"},
                {"type": "models.Dense", "path": "2_Dense"}, {"type": "models.Normalize", "path": "3_Normalize"}]"#,
        ),
        (
            "0_Transformer/model.safetensors.index.json",
            r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#,
        ),
    ]);
    let all = [
        "modules.json",
        "README.md",
        "0_Transformer/config.json",
        "0_Transformer/tokenizer.json",
        "0_Transformer/sentence_bert_config.json",
        "0_Transformer/model.safetensors.index.json",
        "0_Transformer/model-1.safetensors",
        "0_Transformer/model-2.safetensors",
        "0_Transformer/pytorch_model.bin",
        "0_Transformer/onnx/model.onnx",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/pytorch_model.bin",
    ];
    let found = listing(&scratch, &all);
    assert!(found.has_modules && found.has_tokenizer);
    assert_eq!(found.missing, [""; 0]);
    let unwanted = [1, 8, 9].map(|place| all[place]);
    let mut wanted: Vec<&str> = found.files.iter().map(String::as_str).collect();
    assert!(wanted[wanted.len() - 1].ends_with("2_Dense/pytorch_model.bin"));
    wanted.sort_unstable();
    let mut expected: Vec<&str> = all.into_iter().filter(|f| !unwanted.contains(f)).collect();
    expected.sort_unstable();
    assert_eq!(wanted, expected);

    let torn: Vec<&str> = all
        .into_iter()
        .filter(|file| !file.contains("-2."))
        .collect();
    let missing = listing(&scratch, &torn).missing;
    assert_eq!(missing, ["0_Transformer/model-2.safetensors"]);
    let bare = listing(&scratch, &["vocab.txt", "tf_model.h5"]);
    assert_eq!(
        bare.missing,
        ["config.json", "model.safetensors or pytorch_model.bin"]
    );
    assert!(bare.has_tokenizer && !bare.has_modules);
}

#[test]
fn operations_are_those_of_maps_and_of_tokens_that_see_each_other() {
    let mut encoder = fixture("bert").try_resolve().unwrap().encoder;
    let mut first = encoder.layers[0].attention().unwrap().clone();
    let (len, width, ffn) = (7, encoder.width, first.ffn.width);
    let maps = 2 * len * (4 * width * width + 2 * width * ffn);
    let layer = (maps + 4 * len * len * width) as u64;
    let layers = encoder.layers.len() as u64;
    assert_eq!(encoder.operations(len), Some(layers * layer));
    // One token to each side: two at the ends, three elsewhere.
    first.attention.window = Some(1);
    encoder.layers = vec![Layer::Attention(first)];
    let seen = 2 * 2 + 3 * (len - 2);
    let operations = (maps + 4 * seen * width) as u64;
    assert_eq!(encoder.operations(len), Some(operations));
}
