//! Texts through a pretrained encoder and its head, from file to file.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use cloze_data::records::{
    Column, Field, FileFormat, Input, Job, Kind, Output, Record, Target, length,
};
use cloze_data::text::{Agreement, Encoding, Input as Text, Long, Shorten};
use cloze_runtime::predict::Predictor;
use cloze_spec::encoder;
use cloze_spec::hugging_face::ScoreActivation;
use cloze_train::Place;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::report::{Cell, Report, columns};
use crate::arguments::{
    Activation, Aggregation, LongText, Predict, Texts, WeightType, engine_options,
};
use crate::{source, table};

/// Tokens that are put in order of length together, as many batches.
const WINDOW_BATCHES: usize = 16;
/// Texts looked ahead at most.
const WINDOW_TEXTS: usize = 16_384;

pub fn run(args: &Predict) -> anyhow::Result<()> {
    let texts = &args.texts;
    ensure!(
        args.compute.device.place() == Place::Cpu,
        "--device: text encoders predict on the CPU; leave it out"
    );
    let weights = texts.weights.unwrap_or(WeightType::F32);
    let options = engine_options(args.compute.threads, weights)?;
    let mut predictor = Predictor::open_with(&args.model, options, &cloze_train::text::parts)?;
    check(&predictor, args)?;
    match &mut predictor {
        Predictor::FillMask(task) => {
            if !texts.candidates.is_empty() {
                let words = texts.candidates.iter().map(|word| word.trim().to_owned());
                let words: Vec<String> = words.collect();
                task.set_candidates(&words).context("--candidates")?;
                task.top = words.len();
            }
            task.top = args.top.unwrap_or(task.top);
            Work::new(task, args, ["text"], LongText::Chunk, 32).run()
        }
        Predictor::Classifier(task) => {
            task.top = args.top;
            let none = texts.raw_scores.then_some(Activation::None);
            if let Some(activation) = texts.activation.or(none) {
                task.activation = match activation {
                    Activation::Softmax => ScoreActivation::Softmax,
                    Activation::Sigmoid => ScoreActivation::Each(encoder::Activation::Sigmoid),
                    Activation::None => ScoreActivation::Each(encoder::Activation::Identity),
                };
            }
            let mut work = Work::new(task, args, ["text"], LongText::Truncate, 0);
            work.sections = task.is_chunked();
            work.run()
        }
        Predictor::Features(task) => {
            task.top = args.top;
            Work::new(task, args, ["text"], LongText::Truncate, 0).run()
        }
        Predictor::TokenClassifier(task) => {
            if let Some(aggregation) = texts.aggregation {
                task.aggregation = match aggregation {
                    Aggregation::Simple => Some(Agreement::Simple),
                    Aggregation::First => Some(Agreement::First),
                    Aggregation::Average => Some(Agreement::Average),
                    Aggregation::Max => Some(Agreement::Max),
                    Aggregation::None => None,
                };
            }
            Work::new(task, args, ["text"], LongText::Chunk, 32).run()
        }
        Predictor::Transcripts(task) => {
            Work::new(task, args, ["text"], LongText::Truncate, 0).run()
        }
        Predictor::Answerer(task) => {
            task.answers.count = args.top.unwrap_or(1);
            task.answers.nothing = texts.no_answer;
            if let Some(most) = texts.max_answer_tokens {
                task.answers.max_tokens = most;
            }
            Work::new(task, args, ["question", "context"], LongText::Chunk, 128).run()
        }
    }
}

// Options that not every task takes.
const NONE: &[&str] = &[];
const OF_MASKS: &[&str] = &["--candidates"];
const OF_LABELS: &[&str] = &["--activation", "--raw-scores", "--pair", "--input-pair"];
const OF_FEATURES: &[&str] = &["--pair", "--input-pair"];
const OF_TOKENS: &[&str] = &["--aggregation"];
const OF_ANSWERS: &[&str] = &[
    "--no-answer",
    "--max-answer-tokens",
    "--pair",
    "--input-pair",
];

