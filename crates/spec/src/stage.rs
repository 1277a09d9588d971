//! What is done to a model, step by step.

use serde::{Deserialize, Serialize};

use crate::Faults;
use crate::batch::{Batch, Window};
use crate::objective::Objective;
use crate::optim::Optim;
use crate::schedule::Schedule;

/// A stage, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Stage {
    /// Learn from sequences.
    Train(Box<Train>),
}

/// Settings of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// What is to be predicted, and the loss.
    pub objective: Objective,
    /// How long histories are cut.
    pub window: Window,
    /// How many tokens make a batch.
    pub batch: Batch,
    /// Batches whose gradients are summed for one step.
    pub accumulate: usize,
    /// Passes over the data; early stopping may end sooner. The schedule ends with the last of these.
    pub epochs: u64,
    /// The optimiser.
    pub optim: Optim,
    /// The learning rate over the run.
    pub schedule: Schedule,
    /// When to look at the validation cases, and when to stop.
    pub validate: Validate,
}

/// Validation while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// Epochs between validations. The last epoch is always validated.
    pub every_epochs: u64,
    /// The metric that says which weights are best: of items `ndcg@10`, `hr@5`, `recall@10` or `mrr`, over the full
    /// ranking; of texts those that [`crate::text::Objective::metrics`] lists.
    pub metric: String,
    /// Validations without improvement before training stops; absent: train to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

impl Train {
    pub(crate) fn check(
        &self,
        path: &str,
        sees_future: bool,
        cutoffs: &[usize],
        faults: &mut Faults,
    ) {
        faults.extend(self.objective.faults(&format!("{path}.objective")));
        faults.extend(self.batch.faults(&format!("{path}.batch")));
        faults.extend(self.window.faults(&format!("{path}.window")));
        let (cloze, wanted) = match self.objective {
            Objective::Cloze(_) => (true, "false: a blank is filled from both sides"),
            Objective::NextItem(_) => (false, "true: else the next item is in plain sight"),
        };
        faults.check(cloze == sees_future, "model.stack.mixer.causal", || {
            format!("expected {wanted}, found {}", !sees_future)
        });
        check_training(
            path,
            self.accumulate,
            self.epochs,
            &self.optim,
            &self.schedule,
            faults,
        );
        faults.check_positive(
            &format!("{path}.validate.every_epochs"),
            self.validate.every_epochs as usize,
        );
        let metric = self.validate.metric.as_str();
        let known = metric == "mrr"
            || metric.split_once('@').is_some_and(|(name, k)| {
                ["hr", "ndcg", "recall"].contains(&name)
                    && k.parse().is_ok_and(|k: usize| cutoffs.contains(&k))
            });
        faults.check(known, &format!("{path}.validate.metric"), || {
            format!("expected mrr, or hr@K, ndcg@K or recall@K with K of evaluate.cutoffs {cutoffs:?}, found {metric:?}")
        });
    }
}

/// Checks what every stage of training has.
pub(crate) fn check_training(
    path: &str,
    accumulate: usize,
    epochs: u64,
    optim: &Optim,
    schedule: &Schedule,
    faults: &mut Faults,
) {
    faults.check_positive(&format!("{path}.accumulate"), accumulate);
    faults.check_positive(&format!("{path}.epochs"), epochs as usize);
    let Optim::Adamw(optim) = optim;
    for (name, value, holds) in [
        ("lr", optim.lr, optim.lr > 0.0 && optim.lr.is_finite()),
        ("beta1", optim.beta1, (0.0..1.0).contains(&optim.beta1)),
        ("beta2", optim.beta2, (0.0..1.0).contains(&optim.beta2)),
        ("eps", optim.eps, optim.eps > 0.0 && optim.eps.is_finite()),
        (
            "weight_decay",
            optim.weight_decay,
            optim.weight_decay >= 0.0 && optim.weight_decay.is_finite(),
        ),
        (
            "clip_norm",
            optim.clip_norm.unwrap_or(1.0),
            optim.clip_norm.is_none_or(|v| v > 0.0),
        ),
    ] {
        faults.check(holds, &format!("{path}.optim.{name}"), || {
            format!("{value} is out of range")
        });
    }
    let share = schedule.warmup_share();
    faults.check(
        (0.0..1.0).contains(&share),
        &format!("{path}.schedule.warmup_share"),
        || format!("expected a share from 0 up to, not including, 1, found {share}"),
    );
    if let Schedule::Wsd(wsd) = schedule {
        faults.check(
            (0.0..=1.0).contains(&wsd.decay_share),
            &format!("{path}.schedule.decay_share"),
            || format!("expected a share from 0 to 1, found {}", wsd.decay_share),
        );
    }
}
