//! BLEU: how many of a translation's n-grams are in a reference, and whether it is long enough.
//!
//! ```text
//! BLEU = 100 · min(1, exp(1 − reference length / hypothesis length)) · exp(Σ ln p_n / 4),   n = 1..4
//! p_n  = n-grams of the hypothesis that a reference has, each no oftener than the reference has it / n-grams of the hypothesis
//! ```
//!
//! Of several references the n-grams are united, and the length nearest to the hypothesis's counts, or the shorter of two
//! as near.
//!
//! # Source
//! Papineni et al., BLEU, ACL 2002; Post, A Call for Clarity in Reporting BLEU Scores, WMT 2018, arXiv:1804.08771:
//! sacrebleu 2.6. Smoothing: Chen and Cherry, WMT 2014.

use std::collections::HashMap;

use super::text;

/// The longest n-grams.
pub const MAX_ORDER: usize = 4;

/// How texts become tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// The conference on machine translation's: `mteval-v13a`.
    #[default]
    V13a,
    /// Punctuation and symbols of all scripts: `mteval-v14`.
    Intl,
    /// Chinese characters one by one, the rest as 13a.
    Zh,
    /// Characters.
    Char,
    /// What stands between blanks.
    None,
}

/// What stands in for a precision of 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Smoothing {
    /// 1/2, 1/4, … of an n-gram for the first order without a match, the second, ….
    #[default]
    Exp,
    /// This much of an n-gram; sacrebleu's default is 0.1.
    Floor(f64),
    /// This is added to matches and n-grams of all orders but the first; sacrebleu's default is 1.
    AddK(f64),
    /// Nothing: the score is 0.
    None,
}

/// Counts of one hypothesis, or of all when added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bleu {
    /// Tokens of the hypothesis.
    pub hypothesis_len: u64,
    /// Tokens of the reference.
    pub reference_len: u64,
    /// N-grams that a reference has.
    pub matches: [u64; MAX_ORDER],
    /// N-grams of the hypothesis.
    pub totals: [u64; MAX_ORDER],
}

impl Tokenizer {
    /// The tokens, with a blank between any two.
    pub fn tokenize(self, line: &str) -> String {
        match self {
            Self::V13a => {
                let line = line
                    .replace("<skipped>", "")
                    .replace("-\n", "")
                    .replace('\n', " ");
                western(&format!(" {} ", text::unescape(&line)))
            }
            Self::Intl => {
                let number = |c| text::NUMBERS.contain(c);
                let mark = |c| text::PUNCTUATION.contain(c);
                let line = text::part(line, |c| !number(c), mark, [false, true, true]);
                let line = text::part(&line, mark, |c| !number(c), [true, true, false]);
                text::surround(&line, |c| text::SYMBOLS.contain(c))
            }
            Self::Zh => western(&text::surround(
                line.trim_matches(text::is_space),
                is_chinese,
            )),
            Self::Char => text::surround(line, |_| true),
            Self::None => line.to_owned(),
        }
    }
}

fn western(line: &str) -> String {
    text::part_western(&text::surround(line, text::is_western_mark))
}

/// The ranges that sacrebleu names. Two of them lie beyond 16 bits and were meant to hold rare characters; written with
/// four digits they hold what follows here, and published scores depend on it.
fn is_chinese(character: char) -> bool {
    matches!(character,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}' | '\u{2001}'..='\u{2a6d}' | '\u{2f81}'..='\u{2fa1}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}' | '\u{2f00}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{3200}'..='\u{33ff}')
}

impl Bleu {
    /// The counts of one hypothesis.
    ///
    /// # Panics
    /// If there is no reference.
    pub fn of(
        hypothesis: &str,
        references: &[&str],
        tokenizer: Tokenizer,
        lowercase: bool,
    ) -> Self {
        assert!(!references.is_empty(), "there is a reference");
        let prepare = |line: &str| {
            let lower = lowercase.then(|| line.to_lowercase());
            tokenizer.tokenize(text::trim_end(lower.as_deref().unwrap_or(line)))
        };
        let hypothesis = prepare(hypothesis);
        let hypothesis: Vec<&str> = text::words(&hypothesis).collect();
        let references: Vec<String> = references.iter().map(|line| prepare(line)).collect();
        let references: Vec<Vec<&str>> = references
            .iter()
            .map(|line| text::words(line).collect())
            .collect();
        let length = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&len| (len.abs_diff(hypothesis.len()), len))
            .unwrap_or(0);
        let mut counts = Self {
            hypothesis_len: hypothesis.len() as u64,
            reference_len: length as u64,
            ..Self::default()
        };
        for n in 1..=MAX_ORDER {
            let mut known: HashMap<&[&str], u64> = HashMap::new();
            for reference in &references {
                for (ngram, count) in text::ngrams(reference, n) {
                    let most = known.entry(ngram).or_insert(0);
                    *most = count.max(*most);
                }
            }
            let own = text::ngrams(&hypothesis, n);
            counts.totals[n - 1] = own.values().sum();
            counts.matches[n - 1] = text::overlap(&own, &known);
        }
        counts
    }

    /// The factor for hypotheses shorter than their references.
    pub fn brevity_penalty(&self) -> f64 {
        let (own, reference) = (self.hypothesis_len as f64, self.reference_len as f64);
        match self.hypothesis_len {
            0 if self.reference_len > 0 => 0.0,
            _ if own < reference => (1.0 - reference / own).exp(),
            _ => 1.0,
        }
    }

    /// The score, from 0 to 100. With `effective_order` orders of which the hypothesis has no n-gram are left out, as it
    /// should be for single sentences. 0 if nothing matches.
    pub fn score(&self, smoothing: Smoothing, effective_order: bool) -> f64 {
        if self.matches.iter().all(|&count| count == 0) {
            return 0.0;
        }
        let (mut sum, mut orders, mut halved) = (0.0, MAX_ORDER, 1.0);
        // What the logarithm of 0 counts as; its exponential is 0.
        let mut logs = [-9_999_999_999.0; MAX_ORDER];
        let counts = self.matches.iter().zip(&self.totals);
        for ((n, log), (&matches, &total)) in logs.iter_mut().enumerate().zip(counts) {
            let (mut matches, mut total) = (matches as f64, total as f64);
            if let Smoothing::AddK(k) = smoothing
                && n > 0
            {
                matches += k;
                total += k;
            }
            if total == 0.0 {
                break;
            }
            if effective_order {
                orders = n + 1;
            }
            let precision = match smoothing {
                _ if matches > 0.0 => 100.0 * matches / total,
                Smoothing::Exp => {
                    halved *= 2.0;
                    100.0 / (halved * total)
                }
                Smoothing::Floor(value) => 100.0 * value / total,
                Smoothing::AddK(_) | Smoothing::None => 0.0,
            };
            if precision > 0.0 {
                *log = precision.ln();
            }
        }
        for log in &logs[..orders] {
            sum += log;
        }
        self.brevity_penalty() * (sum / orders as f64).exp()
    }
}

impl std::ops::AddAssign<&Self> for Bleu {
    fn add_assign(&mut self, other: &Self) {
        self.hypothesis_len += other.hypothesis_len;
        self.reference_len += other.reference_len;
        for n in 0..MAX_ORDER {
            self.matches[n] += other.matches[n];
            self.totals[n] += other.totals[n];
        }
    }
}
