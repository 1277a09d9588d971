use std::collections::VecDeque;

use cloze_data::text::terms::Terms;
use cloze_spec::text::{Grams, TermUnit};
use rayon::prelude::*;

use crate::baseline::SparseRows;

/// A linear model of weighted words and pairs of them, its squared weights kept small: the sum of all losses and half the squared weights, without
/// those of the intercepts, is smallest.
///
/// # Source
/// `LogisticRegression(C=1)` of scikit-learn 1.9 for classes, the same one against the rest for sets of labels, and
/// `Ridge(alpha=1)` for numbers.
#[derive(Debug, Clone)]
pub struct Linear {
    terms: Terms,
    kind: Kind,
    /// `[T + 1, C]`: a row for each term, and the intercepts.
    weights: Vec<f64>,
    width: usize,
}

/// What is to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of `C` classes: their scores become probabilities by softmax.
    Softmax,
    /// Whether each of `C` holds, whatever the others do.
    Logistic,
    /// `C` numbers.
    Squares,
}

impl Linear {
    /// Fits texts, or pairs of them, to `targets`: `[N, C]` of zeros and ones, or of numbers.
    pub fn fit(texts: &[Vec<String>], kind: Kind, targets: &[f64]) -> Self {
        let terms = Terms::fit(texts, GRAMS);
        let rows = rows(&terms, texts);
        let width = targets.len() / texts.len().max(1);
        let weights = solve(rows, terms.len(), kind, targets, 1.0, TOLERANCE);
        Self {
            terms,
            kind,
            weights,
            width,
        }
    }

    /// Probabilities, or numbers, of texts: `[N, C]`.
    pub fn predict(&self, texts: &[Vec<String>]) -> Vec<f64> {
        let rows = rows(&self.terms, texts);
        let mut all = vec![0.0; texts.len() * self.width];
        let each = all.par_chunks_mut(self.width).enumerate();
        each.for_each(|(row, scores)| {
            score(rows.get(row as u32), &self.weights, scores);
            match self.kind {
                Kind::Softmax => {
                    softmax(scores);
                }
                Kind::Logistic => scores
                    .iter_mut()
                    .for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
                Kind::Squares => {}
            }
        });
        all
    }
}

/// Words and pairs of them; the bound is one of memory.
const GRAMS: Grams = Grams {
    unit: TermUnit::Words,
    min: 1,
    max: 2,
    min_texts: 1,
    max_terms: 200_000,
};

fn rows(terms: &Terms, texts: &[Vec<String>]) -> SparseRows {
    let rows = texts.par_iter().map(|text| terms.row(text));
    SparseRows::new(rows.collect::<Vec<_>>())
}

/// The weights `[D + 1, C]`, the last row being intercepts, at which `c` times all losses and half the squared weights, without
/// those of the intercepts, are smallest; until the slope, by example, is at most `tolerance`.
///
/// # Shapes
/// `rows: [N, D]`, `targets: [N, C]`
pub(in crate::text) fn solve(
    rows: SparseRows,
    terms: usize,
    kind: Kind,
    targets: &[f64],
    c: f64,
    tolerance: f64,
) -> Vec<f64> {
    let width = targets.len() / rows.len().max(1);
    let problem = Problem {
        columns: rows.transposed(terms),
        rows,
        kind,
        targets,
        width,
        penalty: 1.0 / c,
    };
    let start = vec![0.0; (terms + 1) * width];
    minimize(|weights: &[f64]| problem.value(weights), start, tolerance)
}

/// The sum of a row's weights, into `scores`.
fn score(row: &[(u32, f32)], weights: &[f64], scores: &mut [f64]) {
    let width = scores.len();
    scores.copy_from_slice(&weights[weights.len() - width..]);
    for &(term, value) in row {
        let of = &weights[term as usize * width..][..width];
        for (score, weight) in scores.iter_mut().zip(of) {
            *score += f64::from(value) * weight;
        }
    }
}

/// Scores become probabilities; returns the logarithm of what they were divided by.
fn softmax(scores: &mut [f64]) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
    let log = most + sum.ln();
    for score in scores {
        *score = (*score - log).exp();
    }
    log
}

struct Problem<'a> {
    rows: SparseRows,
    /// The same by term, so that each sum of the gradient has one thread and one order.
    columns: SparseRows,
    kind: Kind,
    targets: &'a [f64],
    width: usize,
    /// What half the squared weights weigh.
    penalty: f64,
}

