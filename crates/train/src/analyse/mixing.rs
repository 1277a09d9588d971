//! How each layer mixes the tokens of a sequence: a matrix of what each takes of each.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use cloze_nn::{Hook, influence};
use serde::Serialize;

use super::{Sequence, Site, Subject, breadth, floats};
use crate::Error;
use crate::report::analysis::{Maps, Part};
use crate::report::scores::Table;

/// How the layers of a model mix one sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mixing {
    /// What the tokens are called, `T`.
    pub tokens: Vec<String>,
    /// The layers, first to last.
    pub layers: Vec<LayerMixing>,
}

/// How a layer mixes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerMixing {
    /// The kind of its mixer.
    pub mixer: String,
    /// What its matrices say.
    pub how: How,
    /// One for each head, or one for all channels.
    pub heads: Vec<Matrix>,
}

/// What a matrix between tokens says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By what share each token takes the value of each: the numbers that the mixer sums by.
    Shares,
    /// How much each token's output changes with each token's input, whatever lies between: as of [`influence`].
    Influence,
}

/// A matrix between tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matrix {
    /// A row a token that takes, `[T, T]`.
    pub rows: Vec<Vec<f32>>,
    /// What it comes to.
    pub summary: Summary,
}

/// What a matrix comes to, each row made to sum to 1 first; means over the rows that have anything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Tokens that a token takes from, as many as would give the same entropy with equal shares: from 1 to `T`.
    pub breadth: f64,
    /// How many places away what it takes stands.
    pub distance: f64,
    /// The share that it takes of itself.
    pub own: f64,
    /// The share of the token that most is taken of.
    pub most: f64,
    /// Its place.
    pub most_at: usize,
}

impl Mixing {
    /// Looks at a sequence; with `influence` at influence even where mixers have shares. The subject is on a device with autodiff.
    ///
    /// # Errors
    /// If the sequence does not fit the model.
    pub fn of(subject: &Subject, sequence: &Sequence, by_influence: bool) -> Result<Self, Error> {
        let mut inputs: BTreeMap<usize, Tensor<2>> = BTreeMap::new();
        let mut see = |site, x: Tensor<2>| {
            if let Site::Input(layer) = site {
                inputs.insert(layer, x.clone());
            }
            x
        };
        subject.pass(&subject.batch(sequence), &mut Hook::new(&mut see))?;
        let tokens = sequence.ids.len();
        let layers = inputs.into_iter().map(|(layer, x)| {
            let shares = (!by_influence).then(|| subject.shares(layer, x.clone()));
            let (how, all) = if let Some(shares) = shares.flatten() {
                (How::Shares, floats(shares))
            } else {
                let mix = |x, offsets: &[u32]| subject.mixed(layer, x, offsets);
                (How::Influence, influence(&x, mix))
            };
            LayerMixing {
                mixer: subject.mixer(layer),
                how,
                heads: all
                    .chunks(tokens * tokens)
                    .map(|x| Matrix::new(x, tokens))
                    .collect(),
            }
        });
        Ok(Self {
            layers: layers.collect(),
            tokens: sequence.names.clone(),
        })
    }

    /// A row for each layer and head: its place, what it is, and its [`Summary`].
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let header = vec![
            "layer",
            "mixer",
            "head",
            "breadth",
            "distance",
            "of itself",
            "most of",
            "share",
        ];
        let rows = self.layers.iter().enumerate().flat_map(|(layer, of)| {
            of.heads.iter().enumerate().map(move |(head, matrix)| {
                let summary = matrix.summary;
                vec![
                    layer.to_string(),
                    of.mixer.clone(),
                    match of.how {
                        How::Shares => head.to_string(),
                        How::Influence => "influence".to_owned(),
                    },
                    format!("{:.2}", summary.breadth),
                    format!("{:.2}", summary.distance),
                    format!("{:.3}", summary.own),
                    self.tokens[summary.most_at].clone(),
                    format!("{:.3}", summary.most),
                ]
            })
        });
        (header, rows.collect())
    }

    /// The same for a page, and a panel of maps for each layer.
    pub fn parts(&self, heading: &str) -> Vec<Part> {
        let (header, rows) = self.table();
        let notes = [
            "Breadth: from how many tokens a token takes, by entropy. Distance: how many places away. Of itself: the share that stays. Most of: the token that most is taken of, and its share. All means over the tokens, each row made to sum to 1.".to_owned(),
        ];
        let table = Table {
            title: "What the maps come to".to_owned(),
            header: header.into_iter().map(str::to_owned).collect(),
            rows,
            leads: false,
        };
        let mut parts = vec![Part::Heading(heading.to_owned())];
        let mut told = Vec::new();
        for (layer, of) in self.layers.iter().enumerate() {
            let mut maps = of.maps(layer, &self.tokens);
            // Once is enough.
            if told.contains(&of.how) {
                maps.note.clear();
            }
            told.push(of.how);
            parts.push(Part::Maps(maps));
        }
        parts.push(Part::Table(table, notes.to_vec()));
        parts
    }
}

