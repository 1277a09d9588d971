//! A recipe's check in miniature: what it needs, what is run, what is claimed of the results. `check.toml` beside `recipe.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::claim::{Claim, Values, Verdict, mean};
use super::make::Make;
use crate::workspace::{file_name, read, shown};

/// The check of a recipe.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is tested, and on what, in a few sentences.
    pub about: String,
    /// What `{seed}` stands for, in turn.
    pub seeds: Vec<u64>,
    /// Words that steps share, by the name they use for them.
    #[serde(default, rename = "let")]
    pub shared: BTreeMap<String, String>,
    /// Files of others, by the name that steps use for them.
    #[serde(default)]
    pub source: BTreeMap<String, Source>,
    /// What is done, in order.
    pub step: Vec<Step>,
    /// What is claimed.
    pub claim: Vec<Claim>,
}

/// A file of others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Below the folder of data.
    pub path: String,
    /// Where it is to be had.
    pub from: String,
}

/// A command, or a file to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What others call its output by, as `{name}`.
    pub name: String,
    /// Arguments of `cloze`; `{out}` is where to write, `{seed}` the seed.
    #[serde(default)]
    pub cloze: Option<String>,
    /// A file to make.
    #[serde(default)]
    pub make: Option<Made>,
    /// What to read off, by name: a file of the output or `stdout`, then the path of a number in its JSON; `[key=value]` is
    /// the element of a list that has that.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// How to make a file. Its debug form is what the check says and nothing else, so that steps stay done when there are more ways.
pub struct Made {
    make: Make,
    said: String,
}

impl<'de> Deserialize<'de> for Made {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(from)?;
        let said = value.to_string();
        let make = value.try_into().map_err(D::Error::custom)?;
        Ok(Self { make, said })
    }
}

impl Deref for Made {
    type Target = Make;

    fn deref(&self) -> &Make {
        &self.make
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

/// What came out of a check.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// What ran it.
    pub version: String,
    /// Processor time of all of it on the machine that ran it, in seconds.
    pub seconds: u64,
    /// Everything that was read off.
    pub values: Values,
    /// What became of each claim.
    pub verdict: Vec<Verdict>,
}

impl Check {
    /// The check of the recipe in `folder`, if it has one.
    ///
    /// # Errors
    /// When it does not hold together.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("check.toml");
        if !path.is_file() {
            return Ok(None);
        }
        let check: Self = toml::from_str(&read(&path)?).with_context(|| shown(&path))?;
        check.hold().with_context(|| shown(&path))?;
        Ok(Some(check))
    }

    /// Whether every name stands for one thing, and every step does one.
    fn hold(&self) -> Result<()> {
        if self.seeds.is_empty() {
            bail!("`seeds` is empty; name one at least");
        }
        let mut known: BTreeSet<&str> = ["out", "seed"].into();
        let names = self.shared.keys().chain(self.source.keys());
        for name in names.chain(self.step.iter().map(|step| &step.name)) {
            if !known.insert(name) {
                bail!("{name:?} is named twice");
            }
        }
        for step in &self.step {
            if step.cloze.is_some() == step.make.is_some() {
                bail!("step {:?}: expected one of `cloze` and `make`", step.name);
            }
        }
        let mut sample = Values::new();
        for step in &self.step {
            for value in step.values.keys() {
                sample.insert(format!("{}.{value}", step.name), vec![1.5]);
            }
        }
        for claim in &self.claim {
            claim.measure(&sample)?;
        }
        Ok(())
    }

    /// The steps whose output differs by seed: they, or what they use, name it.
    pub fn seeded(&self) -> BTreeSet<&str> {
        let mut seeded = BTreeSet::from(["seed"]);
        // Shared words may use others, in any order.
        for _ in &self.shared {
            for (name, words) in &self.shared {
                if names(words).any(|used| seeded.contains(used)) {
                    seeded.insert(name);
                }
            }
        }
        for step in &self.step {
            if step.used().iter().any(|name| seeded.contains(name)) {
                seeded.insert(&step.name);
            }
        }
        seeded
    }
}

impl Step {
    /// Names in braces.
    pub fn used(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.cloze.iter().map(String::as_str).collect();
        if let Some(make) = &self.make {
            texts.extend(make.files.iter().map(String::as_str));
            texts.extend(make.classes.values().flatten().map(String::as_str));
            texts.extend(make.shuffle.as_deref());
        }
        texts.into_iter().flat_map(names).collect()
    }
}

/// The names in braces.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split('{').skip(1);
    let inside = parts.filter_map(|part| part.split_once('}').map(|(name, _)| name));
    inside.filter(|name| is_name(name))
}

