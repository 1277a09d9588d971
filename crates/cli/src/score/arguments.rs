//! The command line of `cloze score`, as a table.

use std::path::PathBuf;

use crate::arguments::ByName;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score classification predictions.jsonl --label gold --prediction predicted --scores probs
  cloze score entities tagged.conll --scheme iob2
  cloze score answers predictions.json --references dev-v2.0.json
  cloze score generation output.txt --references reference.txt --metrics bleu,chrf,ter --bootstrap
  cloze score classification a.csv --against b.csv

`cloze score KIND --help` says more. The numbers are those of scikit-learn, scipy, seqeval, SQuAD's
scripts, sacrebleu and rouge-score.")]
pub struct Score {
    #[command(subcommand)]
    pub kind: Kind,
}

#[derive(Debug, Subcommand)]
pub enum Kind {
    /// One class for each example: accuracy, precision, recall, F1, MCC; with scores ROC AUC, average precision, calibration
    Classification(Classification),
    /// Any number of labels for each example: F1, subset accuracy, Hamming loss
    Multilabel(Multilabel),
    /// Numbers: Pearson, Spearman, mean squared and absolute error
    Regression(Regression),
    /// Named entities in tagged tokens: precision, recall and F1 of whole entities
    Entities(Entities),
    /// Answers to questions: exact match and F1 by the rules of SQuAD
    Answers(Answers),
    /// Texts against references: BLEU, chrF, TER, ROUGE
    Generation(Generation),
    /// Log probabilities of tokens: perplexity
    Perplexity(Perplexity),
}

