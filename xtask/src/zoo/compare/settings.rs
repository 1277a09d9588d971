//! bench/mixers/compare.toml: the mixers, the tasks, and the files that tasks are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cloze_spec::mixer::Mixer;
use serde::Deserialize;
use toml::Value;

use super::matched::Shape;
use crate::workspace::{read, shown};
use crate::zoo::check::{Source, Step};
use crate::zoo::{at, resolve};

/// What is compared, and by what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mixer that all others are compared with.
    pub reference: String,
    /// Files of others, by the name that steps use for them.
    pub source: BTreeMap<String, Source>,
    /// The mixers.
    pub mixer: Vec<Contender>,
    /// The tasks.
    pub task: Vec<Task>,
}

/// A mixer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contender {
    /// What it is called.
    pub name: String,
    /// Its settings, as in a recipe.
    pub set: Value,
    /// What its cost is measured as by bench/mixers/run.sh; none: its name.
    #[serde(default)]
    cost: Option<String>,
    /// Whether tokens learn of each other; if not, it is shown and never called the cheapest.
    #[serde(default = "yes")]
    pub mixes: bool,
}

fn yes() -> bool {
    true
}

impl Contender {
    /// What its cost is measured as.
    pub fn cost(&self) -> &str {
        self.cost.as_deref().unwrap_or(&self.name)
    }

    /// Its settings.
    ///
    /// # Errors
    /// When they are none of a mixer.
    pub fn mixer(&self) -> Result<Mixer> {
        let set = self.set.clone();
        set.try_into()
            .with_context(|| format!("mixer {:?}", self.name))
    }
}

/// Something to learn.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What it is called in files and on the command line.
    pub name: String,
    /// What it is called in the page.
    pub title: String,
    /// What is learned, and how it is judged.
    pub about: String,
    /// The recipe, beside the settings.
    recipe: PathBuf,
    /// Files to make first.
    #[serde(default)]
    pub prepare: Vec<Step>,
    /// What `cloze train` is told beside the recipe: the data, as what was made.
    pub train: String,
    /// Where the recipe has the mixer.
    pub mixer: String,
    /// Where it has the feed-forward width.
    pub ffn: String,
    /// What the mixers are ranked by.
    pub quality: Quality,
    /// Other numbers to show, by name, and their places.
    #[serde(default)]
    pub also: BTreeMap<String, String>,
    /// About how long the reference takes on two cores.
    pub minutes: f64,
}

/// A number that says how good a model is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// What it is called.
    pub name: String,
    /// A file of the model's folder, then the path of the number in its JSON.
    pub at: String,
    /// Whether less is better.
    #[serde(default)]
    pub lower_is_better: bool,
}

impl Settings {
    /// Those in `folder`.
    ///
    /// # Errors
    /// When they do not hold together.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("compare.toml");
        let settings: Self = toml::from_str(&read(&path)?).with_context(|| shown(&path))?;
        settings.hold().with_context(|| shown(&path))?;
        Ok(settings)
    }

    /// Whether names are there once, and mixers are mixers.
    fn hold(&self) -> Result<()> {
        let mixers = self.mixer.iter().map(|mixer| &mixer.name);
        let mut seen = BTreeSet::new();
        for name in mixers.chain(self.task.iter().map(|task| &task.name)) {
            ensure!(seen.insert(name), "{name:?} is named twice");
        }
        for mixer in &self.mixer {
            mixer.mixer()?;
        }
        self.reference()?;
        Ok(())
    }

    /// What all are compared with.
    ///
    /// # Errors
    /// When no mixer is called so.
    pub fn reference(&self) -> Result<&Contender> {
        let mut all = self.mixer.iter();
        all.find(|mixer| mixer.name == self.reference)
            .with_context(|| format!("reference {:?} is no mixer's name", self.reference))
    }

    /// Leaves the named mixers and tasks; the reference stays, and no names are all.
    ///
    /// # Errors
    /// When a name is not there: those that are.
    pub fn keep(&mut self, mixers: &[String], tasks: &[String]) -> Result<()> {
        let all: Vec<&str> = self.mixer.iter().map(|mixer| &*mixer.name).collect();
        check_names("--only", mixers, &all)?;
        let all: Vec<&str> = self.task.iter().map(|task| &*task.name).collect();
        check_names("--tasks", tasks, &all)?;
        if !mixers.is_empty() {
            let reference = self.reference.clone();
            self.mixer
                .retain(|mixer| mixer.name == reference || mixers.contains(&mixer.name));
        }
        if !tasks.is_empty() {
            self.task.retain(|task| tasks.contains(&task.name));
        }
        Ok(())
    }
}

fn check_names(option: &str, wanted: &[String], all: &[&str]) -> Result<()> {
    match wanted.iter().find(|name| !all.contains(&name.as_str())) {
        Some(name) => bail!(
            "{option}: there is no {name:?}; there are {}",
            all.join("; ")
        ),
        None => Ok(()),
    }
}

impl Task {
    /// Where its recipe is.
    pub fn recipe(&self, folder: &Path) -> PathBuf {
        folder.join(&self.recipe)
    }

    /// Its recipe as it is run, and the size of its model, as that says.
    ///
    /// # Errors
    /// When the recipe does not hold, or does not say.
    pub fn resolved(&self, root: &Path, folder: &Path) -> Result<(Value, Shape)> {
        let path = self.recipe(folder);
        let recipe = resolve(root, &path)?;
        let number = |places: [&[&str]; 2]| {
            let mut found = places
                .iter()
                .filter_map(|place| at(&recipe, place)?.as_integer());
            let number = found.next().and_then(|number| usize::try_from(number).ok());
            number.with_context(|| format!("{}: {} is no size", shown(&path), places[0].join(".")))
        };
        let shape = Shape {
            layers: number([
                &["model", "stack", "layers"],
                &["model", "config", "num_hidden_layers"],
            ])?,
            width: number([&["model", "width"], &["model", "config", "hidden_size"]])?,
            ffn: number([
                &["model", "stack", "ffn", "width"],
                &["model", "config", "intermediate_size"],
            ])?,
            max_len: number([&["model", "max_len"], &["model", "max_len"]])?,
        };
        Ok((recipe, shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    fn settings() -> Settings {
        Settings::read(&root().join("bench/mixers")).unwrap()
    }

    #[test]
    fn every_mixer_of_every_task_has_matched_parameters() {
        let (settings, folder) = (settings(), root().join("bench/mixers"));
        let reference = settings.reference().unwrap().mixer().unwrap();
        for task in &settings.task {
            let (_, shape) = task.resolved(root(), &folder).unwrap();
            for mixer in &settings.mixer {
                let matched = shape.matched(&mixer.mixer().unwrap(), &reference).unwrap();
                let (name, off) = (&mixer.name, matched.off());
                assert!(off.abs() < 0.02, "{}, {name}: {off}", task.name);
            }
        }
    }

    #[test]
    fn names_that_are_not_there_are_told_with_those_that_are() {
        let mut settings = settings();
        let told = settings
            .keep(&["poll".into()], &[])
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("--only: there is no \"poll\"; there are attention; "),
            "{told}"
        );
        settings.keep(&["pool".into()], &["films".into()]).unwrap();
        let names: Vec<&str> = settings.mixer.iter().map(|mixer| &*mixer.name).collect();
        assert_eq!(names, ["attention", "pool"]);
        assert_eq!(settings.task.len(), 1);
    }
}
