//! Writes a tiny folder with random weights for every family and task, for `tools/golden/drafts.py` to judge.
//!
//! `drafts OUT` drafts new encoders; `drafts OUT FOLDER…` drafts what these folders have, under new heads.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_runtime::cpu::Options;
use cloze_runtime::model::{Checkpoint, open};
use cloze_spec::encoder::{Problem, Sequence, Task};
use cloze_spec::hugging_face::Draft;
use cloze_spec::inventory::{Parameter, encoder_parameters};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Map, Value, json};

const VOCAB: usize = 42;

fn tasks() -> [(&'static str, Task); 7] {
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    let sequence = |names: &[&str], problem| {
        let labels = labels(names);
        Task::Sequence(Sequence { labels, problem })
    };
    [
        ("vector", Task::Vector),
        ("mask", Task::MaskedToken),
        (
            "class",
            sequence(&["no", "maybe", "yes"], Problem::SingleLabel),
        ),
        ("classes", sequence(&["red", "round"], Problem::MultiLabel)),
        ("number", sequence(&["stars"], Problem::Regression)),
        (
            "token",
            Task::Token {
                labels: labels(&["O", "B-PER", "I-PER"]),
            },
        ),
        ("span", Task::Span),
    ]
}

/// Settings of small encoders, so that every part of a family is there once.
fn settings() -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("bert", json!({"model_type": "bert"})),
        (
            "bert-untied",
            json!({"model_type": "bert", "tie_word_embeddings": false, "hidden_act": "relu"}),
        ),
        ("roberta", json!({"model_type": "roberta"})),
        (
            "roberta-untied",
            json!({"model_type": "roberta", "tie_word_embeddings": false}),
        ),
        (
            "xlm-roberta",
            json!({"model_type": "xlm-roberta", "type_vocab_size": 1}),
        ),
        ("camembert", json!({"model_type": "camembert"})),
        (
            "albert",
            json!({"model_type": "albert", "embedding_size": 16}),
        ),
        (
            "electra",
            json!({"model_type": "electra", "embedding_size": 16}),
        ),
        (
            "electra-wide",
            json!({"model_type": "electra", "embedding_size": 24}),
        ),
        ("mpnet", json!({"model_type": "mpnet"})),
        ("deberta-v2", json!({"model_type": "deberta-v2"})),
        (
            "deberta-v3",
            json!({"model_type": "deberta-v2", "relative_attention": true, "pos_att_type": ["p2c", "c2p"], "share_att_key": true,
                "norm_rel_ebd": "layer_norm", "position_buckets": 8, "position_biased_input": false}),
        ),
        (
            "deberta-apart",
            json!({"model_type": "deberta-v2", "relative_attention": true, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2,
                "conv_kernel_size": 3, "conv_act": "gelu", "embedding_size": 16}),
        ),
        ("nomic_bert", json!({"model_type": "nomic_bert"})),
        ("gte", json!({"model_type": "gte"})),
    ];
    for (_, settings) in &mut all {
        let settings = settings.as_object_mut().expect("settings are an object");
        for (key, value) in [
            ("hidden_size", 24),
            ("num_attention_heads", 3),
            ("num_hidden_layers", 2),
            ("intermediate_size", 36),
            ("max_position_embeddings", 30),
        ] {
            settings.insert(key.to_owned(), value.into());
        }
    }
    all.push((
        "distilbert",
        json!({"model_type": "distilbert", "dim": 24, "n_heads": 3, "n_layers": 2, "hidden_dim": 36, "max_position_embeddings": 30}),
    ));
    for (name, more) in [
        ("modernbert", json!({})),
        (
            "modernbert-biased",
            json!({"norm_bias": true, "mlp_bias": true, "attention_bias": true, "classifier_bias": true,
                "classifier_pooling": "mean", "decoder_bias": false, "global_attn_every_n_layers": 2}),
        ),
    ] {
        let mut settings = json!({"model_type": "modernbert", "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 4,
            "intermediate_size": 36, "max_position_embeddings": 30, "local_attention": 8});
        let own = more.as_object().cloned().unwrap_or_default();
        settings
            .as_object_mut()
            .expect("settings are an object")
            .extend(own);
        all.push((name, settings));
    }
    all
}

