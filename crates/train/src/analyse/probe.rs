//! What linear maps read off each site of a stack: where a model knows what labels say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use cloze_data::text::batch::Wanted;
use cloze_data::text::examples::{Examples, TextPlan};
use cloze_data::text::learn::{Ask, TextData};
use cloze_data::text::store;
use cloze_nn::{Hook, op};
use cloze_runtime::predict::features::Scale;
use cloze_spec::text::{Objective, Texts};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Model, Site, Subject, floats};
use crate::Error;
use crate::metric::bootstrap::intervals;
use crate::metric::classification::{Confusion, largest};
use crate::metric::counts::{Average, average};
use crate::report::analysis::{Curve, Part};
use crate::report::scores::Table;
use crate::text::baseline::{Kind, minimize, slopes_of, targets};

/// Draws of texts for an interval.
pub const DRAWS: u64 = 1000;
/// What all losses count beside half the squared weights.
const C: f64 = 1.0;
/// Slope, by example, at which a probe is found: finer ones change no digit that is shown.
const TOLERANCE: f64 = 1e-5;
/// Tokens of a pass.
const TOKENS: usize = 4096;
/// Numbers of all sites that are kept at once, in 4 bytes each; beyond them the texts are gone through again.
const KEPT: usize = 1 << 26;

/// What probes read off a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probed {
    /// What is measured: `accuracy` of labels, `r2` of numbers.
    pub metric: &'static str,
    /// The labels; none of numbers.
    pub labels: Vec<String>,
    /// Texts or words that probes learned from.
    pub train: usize,
    /// Texts or words that they are judged by.
    pub test: usize,
    /// Texts of the test part, which the intervals draw.
    pub test_texts: usize,
    /// What needs no model: the label that most of the training part has, or the mean of its numbers.
    pub baseline: Read,
    /// Each site, in the order of the pass.
    pub sites: Vec<ProbedSite>,
}

/// What a probe reads off a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedSite {
    /// The site's name.
    pub site: String,
    /// What the probe is worth.
    pub read: Read,
    /// What one is worth that learned from the same labels in another order: what the map can make of any vectors.
    pub shuffled: f64,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Read {
    /// The metric.
    pub value: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Mean F1 of the labels; none of numbers.
    pub macro_f1: Option<f64>,
}

/// Texts with what is true of them: to learn from, and to judge by.
pub(super) struct Asked {
    pub plans: [TextPlan; 2],
    pub truth: [Truth; 2],
    pub labels: Vec<String>,
}

impl Asked {
    /// Reads files.
    ///
    /// # Errors
    /// If the subject is of items, a file cannot be read or is not of its format, or a part has no labels or only one.
    pub fn read(
        subject: &Subject,
        texts: &Texts,
        objective: &Objective,
        seed: u64,
    ) -> Result<Self, Error> {
        let Model::Texts(model) = &subject.model else {
            return Err(Error::Asked(
                "expected a model of texts, whose labels a file can have, found one of items"
                    .to_owned(),
            ));
        };
        let ask = Ask {
            texts,
            objective,
            tokenizer: &model.tokenizer,
            max_len: model.max_len,
            seed,
            place: store::Place {
                folder: Path::new(""),
                tokenizer: &[],
            },
        };
        let data = TextData::prepare(&ask)?;
        let plans = [&data.train, &data.validation].map(plan);
        let truth = plans.each_ref().map(truth);
        if let Of::Classes(classes) = &truth[0].kind
            && classes.iter().all(|class| *class == classes[0])
        {
            return Err(Error::Asked(format!(
                "expected at least two labels among the {} to learn from, found one",
                classes.len()
            )));
        }
        Ok(Self {
            plans,
            truth,
            labels: data.labels,
        })
    }
}

/// What is true of texts or words, and which text each belongs to.
pub(super) struct Truth {
    pub kind: Of,
    pub texts: Vec<usize>,
}

pub(super) enum Of {
    Classes(Vec<u32>),
    Numbers(Vec<f64>),
}

