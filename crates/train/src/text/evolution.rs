//! Where to begin to learn: a search among candidates, before the first step.

use cloze_spec::text::Evolution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The best vector that a search finds from `population` on: that of the smallest `value`.
///
/// Each generation parts the candidates into groups of neighbours, of which that with the smallest mean value gives its best one as
/// the base; a new candidate takes some of its values from the base moved by the difference of two others, the rest from an old
/// one, in whose place it stands if it is better. What is no number is as bad as can be.
///
/// # Source
/// Storn and Price, Differential Evolution, Journal of Global Optimization 11, 1997, for crossing and selection; Moravvej et al.,
/// 2023, arXiv:2305.02374, for groups by k-means.
/// # Departures
/// Groups are moved three times, not until they rest. A new candidate replaces its old one, as of Storn and Price; the later paper
/// has drawn old ones and new ones meet, which makes all alike sooner.
///
/// # Panics
/// If there are fewer than four candidates.
pub(super) fn evolve(
    settings: Evolution,
    mut population: Vec<Vec<f32>>,
    seed: u64,
    value: &mut dyn FnMut(&[f32]) -> f64,
) -> Vec<f32> {
    let count = population.len();
    assert!(count >= 4, "two others than the base and the old one");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut judge = |candidate: &[f32]| {
        let found = value(candidate);
        if found.is_nan() { f64::INFINITY } else { found }
    };
    let mut values: Vec<f64> = population.iter().map(|one| judge(one)).collect();
    for _ in 0..settings.generations {
        let most = (count as f64).sqrt() as usize;
        let groups = groups(&population, rng.random_range(2..=most.max(2)), &mut rng);
        let base = base(&groups, &values);
        let made: Vec<Vec<f32>> = (0..count)
            .map(|old| {
                let a = rng.random_range(0..count);
                // Another one.
                let b = (a + rng.random_range(1..count)) % count;
                let always = rng.random_range(0..population[old].len());
                let (base, old) = (&population[base], &population[old]);
                let (a, b) = (&population[a], &population[b]);
                (0..old.len())
                    .map(|at| {
                        let taken = rng.random_range(0.0..1.0) < settings.crossover;
                        if taken || at == always {
                            base[at] + settings.step as f32 * (a[at] - b[at])
                        } else {
                            old[at]
                        }
                    })
                    .collect()
            })
            .collect();
        for (at, one) in made.into_iter().enumerate() {
            let found = judge(&one);
            if found < values[at] {
                (values[at], population[at]) = (found, one);
            }
        }
    }
    let best = (0..count).min_by(|&a, &b| values[a].total_cmp(&values[b]));
    population.swap_remove(best.expect("there are candidates"))
}

/// Which of so many groups each candidate is nearest to.
fn groups(population: &[Vec<f32>], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut centres: Vec<Vec<f32>> = (0..count)
        .map(|_| population[rng.random_range(0..population.len())].clone())
        .collect();
    let mut of = vec![0; population.len()];
    for _ in 0..3 {
        for (of, one) in of.iter_mut().zip(population) {
            let far = |centre: &Vec<f32>| -> f64 {
                let pairs = centre.iter().zip(one);
                pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            let far: Vec<f64> = centres.iter().map(far).collect();
            *of = (0..count)
                .min_by(|&a, &b| far[a].total_cmp(&far[b]))
                .expect("there are groups");
        }
        for (group, centre) in centres.iter_mut().enumerate() {
            let own: Vec<&Vec<f32>> = of
                .iter()
                .zip(population)
                .filter_map(|(of, one)| (*of == group).then_some(one))
                .collect();
            if !own.is_empty() {
                for (at, centre) in centre.iter_mut().enumerate() {
                    let sum: f32 = own.iter().map(|one| one[at]).sum();
                    *centre = sum / own.len() as f32;
                }
            }
        }
    }
    of
}

/// The best candidate of the best group.
fn base(groups: &[usize], values: &[f64]) -> usize {
    let group = |group: usize| (0..values.len()).filter(move |&at| groups[at] == group);
    let mean = |of: usize| {
        let sum: f64 = group(of).map(|at| values[at]).sum();
        sum / group(of).count() as f64
    };
    let known = groups.iter().copied();
    let best = known.min_by(|&a, &b| mean(a).total_cmp(&mean(b)));
    group(best.expect("each candidate has a group"))
        .min_by(|&a, &b| values[a].total_cmp(&values[b]))
        .expect("a group of a candidate has one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(generations: usize) -> Evolution {
        Evolution {
            population: 40,
            generations,
            step: 0.5,
            crossover: 0.3,
        }
    }

    fn population(width: usize) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        (0..40)
            .map(|_| (0..width).map(|_| rng.random_range(-5.0..5.0)).collect())
            .collect()
    }

    fn sphere(x: &[f32]) -> f64 {
        x.iter().map(|x| f64::from(x - 1.0).powi(2)).sum()
    }

    fn rastrigin(x: &[f32]) -> f64 {
        let term = |x: &f32| {
            let x = f64::from(*x);
            x * x - 10.0 * (std::f64::consts::TAU * x).cos() + 10.0
        };
        x.iter().map(term).sum()
    }

    #[test]
    fn known_valleys_are_found() {
        let found = evolve(settings(300), population(10), 3, &mut sphere);
        assert!(sphere(&found) < 1e-6, "{}", sphere(&found));
        let found = rastrigin(&evolve(settings(300), population(10), 3, &mut rastrigin));
        // The valley of the smallest value, or one beside it along one axis: 0.995 each.
        assert!(found < 1.0, "{found}");
    }

    #[test]
    fn the_best_is_never_lost_and_the_seed_says_it_all() {
        let start = population(6);
        let best = start.iter().map(|x| rastrigin(x)).fold(f64::MAX, f64::min);
        assert!(
            (rastrigin(&evolve(settings(0), start.clone(), 1, &mut rastrigin)) - best).abs()
                < 1e-12
        );
        let of = |seed| evolve(settings(5), start.clone(), seed, &mut rastrigin);
        assert!(rastrigin(&of(1)) <= best);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        // What is no number never wins.
        let mut calls = 0;
        let found = evolve(settings(3), start, 1, &mut |x| {
            calls += 1;
            if calls % 2 == 0 { f64::NAN } else { sphere(x) }
        });
        assert!(sphere(&found).is_finite());
        assert_eq!(calls, 40 * 4);
    }
}
