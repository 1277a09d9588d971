//! The models that are served, and how they change while they are.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::FromRef;
use tokio::sync::Mutex;

use crate::model::Model;
use crate::route::Shared;
use crate::{Fault, watch};

/// How often it is looked whether a model that was taken away still has requests.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// The models of this moment. A request takes them once, so that no change shows within it and its model stays until it is answered.
#[derive(Clone)]
pub struct Live(Arc<RwLock<Arc<Shared>>>);

impl Live {
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(shared))))
    }

    pub fn now(&self) -> Arc<Shared> {
        let shared = self.0.read().expect("nothing panics while models change");
        shared.clone()
    }

    /// Serves these models from the next request on.
    fn switch(&self, models: Vec<Arc<Model>>) {
        let mut shared = self.0.write().expect("nothing panics while models change");
        *shared = Arc::new(Shared {
            models,
            ..Shared::clone(&shared)
        });
    }
}

impl FromRef<Live> for Arc<Shared> {
    fn from_ref(live: &Live) -> Self {
        live.now()
    }
}

/// Loads the model of a folder under a name, or says why not.
pub type Open = dyn Fn(String, &Path) -> Result<Model, String> + Send + Sync;

/// What an operator may do from outside, and with what.
pub struct Admin {
    /// The bearer token that lets in.
    pub token: String,
    /// Only folders below this one are loaded.
    pub models_dir: PathBuf,
    /// Loads models.
    pub open: Box<Open>,
    /// Bytes of memory that a model may take now, if that is known.
    pub available_bytes: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

/// Models that an operator changes, one change at a time.
pub struct Registry {
    live: Live,
    admin: Admin,
    turn: Arc<Mutex<()>>,
}

/// What is to become of the models.
pub enum Change {
    /// One more.
    Load { name: String, folder: String },
    /// Another in the place of one, under its name.
    Swap { name: String, folder: String },
    /// One less.
    Unload { name: String },
}

impl Registry {
    pub fn new(live: Live, admin: Admin) -> Arc<Self> {
        Arc::new(Self {
            live,
            admin,
            turn: Arc::default(),
        })
    }

    pub fn token(&self) -> &str {
        &self.admin.token
    }

    pub fn models(&self) -> Vec<Arc<Model>> {
        self.live.now().models.clone()
    }

    /// Makes a change; done when what it takes away has answered its requests and given its memory back.
    ///
    /// It goes on to its end when whoever asked for it hangs up.
    pub async fn change(self: Arc<Self>, change: Change) -> Result<(), Fault> {
        let Ok(turn) = self.turn.clone().try_lock_owned() else {
            return Err(Fault::Conflict(
                "another change of models is under way; ask again when it is done".to_owned(),
            ));
        };
        let work = move || {
            let done = self.make(change);
            drop(turn);
            done
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Fault::Backend("the model could not be loaded".to_owned()))?
    }

    fn make(&self, change: Change) -> Result<(), Fault> {
        let mut models = self.models();
        let place = |name: &str| models.iter().position(|model| model.name() == name);
        let missing = |name: &str| Fault::NoModel(name.to_owned());
        match change {
            Change::Load { name, folder } => {
                if place(&name).is_some() {
                    return Err(Fault::Conflict(format!(
                        "a model named {name:?} is served already; PUT /admin/models/{name} swaps it"
                    )));
                }
                check_name(&name)?;
                models.push(self.open(&name, &folder)?);
                self.live.switch(models);
                watch::model_changed("load");
                tracing::info!(model = name, "loaded");
            }
            Change::Swap { name, folder } => {
                let place = place(&name).ok_or_else(|| missing(&name))?;
                let new = self.open(&name, &folder)?;
                let old = std::mem::replace(&mut models[place], new);
                self.live.switch(models);
                watch::model_changed("swap");
                forget(&old);
                tracing::info!(model = name, "swapped");
                drain(old);
            }
            Change::Unload { name } => {
                let place = place(&name).ok_or_else(|| missing(&name))?;
                if models.len() == 1 {
                    return Err(Fault::Conflict(format!(
                        "{name:?} is the only model; load another one first"
                    )));
                }
                let old = models.remove(place);
                self.live.switch(models);
                watch::model_changed("unload");
                tracing::info!(model = name, "unloaded");
                forget(&old);
                drain(old);
            }
        }
        Ok(())
    }

