//! Classifiers of the older kinds on features of texts; the encoder stays as it is.

mod bayes;
mod forest;
mod svm;

use std::path::Path;

use cloze_data::text::examples::{Examples, Truth};
use cloze_data::text::learn::{Ask, TextData};
use cloze_data::text::lexicon::Lexicon;
use cloze_data::text::store;
use cloze_data::text::terms::Terms;
use cloze_data::text::{Encoding, Input};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::{Checkpoint, TextModel};
use cloze_runtime::predict::Predict;
use cloze_runtime::predict::features::{
    Extractor, FEATURES, Family, FeatureClassifier, Fitted, Plane, Rule, Scale,
};
use cloze_spec::TextRecipe;
use cloze_spec::folder::{self, copy_into, write_text};
use cloze_spec::recipe::Document;
use cloze_spec::text::{Classifier, Cost, Feature, Fit, Pooled, Stage};

use super::baseline::{solve, targets};
use super::judge::{Aim, Predictions};
use crate::Error;
use crate::baseline::SparseRows;

/// Slope, by example, at which a logistic classifier is found.
const TOLERANCE: f64 = 1e-10;

/// Features of texts, for a recipe that fits a classifier to them.
pub struct FeatureRun {
    /// The recipe.
    pub recipe: TextRecipe,
    /// Texts to learn from and to judge by.
    pub data: TextData,
    model: TextModel,
    /// Files of the encoder and its tokenizer.
    files: Vec<std::path::PathBuf>,
}

impl FeatureRun {
    /// Opens the encoder in the folder `base`, and reads the texts.
    ///
    /// # Errors
    /// If no encoder is named, a file cannot be read, or the texts are not what the recipe says.
    ///
    /// # Panics
    /// If the recipe trains the encoder.
    pub fn new(recipe: TextRecipe, base: Option<&Path>, options: Options) -> Result<Self, Error> {
        let Some(base) = base else {
            return Err(Error::Empty(
                "the recipe names no encoder for its features; name its folder, or its name on the hub, with --model"
                    .to_owned(),
            ));
        };
        let checkpoint = Checkpoint::open(base)?;
        let layers = checkpoint.encoder.layers.len();
        for (index, feature) in fit(&recipe).features.iter().enumerate() {
            if let Feature::Encoder(Pooled {
                layer: Some(found), ..
            }) = feature
                && *found > layers
            {
                return Err(cloze_spec::Error::Recipe {
                    place: "recipe".to_owned(),
                    message: format!(
                        "stage.0.features.{index}.layer: expected at most {layers}, as the encoder has, found {found}"
                    ),
                }
                .into());
            }
        }
        let mut files = checkpoint.folder.weights.clone();
        let home = files[0].parent().unwrap_or(base).to_owned();
        let indices = std::fs::read_dir(&home).map_err(io(&home))?;
        files.extend(indices.filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            (name == folder::CONFIG || name.ends_with(".index.json")).then_some(path)
        }));
        files.extend(checkpoint.folder.tokenizer.iter().cloned());
        let (_, model) = TextModel::new(checkpoint, options)?;
        let data = TextData::prepare(&Ask {
            texts: &recipe.data,
            objective: recipe.objective(),
            tokenizer: model.tokenizer(),
            max_len: recipe.model.max_len.min(model.max_len()),
            seed: recipe.seed,
            // Labelled texts are held in memory.
            place: store::Place {
                folder: base,
                tokenizer: &[],
            },
        })?;
        Ok(Self {
            recipe,
            data,
            model,
            files,
        })
    }

    /// What is to be learned.
    pub fn aim(&self) -> Aim<'_> {
        Aim {
            objective: self.recipe.objective(),
            batch: self.recipe.batch(),
            labels: &self.data.labels,
            blanks: None,
        }
    }

    /// Fits features and classifier to the training part, and writes the folder `out`: the encoder, and what was fitted. `done`
    /// is told how many tokens each batch had.
    ///
    /// # Errors
    /// If there is only one class, the classifier takes no so many texts, or a file cannot be written.
    pub fn fit(&self, out: &Path, done: &mut dyn FnMut(usize)) -> Result<(), Error> {
        std::fs::create_dir_all(out).map_err(io(out))?;
        write_text(&out.join(folder::RECIPE), &self.recipe.to_toml())?;
        let fitted = self.fitted(done)?;
        copy_into(&self.files, out)?;
        let json = serde_json::to_string(&fitted).expect("what was fitted are numbers and texts");
        Ok(write_text(&out.join(FEATURES), &json)?)
    }

    fn fitted(&self, done: &mut dyn FnMut(usize)) -> Result<Fitted, Error> {
        let settings = fit(&self.recipe);
        let train = &*self.data.train;
        let texts = &train.originals;
        let Truth::Classes(classes) = &train.truth else {
            unreachable!("texts are read for their classes");
        };
        let count = self.data.labels.len();
        if count < 2 {
            return Err(Error::Empty(format!(
                "expected texts of at least two classes, found {}",
                self.data.labels.join(", ")
            )));
        }
        let pools = settings
            .features
            .iter()
            .filter_map(|feature| match feature {
                Feature::Encoder(pooled) => Some(*pooled),
                Feature::Terms(_) | Feature::Lexicon(_) => None,
            });
        let pools: Vec<Pooled> = pools.collect();
        let max_len = self.recipe.model.max_len.min(self.model.max_len());
        let extractor = Extractor::new(self.model.clone(), pools, max_len);
        let vectors = vectors(&extractor, texts, settings.batch.max_tokens, done)?;

        let width = cloze_runtime::Engine::encoder(self.model.engine()).width;
        let mut families = Vec::new();
        let mut start = 0;
        for feature in &settings.features {
            families.push(match feature {
                Feature::Encoder(pooled) => {
                    let own = vectors.iter().flat_map(|row| &row[start..start + width]);
                    let own: Vec<f32> = own.copied().collect();
                    start += width;
                    Family::Encoder {
                        pooled: *pooled,
                        scale: Scale::of(&own, width),
                    }
                }
                Feature::Terms(grams) => Family::Terms(Terms::fit(texts, *grams)),
                Feature::Lexicon(list) => {
                    let lexicon = Lexicon::read(&list.file)?;
                    let shares = texts
                        .iter()
                        .flat_map(|text| lexicon.shares(&text.join(" ")));
                    let scale = Scale::of(&shares.collect::<Vec<f32>>(), lexicon.categories.len());
                    Family::Lexicon { lexicon, scale }
                }
            });
        }
        let mut fitted = Fitted {
            labels: self.data.labels.clone(),
            max_len,
            families,
            rule: Rule::Trees(Vec::new()),
        };
        let features = fitted.features(width);
        let rows: Vec<Vec<(u32, f32)>> = texts
            .iter()
            .zip(&vectors)
            .map(|(text, vectors)| {
                let text: Vec<&str> = text.iter().map(String::as_str).collect();
                fitted.row(&text, vectors)
            })
            .collect();
        let learned = Learning {
            rows: &rows,
            width: features,
            classes,
            count,
            seed: self.recipe.seed,
        };
        fitted.rule = learned.rule(settings.classifier)?;
        Ok(fitted)
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| cloze_spec::Error::Io { path, source }.into()
}