/// Refuses options of other tasks.
fn check(predictor: &Predictor, args: &Predict) -> anyhow::Result<()> {
    let (does, own) = match predictor {
        Predictor::FillMask(_) => ("fills masks", OF_MASKS),
        Predictor::Classifier(_) => ("labels texts", OF_LABELS),
        Predictor::Features(_) => ("labels texts by their features", OF_FEATURES),
        Predictor::TokenClassifier(_) => ("labels tokens", OF_TOKENS),
        Predictor::Answerer(_) => ("answers questions", OF_ANSWERS),
        Predictor::Transcripts(_) => ("gives texts sequences of labels", NONE),
    };
    let of_tasks = [OF_MASKS, OF_LABELS, OF_TOKENS, OF_ANSWERS].concat();
    let mut wrong = args.texts.given();
    wrong.retain(|option| of_tasks.contains(option) && !own.contains(option));
    if args.top.is_some()
        && matches!(
            predictor,
            Predictor::TokenClassifier(_) | Predictor::Transcripts(_)
        )
    {
        wrong.push("--top");
    }
    let folder = args.model.display();
    ensure!(
        wrong.is_empty(),
        "{folder}: the model {does} and takes no {}; leave it out",
        wrong.join(", ")
    );
    if let Predictor::Answerer(_) = predictor
        && args.texts.input_text.is_some()
        && args.texts.input_pair.is_none()
    {
        bail!("{folder}: the model answers questions from a context; give it with --context");
    }
    Ok(())
}

/// A text with its windows.
type Ready = (Record, Vec<Encoding>);

struct Work<'a, T> {
    task: &'a T,
    args: &'a Predict,
    texts: &'a Texts,
    columns: Vec<String>,
    long: Long,
    /// Whether long texts may be gone through in windows.
    has_windows: bool,
    batch_tokens: usize,
    /// Whether a list of texts is one text.
    sections: bool,
    bar: ProgressBar,
    /// Texts done, and those of them that were cut and those that gave nothing.
    count: usize,
    cut: usize,
    empty: usize,
}

impl<'a, T: Report> Work<'a, T> {
    /// Columns, what becomes of long texts and how much of them overlaps where the command line does not say.
    fn new<const N: usize>(
        task: &'a T,
        args: &'a Predict,
        columns: [&str; N],
        long: LongText,
        overlap: usize,
    ) -> Self {
        let texts = &args.texts;
        let named = [&texts.text, &texts.pair].map(Option::as_ref);
        let usual = columns.map(str::to_owned);
        let columns = (0..2).filter_map(|at| named[at].or(usual.get(at)).cloned());
        let shorten = match N {
            1 => Shorten::LongestFirst,
            _ => Shorten::OnlySecond,
        };
        let has_windows = long == LongText::Chunk;
        let long = match texts.long.unwrap_or(long) {
            LongText::Truncate => Long::Truncate(shorten),
            LongText::Error => Long::Error,
            LongText::Chunk => Long::Chunk {
                overlap: texts.overlap.unwrap_or(overlap),
                whole_words: true,
            },
        };
        Self {
            task,
            args,
            texts,
            columns: columns.collect(),
            long,
            has_windows,
            batch_tokens: texts.batch_tokens.unwrap_or(8192),
            sections: false,
            bar: bar(args.output.is_some()),
            count: 0,
            cut: 0,
            empty: 0,
        }
    }

    fn run(mut self) -> anyhow::Result<()> {
        let (args, texts) = (self.args, self.texts);
        match (&args.input, &texts.input_text) {
            (Some(path), _) => self.file(path),
            (None, Some(text)) => {
                let pair = texts.input_pair.as_ref();
                let texts = [text].into_iter().chain(pair).cloned().collect();
                self.one(Record {
                    id: None,
                    texts,
                    beside: Vec::new(),
                })
            }
            (None, None) => bail!("expected a file of texts, or --input-text; found neither"),
        }
    }

