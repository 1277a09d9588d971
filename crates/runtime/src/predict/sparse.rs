use cloze_data::text::Encoding;

use super::{FillMask, Predict};
use crate::{Error, Rows};

/// Logits that are held at the same time.
const LOGITS: usize = 1 << 22;

impl FillMask {
    /// The tokens of the vocabulary that each text is about, by id, each with a weight above 0: `ln(1 + max(0, x))` of the
    /// head's largest output `x` over all tokens of the text, special ones too.
    ///
    /// # Errors
    /// If the encoder has no room for a text.
    /// # Source
    /// Formal et al., SPLADE v2, arXiv:2109.10086, equations 1 and 6; `SpladePooling` of `sentence-transformers`.
    pub fn sparse(&self, texts: &[&Encoding]) -> Result<Vec<Vec<(u32, f32)>>, Error> {
        let engine = self.model().engine();
        let batch = self.model().batch(texts);
        let (mut vectors, mut logits) = (Vec::new(), Vec::new());
        engine.run(&batch, Rows::All, &mut vectors)?;
        let (width, vocab) = (engine.encoder().width, engine.encoder().embed.vocab);
        let together = (LOGITS / vocab).max(1);
        let of_text = |index| {
            let tokens = batch.range(index);
            // Both functions rise, so the largest output gives the largest weight.
            let mut most = vec![0.0_f32; vocab];
            for vectors in
                vectors[tokens.start * width..tokens.end * width].chunks(together * width)
            {
                engine.head(vectors, &mut logits)?;
                for row in logits.chunks_exact(vocab) {
                    for (most, &logit) in most.iter_mut().zip(row) {
                        *most = most.max(logit);
                    }
                }
            }
            let weights = (0..).zip(most).filter(|&(_, most)| most > 0.0);
            Ok(weights.map(|(id, most)| (id, most.ln_1p())).collect())
        };
        (0..texts.len()).map(of_text).collect()
    }
}
