//! Which numbers differ, and which are ties: differences that lie within the spread of seeds are none.

use std::cmp::Ordering;

/// How far equal models lie apart that began with other seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Standard deviation, pooled over all mixers.
    pub deviation: f64,
    /// Runs beyond the first of each mixer: degrees of freedom.
    pub freedom: usize,
}

impl Spread {
    /// That of runs which differ in their seed alone, a list for each mixer; none if no mixer was run twice.
    pub fn of<'a>(mixers: impl IntoIterator<Item = &'a [f64]>) -> Option<Self> {
        let (mut squares, mut freedom) = (0.0, 0);
        for runs in mixers {
            let middle = mean(runs);
            squares += runs.iter().map(|run| (run - middle).powi(2)).sum::<f64>();
            freedom += runs.len().saturating_sub(1);
        }
        (freedom > 0).then(|| Self {
            deviation: (squares / freedom as f64).sqrt(),
            freedom,
        })
    }

    /// Means of so many runs each must lie farther apart than this to differ at 95 %, by Student's test.
    pub fn least(self, first: usize, second: usize) -> f64 {
        let runs = 1.0 / first as f64 + 1.0 / second as f64;
        quantile(self.freedom) * self.deviation * runs.sqrt()
    }
}

/// The 97.5 % quantile of Student's distribution.
fn quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    let count = freedom as f64;
    // Beyond the table, the first terms of its expansion in 1 / freedom (Abramowitz and Stegun, 1964, 26.7.5).
    match freedom {
        1..=10 => TABLE[freedom - 1],
        _ => 1.95996 + 2.37227 / count + 2.82250 / (count * count),
    }
}

/// What one mixer is beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better.
    Better,
    /// No farther from it than seeds lie apart.
    Tie,
    /// Worse.
    Worse,
}

/// What runs of `own` are beside those of `other`; none where the spread is not known.
pub fn verdict(
    own: &[f64],
    other: &[f64],
    lower_is_better: bool,
    spread: Option<Spread>,
) -> Option<Verdict> {
    let least = spread?.least(own.len(), other.len());
    let difference = mean(own) - mean(other);
    Some(if difference.abs() <= least {
        Verdict::Tie
    } else if (difference < 0.0) == lower_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    })
}

/// The mean; of nothing, 0.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The better one first.
pub fn better(own: f64, other: f64, lower_is_better: bool) -> Ordering {
    if lower_is_better {
        own.total_cmp(&other)
    } else {
        other.total_cmp(&own)
    }
}

/// A power law through points of length and cost: `cost = factor · length^exponent`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// The exponent.
    pub exponent: f64,
    /// The logarithm of the factor.
    factor_log: f64,
}

impl Power {
    /// The line of least squares through the logarithms of both; none of fewer than two points.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let count = logs.len() as f64;
        let x = logs.iter().map(|log| log.0).sum::<f64>() / count;
        let y = logs.iter().map(|log| log.1).sum::<f64>() / count;
        let rise: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
        let run: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
        let exponent = rise / run;
        exponent.is_finite().then_some(Self {
            exponent,
            factor_log: y - exponent * x,
        })
    }

    /// Where it meets another that grows faster.
    fn meets(self, faster: Self) -> f64 {
        ((self.factor_log - faster.factor_log) / (faster.exponent - self.exponent)).exp()
    }
}

/// From which length on a mixer is cheaper than the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CrossOver {
    /// At every length measured.
    Always,
    /// From about here on.
    From(f64),
    /// At no length measured; the fitted lines meet about here.
    Beyond(f64),
    /// At no length measured, and it grows as fast.
    Never,
}