    /// A text of the command line, as a table.
    fn one(&mut self, record: Record) -> anyhow::Result<()> {
        let windows = self.task.encode(input(&record), self.long)?;
        let ready = [(record, windows)];
        if let Some(path) = &self.args.output {
            let target = Target::new(path, None, self.texts.shard_rows)?;
            ensure!(
                matches!(target, Target::File { .. }),
                "{}: expected the name of a file for one text",
                path.display()
            );
            let is_table = is_table(Some(&target));
            let job = Job::new(&Input::new("-"), String::new())?;
            let mut output = Output::open(&target, self.fields(is_table), &job)?;
            self.write(&ready, is_table, &mut output)?;
            output.finish()?;
        } else {
            let rows = self.rows(&ready)?.remove(0);
            self.tally(&ready, usize::from(rows.is_empty()));
            let shown = |row: &Vec<Cell>| row.iter().map(Cell::shown).collect();
            let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
            let fields = self.task.fields();
            let header: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            let mut out = std::io::stdout();
            if !rows.is_empty() {
                writeln!(out, "{}", table::plain(&header, &rows))?;
            } else if self.task.lacks().is_none() {
                writeln!(out, "nothing found")?;
            }
        }
        self.warn_of_cuts();
        if let Some(lacks) = self.task.lacks().filter(|_| self.empty > 0) {
            bail!("--input-text: the text has {lacks}");
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let input = Input {
            sections: self.sections,
            beside: self.task.columns(),
            id: self.texts.id.clone(),
            ..self.texts.rows.input(path, self.columns.clone())?
        };
        let target = self.args.output.as_deref();
        let target = target.map(|path| Target::new(path, None, self.texts.shard_rows));
        let target = target.transpose()?;
        let is_table = is_table(target.as_ref());
        let job = Job::new(&input, self.settings()?)?;
        let mut output = match &target {
            Some(target) => Output::open(target, self.fields(is_table), &job)?,
            None => Output::stream(Box::new(std::io::stdout()), self.fields(false))?,
        };
        if output.is_complete() {
            eprintln!("every text was done before; nothing to do");
            return Ok(());
        }
        self.count = output.done_records() as usize;
        let mut window = length::Window::new(self.batch_tokens * WINDOW_BATCHES, WINDOW_TEXTS);
        let mut records = input.read(output.done_records());
        let mut read = self.count;
        for chunk in &mut records {
            let encode = |record: Record| {
                let windows = self.task.encode(self::input(&record), self.long);
                windows.map(|windows| (record, windows))
            };
            let encoded: Vec<_> = chunk?.into_par_iter().map(encode).collect();
            for text in encoded {
                read += 1;
                let ready = text.with_context(|| format!("{}: text {read}", path.display()))?;
                let tokens = ready.1.iter().map(Encoding::len).sum();
                if let Some(full) = window.push(ready, tokens) {
                    self.write(&full, is_table, &mut output)?;
                }
            }
        }
        self.write(&window.take(), is_table, &mut output)?;
        output.finish()?;
        self.bar.finish_and_clear();
        if let Some(report) = records.report() {
            source::warn_of_skipped(report);
        }
        self.warn_of_cuts();
        if let Some(lacks) = self.task.lacks().filter(|_| self.empty > 0) {
            eprintln!(
                "warning: {} of {} texts have {lacks}",
                self.empty, self.count
            );
        }
        if let Some(path) = &self.args.output {
            eprintln!("{} texts, predictions in {}", self.count, path.display());
        }
        Ok(())
    }

    /// The rows of each text.
    fn rows(&self, texts: &[Ready]) -> anyhow::Result<Vec<Vec<Vec<Cell>>>> {
        let windows: Vec<&[Encoding]> = texts.iter().map(|(_, windows)| &windows[..]).collect();
        let done = &mut |tokens| self.bar.inc(tokens as u64);
        let outputs = self.task.run_all(&windows, self.batch_tokens, done)?;
        let texts = texts.par_iter().zip(outputs);
        let rows = texts.map(|((record, windows), outputs)| {
            let prediction =
                self.task
                    .decode_beside(input(record), &record.beside, windows, &outputs)?;
            Ok::<_, anyhow::Error>(self.task.rows(prediction))
        });
        rows.collect()
    }

    fn write(
        &mut self,
        texts: &[Ready],
        is_table: bool,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let rows = self.rows(texts)?;
        let mut offsets = vec![0];
        offsets.extend(rows.iter().scan(0, |end, rows| {
            *end += rows.len();
            Some(*end)
        }));
        let mut all = Vec::new();
        if self.texts.id.is_some() {
            let ids = texts.iter().map(|(record, _)| record.id.clone());
            all.push(Column::Text(ids.collect()));
        }
        if is_table {
            let numbers = (0..texts.len()).map(|at| Some((self.count + at) as i64));
            all.push(Column::Integer(numbers.collect()));
        }
        let empty = rows.iter().filter(|rows| rows.is_empty()).count();
        let entries = columns(&self.task.fields(), rows.into_iter().flatten().collect());
        if self.task.list().is_some() {
            all.push(Column::Lists { offsets, entries });
        } else {
            all.extend(entries);
        }
        self.tally(texts, empty);
        self.bar.set_message(format!("{} texts", self.count));
        Ok(output.write(&all)?)
    }

    fn tally(&mut self, texts: &[Ready], empty: usize) {
        let is_cut = |(_, windows): &&Ready| windows.iter().any(|window| window.cut > 0);
        self.cut += texts.iter().filter(is_cut).count();
        self.empty += empty;
        self.count += texts.len();
    }

    /// Columns of the output; tables tell which text a row is of.
    fn fields(&self, is_table: bool) -> Vec<Field> {
        let mut fields = Vec::new();
        if self.texts.id.is_some() {
            fields.push(Field::new("id", Kind::Text));
        }
        if is_table {
            fields.push(Field::new("row", Kind::Integer));
        }
        let own = self.task.fields();
        match self.task.list() {
            Some(name) => fields.push(Field::new(name, Kind::List(own))),
            None => fields.extend(own),
        }
        fields
    }

    fn warn_of_cuts(&self) {
        if self.cut > 0 {
            let most = self.task.model().max_len();
            let advice = match self.long {
                Long::Truncate(_) if self.has_windows => "; --long chunk goes through all of them",
                Long::Truncate(_) | Long::TruncateStart(_) | Long::Error | Long::Chunk { .. } => "",
            };
            eprintln!(
                "warning: {} of {} texts were longer than {most} tokens and were cut{advice}",
                self.cut, self.count
            );
        }
    }

    /// Everything that predictions depend on besides the input: a job with other settings is another job.
    fn settings(&self) -> anyhow::Result<String> {
        let folder = std::path::absolute(&self.args.model)?;
        let changed = std::fs::metadata(&folder)?.modified()?;
        let texts = self.texts;
        Ok(format!(
            "{} {changed:?} weights {:?} long {:?} top {:?} candidates {:?} activation {:?} raw {} aggregation {:?} no answer {} \
             answer tokens {:?}",
            folder.display(),
            texts.weights,
            self.long,
            self.args.top,
            texts.candidates,
            texts.activation,
            texts.raw_scores,
            texts.aggregation,
            texts.no_answer,
            texts.max_answer_tokens
        ))
    }
}

fn input(record: &Record) -> Text<'_> {
    Text {
        prompt: None,
        first: &record.texts[0],
        second: record.texts.get(1).map(String::as_str),
    }
}

/// Whether a target has a row for each label, entity or answer.
fn is_table(target: Option<&Target>) -> bool {
    let format = match target {
        Some(Target::File { format, .. } | Target::Shards { format, .. }) => *format,
        None => FileFormat::Jsonl,
    };
    !format.has_lists()
}

fn bar(to_file: bool) -> ProgressBar {
    if !to_file || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("predicting {spinner} {msg}  {per_sec} tokens  {elapsed}");
    ProgressBar::no_length().with_style(style.expect("a valid template"))
}
