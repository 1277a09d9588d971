use cloze_data::text::{Agreement, Chain, Encoding, Entity, Input, Long};
use cloze_kernels::op::encode::score::softmax;

use super::{Predict, one_text, places};
use crate::model::TextModel;
use crate::{Error, Rows};

/// Labels the tokens of texts, and the stretches that tokens of one label make.
pub struct TokenClassifier {
    /// How neighbours of one label become one stretch; each token stays apart, with its whole label, be it `O`, if none.
    ///
    /// Where the folder says how labels follow each other, it is [`Agreement::First`] unless changed, and the labels of all
    /// words are then chosen together; the others know nothing of it.
    pub aggregation: Option<Agreement>,
    model: TextModel,
    labels: Vec<String>,
    chain: Option<Chain>,
}

impl TokenClassifier {
    pub(super) fn new(model: TextModel, labels: Vec<String>, chain: Option<Chain>) -> Self {
        let usual = match chain {
            Some(_) => Agreement::First,
            None => Agreement::Simple,
        };
        Self {
            aggregation: Some(usual),
            model,
            labels,
            chain,
        }
    }

    /// Names of the labels, in the order of the head's outputs.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// As [`Self::decode`], with another `aggregation`.
    pub fn entities<O: AsRef<[f32]>>(
        &self,
        text: &str,
        windows: &[Encoding],
        outputs: &[O],
        aggregation: Option<Agreement>,
    ) -> Vec<Entity> {
        if let Some(agreement) = aggregation {
            let places = places(windows);
            let outputs = outputs.iter().map(AsRef::as_ref);
            let windows: Vec<_> = windows.iter().zip(outputs).collect();
            let tokenizer = self.model.tokenizer();
            if let (Agreement::First, Some(chain)) = (agreement, &self.chain) {
                return tokenizer.entities_of_chain(text, &windows, &places, &self.labels, chain);
            }
            return tokenizer.entities(text, &windows, &self.labels, agreement);
        }
        let text: Vec<char> = text.chars().collect();
        let entity = |(window, at): (usize, usize)| {
            let count = self.labels.len();
            let mut scores = outputs[window].as_ref()[at * count..][..count].to_vec();
            softmax(self.model.isa(), count, &mut scores);
            let best = scores.iter().enumerate().rev();
            let best = best.max_by(|a, b| a.1.total_cmp(b.1));
            let (label, &score) = best.expect("a head has a label");
            let (start, end) = windows[window].offsets[at];
            Entity {
                label: self.labels[label].clone(),
                score,
                chars: start..end,
                text: text[start as usize..end as usize].iter().collect(),
            }
        };
        places(windows).into_iter().map(entity).collect()
    }
}

impl Predict for TokenClassifier {
    /// Logits of each token, `[N, C]`.
    type Output = Vec<f32>;
    type Prediction = Vec<Entity>;

    fn model(&self) -> &TextModel {
        &self.model
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        let text = one_text(input, "labelling tokens")?;
        self.model.windows(text.into(), long)
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        token_outputs(&self.model, windows, self.labels.len())
    }

    fn decode(
        &self,
        input: Input<'_>,
        windows: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Entity>, Error> {
        Ok(self.entities(input.first, windows, outputs, self.aggregation))
    }
}

/// What the head gives each token of each window: `[N, C]` of `outputs` columns.
pub(super) fn token_outputs(
    model: &TextModel,
    windows: &[&Encoding],
    outputs: usize,
) -> Result<Vec<Vec<f32>>, Error> {
    let (mut vectors, mut logits) = (Vec::new(), Vec::new());
    let batch = model.batch(windows);
    model.engine().run(&batch, Rows::All, &mut vectors)?;
    model.engine().head(&vectors, &mut logits)?;
    let of_window = |index| {
        let tokens = batch.range(index);
        logits[tokens.start * outputs..tokens.end * outputs].to_vec()
    };
    Ok((0..windows.len()).map(of_window).collect())
}
