use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cloze_data::text::Tokenizer;
use cloze_runtime::cpu::{CpuEngine, Isa};
use cloze_runtime::hub::is_name;
use cloze_runtime::model::Checkpoint;
use cloze_spec::encoder::{Activation, Encoder, Layer, Order, Position, Problem, Task};
use cloze_spec::folder::{CONFIG, Config, ITEMS};
use cloze_spec::hugging_face::Folder;
use cloze_spec::inventory::{Parameter, encoder_parameters, parameters};
use cloze_spec::recipe::Any;
use cloze_spec::sentence::{Module, PoolingMode};
use cloze_spec::{Model, folder};
use serde_json::Value;

use crate::arguments::Inspect;
use crate::{hub, recipes, table};

/// Labels that are shown.
const LABELS: usize = 6;

pub fn run(args: &Inspect) -> anyhow::Result<()> {
    let folder = Path::new(&args.what);
    let mut out = std::io::stdout();
    if folder.is_dir() && Folder::is_at(folder) {
        return encoder(&args.what, folder, args.parameters);
    }
    let (model, items) = if folder.is_dir() {
        let config = Config::read(folder)?;
        let vocabulary = cloze_data::ItemVocabulary::read(&folder.join(ITEMS))?;
        let titled = (0..vocabulary.len() as u32)
            .filter(|&i| vocabulary.title(i).is_some())
            .count();
        writeln!(out, "model folder  {}", folder.display())?;
        writeln!(
            out,
            "items         {} ({titled} with a title)",
            vocabulary.len()
        )?;
        for name in [
            CONFIG,
            folder::WEIGHTS,
            ITEMS,
            folder::RECIPE,
            folder::METRICS,
            "report.html",
        ] {
            let size = std::fs::metadata(folder.join(name)).map(|m| m.len());
            let size = size.map_or_else(|_| "missing".to_owned(), |bytes| format!("{bytes} bytes"));
            writeln!(out, "  {name:18} {size}")?;
        }
        (config.model, config.items)
    } else {
        let recipe = match recipes::resolve(&args.what, &[]) {
            Err(error) if !folder.exists() && is_name(&args.what) => {
                let folder = hub::folder(folder, &args.by_name).context(error)?;
                return encoder(&args.what, &folder, args.parameters);
            }
            other => other?,
        };
        if let Some(paper) = recipe.paper() {
            writeln!(out, "paper         {} ({})", paper.title, paper.venue)?;
        }
        match recipe {
            // A recipe has no items before it meets data.
            Any::Items(recipe) => (recipe.model, 0),
            Any::Text(recipe) => {
                writeln!(out, "{}", indent(&toml::to_string(&recipe.model)?))?;
                return Ok(());
            }
        }
    };
    describe(&mut out, &model, items, args.parameters)?;
    Ok(())
}

fn describe(out: &mut impl Write, model: &Model, items: usize, list: bool) -> anyhow::Result<()> {
    let parameters = parameters(model, items);
    let count: usize = parameters
        .iter()
        .map(|p| p.shape.iter().product::<usize>())
        .sum();
    let without = if items == 0 {
        " and a vector and bias an item"
    } else {
        ""
    };
    writeln!(out, "parameters    {count}{without}")?;
    writeln!(out, "architecture\n{}", indent(&toml::to_string(model)?))?;
    if list {
        list_parameters(out, &parameters)?;
    }
    Ok(())
}

fn list_parameters(out: &mut impl Write, parameters: &[Parameter]) -> anyhow::Result<()> {
    let row = |p: &Parameter| vec![p.name.clone(), format!("{:?}", p.shape)];
    let rows: Vec<Vec<String>> = parameters.iter().map(row).collect();
    writeln!(out, "{}", table::plain(&["parameter", "shape"], &rows))?;
    Ok(())
}

