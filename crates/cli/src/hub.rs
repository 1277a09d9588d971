//! Models by name: what the environment says of the hub and its cache.

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cloze_runtime::hub::{Hub, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::ByName;

const ENDPOINT: &str = "https://huggingface.co";

/// The folder of a model: the one that is named, or that of the model of this name.
pub fn folder(model: &Path, by_name: &ByName) -> anyhow::Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    // What is no name can't be text that the hub knows, and gets the same answer.
    let name = model.to_string_lossy();
    let hub = hub(by_name.offline)?;
    let mut bar: Option<ProgressBar> = None;
    let result = hub.find(&name, &by_name.revision, &mut |progress| {
        let bar = bar.get_or_insert_with(|| begin(&name, &hub.cache, progress.total));
        let Progress { file, done, .. } = progress;
        bar.set_message(file.to_owned());
        bar.set_position(done);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let snapshot = result?;
    if let Some(doubt) = snapshot.doubt {
        eprintln!("warning: {doubt}");
    }
    Ok(snapshot.folder)
}

fn begin(name: &str, cache: &Path, total: u64) -> ProgressBar {
    let megabytes = total as f64 / 1e6;
    eprintln!(
        "downloading {name}, {megabytes:.1} MB, to {}",
        cache.display()
    );
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "downloading {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}",
    );
    ProgressBar::new(total).with_style(style.expect("a valid template"))
}

/// The hub as the Python package `huggingface_hub` finds it, in the variables that it reads.
fn hub(offline: bool) -> anyhow::Result<Hub> {
    let path = |name| set(name).map(PathBuf::from);
    let text = |name| set(name).and_then(|value| value.into_string().ok());
    let caches = || path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    let home = path("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
    let within = |name| home.as_ref().map(|home| home.join(name));
    let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
    let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
    let file = || path("HF_TOKEN_PATH").or_else(|| within("token"));
    let token = token.or_else(|| std::fs::read_to_string(file()?).ok());
    let token = token.map(|token| token.trim().to_owned());
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    let is_on = |name| {
        let value = text(name).unwrap_or_default().to_lowercase();
        ["1", "on", "yes", "true"].contains(&&*value)
    };
    Ok(Hub {
        cache: cache
            .or_else(|| within("hub"))
            .context("there is no home folder for the cache of models; set HF_HOME")?,
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token: token.filter(|token| !token.is_empty()),
        offline: offline || is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
    })
}

/// A variable that is set to something.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
