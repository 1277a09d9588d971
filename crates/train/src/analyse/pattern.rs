//! What it is worth that a mixer sums values by shares of its own: what hidden words cost where it sums by others.
//!
//! # Source
//! Singh, Analyzing Transformer Dynamics as Movement through Embedding Space, 2023, arXiv:2308.10874, for the question:
//! is the pattern of attention a bias that can be left out?

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use cloze_nn::{Hook, op};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Hidden, Sequence, Site, Subject, floats, tensor, titled};
use crate::Error;
use crate::metric::bootstrap::{Interval, mean, paired};
use crate::report::analysis::Part;

/// What hidden words cost with other shares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pattern {
    /// Sequences.
    pub sequences: usize,
    /// Hidden words.
    pub words: usize,
    /// What they cost as the model is: minus the mean log probability, in nats.
    pub loss: Interval,
    /// All layers together, and each alone.
    pub layers: Vec<Cost>,
}

/// What other shares cost: the mean by which the log probability of a hidden word falls, in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Which layer has them; all that can if none.
    pub layer: Option<usize>,
    /// What its mixer is; empty of all.
    pub mixer: String,
    /// Shares that know only how far away a token stands: the means of the model's own.
    pub by_place: Interval,
    /// The same share of every token in sight.
    pub alike: Interval,
}

/// Which shares stand in for a mixer's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Instead {
    ByPlace,
    Alike,
}

/// Sums and counts of a head's shares, by how far ahead of a token the other stands.
type Distances = BTreeMap<isize, (f64, usize)>;

impl Pattern {
    /// Of each of some texts a share of `hidden` of the tokens is hidden, by chance from `seed`; of histories the last item; where a
    /// model foretells each next item, all but the first.
    ///
    /// # Errors
    /// If a sequence does not fit the model, nothing is left to hide, the model does not name words, or none of its mixers sums
    /// values by shares of its own.
    pub fn of(
        subject: &Subject,
        sequences: &[Sequence],
        hidden: f64,
        seed: u64,
    ) -> Result<Self, Error> {
        subject.names_words()?;
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        let all = sequences
            .iter()
            .filter_map(|sequence| subject.hide(sequence, || draws.random::<f64>() < hidden));
        let all: Vec<Hidden> = all.collect();
        if all.is_empty() {
            return Err(Error::Asked(
                "expected a sequence of which something can be hidden, found none; give longer ones, or more"
                    .to_owned(),
            ));
        }
        let mut distances: BTreeMap<usize, Vec<Distances>> = BTreeMap::new();
        let mut losses = Vec::new();
        for one in &all {
            losses.extend(subject.losses(one, &mut |site, x| {
                if let Site::Input(layer) = site
                    && let Some(shares) = subject.own_shares(layer, &x)
                {
                    let tokens = x.dims()[0];
                    let heads = floats(shares);
                    let heads = heads.chunks(tokens * tokens);
                    let sums = distances
                        .entry(layer)
                        .or_insert_with(|| vec![Distances::new(); heads.len()]);
                    heads
                        .zip(sums)
                        .for_each(|(head, sums)| add(head, tokens, sums));
                }
                x
            })?);
        }
        if distances.is_empty() {
            return Err(Error::Asked(
                "expected a model with a mixer that sums values by shares, such as attention, found none"
                    .to_owned(),
            ));
        }
        let cost = |layer: Option<usize>| {
            let with = |instead| {
                let mut found = Vec::new();
                for one in &all {
                    found.extend(subject.without(one, layer, instead, &distances)?);
                }
                Ok::<_, Error>(paired(&found, &losses, 0))
            };
            Ok::<_, Error>(Cost {
                layer,
                mixer: layer.map_or_else(String::new, |layer| subject.mixer(layer)),
                by_place: with(Instead::ByPlace)?,
                alike: with(Instead::Alike)?,
            })
        };
        let layers = distances.keys().copied().map(Some);
        let each = std::iter::once(None).chain(layers).map(cost);
        Ok(Self {
            sequences: all.len(),
            words: losses.len(),
            layers: each.collect::<Result<_, _>>()?,
            loss: mean(&losses, 0),
        })
    }

    /// A row for all layers, and one for each.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let ends = |of: Interval| format!("{:.4} to {:.4}", of.low, of.high);
        let rows = self.layers.iter().map(|of| {
            vec![
                match of.layer {
                    Some(layer) => format!("layer.{layer}"),
                    None => "all".to_owned(),
                },
                of.mixer.clone(),
                format!("{:.4}", of.by_place.mean),
                ends(of.by_place),
                format!("{:.4}", of.alike.mean),
                ends(of.alike),
            ]
        });
        let header = vec![
            "layers",
            "mixer",
            "by place costs",
            "95 %",
            "alike costs",
            "95 %",
        ];
        (header, rows.collect())
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "hidden: {} of {} sequences; as the model is they cost {:.4} nats each ({:.4} to {:.4})",
                self.words, self.sequences, self.loss.mean, self.loss.low, self.loss.high
            ),
            "costs: by how many nats more, where shares know only how far away a token stands (means of the model's own), or are the same for all in sight; values, output maps and all else stay. 95 % by bootstrap over what is hidden".to_owned(),
        ]
    }

    /// The same for a page.
    pub fn part(&self) -> Part {
        let table = titled("What its own shares are worth", self.table());
        Part::Table(table, self.notes())
    }
}

