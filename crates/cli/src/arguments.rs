//! The command line, as a table.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cloze_data::records::{Format as TextFormat, Input};
use cloze_data::source::BadRows;
use cloze_runtime::cpu::Options;
use cloze_runtime::model::Start;
use cloze_train::{Place, options};

/// Bidirectional encoders over any sequence: learn by filling blanks, evaluate, recommend.
#[derive(Debug, Parser)]
#[command(
    name = "cloze",
    version,
    max_term_width = 110,
    after_help = "\
First steps:
  cloze quickstart                                        train on the bundled purchases, evaluate, recommend
  cloze train bert4rec --data orders.csv --user customer --item sku --time date -o model
  cloze eval model                                        metrics and baselines on the held-out purchases
  cloze predict model --items \"85123A,22423\"              what next, for someone never seen"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train BERT4Rec on the bundled purchases, evaluate it against baselines, and recommend products
    Quickstart(Quickstart),
    /// Train a recipe on your data, or go on with a run that was interrupted
    Train(Train),
    /// Measure a model, with baselines beside it, on held-out interactions
    Eval(Eval),
    /// Recommend the next items for histories; fill masks, label texts or find answers with a pretrained encoder
    Predict(Predict),
    /// Turn texts into vectors with a pretrained encoder, from its Hugging Face folder
    Embed(Embed),
    /// Serve embeddings, labels and rankings over HTTP, as text-embeddings-inference and the OpenAI API do
    Serve(Serve),
    /// Train a tokenizer on your texts, or see what one does
    Tokenizer(Tokenizer),
    /// Measure predictions against what is true: classes, labels, numbers, entities, answers, texts
    Score(crate::score::arguments::Score),
    /// Look into a model: how its layers mix tokens, and what can be read off them
    Analyse(crate::analyse::arguments::Analyse),
    /// Compare an encoder with stored reference outputs, layer by layer
    Verify(Verify),
    /// Write a text encoder as a folder for others: settings, tokenizer and weights, in 32 or 16 bits
    Export(Export),
    /// Measure how fast an encoder runs on this machine, and how much memory it takes
    Bench(Bench),
    /// Show what a model or a recipe holds, and how it would run here
    Inspect(Inspect),
    /// List the built-in recipes, or print one
    Recipes(Recipes),
    /// Print a completion script for your shell
    Completions(Completions),
}

/// Where to read interactions from; each option overrides the recipe.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Data")]
pub struct Data {
    /// Interactions: Parquet, CSV, TSV, JSON Lines or `user item` lines; texts: the same, plain lines, a word and tag a line, or
    /// JSON of questions as of SQuAD; gzip or zstd read through; repeat for more
    #[arg(long = "data", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How the files are written; by default told from the extension
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Column of the user; a number from 0 if the file has no header
    #[arg(long, value_name = "COLUMN")]
    pub user: Option<String>,
    /// Column of the item
    #[arg(long, value_name = "COLUMN")]
    pub item: Option<String>,
    /// Column of the time: integers, floats or ISO 8601
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// What separates CSV columns (`\t` for a tab)
    #[arg(long, value_name = "CHAR")]
    pub delimiter: Option<String>,
    /// The CSV has no header; columns are numbers
    #[arg(long)]
    pub no_header: bool,
    /// A table of item names: its file, its column of items, its column of names
    #[arg(long, value_name = "FILE,ITEM,TITLE")]
    pub titles: Option<String>,
    /// Count rows that cannot be read, name the first ones, and go on
    #[arg(long)]
    pub skip_bad_rows: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// Apache Parquet
    Parquet,
    /// Separated values with quotes
    Csv,
    /// Tab-separated values
    Tsv,
    /// One JSON object a line
    Jsonl,
    /// `user item` on each line, as the published sets have it
    Pairs,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, ValueEnum, Default)]
pub enum Device {
    /// The CPU, by fused kernels
    #[default]
    Cpu,
    /// An NVIDIA GPU, which multiplies matrices in TF32 (in builds with the feature `cuda`)
    #[cfg(feature = "cuda")]
    Cuda,
    /// An Apple GPU (in builds with the feature `metal`)
    #[cfg(feature = "metal")]
    Metal,
    /// A GPU through Vulkan (in builds with the feature `vulkan`)
    #[cfg(feature = "vulkan")]
    Vulkan,
}

impl Device {
    pub fn place(self) -> Place {
        match self {
            Self::Cpu => Place::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda => Place::Cuda,
            #[cfg(feature = "metal")]
            Self::Metal => Place::Metal,
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Place::Vulkan,
        }
    }
}

/// What computes.
#[derive(Debug, Args)]
pub struct Compute {
    /// Where to compute
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
    /// Threads to compute with; by default one a core
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<NonZeroUsize>,
}

impl Compute {
    /// Sets the number of threads for the whole process, and says where to compute.
    pub fn place(&self) -> anyhow::Result<Place> {
        set_threads(self.threads)?;
        here(self.device.place())
    }
}

/// The same place, if this machine has it.
pub fn here(place: Place) -> anyhow::Result<Place> {
    anyhow::ensure!(
        place.is_here(),
        "--device: expected a GPU, found none that a driver shows; install its driver, or leave --device out to compute on the CPU"
    );
    Ok(place)
}

