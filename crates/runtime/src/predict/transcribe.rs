use cloze_data::text::{Encoding, Input, Long, path};
use cloze_spec::hugging_face::Folder;
use cloze_spec::text::{Transcribed, Transcriber};

use super::classify::stated;
use super::{Parts, Predict, one_text};
use crate::model::TextModel;
use crate::{Error, Rows};

/// Gives a text a sequence of labels: what is spoken, or what is meant by it.
pub struct Transcripts {
    model: TextModel,
    settings: Transcribed,
    /// What writes labels from states; none where each token's scores give them.
    writer: Option<Box<dyn Parts>>,
}

/// A sequence of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// Names of the labels, in their order.
    pub labels: Vec<String>,
    /// How likely they are: the sequence, where labels are written one after the other, or else the likeliest path that gives it.
    pub score: f32,
}

impl Transcripts {
    pub(super) fn new(
        model: TextModel,
        settings: Transcribed,
        writer: Option<Box<dyn Parts>>,
    ) -> Self {
        Self {
            model,
            settings,
            writer,
        }
    }

    /// What parts labels that are written as one.
    pub fn separator(&self) -> char {
        self.settings.separator
    }

    fn named(&self, (labels, share): (Vec<u32>, f64)) -> Transcript {
        let name = |&label: &u32| self.settings.labels[label as usize].clone();
        Transcript {
            labels: labels.iter().map(name).collect(),
            score: share as f32,
        }
    }
}

/// How a folder makes sequences of labels, if it does.
///
/// # Errors
/// If it is not understood.
pub fn transcribed(folder: &Folder) -> Result<Option<Transcribed>, Error> {
    stated(folder, Transcribed::KEY)
}

impl Predict for Transcripts {
    type Output = Transcript;
    type Prediction = Transcript;

    fn model(&self) -> &TextModel {
        &self.model
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        if matches!(long, Long::Chunk { .. }) {
            let message = "labels of a whole text cannot be put together from chunks; truncate it";
            return Err(Error::Input(message.to_owned()));
        }
        self.model
            .windows(one_text(input, "a sequence of labels")?.into(), long)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Transcript>, Error> {
        let batch = self.model.batch(windows);
        let engine = self.model.engine();
        let mut states = Vec::new();
        engine.run(&batch, Rows::All, &mut states)?;
        let found = if let Some(writer) = &self.writer {
            writer.transcripts(&states, &batch.offsets)
        } else {
            let mut logits = Vec::new();
            engine.head(&states, &mut logits)?;
            let width = self.settings.labels.len() + 1;
            let of = |index| {
                let tokens = batch.range(index);
                path::best(&logits[tokens.start * width..tokens.end * width], width)
            };
            (0..windows.len()).map(of).collect()
        };
        Ok(found.into_iter().map(|found| self.named(found)).collect())
    }

    fn decode(
        &self,
        _: Input<'_>,
        _: &[Encoding],
        outputs: &[Transcript],
    ) -> Result<Transcript, Error> {
        Ok(outputs[0].clone())
    }
}

/// Refuses a folder whose labels and head do not fit.
pub(super) fn check(
    folder: &Folder,
    settings: &Transcribed,
    outputs: Option<usize>,
) -> Result<(), Error> {
    let needed = match settings.decode {
        Transcriber::Ctc => Some(settings.labels.len() + 1),
        Transcriber::Attention(_) => None,
    };
    if needed.is_none() || needed == outputs {
        return Ok(());
    }
    Err(Error::Input(format!(
        "{}: config.json: {}: expected a head of tokens with an output for each of the {} labels and one for none, found {}",
        folder.path.display(),
        Transcribed::KEY,
        settings.labels.len(),
        outputs.map_or("no head".to_owned(), |outputs| format!("one of {outputs}"))
    )))
}
