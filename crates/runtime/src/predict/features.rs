//! Classifiers of the older kinds, on features of texts.

use std::path::Path;

use cloze_data::text::lexicon::Lexicon;
use cloze_data::text::terms::Terms;
use cloze_data::text::{Encoding, Input, Limit, Long, Shorten};
use cloze_spec::text::{Pooled, Pooling};
use serde::{Deserialize, Serialize};

use super::{Label, Predict, ranked};
use crate::cpu::Options;
use crate::model::{Checkpoint, TextModel};
use crate::{Error, Rows};

/// Name of the file with [`Fitted`].
pub const FEATURES: &str = "features.json";

/// What was fitted to training texts: how features are made of a text, and the classifier that reads them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Longest text in tokens, special ones included; longer ones are cut.
    pub max_len: usize,
    /// The features, one after the other.
    pub families: Vec<Family>,
    /// What reads them.
    pub rule: Rule,
}

/// Features of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Family {
    /// A vector of the encoder.
    Encoder {
        /// Which.
        pooled: Pooled,
        /// What its channels are brought to.
        scale: Scale,
    },
    /// Weighted terms.
    Terms(Terms),
    /// Shares of words in categories.
    Lexicon {
        /// The list.
        lexicon: Lexicon,
        /// What the shares are brought to.
        scale: Scale,
    },
}

/// What makes mean 0 and deviation 1 of the training texts' values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Mean of each.
    pub mean: Vec<f64>,
    /// Deviation of each; 1 of those that are all the same.
    pub deviation: Vec<f64>,
}

impl Scale {
    /// Of `rows: [N, D]`.
    ///
    /// # Source
    /// `StandardScaler` of scikit-learn.
    pub fn of(rows: &[f32], width: usize) -> Self {
        let count = (rows.len() / width.max(1)).max(1) as f64;
        let mut scale = Self {
            mean: vec![0.0; width],
            deviation: vec![0.0; width],
        };
        for row in rows.chunks(width.max(1)) {
            for (mean, &x) in scale.mean.iter_mut().zip(row) {
                *mean += f64::from(x) / count;
            }
        }
        for row in rows.chunks(width.max(1)) {
            let channels = scale.deviation.iter_mut().zip(&scale.mean).zip(row);
            channels.for_each(|((sum, mean), &x)| *sum += (f64::from(x) - mean).powi(2) / count);
        }
        for (deviation, mean) in scale.deviation.iter_mut().zip(&scale.mean) {
            *deviation = deviation.sqrt();
            // What rounding leaves of values that are all the same.
            if *deviation <= 1e-7 * mean.abs() {
                *deviation = 1.0;
            }
        }
        scale
    }

    fn row<'a>(&'a self, values: &'a [f32], start: usize) -> impl Iterator<Item = (u32, f32)> + 'a {
        let channels = values.iter().zip(self.mean.iter().zip(&self.deviation));
        channels
            .enumerate()
            .map(move |(at, (&x, (mean, deviation)))| {
                (
                    (start + at) as u32,
                    ((f64::from(x) - mean) / deviation) as f32,
                )
            })
    }
}

/// What reads features `[D]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Probabilities: of sums by softmax, or of the second of two classes by the logistic function.
    Logistic(Plane),
    /// Distances from planes.
    Linear(Plane),
    /// Sums of bumps around training texts.
    Bumps {
        /// A bump is `exp(−gamma · distance²)`.
        gamma: f64,
        /// Rows by rising feature.
        centres: Vec<Vec<(u32, f32)>>,
        /// Of each output the height of each bump, and what is added: `[C', S + 1]`.
        heights: Vec<Vec<f64>>,
    },
    /// Each feature normal, given the class.
    Normal {
        /// Logarithm of each class's share, `[C]`.
        priors: Vec<f64>,
        /// `[C, D]`
        means: Vec<Vec<f64>>,
        /// `[C, D]`, above 0
        variances: Vec<Vec<f64>>,
    },
    /// Trees, whose shares of classes are averaged.
    Trees(Vec<Vec<Node>>),
}

/// Weighted sums: `weights: [D + 1, C']`, the last row added to each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plane {
    /// The weights.
    pub weights: Vec<f64>,
    /// Number of outputs, `C'`: one for two classes, else one a class.
    pub outputs: usize,
}

/// A place in a tree, whose root is the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Node {
    /// Goes to the next node if the feature is at most `upto`, else to `above`.
    Split {
        /// The feature.
        feature: u32,
        /// Largest value that goes on.
        upto: f32,
        /// Another node, further on.
        above: usize,
    },
    /// Shares of the classes, `[C]`.
    Leaf(Vec<f64>),
}

