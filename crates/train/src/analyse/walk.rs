//! How a token's vector moves from the embedding to the last layer: how far at each part, which way, and moved by whom.
//!
//! # Source
//! Singh, Analyzing Transformer Dynamics as Movement through Embedding Space, 2023, arXiv:2308.10874, for what is asked.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use cloze_nn::{Hook, op};
use serde::Serialize;

use super::{Sequence, Site, Subject, floats, tensor, titled};
use crate::Error;
use crate::metric::bootstrap::{self, Interval};
use crate::report::analysis::{Curve, Part, Path, Plane};
use crate::report::scores::Table;

/// Tokens that are told of those that moved another.
const MOVERS: usize = 3;
/// Vectors that the plane of a page is laid through, at most.
const FITTED: usize = 4096;
/// Rounds that find the plane: as much as can be seen of it.
const ROUNDS: usize = 60;

/// The walks of some tokens of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Walk {
    /// What the tokens are called, `T`.
    pub tokens: Vec<String>,
    /// The places looked at.
    pub places: Vec<Place>,
}

/// The walk of a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// Which token.
    pub at: usize,
    /// How long all steps are together.
    pub length: f64,
    /// The way from the start to the end, as a share of that: 1 straight on.
    pub straightness: f64,
    /// The states of the residual stream, in the order of the pass.
    pub states: Vec<State>,
    /// Who moved it in each layer whose mixer sums values by shares.
    pub moved: Vec<Moved>,
    /// The states' vectors.
    #[serde(skip)]
    vectors: Vec<Vec<f32>>,
}

/// A state of the residual stream on a walk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// The site's name.
    pub site: String,
    /// How long its vector is.
    pub norm: f64,
    /// How long the step that led here is, as a share of how long the vector before it was; none at the start.
    pub step: Option<f64>,
    /// Cosine of that step and the one before it; none of the first.
    pub turn: Option<f64>,
    /// Cosine of its vector and the first one.
    pub start: f64,
    /// Cosine of its vector and the last one.
    pub end: f64,
}

/// Who moved a token in a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// Which layer.
    pub layer: usize,
    /// The tokens that moved it most, and the share of each: how long what it alone adds is, of all such lengths.
    pub by: Vec<(usize, f64)>,
}

impl Walk {
    /// Looks at the places that are to be filled, or else at all tokens; of a history at where the next item is foretold. With
    /// `movers` also at who moved them, which takes a pass through each mixer for each token.
    ///
    /// # Errors
    /// If the sequence does not fit the model.
    pub fn of(subject: &Subject, sequence: &Sequence, movers: bool) -> Result<Self, Error> {
        let places = subject.asked(sequence);
        let rows = places.iter().map(|&at| at as u32).collect();
        let (mut stream, mut inputs) = (Vec::new(), BTreeMap::new());
        let mut see = |site, x: Tensor<2>| {
            match site {
                Site::Embedding | Site::Middle(_) | Site::Layer(_) => {
                    stream.push((site, floats(op::select_rows(x.clone(), &rows))));
                }
                Site::Input(layer) => {
                    inputs.insert(layer, x.clone());
                }
                Site::Mixer(_) | Site::Ffn(_) => {}
            }
            x
        };
        subject.pass(&subject.batch(sequence), &mut Hook::new(&mut see))?;
        let width = subject.width();
        let mut all: Vec<Place> = places
            .iter()
            .enumerate()
            .map(|(row, &at)| {
                let of = |(_, x): &(Site, Vec<f32>)| x[row * width..(row + 1) * width].to_vec();
                let vectors: Vec<Vec<f32>> = stream.iter().map(of).collect();
                let sites = stream.iter().map(|(site, _)| *site);
                Place::new(at, sites, vectors)
            })
            .collect();
        if movers {
            for (layer, x) in inputs {
                let Some(by) = subject.movers(layer, &x) else {
                    continue;
                };
                for place in &mut all {
                    let mut own: Vec<(usize, f64)> =
                        by[place.at].iter().copied().enumerate().collect();
                    own.sort_by(|a, b| b.1.total_cmp(&a.1));
                    own.truncate(MOVERS);
                    place.moved.push(Moved { layer, by: own });
                }
            }
        }
        Ok(Self {
            tokens: sequence.names.clone(),
            places: all,
        })
    }
}

