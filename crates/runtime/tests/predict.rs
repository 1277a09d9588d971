//! Predictions against what the pipelines of `transformers` say: every folder of `pipelines/`, which
//! `tools/golden/pipelines.py` makes; and that neighbours change nothing.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_data::text::{Agreement, Answers, Input, Long, Shorten};
use cloze_runtime::Rows;
use cloze_runtime::cpu::Options;
use cloze_runtime::predict::{Answerer, Classifier, FillMask, Predict, Predictor, TokenClassifier};
use cloze_spec::encoder::Activation;
use cloze_spec::hugging_face::ScoreActivation;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Largest difference of a probability; of a number that is none, per its size if that is above 1.
const SCORE: f64 = 1e-5;

const CUT: Long = Long::Truncate(Shorten::LongestFirst);
const TOKENS: usize = 100;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn open(name: &str) -> Predictor {
    Predictor::open(&folder(name), Options::default()).unwrap()
}

#[derive(Deserialize)]
struct Expected<C> {
    cases: Vec<C>,
}

fn cases<C: DeserializeOwned>(name: &str) -> Vec<C> {
    let text = fs::read_to_string(folder(name).join("expected.json")).unwrap();
    let expected: Expected<C> = serde_json::from_str(&text).unwrap();
    assert!(expected.cases.len() >= 4, "{name}");
    expected.cases
}

fn same(place: &str, found: f32, wanted: f64) {
    let difference = (f64::from(found) - wanted).abs();
    assert!(
        difference <= SCORE * wanted.abs().max(1.0),
        "{place}: {found}, not {wanted}"
    );
}

fn one<P: Predict>(model: &P, input: Input<'_>, long: Long) -> P::Prediction {
    model.predict(&[input], long, TOKENS).unwrap().remove(0)
}

#[derive(Deserialize)]
struct MaskCase {
    text: String,
    top: usize,
    candidates: Vec<String>,
    masks: Vec<Vec<(u32, String, f64)>>,
}

fn fill_mask(name: &str) -> FillMask {
    let Predictor::FillMask(model) = open(name) else {
        panic!("{name} fills masks");
    };
    model
}