impl Plane {
    fn sums(&self, row: &[(u32, f32)]) -> Vec<f64> {
        let mut sums = self.weights[self.weights.len() - self.outputs..].to_vec();
        for &(feature, value) in row {
            let weights = &self.weights[feature as usize * self.outputs..];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += f64::from(value) * weight;
            }
        }
        sums
    }
}

impl Rule {
    /// A score of each class for a row by rising feature; probabilities, but of the two kinds that know distances only: there
    /// the logistic function of these.
    ///
    /// # Shapes
    /// `width` features → `[C]`
    pub fn scores(&self, row: &[(u32, f32)], width: usize) -> Vec<f64> {
        match self {
            Self::Logistic(plane) => match &plane.sums(row)[..] {
                [sum] => pair(*sum),
                sums => softmax(sums),
            },
            Self::Linear(plane) => sides(&plane.sums(row)),
            Self::Bumps {
                gamma,
                centres,
                heights,
            } => {
                let bumps = centres
                    .iter()
                    .map(|centre| (-gamma * distance(centre, row)).exp());
                let bumps: Vec<f64> = bumps.chain([1.0]).collect();
                let sums = heights.iter().map(|heights| {
                    let terms = heights.iter().zip(&bumps);
                    terms.map(|(height, bump)| height * bump).sum()
                });
                sides(&sums.collect::<Vec<f64>>())
            }
            Self::Normal {
                priors,
                means,
                variances,
            } => {
                let values = dense(row, width);
                let classes = priors.iter().zip(means.iter().zip(variances));
                let logs = classes.map(|(prior, (means, variances))| {
                    let features = values.iter().zip(means.iter().zip(variances));
                    let off = features.map(|(&x, (mean, variance))| {
                        (std::f64::consts::TAU * variance).ln()
                            + (f64::from(x) - mean).powi(2) / variance
                    });
                    prior - 0.5 * off.sum::<f64>()
                });
                softmax(&logs.collect::<Vec<f64>>())
            }
            Self::Trees(trees) => {
                let values = dense(row, width);
                let mut mean: Vec<f64> = Vec::new();
                for tree in trees {
                    let leaf = leaf(tree, &values);
                    mean.resize(leaf.len(), 0.0);
                    let shares = mean.iter_mut().zip(leaf);
                    shares.for_each(|(mean, share)| *mean += share / trees.len() as f64);
                }
                mean
            }
        }
    }

    /// Whether it reads `width` features and gives `classes` scores, and no number of it is none.
    fn fits(&self, width: usize, classes: usize) -> bool {
        let outputs = if classes == 2 { 1 } else { classes };
        let numbers = |values: &[f64], count: usize| {
            values.len() == count && values.iter().all(|value| value.is_finite())
        };
        let table = |rows: &[Vec<f64>], columns: usize, count: usize| {
            rows.len() == count && rows.iter().all(|row| numbers(row, columns))
        };
        match self {
            Self::Logistic(plane) | Self::Linear(plane) => {
                plane.outputs == outputs && numbers(&plane.weights, (width + 1) * outputs)
            }
            Self::Bumps {
                gamma,
                centres,
                heights,
            } => {
                let rises =
                    |row: &Vec<(u32, f32)>| row.windows(2).all(|pair| pair[0].0 < pair[1].0);
                gamma.is_finite()
                    && table(heights, centres.len() + 1, outputs)
                    && centres.iter().all(rises)
            }
            Self::Normal {
                priors,
                means,
                variances,
            } => {
                numbers(priors, classes)
                    && table(means, width, classes)
                    && table(variances, width, classes)
                    && variances.iter().flatten().all(|variance| *variance > 0.0)
            }
            Self::Trees(trees) => {
                let node = |(at, node): (usize, &Node), len: usize| match node {
                    Node::Split { feature, above, .. } => {
                        (*feature as usize) < width && *above > at && *above < len && at + 1 < len
                    }
                    Node::Leaf(shares) => numbers(shares, classes),
                };
                let whole = |tree: &Vec<Node>| {
                    !tree.is_empty() && tree.iter().enumerate().all(|one| node(one, tree.len()))
                };
                !trees.is_empty() && trees.iter().all(whole)
            }
        }
    }
}

/// Where a row ends up.
fn leaf<'a>(tree: &'a [Node], values: &[f32]) -> &'a [f64] {
    let mut at = 0;
    loop {
        match &tree[at] {
            Node::Leaf(shares) => return shares,
            Node::Split {
                feature,
                upto,
                above,
            } => {
                at = if values[*feature as usize] <= *upto {
                    at + 1
                } else {
                    *above
                }
            }
        }
    }
}

/// Probabilities of two classes.
fn pair(sum: f64) -> Vec<f64> {
    let second = 1.0 / (1.0 + (-sum).exp());
    vec![1.0 - second, second]
}

