//! `cargo x new`: the files of a component, with gaps to fill in.
//!
//! It writes what is the same for every component: a settings struct in `spec`, a module in `nn`, a variant in each
//! enum. The matches over those enums are left to the compiler, which lists them. Every gap carries [`GAP`], and the
//! structure check lets none pass.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::workspace::{read, root, shown};

/// What marks a gap.
pub const GAP: &str = concat!("FILL", " IN");

/// Write the files of a new component, with gaps to fill in.
///
/// A mixer or ffn gets settings in crates/spec and a module in crates/nn; an objective gets settings in crates/spec,
/// and its batches are made in crates/data. Then `cargo check -p cloze-nn` lists the matches that want the new variant.
#[derive(clap::Args)]
pub struct Arguments {
    /// What kind of component.
    kind: Kind,
    /// What it does, not who published it: `sliding_window`, not the name of a system.
    name: String,
}

/// Kinds that have an enum to add a variant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Mixes the tokens of a sequence.
    Mixer,
    /// Changes each token by itself.
    Ffn,
    /// Says what is to be predicted.
    Objective,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Mixer => "mixer",
            Self::Ffn => "ffn",
            Self::Objective => "objective",
        }
    }

    fn settings_enum(self) -> &'static str {
        match self {
            Self::Mixer => "pub enum Mixer {",
            Self::Ffn => "pub enum Ffn {",
            Self::Objective => "pub enum Objective {",
        }
    }

    fn settings(self, name: &Name) -> String {
        let field = match self {
            Self::Objective => {
                format!("    /// {GAP}: what the loss judges.\n    pub loss: super::Loss,\n")
            }
            Self::Mixer | Self::Ffn => {
                format!("    /// {GAP}: what it is, its unit, its range.\n    pub width: usize,\n")
            }
        };
        format!(
            "use serde::{{Deserialize, Serialize}};\n\n/// {GAP}: what it does, in a sentence.\n///\n/// # Source\n\
             /// {GAP}: authors, title, venue, number, section.\n\
             #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]\n#[serde(deny_unknown_fields)]\n\
             pub struct {} {{\n{field}}}\n",
            name.camel
        )
    }

    /// The enum in `nn` and a component's file there; nothing where `nn` has no enum of this kind.
    fn module(self, name: &Name) -> Option<(&'static str, String)> {
        let head =
            format!("/// {GAP}: the formula.\n///\n/// # Source\n/// {GAP}: as in its settings.\n");
        let Name { camel, .. } = name;
        match self {
            Self::Mixer => Some((
                "pub(crate) enum AnyMixer {",
                format!(
                    "use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use super::Mixer;
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{{self, Activation}};
use crate::sequences::Sequences;
use crate::weights::Source;

{head}#[derive(Module, Debug)]
pub(crate) struct {camel} {{
    output: Linear,
}}

impl {camel} {{
    pub fn new(_settings: &mixer::{camel}, source: &Source<'_>, name: &str) -> Self {{
        Self {{
            output: Linear::new(source, &format!(\"{{name}}.output\")),
        }}
    }}
}}

impl Mixer for {camel} {{
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _noise: &mut Noise,
    ) -> Tensor<2> {{
        let mut mixed = x; // [N, D]; {GAP}: mix the tokens of each sequence
        if selected {{
            mixed = op::select_rows(mixed, &sequences.rows); // [M, D]
        }}
        self.output.forward(mixed, Activation::Identity)
    }}
}}
"
                ),
            )),
            Self::Ffn => Some((
                "pub(crate) enum AnyFfn {",
                format!(
                    "use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::ffn;

use crate::linear::Linear;
use crate::op::Activation;
use crate::weights::Source;

{head}#[derive(Module, Debug)]
pub(crate) struct {camel} {{
    down: Linear,
}}

impl {camel} {{
    pub fn new(_settings: &ffn::{camel}, source: &Source<'_>, name: &str) -> Self {{
        Self {{
            down: Linear::new(source, &format!(\"{{name}}.down\")),
        }}
    }}

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {{
        let hidden = x; // [N, F]; {GAP}: what happens to each token
        self.down.forward(hidden, Activation::Identity)
    }}
}}
"
                ),
            )),
            Self::Objective => None,
        }
    }
}

