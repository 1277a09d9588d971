use cloze_runtime::predict::features::{Plane, Rule, distance};
use cloze_spec::text::Rbf;

use super::Learning;
use crate::Error;

/// Texts at most: what each has to do with each other is kept, in 8 bytes.
const MAX_TEXTS: usize = 8192;
/// How far the two worst examples may be from agreeing on the threshold.
const TOLERANCE: f64 = 1e-6;
const MAX_STEPS: usize = 10_000_000;
/// In the place of a curvature that is none.
const FLAT: f64 = 1e-12;

/// What the hinge loss makes of examples: the weight of each, with the sign of its side, and what is added.
struct Margin {
    weights: Vec<f64>,
    threshold: f64,
}

impl Learning<'_> {
    /// The plane with the widest margin, of each class against the rest, or of the second of two.
    pub(super) fn linear(&self, c: f64) -> Result<Rule, Error> {
        let margins = self.margins(c, dot)?;
        let outputs = margins.len();
        let mut weights = vec![0.0; (self.width + 1) * outputs];
        for (output, margin) in margins.iter().enumerate() {
            for (row, weight) in self.rows.iter().zip(&margin.weights) {
                for &(feature, value) in row {
                    weights[feature as usize * outputs + output] += weight * f64::from(value);
                }
            }
            weights[self.width * outputs + output] = margin.threshold;
        }
        Ok(Rule::Linear(Plane { weights, outputs }))
    }

    /// The same in the space of bumps around the texts.
    pub(super) fn bumps(&self, settings: Rbf) -> Result<Rule, Error> {
        let gamma = settings.gamma.unwrap_or_else(|| {
            let count = (self.rows.len() * self.width) as f64;
            let values = || self.rows.iter().flatten().map(|(_, x)| f64::from(*x));
            let mean = values().sum::<f64>() / count;
            let zeros = count - values().count() as f64;
            let squares = values().map(|x| (x - mean).powi(2)).sum::<f64>() + zeros * mean * mean;
            let variance = squares / count;
            if variance > 0.0 {
                1.0 / (self.width as f64 * variance)
            } else {
                1.0
            }
        });
        let margins = self.margins(settings.c, |a, b| (-gamma * distance(a, b)).exp())?;
        let counts = |at: &usize| margins.iter().any(|margin| margin.weights[*at] != 0.0);
        let kept: Vec<usize> = (0..self.rows.len()).filter(counts).collect();
        let heights = margins.iter().map(|margin| {
            let heights = kept.iter().map(|&at| margin.weights[at]);
            heights.chain([margin.threshold]).collect()
        });
        Ok(Rule::Bumps {
            gamma,
            heights: heights.collect(),
            centres: kept.iter().map(|&at| self.rows[at].clone()).collect(),
        })
    }

    fn margins(
        &self,
        c: f64,
        product: impl Fn(&[(u32, f32)], &[(u32, f32)]) -> f64,
    ) -> Result<Vec<Margin>, Error> {
        let count = self.rows.len();
        if count > MAX_TEXTS {
            return Err(Error::Empty(format!(
                "expected at most {MAX_TEXTS} training texts for a support vector machine, found {count}; take another \
                 classifier, or fewer texts by --set data.per_class=…"
            )));
        }
        let mut products = vec![0.0; count * count];
        for (at, row) in self.rows.iter().enumerate() {
            for (other, second) in self.rows.iter().enumerate().take(at + 1) {
                let value = product(row, second);
                products[at * count + other] = value;
                products[other * count + at] = value;
            }
        }
        let classes = if self.count == 2 {
            1..2
        } else {
            0..self.count as u32
        };
        let margins = classes.map(|class| {
            let sides = self
                .classes
                .iter()
                .map(|&own| if own == class { 1.0 } else { -1.0 });
            margin(&products, &sides.collect::<Vec<f64>>(), c)
        });
        Ok(margins.collect())
    }
}