#[test]
fn masks_are_filled_as_by_the_pipeline() {
    for name in ["pipelines/masks", "pipelines/masks-bytes"] {
        for case in cases::<MaskCase>(name) {
            let mut model = fill_mask(name);
            model.top = case.top;
            if !case.candidates.is_empty() {
                model.set_candidates(&case.candidates).unwrap();
            }
            let place = format!("{name}: {:?} {:?}", case.text, case.candidates);
            let found = one(&model, case.text.as_str().into(), CUT);
            assert_eq!(found.masks.len(), case.masks.len(), "{place}");
            for (found, wanted) in found.masks.iter().zip(&case.masks) {
                let names = |fill: &cloze_runtime::predict::Fill| (fill.id, fill.token.clone());
                let found_names: Vec<_> = found.iter().map(names).collect();
                let wanted_names = wanted.iter().map(|(id, token, _)| (*id, token.clone()));
                assert_eq!(found_names, wanted_names.collect::<Vec<_>>(), "{place}");
                for (found, (.., wanted)) in found.iter().zip(wanted) {
                    same(&place, found.score, *wanted);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    pair: Option<String>,
    function: Option<String>,
    labels: Vec<(String, f64)>,
}

fn classifier(name: &str) -> Classifier {
    let Predictor::Classifier(model) = open(name) else {
        panic!("{name} labels texts");
    };
    model
}

#[test]
fn texts_and_pairs_are_labelled_as_by_the_pipeline() {
    let names = ["labels", "labels-many", "regression", "one-label"];
    for name in names.map(|name| format!("pipelines/{name}")) {
        for case in cases::<TextCase>(&name) {
            let mut model = classifier(&name);
            if let Some(function) = &case.function {
                model.activation = match &**function {
                    "softmax" => ScoreActivation::Softmax,
                    "sigmoid" => ScoreActivation::Each(Activation::Sigmoid),
                    _ => ScoreActivation::Each(Activation::Identity),
                };
            }
            let input = Input {
                second: case.pair.as_deref(),
                ..Input::from(&*case.text)
            };
            let place = format!("{name}: {:?} {:?}", input, case.function);
            let found = one(&model, input, CUT);
            let wanted: Vec<&str> = case.labels.iter().map(|(label, _)| &**label).collect();
            let labels: Vec<&str> = found.iter().map(|label| &*label.label).collect();
            assert_eq!(labels, wanted, "{place}");
            for (found, (_, wanted)) in found.iter().zip(&case.labels) {
                same(&place, found.score, *wanted);
            }
        }
    }
}

#[test]
fn what_another_model_says_shows() {
    let mut model = classifier("pipelines/labels-many");
    model.activation = ScoreActivation::Softmax;
    for case in cases::<TextCase>("pipelines/labels") {
        if case.function.is_some() || case.pair.is_some() {
            continue;
        }
        let found = one(&model, case.text.as_str().into(), CUT);
        let far = found.iter().any(|label| {
            let wanted = case.labels.iter().find(|(name, _)| *name == label.label);
            (f64::from(label.score) - wanted.unwrap().1).abs() > 1000.0 * SCORE
        });
        assert!(far, "{:?}", case.text);
    }
}

#[derive(Deserialize)]
struct TokenCase {
    text: String,
    strategy: String,
    overlap: usize,
    entities: Vec<(String, f64, u32, u32)>,
}

fn token_classifier() -> TokenClassifier {
    let Predictor::TokenClassifier(model) = open("pipelines/tokens") else {
        panic!("the folder labels tokens");
    };
    model
}

#[test]
fn entities_and_tokens_are_those_of_the_pipeline() {
    let mut windows = 0;
    for case in cases::<TokenCase>("pipelines/tokens") {
        let mut model = token_classifier();
        model.aggregation = match &*case.strategy {
            "none" => None,
            "simple" => Some(Agreement::Simple),
            "first" => Some(Agreement::First),
            "average" => Some(Agreement::Average),
            _ => Some(Agreement::Max),
        };
        let long = Long::Chunk {
            overlap: case.overlap,
            whole_words: false,
        };
        let input = Input::from(&*case.text);
        windows = windows.max(model.encode(input, long).unwrap().len());
        let place = format!("{} {}", case.strategy, case.text);
        let found = one(&model, input, long);
        let spans = found
            .iter()
            .map(|e| (&*e.label, e.chars.start, e.chars.end));
        let wanted = case.entities.iter().map(|e| (&*e.0, e.2, e.3));
        assert_eq!(
            spans.collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>(),
            "{place}"
        );
        for (found, (_, wanted, ..)) in found.iter().zip(&case.entities) {
            same(&place, found.score, *wanted);
        }
    }
    assert!(windows > 2, "a long text is among them");
}

#[derive(Deserialize)]
struct QuestionCase {
    question: String,
    context: String,
    count: usize,
    nothing: bool,
    max_tokens: usize,
    answers: Vec<(f64, u32, u32, String)>,
}

fn answerer() -> Answerer {
    let Predictor::Answerer(model) = open("pipelines/answers") else {
        panic!("the folder answers questions");
    };
    model
}

#[test]
fn answers_are_those_of_the_pipeline() {
    let mut windows = 0;
    for case in cases::<QuestionCase>("pipelines/answers") {
        let mut model = answerer();
        model.answers = Answers {
            count: case.count,
            max_tokens: case.max_tokens,
            nothing: case.nothing,
            ..Answers::default()
        };
        // What the pipeline takes for a model of 40 tokens.
        let long = Long::Chunk {
            overlap: 20,
            whole_words: false,
        };
        let input = Input::from((&*case.question, &*case.context));
        windows = windows.max(model.encode(input, long).unwrap().len());
        let place = format!("{input:?}");
        let found = one(&model, input, long);
        let spans = found.iter().map(|a| (a.chars.start, a.chars.end, &*a.text));
        let wanted = case.answers.iter().map(|a| (a.1, a.2, &*a.3));
        assert_eq!(
            spans.collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>(),
            "{place}"
        );
        for (found, (wanted, ..)) in found.iter().zip(&case.answers) {
            same(&place, found.score, *wanted);
        }
    }
    assert!(windows > 2, "a long context is among them");
}

#[test]
fn a_long_text_is_gone_through_once() {
    let text = "the cat sat on the [MASK] mat and the river ".repeat(12);
    let long = Long::Chunk {
        overlap: 10,
        whole_words: true,
    };
    let model = fill_mask("pipelines/masks");
    assert!(model.encode((&*text).into(), long).unwrap().len() > 3);
    let found = one(&model, (&*text).into(), long);
    assert_eq!(
        found.masks.len(),
        12,
        "each mask once, though windows overlap"
    );
    assert!(!found.text().contains("[MASK]"));
    let cut = one(&model, (&*text).into(), CUT);
    assert!(cut.masks.len() < 12 && cut.text().ends_with("[MASK] mat and the river "));

    let mut model = token_classifier();
    model.aggregation = None;
    let tokens = one(&model, (&*text).into(), long);
    let starts: Vec<u32> = tokens.iter().map(|token| token.chars.start).collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "each token once");
    assert_eq!(tokens.len(), 12 * 11);

    let Err(error) = classifier("pipelines/labels").encode((&*text).into(), long) else {
        panic!("a label of parts is none of the whole");
    };
    assert!(error.to_string().contains("chunks"), "{error}");
}

#[test]
fn masks_are_spelled_and_filled_as_people_write() {
    let mut model = fill_mask("pipelines/masks-bytes");
    let own = one(&model, "the old <mask> stood".into(), CUT);
    assert_eq!(own, one(&model, "the old [MASK] stood".into(), CUT));
    let words = |model: &FillMask| {
        let found = one(model, "the old [MASK] stood, [MASK]".into(), CUT);
        found.text()
    };
    model.set_candidates(&["river".to_owned()]).unwrap();
    assert_eq!(words(&model), "the old river stood, river");
    // Of the middle of a word, as the vocabulary spells it.
    model.set_candidates(&["ital".to_owned()]).unwrap();
    assert_eq!(words(&model), "the oldital stood,ital");

    let mut model = fill_mask("pipelines/masks");
    model.set_candidates(&["##ing".to_owned()]).unwrap();
    let found = one(&model, "Cat <mask> sat.".into(), CUT);
    assert_eq!(found.text(), "Cating sat.");
    let several = ["cat", "catfish", "nono"].map(str::to_owned);
    let error = model.set_candidates(&several).unwrap_err().to_string();
    assert!(
        error.contains("\"catfish\" is cat + ##f") && error.contains("nono"),
        "{error}"
    );
    assert_eq!(one(&model, "no mask here".into(), CUT).masks.len(), 0);
}

#[test]
fn a_model_without_predictions_says_what_it_is_for() {
    for (name, found) in [
        ("bert", "a pooler"),
        ("sentence", "a pooler"),
        ("nomic", "alone"),
    ] {
        let opened = Predictor::open(&folder("golden").join(name), Options::default());
        let Err(error) = opened else {
            panic!("{name} predicts nothing");
        };
        let error = error.to_string();
        assert!(error.contains(found) && error.contains("embed"), "{error}");
    }
}

#[test]
fn a_pair_is_refused_where_one_text_is_taken() {
    let pair = Input::from(("a", "b"));
    assert!(fill_mask("pipelines/masks").encode(pair, CUT).is_err());
    assert!(token_classifier().encode(pair, CUT).is_err());
    assert!(answerer().encode("a".into(), CUT).is_err());
}

/// Texts alone and among others, in batches of any size, give the same bits.
fn neighbours_change_nothing<P: Predict<Prediction: PartialEq + Debug>>(
    model: &P,
    inputs: &[Input<'_>],
    long: Long,
    batch_tokens: usize,
) {
    let together = model.predict(inputs, long, batch_tokens).unwrap();
    for (input, together) in inputs.iter().zip(&together) {
        assert_eq!(*together, one(model, *input, long), "{input:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_prediction_is_the_same_alone_and_among_others(
        words in prop::collection::vec(prop::collection::vec("(the|cat|river|mat|\\[MASK\\]|waters|x)", 0..90), 1..6),
        batch_tokens in 1_usize..200,
    ) {
        let texts: Vec<String> = words.iter().map(|words| words.join(" ")).collect();
        let inputs: Vec<Input> = texts.iter().map(|text| text.as_str().into()).collect();
        let pairs: Vec<Input> = texts.iter().map(|text| ("who sat?", text.as_str()).into()).collect();
        let long = Long::Chunk { overlap: 9, whole_words: true };
        neighbours_change_nothing(&fill_mask("pipelines/masks"), &inputs, long, batch_tokens);
        neighbours_change_nothing(&classifier("pipelines/labels"), &pairs, CUT, batch_tokens);
        neighbours_change_nothing(&token_classifier(), &inputs, long, batch_tokens);
        neighbours_change_nothing(&answerer(), &pairs, long, batch_tokens);
    }
}

/// Weights of tokens by the formula, one token and one word of the vocabulary after the other.
#[test]
fn a_text_is_about_the_tokens_whose_largest_output_is_above_nothing() {
    for name in ["pipelines/masks", "pipelines/masks-bytes"] {
        let Predictor::FillMask(model) = open(name) else {
            panic!("{name}: fills masks");
        };
        let texts = [
            "The cat sat on the mat.",
            "",
            "how is the water how is the water",
        ];
        let encode = |text: &&str| model.encode((*text).into(), CUT).unwrap().remove(0);
        let encodings: Vec<_> = texts.iter().map(encode).collect();
        let together = model.sparse(&encodings.iter().collect::<Vec<_>>()).unwrap();
        let engine = model.model().engine();
        let vocab = engine.encoder().embed.vocab;
        for (encoding, found) in encodings.iter().zip(&together) {
            let batch = model.model().batch(&[encoding]);
            let (mut vectors, mut logits) = (Vec::new(), Vec::new());
            engine.run(&batch, Rows::All, &mut vectors).unwrap();
            engine.head(&vectors, &mut logits).unwrap();
            let weight = |id: usize| {
                let outputs = (0..encoding.len()).map(|token| logits[token * vocab + id]);
                outputs.map(|x| x.max(0.0).ln_1p()).fold(0.0, f32::max)
            };
            let weights = (0..vocab).map(|id| (id as u32, weight(id)));
            let expected: Vec<_> = weights.filter(|(_, weight)| *weight > 0.0).collect();
            assert!(!expected.is_empty());
            assert_eq!(
                *found, expected,
                "{name}: alone as among others, to the bit"
            );
        }
    }
}
