//! Recipes: a published system as data.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::data::Data;
use crate::stage::Stage;
use crate::{Error, Faults, Model, TextRecipe};

/// A system: where it comes from, what it learns from, what it is, and how it is trained and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where all randomness flows from.
    pub seed: u64,
    /// The publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<Paper>,
    /// What it learns from.
    pub data: Data,
    /// What it is.
    pub model: Model,
    /// How it is judged.
    pub evaluate: Evaluate,
    /// What is done, in order.
    pub stage: Vec<Stage>,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Its title.
    pub title: String,
    /// Where and when it appeared.
    pub venue: String,
    /// Its arXiv number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arxiv: Option<String>,
}

/// How rankings are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Lengths of the lists that are judged, such as the 10 of `ndcg@10`.
    pub cutoffs: Vec<usize>,
    /// Leave items of the history out of the ranking.
    pub exclude_seen: bool,
    /// Judge the rank among this many popularity-sampled negatives too; absent: only among all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_negatives: Option<usize>,
}

/// A recipe's text and what to call it in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path or built-in name.
    pub name: String,
    /// The TOML.
    pub text: String,
}

impl Source {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// If the file cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            name: path.display().to_string(),
            text,
        })
    }
}

/// A kind of recipe.
pub trait Document: serde::de::DeserializeOwned + Serialize {
    /// Checks every value and how they fit together.
    ///
    /// # Errors
    /// All faults at once, each with its path.
    fn validate(&self, place: &str) -> Result<(), Error>;

    /// The recipe as TOML, every choice spelled out.
    fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe holds only what TOML can say")
    }

    /// Parses `source`, puts it over its `base` if it names one, puts `overrides` over both, and checks the result.
    ///
    /// Tables merge key by key, save that a table with another `kind` replaces the old one whole; stages merge by
    /// position; `model.base` takes the place of `model.config` and its tokenizer; everything else is replaced. `base` turns the name of a base recipe into its source; a base may have one too.
    ///
    /// An override is `path.to.key=value` with a TOML value (quotes around a word may be left out). A path that starts
    /// with no key of a recipe is looked up in the first stage: `optim.lr=1e-3` is `stage.0.optim.lr=1e-3`.
    ///
    /// # Errors
    /// What is wrong, with line and column where the text has one.
    fn parse(
        source: &Source,
        base: impl Fn(&str) -> Option<Source>,
        overrides: &[String],
    ) -> Result<Self, Error> {
        Draft::new(source, base, overrides)?.finish(source, overrides)
    }
}

/// A recipe of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Any {
    /// Over items.
    Items(Box<Recipe>),
    /// Over texts.
    Text(Box<TextRecipe>),
}

impl Any {
    /// As [`Document::parse`], of the kind that `data.kind` names.
    ///
    /// # Errors
    /// As there.
    pub fn parse(
        source: &Source,
        base: impl Fn(&str) -> Option<Source>,
        overrides: &[String],
    ) -> Result<Self, Error> {
        let draft = Draft::new(source, base, overrides)?;
        let kind = draft.merged.get("data").and_then(|data| data.get("kind"));
        if kind.and_then(Value::as_str) == Some("text") {
            return Ok(Self::Text(Box::new(draft.finish(source, overrides)?)));
        }
        Ok(Self::Items(Box::new(draft.finish(source, overrides)?)))
    }

    /// The publication.
    pub fn paper(&self) -> Option<&Paper> {
        match self {
            Self::Items(recipe) => recipe.paper.as_ref(),
            Self::Text(recipe) => recipe.paper.as_ref(),
        }
    }

    /// The recipe as TOML, every choice spelled out.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Items(recipe) => recipe.to_toml(),
            Self::Text(recipe) => recipe.to_toml(),
        }
    }
}

/// Sources put together, not yet read.
struct Draft {
    merged: Value,
    sources: Vec<Source>,
}

