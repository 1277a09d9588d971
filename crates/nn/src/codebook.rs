use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::codebook::{self, CodeLoss, Similarity};
use rand::Rng;

use crate::noise::Noise;
use crate::op;
use crate::site::{Hook, Site};
use crate::weights::{Source, Weight};

/// A bottleneck: each vector becomes the sum of the codes that are likest to it.
///
/// While it learns, it keeps count of the codes that were chosen, and the vectors that it saw last.
///
/// # Source
/// Tamkin et al., 2023, arXiv:2310.17230, §2; straight through as in Bengio et al., 2013, arXiv:1308.3432.
#[derive(Module, Debug)]
pub struct Codebook {
    weight: Weight<2>,
    #[module(skip)]
    settings: codebook::Codebook,
    #[module(skip)]
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often each code was chosen.
    fired: Vec<u64>,
    /// The last vectors, `[N, D]`.
    last: Vec<f32>,
}

/// Codes that begin anew: their numbers, and what they become, `[count, D / G]`.
pub type Renewed = (Vec<usize>, Vec<f32>);

impl Codebook {
    /// The codes named `name`, where `source` has such.
    pub(crate) fn of(
        settings: Option<&codebook::Codebook>,
        branch: codebook::Branch,
        source: &Source<'_>,
        name: &str,
    ) -> Option<Self> {
        let settings = settings.filter(|settings| settings.sites.contains(&branch))?;
        Some(Self {
            weight: source.parameter(&format!("{name}.weight")),
            settings: settings.clone(),
            seen: Arc::default(),
        })
    }

    /// The codes chosen for each token, the likest first, group by group: numbers of rows of the table, `[N · G · k]`. Of codes that
    /// are as like, the first.
    fn choose(&self, x: &Tensor<2>) -> Vec<u32> {
        let codebook::Codebook {
            codes, k, groups, ..
        } = self.settings;
        let [tokens, width] = x.dims();
        let channels = width / groups;
        let code = self
            .weight
            .val()
            .detach()
            .reshape([groups, codes, channels]);
        let x = x.clone().detach();
        let x = x.reshape([tokens, groups, channels]).swap_dims(0, 1); // [G, N, d]
        let square = code.clone().square().sum_dim(2); // [G, K, 1]
        let scores = match self.settings.similarity {
            // Of the vector's own length nothing depends.
            Similarity::Cosine => x.matmul((code / square.clamp_min(1e-24).sqrt()).transpose()),
            Similarity::Inner => x.matmul(code.transpose()),
            Similarity::Euclidean => {
                x.matmul(code.transpose()).mul_scalar(2.0) - square.transpose()
            }
        };
        let scores: Vec<f32> = scores
            .swap_dims(0, 1)
            .into_data()
            .try_into_vec()
            .expect("encoders compute in f32");
        let mut chosen = Vec::with_capacity(tokens * groups * k);
        for (row, scores) in scores.chunks(codes).enumerate() {
            let first = (row % groups * codes) as u32;
            if k == 1 {
                chosen.push(first + largest(scores) as u32);
                continue;
            }
            let mut order: Vec<usize> = (0..codes).collect();
            let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
            if k < codes {
                order.select_nth_unstable_by(k, by_score);
                order.truncate(k);
            }
            order.sort_unstable_by(by_score);
            chosen.extend(order.into_iter().map(|code| first + code as u32));
        }
        chosen
    }