/// Sets the number of threads for the whole process.
pub fn set_threads(threads: Option<NonZeroUsize>) -> anyhow::Result<()> {
    if let Some(threads) = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global().context("--threads")?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub struct Quickstart {
    /// Folder for the model and the report
    #[arg(short, long, value_name = "DIR", default_value = "quickstart")]
    pub output: PathBuf,
    /// Folder of the bundled purchases, if it is not found by itself
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Override one value of the recipe, such as `epochs=4`; repeat for more
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze train bert4rec --data orders.parquet --user customer --item sku --time at -o model
  cloze train sasrec --data ratings.csv.gz --set optim.lr=5e-4 --set model.width=128 -o model
  cloze train bert4rec/ml-1m --data ml-1m.txt.gz -o ml-1m
  cloze train --resume model
  cloze train my-recipe.toml -o model

  cloze train bert --tokenizer tokenizer --data corpus.txt -o encoder
  cloze train bert/classify --model all-MiniLM-L6-v2 --data train.tsv --validation dev.tsv --text sentence -o sentiment
  cloze train bert/tag --model encoder --data train.conll --validation dev.conll -o names
  cloze train bert/answer --model encoder --data train-v2.0.json --validation dev-v2.0.json -o answers

OUT/report.html shows the run while it goes on. Ctrl-C finishes the step, writes a checkpoint and says how to go on;
a run that is gone on with ends with the same bits as one that was never interrupted.")]
pub struct Train {
    /// A built-in recipe (`cloze recipes`) or a TOML file
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub recipe: Option<String>,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub texts: TrainTexts,
    /// Override one value of the recipe, such as `optim.lr=1e-3` or `model.width=128`; repeat for more
    #[arg(long = "set", value_name = "PATH=VALUE", conflicts_with = "resume")]
    pub set: Vec<String>,
    /// Where randomness flows from; overrides the recipe's
    #[arg(long, value_name = "NUMBER", conflicts_with = "resume")]
    pub seed: Option<u64>,
    /// Folder for the model; must not exist yet
    #[arg(
        short,
        long,
        value_name = "DIR",
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    pub output: Option<PathBuf>,
    /// Go on with the interrupted run in this folder
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Stop after this many steps, as Ctrl-C would
    #[arg(long, value_name = "STEPS")]
    pub max_steps: Option<u64>,
    #[command(flatten, next_help_heading = "Engine")]
    pub compute: Compute,
    #[command(flatten)]
    pub by_name: ByName,
}

/// What recipes over texts take, beside `--data`; each option overrides the recipe.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Texts")]
pub struct TrainTexts {
    /// The pretrained encoder to begin with: its folder, or its name on the hub
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    pub model: Option<String>,
    /// The folder of the tokenizer, for an encoder that begins from nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "resume"])]
    pub tokenizer: Option<PathBuf>,
    /// A file of one of several corpora, in the place of --data, and how much the corpus counts, if weights are given; repeat for
    /// more files and corpora
    #[arg(
        long = "corpus",
        value_name = "NAME=FILE[:WEIGHT]",
        conflicts_with_all = ["files", "validation", "resume"]
    )]
    pub corpora: Vec<String>,
    /// Which share each corpus has: `natural`, by its size (the default without weights), `balanced`, all the same, or a power of the
    /// size, such as 0.5; where it is more than its size, texts are taken several times, with other blanks
    #[arg(long, value_name = "HOW", requires = "corpora")]
    pub mix: Option<String>,
    /// Texts to choose the best weights by; without, a share of the data (`data.validation_share`); repeat for more
    #[arg(long, value_name = "FILE")]
    pub validation: Vec<PathBuf>,
    /// Texts to judge the chosen weights by; without, those of validation; repeat for more
    #[arg(long, value_name = "FILE")]
    pub test: Vec<PathBuf>,
    /// Column of the text
    #[arg(long, value_name = "COLUMN")]
    pub text: Option<String>,
    /// Column of the second text of a pair
    #[arg(long, value_name = "COLUMN")]
    pub pair: Option<String>,
    /// Column of the label, or of the number
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Judge by cross-validation: so many models, each judged by the part of the data that it has not seen
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["validation", "test", "resume"])]
    pub folds: Option<usize>,
    /// Column whose equal values stay in one fold, such as a patient's number
    #[arg(long, value_name = "COLUMN", requires = "folds")]
    pub group: Option<String>,
    /// Quotes are characters like others in CSV and TSV, as in the files of GLUE
    #[arg(long)]
    pub no_quotes: bool,
    /// Keep the tokens of texts to fill blanks in in files of the model's folder, not in memory; what is learned is the same
    #[arg(long)]
    pub stored: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --data, the files of the model's recipe are read again and split as for training, so that the test part is what
the model has not seen. Ranks are pessimistic: an item that scores the same as the right one counts as ranked above it.

A model of texts is judged by the files of --data, all of each, or else by the recipe's test files, or else by its
validation part. Its baselines learn from the recipe's training files:
  cloze eval sentiment --data reviews.tsv --with sentiment-large")]
