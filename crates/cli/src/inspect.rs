use std::io::Write;
use std::path::Path;

use cloze_runtime::model::Checkpoint;
use cloze_spec::encoder::Order;
use cloze_spec::folder::{CONFIG, Config, ITEMS};
use cloze_spec::hugging_face::Folder;
use cloze_spec::inventory::{encoder_parameters, parameters};
use cloze_spec::{Model, folder};

use crate::arguments::Inspect;
use crate::{recipes, table};

pub fn run(args: &Inspect) -> anyhow::Result<()> {
    let folder = Path::new(&args.what);
    let mut out = std::io::stdout();
    if folder.is_dir() && Folder::is_at(folder) {
        return encoder(folder, args.parameters);
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
        let recipe = recipes::resolve(&args.what, &[])?;
        if let Some(paper) = &recipe.paper {
            writeln!(out, "paper         {} ({})", paper.title, paper.venue)?;
        }
        // A recipe has no items before it meets data.
        (recipe.model, 0)
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
        let rows: Vec<Vec<String>> = parameters
            .iter()
            .map(|p| vec![p.name.clone(), format!("{:?}", p.shape)])
            .collect();
        writeln!(out, "{}", table::plain(&["parameter", "shape"], &rows))?;
    }
    Ok(())
}

fn indent(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// A pretrained encoder in another tool's folder.
fn encoder(folder: &Path, list: bool) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(folder)?;
    let encoder = &checkpoint.encoder;
    let mut out = std::io::stdout();
    let parameters = encoder_parameters(encoder);
    let count: usize = parameters
        .iter()
        .map(|p| p.shape.iter().product::<usize>())
        .sum();
    writeln!(out, "model folder  {}, of another tool", folder.display())?;
    writeln!(
        out,
        "encoder       {} layers of {} channels, at most {} tokens",
        encoder.layers.len(),
        encoder.width,
        encoder.max_len
    )?;
    if let Some(layer) = encoder.layers.first() {
        let (attention, ffn) = (&layer.attention, &layer.ffn);
        let order = match layer.order {
            Order::PreNorm => "before",
            Order::PostNorm => "after",
        };
        let gated = if ffn.gated { ", gated" } else { "" };
        writeln!(
            out,
            "layer         {} heads of {}, feed-forward {} {:?}{gated}, norms {order}",
            attention.heads, attention.head_width, ffn.width, ffn.activation
        )?;
    }
    writeln!(out, "vocabulary    {} tokens", encoder.embed.vocab)?;
    writeln!(out, "parameters    {count}")?;
    if let Some(head) = &encoder.head {
        writeln!(out, "head          {:?}", head.task)?;
    }
    for module in checkpoint
        .folder
        .embedder
        .iter()
        .flat_map(|embedder| &embedder.modules)
    {
        writeln!(out, "then          {module:?}")?;
    }
    writeln!(
        out,
        "runs on       the CPU engine: cloze embed {} TEXTS",
        folder.display()
    )?;
    if list {
        for parameter in &parameters {
            writeln!(out, "  {:40} {:?}", parameter.name, parameter.shape)?;
        }
    }
    Ok(())
}