impl Probed {
    /// Reads `objective`'s labels off every site for each of `texts`: one label a text, a number, or a label a word. Of texts the
    /// mean of the tokens' vectors is read, of words that of their first token. Told of each pass by `done`.
    ///
    /// # Errors
    /// If the subject is of items, a file cannot be read or is not of its format, or a part has no labels or only one.
    pub fn of(
        subject: &Subject,
        texts: &Texts,
        objective: &Objective,
        seed: u64,
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Error> {
        let asked = Asked::read(subject, texts, objective, seed)?;
        let ([train, test], [own, held]) = (&asked.plans, &asked.truth);
        let judge = Judge {
            truth: held,
            labels: asked.labels.len(),
            seed,
        };
        let sites = sites(subject.layers());
        let width = subject.width();
        let at_once = (KEPT / (width * (own.texts.len() + held.texts.len())).max(1)).max(1);
        let mut all = Vec::with_capacity(sites.len());
        for some in sites.chunks(at_once) {
            let [from, to] = [train, test].map(|plan| vectors(subject, plan, some));
            let (from, to) = (from?, to?);
            for site in some.iter().filter(|site| from.contains_key(site)) {
                let (from, to) = (&from[site], &to[site]);
                let probe = |own: &Truth| Fitted::new(from, width, own, asked.labels.len());
                let read = judge.read(&probe(own).predict(to));
                let control = own.in_another_order(seed);
                let shuffled = judge.value(&probe(&control).predict(to));
                all.push(ProbedSite {
                    site: site.to_string(),
                    read,
                    shuffled,
                });
                done(all.len(), sites.len());
            }
        }
        Ok(Self {
            metric: match own.kind {
                Of::Classes(_) => "accuracy",
                Of::Numbers(_) => "r2",
            },
            train: own.texts.len(),
            test: held.texts.len(),
            test_texts: judge.groups().len(),
            baseline: judge.read(&own.usual(held.texts.len())),
            labels: match own.kind {
                Of::Classes(_) => asked.labels,
                Of::Numbers(_) => Vec::new(),
            },
            sites: all,
        })
    }

    /// A row for what needs no model, and one for each site.
    pub fn table(&self) -> (Vec<&str>, Vec<Vec<String>>) {
        let mut header = vec!["site", self.metric, "low", "high", "shuffled labels"];
        let has_f1 = self.baseline.macro_f1.is_some();
        if has_f1 {
            header.push("macro-f1");
        }
        let four = |value: f64| format!("{value:.4}");
        let row = |name: &str, read: Read, shuffled: Option<f64>| {
            let mut row = vec![
                name.to_owned(),
                four(read.value),
                four(read.low),
                four(read.high),
            ];
            row.push(shuffled.map_or("–".to_owned(), four));
            row.extend(read.macro_f1.map(four));
            row
        };
        let usual = if has_f1 { "majority" } else { "mean" };
        let sites = self.sites.iter();
        let rows = std::iter::once(row(usual, self.baseline, None))
            .chain(sites.map(|site| row(&site.site, site.read, Some(site.shuffled))));
        (header, rows.collect())
    }

    /// The site off which most is read.
    pub fn best(&self) -> Option<&ProbedSite> {
        let values: Vec<f64> = self.sites.iter().map(|site| site.read.value).collect();
        self.sites.get(largest(&values))
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        let what = match self.metric {
            "r2" => "ridge regression (R²: 1 is all of the variance, 0 what the mean gives)",
            _ => "logistic regression",
        };
        vec![
            format!(
                "each a {what} on vectors of mean 0 and deviation 1, its squared weights kept small (C = {C}); learned from {}, judged by {} others, of {} texts",
                self.train, self.test, self.test_texts
            ),
            format!("low and high: 95 % by bootstrap over texts, {DRAWS} draws"),
            "shuffled labels: the same probe learned from the labels in another order; what is not above it tells nothing of the model".to_owned(),
        ]
    }

    /// The same for a page: curves along the layers, and the table.
    pub fn parts(&self) -> Vec<Part> {
        let curve = |title: &str, of: fn(usize) -> Site| {
            let names = (0..).map(|layer| of(layer).to_string());
            let values: Vec<f64> = names
                .map_while(|name| self.sites.iter().find(|site| site.site == name))
                .map(|site| site.read.value)
                .collect();
            let best = largest(&values);
            Curve {
                title: title.to_owned(),
                unit: self.metric.to_owned(),
                mark: values
                    .get(best)
                    .map(|value| (best, format!("best {value:.4}, layer {best}"))),
                values,
                is_gain: true,
            }
        };
        let curves = vec![
            curve("Residual stream after each layer", Site::Layer),
            curve("What mixers add", Site::Mixer),
            curve("What feed-forward parts add", Site::Ffn),
        ];
        let (header, rows) = self.table();
        let table = Table {
            title: "What probes read off each site".to_owned(),
            header: header.into_iter().map(str::to_owned).collect(),
            rows,
            leads: true,
        };
        let shown = curves.into_iter().filter(|curve| !curve.values.is_empty());
        vec![
            Part::Curves(shown.collect()),
            Part::Table(table, self.notes()),
        ]
    }
}

/// In the order of the pass; what a mixer is given is the residual stream or its norm.
fn sites(layers: usize) -> Vec<Site> {
    let of = [Site::Mixer, Site::Middle, Site::Ffn, Site::Layer];
    let layers = (0..layers).flat_map(|layer| of.map(|site| site(layer)));
    std::iter::once(Site::Embedding).chain(layers).collect()
}

fn plan(examples: &Arc<Examples>) -> TextPlan {
    let limits = cloze_spec::batch::Batch {
        max_tokens: TOKENS,
        max_sequences: None,
    };
    TextPlan::in_order(examples, None, limits)
}

fn truth(plan: &TextPlan) -> Truth {
    let (mut classes, mut numbers, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..plan.len() {
        let batch = plan.build(at);
        // Windows of one long text are one text.
        let own = plan
            .texts(at)
            .iter()
            .map(|&text| plan.examples().record(text));
        match (batch.rows, batch.wanted) {
            (Some(rows), Wanted::Classes(found)) => {
                let own: Vec<usize> = own.collect();
                let text = |row| batch.offsets.partition_point(|&start| start <= row) - 1;
                texts.extend(rows.into_iter().map(|row| own[text(row)]));
                classes.extend(found);
            }
            (None, Wanted::Classes(found)) => {
                texts.extend(own);
                classes.extend(found);
            }
            (_, Wanted::Numbers(found)) => {
                texts.extend(own);
                numbers.extend(found.into_iter().map(f64::from));
            }
            _ => unreachable!("classes, numbers and classes of words are asked for"),
        }
    }
    let kind = if numbers.is_empty() {
        Of::Classes(classes)
    } else {
        Of::Numbers(numbers)
    };
    Truth { kind, texts }
}

/// Of each site the vectors that are read, `[N, D]`.
pub(super) fn vectors(
    subject: &Subject,
    plan: &TextPlan,
    sites: &[Site],
) -> Result<BTreeMap<Site, Vec<f32>>, Error> {
    let mut all: BTreeMap<Site, Vec<f32>> = BTreeMap::new();
    for at in 0..plan.len() {
        let (batch, rows) = subject.text_batch(plan.build(at));
        let rows: Option<Arc<[u32]>> = rows.map(Into::into);
        let mut see = |site, x: Tensor<2>| {
            if sites.contains(&site) {
                let read = if let Some(rows) = &rows {
                    op::select_rows(x.clone(), rows)
                } else {
                    let texts = (0..batch.len()).map(|text| {
                        let own = batch.range(text);
                        x.clone().narrow(0, own.start, own.len()).mean_dim(0)
                    });
                    Tensor::cat(texts.collect(), 0)
                };
                all.entry(site).or_default().extend(floats(read));
            }
            x
        };
        subject.pass(&batch, &mut Hook::new(&mut see))?;
    }
    Ok(all)
}

impl Truth {
    /// The same labels, each of another text or word.
    fn in_another_order(&self, seed: u64) -> Self {
        Self {
            kind: match &self.kind {
                Of::Classes(classes) => Of::Classes(shuffled(classes, seed)),
                Of::Numbers(numbers) => Of::Numbers(shuffled(numbers, seed)),
            },
            texts: self.texts.clone(),
        }
    }

    /// The same for all of so many: what most are, or the mean.
    fn usual(&self, count: usize) -> Vec<f64> {
        let usual = match &self.kind {
            Of::Classes(classes) => {
                let mut counts =
                    vec![0_u64; classes.iter().max().map_or(0, |&most| most as usize + 1)];
                for &class in classes {
                    counts[class as usize] += 1;
                }
                largest(&counts) as f64
            }
            Of::Numbers(numbers) => numbers.iter().sum::<f64>() / numbers.len().max(1) as f64,
        };
        vec![usual; count]
    }
}

fn shuffled<T: Clone>(values: &[T], seed: u64) -> Vec<T> {
    let mut values = values.to_vec();
    values.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    values
}

/// A probe.
struct Fitted {
    scale: Scale,
    /// `[D + 1, C]`, the last row being intercepts.
    weights: Tensor<2>,
    kind: Kind,
}

impl Fitted {
    /// # Shapes
    /// `vectors: [N, D]`
    fn new(vectors: &[f32], width: usize, truth: &Truth, labels: usize) -> Self {
        let scale = Scale::of(vectors, width);
        let (kind, targets) = match &truth.kind {
            Of::Classes(classes) => targets(classes, labels),
            Of::Numbers(numbers) => (Kind::Squares, numbers.clone()),
        };
        let count = truth.texts.len();
        let outputs = targets.len() / count.max(1);
        let rows = scaled(&scale, vectors);
        let columns = rows.clone().transpose();
        let side = width + 1;
        let value = |weights: &[f64]| {
            let mut scores = wide(rows.clone().matmul(narrow(weights, [side, outputs])));
            let each = scores.chunks_mut(outputs).zip(targets.chunks(outputs));
            let mut loss: f64 = each
                .map(|(scores, targets)| slopes_of(kind, scores, targets))
                .sum();
            let mut gradient = wide(columns.clone().matmul(narrow(&scores, [count, outputs])));
            // Intercepts may be as large as they like.
            let held = weights[..width * outputs].iter();
            for (slope, weight) in gradient.iter_mut().zip(held) {
                *slope += weight / C;
                loss += 0.5 * weight * weight / C;
            }
            for slope in &mut gradient {
                *slope /= count as f64;
            }
            (loss / count as f64, gradient)
        };
        let weights = minimize(value, vec![0.0; side * outputs], TOLERANCE);
        Self {
            weights: narrow(&weights, [side, outputs]),
            scale,
            kind,
        }
    }

    /// Classes, or numbers, of `[N, D]`: `[N]`.
    fn predict(&self, vectors: &[f32]) -> Vec<f64> {
        let scores = wide(scaled(&self.scale, vectors).matmul(self.weights.clone()));
        let each = scores
            .chunks(self.weights.dims()[1])
            .map(|scores| match self.kind {
                Kind::Logistic => f64::from(scores[0] > 0.0),
                Kind::Softmax => largest(scores) as f64,
                Kind::Squares => scores[0],
            });
        each.collect()
    }
}

/// Vectors of mean 0 and deviation 1, and a channel of ones: `[N, D]` → `[N, D + 1]`.
fn scaled(scale: &Scale, vectors: &[f32]) -> Tensor<2> {
    let width = scale.mean.len();
    let mut rows = Vec::with_capacity(vectors.len() / width * (width + 1));
    for row in vectors.chunks(width) {
        let channels = row.iter().zip(scale.mean.iter().zip(&scale.deviation));
        rows.extend(
            channels.map(|(&x, (mean, deviation))| ((f64::from(x) - mean) / deviation) as f32),
        );
        rows.push(1.0);
    }
    let shape = [rows.len() / (width + 1), width + 1];
    Tensor::from_data(TensorData::new(rows, shape), &Device::flex())
}

fn narrow(values: &[f64], shape: [usize; 2]) -> Tensor<2> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn wide(x: Tensor<2>) -> Vec<f64> {
    floats(x).into_iter().map(f64::from).collect()
}

/// What predictions are judged by.
struct Judge<'a> {
    truth: &'a Truth,
    labels: usize,
    seed: u64,
}

impl Judge<'_> {
    /// Places of what is true of each text.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, &text) in self.truth.texts.iter().enumerate() {
            groups.entry(text).or_default().push(place);
        }
        groups.into_values().collect()
    }

    fn value(&self, found: &[f64]) -> f64 {
        self.of_some(found, 0..found.len())
    }

    /// The metric over those at some places.
    fn of_some(&self, found: &[f64], places: impl Iterator<Item = usize> + Clone) -> f64 {
        let count = places.clone().count() as f64;
        match &self.truth.kind {
            Of::Classes(classes) => {
                let hits = places.filter(|&at| found[at] as u32 == classes[at]).count();
                hits as f64 / count
            }
            Of::Numbers(numbers) => {
                let mean = places.clone().map(|at| numbers[at]).sum::<f64>() / count;
                let sum = |of: &dyn Fn(usize) -> f64| {
                    places.clone().map(|at| of(at).powi(2)).sum::<f64>()
                };
                1.0 - sum(&|at| found[at] - numbers[at]) / sum(&|at| mean - numbers[at])
            }
        }
    }

    fn read(&self, found: &[f64]) -> Read {
        let groups = self.groups();
        let interval = intervals(groups.len(), DRAWS, self.seed, |draw| {
            let places = draw.iter().flat_map(|&text| groups[text].iter().copied());
            vec![self.of_some(found, places)]
        });
        let (low, high) = interval[0].unwrap_or((f64::NAN, f64::NAN));
        let macro_f1 = match &self.truth.kind {
            Of::Classes(classes) => {
                let mut confusion = Confusion::new(self.labels);
                for (&label, &found) in classes.iter().zip(found) {
                    confusion.add(label as usize, found as usize);
                }
                let occurring = confusion.per_class().into_iter();
                let occurring = occurring.filter(|class| class.support + class.predicted > 0);
                Some(average(&occurring.collect::<Vec<_>>(), Average::Macro).f1)
            }
            Of::Numbers(_) => None,
        };
        Read {
            value: self.value(found),
            low,
            high,
            macro_f1,
        }
    }
}