pub struct Eval {
    /// Model folder
    pub model: PathBuf,
    #[command(flatten)]
    pub data: Data,
    /// Which held-out part
    #[arg(long, value_enum, default_value_t)]
    pub part: Part,
    /// Leave the baselines out
    #[arg(long)]
    pub no_baselines: bool,
    /// Other model folders, trained on the same data, for the same table
    #[arg(long = "with", value_name = "MODEL")]
    pub others: Vec<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: Compute,
}

#[derive(Debug, Clone, Copy, ValueEnum, Default)]
pub enum Part {
    /// What settings and the stopping point were chosen by
    Validation,
    /// What nothing was chosen by
    #[default]
    Test,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze predict model --items \"85123A,22423\"
  cloze predict model history.jsonl -o next.parquet --top 20
  cloze predict model orders.csv --user customer --item sku --time at -o next.csv
  cat history.jsonl | cloze predict model - --exclude-seen

A line of history.jsonl is {\"user\": \"12347\", \"items\": [\"85123A\", \"22423\"]}, oldest item first.
Items that the model does not know are left out of the history and reported.

Examples of pretrained encoders; what one predicts, its folder says:
  cloze predict bert-base-uncased --input-text \"Paris is the [MASK] of France.\"
  cloze predict bert-base-uncased prompts.txt --candidates good,bad -o filled.csv
  cloze predict sentiment reviews.csv --text body --id url --top 1 -o labels.parquet
  cloze predict reranker pairs.jsonl --text query --pair passage -o scores.parquet
  cloze predict nli --input-text \"A man sleeps.\" --input-pair \"A man is awake.\" --activation softmax
  cloze predict ner articles.parquet --text body --aggregation average -o entities/
  cloze predict squad --question \"Who wrote it?\" --context \"It was written by Ada Lovelace in 1843.\"
  cloze predict squad questions.jsonl --top 3 --no-answer -o answers.jsonl

JSON Lines have a line for each text, with a list of fills, labels, entities, tokens or answers. Tables (.csv, .parquet) \
have a row for each of these, and in `row` which text it is of, from 0. A model with one label gives `score` alone. \
A text with several masks has `filled`, with the best token in each, beside the first token only.")]
pub struct Predict {
    /// Model folder: of items, as `cloze train` writes it; or of a text encoder, as transformers and sentence-transformers do
    pub model: PathBuf,
    /// Histories: JSON Lines with `user` and `items`, or a log of interactions; or texts: JSON Lines, CSV, TSV, Parquet or
    /// plain lines, gzip or zstd read through; `-` for standard input
    #[arg(
        required_unless_present_any = ["items", "input_text"],
        conflicts_with_all = ["items", "input_text"]
    )]
    pub input: Option<PathBuf>,
    /// Where to: .parquet, .csv or .jsonl; of texts also a folder, or a path that ends in /, for shards that an interrupted
    /// job goes on with; without it, a table (for --items and --input-text) or JSON Lines on standard output
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub output: Option<PathBuf>,
    /// Recommendations for a history (by default 10), tokens for a mask (5), labels of a text (all), answers (1)
    #[arg(long, value_name = "COUNT")]
    pub top: Option<usize>,
    #[command(flatten)]
    pub histories: Histories,
    #[command(flatten)]
    pub texts: Texts,
    #[command(flatten, next_help_heading = "Engine")]
    pub compute: Compute,
    #[command(flatten)]
    pub by_name: ByName,
}

/// What a model of items is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Histories")]
pub struct Histories {
    /// One history on the command line: items separated by commas, oldest first
    #[arg(long, value_name = "ITEM,ITEM,…")]
    pub items: Option<String>,
    /// Leave the history's own items out
    #[arg(long, overrides_with = "include_seen")]
    pub exclude_seen: bool,
    /// Let the history's own items in, whatever the model's recipe says
    #[arg(long)]
    pub include_seen: bool,
    /// Recommend nothing but the items in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
    /// Recommend none of the items in this file, one a line
    #[arg(long, value_name = "FILE")]
    pub deny: Option<PathBuf>,
    /// Column of the user, if the input is a log
    #[arg(long, value_name = "COLUMN")]
    pub user: Option<String>,
    /// Column of the item, if the input is a log
    #[arg(long, value_name = "COLUMN")]
    pub item: Option<String>,
    /// Column of the time, if the input is a log
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
}

impl Histories {
    /// The options that were given.
    pub fn given(&self) -> Vec<&'static str> {
        named([
            ("--items", self.items.is_some()),
            ("--exclude-seen", self.exclude_seen),
            ("--include-seen", self.include_seen),
            ("--allow", self.allow.is_some()),
            ("--deny", self.deny.is_some()),
            ("--user", self.user.is_some()),
            ("--item", self.item.is_some()),
            ("--time", self.time.is_some()),
        ])
    }
}

/// How the rows of a file of texts are read.
#[derive(Debug, Args)]
pub struct Rows {
    /// Count rows that can't be used instead of stopping at the first
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Quotes are characters like others in CSV and TSV, as in the files of GLUE
    #[arg(long)]
    pub no_quotes: bool,
}

impl Rows {
    /// Texts of these columns of a file.
    pub fn input(&self, path: &Path, columns: Vec<String>) -> anyhow::Result<Input> {
        Ok(Input {
            format: TextFormat::Auto.delimited(path, true, !self.no_quotes)?,
            columns,
            bad_rows: BadRows::skip_if(self.skip_bad_rows),
            ..Input::new(path)
        })
    }
}

