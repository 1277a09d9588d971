//! Answers to questions about a text, against the answers that people gave.
//!
//! Answers are compared in small letters, without punctuation, without `a`, `an` and `the`, and with single blanks. Exact
//! match asks for equal answers, F1 for shared words; of several answers the best counts.
//!
//! # Source
//! The evaluation scripts of SQuAD v1.1 (Rajpurkar et al., EMNLP 2016) and v2.0 (Rajpurkar et al., ACL 2018).

use super::text::{WORD, ngrams, overlap, words};

/// Which script's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Every question has answers. An answer of nothing but articles and punctuation has an F1 of 0, whatever it is
    /// compared with.
    V1,
    /// A question may have no answer; then saying nothing is right, as it is where the answers are nothing but articles
    /// and punctuation.
    V2,
}

/// How good one answer is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Judged {
    /// 1 if it is one of the answers, else 0.
    pub exact: f64,
    /// F1 of its words.
    pub f1: f64,
    /// Whether the question has an answer.
    pub has_answer: bool,
    /// Whether something was answered.
    pub is_answered: bool,
}

/// The best threshold for one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The mean over questions with it, from 0 to 1.
    pub best: f64,
    /// Answers count as nothing if the score for no answer is higher than this.
    pub threshold: f64,
}

/// An answer as it is compared.
pub fn normalize(answer: &str) -> String {
    let mut text = answer.to_lowercase();
    text.retain(|character| !character.is_ascii_punctuation());
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_word = WORD.contain(first);
        let end = rest
            .find(|c| WORD.contain(c) != is_word)
            .unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") {
            " "
        } else {
            run
        });
        rest = behind;
    }
    words(&kept).collect::<Vec<_>>().join(" ")
}

impl Rules {
    /// Judges an answer by the answers that people gave. Without any, by [`Rules::V1`] nothing is right.
    pub fn judge<T: AsRef<str>>(self, prediction: &str, answers: &[T]) -> Judged {
        let mut answers: Vec<String> = answers
            .iter()
            .map(|answer| normalize(answer.as_ref()))
            .collect();
        let has_answer = !answers.is_empty();
        if self == Self::V2 {
            answers.retain(|answer| !answer.is_empty());
            if answers.is_empty() {
                answers.push(String::new());
            }
        }
        let own = normalize(prediction);
        let best =
            |of: &dyn Fn(&str) -> f64| answers.iter().map(|answer| of(answer)).fold(0.0, f64::max);
        Judged {
            exact: best(&|answer| f64::from(u8::from(answer == own))),
            f1: best(&|answer| self.f1(&own, answer)),
            has_answer,
            is_answered: !prediction.is_empty(),
        }
    }

    fn f1(self, own: &str, answer: &str) -> f64 {
        let (own, answer): (Vec<&str>, Vec<&str>) = (words(own).collect(), words(answer).collect());
        if self == Self::V2 && (own.is_empty() || answer.is_empty()) {
            return f64::from(u8::from(own == answer));
        }
        let shared = overlap(&ngrams(&own, 1), &ngrams(&answer, 1)) as f64;
        if shared == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (shared / own.len() as f64, shared / answer.len() as f64);
        2.0 * precision * recall / (precision + recall)
    }
}

impl Judged {
    /// The same answer where one counts as nothing if its score for no answer is above the threshold.
    #[must_use]
    pub fn with_threshold(self, no_answer: f64, threshold: f64) -> Self {
        if no_answer <= threshold {
            return self;
        }
        let right = f64::from(u8::from(!self.has_answer));
        Self {
            exact: right,
            f1: right,
            is_answered: false,
            ..self
        }
    }
}

/// The threshold with the highest mean of `value`, such as [`Judged::f1`]: the lowest of equally good ones. At 0 and
/// with the mean of saying nothing at all if no score for no answer does better.
///
/// # Source
/// `find_best_thresh` of the script of v2.0, which takes scores of 0 and more: probabilities.
/// # Panics
/// If the lengths differ.
pub fn best_threshold(
    judged: &[Judged],
    no_answer: &[f64],
    value: impl Fn(&Judged) -> f64,
) -> Threshold {
    assert_eq!(judged.len(), no_answer.len(), "a score for each answer");
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|&a, &b| no_answer[a].total_cmp(&no_answer[b]));
    let mut sum = judged.iter().filter(|answer| !answer.has_answer).count() as f64;
    let (mut best, mut threshold) = (sum, 0.0);
    for index in order {
        let answer = &judged[index];
        sum += match (answer.has_answer, answer.is_answered) {
            (true, _) => value(answer),
            (false, true) => -1.0,
            (false, false) => 0.0,
        };
        if sum > best {
            (best, threshold) = (sum, no_answer[index]);
        }
    }
    Threshold {
        best: best / judged.len().max(1) as f64,
        threshold,
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is compared is exact")]
mod tests {
    use super::*;

    #[test]
    fn articles_punctuation_case_and_blanks_do_not_count() {
        assert_eq!(
            normalize(" The  Quick-Brown\u{a0}fox, a.n. THE!"),
            "quickbrown fox"
        );
        assert_eq!(normalize("theatre of a_b an1"), "theatre of ab an1");
        assert_eq!(normalize("a–the–o"), "– –o");
    }

    #[test]
    fn the_two_scripts_differ_where_nothing_is_left() {
        let v1 = Rules::V1.judge("the", &["a"]);
        assert_eq!((v1.exact, v1.f1), (1.0, 0.0));
        let v2 = Rules::V2.judge("the", &["a"]);
        assert_eq!((v2.exact, v2.f1, v2.has_answer), (1.0, 1.0, true));
        let none: [&str; 0] = [];
        assert_eq!(Rules::V2.judge("Paris", &none).exact, 0.0);
        assert_eq!(Rules::V2.judge("", &none).exact, 1.0);
    }
}
