//! Model folders that `cloze train` writes, behind `cloze serve`.

use std::path::Path;

use cloze_data::ItemVocabulary;
use cloze_serve::{Choice, Recommend};
use cloze_train::recommend::Request;
use cloze_train::{Place, Recommender};

/// A recommender as the server asks it.
struct Served(Recommender);

/// Opens a model folder for a server.
pub fn open(folder: &Path, place: Place) -> anyhow::Result<Box<dyn Recommend>> {
    let recommender = Recommender::open(folder, &place.device())?;
    Ok(Box::new(Served(recommender)))
}

impl Recommend for Served {
    fn vocabulary(&self) -> &ItemVocabulary {
        &self.0.vocabulary
    }

    fn max_len(&self) -> usize {
        self.0.config.model.max_len
    }

    fn excludes_seen(&self) -> bool {
        self.0.config.exclude_seen
    }

    fn recommend(&self, histories: &[&[u32]], choice: &Choice) -> Vec<Vec<(u32, f32)>> {
        let set = |items: &[u32]| items.iter().copied().collect();
        let request = Request {
            top: choice.top,
            exclude_seen: choice.exclude_seen,
            allow: choice.allow.as_deref().map(set),
            deny: set(&choice.deny),
        };
        self.0.recommend(histories, &request)
    }
}