/// On which side of each plane, and how far.
fn sides(sums: &[f64]) -> Vec<f64> {
    match sums {
        [sum] => pair(*sum),
        sums => sums.iter().map(|sum| pair(*sum)[1]).collect(),
    }
}

fn softmax(logs: &[f64]) -> Vec<f64> {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// A row with its zeros.
pub fn dense(row: &[(u32, f32)], width: usize) -> Vec<f32> {
    let mut values = vec![0.0; width];
    for &(feature, value) in row {
        values[feature as usize] = value;
    }
    values
}

/// The squared distance of two rows by rising feature.
pub fn distance(a: &[(u32, f32)], b: &[(u32, f32)]) -> f64 {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut sum = 0.0;
    loop {
        let off = match (a.peek(), b.peek()) {
            (None, None) => return sum,
            (Some(x), Some(y)) if x.0 == y.0 => {
                let off = f64::from(x.1) - f64::from(y.1);
                a.next();
                b.next();
                off
            }
            (Some(x), other) if other.is_none_or(|y| x.0 < y.0) => {
                let off = f64::from(x.1);
                a.next();
                off
            }
            (_, Some(y)) => {
                let off = f64::from(y.1);
                b.next();
                off
            }
            (Some(_), None) => unreachable!("taken above"),
        };
        sum += off * off;
    }
}

impl Fitted {
    /// Number of features, `width` being the encoder's.
    pub fn features(&self, width: usize) -> usize {
        let of = |family: &Family| match family {
            Family::Encoder { .. } => width,
            Family::Terms(terms) => terms.len(),
            Family::Lexicon { lexicon, .. } => lexicon.categories.len(),
        };
        self.families.iter().map(of).sum()
    }

    /// The features of a text or pair, whose vectors of the encoder are `vectors`, by rising feature; of a pair, words are
    /// counted in both together.
    pub fn row(&self, text: &[&str], vectors: &[f32]) -> Vec<(u32, f32)> {
        let mut row = Vec::new();
        let (mut start, mut rest) = (0, vectors);
        for family in &self.families {
            match family {
                Family::Encoder { scale, .. } => {
                    let (own, others) = rest.split_at(scale.mean.len());
                    rest = others;
                    row.extend(scale.row(own, start));
                    start += own.len();
                }
                Family::Terms(terms) => {
                    let own = terms.row(text).into_iter();
                    row.extend(own.map(|(term, value)| (start as u32 + term, value)));
                    start += terms.len();
                }
                Family::Lexicon { lexicon, scale } => {
                    let shares = lexicon.shares(&text.join(" "));
                    row.extend(scale.row(&shares, start));
                    start += shares.len();
                }
            }
        }
        row
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let fail = |message: String| Error::Input(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|error| fail(error.to_string()))
    }

    /// Refuses what does not fit together, `width` being the encoder's.
    fn check(&self, path: &Path, model: &TextModel) -> Result<(), Error> {
        let encoder = model.engine().encoder();
        let fits = |family: &Family| {
            let (scale, count) = match family {
                Family::Encoder { pooled, scale } => {
                    if pooled
                        .layer
                        .is_some_and(|layer| layer > encoder.layers.len())
                    {
                        return false;
                    }
                    (scale, encoder.width)
                }
                Family::Terms(_) => return true,
                Family::Lexicon { lexicon, scale } => (scale, lexicon.categories.len()),
            };
            scale.mean.len() == count && scale.deviation.len() == count
        };
        let is_whole = self.families.iter().all(fits)
            && self.labels.len() > 1
            && self
                .rule
                .fits(self.features(encoder.width), self.labels.len());
        if is_whole {
            return Ok(());
        }
        Err(Error::Input(format!(
            "{}: expected features and a classifier that fit the encoder beside them, found others; train the folder again",
            path.display()
        )))
    }
}

/// Makes vectors of texts, by an encoder as it is.
pub struct Extractor {
    model: TextModel,
    pools: Vec<Pooled>,
    max_len: usize,
}

impl Extractor {
    /// One vector for each of `pools`, of texts of at most `max_len` tokens.
    pub fn new(model: TextModel, pools: Vec<Pooled>, max_len: usize) -> Self {
        Self {
            max_len: max_len.min(model.max_len()),
            model,
            pools,
        }
    }

    /// Tokenizer and encoder.
    pub fn model(&self) -> &TextModel {
        &self.model
    }

    /// The tokens of a text or pair, cut to the longest.
    ///
    /// # Errors
    /// If the tokenizer cannot take it.
    pub fn encode(&self, input: Input<'_>) -> Result<Encoding, Error> {
        let limit = Limit {
            max_len: self.max_len,
            long: Long::Truncate(Shorten::LongestFirst),
        };
        let windows = self.model.tokenizer().encode(input, limit)?;
        Ok(windows.into_iter().next().expect("a text has a window"))
    }

    /// The vectors of each text, one pool after the other.
    ///
    /// # Shapes
    /// `P` pools → `[B][P · D]`
    /// # Errors
    /// If the encoder has no room for a text.
    pub fn vectors(&self, texts: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = vec![Vec::new(); texts.len()];
        if self.pools.is_empty() {
            return Ok(vectors);
        }
        let engine = self.model.engine();
        let (batch, layers) = (self.model.batch(texts), engine.encoder().layers.len());
        let mut stages: Vec<Vec<f32>> = vec![Vec::new(); layers + 2];
        if self.pools.iter().all(|pool| pool.layer.is_none()) {
            engine.run(&batch, Rows::All, &mut stages[layers + 1])?;
        } else {
            let mut next = stages.iter_mut();
            engine.trace(&batch, &mut |stage| {
                *next.next().expect("a stage a layer") = stage.to_vec();
            })?;
        }
        let width = engine.encoder().width;
        for pooled in &self.pools {
            let stage = &stages[pooled.layer.unwrap_or(layers + 1)];
            for (index, vectors) in vectors.iter_mut().enumerate() {
                let tokens = batch.range(index);
                let rows = &stage[tokens.start * width..tokens.end * width];
                vectors.extend(pool(rows, width, pooled.pool));
            }
        }
        Ok(vectors)
    }
}

/// One vector of those of a text's tokens; zeros of a text that has none.
fn pool(rows: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let mut rest = rows.chunks_exact(width);
    let Some(first) = rest.next() else {
        return vec![0.0; width];
    };
    let mut out = first.to_vec();
    for row in rest {
        for (out, &x) in out.iter_mut().zip(row) {
            match pooling {
                Pooling::First => {}
                Pooling::Mean => *out += x,
                Pooling::Max => *out = out.max(x),
            }
        }
    }
    if pooling == Pooling::Mean {
        let count = (rows.len() / width) as f32;
        for sum in &mut out {
            *sum /= count;
        }
    }
    out
}

/// Labels texts, or pairs of them, by a classifier on their features.
pub struct FeatureClassifier {
    /// Most labels of a text; all if none.
    pub top: Option<usize>,
    extractor: Extractor,
    fitted: Fitted,
    width: usize,
}

impl FeatureClassifier {
    /// Whether a folder has one.
    pub fn is_at(path: &Path) -> bool {
        path.join(FEATURES).is_file()
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`TextModel::new`], and if the features or the classifier do not fit the encoder.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let (_, model) = TextModel::new(Checkpoint::open(path)?, options)?;
        let file = path.join(FEATURES);
        let fitted = Fitted::read(&file)?;
        fitted.check(&file, &model)?;
        let pools = fitted.families.iter().filter_map(|family| match family {
            Family::Encoder { pooled, .. } => Some(*pooled),
            Family::Terms(_) | Family::Lexicon { .. } => None,
        });
        let extractor = Extractor::new(model, pools.collect(), fitted.max_len);
        Ok(Self {
            top: None,
            width: fitted.features(extractor.model.engine().encoder().width),
            extractor,
            fitted,
        })
    }

    /// Names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.fitted.labels
    }

    /// A score of each class, in the order of the labels, as of [`Rule::scores`].
    pub fn scores(&self, input: Input<'_>, vectors: &[f32]) -> Vec<f64> {
        let text: Vec<&str> = [input.first].into_iter().chain(input.second).collect();
        self.fitted
            .rule
            .scores(&self.fitted.row(&text, vectors), self.width)
    }
}

