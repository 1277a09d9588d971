use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use cloze_data::records::{
    Column, Encoding as Numbers, Field, Input, Job, Kind, Output, Target, length,
};
use cloze_data::source::BadRows;
use cloze_data::text::{Encoding, Long, Shorten};
use cloze_runtime::cpu::Options;
use cloze_runtime::model::TextEncoder;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::arguments::{Embed, LongInput, VectorType};

/// Tokens that are put in order of length together, as many batches.
const WINDOW_BATCHES: usize = 16;
/// Texts looked ahead at most.
const WINDOW_TEXTS: usize = 16_384;

pub fn run(args: &Embed) -> anyhow::Result<()> {
    if let Some(threads) = args.engine.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global().context("--threads")?;
    }
    let options = Options {
        storage: args.engine.weights.storage(),
        ..Options::default()
    };
    let model = TextEncoder::open(&args.model, options)?;
    let input = input(args);
    let fields = fields(args, model.dimensions());
    let job = Job::new(&input, settings(args)?)?;
    let mut output = match &args.output {
        Some(path) => {
            let target = Target::new(path, None, args.shard_rows)?;
            Output::open(&target, fields, &job)?
        }
        None => Output::stream(Box::new(std::io::stdout()), fields)?,
    };
    if output.is_complete() {
        eprintln!("every text was embedded before; nothing to do");
        return Ok(());
    }
    // With chunks a text may have several rows, and a shard may end within one: such jobs start anew.
    anyhow::ensure!(
        args.long != LongInput::Chunk || output.done_rows() == 0,
        "a job that cuts texts into chunks can't be gone on with; remove its output and start it again"
    );
    let mut work = Work {
        model: &model,
        args,
        bar: bar(args.output.is_some()),
        texts: output.done_rows() as usize,
        cut: 0,
    };
    let mut window = length::Window::new(args.batch_tokens * WINDOW_BATCHES, WINDOW_TEXTS);
    let mut records = input.read(output.done_rows());
    for chunk in &mut records {
        let chunk = chunk?;
        let encoded: Vec<_> = chunk
            .into_par_iter()
            .map(|record| {
                let windows =
                    work.model
                        .windows(&record.texts[0], args.prompt.as_deref(), long(args));
                windows.map(|windows| (record.id, windows))
            })
            .collect();
        for (index, text) in encoded.into_iter().enumerate() {
            let place = || format!("{}: text {}", args.input.display(), work.texts + index + 1);
            let (id, windows) = text.with_context(place)?;
            let tokens = windows.iter().map(Encoding::len).sum();
            if let Some(full) = window.push((id, windows), tokens) {
                work.write(&full, &mut output)?;
            }
        }
    }
    work.write(&window.take(), &mut output)?;
    output.finish()?;
    work.bar.finish_and_clear();
    if let Some(report) = records.report()
        && report.skipped > 0
    {
        eprintln!("{} bad rows skipped", report.skipped);
    }
    if work.cut > 0 {
        eprintln!(
            "{} of {} texts were longer than {} tokens and were cut; --long chunk embeds all of them",
            work.cut,
            work.texts,
            model.max_len()
        );
    }
    if let Some(path) = &args.output {
        eprintln!(
            "{} texts, {} dimensions each, in {}",
            work.texts,
            model.dimensions(),
            path.display()
        );
    }
    Ok(())
}

struct Work<'a> {
    model: &'a TextEncoder,
    args: &'a Embed,
    bar: ProgressBar,
    texts: usize,
    cut: usize,
}

impl Work<'_> {
    fn write(
        &mut self,
        texts: &[(Option<String>, Vec<Encoding>)],
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let windows: Vec<&Encoding> = texts.iter().flat_map(|(_, windows)| windows).collect();
        let lengths: Vec<usize> = windows.iter().map(|window| window.len()).collect();
        let width = self.model.dimensions();
        let batches = length::batches(&lengths, self.args.batch_tokens);
        let mut vectors = Vec::new();
        for batch in &batches {
            let batch: Vec<&Encoding> = batch.iter().map(|&index| windows[index]).collect();
            let found = self.model.embed(&batch)?;
            vectors.extend(found.chunks_exact(width).map(<[f32]>::to_vec));
            self.bar
                .inc(batch.iter().map(|window| window.len() as u64).sum());
        }
        let vectors = length::in_order(&batches, vectors).concat();
        let mut columns = Vec::new();
        let rows = || {
            let numbered = texts.iter().enumerate();
            numbered.flat_map(|(index, (id, windows))| windows.iter().map(move |w| (index, id, w)))
        };
        if self.args.id.is_some() {
            columns.push(Column::Text(rows().map(|(_, id, _)| id.clone()).collect()));
        }
        if self.args.long == LongInput::Chunk {
            let first = self.texts as i64;
            let number = |(index, ..): (usize, _, _)| Some(first + index as i64);
            columns.push(Column::Integer(rows().map(number).collect()));
            let (starts, ends) = rows()
                .map(|(_, _, window)| {
                    (
                        Some(i64::from(window.chars().start)),
                        Some(i64::from(window.chars().end)),
                    )
                })
                .unzip();
            columns.extend([Column::Integer(starts), Column::Integer(ends)]);
        }
        self.cut += windows.iter().filter(|window| window.cut > 0).count();
        self.texts += texts.len();
        self.bar.set_message(format!("{} texts", self.texts));
        columns.push(Column::Vectors(vectors));
        Ok(output.write(&columns)?)
    }
}

fn input(args: &Embed) -> Input {
    Input {
        columns: vec![args.text.clone()],
        id: args.id.clone(),
        bad_rows: if args.skip_bad_rows {
            BadRows::Skip
        } else {
            BadRows::Fail
        },
        ..Input::new(&args.input)
    }
}

/// Columns of the output; the last is the vector's.
fn fields(args: &Embed, width: usize) -> Vec<Field> {
    let encoding = match args.vectors {
        VectorType::F32 => Numbers::F32,
        VectorType::F16 => Numbers::F16,
        VectorType::Int8 => Numbers::Int8,
        VectorType::Binary => Numbers::Binary,
    };
    let mut fields = Vec::new();
    if args.id.is_some() {
        fields.push(Field::new("id", Kind::Text));
    }
    if args.long == LongInput::Chunk {
        let parts = ["text", "start", "end"];
        fields.extend(parts.map(|name| Field::new(name, Kind::Integer)));
    }
    fields.push(Field::new("embedding", Kind::Vector { width, encoding }));
    fields
}

fn long(args: &Embed) -> Long {
    match args.long {
        LongInput::Truncate => Long::Truncate(Shorten::LongestFirst),
        LongInput::Error => Long::Error,
        LongInput::Chunk => Long::Chunk {
            overlap: args.overlap,
            whole_words: true,
        },
    }
}

/// Everything that the vectors depend on besides the input: a job with other settings is another job.
fn settings(args: &Embed) -> anyhow::Result<String> {
    let folder = std::path::absolute(&args.model)?;
    let changed = std::fs::metadata(Path::new(&folder))?.modified()?;
    Ok(format!(
        "{} {changed:?} weights {:?} prompt {:?} long {:?} overlap {} vectors {:?}",
        folder.display(),
        args.engine.weights,
        args.prompt,
        args.long,
        args.overlap,
        args.vectors
    ))
}

fn bar(to_file: bool) -> ProgressBar {
    if !to_file || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("embedding {spinner} {msg}  {per_sec} tokens  {elapsed}");
    ProgressBar::no_length().with_style(style.expect("a valid template"))
}
