//! What a check claims: a sum over measured values, and the bounds it must keep.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Values by name, such as `adapted.f1`: one for each seed, or one alone.
pub type Values = BTreeMap<String, Vec<f64>>;

/// What is claimed of the measured values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// In words.
    pub says: String,
    /// A sum: names of values, numbers, `+ - * /`, parentheses.
    pub measure: String,
    /// Least that the mean over the seeds may be; with neither bound the claim is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Most that the mean over the seeds may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Whether each seed must keep the bounds, not only the mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_seed: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The claim as it was judged.
    pub claim: Claim,
    /// One for each seed, or one alone.
    pub measured: Vec<f64>,
    /// Whether it holds; none where it has no bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
}

impl Claim {
    /// Judges by the values.
    ///
    /// # Errors
    /// When the sum cannot be read, names a value that there is not, or is not a number.
    pub fn judge(&self, values: &Values) -> Result<Verdict> {
        let measured = self.measure(values)?;
        if measured.iter().any(|value| !value.is_finite()) {
            bail!("the measure {:?} is {measured:?}", self.measure);
        }
        let keeps = |value: f64| {
            self.at_least.is_none_or(|least| value >= least)
                && self.at_most.is_none_or(|most| value <= most)
        };
        let is_bound = self.at_least.is_some() || self.at_most.is_some();
        let holds = keeps(mean(&measured))
            && (!self.every_seed || measured.iter().all(|&value| keeps(value)));
        Ok(Verdict {
            claim: self.clone(),
            measured,
            holds: is_bound.then_some(holds),
        })
    }

    /// The sum, seed by seed.
    ///
    /// # Errors
    /// When it cannot be read, or names a value that there is not.
    pub fn measure(&self, values: &Values) -> Result<Vec<f64>> {
        measure(&self.measure, values).with_context(|| format!("the measure {:?}", self.measure))
    }

    /// The bounds in words.
    pub fn wanted(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.at_least.map(|least| format!("at least {least}")));
        parts.extend(self.at_most.map(|most| format!("at most {most}")));
        let mut wanted = parts.join(", ");
        if wanted.is_empty() {
            return "reported".to_owned();
        }
        if self.every_seed {
            wanted.push_str(", each seed");
        }
        wanted
    }
}

/// The mean; of nothing, not a number.
pub fn mean(values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful of seeds")]
    let count = values.len() as f64;
    values.iter().sum::<f64>() / count
}

fn measure(text: &str, values: &Values) -> Result<Vec<f64>> {
    let mut reader = Reader { rest: text, values };
    let value = reader.sum()?;
    match reader.peek() {
        None => Ok(value),
        Some(other) => bail!("expected an operator, found {other:?}"),
    }
}

/// Reads a sum from left to right.
struct Reader<'a> {
    rest: &'a str,
    values: &'a Values,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    /// Takes one of these characters, if it is next.
    fn take(&mut self, any: &[char]) -> Option<char> {
        let found = self.peek().filter(|next| any.contains(next))?;
        self.rest = &self.rest[found.len_utf8()..];
        Some(found)
    }

    fn sum(&mut self) -> Result<Vec<f64>> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-']) {
            let other = self.product()?;
            value = combine(
                &value,
                &other,
                |a, b| {
                    if operator == '+' { a + b } else { a - b }
                },
            )?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Vec<f64>> {
        let mut value = self.term()?;
        while let Some(operator) = self.take(&['*', '/']) {
            let other = self.term()?;
            value = combine(
                &value,
                &other,
                |a, b| {
                    if operator == '*' { a * b } else { a / b }
                },
            )?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<Vec<f64>> {
        if self.take(&['(']).is_some() {
            let value = self.sum()?;
            if self.take(&[')']).is_none() {
                bail!("expected `)` before {:?}", self.rest);
            }
            return Ok(value);
        }
        self.peek();
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && !"._".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            bail!("expected a value or a number, found {:?}", self.rest);
        }
        self.rest = rest;
        if let Ok(number) = word.parse() {
            return Ok(vec![number]);
        }
        self.values.get(word).cloned().with_context(|| {
            let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
            format!("no value {word:?}; expected one of {}", known.join(", "))
        })
    }
}

/// Seed by seed; one value alone stands beside each of several.
fn combine(a: &[f64], b: &[f64], with: impl Fn(f64, f64) -> f64) -> Result<Vec<f64>> {
    let count = a.len().max(b.len());
    if [a.len(), b.len()].iter().any(|&of| of != count && of != 1) {
        bail!(
            "values of {} and of {} seeds do not go together",
            a.len(),
            b.len()
        );
    }
    let at = |of: &[f64], seed: usize| of[if of.len() == 1 { 0 } else { seed }];
    Ok((0..count)
        .map(|seed| with(at(a, seed), at(b, seed)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        [
            ("new.f1".to_owned(), vec![0.5, 0.75]),
            ("old.f1".to_owned(), vec![0.25, 0.75]),
            ("words".to_owned(), vec![4.0]),
        ]
        .into()
    }

    fn claim(measure: &str, at_least: Option<f64>, every_seed: bool) -> Claim {
        Claim {
            says: String::new(),
            measure: measure.to_owned(),
            at_least,
            at_most: None,
            every_seed,
        }
    }

    #[test]
    fn sums_are_taken_seed_by_seed() {
        let of = |text: &str| measure(text, &values()).unwrap();
        assert_eq!(of("new.f1 - old.f1"), [0.25, 0.0]);
        assert_eq!(of("(new.f1 + old.f1 * 2) / words"), [0.25, 0.5625]);
        assert_eq!(of("1 - 0.5 - 0.25"), [0.25]);
        for wrong in [
            "",
            "new.f1 -",
            "(words",
            "words words",
            "other.f1",
            "new.f1 ! 2",
        ] {
            assert!(measure(wrong, &values()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_claim_holds_in_the_mean_or_for_every_seed() {
        let judge = |of: Claim| of.judge(&values()).unwrap().holds;
        assert_eq!(
            judge(claim("new.f1 - old.f1", Some(0.1), false)),
            Some(true)
        );
        assert_eq!(
            judge(claim("new.f1 - old.f1", Some(0.1), true)),
            Some(false)
        );
        assert_eq!(
            judge(claim("new.f1 - old.f1", Some(0.2), false)),
            Some(false)
        );
        assert_eq!(judge(claim("new.f1 - old.f1", None, false)), None);
        assert!(
            claim("words / (words - 4)", None, false)
                .judge(&values())
                .is_err()
        );
    }
}