/// `text` with what its names in braces stand for; braces around anything but a name stay.
///
/// # Errors
/// When `resolve` does not know a name.
pub fn fill(text: &str, resolve: &dyn Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let name = rest.split_once('}').map(|(name, _)| name);
        match name.filter(|name| is_name(name)) {
            Some(name) => {
                out.push_str(&resolve(name)?);
                rest = &rest[name.len() + 1..];
            }
            None => out.push('{'),
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

impl Outcome {
    /// What came out of the check of the recipe in `folder`, if it was run.
    ///
    /// # Errors
    /// When it cannot be read, or is of other claims than `check` has.
    pub fn read(folder: &Path, check: &Check) -> Result<Option<Self>> {
        let path = folder.join("outcome.toml");
        if !path.is_file() {
            return Ok(None);
        }
        let outcome: Self = toml::from_str(&read(&path)?).with_context(|| shown(&path))?;
        if !outcome
            .verdict
            .iter()
            .map(|verdict| &verdict.claim)
            .eq(&check.claim)
        {
            bail!(
                "{}: is of other claims than check.toml has; run `cargo x zoo run {}`",
                shown(&path),
                file_name(folder)
            );
        }
        Ok(Some(outcome))
    }

    /// How many claims hold, of those that could fail.
    pub fn score(&self) -> String {
        let bound = self.verdict.iter().filter_map(|verdict| verdict.holds);
        let (held, all) = bound.fold((0, 0), |(held, all), holds| {
            (held + usize::from(holds), all + 1)
        });
        format!("{held} of {all} hold")
    }

    /// The claims as a table.
    pub fn table(&self) -> String {
        let mut out = "| claim | wanted | measured | |\n|---|---|---|---|\n".to_owned();
        for verdict in &self.verdict {
            let seeds: Vec<String> = verdict
                .measured
                .iter()
                .map(|value| shortened(*value))
                .collect();
            let mut measured = shortened(mean(&verdict.measured));
            if seeds.len() > 1 {
                measured = format!("{measured} ({})", seeds.join(", "));
            }
            let holds = verdict.holds.map_or(
                "",
                |holds| if holds { "holds" } else { "**does not hold**" },
            );
            let Claim { says, .. } = &verdict.claim;
            let wanted = verdict.claim.wanted();
            writeln!(out, "| {says} | {wanted} | {measured} | {holds} |")
                .expect("a string takes any text");
        }
        out
    }
}

/// Four digits.
fn shortened(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &str) -> Check {
        let text = format!(
            "about = ''\nseeds = [1, 2]\nclaim = []\n[let]\nask = '{{learn}} --data x'\nlearn = 'train --seed {{seed}} --set \"a={{ b = 1 }}\"'\n{steps}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_step_is_run_for_each_seed_if_anything_it_uses_is() {
        let steps = "[[step]]\nname = 'a'\ncloze = '{learn}'\n[[step]]\nname = 'b'\ncloze = 'eval {a}'\n[[step]]\nname = 'c'\ncloze = 'x'\n[[step]]\nname = 'd'\ncloze = '{ask}'\n";
        let check = check(steps);
        check.hold().unwrap();
        assert_eq!(
            check.seeded(),
            ["seed", "ask", "learn", "a", "b", "d"].into()
        );
    }

    #[test]
    fn names_are_filled_in_and_other_braces_stay() {
        let resolve = |name: &str| match name {
            "a" => Ok("1".to_owned()),
            _ => bail!("no {name}"),
        };
        assert_eq!(
            fill("{a} { b = {a} } {", &resolve).unwrap(),
            "1 { b = 1 } {"
        );
        assert!(fill("{b}", &resolve).is_err());
    }

    #[test]
    fn a_made_file_is_known_by_what_the_check_says() {
        let check = check(
            "[[step]]\nname = 'a'\nmake = { read = 'lines', files = ['b'], write = 'lines' }\n",
        );
        let make = check.step[0].make.as_ref().unwrap();
        let said = format!("{make:?}");
        for word in ["read", "files", "write"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!said.contains("shuffle"), "{said}");
        assert_eq!(make.files, ["b"]);
    }

    #[test]
    fn a_step_with_two_names_or_without_a_command_is_refused() {
        assert!(check("[[step]]\nname = 'a'\n").hold().is_err());
        let twice = "[[step]]\nname = 'a'\ncloze = 'x'\n[[step]]\nname = 'a'\ncloze = 'x'\n";
        assert!(check(twice).hold().is_err());
    }
}