impl Problem<'_> {
    /// What is to be small, by example, and its gradient.
    fn value(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let width = self.width;
        let count = self.targets.len() / width;
        let mut slopes = vec![0.0; self.targets.len()];
        let rows = slopes
            .par_chunks_mut(width)
            .zip(self.targets.par_chunks(width));
        let losses: Vec<f64> = rows
            .enumerate()
            .map(|(row, (scores, targets))| {
                score(self.rows.get(row as u32), weights, scores);
                slopes_of(self.kind, scores, targets)
            })
            .collect();
        let share = 1.0 / count as f64;
        let intercepts = weights.len() - width;
        let mut gradient = vec![0.0; weights.len()];
        gradient
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(term, sums)| {
                let at = term * width;
                if at == intercepts {
                    for slopes in slopes.chunks(width) {
                        sums.iter_mut()
                            .zip(slopes)
                            .for_each(|(sum, slope)| *sum += slope);
                    }
                } else {
                    let weights = sums.iter_mut().zip(&weights[at..at + width]);
                    weights.for_each(|(sum, weight)| *sum = self.penalty * weight);
                    for &(row, value) in self.columns.get(term as u32) {
                        let slopes = &slopes[row as usize * width..][..width];
                        let pairs = sums.iter_mut().zip(slopes);
                        pairs.for_each(|(sum, slope)| *sum += f64::from(value) * slope);
                    }
                }
                for sum in sums {
                    *sum *= share;
                }
            });
        let squares: f64 = weights[..intercepts].iter().map(|w| w * w).sum();
        let loss: f64 = losses.iter().sum();
        ((loss + 0.5 * self.penalty * squares) * share, gradient)
    }
}

/// The loss of an example's scores, which become its slopes.
pub(crate) fn slopes_of(kind: Kind, scores: &mut [f64], targets: &[f64]) -> f64 {
    let pairs = scores.iter().zip(targets);
    match kind {
        Kind::Softmax => {
            let own: f64 = pairs.map(|(score, target)| score * target).sum();
            let loss = softmax(scores) - own;
            scores
                .iter_mut()
                .zip(targets)
                .for_each(|(p, target)| *p -= target);
            loss
        }
        Kind::Logistic => {
            // ln(1 + eˣ), without leaving the range of numbers.
            let loss = pairs
                .map(|(x, y)| x.max(0.0) + (-x.abs()).exp().ln_1p() - x * y)
                .sum();
            for (x, y) in scores.iter_mut().zip(targets) {
                *x = 1.0 / (1.0 + (-*x).exp()) - y;
            }
            loss
        }
        Kind::Squares => {
            scores.iter_mut().zip(targets).for_each(|(x, y)| *x -= y);
            0.5 * dot(scores, scores)
        }
    }
}

/// Steps that the curvature is told from.
const MEMORY: usize = 6;
const MAX_STEPS: usize = 1000;
/// Slope, by example, at which a baseline is found.
const TOLERANCE: f64 = 1e-6;
/// Share of the fall that the slope promises which a step must bring.
const ENOUGH: f64 = 1e-4;
/// What is lost in summing up.
const ROUNDING: f64 = 1e-14;
const MAX_HALVINGS: usize = 40;

/// Where a convex function, given with its gradient, is smallest, by L-BFGS.
///
/// # Source
/// Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5, steps halved as in algorithm 3.1.
pub(crate) fn minimize(
    value: impl Fn(&[f64]) -> (f64, Vec<f64>),
    mut x: Vec<f64>,
    tolerance: f64,
) -> Vec<f64> {
    let (mut height, mut gradient) = value(&x);
    let mut steps: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for _ in 0..MAX_STEPS {
        if gradient.iter().all(|slope| slope.abs() <= tolerance) {
            break;
        }
        let direction = direction(&gradient, &steps);
        let slope = dot(&direction, &gradient);
        let mut length = if steps.is_empty() {
            1.0 / dot(&gradient, &gradient).sqrt()
        } else {
            1.0
        };
        let next = (0..MAX_HALVINGS).find_map(|_| {
            let pairs = x.iter().zip(&direction);
            let next: Vec<f64> = pairs.map(|(x, d)| x + length * d).collect();
            let (found, slopes) = value(&next);
            // Near the bottom a fall cannot be told from rounding, but a smaller slope can.
            let is_level = found <= height + ROUNDING * height.abs();
            let falls = found <= height + ENOUGH * length * slope
                || is_level && dot(&slopes, &direction).abs() <= 0.5 * slope.abs();
            length *= 0.5;
            falls.then_some((next, found, slopes))
        });
        // No fall can be told from rounding any more.
        let Some((next, found, slopes)) = next else {
            break;
        };
        let change = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let step: (Vec<f64>, Vec<f64>) = (change(&next, &x), change(&slopes, &gradient));
        (x, height, gradient) = (next, found, slopes);
        if dot(&step.0, &step.1) > 0.0 {
            if steps.len() == MEMORY {
                steps.pop_front();
            }
            steps.push_back(step);
        }
    }
    x
}

/// Downhill, the curvature taken from the last steps and the changes of the gradient that they brought.
fn direction(gradient: &[f64], steps: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let add = |to: &mut [f64], factor: f64, of: &[f64]| {
        to.iter_mut()
            .zip(of)
            .for_each(|(to, of)| *to += factor * of);
    };
    let mut factors = Vec::with_capacity(steps.len());
    for (step, change) in steps.iter().rev() {
        let factor = dot(step, &direction) / dot(step, change);
        add(&mut direction, -factor, change);
        factors.push(factor);
    }
    if let Some((step, change)) = steps.back() {
        let scale = dot(step, change) / dot(change, change);
        for value in &mut direction {
            *value *= scale;
        }
    }
    for ((step, change), factor) in steps.iter().zip(factors.into_iter().rev()) {
        let back = dot(change, &direction) / dot(step, change);
        add(&mut direction, factor - back, step);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
