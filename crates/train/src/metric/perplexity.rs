//! How surprised a model is by tokens.
//!
//! ```text
//! perplexity = exp(−Σ ln p / tokens)
//! ```
//!
//! For an encoder the probabilities are those of each token with it alone masked: pseudo-perplexity.
//!
//! # Source
//! Salazar et al., Masked Language Model Scoring, ACL 2020, arXiv:1910.14659; the mean over texts is what the package
//! `evaluate` reports.

/// Sums over texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    log_prob: f64,
    tokens: u64,
    text_perplexities: f64,
    texts: u64,
}

impl Perplexity {
    /// Adds a text: the sum of its tokens' log probabilities, in nats, and how many there are. A text without tokens
    /// counts for nothing.
    pub fn add(&mut self, log_prob: f64, tokens: u64) {
        if tokens > 0 {
            self.log_prob += log_prob;
            self.tokens += tokens;
            self.text_perplexities += (-log_prob / tokens as f64).exp();
            self.texts += 1;
        }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Over all tokens. Nothing without tokens.
    pub fn over_tokens(&self) -> Option<f64> {
        (self.tokens > 0).then(|| (-self.log_prob / self.tokens as f64).exp())
    }

    /// The mean of the texts' own perplexities. Nothing without tokens.
    pub fn mean_over_texts(&self) -> Option<f64> {
        (self.texts > 0).then(|| self.text_perplexities / self.texts as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_die_has_a_perplexity_of_six() {
        let mut sums = Perplexity::default();
        assert_eq!(sums.over_tokens(), None);
        sums.add(0.0, 0);
        sums.add(-3.0 * 6_f64.ln(), 3);
        sums.add(-6_f64.ln(), 1);
        assert!((sums.over_tokens().unwrap() - 6.0).abs() < 1e-14);
        assert!((sums.mean_over_texts().unwrap() - 6.0).abs() < 1e-14);
    }
}