impl Draft {
    fn new(
        source: &Source,
        base: impl Fn(&str) -> Option<Source>,
        overrides: &[String],
    ) -> Result<Self, Error> {
        let mut sources = vec![source.clone()];
        let mut tables = vec![table(source)?];
        let mut last = source.clone();
        while let Some(named) = tables.last_mut().and_then(|table| table.remove("base")) {
            let fault = |message| Error::Recipe {
                place: place(&last, "base", Find::Key),
                message,
            };
            let Value::String(name) = named else {
                return Err(fault(format!(
                    "expected the name of a recipe, found {named}"
                )));
            };
            let found = base(&name).ok_or_else(|| {
                fault(format!(
                    "there is no recipe {name:?} to build on; `cloze recipes` lists them"
                ))
            })?;
            if sources.contains(&found) {
                return Err(fault(format!(
                    "the recipe {name:?} builds on itself; name another"
                )));
            }
            tables.push(table(&found)?);
            sources.push(found.clone());
            last = found;
        }
        let mut merged = Value::Table(toml::Table::new());
        for table in tables.into_iter().rev() {
            let model = table.get("model");
            if model.is_some_and(|model| model.get("base").is_some()) {
                forget_new_model(&mut merged);
            }
            merge(&mut merged, Value::Table(table));
        }
        for text in overrides {
            if text
                .split_once('=')
                .is_some_and(|(path, _)| path.trim() == "model.base")
            {
                forget_new_model(&mut merged);
            }
            set(&mut merged, text)?;
        }
        Ok(Self { merged, sources })
    }

    fn finish<T: Document>(self, source: &Source, overrides: &[String]) -> Result<T, Error> {
        let recipe = T::deserialize(self.merged)
            .map_err(|error| explain(&error, &self.sources, overrides))?;
        recipe.validate(&source.name)?;
        Ok(recipe)
    }
}

/// Takes away what a recipe says of a new encoder, for one that begins with a pretrained one.
fn forget_new_model(merged: &mut Value) {
    if let Some(model) = merged.get_mut("model").and_then(Value::as_table_mut) {
        model.remove("config");
        model.remove("tokenizer");
    }
}

impl Document for Recipe {
    fn validate(&self, place: &str) -> Result<(), Error> {
        let mut faults = Faults::default();
        let Data::Interactions(interactions) = &self.data;
        faults.extend(interactions.faults("data"));
        self.model.check(&mut faults);
        let cutoffs = &self.evaluate.cutoffs;
        faults.check(
            !cutoffs.is_empty() && !cutoffs.contains(&0),
            "evaluate.cutoffs",
            || format!("expected one or more positive numbers, found {cutoffs:?}"),
        );
        faults.check(
            self.evaluate.sampled_negatives != Some(0),
            "evaluate.sampled_negatives",
            || "expected at least 1, found 0; leave it out for none".to_owned(),
        );
        faults.check(self.stage.len() == 1, "stage", || {
            format!("expected one [[stage]], found {}", self.stage.len())
        });
        for (index, stage) in self.stage.iter().enumerate() {
            let Stage::Train(train) = stage;
            let (max_len, max_tokens) = (self.model.max_len, train.batch.max_tokens);
            faults.check(
                max_tokens >= max_len,
                &format!("stage.{index}.batch.max_tokens"),
                || format!("expected at least model.max_len {max_len}, found {max_tokens}"),
            );
            train.check(
                &format!("stage.{index}"),
                self.model.stack.mixer.sees_future(),
                cutoffs,
                &mut faults,
            );
        }
        faults.into_result(place)
    }
}

fn table(source: &Source) -> Result<toml::Table, Error> {
    source
        .text
        .parse::<toml::Table>()
        .map_err(|error| Error::Recipe {
            place: error
                .span()
                .map_or_else(|| source.name.clone(), |span| at(source, span.start)),
            message: error.message().trim().replace('\n', ", "),
        })
}

/// `name:line:column` of a byte of the text.
fn at(source: &Source, byte: usize) -> String {
    let before = &source.text[..source.text.floor_char_boundary(byte)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    format!("{}:{line}:{column}", source.name)
}

fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Table(under), Value::Table(over)) => {
            if over.contains_key("kind") && under.get("kind") != over.get("kind") {
                *under = over;
                return;
            }
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(under), Value::Array(over))
            if over.iter().all(Value::is_table) && !over.is_empty() =>
        {
            for (index, value) in over.into_iter().enumerate() {
                match under.get_mut(index) {
                    Some(old) => merge(old, value),
                    None => under.push(value),
                }
            }
        }
        (under, over) => *under = over,
    }
}

const ROOT_KEYS: [&str; 6] = ["seed", "paper", "data", "model", "evaluate", "stage"];