    fn open(&self, name: &str, folder: &str) -> Result<Arc<Model>, Fault> {
        let path = below(&self.admin.models_dir, folder)?;
        let needed = weight_bytes(&path);
        if let Some(available) = (self.admin.available_bytes)()
            && needed > available
        {
            return Err(Fault::NoRoom(format!(
                "the weights of {folder:?} take {} MiB, {} MiB are available; unload another model first",
                needed >> 20,
                available >> 20
            )));
        }
        let fail = |message: String| {
            // Where the models lie on the machine is nobody's business.
            let place = self.admin.models_dir.display().to_string();
            let real = self.admin.models_dir.canonicalize();
            let real = real.map_or(place.clone(), |real| real.display().to_string());
            Fault::Validation(message.replace(&real, "").replace(&place, ""))
        };
        let model = (self.admin.open)(name.to_owned(), &path).map_err(fail)?;
        Ok(Arc::new(model))
    }
}

/// What a model kept goes with it.
fn forget(model: &Model) {
    if model.limits().cache_bytes > 0 {
        watch::cached(model.name(), 0);
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(is_usual) {
        return Ok(());
    }
    Err(Fault::Validation(format!(
        "`name`: expected 1 to 128 letters, digits, `-`, `_` or `.`, found {name:?}"
    )))
}

/// A folder really below another: no way up, and no link out.
fn below(parent: &Path, folder: &str) -> Result<PathBuf, Fault> {
    let mut parts = Path::new(folder).components();
    let is_below = !folder.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    let real = || {
        let parent = parent.canonicalize().ok()?;
        let path = parent.join(folder).canonicalize().ok()?;
        (path != parent && path.starts_with(&parent) && path.is_dir()).then_some(path)
    };
    let found = if is_below { real() } else { None };
    found.ok_or_else(|| {
        Fault::Validation(format!(
            "`folder`: expected a folder below the one of --models-dir, found {folder:?}"
        ))
    })
}

/// Bytes of the files that hold weights, in a folder and those right below it.
fn weight_bytes(folder: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_weights = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("safetensors" | "bin" | "pt"))
    };
    let size = |path: &Path| match path.metadata() {
        Ok(data) if is_weights(path) => data.len(),
        _ => 0,
    };
    let inner = |path: PathBuf| -> u64 {
        let below: u64 = entries(&path).map(|entry| size(&entry.path())).sum();
        size(&path) + below
    };
    entries(folder).map(|entry| inner(entry.path())).sum()
}

/// Waits for the requests of a model that gets no new ones, then lets go of it.
fn drain(model: Arc<Model>) {
    while Arc::strong_count(&model) > 1 {
        std::thread::sleep(DRAIN_EVERY);
    }
    drop(model);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_really_below_are_found() {
        let home = tempfile::tempdir().expect("a folder to try in");
        let models = home.path().join("models");
        std::fs::create_dir_all(models.join("a/b")).expect("it is new");
        std::fs::create_dir(home.path().join("outside")).expect("it is new");
        std::fs::write(models.join("file"), "x").expect("it is new");
        assert!(below(&models, "a").is_ok() && below(&models, "a/b").is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            symlink(home.path().join("outside"), models.join("out")).expect("it is new");
            symlink(models.join("a"), models.join("in")).expect("it is new");
            assert!(below(&models, "out").is_err(), "a link out");
            assert!(below(&models, "in").is_ok(), "a link inside");
        }
        for wrong in [
            "",
            ".",
            "..",
            "../outside",
            "a/../../outside",
            "./a",
            "/",
            "/etc",
            "none",
            "file",
            "a\0b",
        ] {
            assert!(below(&models, wrong).is_err(), "{wrong:?}");
        }
    }
}