impl Place {
    fn new(at: usize, sites: impl Iterator<Item = Site>, vectors: Vec<Vec<f32>>) -> Self {
        let steps: Vec<Vec<f32>> = vectors
            .windows(2)
            .map(|pair| pair[1].iter().zip(&pair[0]).map(|(b, a)| b - a).collect())
            .collect();
        let (first, last) = (&vectors[0], &vectors[vectors.len() - 1]);
        let states = sites.zip(&vectors).enumerate().map(|(index, (site, x))| {
            let before = index.checked_sub(1);
            State {
                site: site.to_string(),
                norm: norm(x),
                step: before.map(|at| norm(&steps[at]) / norm(&vectors[at])),
                turn: before.and_then(|at| Some(cosine(&steps[at], &steps[at.checked_sub(1)?]))),
                start: cosine(x, first),
                end: cosine(x, last),
            }
        });
        let length = steps.iter().map(|step| norm(step)).sum();
        let way: Vec<f32> = last.iter().zip(first).map(|(b, a)| b - a).collect();
        Self {
            at,
            length,
            straightness: norm(&way) / length,
            states: states.collect(),
            moved: Vec::new(),
            vectors,
        }
    }
}

impl Place {
    /// The vectors before the first layer and after each, of the states.
    fn drawn(&self) -> impl Iterator<Item = &Vec<f32>> {
        let states = self.states.iter().zip(&self.vectors);
        let is_drawn = |state: &State| !matches!(state.site.parse(), Ok(Site::Middle(_)));
        states
            .filter(move |(state, _)| is_drawn(state))
            .map(|(_, x)| x)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}

fn norm(x: &[f32]) -> f64 {
    dot(x, x).sqrt()
}

/// 0 of what has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}

impl Subject {
    /// Of each token how much each moves it in a layer, shares of 1; none where the mixer does not sum values by shares.
    ///
    /// # Shapes
    /// `x: [T, D]`, of [`Site::Input`] → `[T, T]`, a row a token that is moved
    fn movers(&self, layer: usize, x: &Tensor<2>) -> Option<Vec<Vec<f64>>> {
        let shares = self.shares(layer, x.clone())?;
        let [tokens, width] = x.dims();
        // What all have in common, such as a bias, is from nobody.
        let rest = self.summed(layer, x.clone(), shares.zeros_like())?;
        let mut rows = vec![vec![0.0; tokens]; tokens];
        for from in 0..tokens {
            let alone = shares.clone() * only(from, tokens, &x.device()).unsqueeze();
            let added = floats(self.summed(layer, x.clone(), alone)? - rest.clone());
            for (row, added) in rows.iter_mut().zip(added.chunks(width)) {
                row[from] = norm(added);
            }
        }
        for row in &mut rows {
            let sum: f64 = row.iter().sum();
            if sum > 0.0 {
                for share in row {
                    *share /= sum;
                }
            }
        }
        Some(rows)
    }
}

/// 1 at one of so many places, 0 at the others.
fn only(at: usize, count: usize, device: &Device) -> Tensor<1> {
    let mut places = vec![0.0; count];
    places[at] = 1.0;
    tensor(places, [count], device)
}

/// What the walks of several sequences have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Walks {
    /// Places looked at.
    pub places: usize,
    /// How long a walk is.
    pub length: Interval,
    /// The way from start to end as a share of that.
    pub straightness: Interval,
    /// Each state of the residual stream, in the order of the pass.
    pub states: Vec<MeanState>,
}

/// Means over places, of what [`State`] says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeanState {
    /// The site's name.
    pub site: String,
    /// How long the vector is.
    pub norm: Interval,
    /// How long the step is as a share of the vector before it.
    pub step: Option<Interval>,
    /// Cosine of the step and the one before it.
    pub turn: Option<Interval>,
    /// Cosine with the first vector.
    pub start: Interval,
    /// Cosine with the last one.
    pub end: Interval,
}

