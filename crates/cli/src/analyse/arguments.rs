//! The command line of `cloze analyse`, as a table.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cloze_train::analyse::Site;

use crate::arguments::{ByName, Compute};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse mixing bert-base-uncased --text \"Paris is the capital of France.\" --report mixing.html
  cloze analyse mixing model --items \"85123A,22423\"
  cloze analyse lens bert-base-uncased --text \"Paris is the [MASK] of France.\"
  cloze analyse walk bert-base-uncased --text \"Paris is the [MASK] of France.\" --report walk.html
  cloze analyse pattern bert-base-uncased --data sentences.txt --limit 200
  cloze analyse probe encoder --data reviews.csv --column body --label mood --report probe.html
  cloze analyse probe encoder --data train.conllu --label upos

`cloze analyse KIND --help` says more. Models are folders of `cloze train` or of transformers, or names on the hub, with a mixer of
any kind.")]
pub struct Analyse {
    #[command(subcommand)]
    pub kind: Kind,
}

#[derive(Debug, Subcommand)]
pub enum Kind {
    /// What each token takes of each, in every layer and head: heat maps
    Mixing(Mixing),
    /// What a model that fills blanks would say after each layer, and what each layer adds to what it says at last
    Lens(Lens),
    /// How the vector of a token moves from the embedding to the last layer, and which tokens move it
    Walk(Walk),
    /// What it is worth that attention looks where it does: what hidden words cost if it looks by place alone, or at all alike
    Pattern(Pattern),
    /// What the codes of a model trained with a codebook are chosen for, which label they tell, and what is said if one is set
    Codes(Codes),
    /// What a linear map reads of labels off every site of the stack: where a model knows what
    Probe(Probe),
}

/// What is written, and where it is computed.
#[derive(Debug, Args)]
pub struct Common {
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write a page with tables, curves and maps
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Engine")]
    pub compute: Compute,
    #[command(flatten)]
    pub by_name: ByName,
}