/// What all kinds take.
#[derive(Debug, Args)]
pub struct Common {
    /// Predictions: JSON Lines, CSV, TSV, Parquet or plain lines, gzip or zstd read through; - for JSON Lines from a pipe
    pub predictions: PathBuf,
    /// What is true, if it stands in a file of its own, row by row as the predictions
    #[arg(long, value_name = "FILE")]
    pub references: Vec<PathBuf>,
    /// Predictions of another system for the same examples: the difference, and whether it may be luck
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// 95 % intervals, from this many draws of the examples; --against has them in any case
    #[arg(long, value_name = "DRAWS", num_args = 0..=1, default_missing_value = "1000")]
    pub bootstrap: Option<u64>,
    /// Where the draws' randomness flows from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// How the files are written; by default told from the extension
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// Quotes are characters like others in CSV and TSV, as in the files of GLUE
    #[arg(long)]
    pub no_quotes: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write a page with the tables and charts
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Apache Parquet
    Parquet,
    /// Separated values with quotes
    Csv,
    /// Tab-separated values
    Tsv,
    /// One JSON object a line
    Jsonl,
    /// One value a line
    Lines,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score classification predictions.csv                            # columns label and prediction
  cloze score classification predictions.jsonl --label gold --scores probs --report report.html
  cloze score classification logits.parquet --scores logits --logits --classes negative,neutral,positive
  cloze score classification predicted.txt --references gold.txt        # a class on each line

--scores names a list with a number for each class, in the order of --classes (by default sorted), or
one number: that of the positive class of two. Without --prediction the class with the highest score
is predicted, the first of equal ones. Classes that never occur count in no mean.")]
pub struct Classification {
    #[command(flatten)]
    pub common: Common,
    /// Column of the true classes
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Column of the predicted classes; by default `prediction`, or what the scores say
    #[arg(long, value_name = "COLUMN")]
    pub prediction: Option<String>,
    /// Column of the scores
    #[arg(long, value_name = "COLUMN")]
    pub scores: Option<String>,
    /// The scores are logits: take their softmax, or the logistic function of a single one
    #[arg(long, requires = "scores")]
    pub logits: bool,
    /// All classes, in the order of the scores; by default those that occur, sorted
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// The positive class of two; by default the last
    #[arg(long, value_name = "CLASS")]
    pub positive: Option<String>,
    /// Bins of the calibration
    #[arg(long, value_name = "COUNT", default_value = "15")]
    pub bins: std::num::NonZeroUsize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score multilabel predictions.jsonl       # {\"label\": [\"a\", \"b\"], \"prediction\": [\"b\"]}
  cloze score multilabel predictions.csv --separator ';'")]
pub struct Multilabel {
    #[command(flatten)]
    pub common: Common,
    /// Column of the true labels
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Column of the predicted labels
    #[arg(long, value_name = "COLUMN", default_value = "prediction")]
    pub prediction: String,
    /// All labels; by default those that occur
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// What parts labels in CSV, TSV and lines; by default blanks
    #[arg(long, value_name = "CHAR")]
    pub separator: Option<char>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cloze score regression similarities.tsv --label score --prediction cosine --bootstrap")]
pub struct Regression {
    #[command(flatten)]
    pub common: Common,
    /// Column of the true numbers
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Column of the predicted numbers
    #[arg(long, value_name = "COLUMN", default_value = "prediction")]
    pub prediction: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score entities tagged.jsonl      # {\"label\": [\"B-PER\", \"O\"], \"prediction\": [\"B-PER\", \"O\"]}
  cloze score entities predicted.txt --references gold.txt    # the tags of a sentence on each line
  cloze score entities tagged.conll --scheme iob2             # token … label prediction on each line

Without --scheme tags are read as conlleval and seqeval's default do: an entity that begins without B-
counts. With one, as seqeval's strict mode does: what does not keep the scheme is no entity. In .conll
files blank lines stand between sentences.")]
pub struct Entities {
    #[command(flatten)]
    pub common: Common,
    /// Column of the true tags
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Column of the predicted tags
    #[arg(long, value_name = "COLUMN", default_value = "prediction")]
    pub prediction: String,
    /// The scheme that tags must keep
    #[arg(long, value_enum)]
    pub scheme: Option<Scheme>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// B- only where an entity follows another of its type
    Iob1,
    /// Every entity begins with B-
    Iob2,
    /// Every entity ends with E-
    Ioe2,
    /// B-, I-, E- and S-
    #[value(alias = "bioes")]
    Iobes,
    /// B-, I-, L- and U-
    Bilou,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score answers predictions.json --references dev-v1.1.json       # {\"56be4db0…\": \"Denver\", …}
  cloze score answers predictions.json --references dev-v2.0.json --no-answer-scores na_prob.json
  cloze score answers predictions.jsonl     # {\"answers\": [\"Denver\"], \"prediction\": \"Denver\"}

References that say they are version 2, or have a question without an answer, are judged by the rules
of SQuAD v2: saying nothing is right where there is no answer.")]
#[expect(
    clippy::struct_field_names,
    reason = "fields are options, named as users write them"
)]
pub struct Answers {
    #[command(flatten)]
    pub common: Common,
    /// Column of the true answers: a list, or one
    #[arg(long, value_name = "COLUMN", default_value = "answers")]
    pub answers: String,
    /// Column of the predicted answer; empty for none
    #[arg(long, value_name = "COLUMN", default_value = "prediction")]
    pub prediction: String,
    /// Column of the probability that there is no answer
    #[arg(long, value_name = "COLUMN")]
    pub no_answer: Option<String>,
    /// The same probabilities in a JSON file by question, as SQuAD's script takes them
    #[arg(long, value_name = "FILE", conflicts_with = "no_answer")]
    pub no_answer_scores: Option<PathBuf>,
    /// An answer counts as none if that probability is higher than this
    #[arg(long, value_name = "PROBABILITY", default_value_t = 1.0)]
    pub no_answer_threshold: f64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score generation output.txt --references reference.txt
  cloze score generation output.txt --references first.txt --references second.txt --metrics chrf++,ter
  cloze score generation summaries.jsonl --metrics rouge --stem    # {\"reference\": \"…\", \"prediction\": \"…\"}
  cloze score generation output.txt --references reference.txt --against baseline.txt --metrics bleu
  cloze score generation output.txt --references reference.txt --bertscore roberta-large --layer 17 --idf

A column of references may hold lists. Empty lines count: line 7 belongs to line 7 of the references.")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct Generation {
    #[command(flatten)]
    pub common: Common,
    /// Column of the references
    #[arg(long, value_name = "COLUMN", default_value = "reference")]
    pub reference: String,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "prediction")]
    pub prediction: String,
    /// What to compute
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "METRIC,…",
        default_value = "bleu,chrf,ter,rouge"
    )]
    pub metrics: Vec<GenerationMetric>,
    /// How BLEU parts texts into tokens
    #[arg(long, value_enum, default_value = "13a")]
    pub tokenize: Tokenize,
    /// What BLEU puts in place of precisions of 0
    #[arg(long, value_enum, default_value = "exp")]
    pub smooth: Smooth,
    /// How much, for floor (0.1 without it) and add-k (1)
    #[arg(long, value_name = "NUMBER")]
    pub smooth_value: Option<f64>,
    /// BLEU, chrF: take capital letters for small ones. TER and ROUGE do in any case
    #[arg(long)]
    pub lowercase: bool,
    /// TER: tell capital from small letters
    #[arg(long)]
    pub ter_case_sensitive: bool,
    /// TER: part punctuation from words
    #[arg(long)]
    pub ter_normalize: bool,
    /// TER: leave punctuation out
    #[arg(long)]
    pub ter_no_punctuation: bool,
    /// ROUGE: cut endings off words, by Porter
    #[arg(long)]
    pub stem: bool,
    #[arg(
        long,
        value_name = "MODEL",
        help = "BERTScore, by this encoder: its folder, or its name on the hub"
    )]
    pub bertscore: Option<PathBuf>,
    #[arg(
        long,
        value_name = "LAYER",
        requires = "bertscore",
        help = "BERTScore: compare by the vectors after this layer; without, after the last. The package bert-score takes 9 of \
                bert-base, 18 of bert-large, 10 of roberta-base, 17 of roberta-large"
    )]
    pub layer: Option<usize>,
    #[arg(
        long,
        requires = "bertscore",
        help = "BERTScore: tokens weigh more the fewer references have them"
    )]
    pub idf: bool,
    #[arg(
        long,
        value_name = "FILE",
        requires = "bertscore",
        help = "BERTScore: what unrelated texts score at each layer, to count from there; a CSV of the package bert-score, whose \
                rows are layers from 0 and whose columns are LAYER,P,R,F"
    )]
    pub baseline: Option<PathBuf>,
    #[command(flatten)]
    pub by_name: ByName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GenerationMetric {
    Bleu,
    /// Mean of the BLEU of single texts
    SentenceBleu,
    Chrf,
    #[value(name = "chrf++")]
    ChrfWords,
    Ter,
    /// ROUGE-1, -2, -L and -Lsum: means of F1, with precision and recall in a table
    Rouge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tokenize {
    /// mteval-v13a, the conference on machine translation's
    #[value(name = "13a")]
    V13a,
    /// mteval-v14: punctuation and symbols of all scripts
    Intl,
    /// Chinese characters one by one
    Zh,
    /// Characters
    Char,
    /// At blanks only
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Smooth {
    Exp,
    Floor,
    AddK,
    None,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze score perplexity scored.jsonl       # {\"log_probs\": [-0.1, -2.3]}: nats, one for each token
  cloze score perplexity scored.csv --log-probs total --tokens count    # their sum, and how many")]
pub struct Perplexity {
    #[command(flatten)]
    pub common: Common,
    /// Column of the log probabilities
    #[arg(long, value_name = "COLUMN", default_value = "log_probs")]
    pub log_probs: String,
    /// Column of the number of tokens, if the other has sums
    #[arg(long, value_name = "COLUMN")]
    pub tokens: Option<String>,
}