fn indent(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// A pretrained encoder in another tool's folder.
fn encoder(name: &str, folder: &Path, list: bool) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(folder)?;
    let (encoder, settings) = (&checkpoint.encoder, &checkpoint.folder);
    let home = settings.tokenizer.first().and_then(|file| file.parent());
    let tokenizer = Tokenizer::open(home.unwrap_or(folder));
    let parameters = encoder_parameters(encoder);
    let mut lines = vec![("model", kind(name, settings))];
    lines.extend([
        ("encoder", layers(encoder)),
        between(encoder),
        ("input", input(encoder, settings, tokenizer.as_ref().ok())),
        (
            "tokenizer",
            tokenizer
                .as_ref()
                .map_or_else(|error| format!("none to read: {error}"), vocabulary),
        ),
        ("parameters", sizes(&checkpoint, &parameters)),
    ]);
    // A head with labels is what such a model is for; the vector of the whole text is not what embeds it.
    let head = encoder.head.as_ref().map(|head| &head.task);
    let judges = matches!(
        head,
        Some(Task::Sequence(_) | Task::Token { .. } | Task::Span)
    );
    if !judges {
        lines.extend(embeddings(encoder, settings));
    }
    if let Some(task) = head.filter(|task| **task != Task::Vector) {
        lines.push(("head", meaning(task)));
    }
    let threads = rayon::current_num_threads();
    let runs_here = CpuEngine::runs(encoder);
    let devices = [
        ("CPU", true),
        ("CUDA", cfg!(feature = "cuda")),
        ("Metal", cfg!(feature = "metal")),
        ("Vulkan", cfg!(feature = "vulkan")),
    ];
    let devices = devices
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name);
    let devices: Vec<&str> = devices.collect();
    lines.extend([(
        "runs on",
        if runs_here {
            format!(
                "the CPU engine, here by {} on {threads} threads; in programs, also Burn on {}",
                Isa::detect().name(),
                devices.join(", ")
            )
        } else {
            format!("Burn on {}", devices.join(", "))
        },
    )]);
    if runs_here {
        lines.push(("memory", storages(encoder, &parameters)));
    }
    lines.extend([(
        "next",
        format!(
            "cloze {} {name} TEXTS",
            if judges { "predict" } else { "embed" }
        ),
    )]);
    let mut out = std::io::stdout();
    for (name, text) in lines {
        writeln!(out, "{name:12}  {text}")?;
    }
    if list {
        list_parameters(&mut out, &parameters)?;
    }
    Ok(())
}

/// What the folder says that it is.
fn kind(name: &str, settings: &Folder) -> String {
    let text = |key: &str| settings.config.get(key).and_then(Value::as_str);
    let class = settings
        .config
        .get("architectures")
        .and_then(|all| all.get(0)?.as_str());
    let family = class
        .or_else(|| text("model_type"))
        .unwrap_or("of no stated family");
    let from = match settings.embedder {
        Some(_) => "sentence-transformers",
        None if settings.is_ours() => "Cloze alone",
        None => "transformers",
    };
    format!("{name}: {family}, as {from} has it")
}

fn layers(encoder: &Encoder) -> String {
    let count = encoder.layers.len();
    let sets = encoder.layers.iter().map(|layer| layer.weights() + 1).max();
    let sets = sets.filter(|&sets| sets < count);
    let shared = sets.map_or_else(String::new, |sets| {
        format!(" that share {sets} sets of weights")
    });
    let inside = encoder.layers.first().map_or_else(String::new, |layer| {
        let layer = match layer {
            Layer::Attention(layer) => layer,
            Layer::Mixer(layer) => {
                let (ffn, block) = (&layer.parts.ffn, &layer.parts.block);
                return format!("; feed-forward {}; {}", kind_of(ffn), kind_of(block));
            }
        };
        let order = match layer.order {
            Order::PreNorm => "norms before",
            Order::PostNorm => "norms after",
        };
        let gated = if layer.ffn.gated { "gated " } else { "" };
        let (width, activation) = (layer.ffn.width, name_of(layer.ffn.activation));
        format!("; feed-forward {width}, {gated}{activation}; {order}")
    });
    format!(
        "{count} layers of {} channels{shared}{inside}",
        encoder.width
    )
}