/// Where `own` becomes cheaper than `reference`, both measured at the same lengths in rising order: between two lengths on a
/// straight line of the logarithms, beyond the last one where the lines `fits` meet.
pub fn cross_over(
    lengths: &[f64],
    own: &[f64],
    reference: &[f64],
    fits: Option<[Power; 2]>,
) -> CrossOver {
    /// Exponents that lie closer are the same.
    const SAME: f64 = 0.1;
    // Above 0 where it costs more.
    let over: Vec<f64> = own
        .iter()
        .zip(reference)
        .map(|(own, other)| (own / other).ln())
        .collect();
    match over.iter().rposition(|&over| over >= 0.0) {
        None => CrossOver::Always,
        Some(last) if last + 1 < over.len() => {
            let share = over[last] / (over[last] - over[last + 1]);
            let [from, to] = [lengths[last], lengths[last + 1]];
            CrossOver::From(from * (to / from).powf(share))
        }
        Some(_) => match fits {
            Some([own, other]) if own.exponent + SAME < other.exponent => {
                let end = lengths.last().copied().unwrap_or_default();
                CrossOver::Beyond(own.meets(other).max(end))
            }
            _ => CrossOver::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) {
        assert!(
            (one - other).abs() < 1e-9 * other.abs().max(1.0),
            "{one}, {other}"
        );
    }

    #[test]
    fn spread_is_pooled_over_mixers_and_unknown_of_single_runs() {
        assert_eq!(Spread::of([&[1.0][..], &[2.0]]), None);
        let spread = Spread::of([&[1.0, 3.0][..], &[5.0], &[10.0, 10.0, 13.0]]).unwrap();
        assert_eq!(spread.freedom, 3);
        close(spread.deviation, (8.0_f64 / 3.0).sqrt());
        close(
            spread.least(1, 1),
            3.182 * (8.0_f64 / 3.0).sqrt() * 2.0_f64.sqrt(),
        );
    }

    #[test]
    fn differences_within_the_spread_are_ties() {
        let spread = Spread::of([&[0.50, 0.52, 0.54][..]]);
        let of = |own: f64, lower| verdict(&[own], &[0.50, 0.52, 0.54], lower, spread);
        // 4.303 · 0.02 · √(1 + 1/3) = 0.0994
        assert_eq!(of(0.61, false), Some(Verdict::Tie));
        assert_eq!(of(0.63, false), Some(Verdict::Better));
        assert_eq!(of(0.63, true), Some(Verdict::Worse));
        assert_eq!(of(0.41, false), Some(Verdict::Worse));
        assert_eq!(verdict(&[1.0], &[2.0], false, None), None);
    }

    #[test]
    fn quantiles_go_on_beyond_the_table() {
        assert!(quantile(10) > quantile(11) && quantile(11) > quantile(1000));
        assert!((quantile(11) - 2.201).abs() < 3e-3, "{}", quantile(11));
        assert!((quantile(30) - 2.042).abs() < 1e-3, "{}", quantile(30));
    }

    #[test]
    fn exponents_are_those_of_the_power() {
        let points = [1024.0_f64, 4096.0, 16384.0].map(|n| (n, 3.0 * n.powf(1.5)));
        close(Power::fit(&points).unwrap().exponent, 1.5);
        assert_eq!(Power::fit(&points[..1]), None);
        assert_eq!(Power::fit(&[]), None);
    }

    #[test]
    fn cross_overs_are_found_between_before_and_beyond_lengths() {
        let lengths = [100.0, 400.0, 1600.0];
        let square = lengths.map(|n| n * n);
        let line = |factor: f64| lengths.map(|n| factor * n);
        let fit = |costs: &[f64; 3]| {
            let points: Vec<(f64, f64)> = lengths.into_iter().zip(*costs).collect();
            Power::fit(&points).unwrap()
        };
        let of =
            |own: [f64; 3]| cross_over(&lengths, &own, &square, Some([fit(&own), fit(&square)]));
        assert_eq!(of(line(50.0)), CrossOver::Always);
        match of(line(800.0)) {
            CrossOver::From(length) => close(length, 800.0),
            other => panic!("{other:?}"),
        }
        match of(line(5000.0)) {
            CrossOver::Beyond(length) => close(length, 5000.0),
            other => panic!("{other:?}"),
        }
        assert_eq!(of(square.map(|cost| 2.0 * cost)), CrossOver::Never);
        // Cheaper, dearer, and cheaper for good.
        let wavering = [square[0] / 2.0, square[1] * 2.0, square[2] / 2.0];
        assert!(matches!(of(wavering), CrossOver::From(length) if length > 400.0));
    }
}
