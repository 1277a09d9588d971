//! Models by name: from the cache that is shared with Python, or from a hub.
//!
//! The cache has a folder for each model, `models--organisation--name`, with `refs/` (which commit a branch is at),
//! `snapshots/` (the files of a commit, as links) and `blobs/` (their contents). What is cached is used as it is, without
//! asking the hub whether there is something newer.
//!
//! # Source
//! The layout is that of the Python package `huggingface_hub`, and names keep its rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloze_spec::hugging_face::Listing;
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

/// How long a hub may take to be reached, and then to answer what it knows of a model.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a download that broke off is gone on with.
const RETRIES: usize = 3;
/// What says how texts are embedded. Where a cache lacks it, it may only never have been asked for.
const MODULES: &str = "modules.json";
const TOKENIZER: &str = "tokenizer.json";

/// Where models with names come from.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// What opens models that are private or gated.
    pub token: Option<String>,
    /// Whether the cache must do.
    pub offline: bool,
}

/// A model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder.
    pub folder: PathBuf,
    /// What a cache that may be incomplete leaves open, in words.
    pub doubt: Option<String>,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that comes in.
    pub file: &'a str,
    /// Bytes of all files so far.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Whether `name` can be a model's on a hub: `name` or `organisation/name`.
pub fn is_name(name: &str) -> bool {
    let is_fine = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with(['-', '.'])
    };
    name.split('/').count() <= 2
        && name.split('/').all(is_fine)
        && name.len() <= 96
        && !name.ends_with(['-', '.'])
        && name.strip_suffix(".git").is_none()
        && !name.contains("--")
        && !name.contains("..")
}