/// What a text encoder is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub struct Texts {
    /// One text on the command line
    #[arg(long, value_name = "TEXT", visible_alias = "question")]
    pub input_text: Option<String>,
    /// The second text of a pair on the command line
    #[arg(
        long,
        value_name = "TEXT",
        visible_alias = "context",
        requires = "input_text"
    )]
    pub input_pair: Option<String>,
    /// Column of the texts; by default `text`, or `question`
    #[arg(long, value_name = "COLUMN")]
    pub text: Option<String>,
    /// Column of second texts, such as hypotheses or passages; of contexts by default `context`
    #[arg(long, value_name = "COLUMN")]
    pub pair: Option<String>,
    /// Column of an id, carried to the output
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    #[command(flatten)]
    pub rows: Rows,
    /// Score these words for a mask, and no others; each must be one token
    #[arg(long, value_name = "WORD,WORD,…", value_delimiter = ',')]
    pub candidates: Vec<String>,
    /// What makes scores of labels; by default what the folder says
    #[arg(long, value_enum)]
    pub activation: Option<Activation>,
    /// The model's numbers as scores: the same as --activation none
    #[arg(long, conflicts_with = "activation")]
    pub raw_scores: bool,
    /// How tokens agree on the label of their word, and neighbours become one entity [default: simple]
    #[arg(long, value_enum)]
    pub aggregation: Option<Aggregation>,
    /// Let "not in the context" be an answer
    #[arg(long)]
    pub no_answer: bool,
    /// Most tokens of an answer [default: 15]
    #[arg(long, value_name = "TOKENS")]
    pub max_answer_tokens: Option<usize>,
    /// What becomes of texts longer than the model takes [default: chunk, or truncate where whole texts are labelled]
    #[arg(long, value_enum)]
    pub long: Option<LongText>,
    /// Tokens that neighbouring windows of a long text share, less where windows are short [default: 32, of contexts 128]
    #[arg(long, value_name = "TOKENS")]
    pub overlap: Option<usize>,
    /// Texts of a shard
    #[arg(long, value_name = "TEXTS")]
    pub shard_rows: Option<u64>,
    /// Tokens that are run together [default: 8192]
    #[arg(long, value_name = "TOKENS")]
    pub batch_tokens: Option<usize>,
    /// How weights are kept in memory; int8 is the fastest, and rounds [default: f32]
    #[arg(long, value_enum)]
    pub weights: Option<WeightType>,
}

impl Texts {
    /// The options that were given.
    pub fn given(&self) -> Vec<&'static str> {
        named([
            ("--input-text", self.input_text.is_some()),
            ("--input-pair", self.input_pair.is_some()),
            ("--text", self.text.is_some()),
            ("--pair", self.pair.is_some()),
            ("--id", self.id.is_some()),
            ("--skip-bad-rows", self.rows.skip_bad_rows),
            ("--no-quotes", self.rows.no_quotes),
            ("--candidates", !self.candidates.is_empty()),
            ("--activation", self.activation.is_some()),
            ("--raw-scores", self.raw_scores),
            ("--aggregation", self.aggregation.is_some()),
            ("--no-answer", self.no_answer),
            ("--max-answer-tokens", self.max_answer_tokens.is_some()),
            ("--long", self.long.is_some()),
            ("--overlap", self.overlap.is_some()),
            ("--shard-rows", self.shard_rows.is_some()),
            ("--batch-tokens", self.batch_tokens.is_some()),
            ("--weights", self.weights.is_some()),
        ])
    }
}

