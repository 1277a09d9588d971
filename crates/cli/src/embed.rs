use std::io::IsTerminal;
use std::num::NonZeroUsize;

use anyhow::Context;
use cloze_data::records::{
    Column, Encoding as Numbers, Field, Input, Job, Kind, Output, Target, length,
};
use cloze_data::text::{Encoding, Long, Part, Shorten};
use cloze_runtime::Error;
use cloze_runtime::model::TextEncoder;
use cloze_spec::hugging_face::Listing;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::arguments::{Chunks, Embed, LongInput, VectorType};

/// Tokens that are put in order of length together, as many batches.
const WINDOW_BATCHES: usize = 16;
/// Texts looked ahead at most.
const WINDOW_TEXTS: usize = 16_384;

pub fn run(args: &Embed) -> anyhow::Result<()> {
    check(args)?;
    let model = TextEncoder::open(&args.model, args.engine.options()?)?;
    if args.long == LongInput::Late {
        model.check_parts().context("--long late")?;
    }
    let input = input(args)?;
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
    let mut work = Work {
        model: &model,
        args,
        bar: bar(args.output.is_some()),
        texts: output.done_records() as usize,
        cut: 0,
    };
    let mut window = length::Window::new(args.batch_tokens * WINDOW_BATCHES, WINDOW_TEXTS);
    let mut records = input.read(output.done_records());
    let mut read = work.texts;
    for chunk in &mut records {
        let chunk = chunk?;
        let encoded: Vec<Result<_, Error>> = chunk
            .into_par_iter()
            .map(|record| {
                let windows = windows(&model, args, &record.texts[0])?;
                Ok((record.id, windows))
            })
            .collect();
        for text in encoded {
            read += 1;
            let place = || format!("{}: text {read}", args.input.display());
            let (id, windows) = text.with_context(place)?;
            let tokens = windows.iter().map(|window| window.tokens.len()).sum();
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
            "{} of {} texts were longer than {} tokens and were cut; --long chunk embeds all of each",
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

/// A text, or one window of it.
struct Window {
    tokens: Encoding,
    /// What has a vector of its own: all of it, or parts.
    parts: Vec<Part>,
}

type Text = (Option<String>, Vec<Window>);

struct Work<'a> {
    model: &'a TextEncoder,
    args: &'a Embed,
    bar: ProgressBar,
    texts: usize,
    cut: usize,
}

impl Work<'_> {
    fn write(&mut self, texts: &[Text], output: &mut Output) -> anyhow::Result<()> {
        let mut vectors = self.embed(texts)?.into_iter();
        let first = self.texts;
        let (mut ids, mut numbers, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
        let (mut rows_of, mut all) = (vec![], vec![]);
        for (index, (id, windows)) in texts.iter().enumerate() {
            let found = vectors.by_ref().take(windows.len()).collect::<Vec<_>>();
            let parts = windows.iter().flat_map(|window| &window.parts);
            let mut spans: Vec<_> = parts.clone().map(|part| part.chars.clone()).collect();
            let mut found = found.concat();
            if self.args.chunks == Some(Chunks::Mean) {
                let tokens: Vec<usize> = parts.map(|part| part.tokens.len()).collect();
                found = self.model.mean(&found, &tokens);
                let end = spans[spans.len() - 1].end;
                spans.truncate(1);
                spans[0].end = end;
            }
            for chars in &spans {
                ids.push(id.clone());
                numbers.push(Some((first + index) as i64));
                starts.push(Some(i64::from(chars.start)));
                ends.push(Some(i64::from(chars.end)));
            }
            rows_of.push(spans.len());
            all.append(&mut found);
            self.cut += windows
                .iter()
                .filter(|window| window.tokens.cut > 0)
                .count();
        }
        self.texts += texts.len();
        self.bar.set_message(format!("{} texts", self.texts));
        let mut columns = Vec::new();
        if self.args.id.is_some() {
            columns.push(Column::Text(ids));
        }
        if in_chunks(self.args) {
            columns.extend([numbers, starts, ends].map(Column::Integer));
        }
        columns.push(Column::Vectors(all));
        Ok(output.write_records(&columns, &rows_of)?)
    }

    /// The vectors of each window's parts, one after the other.
    fn embed(&self, texts: &[Text]) -> anyhow::Result<Vec<Vec<f32>>> {
        let windows: Vec<&Window> = texts.iter().flat_map(|(_, windows)| windows).collect();
        let lengths: Vec<usize> = windows.iter().map(|window| window.tokens.len()).collect();
        let batches = length::batches(&lengths, self.args.batch_tokens);
        let mut vectors = Vec::new();
        for batch in &batches {
            let batch = batch.iter().map(|&index| windows[index]);
            let found = if self.args.long == LongInput::Late {
                let parts = batch
                    .clone()
                    .map(|window| (&window.tokens, &window.parts[..]));
                self.model.embed_parts(&parts.collect::<Vec<_>>())?
            } else {
                let tokens = batch.clone().map(|window| &window.tokens);
                self.model.embed(&tokens.collect::<Vec<_>>())?
            };
            let mut rest = &found[..];
            for window in batch {
                let (here, after) = rest.split_at(window.parts.len() * self.model.dimensions());
                vectors.push(here.to_vec());
                rest = after;
                self.bar.inc(window.tokens.len() as u64);
            }
        }
        Ok(length::in_order(&batches, vectors))
    }
}

/// Options that do not go together, before anything is opened.
fn check(args: &Embed) -> anyhow::Result<()> {
    if !in_chunks(args) {
        anyhow::ensure!(
            args.chunks.is_none() && args.chunk_tokens.is_none(),
            "--chunks and --chunk-tokens: nothing is cut into chunks; add --long chunk or --long late"
        );
    }
    if let Some(size) = args.chunk_tokens {
        let overlap = args.overlap();
        anyhow::ensure!(
            overlap < size.get(),
            "--overlap {overlap}: expected fewer than --chunk-tokens, {size}"
        );
    }
    Ok(())
}

fn in_chunks(args: &Embed) -> bool {
    matches!(args.long, LongInput::Chunk | LongInput::Late)
}

/// A text's tokens as they are run, and what gets a vector.
fn windows(model: &TextEncoder, args: &Embed, text: &str) -> Result<Vec<Window>, Error> {
    let prompt = args.prompt.as_deref();
    let size = args.chunk_tokens.map(NonZeroUsize::get);
    let windows = match args.long {
        LongInput::Truncate => model.windows(text, prompt, Long::Truncate(Shorten::LongestFirst)),
        LongInput::Error => model.windows(text, prompt, Long::Error),
        LongInput::Chunk => model.chunks(text, prompt, size, args.overlap()),
        LongInput::Late => model.chunks(text, prompt, None, args.overlap()),
    };
    let parts = |tokens: &Encoding| match (args.long, size) {
        (LongInput::Late, Some(size)) => tokens.parts(size, args.overlap()),
        _ => vec![Part {
            tokens: tokens.body(),
            chars: tokens.chars(),
        }],
    };
    let windows = windows?.into_iter().map(|tokens| Window {
        parts: parts(&tokens),
        tokens,
    });
    Ok(windows.collect())
}

fn input(args: &Embed) -> anyhow::Result<Input> {
    Ok(Input {
        id: args.id.clone(),
        ..args.rows.input(&args.input, vec![args.text.clone()])?
    })
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
    if in_chunks(args) {
        let parts = ["text", "start", "end"];
        fields.extend(parts.map(|name| Field::new(name, Kind::Integer)));
    }
    fields.push(Field::new("embedding", Kind::Vector { width, encoding }));
    fields
}

/// Everything that the vectors depend on besides the input: a job with other settings is another job.
fn settings(args: &Embed) -> anyhow::Result<String> {
    let folder = std::path::absolute(&args.model)?;
    let listing = Listing::new(&|file| folder.join(file).is_file(), &mut |file| {
        Ok::<_, cloze_spec::Error>(folder.join(file))
    })?;
    let (mut bytes, mut changed) = (0, None);
    for file in &listing.files {
        let file = std::fs::metadata(folder.join(file))?;
        bytes += file.len();
        changed = changed.max(file.modified().ok());
    }
    Ok(format!(
        "{} of {bytes} bytes {changed:?} weights {:?} prompt {:?} long {:?} {:?} {:?} overlap {} vectors {:?}",
        folder.display(),
        args.engine.weights,
        args.prompt,
        args.long,
        args.chunk_tokens,
        args.chunks,
        args.overlap(),
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