fn name_of(activation: Activation) -> String {
    let name = serde_json::to_value(activation).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The `kind` of a component.
fn kind_of(component: &impl serde::Serialize) -> String {
    let settings = serde_json::to_value(component).ok();
    let kind = settings.and_then(|settings| settings.get("kind")?.as_str().map(str::to_owned));
    kind.unwrap_or_default()
}

/// What stands between tokens: attention, or the kinds of mixers, first to last.
fn between(encoder: &Encoder) -> (&'static str, String) {
    let table = encoder.embed.positions.map_or_else(
        || "no positions".to_owned(),
        |positions| format!("a table of {} positions", positions.rows),
    );
    let mixers = encoder.layers.iter().filter_map(|layer| match layer {
        Layer::Attention(_) => None,
        Layer::Mixer(layer) => Some(kind_of(&layer.parts.mixer)),
    });
    let mut mixers: Vec<String> = mixers.collect();
    let all = mixers.len();
    mixers.dedup();
    if mixers.len() == 1 && all > 1 {
        return ("mixer", format!("{}, {table}", mixers[0]));
    }
    if all > 0 {
        return ("mixers", format!("{}; {table}", mixers.join(", ")));
    }
    ("attention", attention(encoder, table))
}

fn attention(encoder: &Encoder, table: String) -> String {
    let mut layers = encoder.layers.iter().filter_map(Layer::attention);
    let Some(first) = layers.next() else {
        return "none".to_owned();
    };
    let positions = match &first.attention.position {
        Position::None => table,
        Position::Rotary(_) => "rotary positions".to_owned(),
        Position::Alibi => "positions by ALiBi".to_owned(),
        Position::Buckets => "positions in buckets".to_owned(),
        Position::Key(_) => "relative positions".to_owned(),
        Position::Disentangled(_) => "disentangled positions".to_owned(),
    };
    let seeing = std::iter::once(first).chain(layers);
    let windows: Vec<usize> = seeing.filter_map(|layer| layer.attention.window).collect();
    let (heads, width) = (first.attention.heads, first.attention.head_width);
    let seen = windows.first().map_or_else(String::new, |window| {
        format!(
            "; {} layers see {window} tokens to each side",
            windows.len()
        )
    });
    format!("{heads} heads of {width}, {positions}{seen}")
}

fn input(encoder: &Encoder, settings: &Folder, tokenizer: Option<&Tokenizer>) -> String {
    let limits = [
        settings
            .embedder
            .as_ref()
            .and_then(|embedder| embedder.max_len),
        settings.tokenizer_max_len,
        tokenizer.and_then(Tokenizer::max_len),
    ];
    let longest = encoder.max_len;
    let max_len = limits.into_iter().flatten().fold(longest, usize::min);
    let room = if max_len < longest {
        format!(" (the encoder would take {longest})")
    } else {
        String::new()
    };
    format!("at most {max_len} tokens{room}; --long says what becomes of longer texts")
}

fn vocabulary(tokenizer: &Tokenizer) -> String {
    let spelled = |id: &u32| tokenizer.token(*id).unwrap_or_else(|| id.to_string());
    let frame = tokenizer.encode_ids(&[], usize::MAX);
    let frame = frame.map_or_else(
        |_| Vec::new(),
        |frame| frame.ids.iter().map(spelled).collect(),
    );
    let around = if frame.is_empty() {
        String::new()
    } else {
        format!("; around a text {}", frame.join(" "))
    };
    let roles = [
        ("mask", tokenizer.mask()),
        ("unknown", tokenizer.unknown()),
        ("padding", tokenizer.pad()),
    ];
    let roles = roles
        .iter()
        .filter_map(|(role, id)| Some(format!("; {role} {}", spelled(id.as_ref()?))));
    format!(
        "{}, {} tokens{around}{}",
        tokenizer.kind(),
        tokenizer.vocabulary_len(),
        roles.collect::<String>()
    )
}

fn sizes(checkpoint: &Checkpoint, parameters: &[Parameter]) -> String {
    let stored = checkpoint.stored();
    let all: usize = stored.values().sum();
    // Numbers of positions and the like are stored too, and are no parameters.
    let stored = stored.iter().filter(|(_, bytes)| **bytes > all / 100);
    let stored = stored.map(|(kind, bytes)| format!("{} of {kind}", memory(*bytes)));
    let stored: Vec<String> = stored.collect();
    let files = &checkpoint.folder.weights;
    let file = files[0].file_name().unwrap_or_default().display();
    let more = if files.len() > 1 {
        format!(" and {} more files", files.len() - 1)
    } else {
        String::new()
    };
    let total: usize = parameters.iter().map(count).sum();
    let tables = parameters.iter().filter(|p| p.name.starts_with("embed."));
    format!(
        "{}, {} of them embeddings; {} in {file}{more}",
        millions(total),
        millions(tables.map(count).sum()),
        stored.join(", ")
    )
}

/// What follows the encoder where it makes embeddings.
fn embeddings(encoder: &Encoder, settings: &Folder) -> Vec<(&'static str, String)> {
    let Some(embedder) = &settings.embedder else {
        let text = "the mean of the token vectors, since the folder has no modules.json".to_owned();
        return vec![("embeddings", text)];
    };
    let mut width = encoder.width;
    let mut steps = Vec::new();
    for module in &embedder.modules {
        steps.push(match module {
            Module::Pooling(pooling) => {
                width *= pooling.modes.len();
                let modes: Vec<&str> = pooling.modes.iter().copied().map(pooled).collect();
                let prompt = if pooling.include_prompt {
                    ""
                } else {
                    " but the prompt's"
                };
                format!("{} of the token vectors{prompt}", modes.join(" beside "))
            }
            Module::Dense(dense) => {
                width = dense.outputs;
                format!("dense to {width}, {}", name_of(dense.activation))
            }
            Module::Normalize => "length 1".to_owned(),
        });
    }
    if let Some(kept) = embedder.truncate_dim {
        width = kept;
        steps.push(format!("the first {kept}"));
    }
    let compared = embedder.similarity.as_deref().unwrap_or("cosine");
    let mut lines = vec![(
        "embeddings",
        format!(
            "{width} dimensions, compared by {compared}: {}",
            steps.join(", then ")
        ),
    )];
    if !embedder.prompts.is_empty() {
        let prompts = embedder.prompts.iter().map(|(name, text)| {
            let is_default = embedder.default_prompt.as_ref() == Some(name);
            let mark = if is_default { ", the default" } else { "" };
            format!("{name} {text:?}{mark}")
        });
        lines.push(("prompts", prompts.collect::<Vec<_>>().join("; ")));
    }
    lines
}

fn pooled(mode: PoolingMode) -> &'static str {
    match mode {
        PoolingMode::First => "the first",
        PoolingMode::Max => "the largest",
        PoolingMode::Mean => "the mean",
        PoolingMode::MeanSqrtLen => "the sum over √n",
        PoolingMode::WeightedMean => "the mean weighed by place",
        PoolingMode::Last => "the last",
    }
}

