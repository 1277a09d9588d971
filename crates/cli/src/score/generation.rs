use std::path::Path;

use anyhow::Context;
use cloze_data::records::Value;
use cloze_runtime::model::Checkpoint;
use cloze_train::metric::bert_score::{BertScore, rescale};
use cloze_train::metric::bleu::{Bleu, Smoothing, Tokenizer};
use cloze_train::metric::chrf::Chrf;
use cloze_train::metric::counts::Prf;
use cloze_train::metric::rouge::Rouge;
use cloze_train::metric::ter::{Settings, Ter};
use rayon::prelude::*;

use crate::hub;

use super::arguments::{Generation, GenerationMetric, Smooth, Tokenize};
use super::input::Sides;
use super::{Judged, Number, Table};

/// What is summed up of one text.
#[derive(Default)]
struct Text {
    bleu: Option<Bleu>,
    chrf: Option<Chrf>,
    chrf_words: Option<Chrf>,
    ter: Option<Ter>,
    rouge: Option<Rouge>,
    bert: Option<Prf>,
}

pub fn judge(args: &Generation, path: &Path) -> anyhow::Result<Judged> {
    let sides = Sides::read(&args.common, path, &args.reference, &[&args.prediction])?;
    let predictions = sides.own[0].each("a text", Value::text)?;
    let mut references: Vec<Vec<String>> = vec![Vec::new(); predictions.len()];
    for column in &sides.truth {
        let found = column.each("a text, or a list with at least one", |value| match value {
            Value::List(values) if values.is_empty() => None,
            Value::List(values) => values.iter().map(Value::text).collect(),
            one => Some(vec![one.text()?]),
        })?;
        for (references, found) in references.iter_mut().zip(found) {
            references.extend(found);
        }
    }
    let smoothing = smoothing(args)?;
    let asked = |metric| args.metrics.contains(&metric);
    let with_bleu = asked(GenerationMetric::Bleu) || asked(GenerationMetric::SentenceBleu);
    let bert = bert_scores(args, &predictions, &references)?;
    let texts: Vec<Text> = predictions
        .par_iter()
        .zip(&references)
        .enumerate()
        .map(|(index, (own, known))| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let chrf = |with_words| Chrf::of(own, &known, with_words, args.lowercase);
            Text {
                bleu: with_bleu.then(|| Bleu::of(own, &known, tokenizer(args), args.lowercase)),
                chrf: asked(GenerationMetric::Chrf).then(|| chrf(false)),
                chrf_words: asked(GenerationMetric::ChrfWords).then(|| chrf(true)),
                ter: asked(GenerationMetric::Ter).then(|| Ter::of(own, &known, ter_settings(args))),
                rouge: asked(GenerationMetric::Rouge).then(|| Rouge::of(own, &known, args.stem)),
                bert: bert.as_ref().map(|(_, scores)| scores[index]),
            }
        })
        .collect();
    let mut names = Vec::new();
    for metric in &args.metrics {
        match metric {
            GenerationMetric::Bleu => names.push("bleu"),
            GenerationMetric::SentenceBleu => names.push("sentence_bleu"),
            GenerationMetric::Chrf => names.push("chrf"),
            GenerationMetric::ChrfWords => names.push("chrf++"),
            GenerationMetric::Ter => names.push("ter"),
            GenerationMetric::Rouge => names.extend(ROUGE),
        }
    }
    names.extend(bert.is_some().then_some("bertscore"));
    let mut tables = Vec::new();
    if asked(GenerationMetric::Rouge) {
        tables.push(rouge_table(&texts));
    }
    if asked(GenerationMetric::Bleu) {
        tables.push(bleu_table(&texts));
    }
    tables.extend(bert.and_then(|(layer, _)| bert_table(layer, &texts)));
    let metrics = args.metrics.clone();
    let count = texts.len();
    let values = move |draw: &[usize]| {
        let drawn = || draw.iter().map(|&index| &texts[index]);
        let mut values = Vec::new();
        for metric in &metrics {
            match metric {
                GenerationMetric::Bleu => values.push(bleu(drawn()).score(smoothing, false)),
                GenerationMetric::SentenceBleu => {
                    let scores = drawn().filter_map(|text| text.bleu.as_ref());
                    let scores = scores.map(|bleu| bleu.score(smoothing, true));
                    values.push(scores.sum::<f64>() / draw.len() as f64);
                }
                GenerationMetric::Chrf => values.push(chrf(drawn().map(|text| &text.chrf))),
                GenerationMetric::ChrfWords => {
                    values.push(chrf(drawn().map(|text| &text.chrf_words)));
                }
                GenerationMetric::Ter => {
                    let mut sum = Ter::default();
                    for ter in drawn().filter_map(|text| text.ter.as_ref()) {
                        sum += ter;
                    }
                    values.push(sum.score());
                }
                GenerationMetric::Rouge => values.extend(rouge(drawn()).map(|prf| prf.f1)),
            }
        }
        values.extend(bert_score(drawn()).map(|prf| prf.f1));
        values
    };
    Ok(Judged {
        tables,
        ..Judged::new("texts", count, &names, values)
    })
}

