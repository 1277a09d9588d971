use std::io::Write;
use std::path::Path;

use cloze_spec::folder::{CONFIG, Config, ITEMS};
use cloze_spec::inventory::parameters;
use cloze_spec::{Model, folder};

use crate::arguments::Inspect;
use crate::{recipes, table};

pub fn run(args: &Inspect) -> anyhow::Result<()> {
    let folder = Path::new(&args.what);
    let mut out = std::io::stdout();
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
