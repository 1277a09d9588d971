//! The command line, as a table.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Compare an encoder with stored reference outputs, layer by layer
    Verify(Verify),
    /// Show what a model folder or a recipe holds
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
    /// Interactions: Parquet, CSV, TSV, JSON Lines or `user item` lines, gzip or zstd read through; repeat for more
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
    /// An NVIDIA GPU (in builds with the feature `cuda`)
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
    fn place(self) -> cloze_train::Place {
        match self {
            Self::Cpu => cloze_train::Place::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda => cloze_train::Place::Cuda,
            #[cfg(feature = "metal")]
            Self::Metal => cloze_train::Place::Metal,
            #[cfg(feature = "vulkan")]
            Self::Vulkan => cloze_train::Place::Vulkan,
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
    pub threads: Option<usize>,
}

impl Compute {
    /// Sets the number of threads for the whole process, and says where to compute.
    pub fn place(&self) -> anyhow::Result<cloze_train::Place> {
        if let Some(count) = self.threads {
            anyhow::ensure!(count > 0, "--threads 0: expected at least 1");
            rayon::ThreadPoolBuilder::new()
                .num_threads(count)
                .build_global()?;
        }
        Ok(self.device.place())
    }
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

OUT/report.html shows the run while it goes on. Ctrl-C finishes the step, writes a checkpoint and says how to go on;
a run that is gone on with ends with the same bits as one that was never interrupted.")]
pub struct Train {
    /// A built-in recipe (`cloze recipes`) or a TOML file
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub recipe: Option<String>,
    #[command(flatten)]
    pub data: Data,
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
    #[command(flatten)]
    pub compute: Compute,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --data, the files of the model's recipe are read again and split as for training, so that the test part is what
the model has not seen. Ranks are pessimistic: an item that scores the same as the right one counts as ranked above it.")]
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
    /// Count rows that can't be used instead of stopping at the first
    #[arg(long)]
    pub skip_bad_rows: bool,
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
            ("--skip-bad-rows", self.skip_bad_rows),
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
  cloze embed all-MiniLM-L6-v2 texts.jsonl -o vectors.parquet
  cloze embed all-MiniLM-L6-v2 articles.csv --text body --id url --long chunk -o chunks.parquet
  cut -f2 log.tsv | cloze embed all-MiniLM-L6-v2 - > vectors.jsonl")]
pub struct Embed {
    /// A model folder: config.json, weights, tokenizer; a sentence-transformers folder says how token vectors are pooled,
    /// of any other the mean is taken
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
    /// Count rows that can't be used instead of stopping at the first
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Put the model's prompt of this name before each text
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// What becomes of texts longer than the model takes
    #[arg(long, value_enum, default_value = "truncate")]
    pub long: LongInput,
    /// Tokens that neighbouring chunks share
    #[arg(long, value_name = "TOKENS", default_value_t = 32)]
    pub overlap: usize,
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
}

/// How encoders run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct CpuEngine {
    /// Threads; by default one for each core
    #[arg(long)]
    pub threads: Option<std::num::NonZeroUsize>,
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
    /// A vector for each window of them, with the characters it covers
    Chunk,
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
pub struct Verify {
    /// A model folder
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
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A model folder, a built-in recipe or a TOML file
    pub what: String,
    /// List every parameter with its shape
    #[arg(long)]
    pub parameters: bool,
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