/// The weights at which the hinge loss times `c` and half the squared length are smallest, by steps of the two examples that
/// bring most.
///
/// # Shapes
/// `products: [N, N]`; `sides: [N]`, 1 or −1
/// # Source
/// Fan, Chen and Lin, Working Set Selection Using Second Order Information, JMLR 6, 2005, algorithm 2, as in LIBSVM.
fn margin(products: &[f64], sides: &[f64], c: f64) -> Margin {
    let count = sides.len();
    let mut alphas = vec![0.0; count];
    let mut slopes = vec![-1.0; count];
    let may_rise = |at: usize, alphas: &[f64]| {
        if sides[at] > 0.0 {
            alphas[at] < c
        } else {
            alphas[at] > 0.0
        }
    };
    let may_fall = |at: usize, alphas: &[f64]| {
        if sides[at] > 0.0 {
            alphas[at] > 0.0
        } else {
            alphas[at] < c
        }
    };
    for _ in 0..MAX_STEPS {
        let pull = |at: usize| -sides[at] * slopes[at];
        let rising = (0..count).filter(|&at| may_rise(at, &alphas));
        let Some(i) = rising.reduce(|best, at| if pull(at) > pull(best) { at } else { best })
        else {
            break;
        };
        let (mut lowest, mut best) = (f64::INFINITY, None);
        for j in (0..count).filter(|&at| may_fall(at, &alphas)) {
            lowest = lowest.min(pull(j));
            let gap = pull(i) - pull(j);
            if gap > 0.0 {
                let curve = curvature(products, count, i, j);
                let gain = gap * gap / curve;
                if best.is_none_or(|(_, most)| gain > most) {
                    best = Some((j, gain));
                }
            }
        }
        let Some((j, _)) = best.filter(|_| pull(i) - lowest > TOLERANCE) else {
            break;
        };
        let curve = curvature(products, count, i, j);
        // Along it the first rises by its side, and the second falls by its own.
        let room = |at: usize, up: bool| {
            if up == (sides[at] > 0.0) {
                c - alphas[at]
            } else {
                alphas[at]
            }
        };
        let step = ((pull(i) - pull(j)) / curve)
            .min(room(i, true))
            .min(room(j, false));
        let move_to = |alpha: f64, by: f64| {
            let moved = alpha + by;
            // On the border exactly, however sums were rounded.
            if moved < 1e-14 * c {
                0.0
            } else if moved > c * (1.0 - 1e-14) {
                c
            } else {
                moved
            }
        };
        let before = [alphas[i], alphas[j]];
        alphas[i] = move_to(alphas[i], sides[i] * step);
        alphas[j] = move_to(alphas[j], -sides[j] * step);
        let [by_i, by_j] = [alphas[i] - before[0], alphas[j] - before[1]];
        for (at, slope) in slopes.iter_mut().enumerate() {
            *slope += sides[at]
                * (sides[i] * by_i * products[i * count + at]
                    + sides[j] * by_j * products[j * count + at]);
        }
    }
    // What lies on the margin says where it is; without such, the middle of where it may be.
    let free: Vec<usize> = (0..count)
        .filter(|&at| alphas[at] > 0.0 && alphas[at] < c)
        .collect();
    let pull = |at: usize| -sides[at] * slopes[at];
    let threshold = if free.is_empty() {
        let high = (0..count)
            .filter(|&at| may_rise(at, &alphas))
            .map(pull)
            .fold(f64::NEG_INFINITY, f64::max);
        let low = (0..count)
            .filter(|&at| may_fall(at, &alphas))
            .map(pull)
            .fold(f64::INFINITY, f64::min);
        match (high.is_finite(), low.is_finite()) {
            (true, true) => 0.5 * (high + low),
            (true, false) => high,
            (false, true) => low,
            (false, false) => 0.0,
        }
    } else {
        free.iter().map(|&at| pull(at)).sum::<f64>() / free.len() as f64
    };
    Margin {
        weights: alphas
            .iter()
            .zip(sides)
            .map(|(alpha, side)| alpha * side)
            .collect(),
        threshold,
    }
}

/// Of the line along which one example's weight rises as the other's falls.
fn curvature(products: &[f64], count: usize, i: usize, j: usize) -> f64 {
    let product = |a: usize, b: usize| products[a * count + b];
    (product(i, i) + product(j, j) - 2.0 * product(i, j)).max(FLAT)
}

fn dot(a: &[(u32, f32)], b: &[(u32, f32)]) -> f64 {
    let mut rest = b.iter().peekable();
    let mut sum = 0.0;
    for &(feature, x) in a {
        while rest.next_if(|(other, _)| *other < feature).is_some() {}
        if let Some(&(_, y)) = rest.next_if(|(other, _)| *other == feature) {
            sum += f64::from(x) * f64::from(y);
        }
    }
    sum
}