impl Walks {
    /// Of all places of some sequences; none without any.
    pub fn of<'a>(all: impl Iterator<Item = &'a Walk>) -> Option<Self> {
        let places: Vec<&Place> = all.flat_map(|walk| &walk.places).collect();
        let first = places.first()?;
        let mean = |of: &dyn Fn(&Place) -> f64| {
            let values: Vec<f64> = places.iter().map(|place| of(place)).collect();
            bootstrap::mean(&values, 0)
        };
        let states = first.states.iter().enumerate().map(|(index, state)| {
            let some = |of: fn(&State) -> Option<f64>| {
                of(state)?;
                Some(mean(&|place| of(&place.states[index]).unwrap_or_default()))
            };
            MeanState {
                site: state.site.clone(),
                norm: mean(&|place| place.states[index].norm),
                step: some(|state| state.step),
                turn: some(|state| state.turn),
                start: mean(&|place| place.states[index].start),
                end: mean(&|place| place.states[index].end),
            }
        });
        Some(Self {
            places: places.len(),
            length: mean(&|place| place.length),
            straightness: mean(&|place| place.straightness),
            states: states.collect(),
        })
    }

    /// A row for each state.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let three = |value: Interval| format!("{:.3}", value.mean);
        let some = |value: Option<Interval>| value.map(three).unwrap_or_default();
        let rows = self.states.iter().map(|of| {
            vec![
                of.site.clone(),
                three(of.norm),
                some(of.step),
                some(of.turn),
                three(of.start),
                three(of.end),
            ]
        });
        let header = vec!["site", "norm", "step", "turn", "from start", "to end"];
        (header, rows.collect())
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        let three = |of: Interval| format!("{:.3} ({:.3} to {:.3})", of.mean, of.low, of.high);
        vec![
            format!(
                "places: {}, over which all are means; a walk is {} long, and {} of that is the way from its start to its end; in brackets 95 % by bootstrap over places",
                self.places,
                three(self.length),
                three(self.straightness)
            ),
            "step: how long the step to this state is, as a share of the vector before it. turn: cosine with the step before; 1 goes straight on, below 0 goes back. from start, to end: cosine with the first and the last state".to_owned(),
        ]
    }

    /// The same for a page, and how the walks `all`, which have these headings, look in the plane in which they are widest.
    pub fn parts(&self, all: &[(String, Walk)]) -> Vec<Part> {
        let curve = |title: &str, unit: &str, of: &dyn Fn(&MeanState) -> Option<Interval>| Curve {
            title: title.to_owned(),
            unit: unit.to_owned(),
            values: self
                .states
                .iter()
                .filter(|state| matches!(state.site.parse(), Ok(Site::Layer(_))))
                .map(|state| of(state).map_or(f64::NAN, |value| value.mean))
                .collect(),
            mark: None,
            is_gain: false,
        };
        let places = all.iter().flat_map(|(_, walk)| {
            let named = |place: &'_ Place| walk.tokens[place.at].clone();
            walk.places.iter().map(move |place| (named(place), place))
        });
        let places: Vec<(String, &Place)> = places.collect();
        let (axes, share) = plane(&places.iter().map(|(_, place)| *place).collect::<Vec<_>>());
        let paths = places.iter().map(|(name, place)| Path {
            name: name.clone(),
            points: place.drawn().map(|x| axes.point(x)).collect(),
        });
        let mut parts = vec![
            Part::Plane(Plane {
                title: "Walks, from the embedding to the last layer".to_owned(),
                note: format!(
                    "Each line is a token's, from where it is thin to its end, where its name stands: its vector after each layer, in the plane in which all these are widest, {:.0} % of their variance.",
                    100.0 * share
                ),
                paths: paths.collect(),
            }),
            Part::Curves(vec![
                curve("How long the vectors are", "after each layer", &|state| {
                    Some(state.norm)
                }),
                curve(
                    "Cosine with where the walk ends",
                    "after each layer",
                    &|state| Some(state.end),
                ),
            ]),
        ];
        parts.push(Part::Table(titled("Steps", self.table()), self.notes()));
        for (heading, walk) in all {
            let (header, rows) = walk.table();
            if rows.is_empty() {
                continue;
            }
            parts.push(Part::Heading(heading.clone()));
            parts.push(Part::Table(
                Table {
                    title: "Who moved whom".to_owned(),
                    header,
                    rows,
                    leads: false,
                },
                vec![MOVED.to_owned()],
            ));
        }
        parts
    }
}

/// What must be known to read who moved whom.
pub const MOVED: &str = "Of what the layer's mixer adds to the token: the tokens whose values are the longest part of it, and how long, as a share of all such lengths.";

impl Walk {
    /// Who moved each place: a row a place, a column a layer; empty where that was not asked, or no mixer sums values by shares.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = vec!["token".to_owned()];
        let first = self.places.first();
        let layers = first.iter().flat_map(|place| &place.moved);
        header.extend(layers.map(|moved| format!("layer {}", moved.layer)));
        if header.len() == 1 {
            return (header, Vec::new());
        }
        let rows = self.places.iter().map(|place| {
            let layers = place.moved.iter().map(|moved| {
                let by = moved
                    .by
                    .iter()
                    .map(|(from, share)| format!("{} {share:.2}", self.tokens[*from]));
                by.collect::<Vec<_>>().join("  ")
            });
            let name = format!("{} ({})", self.tokens[place.at], place.at);
            std::iter::once(name).chain(layers).collect()
        });
        (header, rows.collect())
    }
}