impl LayerMixing {
    fn maps(&self, layer: usize, tokens: &[String]) -> Maps {
        let heads: Vec<Vec<f32>> = self.heads.iter().map(Matrix::normalised).collect();
        let mut mean = vec![0.0; tokens.len().pow(2)];
        for head in &heads {
            for (mean, x) in mean.iter_mut().zip(head) {
                *mean += x / heads.len() as f32;
            }
        }
        let count = heads.len();
        let (what, note) = match self.how {
            How::Shares => (
                "what each token (a row) takes of each (a column)",
                "Of softmax and the like: the numbers by which values are summed.",
            ),
            How::Influence => (
                "how much each token (a row) depends on each (a column)",
                "Of the mixer as a whole, by its Jacobian: how much a row's output changes with a column's input, each row made to sum to 1.",
            ),
        };
        let mut maps = vec![(
            if count > 1 { "mean of heads" } else { "" }.to_owned(),
            mean,
        )];
        if count > 1 {
            let named = heads.into_iter().enumerate();
            maps.extend(named.map(|(head, map)| (format!("head {head}"), map)));
        }
        Maps {
            title: format!("Layer {layer}, {}: {what}", self.mixer),
            note: format!(
                "{note} The stronger the colour, the larger the share, by its square root."
            ),
            tokens: tokens.to_vec(),
            maps,
        }
    }
}

impl Matrix {
    fn new(values: &[f32], tokens: usize) -> Self {
        let rows: Vec<Vec<f32>> = values.chunks(tokens).map(<[f32]>::to_vec).collect();
        Self {
            summary: Summary::of(&rows),
            rows,
        }
    }

    /// Each row made to sum to 1, row after row; of a row without anything zeros.
    fn normalised(&self) -> Vec<f32> {
        let shares = self.rows.iter().map(|row| shares(row));
        shares
            .flat_map(|row| row.into_iter().map(|x| x as f32))
            .collect()
    }
}

fn shares(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
    let sum = if sum > 0.0 { sum } else { 1.0 };
    row.iter().map(|&x| f64::from(x) / sum).collect()
}

impl Summary {
    fn of(rows: &[Vec<f32>]) -> Self {
        let all: Vec<(usize, Vec<f64>)> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.iter().any(|&x| x > 0.0))
            .map(|(at, row)| (at, shares(row)))
            .collect();
        let count = all.len().max(1) as f64;
        let mean = |of: &dyn Fn(usize, &[f64]) -> f64| {
            all.iter().map(|(at, row)| of(*at, row)).sum::<f64>() / count
        };
        let taken = |column: usize| mean(&|_, row| row[column]);
        let columns: Vec<f64> = (0..rows.len()).map(taken).collect();
        let most_at = crate::metric::classification::largest(&columns);
        Self {
            breadth: mean(&|_, row| breadth(row.iter().copied())),
            distance: mean(&|at, row| {
                let apart = row.iter().enumerate();
                apart.map(|(key, p)| at.abs_diff(key) as f64 * p).sum()
            }),
            own: mean(&|at, row| row[at]),
            most: columns.get(most_at).copied().unwrap_or(0.0),
            most_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_wide_how_far_and_of_what() {
        // All of the first token, equally of all four, of oneself, and of nothing.
        let rows = vec![
            vec![1.0, 0.0, 0.0, 0.0],
            vec![0.5; 4],
            vec![0.0, 0.0, 3.0, 0.0],
            vec![0.0; 4],
        ];
        let found = Summary::of(&rows);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a}, not {b}");
        near(found.breadth, (1.0 + 4.0 + 1.0) / 3.0);
        near(
            found.distance,
            (0.0 + (1.0 + 0.0 + 1.0 + 2.0) / 4.0 + 0.0) / 3.0,
        );
        near(found.own, (1.0 + 0.25 + 1.0) / 3.0);
        near(found.most, (1.0 + 0.25) / 3.0);
        assert_eq!(found.most_at, 0);
    }
}
