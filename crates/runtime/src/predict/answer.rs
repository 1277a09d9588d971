use cloze_data::text::{Answer, Answers, Encoding, Input, Long, answers};

use super::Predict;
use super::label::token_outputs;
use crate::Error;
use crate::model::TextModel;

/// Finds answers to questions, the first text of a pair, as stretches of a context, the second.
pub struct Answerer {
    /// Which stretches may be answers.
    pub answers: Answers,
    model: TextModel,
}

impl Answerer {
    pub(super) fn new(model: TextModel) -> Self {
        let answers = Answers::default();
        Self { answers, model }
    }
}

impl Predict for Answerer {
    /// Logits of each token being the first and the last, `[N, 2]`.
    type Output = Vec<f32>;
    /// From the best down.
    type Prediction = Vec<Answer>;

    fn model(&self) -> &TextModel {
        &self.model
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        context(input)?;
        self.model.windows(input, long)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        token_outputs(&self.model, windows, 2)
    }

    fn decode(
        &self,
        input: Input<'_>,
        windows: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Answer>, Error> {
        let outputs = outputs.iter().map(Vec::as_slice);
        let windows: Vec<_> = windows.iter().zip(outputs).collect();
        Ok(answers(context(input)?, &windows, &self.answers))
    }
}

fn context(input: Input<'_>) -> Result<&str, Error> {
    input.second.ok_or_else(|| {
        let message = "a question needs a context to find the answer in, found none";
        Error::Input(message.to_owned())
    })
}