/// A component's name as a module and as a type.
struct Name {
    snake: String,
    camel: String,
}

impl Name {
    fn parse(text: &str) -> Result<Self> {
        let snake = text.replace('-', "_");
        let parts: Vec<&str> = snake.split('_').collect();
        let fits = |part: &&str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        if !parts.iter().all(fits) || snake.starts_with(|c: char| c.is_ascii_digit()) {
            bail!("{text:?}: expected lower-case words joined by `_`, such as sliding_window");
        }
        let camel = parts
            .iter()
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect();
        Ok(Self { snake, camel })
    }
}

/// Writes the files, or none of them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let changes = changes(root(), arguments.kind, &Name::parse(&arguments.name)?)?;
    for (path, text) in &changes {
        if path.ends_with("mod.rs") {
            // A kind that had one component in one file becomes a folder; its text moved along.
            let single = path
                .parent()
                .expect("a file lies in a folder")
                .with_extension("rs");
            if single.is_file() {
                fs::remove_file(&single)
                    .with_context(|| format!("{}: cannot be moved", shown(&single)))?;
            }
        }
        let folder = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", shown(folder)))?;
        fs::write(path, text).with_context(|| format!("{}: cannot be written", shown(path)))?;
        println!("wrote {}", shown(path));
    }
    println!("\nnext: fill the gaps marked {GAP:?}");
    match arguments.kind {
        Kind::Mixer | Kind::Ffn => {
            println!(
                "      list the parameters in crates/spec/src/inventory.rs, check the settings in model.rs"
            );
        }
        Kind::Objective => println!("      make its batches in crates/data/src/plan.rs"),
    }
    println!(
        "      `cargo check --release -p cloze-nn` names every match that wants the new variant"
    );
    Ok(())
}

/// Every file to write, and its text.
fn changes(root: &Path, kind: Kind, name: &Name) -> Result<Vec<(PathBuf, String)>> {
    let mut changes = Vec::new();
    let mut room = |room: &str, head: &str, doc: &str, text: String| -> Result<()> {
        let folder = root.join(format!("crates/{room}/src")).join(kind.folder());
        let file = folder.join(format!("{}.rs", name.snake));
        if file.exists() {
            bail!("{}: exists; choose another name", shown(&file));
        }
        let index = if folder.is_dir() {
            folder.join("mod.rs")
        } else {
            folder.with_extension("rs")
        };
        let index_text = with_module(&read(&index)?, name, room == "spec");
        let index_text =
            with_variant(&index_text, head, doc, &name.camel).with_context(|| shown(&index))?;
        changes.push((folder.join("mod.rs"), index_text));
        changes.push((file, text));
        Ok(())
    };
    room(
        "spec",
        kind.settings_enum(),
        &format!("    /// {GAP}: what it does.\n"),
        kind.settings(name),
    )?;
    if let Some((head, text)) = kind.module(name) {
        room("nn", head, "", text)?;
    }
    Ok(changes)
}

/// Declares the module among the others, in order, and names its type: publicly in `spec`, for the enum in `nn`.
fn with_module(text: &str, name: &Name, public: bool) -> String {
    let declaration = format!("mod {};", name.snake);
    let visibility = if public { "pub " } else { "" };
    let import = format!("{visibility}use {}::{};", name.snake, name.camel);
    let lines: Vec<&str> = text.lines().collect();
    let head = lines
        .iter()
        .take_while(|line| line.starts_with("//!") || line.is_empty());
    let lines = with_line(&lines, "mod ", &declaration, head.count());
    let after_modules = lines
        .iter()
        .rposition(|line| line.starts_with("mod "))
        .map_or(0, |last| last + 2);
    let lines = with_line(&lines, &format!("{visibility}use "), &import, after_modules);
    lines.join("\n") + "\n"
}