impl Hub {
    /// The folder of the model `name` at `revision`, a branch, tag or commit. Only the files that a model is made of are
    /// fetched, and `see` is shown how that goes.
    ///
    /// # Errors
    /// If there is no such model or revision, it is not cached and the hub is not to be reached or not to be asked, it lacks
    /// weights of a kind that is read, or a file can't be written.
    pub fn find(
        &self,
        name: &str,
        revision: &str,
        see: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Snapshot, Error> {
        let fail = |message: String| Error::Hub {
            name: name.to_owned(),
            message,
        };
        if !is_name(name) {
            return Err(fail(
                "no such folder; name a model folder, or a model of the hub as OWNER/NAME"
                    .to_owned(),
            ));
        }
        let fine = |part: &str| !part.is_empty() && !part.starts_with('.');
        if revision.contains('\\') || !revision.split('/').all(fine) {
            return Err(fail(format!(
                "expected a branch, a tag or a commit as revision, found {revision:?}"
            )));
        }
        let whole = |folder| {
            Ok(Snapshot {
                folder,
                doubt: None,
            })
        };
        let (folder, open) = match self.cached(name, revision)? {
            Some(Cached { folder, open: None }) => return whole(folder),
            Some(Cached { folder, open }) => (folder, open),
            None => (PathBuf::new(), None),
        };
        let why = if self.offline {
            "and the hub is not to be asked (offline)".to_owned()
        } else {
            match self.fetch(name, revision, see) {
                Ok(folder) => return whole(folder),
                Err(Failure::Unreachable(cause)) => {
                    format!("and {} cannot be reached ({cause})", self.endpoint)
                }
                // What is cached still serves.
                Err(Failure::Refused(message)) if matches!(open, Some(Open::Doubt(_))) => message,
                Err(Failure::Refused(message)) => return Err(fail(message)),
                Err(Failure::Other(error)) => return Err(error),
            }
        };
        let cache = self.cache.display();
        match open {
            Some(Open::Doubt(doubt)) => Ok(Snapshot {
                folder,
                doubt: Some(format!("{name}: {doubt}, {why}")),
            }),
            Some(Open::Missing(missing)) => Err(fail(format!(
                "the cache, {cache}, lacks {missing} of it, {why}; run this once where it can be fetched"
            ))),
            None => Err(fail(format!(
                "no such folder, not in the cache, {cache}, {why}; \
                 name a folder, or run this once where the model can be fetched"
            ))),
        }
    }

    fn home(&self, name: &str) -> PathBuf {
        let folder = format!("models--{}", name.replace('/', "--"));
        self.cache.join(folder)
    }

    /// What the cache has.
    fn cached(&self, name: &str, revision: &str) -> Result<Option<Cached>, Error> {
        let home = self.home(name);
        let commit = match fs::read_to_string(home.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        let folder = home.join("snapshots").join(&commit);
        if !is_commit(&commit) || !folder.is_dir() {
            return Ok(None);
        }
        let listing = Listing::new(&|file| folder.join(file).is_file(), &mut |file| {
            Ok::<_, Error>(folder.join(file))
        })?;
        let is_absent = |file: &str| home.join(".no_exist").join(&commit).join(file).is_file();
        let open = if !listing.missing.is_empty() {
            Some(Open::Missing(listing.missing.join(", ")))
        } else if !listing.has_tokenizer && !is_absent(TOKENIZER) {
            Some(Open::Doubt("the cache lacks its tokenizer"))
        } else if !listing.has_modules && !is_absent(MODULES) {
            Some(Open::Doubt(
                "the cache can't tell whether it has a modules.json, which says how texts are embedded (without one, by the mean)",
            ))
        } else {
            None
        };
        Ok(Some(Cached { folder, open }))
    }

    /// Fetches what the cache does not have, and only then notes which commit the revision is at.
    fn fetch(
        &self,
        name: &str,
        revision: &str,
        see: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, Failure> {
        let at = |revision: &str| {
            Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned())
        };
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_user_agent("cloze", env!("CARGO_PKG_VERSION"))
            .with_retries(RETRIES)
            .build()
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let info = self.ask(&api.repo(at(revision)), revision)?;
        // All files of one commit, whatever is published meanwhile.
        let commit = &info.sha;
        let repo = api.repo(at(commit));
        let home = self.home(name);
        let folder = home.join("snapshots").join(commit);
        let size = |file: &str| {
            let known = info.siblings.iter().find(|known| known.rfilename == file);
            known.map(|known| known.size.unwrap_or(0))
        };
        let get = |file: &str, meter: Meter<'_>| {
            let place = folder.join(file);
            if place.is_file() {
                return Ok(place);
            }
            let place = repo.download_with_progress(file, meter).map_err(|error| {
                Failure::Refused(if info.is_gated() {
                    format!(
                        "the model is gated, and {file} was refused ({error}); accept its terms at {}/{name}, then set HF_TOKEN",
                        self.endpoint
                    )
                } else {
                    format!("{file} did not come in ({error}); run this again to go on with it")
                })
            })?;
            check_size(&place, size(file))?;
            Ok(place)
        };
        let has = |file: &str| size(file).is_some();
        let listing = Listing::new::<Failure>(&has, &mut |file| {
            get(file, Meter::new(file, 0, 0, &mut |_| {}))
        })?;
        if !listing.missing.is_empty() {
            return Err(Failure::Refused(format!(
                "it has no {}, which are what is read here",
                listing.missing.join(" and no ")
            )));
        }
        let mut wanted = listing.files.iter().map(String::as_str).collect::<Vec<_>>();
        wanted.retain(|file| !folder.join(file).is_file());
        let total = wanted.iter().filter_map(|file| size(file)).sum();
        let mut done = 0;
        for file in wanted {
            get(file, Meter::new(file, done, total, see))?;
            done += size(file).unwrap_or(0);
        }
        let io = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|source| {
                Failure::Other(Error::Io {
                    path: path.to_owned(),
                    source,
                })
            })
        };
        let absent = home.join(".no_exist").join(commit);
        let unknown = [
            (MODULES, listing.has_modules),
            (TOKENIZER, listing.has_tokenizer),
        ];
        for (file, _) in unknown.into_iter().filter(|(_, has)| !has) {
            let note = absent.join(file);
            io(&note, fs::create_dir_all(&absent))?;
            io(&note, fs::write(&note, ""))?;
        }
        // The crate notes a commit as if it were a branch; Python does not.
        let stray = home.join("refs").join(commit);
        if stray.is_file() {
            io(&stray, fs::remove_file(&stray))?;
        }
        if revision != commit {
            let repo = Cache::new(self.cache.clone()).repo(at(revision));
            io(&home.join("refs").join(revision), repo.create_ref(commit))?;
        }
        Ok(folder)
    }

    /// What the hub knows of a model.
    fn ask(&self, repo: &ApiRepo, revision: &str) -> Result<Info, Failure> {
        let request = repo.info_request().query("blobs", "true");
        let request = request.config().http_status_as_error(false);
        let request = request
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE));
        let mut response = request
            .build()
            .call()
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let status = response.status();
        let code = response.headers().get("x-error-code");
        let code = code.and_then(|code| code.to_str().ok()).unwrap_or("");
        let endpoint = &self.endpoint;
        if !status.is_success() {
            let token = if self.token.is_some() {
                "; the token in use may not be allowed to see it"
            } else {
                ", or it is private; check the name, or set HF_TOKEN"
            };
            return Err(Failure::Refused(match (status.as_u16(), code) {
                (_, "RevisionNotFound") => format!("{endpoint} has no revision {revision:?} of it"),
                (401 | 403 | 404, _) => {
                    format!("no such folder, and {endpoint} has no model of this name{token}")
                }
                _ => format!("{endpoint} answered {status}; try again later"),
            }));
        }
        let info: Result<Info, _> = response.body_mut().read_json();
        match info {
            Ok(info) if is_commit(&info.sha) => Ok(info),
            Ok(info) => Err(Failure::Refused(format!(
                "{endpoint}: expected a commit, found {:?}",
                info.sha
            ))),
            Err(error) => Err(Failure::Refused(format!(
                "{endpoint}: expected a description of the model: {error}"
            ))),
        }
    }
}

