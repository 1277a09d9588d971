//! The folder of a trained tokenizer.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cloze_spec::folder::sync_folder;
use serde_json::Value;
use tokenizers::ModelWrapper;

use super::{Settings, shape};
use crate::Error;

/// Files beside the vocabulary, by name.
pub struct Configs(Vec<(&'static str, String)>);

const NAMES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

impl Configs {
    pub fn new(settings: &Settings) -> Self {
        let texts = shape::configs(settings).map(|value| pretty(&value));
        Self(NAMES.into_iter().zip(texts).collect())
    }

    /// Those of `folder`, as they are.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let mut all = Vec::new();
        for name in NAMES {
            let path = folder.join(name);
            if path.is_file() {
                let text =
                    fs::read_to_string(&path).map_err(|source| Error::Io { path, source })?;
                all.push((name, text));
            }
        }
        Ok(Self(all))
    }
}

/// Writes the folder beside its place, then moves it there.
pub fn write(
    tokenizer: &tokenizers::Tokenizer,
    configs: &Configs,
    folder: &Path,
) -> Result<(), Error> {
    if folder.exists() {
        return Err(Error::Output {
            path: folder.to_owned(),
            message: "expected a folder that does not exist yet; remove it or name another".into(),
        });
    }
    let mut temporary = folder.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(io(&temporary))?;
    for (name, text) in files(tokenizer, configs)? {
        let path = temporary.join(name);
        let written = fs::File::create_new(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io(&path))?;
    }
    sync_folder(&temporary);
    fs::rename(&temporary, folder).map_err(io(folder))?;
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")));
    Ok(())
}

/// Names and contents.
fn files(
    tokenizer: &tokenizers::Tokenizer,
    configs: &Configs,
) -> Result<Vec<(&'static str, String)>, Error> {
    let json = tokenizer
        .to_string(true)
        .map_err(|e| Error::Training(e.to_string()))?;
    let mut all = vec![("tokenizer.json", json + "\n")];
    all.extend(configs.0.iter().cloned());
    let mut words: Vec<(String, u32)> = tokenizer.get_vocab(true).into_iter().collect();
    words.sort_unstable_by_key(|&(_, id)| id);
    match tokenizer.get_model() {
        // A line's number is its id, so it needs to be there.
        ModelWrapper::WordPiece(_)
            if (0..).zip(&words).all(|(id, word): (u32, _)| word.1 == id) =>
        {
            let lines = words.iter().flat_map(|(word, _)| [word.as_str(), "\n"]);
            all.push(("vocab.txt", lines.collect()));
        }
        ModelWrapper::BPE(model) => {
            let entry = |(word, id): &(String, u32)| format!("{}:{id}", Value::from(word.as_str()));
            let entries: Vec<String> = words.iter().map(entry).collect();
            all.push(("vocab.json", format!("{{{}}}\n", entries.join(","))));
            let model = serde_json::to_value(model).map_err(|e| Error::Training(e.to_string()))?;
            let mut lines = "#version: 0.2\n".to_owned();
            for pair in model["merges"].as_array().into_iter().flatten() {
                let two = [&pair[0], &pair[1]].map(|piece| piece.as_str().unwrap_or_default());
                lines.extend([two[0], " ", two[1], "\n"]);
            }
            all.push(("merges.txt", lines));
        }
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => {}
    }
    Ok(all)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value is what JSON can say") + "\n"
}