fn set(recipe: &mut Value, text: &str) -> Result<(), Error> {
    let fail = |message: String| Error::Recipe {
        place: format!("--set {text}"),
        message,
    };
    let (path, raw) = text
        .split_once('=')
        .ok_or_else(|| fail("expected path=value, such as optim.lr=1e-3".to_owned()))?;
    let value = format!("v = {raw}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(raw.trim().to_owned()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    if !ROOT_KEYS.contains(&keys[0]) {
        let stage = recipe.get("stage").and_then(|s| s.get(0));
        if stage.is_none_or(|s| s.get(keys[0]).is_none()) && keys.len() == 1 {
            let known = ROOT_KEYS.iter().copied().map(str::to_owned);
            let inner = stage
                .and_then(Value::as_table)
                .into_iter()
                .flat_map(|t| t.keys().cloned());
            if let Some(near) = nearest(keys[0], known.chain(inner)) {
                return Err(fail(format!(
                    "there is no {:?}; did you mean {near:?}?",
                    keys[0]
                )));
            }
        }
        keys.splice(0..0, ["stage", "0"]);
    }
    let mut here = recipe;
    for key in &keys[..keys.len() - 1] {
        here = match here {
            Value::Array(items) => {
                let count = items.len();
                key.parse()
                    .ok()
                    .and_then(|i: usize| items.get_mut(i))
                    .ok_or_else(|| {
                        fail(format!("expected a number below {count}, found {key:?}"))
                    })?
            }
            Value::Table(t) => t
                .entry(*key)
                .or_insert_with(|| Value::Table(toml::Table::new())),
            other => {
                return Err(fail(format!(
                    "{key:?} lies within {other}, which has no keys"
                )));
            }
        };
    }
    let last = keys[keys.len() - 1];
    match here {
        Value::Table(t) => match t.get_mut(last) {
            // A whole table given on the command line follows the rule of `base`.
            Some(old) if value.is_table() => merge(old, value),
            // TOML tells 1 from 1.0; whoever types lr=1 means the number.
            Some(Value::Float(old)) if value.is_integer() => {
                *old = value.as_integer().unwrap_or_default() as f64;
            }
            _ => {
                t.insert(last.to_owned(), value);
            }
        },
        other => {
            return Err(fail(format!(
                "{last:?} lies within {other}, which has no keys"
            )));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Find {
    Key,
    Text,
}

/// Says what serde found wrong, where in the sources it stands, and the nearest name that would do.
fn explain(error: &toml::de::Error, sources: &[Source], overrides: &[String]) -> Error {
    let message = error.message().trim().replace('\n', ", ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let text = message.split('"').nth(1);
    let (needle, find) = match (message.split(' ').next(), quoted.first(), text) {
        (Some("unknown"), Some(name), _) if message.starts_with("unknown field") => {
            (Some(*name), Find::Key)
        }
        (Some("unknown"), Some(name), _) => (Some(*name), Find::Text),
        (_, _, Some(text)) => (Some(text), Find::Text),
        _ => (None, Find::Text),
    };
    let hint = hint(&message);
    let found = needle.and_then(|needle| {
        overrides
            .iter()
            .find(|o| o.contains(needle))
            .map(|o| format!("--set {o}"))
            .or_else(|| sources.iter().find_map(|s| locate(s, needle, find)))
    });
    Error::Recipe {
        place: found.unwrap_or_else(|| sources[0].name.clone()),
        message: message + &hint,
    }
}

/// The nearest name that would do, of those that serde lists after one that it does not know.
pub(crate) fn hint(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown"));
    unknown
        .and_then(|name| nearest(name, quoted.map(str::to_owned)))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

pub(crate) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|k| (strsim::damerau_levenshtein(name, &k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
        .min()
        .map(|(_, k)| k)
}

fn place(source: &Source, needle: &str, find: Find) -> String {
    locate(source, needle, find).unwrap_or_else(|| source.name.clone())
}

/// Where a key, or a string value, stands in a source.
fn locate(source: &Source, needle: &str, find: Find) -> Option<String> {
    fn walk(
        value: &DeValue<'_>,
        span: std::ops::Range<usize>,
        needle: &str,
        find: Find,
    ) -> Option<usize> {
        match value {
            DeValue::Table(t) => walk_table(t, needle, find),
            DeValue::Array(items) => items
                .iter()
                .find_map(|v| walk(v.get_ref(), v.span(), needle, find)),
            DeValue::String(s) if matches!(find, Find::Text) && s.as_ref() == needle => {
                Some(span.start)
            }
            _ => None,
        }
    }
    fn walk_table(t: &DeTable<'_>, needle: &str, find: Find) -> Option<usize> {
        t.iter().find_map(|(key, value)| {
            if matches!(find, Find::Key) && key.get_ref().as_ref() == needle {
                Some(key.span().start)
            } else {
                walk(value.get_ref(), value.span(), needle, find)
            }
        })
    }
    let parsed = DeTable::parse(&source.text).ok()?;
    walk_table(parsed.get_ref(), needle, find).map(|byte| at(source, byte))
}
