use std::path::PathBuf;

/// What can go wrong while training, evaluating or predicting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe, a model folder, or the file system.
    #[error(transparent)]
    Spec(#[from] cloze_spec::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] cloze_data::Error),
    /// A pretrained encoder.
    #[error(transparent)]
    Runtime(#[from] cloze_runtime::Error),
    /// A weights file.
    #[error("{}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A run cannot be gone on with.
    #[error("{}: {message}", path.display())]
    Resume {
        /// The run's folder.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// Training went wrong.
    #[error(
        "step {step}: the loss is {loss}; lower optim.lr, raise schedule.warmup_steps, or set optim.clip_norm"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f32,
    },
    /// A model cannot be asked this.
    #[error("{0}")]
    Asked(String),
    /// There is nothing to train or evaluate on.
    #[error("{0}")]
    Empty(String),
}