    /// What goes on in the place of what a branch says, the choice shown to the hook as of `site`; what the codes learn from is
    /// left with `noise`.
    ///
    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        site: fn(usize) -> Site,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let codebook::Codebook { k, groups, .. } = self.settings;
        let [tokens, width] = x.dims();
        let chosen: Arc<[u32]> = hook.codes(site, groups * k, self.choose(&x)).into();
        let said = op::select_rows(self.weight.val(), &chosen)
            .reshape([tokens * groups, k, width / groups])
            .sum_dim(1)
            .reshape([tokens, width]);
        if !x.device().is_autodiff() {
            return said;
        }
        self.note(&x, &chosen);
        let still = x.clone().detach();
        let apart = |a: Tensor<2>, b: Tensor<2>| (a - b).square().mean();
        let through = x.clone() - still.clone();
        match self.settings.loss {
            CodeLoss::None => said + through,
            CodeLoss::Reconstruction => {
                noise.owe(apart(said.clone(), still));
                said + through
            }
            CodeLoss::Commitment => {
                let quiet = said.clone().detach();
                noise.owe(apart(said, still) + apart(x, quiet.clone()).mul_scalar(0.25));
                quiet + through
            }
            CodeLoss::Both => {
                noise.owe(apart(said.clone(), x));
                said + through
            }
        }
    }

    fn note(&self, x: &Tensor<2>, chosen: &[u32]) {
        let last = x.to_data().try_into_vec();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last = last.expect("encoders compute in f32");
        seen.fired
            .resize(self.settings.groups * self.settings.codes, 0);
        for &code in chosen {
            seen.fired[code as usize] += 1;
        }
    }

    /// Every how many steps codes that were not chosen begin anew.
    pub fn dead_after(&self) -> Option<u64> {
        self.settings.dead_after
    }

    /// How often each code was chosen while it learned, since the last time that codes began anew: `[G · K]`.
    pub fn fired(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.fired.clone()
    }

    /// Goes on counting from what [`Self::fired`] told.
    pub fn set_fired(&self, fired: Vec<u64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.fired = fired;
    }

    /// What those codes become that were not chosen: vectors of the last ones, drawn by `seed`. Counting begins anew.
    pub fn renewed(&self, seed: u64) -> Renewed {
        let codebook::Codebook { codes, groups, .. } = self.settings;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fired = std::mem::take(&mut seen.fired);
        let width = self.weight.val().dims()[1] * groups;
        let rows = seen.last.len() / width;
        let dead = fired.iter().enumerate().filter(|(_, count)| **count == 0);
        let dead: Vec<usize> = dead.map(|(code, _)| code).collect();
        if rows == 0 {
            return (Vec::new(), Vec::new());
        }
        let mut numbers = Noise::new(seed).numbers();
        let values = dead.iter().flat_map(|code| {
            let row = numbers.next_u64() as usize % rows;
            let group = code / codes * (width / groups);
            seen.last[row * width + group..][..width / groups].to_vec()
        });
        (dead.clone(), values.collect())
    }
}

fn largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (at, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = at;
        }
    }
    best
}

/// What may speak in codes.
pub trait Coded {
    /// Its codebooks, by the names of their parameters.
    fn codebooks(&self) -> Vec<(String, &Codebook)>;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::tensor::{Device, TensorData};
    use cloze_spec::codebook::Branch;

    use super::*;
    use crate::weights::Values;

    fn settings() -> codebook::Codebook {
        codebook::Codebook {
            sites: vec![Branch::Ffn],
            codes: 5,
            k: 1,
            groups: 1,
            similarity: Similarity::Inner,
            loss: CodeLoss::None,
            dead_after: Some(10),
        }
    }

    fn numbers(count: usize, speed: f32) -> Vec<f32> {
        (0..count)
            .map(|at| (at as f32 * speed + 0.3).sin())
            .collect()
    }

    fn book(settings: &codebook::Codebook, width: usize, device: &Device) -> Codebook {
        let shape = vec![settings.groups * settings.codes, width / settings.groups];
        let values: Values = [("c.weight".to_owned(), numbers(settings.codes * width, 2.3))].into();
        let source = Source {
            values: &values,
            shapes: BTreeMap::from([("c.weight".to_owned(), shape)]),
            device,
            lora_scale: 1.0,
        };
        Codebook::of(Some(settings), Branch::Ffn, &source, "c").unwrap()
    }