/// What a head's outputs mean.
fn meaning(task: &Task) -> String {
    let list = |labels: &[String]| {
        let shown = labels
            .iter()
            .take(LABELS)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let more = labels.len().saturating_sub(LABELS);
        if more > 0 {
            format!("{} labels: {shown} and {more} more", labels.len())
        } else {
            format!("{} labels: {shown}", labels.len())
        }
    };
    match task {
        Task::Vector => "a vector of the whole text".to_owned(),
        Task::MaskedToken => "which token a mask hides".to_owned(),
        Task::Span => "where the answer to a question is".to_owned(),
        Task::Token { labels } => format!("each token, {}", list(labels)),
        Task::Sequence(sequence) => {
            let how = match sequence.problem {
                Problem::SingleLabel => "one is true",
                Problem::MultiLabel => "each is true or not",
                Problem::Regression => "a number each",
            };
            format!("texts or pairs, {} ({how})", list(&sequence.labels))
        }
    }
}

/// About how much memory the weights take, by how they are kept: 8-bit ones have a scale for each output.
fn storages(encoder: &Encoder, parameters: &[Parameter]) -> String {
    let is_map = |p: &&Parameter| {
        p.shape.len() == 2
            && !p.name.contains(".distance.")
            && ["layer.", "embed.projection", "head.transform"]
                .iter()
                .any(|part| p.name.starts_with(part))
    };
    let maps: usize = parameters.iter().filter(is_map).map(count).sum();
    let outputs: usize = parameters.iter().filter(is_map).map(|p| p.shape[0]).sum();
    // A head whose map is the token table keeps a copy of it, in panels.
    let output = encoder.head.as_ref().and_then(|head| head.output);
    let copy = output
        .filter(|output| output.tied)
        .map_or(0, |_| encoder.embed.vocab * encoder.embed.width);
    let rest = 4 * (parameters.iter().map(count).sum::<usize>() - maps + copy);
    let kept = [
        ("f32", 4 * maps),
        ("bf16 or f16", 2 * maps),
        ("int8", maps + 4 * outputs),
    ];
    let kept = kept.map(|(name, bytes)| format!("{name} {}", memory(rest + bytes)));
    format!("of weights, by --weights: {}", kept.join(", "))
}

fn count(parameter: &Parameter) -> usize {
    parameter.shape.iter().product()
}

fn millions(count: usize) -> String {
    if count < 1_000_000 {
        count.to_string()
    } else {
        format!("{:.1} million", count as f64 / 1e6)
    }
}

fn memory(bytes: usize) -> String {
    if bytes < 1_000_000 {
        format!("{:.1} kB", bytes as f64 / 1e3)
    } else {
        format!("{:.1} MB", bytes as f64 / 1e6)
    }
}