/// Adds a head's shares, `[T, T]`, by distance. Those of 0 are out of sight.
fn add(head: &[f32], tokens: usize, sums: &mut Distances) {
    for (at, row) in head.chunks(tokens).enumerate() {
        let total: f64 = row.iter().map(|&share| f64::from(share)).sum();
        for (from, &share) in row.iter().enumerate().filter(|(_, share)| **share != 0.0) {
            let (sum, count) = sums.entry(from as isize - at as isize).or_default();
            *sum += f64::from(share) / total;
            *count += 1;
        }
    }
}

/// What stands in for a head's shares, `[T, T]`: each row has the same sum, over the same tokens.
fn replaced(head: &[f32], tokens: usize, instead: Instead, sums: &Distances) -> Vec<f32> {
    let mut all = Vec::with_capacity(head.len());
    for (at, row) in head.chunks(tokens).enumerate() {
        let weight = |(from, &share): (usize, &f32)| match instead {
            _ if share == 0.0 => 0.0,
            Instead::Alike => 1.0,
            Instead::ByPlace => {
                let found = sums.get(&(from as isize - at as isize));
                found.map_or(0.0, |&(sum, count)| sum / count as f64)
            }
        };
        let weights: Vec<f64> = row.iter().enumerate().map(weight).collect();
        let total: f64 = row.iter().map(|&share| f64::from(share)).sum();
        let scale = total / weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        all.extend(weights.iter().map(|weight| (weight * scale) as f32));
    }
    all
}

impl Subject {
    /// As of [`Self::shares`], where what they sum can be had too.
    fn own_shares(&self, layer: usize, x: &Tensor<2>) -> Option<Tensor<3>> {
        let shares = self.shares(layer, x.clone())?;
        self.summed(layer, x.clone(), shares.clone())?;
        Some(shares)
    }

    /// Minus the log probability of each hidden word.
    fn losses(
        &self,
        hidden: &Hidden,
        see: &mut dyn FnMut(Site, Tensor<2>) -> Tensor<2>,
    ) -> Result<Vec<f64>, Error> {
        let rows = hidden.at.iter().map(|&at| at as u32).collect();
        let last = Site::Layer(self.layers() - 1);
        let mut end = None;
        let mut see = |site, x| {
            let x = see(site, x);
            if site == last {
                end = Some(op::select_rows(x.clone(), &rows));
            }
            x
        };
        self.pass(&self.batch(&hidden.sequence), &mut Hook::new(&mut see))?;
        let found = self.log_probs(end.expect("the last layer is passed"));
        let rows = found.chunks(found.len() / hidden.at.len());
        Ok(rows
            .zip(&hidden.words)
            .map(|(row, &word)| -row[word])
            .collect())
    }

    /// The same with other shares in a layer, or in all.
    fn without(
        &self,
        hidden: &Hidden,
        layer: Option<usize>,
        instead: Instead,
        distances: &BTreeMap<usize, Vec<Distances>>,
    ) -> Result<Vec<f64>, Error> {
        let mut other = None;
        self.losses(hidden, &mut |site, x| match site {
            Site::Input(own) if layer.is_none_or(|layer| layer == own) => {
                other = distances.get(&own).and_then(|sums| {
                    let shares = self.shares(own, x.clone())?;
                    let (dims, tokens) = (shares.dims(), x.dims()[0]);
                    let heads = floats(shares);
                    let heads = heads.chunks(tokens * tokens).zip(sums);
                    let new = heads.flat_map(|(head, sums)| replaced(head, tokens, instead, sums));
                    let new = tensor(new.collect(), dims, &x.device());
                    self.summed(own, x.clone(), new)
                });
                x
            }
            Site::Mixer(_) => other.take().unwrap_or(x),
            _ => x,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_shares_have_the_same_sums_over_the_same_tokens() {
        // The second token does not see the third, and its shares sum to a half.
        let head = [0.5, 0.25, 0.25, 0.1, 0.4, 0.0, 0.2, 0.2, 0.6];
        let mut sums = Distances::new();
        add(&head, 3, &mut sums);
        let (zero, count) = sums[&0];
        assert!((zero - (0.5 + 0.8 + 0.6)).abs() < 1e-6 && count == 3);
        assert_eq!(sums[&1].1, 1);
        for (instead, wanted) in [
            (
                Instead::Alike,
                [[1.0 / 3.0; 3], [0.25, 0.25, 0.0], [1.0 / 3.0; 3]],
            ),
            (Instead::ByPlace, {
                let mean = |sum: f64, count: f64| sum / count;
                let (own, ahead, two) = (mean(1.9, 3.0), 0.25, 0.25);
                let (back, two_back) = (mean(0.2 + 0.2, 2.0), 0.2);
                let row = |all: [f64; 3], sum: f64| all.map(|x| x * sum / all.iter().sum::<f64>());
                [
                    row([own, ahead, two], 1.0),
                    row([back, own, 0.0], 0.5),
                    row([two_back, back, own], 1.0),
                ]
            }),
        ] {
            let found = replaced(&head, 3, instead, &sums);
            for (found, wanted) in found.iter().zip(wanted.concat()) {
                assert!(
                    (f64::from(*found) - wanted).abs() < 1e-6,
                    "{found}, not {wanted}"
                );
            }
        }
    }
}
