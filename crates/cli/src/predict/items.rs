use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use cloze_data::source::BadRows;
use cloze_data::{History, ItemVocabulary, read_histories};
use cloze_spec::data::{Columns, Format};
use cloze_train::Recommender;
use cloze_train::recommend::Request;
use parquet::arrow::ArrowWriter;

use crate::arguments::Predict;
use crate::{source, table};

/// Histories scored and written together, so that memory does not grow with the file.
const CHUNK: usize = 4096;

pub fn run(args: &Predict) -> anyhow::Result<()> {
    let place = args.compute.place()?;
    let histories = &args.histories;
    let recommender = Recommender::open(&args.model, &place.device())?;
    let vocabulary = &recommender.vocabulary;
    let request = Request {
        top: args.top.unwrap_or(10),
        exclude_seen: !histories.include_seen
            && (histories.exclude_seen || recommender.config.exclude_seen),
        allow: histories
            .allow
            .as_deref()
            .map(|path| read_items(path, vocabulary))
            .transpose()?,
        deny: histories
            .deny
            .as_deref()
            .map(|path| read_items(path, vocabulary))
            .transpose()?
            .unwrap_or_default(),
    };
    match (&histories.items, &args.input) {
        (Some(items), _) => one(&recommender, &request, items, args.output.as_deref()),
        (None, Some(input)) => many(&recommender, &request, input, args),
        (None, None) => bail!("expected a file of histories, or --items; found neither"),
    }
}

fn read_items(path: &Path, vocabulary: &ItemVocabulary) -> anyhow::Result<HashSet<u32>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let ids = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (known, unknown): (Vec<_>, Vec<_>) = ids
        .map(|id| (id, vocabulary.index(id)))
        .partition(|(_, t)| t.is_some());
    if let Some((first, _)) = unknown.first() {
        eprintln!(
            "warning: {}: {} items that the model does not know, such as {first:?}",
            path.display(),
            unknown.len()
        );
    }
    Ok(known.into_iter().filter_map(|(_, token)| token).collect())
}

fn one(
    recommender: &Recommender,
    request: &Request,
    items: &str,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let vocabulary = &recommender.vocabulary;
    let mut history = History {
        key: "1".to_owned(),
        ..History::default()
    };
    for id in items.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        match vocabulary.index(id) {
            Some(token) => history.items.push(token),
            None => history.unknown.push(id.to_owned()),
        }
    }
    for id in &history.unknown {
        let near = vocabulary
            .nearest(id)
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        eprintln!("warning: the model does not know item {id:?}{near}");
    }
    if history.items.is_empty() {
        bail!(
            "--items {items:?}: none of these items is known to the model; its items are in items.parquet of the folder"
        );
    }
    if let Some(output) = output {
        let mut writer = Writer::new(output, vocabulary)?;
        writer.write(
            &[history.clone()],
            &recommender.recommend(&[&history.items], request),
        )?;
        return writer.finish(output);
    }
    let found = recommender.recommend(&[&history.items], request).remove(0);
    let rows: Vec<Vec<String>> = found
        .iter()
        .enumerate()
        .map(|(place, &(item, score))| {
            vec![
                (place + 1).to_string(),
                vocabulary.id(item).to_owned(),
                vocabulary.title(item).unwrap_or("").to_owned(),
                format!("{score:.3}"),
            ]
        })
        .collect();
    let mut out = std::io::stdout();
    for &item in &history.items {
        writeln!(
            out,
            "{}  {}",
            vocabulary.id(item),
            vocabulary.title(item).unwrap_or("")
        )?;
    }
    writeln!(
        out,
        "{}",
        table::plain(&["", "item", "title", "score"], &rows)
    )?;
    Ok(())
}

fn many(
    recommender: &Recommender,
    request: &Request,
    input: &Path,
    args: &Predict,
) -> anyhow::Result<()> {
    let vocabulary = &recommender.vocabulary;
    let named = &args.histories;
    let columns = Columns {
        user: named
            .user
            .clone()
            .unwrap_or_else(|| Columns::default().user),
        item: named
            .item
            .clone()
            .unwrap_or_else(|| Columns::default().item),
        time: named.time.clone(),
    };
    let mut histories = read_histories(input, vocabulary, &Format::Auto, &columns, BadRows::Fail)?;
    let mut writer = match &args.output {
        Some(output) => Writer::new(output, vocabulary)?,
        None => Writer {
            vocabulary,
            sink: Sink::Jsonl(Box::new(std::io::stdout())),
        },
    };
    let (mut count, mut empty, mut unknown) = (0_usize, 0_usize, 0_usize);
    let mut first_unknown = None;
    loop {
        let chunk: Vec<History> = histories.by_ref().take(CHUNK).collect::<Result<_, _>>()?;
        if chunk.is_empty() {
            break;
        }
        for history in &chunk {
            unknown += history.unknown.len();
            empty += usize::from(history.items.is_empty());
            first_unknown = first_unknown.or_else(|| history.unknown.first().cloned());
        }
        count += chunk.len();
        let items: Vec<&[u32]> = chunk.iter().map(|h| h.items.as_slice()).collect();
        writer.write(&chunk, &recommender.recommend(&items, request))?;
    }
    source::warn_of_skipped(histories.report());
    if let Some(first) = first_unknown {
        eprintln!(
            "warning: {unknown} items that the model does not know were left out, such as {first:?}"
        );
    }
    if empty > 0 {
        eprintln!(
            "warning: {empty} of {count} histories have no item that the model knows and get no recommendation"
        );
    }
    match &args.output {
        Some(output) => {
            writer.finish(output)?;
            eprintln!("{count} histories, recommendations in {}", output.display());
        }
        None => writer.flush()?,
    }
    Ok(())
}