const ROUGE: [&str; 4] = ["rouge1", "rouge2", "rougeL", "rougeLsum"];

fn bleu<'a>(texts: impl Iterator<Item = &'a Text>) -> Bleu {
    let mut sum = Bleu::default();
    for bleu in texts.filter_map(|text| text.bleu.as_ref()) {
        sum += bleu;
    }
    sum
}

fn chrf<'a>(texts: impl Iterator<Item = &'a Option<Chrf>>) -> f64 {
    let mut sum = Chrf::default();
    for chrf in texts.flatten() {
        sum += chrf;
    }
    sum.score()
}

/// The means of each of [`ROUGE`].
fn rouge<'a>(texts: impl Iterator<Item = &'a Text>) -> [Prf; 4] {
    means(texts.filter_map(|text| {
        let rouge = text.rouge.as_ref()?;
        Some([rouge.rouge1, rouge.rouge2, rouge.rouge_l, rouge.rouge_lsum])
    }))
}

/// The mean of `BERTScore`, where it was asked for.
fn bert_score<'a>(texts: impl Iterator<Item = &'a Text>) -> Option<Prf> {
    let mut texts = texts.map(|text| text.bert).peekable();
    texts.peek().copied().flatten()?;
    let [mean] = means(texts.filter_map(|prf| Some([prf?])));
    Some(mean)
}

fn means<const COUNT: usize>(all: impl Iterator<Item = [Prf; COUNT]>) -> [Prf; COUNT] {
    let (mut sums, mut count) = ([Prf::default(); COUNT], 0.0);
    for parts in all {
        count += 1.0;
        for (sum, part) in sums.iter_mut().zip(parts) {
            sum.precision += part.precision;
            sum.recall += part.recall;
            sum.f1 += part.f1;
        }
    }
    sums.map(|sum| Prf {
        precision: sum.precision / count,
        recall: sum.recall / count,
        f1: sum.f1 / count,
    })
}

/// `BERTScore` of each text, where it was asked for, and the layer that it is by.
fn bert_scores(
    args: &Generation,
    predictions: &[String],
    references: &[Vec<String>],
) -> anyhow::Result<Option<(usize, Vec<Prf>)>> {
    let Some(model) = &args.bertscore else {
        return Ok(None);
    };
    let folder = hub::folder(model, &args.by_name)?;
    let mut scorer = BertScore::new(Checkpoint::open(&folder)?, args.layer)?;
    let layer = scorer.layer();
    let nothing = args.baseline.as_deref().map(|path| baseline(path, layer));
    let nothing = nothing.transpose()?;
    if args.idf {
        let all: Vec<&str> = references.iter().flatten().map(String::as_str).collect();
        scorer.weigh(&all)?;
    }
    let texts: Vec<(&str, Vec<&str>)> = predictions
        .iter()
        .zip(references)
        .map(|(own, known)| (&**own, known.iter().map(String::as_str).collect()))
        .collect();
    let mut scores = scorer.scores(&texts)?;
    if let Some(nothing) = nothing {
        for score in &mut scores {
            *score = rescale(*score, nothing);
        }
    }
    Ok(Some((layer, scores)))
}