fn named<const N: usize>(options: [(&'static str, bool); N]) -> Vec<&'static str> {
    let given = options.into_iter().filter(|(_, given)| *given);
    given.map(|(name, _)| name).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Activation {
    /// Shares that sum to 1
    Softmax,
    /// Each label by itself, from 0 to 1
    Sigmoid,
    /// The model's numbers
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aggregation {
    /// Each token keeps its own label
    Simple,
    /// A word has the label of its first token
    First,
    /// A word has the label that its tokens favour together
    Average,
    /// A word has the label of its surest token
    Max,
    /// No entities: every token with its label
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LongText {
    /// Cut them, and say how many
    Truncate,
    /// Stop
    Error,
    /// Go through all of them in windows that overlap
    Chunk,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze embed sentence-transformers/all-MiniLM-L6-v2 texts.jsonl -o vectors.parquet
  cloze embed ./my-model articles.csv --text body --id url --long chunk -o chunks/
  cloze embed ./my-model books.jsonl --long late --chunk-tokens 200 --overlap 0 -o chunks.parquet
  cut -f2 log.tsv | cloze embed ./my-model - > vectors.jsonl

With --long chunk and --long late each row also has `text`, the number of its text from 0, and `start` and `end`, the
characters of it that the vector is about.")]
pub struct Embed {
    /// A model: a folder with config.json, weights and tokenizer, or a name on the Hugging Face hub; a sentence-transformers
    /// model says how token vectors are pooled, of any other the mean is taken
    pub model: PathBuf,
    /// Texts: JSON Lines, CSV, TSV, Parquet or plain lines, gzip or zstd read through; - for a pipe
    pub input: PathBuf,
    /// Where to write: .parquet, .jsonl or .npy; a folder, or a path that ends in /, for shards that an interrupted job
    /// goes on with; by default JSON Lines on standard output
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub output: Option<PathBuf>,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: String,
    /// Column of an id, carried to the output
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    #[command(flatten)]
    pub rows: Rows,
    /// Put the model's prompt of this name before each text
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// What becomes of texts longer than the model takes
    #[arg(long, value_enum, default_value = "truncate")]
    pub long: LongInput,
    /// Tokens of a chunk at most, special ones not counted; by default as many as the model takes
    #[arg(long, value_name = "TOKENS", required_if_eq("long", "late"))]
    pub chunk_tokens: Option<NonZeroUsize>,
    /// What is written of chunks; by default each
    #[arg(long, value_enum)]
    pub chunks: Option<Chunks>,
    /// Tokens that neighbouring chunks share [default: 32, of smaller chunks than 128 a quarter]
    #[arg(long, value_name = "TOKENS")]
    pub overlap: Option<usize>,
    /// How the vectors are written; int8 with a scale for each, binary as the signs
    #[arg(long, value_enum, default_value = "f32")]
    pub vectors: VectorType,
    /// Rows of a shard
    #[arg(long, value_name = "ROWS")]
    pub shard_rows: Option<u64>,
    /// Tokens that are run together
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    pub batch_tokens: usize,
    #[command(flatten)]
    pub engine: CpuEngine,
    #[command(flatten)]
    pub by_name: ByName,
}

impl Embed {
    /// Tokens that neighbouring chunks share.
    pub fn overlap(&self) -> usize {
        let usual = || self.chunk_tokens.map_or(32, |size| 32.min(size.get() / 4));
        self.overlap.unwrap_or_else(usual)
    }
}

/// How a model is found that is named rather than a folder's path.
#[derive(Debug, Args)]
#[command(next_help_heading = "Models by name")]
pub struct ByName {
    /// Branch, tag or commit of a model by name
    #[arg(long, value_name = "REVISION", default_value = "main")]
    pub revision: String,
    #[arg(
        long,
        help = "Take models by name from the cache only, as HF_HUB_OFFLINE=1 does; the cache is shared with Python, and \
                found by HF_HUB_CACHE or HF_HOME"
    )]
    pub offline: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze serve all-MiniLM-L6-v2
  cloze serve my-tagger my-answerer shop=model
  cloze serve mini=models/all-MiniLM-L6-v2 large=models/all-mpnet-base-v2 --weights int8
  cloze serve all-MiniLM-L6-v2 --unix-socket cloze.sock --api-key-file keys.txt

  cloze serve mini=models/mini --admin-token SECRET --models-dir models

  curl 127.0.0.1:3000/embed -H 'content-type: application/json' -d '{\"inputs\": \"What is a cloze?\"}'
  curl -X PUT 127.0.0.1:3000/admin/models/mini -H 'authorization: Bearer SECRET' -H 'content-type: application/json' \
       -d '{\"folder\": \"mini-v2\"}'                  swaps it, without losing a request

Routes: /embed /embed_all /embed_sparse /similarity /predict /rerank /tokenize /decode /info /health /ready /ping /metrics,
/v1/embeddings /v1/models /v1/rerank /v2/rerank /v1/fill /v1/entities /v1/answer /v1/chunks /v1/recommend /v1/items, described at
/docs and in /api-doc/openapi.json; a browser gets a page to try the models on. Where a request names no model, the first that can
do it answers. A folder that `cloze train` wrote is served like any other.
A request may allow less time than the server does: `x-request-timeout: 500`, in milliseconds.
A line of --api-key-file is a key, or `KEY name=search requests/s=20 tokens/min=600000`: the name stands in metrics, and a key over a
limit gets 429 and a time to come back. At once it may use a second's requests and a minute's tokens.
SIGTERM and Ctrl-C answer what is under way first. SIGHUP reads keys and certificate anew at once.

Every setting can be given in four ways; the first that is there counts:
  1  flag                     --max-batch-tokens 2048
  2  environment              CLOZE_MAX_BATCH_TOKENS=2048
  3  file, by --config        max-batch-tokens = 2048
  4  default                  as named above")]
pub struct Serve {
    /// Model folders, or models by name on the hub; each perhaps with a name for clients
    #[arg(value_name = "[NAME=]MODEL")]
    pub models: Vec<String>,
    /// Settings in TOML, under the names of the flags: `port = 3000`, `models = ["mini=models/mini"]`
    #[arg(long, value_name = "FILE", env = "CLOZE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address to listen on; 0.0.0.0 for all of the machine's
    #[arg(long, default_value = "127.0.0.1", env = "CLOZE_HOSTNAME")]
    pub hostname: std::net::IpAddr,
    /// Port to listen on
    #[arg(short, long, default_value_t = 3000, env = "CLOZE_PORT")]
    pub port: u16,
    /// Listen on this socket file instead
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", env = "CLOZE_UNIX_SOCKET", conflicts_with_all = ["hostname", "port"])]
    pub unix_socket: Option<PathBuf>,
    /// Answer only requests with `authorization: Bearer KEY`
    #[arg(
        long,
        value_name = "KEY",
        env = "CLOZE_API_KEY",
        hide_env_values = true,
        conflicts_with = "api_key_file"
    )]
    pub api_key: Option<String>,
    /// Keys, one a line, with limits if they have any (see below); the file is read anew when it changes
    #[arg(long, value_name = "FILE", env = "CLOZE_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Encrypt with this certificate, and those between it and a known authority, in PEM; read anew when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", env = "CLOZE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", env = "CLOZE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Let whoever sends `authorization: Bearer TOKEN` list, load, swap and unload models at /admin/models
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CLOZE_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<String>,
    /// Only folders below this one may be loaded so
    #[arg(long, value_name = "FOLDER", env = "CLOZE_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,
    /// Most tokens that are computed together: more makes newcomers wait, and gains little beyond a thousand
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 2048,
        env = "CLOZE_MAX_BATCH_TOKENS"
    )]
    pub max_batch_tokens: usize,
    /// Most tokens waiting or being computed; beyond them requests are refused with 429
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 65_536,
        env = "CLOZE_MAX_WAITING_TOKENS"
    )]
    pub max_waiting_tokens: usize,
    /// Most texts of a request
    #[arg(
        long,
        value_name = "TEXTS",
        default_value_t = 32,
        env = "CLOZE_MAX_CLIENT_BATCH_SIZE"
    )]
    pub max_client_batch_size: usize,
    /// Cut texts that are too long, where a request does not say; `false` refuses them
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, env = "CLOZE_AUTO_TRUNCATE")]
    pub auto_truncate: bool,
    /// Most time for a request, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 30_000,
        env = "CLOZE_REQUEST_TIMEOUT"
    )]
    pub request_timeout: u64,
    /// Most bytes of a request's body
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 2_000_000,
        env = "CLOZE_PAYLOAD_LIMIT"
    )]
    pub payload_limit: usize,
    /// Most connections at the same time
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1024,
        env = "CLOZE_MAX_CONNECTIONS"
    )]
    pub max_connections: usize,
    /// Texts turned into tokens at the same time; by default one a core
    #[arg(long, value_name = "COUNT", env = "CLOZE_TOKENIZATION_WORKERS")]
    pub tokenization_workers: Option<usize>,
    /// Keep answers, of each model, to give again for equal texts, in at most so many bytes; 0 keeps none
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        env = "CLOZE_CACHE_BYTES"
    )]
    pub cache_bytes: usize,
    /// Seconds for what is under way when the server is to stop
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        env = "CLOZE_DRAIN"
    )]
    pub drain: u64,
    /// What is logged, such as `warn` or `info,tower_http=off`; texts never are
    #[arg(long, value_name = "FILTER", default_value = "info", env = "CLOZE_LOG")]
    pub log: String,
    /// Send traces of requests to this collector, by OTLP over HTTP: `http://127.0.0.1:4318`
    #[arg(long, value_name = "URL", env = "CLOZE_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// What the collector calls this server
    #[arg(
        long,
        value_name = "NAME",
        default_value = "cloze",
        env = "CLOZE_OTLP_SERVICE_NAME"
    )]
    pub otlp_service_name: String,
    /// Log JSON
    #[arg(long, env = "CLOZE_JSON_OUTPUT")]
    pub json_output: bool,
    /// What runs the models
    #[arg(long, value_enum, default_value = "cpu", help_heading = "Engine")]
    pub device: ServeDevice,
    #[command(flatten)]
    pub engine: CpuEngine,
    #[command(flatten)]
    pub by_name: ByName,
}

