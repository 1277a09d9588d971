//! A model and the baselines on held-out cases.

use cloze_data::{Cases, Dataset};
use cloze_nn::Encoder;
use cloze_spec::Recipe;
use cloze_spec::recipe::Evaluate;
use serde::{Deserialize, Serialize};

use crate::baseline::{Bigram, ItemKnn, Popularity};
use crate::eval::{Protocol, by_history, evaluate};
use crate::metric::RankingMetrics;
use crate::recommend::Scorer;

/// How one model did, under each protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Result {
    /// The model or baseline.
    pub model: String,
    /// Each protocol, by name, with its metrics.
    pub protocols: Vec<(String, RankingMetrics)>,
}

/// The protocols by which results are compared; the same candidates for every seed of training.
const PROTOCOL_SEED: u64 = 12345;

/// Ranks the validation cases among all items, as the recipe judges.
pub fn validation(encoder: &Encoder, recipe: &Recipe, dataset: &Dataset) -> RankingMetrics {
    let settings = Evaluate {
        sampled_negatives: None,
        ..recipe.evaluate.clone()
    };
    let scorer = Scorer::new(encoder.clone(), &recipe.model);
    let result = model(
        "validation",
        &scorer,
        &dataset.split.validation,
        &settings,
        dataset.vocabulary.counts(),
    );
    result
        .protocols
        .into_iter()
        .next()
        .expect("the full ranking is always judged")
        .1
}

/// Ranks `cases` by a model.
pub fn model(
    name: &str,
    scorer: &Scorer,
    cases: &Cases,
    settings: &Evaluate,
    popularity: &[u64],
) -> Result {
    judge(name, cases, settings, popularity, &mut |batch, scores| {
        let histories: Vec<&[u32]> = batch
            .iter()
            .map(|&case| cases.histories.get(case))
            .collect();
        scorer.score(&histories, scores);
    })
}

/// Ranks `cases` by each baseline, fitted to the training part.
pub fn baselines(dataset: &Dataset, cases: &Cases, settings: &Evaluate) -> Vec<Result> {
    let (train, items) = (&dataset.split.train, dataset.vocabulary.len());
    let popularity = Popularity::fit(train, items);
    let counts = popularity.counts().to_vec();
    let bigram = Bigram::fit(train, items);
    let knn = ItemKnn::fit(train, items);
    vec![
        judge(
            "popularity",
            cases,
            settings,
            &counts,
            &mut by_history(cases, items, |h, out| popularity.score(h, out)),
        ),
        judge(
            "bigram",
            cases,
            settings,
            &counts,
            &mut by_history(cases, items, |h, out| bigram.score(h, out)),
        ),
        judge(
            "item-kNN",
            cases,
            settings,
            &counts,
            &mut by_history(cases, items, |h, out| knn.score(h, out)),
        ),
    ]
}

fn judge(
    name: &str,
    cases: &Cases,
    settings: &Evaluate,
    popularity: &[u64],
    score: &mut dyn FnMut(&[usize], &mut [f32]),
) -> Result {
    let protocols = Protocol::of(settings, PROTOCOL_SEED);
    let metrics = evaluate(cases, popularity.len(), popularity, &protocols, score);
    Result {
        model: name.to_owned(),
        protocols: protocols.iter().map(Protocol::name).zip(metrics).collect(),
    }
}
