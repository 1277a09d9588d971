use cloze_runtime::predict::features::{Rule, dense};

use super::Learning;

/// Share of the largest variance that is added to each.
const SMOOTHING: f64 = 1e-9;

impl Learning<'_> {
    /// Mean and variance of each feature in each class.
    ///
    /// # Source
    /// `GaussianNB` of scikit-learn 1.9.
    pub(super) fn normal(&self) -> Rule {
        let (width, count) = (self.width, self.count);
        let moments = |of: Option<u32>| {
            let own = self.rows.iter().zip(self.classes);
            let own = own.filter(|(_, class)| of.is_none_or(|of| of == **class));
            let rows: Vec<Vec<f32>> = own.map(|(row, _)| dense(row, width)).collect();
            let share = 1.0 / rows.len().max(1) as f64;
            let (mut means, mut variances) = (vec![0.0; width], vec![0.0; width]);
            for row in &rows {
                let sums = means.iter_mut().zip(row);
                sums.for_each(|(mean, &x)| *mean += share * f64::from(x));
            }
            for row in &rows {
                let sums = variances.iter_mut().zip(&means).zip(row);
                sums.for_each(|((sum, mean), &x)| *sum += share * (f64::from(x) - mean).powi(2));
            }
            (rows.len(), means, variances)
        };
        let (total, _, all) = moments(None);
        let least = SMOOTHING * all.iter().copied().fold(0.0, f64::max);
        let (mut priors, mut means, mut variances) = (Vec::new(), Vec::new(), Vec::new());
        for class in 0..count as u32 {
            let (own, mean, mut variance) = moments(Some(class));
            // Of features that are all the same, in all classes, none says anything.
            let add = least.max(f64::MIN_POSITIVE);
            for variance in &mut variance {
                *variance += add;
            }
            // A class that is named and does not occur is as good as impossible.
            priors.push((own as f64 / total as f64).max(f64::MIN_POSITIVE).ln());
            means.push(mean);
            variances.push(variance);
        }
        Rule::Normal {
            priors,
            means,
            variances,
        }
    }
}