    fn tensor(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
        let shape = [values.len() / width, width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn read(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_into_vec().unwrap()
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    }

    /// With plain loops: scores of all codes, sorted.
    #[test]
    fn the_likest_codes_of_each_group_are_summed() {
        let device = Device::flex();
        let (tokens, width) = (7, 6);
        for similarity in [Similarity::Cosine, Similarity::Inner, Similarity::Euclidean] {
            for (k, groups) in [(1, 1), (3, 1), (2, 3), (5, 2)] {
                let settings = codebook::Codebook {
                    similarity,
                    k,
                    groups,
                    ..settings()
                };
                let book = book(&settings, width, &device);
                let (x, code) = (numbers(tokens * width, 0.7), read(book.weight.val()));
                let channels = width / groups;
                let (mut expected, mut sums) = (Vec::new(), Vec::new());
                for (row, x) in x.chunks(channels).enumerate() {
                    let first = row % groups * settings.codes;
                    let own = |code_: usize| &code[(first + code_) * channels..][..channels];
                    let score = |at: usize| {
                        let dot =
                            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                        match similarity {
                            Similarity::Cosine => dot(x, own(at)) / dot(own(at), own(at)).sqrt(),
                            Similarity::Inner => dot(x, own(at)),
                            Similarity::Euclidean => -x
                                .iter()
                                .zip(own(at))
                                .map(|(a, b)| (a - b).powi(2))
                                .sum::<f32>(),
                        }
                    };
                    let mut order: Vec<usize> = (0..settings.codes).collect();
                    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
                    expected.extend(order[..k].iter().map(|at| (first + at) as u32));
                    sums.extend(
                        (0..channels).map(|channel| {
                            order[..k].iter().map(|&at| own(at)[channel]).sum::<f32>()
                        }),
                    );
                }
                let x = tensor(x, width, &device);
                assert_eq!(book.choose(&x), expected, "{similarity:?}, {k} of {groups}");
                let said = book.forward(x, Site::Ffn, &mut Noise::none(), &mut Hook::none());
                assert_near(&read(said), &sums);
            }
        }
    }

    #[test]
    fn what_reaches_the_sum_goes_on_and_codes_learn_what_they_stand_for() {
        let device = Device::flex().autodiff();
        let (tokens, width) = (4, 6);
        for loss in [
            CodeLoss::None,
            CodeLoss::Reconstruction,
            CodeLoss::Commitment,
            CodeLoss::Both,
        ] {
            let book = book(&codebook::Codebook { loss, ..settings() }, width, &device);
            let x = tensor(numbers(tokens * width, 0.7), width, &device).require_grad();
            let by = numbers(tokens * width, 1.9);
            let mut noise = Noise::new(1);
            let said = book.forward(x.clone(), Site::Ffn, &mut noise, &mut Hook::none());
            let told = (said.clone() * tensor(by.clone(), width, &device)).sum();
            let mut gradients = noise.with_owed(told).backward();
            let of_x = read(x.grad_remove(&mut gradients).unwrap());
            let (x, code, chosen) = (read(x.clone()), read(book.weight.val()), book.choose(&x));
            let (mut want_x, mut want_code) = (by.clone(), vec![0.0; code.len()]);
            for (at, by) in by.iter().enumerate() {
                let place = chosen[at / width] as usize * width + at % width;
                let apart = 2.0 * (code[place] - x[at]) / (tokens * width) as f32;
                let (learns, apart_of_code, apart_of_x) = match loss {
                    CodeLoss::None => (1.0, 0.0, 0.0),
                    CodeLoss::Reconstruction => (1.0, 1.0, 0.0),
                    CodeLoss::Commitment => (0.0, 1.0, 0.25),
                    CodeLoss::Both => (1.0, 1.0, 1.0),
                };
                want_code[place] += learns * by + apart_of_code * apart;
                want_x[at] -= apart_of_x * apart;
            }
            assert_near(&of_x, &want_x);
            let of_code = book.weight.val().grad_remove(&mut gradients);
            assert_near(
                &of_code.map_or_else(|| vec![0.0; code.len()], read),
                &want_code,
            );
        }
    }

    #[test]
    fn codes_that_were_not_chosen_become_vectors_that_were_seen() {
        let device = Device::flex().autodiff();
        let width = 6;
        let book = book(&settings(), width, &device);
        let values = numbers(2 * width, 0.7);
        let x = tensor(values.clone(), width, &device);
        book.forward(x.clone(), Site::Ffn, &mut Noise::new(1), &mut Hook::none());
        let chosen = book.choose(&x);
        let fired = book.fired();
        assert_eq!(fired.iter().sum::<u64>(), 2);
        let (dead, rows) = book.renewed(7);
        let expected: Vec<usize> = (0..5)
            .filter(|&code| !chosen.contains(&(code as u32)))
            .collect();
        assert_eq!(dead, expected);
        assert_eq!(rows.len(), dead.len() * width);
        for row in rows.chunks(width) {
            assert!(values.chunks(width).any(|seen| seen == row));
        }
        assert!(book.fired().is_empty());
        book.set_fired(fired.clone());
        assert_eq!(book.renewed(7), (dead, rows));
    }
}