/// The stage that fits.
fn fit(recipe: &TextRecipe) -> &Fit {
    match &recipe.stage[0] {
        Stage::Fit(fit) => fit,
        Stage::Train(_) => panic!("the encoder of this recipe is trained"),
    }
}

/// The encoder's vectors of each text.
fn vectors(
    extractor: &Extractor,
    texts: &[Vec<String>],
    batch_tokens: usize,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>, Error> {
    let encode = |text: &Vec<String>| extractor.encode(input(text));
    let encodings: Vec<Encoding> = texts.iter().map(encode).collect::<Result<_, _>>()?;
    let lengths: Vec<usize> = encodings.iter().map(Encoding::len).collect();
    let batches = cloze_data::records::length::batches(&lengths, batch_tokens);
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in &batches {
        let of: Vec<&Encoding> = batch.iter().map(|&at| &encodings[at]).collect();
        vectors.extend(extractor.vectors(&of)?);
        done(of.iter().map(|one| one.len()).sum());
    }
    Ok(cloze_data::records::length::in_order(&batches, vectors))
}

fn input(text: &[String]) -> Input<'_> {
    match text {
        [first, second] => (&**first, &**second).into(),
        _ => Input::from(&*text[0]),
    }
}

/// What a classifier learns from.
pub struct Learning<'a> {
    /// The features of each text, by rising feature, `[N]`.
    pub rows: &'a [Vec<(u32, f32)>],
    /// Number of features, `D`.
    pub width: usize,
    /// The class of each text, `[N]`.
    pub classes: &'a [u32],
    /// Number of classes, `C`.
    pub count: usize,
    /// Where randomness flows from.
    pub seed: u64,
}

impl Learning<'_> {
    /// Fits a classifier.
    ///
    /// # Errors
    /// If it takes no so many texts.
    pub fn rule(&self, classifier: Classifier) -> Result<Rule, Error> {
        Ok(match classifier {
            Classifier::Logistic(Cost { c }) => {
                let (kind, targets) = targets(self.classes, self.count);
                let rows = SparseRows::new(self.rows.iter().cloned());
                let outputs = targets.len() / self.classes.len();
                let weights = solve(rows, self.width, kind, &targets, c, TOLERANCE);
                Rule::Logistic(Plane { weights, outputs })
            }
            Classifier::LinearSvm(Cost { c }) => self.linear(c)?,
            Classifier::RbfSvm(rbf) => self.bumps(rbf)?,
            Classifier::NaiveBayes => self.normal(),
            Classifier::RandomForest(forest) => self.trees(forest),
        })
    }
}

impl Predictions {
    /// What a classifier on features says of `examples`.
    ///
    /// # Errors
    /// If the encoder has no room for a text.
    pub fn of_features(
        classifier: &FeatureClassifier,
        examples: &Examples,
        batch_tokens: usize,
    ) -> Result<Self, Error> {
        let texts: Vec<Input<'_>> = examples.originals.iter().map(|text| input(text)).collect();
        let long = cloze_data::text::Long::Truncate(cloze_data::text::Shorten::LongestFirst);
        let encode = |text: &Input<'_>| classifier.encode(*text, long);
        let windows: Vec<Vec<Encoding>> = texts.iter().map(encode).collect::<Result<_, _>>()?;
        let windows: Vec<&[Encoding]> = windows.iter().map(Vec::as_slice).collect();
        let vectors = classifier.run_all(&windows, batch_tokens, &mut |_| {})?;
        let scores = texts.iter().zip(&vectors);
        let scores = scores.map(|(text, vectors)| classifier.scores(*text, &vectors[0]));
        Ok(Self::of_probabilities(scores))
    }
}