/// Adds a line where rustfmt would put it in the first group that has a line beginning with `like`, or as a group of
/// its own before line `place`.
fn with_line<'a>(lines: &[&'a str], like: &str, line: &'a str, place: usize) -> Vec<&'a str> {
    let mut out = lines.to_vec();
    if let Some(member) = lines.iter().position(|other| other.starts_with(like)) {
        let first = lines[..member]
            .iter()
            .rposition(|other| other.is_empty())
            .map_or(0, |empty| empty + 1);
        let group = lines[first..].iter().take_while(|other| !other.is_empty());
        let path = |line: &'a str| line.trim_start_matches("pub ");
        out.insert(
            first + group.filter(|other| path(other) < path(line)).count(),
            line,
        );
    } else {
        out.splice(place..place, [line, ""]);
    }
    out
}

/// Adds a variant of one field at the end of the enum that `head` opens.
fn with_variant(text: &str, head: &str, doc: &str, camel: &str) -> Result<String> {
    let Some(start) = text.find(head) else {
        bail!("expected a line {head:?}, found none; add the variant by hand");
    };
    let Some(close) = text[start..].find("\n}") else {
        bail!("expected the enum to end with a line \"}}\", found none; add the variant by hand");
    };
    let (before, after) = text.split_at(start + close + 1);
    Ok(format!("{before}{doc}    {camel}({camel}),\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_modules_and_types() {
        let name = Name::parse("sliding-window2").unwrap();
        assert_eq!(
            (name.snake.as_str(), name.camel.as_str()),
            ("sliding_window2", "SlidingWindow2")
        );
        for wrong in ["", "Window", "2d", "a__b", "a b", "../a"] {
            assert!(Name::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_kind_finds_its_place_in_the_rooms_as_they_are() {
        for kind in Kind::value_variants() {
            let changes = changes(root(), *kind, &Name::parse("quite_new").unwrap()).unwrap();
            assert!(changes.len() >= 2);
            for pair in changes.chunks(2) {
                assert!(
                    pair[0].1.contains("\nmod quite_new;\n")
                        && pair[0].1.contains("    QuiteNew(QuiteNew),\n")
                );
                assert!(
                    pair[0].1.contains("use quite_new::QuiteNew;\n"),
                    "{}",
                    pair[0].1
                );
                assert!(
                    pair[1].1.contains("pub struct QuiteNew {")
                        || pair[1].1.contains("pub(crate) struct QuiteNew {")
                );
                assert!(pair[1].1.contains(GAP));
            }
        }
    }

    #[test]
    fn modules_stay_in_order() {
        let name = Name::parse("b").unwrap();
        let text = "//! Doc.\n\nmod a;\nmod c;\n\npub use a::A;\npub use c::C;\n";
        let expected =
            "//! Doc.\n\nmod a;\nmod b;\nmod c;\n\npub use a::A;\npub use b::B;\npub use c::C;\n";
        assert_eq!(with_module(text, &name, true), expected);
        let mixed = "mod a;\n\npub use a::A;\nuse x::Y;\n";
        assert_eq!(
            with_module(mixed, &name, true),
            "mod a;\nmod b;\n\npub use a::A;\npub use b::B;\nuse x::Y;\n"
        );
        let single = "//! Doc.\n\nuse x::Y;\n\nstruct A;\n";
        let expected = "//! Doc.\n\nmod b;\n\npub use b::B;\n\nuse x::Y;\n\nstruct A;\n";
        assert_eq!(with_module(single, &name, true), expected);
    }

    #[test]
    fn an_existing_component_is_not_overwritten() {
        assert!(changes(root(), Kind::Mixer, &Name::parse("attention").unwrap()).is_err());
    }
}