/// Two directions and a middle.
struct Axes {
    middle: Vec<f64>,
    axes: [Vec<f64>; 2],
}

impl Axes {
    fn point(&self, x: &[f32]) -> (f64, f64) {
        let along = |axis: &[f64]| {
            let parts = x.iter().zip(&self.middle).zip(axis);
            parts
                .map(|((&x, middle), axis)| (f64::from(x) - middle) * axis)
                .sum()
        };
        (along(&self.axes[0]), along(&self.axes[1]))
    }
}

/// The plane in which the states of some walks are widest, and the share of their variance in it: two principal components, by
/// orthogonal iteration.
fn plane(places: &[&Place]) -> (Axes, f64) {
    let all: Vec<&Vec<f32>> = places.iter().flat_map(|place| place.drawn()).collect();
    let every = all.len().div_ceil(FITTED).max(1);
    let rows: Vec<&Vec<f32>> = all.into_iter().step_by(every).collect();
    let width = rows.first().map_or(0, |row| row.len());
    let count = rows.len().max(1) as f64;
    let mut middle = vec![0.0; width];
    for row in &rows {
        for (middle, &x) in middle.iter_mut().zip(*row) {
            *middle += f64::from(x) / count;
        }
    }
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(&middle)
                .map(|(&x, m)| f64::from(x) - m)
                .collect()
        })
        .collect();
    // Any start that is not across both will do.
    let mut axes = [1_usize, 2].map(|step| {
        let axis = (0..width).map(|at| ((at * step + 1) as f64).sin());
        axis.collect::<Vec<f64>>()
    });
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut variance = [0.0; 2];
    for _ in 0..ROUNDS {
        for axis in &mut axes {
            let mut next = vec![0.0; width];
            for row in &centred {
                let along = inner(row, axis);
                for (next, x) in next.iter_mut().zip(row) {
                    *next += along * x / count;
                }
            }
            *axis = next;
        }
        let overlap = inner(&axes[0], &axes[1]) / inner(&axes[0], &axes[0]).max(f64::MIN_POSITIVE);
        let [first, second] = &mut axes;
        for (second, first) in second.iter_mut().zip(&*first) {
            *second -= overlap * first;
        }
        for (axis, variance) in axes.iter_mut().zip(&mut variance) {
            let length = inner(axis, axis).sqrt();
            if length > 0.0 {
                for x in axis {
                    *x /= length;
                }
            }
            *variance = length;
        }
    }
    let total: f64 = centred.iter().map(|row| inner(row, row) / count).sum();
    let share = variance.iter().sum::<f64>() / total.max(f64::MIN_POSITIVE);
    (Axes { middle, axes }, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_there_and_back_is_long_and_leads_nowhere() {
        let vectors = [[1.0_f32, 0.0], [1.0, 2.0], [1.0, 0.0], [3.0, 0.0]];
        let sites = [
            Site::Embedding,
            Site::Middle(0),
            Site::Layer(0),
            Site::Layer(1),
        ];
        let place = Place::new(5, sites.into_iter(), vectors.map(|x| x.to_vec()).to_vec());
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        near(place.length, 6.0);
        near(place.straightness, 2.0 / 6.0);
        let steps: Vec<Option<f64>> = place.states.iter().map(|state| state.step).collect();
        assert_eq!(steps[0], None);
        near(steps[1].unwrap(), 2.0);
        near(steps[2].unwrap(), 2.0 / 5.0_f64.sqrt());
        assert_eq!(place.states[1].turn, None);
        near(place.states[2].turn.unwrap(), -1.0);
        near(place.states[3].turn.unwrap(), 0.0);
        near(place.states[1].start, 1.0 / 5.0_f64.sqrt());
        near(place.states[0].end, 1.0);
    }

    #[test]
    fn the_plane_is_that_in_which_vectors_are_widest() {
        // Wide along the third channel, less along the first, little along the second.
        let vectors = (0..40).map(|at| {
            let turn = f64::from(at) * 0.7;
            vec![
                turn.cos() as f32 * 2.0,
                (turn * 3.0).sin() as f32 * 0.1,
                turn.sin() as f32 * 9.0,
            ]
        });
        let vectors: Vec<Vec<f32>> = vectors.collect();
        let sites = std::iter::repeat_n(Site::Embedding, 40);
        let place = Place::new(0, sites, vectors);
        let (axes, share) = plane(&[&place]);
        assert!(axes.axes[0][2].abs() > 0.999 && axes.axes[1][0].abs() > 0.99);
        assert!((0.99..=1.0 + 1e-9).contains(&share), "{share}");
    }
}