/// What runs the models of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServeDevice {
    /// The CPU, by fused kernels without a framework
    Cpu,
    /// The CPU, by Burn
    BurnCpu,
    /// An NVIDIA GPU, by Burn, which multiplies matrices in TF32 there (in builds with the feature `cuda`)
    #[cfg(feature = "cuda")]
    Cuda,
    /// An Apple GPU, by Burn (in builds with the feature `metal`)
    #[cfg(feature = "metal")]
    Metal,
    /// A GPU through Vulkan, by Burn (in builds with the feature `vulkan`)
    #[cfg(feature = "vulkan")]
    Vulkan,
}

impl ServeDevice {
    /// Where recommenders compute, which Burn always runs.
    pub fn place(self) -> Place {
        match self {
            Self::Cpu | Self::BurnCpu => Place::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda => Place::Cuda,
            #[cfg(feature = "metal")]
            Self::Metal => Place::Metal,
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Place::Vulkan,
        }
    }

    /// The engine of text encoders, if another than the CPU engine.
    fn engine(self) -> Option<Start> {
        match self {
            Self::Cpu => None,
            Self::BurnCpu => Some(|checkpoint| Place::Cpu.engine(checkpoint)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(|checkpoint| Place::Cuda.engine(checkpoint)),
            #[cfg(feature = "metal")]
            Self::Metal => Some(|checkpoint| Place::Metal.engine(checkpoint)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(|checkpoint| Place::Vulkan.engine(checkpoint)),
        }
    }
}

impl Serve {
    /// Starts the threads of the whole process, and says how encoders run.
    pub fn options(&self) -> anyhow::Result<Options> {
        let other = self.device.engine();
        anyhow::ensure!(
            other.is_none() || self.engine.weights == WeightType::F32,
            "--weights: expected f32, in which Burn computes; leave it or --device out"
        );
        Ok(Options {
            other,
            ..self.engine.options()?
        })
    }
}

/// How encoders run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct CpuEngine {
    /// Threads; by default one for each core
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
    /// How weights are kept in memory; int8 is the fastest, and rounds
    #[arg(long, value_enum, default_value = "f32")]
    pub weights: WeightType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LongInput {
    /// Cut them, and say how many
    Truncate,
    /// Stop
    Error,
    /// Cut them into chunks and run each by itself
    Chunk,
    /// Run as much as the model takes at once, then pool the token vectors of each chunk, which so knows its surroundings
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Chunks {
    /// A row for each
    Each,
    /// A row for each text: the mean of its chunks' vectors, weighed by their tokens
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VectorType {
    F32,
    F16,
    Int8,
    Binary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightType {
    F32,
    Bf16,
    F16,
    Int8,
}

impl CpuEngine {
    /// Starts the threads of the whole process, and says how to run.
    pub fn options(&self) -> anyhow::Result<Options> {
        engine_options(self.threads, self.weights)
    }
}

/// As [`CpuEngine::options`].
pub fn engine_options(
    threads: Option<NonZeroUsize>,
    weights: WeightType,
) -> anyhow::Result<Options> {
    let pool = cloze_runtime::cpu::thread_pool(threads.map(NonZeroUsize::get));
    pool.build_global().context("--threads")?;
    Ok(Options {
        storage: weights.storage(),
        ..options()
    })
}

impl WeightType {
    pub fn storage(self) -> cloze_runtime::cpu::Storage {
        use cloze_runtime::cpu::Storage;
        match self {
            Self::F32 => Storage::F32,
            Self::Bf16 => Storage::Bf16,
            Self::F16 => Storage::F16,
            Self::Int8 => Storage::Int8,
        }
    }
}

#[derive(Debug, Args)]
pub struct Tokenizer {
    #[command(subcommand)]
    pub command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenizerCommand {
    /// Learn a vocabulary from texts, or more of it for a tokenizer there is
    Train(TrainTokenizer),
    /// Show the tokens of a text
    Show(ShowTokenizer),
    /// Measure how tokenizers take the texts of a file apart
    Report(ReportTokenizer),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze tokenizer train --data texts.jsonl --lowercase -o tokenizer
  cloze tokenizer train --data haberler.txt.zst --language turkish --model unigram --vocab-size 32000 -o tokenizer
  cloze tokenizer train --data wiki.txt --data notes.txt:balance -o tokenizer
  cloze tokenizer train --data notes.txt --extend bert-base-cased --vocab-size 32000 -o extended

The folder holds tokenizer.json and its configuration, as transformers reads them. The same texts and options make the
same bytes.")]
pub struct TrainTokenizer {
    /// Texts: JSON Lines, CSV, TSV, Parquet or plain lines, gzip or zstd read through, - for a pipe; repeat for more. A
    /// weight counts them that often; `balance` counts them as often as it takes to weigh as much as those without it
    #[arg(long = "data", value_name = "FILE[:WEIGHT]", required = true)]
    pub data: Vec<String>,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: String,
    #[command(flatten)]
    pub rows: Rows,
    /// Folder for the tokenizer; must not exist yet
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// How words become pieces
    #[arg(long, value_enum, default_value = "wordpiece")]
    pub model: TokenizerModel,
    /// Tokens in all, special ones included
    #[arg(long, value_name = "TOKENS", default_value_t = 30_000)]
    pub vocab_size: usize,
    /// How often a pair of pieces must stand in the texts to become one, or a whole word to be known; 2 if nothing is said
    #[arg(long, value_name = "COUNT")]
    pub min_frequency: Option<u64>,
    /// Characters known at most, the most frequent ones
    #[arg(long, value_name = "COUNT")]
    pub limit_alphabet: Option<usize>,
    /// What the language of the texts needs; without it, nothing
    #[arg(long, value_enum)]
    pub language: Option<TokenizerLanguage>,
    /// Arabic letters to make one with those they are confused with
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LETTER,…")]
    pub unify: Vec<ArabicLetter>,
    /// Lower-case texts
    #[arg(long, overrides_with = "keep_case")]
    pub lowercase: bool,
    /// Leave case as it is; so it is if nothing is said
    #[arg(long)]
    pub keep_case: bool,
    /// Whether letters keep their accents; by default as in BERT, which takes them off what it lower-cases, save where a
    /// language is named
    #[arg(long, value_enum)]
    pub accents: Option<Accents>,
    /// A special token besides the usual ones; repeat for more
    #[arg(long = "special", value_name = "TOKEN")]
    pub specials: Vec<String>,
    /// Longest input in tokens, written into the folder
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub max_length: usize,
    /// Keep the tokens of the tokenizer in this folder, and their ids, and learn more
    #[arg(long, value_name = "FOLDER", conflicts_with_all = [
        "model", "limit_alphabet", "language", "unify", "lowercase", "keep_case", "accents", "specials",
        "max_length",
    ])]
    pub extend: Option<PathBuf>,
    /// Threads; by default one for each core
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenizerModel {
    /// The longest piece first, as in BERT
    #[value(name = "wordpiece")]
    WordPiece,
    /// Merged pairs of bytes, as in GPT-2 and RoBERTa; spells everything
    #[value(alias = "bpe")]
    BytePairs,
    /// Whole words between blanks, for symbols; all others are unknown
    #[value(name = "wordlevel")]
    WordLevel,
    /// The most probable pieces, as in ALBERT and XLM-R
    Unigram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenizerLanguage {
    /// Turkish and Azerbaijani: I is the capital of ı, İ that of i
    #[value(aliases = ["tr", "az", "azerbaijani"])]
    Turkish,
    /// Arabic script: no tatweel, no diacritics
    #[value(alias = "ar")]
    Arabic,
    /// Cyrillic into Latin letters
    #[value(alias = "sr")]
    Serbian,
    /// Runs of kanji, hiragana and katakana are words; there is no dictionary here to find them with
    #[value(alias = "ja")]
    Japanese,
    /// Every character is a word
    JapaneseCharacters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accents {
    Keep,
    Strip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArabicLetter {
    /// أ إ آ ٱ as ا
    Alef,
    /// ى as ي
    Ya,
    /// ة as ه
    TaMarbuta,
}

#[derive(Debug, Args)]
pub struct ShowTokenizer {
    /// A folder with a tokenizer
    pub folder: PathBuf,
    /// The text
    pub text: String,
    /// A second text, to make a pair
    pub second: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Words stand between white space, without punctuation at their ends, whatever the tokenizers take for words.")]
pub struct ReportTokenizer {
    /// A folder with a tokenizer
    pub folder: PathBuf,
    /// Texts: JSON Lines, CSV, TSV, Parquet or plain lines, gzip or zstd read through; - for a pipe
    pub input: PathBuf,
    /// Other tokenizers, for the same table
    #[arg(long = "with", value_name = "FOLDER")]
    pub others: Vec<PathBuf>,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: String,
    #[command(flatten)]
    pub rows: Rows,
    /// Longest input in tokens; by default what each folder says
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Threads; by default one for each core
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    /// Reference outputs, as tools/golden/README.md describes them; where it has texts, the tokenizer, embeddings and scores
    /// are compared too
    #[arg(long, value_name = "FILE")]
    pub golden: PathBuf,
    /// Largest difference allowed, per root mean square of the reference
    #[arg(long, default_value_t = 2e-5)]
    pub tolerance: f32,
    /// How weights are kept in memory
    #[arg(long, value_enum, default_value = "f32")]
    pub weights: WeightType,
    #[command(flatten)]
    pub by_name: ByName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Cases, of random tokens unless texts are given:
  32 x 128   a full batch of texts of equal length: the most that the machine gives
  1 x 16     one question: latency
  1 x 128    one passage: latency
  64 mixed   lengths as they come: log-normal, median 29 tokens, sigma 0.8, 4 to 256 (seed 77551)

How to read it:
  ms p50     of one batch, from token ids to the vectors of all its tokens: half of the runs took
             no longer; p99: 99 of 100
  texts/s    what was run over the time that it took; tokens/s likewise
  of peak    the multiplications and additions that the tokens need, against the most that this
             machine was just seen to do with as many threads; int8 weights may pass 100 %
  memory     resident now, and at most so far, the file of weights included where it is mapped

Other programs on the machine make everything slower, and p99 first: repeat what looks odd.")]
pub struct Bench {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    /// Texts to measure with instead: the first 500 of a file that `cloze embed` reads, in batches and one by one
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Column of the texts
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "text",
        requires = "input"
    )]
    pub text: String,
    /// How long each case is run; always once at least
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: CpuEngine,
    #[command(flatten)]
    pub by_name: ByName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Written are config.json, the tokenizer, what a sentence-transformers folder has behind its encoder,
model.safetensors with every tensor, and the card and licence if there are some. Left behind are
checkpoints of training, reports, other formats of the weights. Updates of low rank have been put
into the weights when they were learned.

ONNX is not written: no maintained crate does. The folder that is written goes on to it by
  optimum-cli export onnx --task text-classification --model out onnx

Examples:
  cloze export moods -o moods-release
  cloze export all-MiniLM-L6-v2 --weights f16 -o minilm-f16")]
pub struct Export {
    /// A model folder of a text encoder, or a name on the Hugging Face hub
    pub model: PathBuf,
    /// The folder to write, which must not be there yet
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// How values are written; by default as they are
    #[arg(long, value_enum)]
    pub weights: Option<Stored>,
    #[command(flatten)]
    pub by_name: ByName,
}

/// Types of values in files.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A model folder, a built-in recipe, a TOML file, or the name of a model on the Hugging Face hub
    pub what: String,
    /// List every parameter with its shape
    #[arg(long)]
    pub parameters: bool,
    #[command(flatten)]
    pub by_name: ByName,
}

#[derive(Debug, Args)]
pub struct Recipes {
    /// Print this recipe as it is resolved, to start your own from
    pub name: Option<String>,
    /// Override one value first; repeat for more
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "name")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