/// Where recommendations go. Files are written under a temporary name and renamed when they are whole.
struct Writer<'a> {
    vocabulary: &'a ItemVocabulary,
    sink: Sink,
}

enum Sink {
    Jsonl(Box<dyn Write>),
    Csv(Box<csv::Writer<File>>),
    Parquet(Box<ArrowWriter<File>>),
}

fn temporary(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn schema() -> Arc<arrow_schema::Schema> {
    use arrow_schema::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("rank", DataType::UInt32, false),
        Field::new("item", DataType::Utf8, false),
        Field::new("title", DataType::Utf8, true),
        Field::new("score", DataType::Float32, false),
    ]))
}

impl<'a> Writer<'a> {
    fn new(output: &Path, vocabulary: &'a ItemVocabulary) -> anyhow::Result<Self> {
        let extension = output.extension().and_then(|e| e.to_str()).unwrap_or("");
        if !["parquet", "csv", "jsonl", "ndjson"].contains(&extension) {
            bail!(
                "{}: expected a name that ends in .parquet, .csv or .jsonl",
                output.display()
            );
        }
        let file = File::create(temporary(output)).with_context(|| output.display().to_string())?;
        let sink = match extension {
            "parquet" => Sink::Parquet(Box::new(ArrowWriter::try_new(file, schema(), None)?)),
            "csv" => {
                let mut csv = csv::Writer::from_writer(file);
                csv.write_record(["user", "rank", "item", "title", "score"])?;
                Sink::Csv(Box::new(csv))
            }
            _ => Sink::Jsonl(Box::new(std::io::BufWriter::new(file))),
        };
        Ok(Self { vocabulary, sink })
    }

    fn write(&mut self, histories: &[History], found: &[Vec<(u32, f32)>]) -> anyhow::Result<()> {
        let vocabulary = self.vocabulary;
        match &mut self.sink {
            Sink::Jsonl(out) => {
                for (history, found) in histories.iter().zip(found) {
                    let items: Vec<_> = found
                        .iter()
                        .map(|&(item, score)| {
                            serde_json::json!({
                                "item": vocabulary.id(item), "title": vocabulary.title(item), "score": score
                            })
                        })
                        .collect();
                    let mut line = serde_json::json!({ "user": history.key, "items": items });
                    if !history.unknown.is_empty() {
                        line["unknown"] = serde_json::json!(history.unknown);
                    }
                    writeln!(out, "{line}")?;
                }
            }
            Sink::Csv(out) => {
                for (history, found) in histories.iter().zip(found) {
                    for (place, &(item, score)) in found.iter().enumerate() {
                        let title = vocabulary.title(item).unwrap_or("");
                        let (rank, score) = ((place + 1).to_string(), score.to_string());
                        out.write_record([
                            history.key.as_str(),
                            &rank,
                            vocabulary.id(item),
                            title,
                            &score,
                        ])?;
                    }
                }
            }
            Sink::Parquet(out) => {
                use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array};
                let rows = || {
                    histories
                        .iter()
                        .zip(found)
                        .flat_map(|(h, f)| f.iter().enumerate().map(move |(p, r)| (h, p, r)))
                };
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(StringArray::from_iter_values(
                        rows().map(|(h, _, _)| h.key.as_str()),
                    )),
                    Arc::new(UInt32Array::from_iter_values(
                        rows().map(|(_, place, _)| place as u32 + 1),
                    )),
                    Arc::new(StringArray::from_iter_values(
                        rows().map(|(_, _, r)| vocabulary.id(r.0)),
                    )),
                    Arc::new(
                        rows()
                            .map(|(_, _, r)| vocabulary.title(r.0))
                            .collect::<StringArray>(),
                    ),
                    Arc::new(Float32Array::from_iter_values(rows().map(|(_, _, r)| r.1))),
                ];
                out.write(&RecordBatch::try_new(schema(), columns)?)?;
            }
        }
        Ok(())
    }

    fn flush(self) -> anyhow::Result<()> {
        match self.sink {
            Sink::Jsonl(mut out) => out.flush()?,
            Sink::Csv(mut out) => out.flush()?,
            Sink::Parquet(out) => {
                out.close()?;
            }
        }
        Ok(())
    }

    fn finish(self, output: &Path) -> anyhow::Result<()> {
        self.flush()?;
        std::fs::rename(temporary(output), output).with_context(|| output.display().to_string())
    }
}
