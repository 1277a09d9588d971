use std::path::PathBuf;

/// What can go wrong between a file and a checked recipe or model folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A recipe, or an override of one, is not what it should be.
    #[error("{place}: {message}")]
    Recipe {
        /// File with line and column, or the override's text.
        place: String,
        /// What was expected and found.
        message: String,
    },
    /// Values that each parse but cannot stand, all of them together.
    #[error("{place}: {faults}")]
    Invalid {
        /// The recipe or file.
        place: String,
        /// Every fault found.
        faults: Faults,
    },
    /// A model folder's `config.json` is not one of ours.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
}

/// A list of faults, reported together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes a fault of `path` unless `holds`.
    pub fn check(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(format!("{path}: {}", message()));
        }
    }

    /// Notes a fault of `path` unless `value` is a share in `[0, 1)`.
    pub fn check_dropout(&mut self, path: &str, value: f32) {
        self.check((0.0..1.0).contains(&value), path, || {
            format!("expected a share from 0 up to, not including, 1, found {value}")
        });
    }

    /// Notes a fault of `path` unless `value` is at least 1.
    pub fn check_positive(&mut self, path: &str, value: usize) {
        self.check(value > 0, path, || {
            "expected at least 1, found 0".to_owned()
        });
    }

    /// Takes over faults found elsewhere.
    pub fn extend(&mut self, faults: impl IntoIterator<Item = String>) {
        self.0.extend(faults);
    }

    pub(crate) fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Nothing if no fault was noted, else all of them as one error about `place`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is any fault.
    pub fn into_result(self, place: &str) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid {
                place: place.to_owned(),
                faults: self,
            })
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => {
                write!(f, "{} faults", many.len())?;
                many.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}