/// What unrelated texts score by a layer.
fn baseline(path: &Path, layer: usize) -> anyhow::Result<Prf> {
    let mut reader = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
    let row = reader
        .records()
        .nth(layer)
        .with_context(|| format!("{}: expected a row for layer {layer}", path.display()))??;
    let number = |column: usize| row.get(column)?.trim().parse::<f64>().ok();
    match (number(1), number(2), number(3)) {
        (Some(precision), Some(recall), Some(f1)) => Ok(Prf {
            precision,
            recall,
            f1,
        }),
        _ => anyhow::bail!(
            "{}: expected LAYER,P,R,F with numbers for layer {layer}, found {:?}",
            path.display(),
            row.iter().collect::<Vec<_>>().join(",")
        ),
    }
}

fn rouge_table(texts: &[Text]) -> Table {
    let rows = ROUGE.iter().zip(rouge(texts.iter()));
    Table {
        of: "rouge",
        header: &["precision", "recall", "f1"],
        rows: rows
            .map(|(name, prf)| {
                let numbers = [prf.precision, prf.recall, prf.f1].map(Number::Share);
                ((*name).to_owned(), numbers.to_vec())
            })
            .collect(),
    }
}

fn bert_table(layer: usize, texts: &[Text]) -> Option<Table> {
    let prf = bert_score(texts.iter())?;
    let numbers = [prf.precision, prf.recall, prf.f1].map(Number::Share);
    Some(Table {
        of: "bertscore",
        header: &["precision", "recall", "f1"],
        rows: vec![(format!("layer {layer}"), numbers.to_vec())],
    })
}

fn bleu_table(texts: &[Text]) -> Table {
    let sum = bleu(texts.iter());
    let orders = sum.matches.iter().zip(&sum.totals).enumerate();
    let mut rows: Vec<(String, Vec<Number>)> = orders
        .map(|(n, (&matches, &totals))| {
            let precision = 100.0 * matches as f64 / totals.max(1) as f64;
            let numbers = [
                Number::Share(precision),
                Number::Count(matches),
                Number::Count(totals),
            ];
            (format!("{}-grams", n + 1), numbers.to_vec())
        })
        .collect();
    let lengths = [sum.reference_len, sum.hypothesis_len].map(Number::Count);
    let penalty = Number::Share(100.0 * sum.brevity_penalty());
    rows.push(("length".to_owned(), vec![penalty, lengths[0], lengths[1]]));
    Table {
        of: "bleu",
        header: &["percent", "in references", "in predictions"],
        rows,
    }
}

fn tokenizer(args: &Generation) -> Tokenizer {
    match args.tokenize {
        Tokenize::V13a => Tokenizer::V13a,
        Tokenize::Intl => Tokenizer::Intl,
        Tokenize::Zh => Tokenizer::Zh,
        Tokenize::Char => Tokenizer::Char,
        Tokenize::None => Tokenizer::None,
    }
}

fn smoothing(args: &Generation) -> anyhow::Result<Smoothing> {
    if let Some(value) = args.smooth_value {
        anyhow::ensure!(
            matches!(args.smooth, Smooth::Floor | Smooth::AddK),
            "--smooth-value: expected --smooth floor or add-k, which take one"
        );
        anyhow::ensure!(
            value > 0.0 && value.is_finite(),
            "--smooth-value {value}: expected a number above 0"
        );
    }
    Ok(match args.smooth {
        Smooth::Exp => Smoothing::Exp,
        Smooth::Floor => Smoothing::Floor(args.smooth_value.unwrap_or(0.1)),
        Smooth::AddK => Smoothing::AddK(args.smooth_value.unwrap_or(1.0)),
        Smooth::None => Smoothing::None,
    })
}

fn ter_settings(args: &Generation) -> Settings {
    Settings {
        normalize: args.ter_normalize,
        no_punctuation: args.ter_no_punctuation,
        case_sensitive: args.ter_case_sensitive,
    }
}