/// A model in the cache, and what is not known of it.
struct Cached {
    folder: PathBuf,
    open: Option<Open>,
}

enum Open {
    /// Files that no model can do without.
    Missing(String),
    /// Files that it may not have.
    Doubt(&'static str),
}

/// Why a model was not fetched.
enum Failure {
    Unreachable(String),
    Refused(String),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<cloze_spec::Error> for Failure {
    fn from(error: cloze_spec::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What a hub says of a model.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
    /// `false`, or how access is granted.
    #[serde(default)]
    gated: Value,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

impl Info {
    fn is_gated(&self) -> bool {
        self.gated.is_string() || self.gated == Value::Bool(true)
    }
}

/// Commits are hashes, so none leads out of the cache.
fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A download that broke off without anyone noticing is taken out of the cache again.
fn check_size(place: &Path, expected: Option<u64>) -> Result<(), Failure> {
    let io = |source| {
        Failure::Other(Error::Io {
            path: place.to_owned(),
            source,
        })
    };
    let found = fs::metadata(place).map_err(io)?.len();
    let Some(expected) = expected.filter(|&expected| expected > 0 && expected != found) else {
        return Ok(());
    };
    let blob = fs::canonicalize(place).map_err(io)?;
    fs::remove_file(blob).map_err(io)?;
    let _ = fs::remove_file(place);
    Err(Failure::Refused(format!(
        "{}: expected {expected} bytes, {found} came in; run this again",
        place.display()
    )))
}

/// Adds up what comes in.
struct Meter<'a> {
    file: &'a str,
    before: u64,
    here: u64,
    total: u64,
    see: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a> Meter<'a> {
    fn new(file: &'a str, before: u64, total: u64, see: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        Self {
            file,
            before,
            here: 0,
            total,
            see,
        }
    }
}

impl hf_hub::api::Progress for Meter<'_> {
    /// Comes again with every try, which then tells of what it goes on from.
    fn init(&mut self, _: usize, _: &str) {
        self.here = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.here += bytes as u64;
        (self.see)(Progress {
            file: self.file,
            done: self.before + self.here,
            total: self.total,
        });
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in ["bert-base-uncased", "BAAI/bge-small-en-v1.5", "a/b_c.d"] {
            assert!(is_name(name), "{name}");
        }
        for path in [
            "", "/model", "./model", "../model", "~/model", "a/b/c", "model/", "a//b", "a\\b",
            "a b", "a/.b", "x.git", "a--b",
        ] {
            assert!(!is_name(path), "{path}");
        }
    }
}
