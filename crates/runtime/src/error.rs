use std::path::PathBuf;

/// What can go wrong between a model folder and an output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder's settings are not understood.
    #[error(transparent)]
    Spec(#[from] cloze_spec::Error),
    /// The tokenizer, or a text.
    #[error(transparent)]
    Text(#[from] cloze_data::Error),
    /// A weights file is damaged, or is of a kind that is not read.
    #[error("{}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A file of reference outputs is damaged, or is not one.
    #[error("{}: {message}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A model that was named cannot be had.
    #[error("{name}: {message}")]
    Hub {
        /// Its name.
        name: String,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// A text or a setting is not one that the model's task takes.
    #[error("{0}")]
    Input(String),
    /// A folder's model predicts nothing.
    #[error("{}: expected a model that fills masks, labels texts or tokens, or answers questions, found {found}; its vectors are made by embed", path.display())]
    NoPrediction {
        /// The folder.
        path: PathBuf,
        /// What its encoder ends with.
        found: String,
    },
    /// A batch holds what the model has no room for.
    #[error("{0}")]
    Batch(String),
    /// The system gave no threads.
    #[error("no threads to run on: {0}; ask for fewer with --threads")]
    Threads(String),
}