impl Predict for FeatureClassifier {
    /// Vectors of the encoder.
    type Output = Vec<f32>;
    /// From the highest score down.
    type Prediction = Vec<Label>;

    fn model(&self) -> &TextModel {
        self.extractor.model()
    }

    fn encode(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        let encoding = self.extractor.encode(input)?;
        match long {
            Long::Truncate(_) => Ok(vec![encoding]),
            Long::Error if encoding.cut == 0 => Ok(vec![encoding]),
            Long::Error | Long::TruncateStart(_) | Long::Chunk { .. } => {
                Err(Error::Input(format!(
                    "features are of the first {} tokens of a text; truncate it, or label its parts",
                    self.extractor.max_len
                )))
            }
        }
    }

    fn run(&self, windows: &[&Encoding]) -> Result<Vec<Vec<f32>>, Error> {
        self.extractor.vectors(windows)
    }

    fn decode(
        &self,
        input: Input<'_>,
        _: &[Encoding],
        outputs: &[Vec<f32>],
    ) -> Result<Vec<Label>, Error> {
        let scores = self.scores(input, &outputs[0]).into_iter();
        let mut labels = ranked(self.labels(), scores.map(|score| score as f32));
        labels.truncate(self.top.unwrap_or(usize::MAX));
        Ok(labels)
    }
}
