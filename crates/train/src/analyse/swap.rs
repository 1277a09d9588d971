//! Whether a model goes on as if another token stood there, if that token's codes are put in place of its own.
//!
//! # Source
//! Tamkin, Taufeeque and Goodman, Codebook Features, ICML 2024, arXiv:2310.17230, §4.3, for the question.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use cloze_nn::{Hook, op};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::codes::{divergence, sizes};
use super::{Sequence, Site, Subject, titled};
use crate::Error;
use crate::metric::bootstrap::{Interval, mean};
use crate::report::analysis::Part;

/// What putting other codes in the place of a token's own makes of what is said behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swaps {
    /// Sequences whose codes were swapped.
    pub swapped: usize,
    /// The share of them of which, with the codes of the token in that place of another sequence, the model says what is nearer to
    /// what it says in the other one than to what it says as it is.
    pub to_other: Interval,
    /// The same with the codes of some token of some sequence in place of those: how often that comes about anyway.
    pub by_chance: Interval,
}

/// What a token says of itself, and what is said right behind it.
struct Said {
    /// The token before the place that is asked about.
    at: usize,
    /// The codes of all tokens at each site, so many of each.
    codes: BTreeMap<Site, (usize, Vec<u32>)>,
    log_probs: Vec<f64>,
}

impl Said {
    /// A token's codes, site by site.
    fn of(&self, token: usize) -> BTreeMap<Site, Vec<u32>> {
        let own = |(site, (each, codes)): (&Site, &(usize, Vec<u32>))| {
            (*site, codes[token * each..(token + 1) * each].to_vec())
        };
        self.codes.iter().map(own).collect()
    }
}

impl Swaps {
    /// Swaps, in each sequence that asks for something behind a token, all codes of that token for those of the token in that place of
    /// the next such sequence where these differ.
    ///
    /// # Errors
    /// If the model has no codes or does not name words, a sequence does not fit it, or there are no two to swap between.
    pub fn of(subject: &Subject, sequences: &[Sequence], seed: u64) -> Result<Self, Error> {
        subject.names_words()?;
        sizes(subject)?;
        let mut all = Vec::new();
        for sequence in sequences {
            if let Some(at) = subject.asked(sequence)[0].checked_sub(1) {
                all.push((sequence, subject.say(sequence, at, None)?));
            }
        }
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let (mut to_other, mut by_chance) = (Vec::new(), Vec::new());
        for (index, (sequence, own)) in all.iter().enumerate() {
            let mine = own.of(own.at);
            let mut others = (1..all.len()).map(|step| &all[(index + step) % all.len()].1);
            let Some(other) = others.find(|other| other.of(other.at) != mine) else {
                continue;
            };
            let goes_over = |codes: &BTreeMap<Site, Vec<u32>>| {
                let found = subject.say(sequence, own.at, Some(codes))?.log_probs;
                let [to_own, to_other] =
                    [own, other].map(|said| divergence(&found, &said.log_probs));
                Ok::<_, Error>(f64::from(to_other < to_own))
            };
            to_other.push(goes_over(&other.of(other.at))?);
            let (from, said) = &all[draws.random_range(0..all.len())];
            let token = draws.random_range(0..from.ids.len());
            by_chance.push(goes_over(&said.of(token))?);
        }
        if to_other.is_empty() {
            return Err(Error::Asked(
                "expected two sequences that ask for something behind tokens of different codes, found none; give texts with a mask, or more"
                    .to_owned(),
            ));
        }
        Ok(Self {
            swapped: to_other.len(),
            to_other: mean(&to_other, 0),
            by_chance: mean(&by_chance, 0),
        })
    }

    /// A row for each kind of codes.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let row = |what: &str, of: Interval| {
            let numbers = [of.mean, of.low, of.high].map(|x| format!("{x:.3}"));
            std::iter::once(what.to_owned()).chain(numbers).collect()
        };
        (
            vec!["with the codes of", "goes over", "low", "high"],
            vec![
                row("the other's token there", self.to_other),
                row("some token", self.by_chance),
            ],
        )
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        vec![format!(
            "sequences: {}. goes over: how often what is said behind the token is nearer to what is said in the other sequence than to what was said, by Jensen and Shannon; low and high: 95 % by bootstrap over sequences",
            self.swapped
        )]
    }

    /// The same for a page.
    pub fn part(&self) -> Part {
        Part::Table(
            titled("What other codes make of it", self.table()),
            self.notes(),
        )
    }
}

impl Subject {
    /// What is said behind the token at `at`, if it has these codes.
    fn say(
        &self,
        sequence: &Sequence,
        at: usize,
        set: Option<&BTreeMap<Site, Vec<u32>>>,
    ) -> Result<Said, Error> {
        let row = vec![at as u32 + 1].into();
        let last = Site::Layer(self.layers() - 1);
        let (mut end, mut codes) = (None, BTreeMap::new());
        let mut see = |site, x: Tensor<2>| {
            if site == last {
                end = Some(op::select_rows(x.clone(), &row));
            }
            x
        };
        let mut choose = |site, each: usize, mut chosen: Vec<u32>| {
            if let Some(set) = set {
                chosen[at * each..(at + 1) * each].copy_from_slice(&set[&site]);
            }
            codes.insert(site, (each, chosen.clone()));
            chosen
        };
        let mut hook = Hook::new(&mut see).with_codes(&mut choose);
        self.pass(&self.batch(sequence), &mut hook)?;
        Ok(Said {
            at,
            log_probs: self.log_probs(end.expect("the last layer is passed")),
            codes,
        })
    }
}