/// What a model looks at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sequences")]
pub struct Sequences {
    /// A text; repeat for more
    #[arg(long = "text", value_name = "TEXT")]
    pub texts: Vec<String>,
    /// A history for a model of items: items separated by commas, oldest first; repeat for more
    #[arg(long = "items", value_name = "ITEM,ITEM,…", conflicts_with_all = ["texts", "data"])]
    pub histories: Vec<String>,
    /// Texts of a file: JSON Lines, CSV, TSV, Parquet or plain lines, gzip or zstd read through; - for a pipe
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub column: String,
    /// Texts of the file that are looked at, the first ones
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub limit: usize,
    /// Tokens of a sequence at most, special ones included
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub max_tokens: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse mixing bert-base-uncased --text \"Paris is the [MASK] of France.\" --report mixing.html
  cloze analyse mixing encoder --data reviews.csv --column body --limit 2 --json
  cloze analyse mixing model --items \"85123A,22423\" --influence

Two kinds of maps:
  shares     where a mixer sums values by numbers, such as softmax attention of any kind, those numbers, head by head
  influence  for every mixer: how much a token's output changes with another token's input, by the Jacobian of the whole
             mixer; exact up to 64 channels, estimated within a few percent beyond. It takes as many backward passes as
             there are tokens times channels, 64 at most

How to read the table (each row of a map made to sum to 1; means over tokens):
  breadth    from how many tokens a token takes: exp of the entropy, from 1 to all
  distance   how many places away what it takes stands
  of itself  the share that it takes of itself
  most of    the token that most is taken of, and its share; of trained attention often a special token or full stop")]
pub struct Mixing {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    #[command(flatten)]
    pub sequences: Sequences,
    /// Show influence even where a mixer has shares
    #[arg(long)]
    pub influence: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse lens bert-base-uncased --text \"Paris is the [MASK] of France.\" --report lens.html
  cloze analyse lens bert-base-uncased --text \"Paris is the [MASK] of France.\" --word capital
  cloze analyse lens encoder --data sentences.txt --limit 200 --report lens.html
  cloze analyse lens model --items \"85123A,22423\"

Looked at are the masks of a text, or all its tokens where it has none; of a history the place where the next item is foretold.
Two things are told of each:
  what would be said  after each part of each layer the residual stream is read by the model's own head, as if it were the last
                      state: the likeliest words, and how far the distribution is from the last one (kl, in nats)
  what is added       each mixer and feed-forward part is left out, what it adds set to 0 for every token: by how much the
                      log probability at last of the word falls; below 0, the part speaks against it")]
pub struct Lens {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    #[command(flatten)]
    pub sequences: Sequences,
    /// The word, or item, that is asked about at every place; by default the likeliest at last
    #[arg(long, value_name = "WORD")]
    pub word: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse walk bert-base-uncased --text \"Paris is the [MASK] of France.\" --report walk.html
  cloze analyse walk encoder --data sentences.txt --limit 200 --json
  cloze analyse walk model --items \"85123A,22423\"

Looked at are the masks of a text, or all its tokens where it has none; of a history the place where the next item is foretold.
The residual stream is seen before the first layer, and after each part of each:
  norm        how long the token's vector is
  step        how long the step to here is, as a share of the vector before it
  turn        cosine with the step before: 1 goes straight on, below 0 goes back
  from start  cosine with the first vector; to end: with the last
Who moves a token: what each token's value alone adds to it, where the mixer sums values by shares, as attention does. Which
words a state is nearest to, `cloze analyse lens` tells.")]
pub struct Walk {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    #[command(flatten)]
    pub sequences: Sequences,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse pattern bert-base-uncased --data sentences.txt --limit 200
  cloze analyse pattern encoder --text \"the cat sat on the mat\" --hidden 0.3 --report pattern.html

Some tokens of each text are hidden, and the model says how likely they are: as it is, and with other numbers in place of those
by which its attention sums, in all layers and in each alone:
  by place  each token takes of another by how far away it stands, in each head as much as that head does on average here
  alike     each token takes the same of all that it sees
What is summed, and all else, stays. If neither costs anything, where the model looks is of no use for these texts.")]
pub struct Pattern {
    /// A model folder, or a name on the Hugging Face hub
    pub model: PathBuf,
    #[command(flatten)]
    pub sequences: Sequences,
    /// Share of the tokens of a text that is hidden; of a history it is the last item
    #[arg(long, value_name = "SHARE", default_value_t = 0.15)]
    pub hidden: f64,
    /// What chooses them
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub common: Common,
}

/// What labels are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// A label for each text
    Texts,
    /// A number for each text
    Numbers,
    /// A label for each word, in files as of `CoNLL`
    Words,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse codes coded --data corpus.txt --limit 200 --report codes.html
  cloze analyse codes coded --data corpus.txt --limit 200 --site layer.1.ffn --code 17
  cloze analyse codes coded --data train.conllu --test dev.conllu --label upos
  cloze analyse codes coded --text \"Paris is the [MASK] of France.\" --set layer.1.ffn=17
  cloze analyse codes coded --data masked.txt --limit 200 --swap

A model that was trained with a codebook (`cloze train codebook-features`, or `model.stack.codebook` of a recipe of items) chooses codes at its
sites, layer.0.mixer, layer.0.ffn and so on. Four questions:
  what is a code chosen for   the tokens at which each was chosen, and what stands around them
  what tells a label          with --label: the code that tells each label best, found by one part of the data and judged by another,
                              beside the best single channel of any site; of a model without codes, channels alone
  what if                     with --set: what is said at masks, or of the next item, if a code is chosen at all tokens, or at one
  what of another     with --swap: whether the model goes on as in another text, if the token before the first mask gets all the codes
                      of the one there, beside what the codes of some token do")]
pub struct Codes {
    /// A model folder
    pub model: PathBuf,
    #[command(flatten)]
    pub sequences: Sequences,
    /// Codes of this site alone
    #[arg(long, value_name = "SITE")]
    pub site: Option<Site>,
    /// This code alone
    #[arg(long, value_name = "CODE")]
    pub code: Option<usize>,
    /// Codes that are shown of each site, those chosen most often
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub top: usize,
    /// Choose this code; at a token's place, from 0, or at all; repeat for more
    #[arg(long, value_name = "SITE[@TOKEN]=CODE", conflicts_with = "label")]
    pub set: Vec<String>,
    /// Swap the codes of the token before the first mask, or before the next item, between texts
    #[arg(long, conflicts_with_all = ["label", "set"])]
    pub swap: bool,
    /// Column of labels that codes are to tell; of files of words by its number from 0, or its name in CoNLL-U
    #[arg(
        long,
        value_name = "COLUMN",
        requires = "data",
        help_heading = "Labels"
    )]
    pub label: Option<String>,
    /// Texts to judge by; without, a quarter of the data; repeat for more
    #[arg(long, value_name = "FILE", requires = "label", help_heading = "Labels")]
    pub test: Vec<PathBuf>,
    /// What the labels are of; by default words for .conll, .conllu, .bio and .iob, else texts
    #[arg(long, value_enum, requires = "label", help_heading = "Labels")]
    pub of: Option<What>,
    /// Where parts and swaps come from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloze analyse probe encoder --data reviews.csv --column body --label mood --report probe.html
  cloze analyse probe encoder --data train.conllu --test dev.conllu --label upos
  cloze analyse probe encoder --data ratings.jsonl --label stars --of numbers

The encoder stays as it is. At each site of its stack the vectors of texts (the mean of their tokens) or of words (the first
token of each) are read by logistic regression, or ridge regression for numbers:
  embedding       before the first layer
  layer.0.mixer   what the mixer of layer 0 adds; layer.0.ffn: what its feed-forward part adds
  layer.0.middle  the residual stream between both; layer.0: after the layer
Beside them stand what needs no model (the most frequent label, or the mean), and what the same probe makes of labels in
another order: a site that is not clearly above both says nothing.")]
pub struct Probe {
    /// A model folder of texts, or a name on the Hugging Face hub
    pub model: PathBuf,
    /// Texts and labels: Parquet, CSV, TSV, JSON Lines, or a word and tag a line; repeat for more
    #[arg(long = "data", value_name = "FILE", required = true)]
    pub data: Vec<PathBuf>,
    /// Texts to judge by; without, a quarter of the data; repeat for more
    #[arg(long, value_name = "FILE")]
    pub test: Vec<PathBuf>,
    /// Column of the texts
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub column: String,
    /// Column of the second text of a pair
    #[arg(long, value_name = "COLUMN")]
    pub pair: Option<String>,
    /// Column of the labels; of files of words by its number from 0, or its name in CoNLL-U
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// What the labels are of; by default words for .conll, .conllu, .bio and .iob, else texts
    #[arg(long, value_enum)]
    pub of: Option<What>,
    /// Where the parts and the draws come from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub common: Common,
}
