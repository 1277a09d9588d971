//! Which of a repository's files make a model.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::sentence::{ENCODER, FURTHER, MODULES, Modules};
use super::{CONFIG, STEMS, TOKENIZER, TRANSITIONS, keys, shards};
use crate::{Error, Faults};

/// Files of a model among those of a repository, which often holds the same weights in other formats too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files, weights last, by their paths within the repository.
    pub files: Vec<String>,
    /// What a model cannot do without and the repository does not have.
    pub missing: Vec<String>,
    /// Whether there is a tokenizer.
    pub has_tokenizer: bool,
    /// Whether the repository says what follows the encoder.
    pub has_modules: bool,
}

impl Listing {
    /// Chooses among the files that `has` knows; `fetch` gives a place to read one of them at.
    ///
    /// # Errors
    /// What `fetch` says, or if the list of modules or of the weights' parts is damaged.
    pub fn new<E: From<Error>>(
        has: &dyn Fn(&str) -> bool,
        fetch: &mut dyn FnMut(&str) -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        let mut listing = Self::default();
        let mut homes = vec![PathBuf::new()];
        if has(MODULES) {
            let file = fetch(MODULES)?;
            let root = file.parent().unwrap_or(Path::new(""));
            if let Some(modules) = Modules::read(root, &RefCell::new(Faults::default()))? {
                homes = modules.folders();
            }
            listing.files.push(MODULES.to_owned());
            listing.has_modules = true;
        }
        if has(FURTHER) {
            listing.files.push(FURTHER.to_owned());
        }
        let mut weights = Vec::new();
        for (place, home) in homes.iter().enumerate() {
            let within = |name: &str| {
                let parts = home.iter().map(|part| part.to_string_lossy());
                let parts: Vec<_> = parts.chain([name.into()]).collect();
                parts.join("/")
            };
            let config = within(CONFIG);
            if has(&config) {
                listing.files.push(config);
            } else if place == 0 {
                listing.missing.push(config);
            }
            if place == 0 {
                let settings = TOKENIZER
                    .iter()
                    .chain(&ENCODER)
                    .chain([&TRANSITIONS])
                    .map(|name| within(name));
                listing.files.extend(settings.filter(|name| has(name)));
                listing.has_tokenizer = TOKENIZERS.iter().any(|name| has(&within(name)));
            }
            let mut found = false;
            for stem in STEMS {
                let index = within(&format!("{stem}.index.json"));
                if has(&within(stem)) {
                    weights.push(within(stem));
                } else if has(&index) {
                    let file = fetch(&index)?;
                    let map = keys::read_object(&file)?.unwrap_or_default();
                    for part in shards(&file, &map)? {
                        let part = within(&part.to_string_lossy());
                        if !has(&part) {
                            listing.missing.push(part.clone());
                        }
                        weights.push(part);
                    }
                    listing.files.push(index);
                } else {
                    continue;
                }
                found = true;
                break;
            }
            if place == 0 && !found {
                listing.missing.push(within(&STEMS.join(" or ")));
            }
        }
        listing.files.append(&mut weights);
        Ok(listing)
    }
}

/// Files that hold a tokenizer, rather than settings of one.
const TOKENIZERS: [&str; 3] = ["tokenizer.json", "vocab.txt", "vocab.json"];