/// Evenly spread numbers of unit variance (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32;
        (unit - 0.5) * 12_f32.sqrt()
    }
}

/// Values large enough for every term to show, or those of `checkpoint` where it has the parameter.
fn values(
    draft: &Draft,
    seed: u64,
    checkpoint: Option<&Checkpoint>,
) -> Result<BTreeMap<String, Vec<f32>>, Box<dyn Error>> {
    let mut noise = Noise(seed);
    let parameters = encoder_parameters(draft.encoder()).into_iter();
    let value = |parameter: Parameter| {
        let size = parameter.shape.iter().product();
        let inputs: usize = parameter.shape[1..].iter().product();
        let mut values: Vec<f32> = (0..size)
            .map(|_| match parameter.name.rsplit('.').next() {
                Some("gain") => 1.0 + 0.25 * noise.next(),
                Some("bias") => 0.2 * noise.next(),
                _ if parameter.name.starts_with("embed.") => 0.6 * noise.next(),
                _ => 1.2 * noise.next() / (inputs as f32).sqrt(),
            })
            .collect();
        if let Some(checkpoint) = checkpoint
            && encoder_parameters(&checkpoint.encoder).contains(&parameter)
        {
            checkpoint.read(&parameter, &mut values)?;
        }
        Ok((parameter.name, values))
    };
    parameters.map(value).collect()
}

fn write(
    draft: &Draft,
    values: &BTreeMap<String, Vec<f32>>,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let config = serde_json::to_string_pretty(draft.config())?;
    fs::write(folder.join("config.json"), config)?;
    let shapes: BTreeMap<String, usize> = encoder_parameters(draft.encoder())
        .into_iter()
        .map(|parameter| (parameter.name, parameter.shape[0]))
        .collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = draft
        .tensors()
        .into_iter()
        .map(|target| {
            let values = &values[&target.parameter];
            let row = values.len() / shapes[&target.parameter];
            let rows = target.rows.iter();
            let values = rows.flat_map(|rows| &values[rows.start * row..rows.end * row]);
            let bytes = values.flat_map(|value| value.to_le_bytes()).collect();
            (target.tensor, target.shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.expect("bytes are those of the shape"))
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialize_to_file(views, Some(metadata), &folder.join("model.safetensors"))?;
    // Opens here, too.
    let (_, engine) = open(folder, Options::default())?;
    drop(engine);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().ok_or("expected a folder to write to")?;
    let sources: Vec<PathBuf> = arguments.collect();
    let mut drafts = Vec::new();
    for (task_name, task) in tasks() {
        for (name, settings) in settings().into_iter().filter(|_| sources.is_empty()) {
            let settings: Map<String, Value> = serde_json::from_value(settings)?;
            let draft = Draft::new(settings, VOCAB, task.clone());
            drafts.push((format!("new-{name}.{task_name}"), draft, None));
        }
        for source in &sources {
            let checkpoint = Checkpoint::open(source)?;
            let draft = Draft::of(&checkpoint.folder, &checkpoint.encoder, task.clone());
            let name = source.file_name().unwrap_or_default().display().to_string();
            drafts.push((format!("{name}.{task_name}"), draft, Some(checkpoint)));
        }
    }
    for (seed, (name, draft, checkpoint)) in (0..).zip(drafts) {
        match draft {
            Ok(draft) => {
                let values = values(&draft, seed, checkpoint.as_ref())?;
                write(&draft, &values, &out.join(&name))
                    .map_err(|error| format!("{name}: {error}"))?;
            }
            Err(error) => println!("{name}: {error}"),
        }
    }
    Ok(())
}
