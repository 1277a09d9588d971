use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cloze_spec::recipe::{Any, Source};

use crate::arguments::Recipes;
use crate::table;

/// The built-in recipes: name and text. A size is named `system/size`.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("ad-bert", include_str!("../recipes/ad-bert/recipe.toml")),
    (
        "ad-bert/mean",
        include_str!("../recipes/ad-bert/sizes/mean.toml"),
    ),
    ("bert", include_str!("../recipes/bert/recipe.toml")),
    (
        "bert/answer",
        include_str!("../recipes/bert/sizes/answer.toml"),
    ),
    (
        "bert/classify",
        include_str!("../recipes/bert/sizes/classify.toml"),
    ),
    (
        "bert/multilabel",
        include_str!("../recipes/bert/sizes/multilabel.toml"),
    ),
    (
        "bert/regress",
        include_str!("../recipes/bert/sizes/regress.toml"),
    ),
    ("bert/tag", include_str!("../recipes/bert/sizes/tag.toml")),
    ("bert4rec", include_str!("../recipes/bert4rec/recipe.toml")),
    (
        "bert4rec/beauty",
        include_str!("../recipes/bert4rec/sizes/beauty.toml"),
    ),
    (
        "bert4rec/ml-1m",
        include_str!("../recipes/bert4rec/sizes/ml-1m.toml"),
    ),
    (
        "bert4rec/online-retail",
        include_str!("../recipes/bert4rec/sizes/online-retail.toml"),
    ),
    (
        "personality",
        include_str!("../recipes/personality/recipe.toml"),
    ),
    (
        "personality/encoder",
        include_str!("../recipes/personality/sizes/encoder.toml"),
    ),
    (
        "personality/forest",
        include_str!("../recipes/personality/sizes/forest.toml"),
    ),
    (
        "personality/svm",
        include_str!("../recipes/personality/sizes/svm.toml"),
    ),
    (
        "prompt-injection",
        include_str!("../recipes/prompt-injection/recipe.toml"),
    ),
    (
        "prompt-injection/bayes",
        include_str!("../recipes/prompt-injection/sizes/bayes.toml"),
    ),
    (
        "prompt-injection/forest",
        include_str!("../recipes/prompt-injection/sizes/forest.toml"),
    ),
    (
        "prompt-injection/svm",
        include_str!("../recipes/prompt-injection/sizes/svm.toml"),
    ),
    (
        "prompt-injection/terms",
        include_str!("../recipes/prompt-injection/sizes/terms.toml"),
    ),
    ("sasrec", include_str!("../recipes/sasrec/recipe.toml")),
    (
        "sasrec/ml-1m",
        include_str!("../recipes/sasrec/sizes/ml-1m.toml"),
    ),
    (
        "sasrec/online-retail",
        include_str!("../recipes/sasrec/sizes/online-retail.toml"),
    ),
];

fn built_in(name: &str) -> Option<Source> {
    let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(Source {
        name: format!("recipe {name}"),
        text: (*text).to_owned(),
    })
}

/// The recipe of this name, or in this file, with `overrides` put over it.
pub fn resolve(name: &str, overrides: &[String]) -> anyhow::Result<Any> {
    let source = match built_in(name) {
        Some(source) => source,
        None if Path::new(name).is_file() => Source::read(Path::new(name))?,
        None => {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            anyhow::bail!(
                "{name}: expected a built-in recipe ({}) or a TOML file, found neither",
                names.join(", ")
            );
        }
    };
    Ok(Any::parse(&source, built_in, overrides)?)
}

pub fn run(args: &Recipes) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if let Some(name) = &args.name {
        let recipe = resolve(name, &args.set)?;
        write!(out, "{}", recipe.to_toml())?;
        return Ok(());
    }
    let rows = BUILT_IN.iter().map(|(name, _)| {
        let recipe = resolve(name, &[]).with_context(|| format!("built-in recipe {name}"))?;
        let paper = recipe
            .paper()
            .map_or_else(String::new, |p| format!("{} ({})", p.title, p.venue));
        Ok(vec![(*name).to_owned(), paper])
    });
    let rows: Vec<Vec<String>> = rows.collect::<anyhow::Result<_>>()?;
    writeln!(out, "{}", table::plain(&["recipe", "paper"], &rows))?;
    writeln!(
        out,
        "cloze recipes NAME prints one; cloze train NAME --data FILE -o DIR trains it."
    )?;
    Ok(())
}
