//! Texts come in from every format, results go out in every format, and kills lose nothing.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use cloze_data::records::{
    Column, Encoding, Field, FileFormat, Format, Input, Job, Kind, Output, Record, Target,
};
use cloze_data::source::{BadRows, ReadReport};
use cloze_data::{Error, records};
use cloze_spec::data::Csv;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn read(input: &Input, skip: u64) -> Result<(Vec<Record>, ReadReport), Error> {
    let mut reading = input.read(skip);
    let mut records = Vec::new();
    for chunk in reading.by_ref() {
        records.extend(chunk?);
    }
    Ok((records, reading.report().unwrap().clone()))
}

fn with_id(path: PathBuf) -> Input {
    Input {
        id: Some("id".to_owned()),
        ..Input::new(path)
    }
}

fn message(input: &Input) -> String {
    read(input, 0).unwrap_err().to_string()
}

#[test]
fn every_format_gives_the_same_records() {
    let folder = folder();
    let jsonl = "{\"id\": 7, \"text\": \"a \\\"b\\\"\"}\n\n{\"text\": \"ä\\nc\", \"x\": [1], \"id\": 8}\n{\"text\":\"\",\"id\":9}";
    let csv = "id,other,text\n7,x,\"a \"\"b\"\"\"\n8,,\"ä\nc\"\n9,,\n";
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![7, 8, 9]))),
        (
            "text",
            Arc::new(StringArray::from(vec!["a \"b\"", "ä\nc", ""])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let files = [
        write(folder.path(), "a.jsonl", jsonl),
        write(folder.path(), "a.ndjson.gz", gzip(jsonl)),
        write(folder.path(), "a.csv", csv),
        write(
            folder.path(),
            "a.csv.zst",
            zstd::encode_all(csv.as_bytes(), 3).unwrap(),
        ),
        write(folder.path(), "a.tsv", csv.replace(',', "\t")),
        write(folder.path(), "a.parquet", writer.into_inner().unwrap()),
    ];
    let expected: Vec<Record> = [("7", "a \"b\""), ("8", "ä\nc"), ("9", "")]
        .map(|(id, text)| Record {
            id: Some(id.to_owned()),
            texts: vec![text.to_owned()],
            beside: Vec::new(),
        })
        .into();
    for file in files {
        let (records, report) = read(&with_id(file.clone()), 0).unwrap();
        assert_eq!(records, expected, "{}", file.display());
        assert_eq!((report.rows, report.skipped), (3, 0));
        assert_eq!(read(&with_id(file), 2).unwrap().0, expected[2..]);
    }
}

#[test]
fn lines_are_texts() {
    let folder = folder();
    let file = write(folder.path(), "a.txt.gz", gzip("one, two \r\n\n{\"x\"\n"));
    let texts: Vec<String> = read(&Input::new(&file), 0)
        .unwrap()
        .0
        .into_iter()
        .flat_map(|record| record.texts)
        .collect();
    assert_eq!(texts, ["one, two", "{\"x\""]);
    assert!(message(&with_id(file)).contains("found plain lines, which have one text each"));
}

#[test]
fn pairs_have_two_columns_and_an_id_may_be_one_of_them() {
    let folder = folder();
    let file = write(
        folder.path(),
        "a.jsonl",
        "{\"context\": \"c\", \"question\": \"q\"}",
    );
    let input = Input {
        columns: vec!["question".to_owned(), "context".to_owned()],
        id: Some("question".to_owned()),
        ..Input::new(file)
    };
    let expected = Record {
        id: Some("q".to_owned()),
        texts: vec!["q".to_owned(), "c".to_owned()],
        beside: Vec::new(),
    };
    assert_eq!(read(&input, 0).unwrap().0, [expected]);
}

#[test]
fn values_beside_texts_may_be_missing_and_lists_may_be_one_text() {
    let folder = folder();
    let lines = "{\"text\": [\"a\", \"b\"], \"age\": 3, \"city\": null}\n{\"text\": \"c\", \"age\": \"\", \"city\": \"Oslo\"}";
    let file = write(folder.path(), "a.jsonl", lines);
    let input = Input {
        sections: true,
        beside: vec!["age".to_owned(), "city".to_owned()],
        ..Input::new(&file)
    };
    let (records, _) = read(&input, 0).unwrap();
    assert_eq!(
        records[0].texts,
        [format!("a{}b", cloze_data::text::SECTION)]
    );
    assert_eq!(records[0].beside, ["3", ""]);
    assert_eq!(records[1].beside, ["", "Oslo"]);
    let list = "{\"text\": \"c\", \"age\": [1], \"city\": \"\"}";
    let wrong = Input {
        path: write(folder.path(), "b.jsonl", list),
        ..input
    };
    let found = message(&wrong);
    assert!(
        found.contains("expected a number or the name of a class, found a list of 1"),
        "{found}"
    );
    assert!(message(&Input::new(file)).contains("expected a text"));
}

#[test]
fn faults_name_file_line_column_and_what_was_found() {
    let folder = folder();
    let file = write(
        folder.path(),
        "a.jsonl",
        "{\"id\": 1, \"text\": \"a\"}\n{\"id\": 2, \"text\": null}\n[1]\n{\"id\": 3, \"text\": \"b\"}\n",
    );
    let expected = format!(
        "{}: line 2, column \"text\": expected a text, found nothing; fix the row or pass --skip-bad-rows",
        file.display()
    );
    assert_eq!(message(&with_id(file.clone())), expected);
    let skipping = Input {
        bad_rows: BadRows::Skip,
        ..with_id(file)
    };
    let (records, report) = read(&skipping, 1).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].texts, ["b"]);
    assert_eq!((report.rows, report.skipped), (4, 2));
    assert!(report.first_skipped[1].contains("line 3: expected a JSON object"));
    let file = write(folder.path(), "a.csv", "id,txt\n1,a\n");
    assert!(message(&with_id(file)).contains("no column \"text\", did you mean \"txt\"?"));
    let file = write(folder.path(), "b.txt", b"fine\n\xff\n");
    assert!(
        message(&Input::new(file))
            .contains("line 2, column \"text\": expected a text, found bytes")
    );
    let mut cut = gzip(&"a line\n".repeat(1000));
    cut.truncate(cut.len() - 12);
    let file = write(folder.path(), "cut.txt.gz", cut);
    assert!(message(&Input::new(file)).contains("damaged or was cut short"));
}

#[test]
fn quotes_may_be_characters_like_others() {
    let folder = folder();
    let rows = "text\tid\n\"open\t1\nplain\t2\n";
    let file = write(folder.path(), "a.tsv.gz", gzip(rows));
    assert!(message(&with_id(file.clone())).contains("(a quote left open?)"));
    for format in [
        Format::Auto,
        Format::Csv(Csv {
            delimiter: '\t',
            ..Csv::default()
        }),
    ] {
        let plain = Input {
            format: format.delimited(&file, true, false).unwrap(),
            ..with_id(file.clone())
        };
        let texts: Vec<_> = read(&plain, 0)
            .unwrap()
            .0
            .into_iter()
            .flat_map(|record| record.texts)
            .collect();
        assert_eq!(texts, ["\"open", "plain"]);
    }
    for other in ["-", "a.jsonl", "a.txt", "a.parquet"] {
        assert_eq!(
            Format::Auto
                .delimited(Path::new(other), true, false)
                .unwrap(),
            Format::Auto
        );
    }
    assert!(
        Format::Auto
            .delimited(Path::new("a.unknown"), true, false)
            .is_err()
    );
}

#[test]
fn long_files_come_in_chunks_of_bounded_size() {
    let folder = folder();
    let long = format!("{}\n", "x".repeat(1 << 19));
    let file = write(
        folder.path(),
        "a.txt",
        "short\n".repeat(3000) + &long.repeat(5),
    );
    let chunks: Vec<usize> = Input::new(file)
        .read(0)
        .map(|chunk| chunk.unwrap().len())
        .collect();
    assert_eq!(chunks, [1024, 1024, 954, 2, 1]);
}

fn fields(encoding: Encoding) -> Vec<Field> {
    vec![
        Field::new("id", Kind::Text),
        Field::new("label", Kind::Integer),
        Field::new("score", Kind::Float),
        Field::new("vector", Kind::Vector { width: 3, encoding }),
    ]
}

const VECTORS: [f32; 6] = [0.5, -1.0, 0.1, 0.0, 2.0, -0.25];

fn columns() -> Vec<Column> {
    vec![
        Column::Text(vec![Some("a".to_owned()), None]),
        Column::Integer(vec![Some(-3), None]),
        Column::Float(vec![Some(0.1), Some(f32::NAN)]),
        Column::Vectors(VECTORS.to_vec()),
    ]
}

fn job(folder: &Path) -> (Input, Job) {
    let input = Input::new(write(folder, "input.txt", "a\nb\n"));
    let job = Job::new(&input, "model 1").unwrap();
    (input, job)
}

fn save(folder: &Path, name: &str, fields: Vec<Field>, columns: &[Column]) -> PathBuf {
    let path = folder.join(name);
    let target = Target::new(&path, None, None).unwrap();
    let mut output = Output::open(&target, fields, &job(folder).1).unwrap();
    output.write(columns).unwrap();
    assert!(!path.exists(), "nothing half-written under the final name");
    output.finish().unwrap();
    path
}

fn rows(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    reader.next().unwrap().unwrap()
}

#[test]
fn parquet_gives_back_what_was_written() {
    let folder = folder();
    for encoding in [
        Encoding::F32,
        Encoding::F16,
        Encoding::Int8,
        Encoding::Binary,
    ] {
        let name = format!("{}.parquet", encoding.name());
        let batch = rows(&save(folder.path(), &name, fields(encoding), &columns()));
        let ids = batch["id"].as_string::<i32>();
        assert_eq!((ids.value(0), ids.is_null(1)), ("a", true));
        assert!(batch["label"].is_null(1));
        let vectors = batch["vector"].as_fixed_size_list();
        assert_eq!(vectors.value_length() as usize, encoding.stored_width(3));
        let values = vectors.values();
        match encoding {
            Encoding::F32 => assert_eq!(*values.as_primitive::<Float32Type>().values(), VECTORS),
            Encoding::F16 => {
                let found = values.as_primitive::<Float16Type>().values();
                let expected = VECTORS.map(half::f16::from_f32);
                assert_eq!(found[..], expected);
            }
            Encoding::Int8 => {
                let found = values.as_primitive::<Int8Type>().values();
                assert_eq!(found[..], [64, -127, 13, 0, 127, -16]);
                let scales = batch["vector_scale"].as_primitive::<Float32Type>().values();
                assert_eq!(scales[..], [1.0 / 127.0, 2.0 / 127.0]);
            }
            Encoding::Binary => {
                let found = values.as_primitive::<UInt8Type>().values();
                assert_eq!(found[..], [0b1010_0000, 0b0100_0000]);
            }
        }
    }
}

#[test]
fn json_lines_hold_short_numbers() {
    let folder = folder();
    let path = save(folder.path(), "a.jsonl", fields(Encoding::F32), &columns());
    let found: Vec<serde_json::Value> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = [
        serde_json::json!({"id": "a", "label": -3, "score": 0.1, "vector": [0.5, -1.0, 0.1]}),
        serde_json::json!({"id": null, "label": null, "score": null, "vector": [0.0, 2.0, -0.25]}),
    ];
    assert_eq!(found, expected);
}

/// Three rows with two, none and one entry.
fn lists() -> (Vec<Field>, Vec<Column>) {
    let entry = vec![
        Field::new("label", Kind::Text),
        Field::new("score", Kind::Float),
    ];
    let fields = vec![
        Field::new("row", Kind::Integer),
        Field::new("labels", Kind::List(entry)),
    ];
    let labels = ["a", "b, c", "d"].map(|label| Some(label.to_owned()));
    let lists = Column::Lists {
        offsets: vec![0, 2, 2, 3],
        entries: vec![
            Column::Text(labels.to_vec()),
            Column::Float(vec![Some(0.5), None, Some(0.1)]),
        ],
    };
    let rows = Column::Integer(vec![Some(0), Some(1), Some(2)]);
    (fields, vec![rows, lists])
}

#[test]
fn lists_are_objects_in_json_and_rows_in_tables() {
    let folder = folder();
    let written = |name: &str| {
        let (fields, columns) = lists();
        save(folder.path(), name, fields, &columns)
    };
    let json = std::fs::read_to_string(written("a.jsonl")).unwrap();
    let json: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = [
        serde_json::json!({"row": 0, "labels": [{"label": "a", "score": 0.5}, {"label": "b, c", "score": null}]}),
        serde_json::json!({"row": 1, "labels": []}),
        serde_json::json!({"row": 2, "labels": [{"label": "d", "score": 0.1}]}),
    ];
    assert_eq!(json, expected);
    let csv = std::fs::read_to_string(written("a.csv")).unwrap();
    assert_eq!(csv, "row,label,score\n0,a,0.5\n0,\"b, c\",\n2,d,0.1\n");
    let batch = rows(&written("a.parquet"));
    let numbers = batch["row"].as_primitive::<arrow_array::types::Int64Type>();
    assert_eq!(numbers.values()[..], [0, 0, 2]);
    assert_eq!(batch["label"].as_string::<i32>().value(2), "d");
    assert!(batch["score"].is_null(1));
}

#[test]
fn shards_count_the_rows_that_have_lists() {
    let folder = folder();
    let (fields, columns) = lists();
    let target = Target::new(&folder.path().join("a/"), Some(FileFormat::Csv), Some(2)).unwrap();
    let (_, job) = job(folder.path());
    let mut output = Output::open(&target, fields.clone(), &job).unwrap();
    output.write(&columns).unwrap();
    drop(output);
    let output = Output::open(&target, fields, &job).unwrap();
    assert_eq!(output.done_records(), 2);
    let first = std::fs::read_to_string(folder.path().join("a/part-00000.csv")).unwrap();
    assert_eq!(first, "row,label,score\n0,a,0.5\n0,\"b, c\",\n");
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let folder = folder();
    let refused = |name: &str, fields: Vec<Field>| {
        let target = Target::new(&folder.path().join(name), None, None).unwrap();
        let opened = Output::open(&target, fields, &job(folder.path()).1);
        opened.err().unwrap().to_string()
    };
    let (list, _) = lists();
    let twice = [&list[1..], &list[1..]].concat();
    assert!(refused("a.csv", twice.clone()).contains("one column of lists"));
    assert!(refused("a.jsonl", twice).contains("two columns are named \"labels\""));
    let same = [&list[..], &[Field::new("score", Kind::Float)]].concat();
    assert!(refused("a.parquet", same).contains("two columns are named \"score\""));
    let nested = vec![Field::new("outer", Kind::List(list))];
    assert!(refused("a.jsonl", nested).contains("in the list \"outer\""));
    assert!(refused("a.csv", fields(Encoding::F32)).contains("vectors in \"vector\""));
}

#[test]
fn npy_is_aligned_and_knows_its_rows() {
    let folder = folder();
    let encoding = Encoding::F32;
    let vector = vec![Field::new("vector", Kind::Vector { width: 3, encoding })];
    let path = save(
        folder.path(),
        "a.npy",
        vector,
        &[Column::Vectors(VECTORS.to_vec())],
    );
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(start % 64, 0);
    let header = str::from_utf8(&bytes[10..start]).unwrap();
    assert_eq!(
        header.trim_end_matches([' ', '\n']),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    );
    assert!(header.ends_with('\n'));
    let numbers: Vec<f32> = bytes[start..]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    assert_eq!(numbers, VECTORS);
    let target = Target::new(&folder.path().join("b.npy"), None, None).unwrap();
    let error = Output::open(&target, fields(encoding), &job(folder.path()).1).err();
    assert!(
        error
            .unwrap()
            .to_string()
            .contains("expected one column of vectors")
    );
}

const ROWS: usize = 23;
const SHARD_ROWS: u64 = 5;

fn numbered(target: &Target, job: &Job) -> Result<Output, Error> {
    let encoding = Encoding::F32;
    let fields = vec![
        Field::new("row", Kind::Integer),
        Field::new("vector", Kind::Vector { width: 2, encoding }),
    ];
    Output::open(target, fields, job)
}

fn number(output: &mut Output, rows: std::ops::Range<usize>) {
    let vectors = rows.clone().flat_map(|row| [row as f32, -1.0]).collect();
    let rows = rows.map(|row| Some(row as i64)).collect();
    output
        .write(&[Column::Integer(rows), Column::Vectors(vectors)])
        .unwrap();
}

/// Goes on with a job, in writes of `step` rows, and is killed before row `kill`.
fn go_on(target: &Target, job: &Job, step: usize, kill: usize) {
    let mut output = numbered(target, job).unwrap();
    let mut row = output.done_records() as usize;
    while row < kill {
        let end = (row + step).min(kill);
        number(&mut output, row..end);
        row = end;
    }
    if kill == ROWS && !output.is_complete() {
        output.finish().unwrap();
    }
}

fn shards(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "tmp"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn a_job_killed_anywhere_ends_like_one_that_was_not() {
    let folder = folder();
    let (_, job) = job(folder.path());
    let target = |name: String| Target::Shards {
        folder: folder.path().join(name),
        format: FileFormat::Jsonl,
        rows: SHARD_ROWS,
    };
    go_on(&target("whole".into()), &job, 4, ROWS);
    let expected = shards(&folder.path().join("whole"));
    assert_eq!(expected.len(), 6, "five shards and their manifest");
    for first in 0..ROWS {
        let name = format!("killed-{first}");
        let target = target(name.clone());
        let at = folder.path().join(&name);
        go_on(&target, &job, 3, first);
        // A kill between the rename of a shard and the manifest's leaves a shard that is not counted.
        let next = numbered(&target, &job).unwrap().done_records() / SHARD_ROWS;
        write(&at, &format!("part-{next:05}.jsonl"), "half a sh");
        write(&at, "manifest.json.tmp", "{\"ver");
        go_on(&target, &job, 7, (first + 6).min(ROWS - 1));
        go_on(&target, &job, 2, ROWS);
        assert_eq!(shards(&at), expected, "killed before row {first}");
        let again = numbered(&target, &job).unwrap();
        assert!(again.is_complete());
        assert_eq!(again.done_records(), ROWS as u64);
        assert_eq!(shards(&at), expected);
    }
}

#[test]
fn records_of_several_rows_are_never_torn_by_a_kill() {
    let folder = folder();
    let (_, job) = job(folder.path());
    let target = |name: &str| Target::Shards {
        folder: folder.path().join(name),
        format: FileFormat::Jsonl,
        rows: SHARD_ROWS,
    };
    // Record r has r % 4 rows, all with its number.
    let records: Vec<usize> = (0..19).map(|record| record % 4).collect();
    let go_on = |target: &Target, step: usize, kill: usize| {
        let mut output = numbered(target, &job).unwrap();
        let mut first = output.done_records() as usize;
        while first < kill {
            let last = (first + step).min(kill);
            let rows_of = &records[first..last];
            let numbers = (first..last).zip(rows_of);
            let numbers: Vec<i64> = numbers
                .flat_map(|(record, &rows)| std::iter::repeat_n(record as i64, rows))
                .collect();
            let vectors = numbers.iter().flat_map(|&n| [n as f32, -1.0]).collect();
            let numbers = numbers.into_iter().map(Some).collect();
            let columns = [Column::Integer(numbers), Column::Vectors(vectors)];
            output.write_records(&columns, rows_of).unwrap();
            first = last;
        }
        if kill == records.len() && !output.is_complete() {
            output.finish().unwrap();
        }
    };
    go_on(&target("whole"), 5, records.len());
    let expected = shards(&folder.path().join("whole"));
    let text = |shard: &Vec<u8>| String::from_utf8(shard.clone()).unwrap();
    let rows: Vec<usize> = expected
        .iter()
        .filter(|(name, _)| name.starts_with("part"))
        .map(|(_, shard)| text(shard).lines().count())
        .collect();
    assert_eq!(
        rows,
        [6, 6, 6, 6, 3],
        "each ends with the record that fills it"
    );
    for kill in 0..records.len() {
        let name = format!("killed-{kill}");
        go_on(&target(&name), 3, kill);
        go_on(&target(&name), 1, (kill + 3).min(records.len() - 1));
        go_on(&target(&name), 7, records.len());
        let found = shards(&folder.path().join(&name));
        assert_eq!(found, expected, "killed before record {kill}");
    }
}

#[test]
fn a_kill_before_the_first_manifest_is_no_obstacle() {
    let folder = folder();
    let (_, job) = job(folder.path());
    let at = folder.path().join("out");
    std::fs::create_dir(&at).unwrap();
    write(&at, "manifest.json.tmp", "{");
    let target = Target::new(&at, None, None).unwrap();
    assert_eq!(numbered(&target, &job).unwrap().done_records(), 0);
}

#[test]
fn another_job_is_refused() {
    let folder = folder();
    let (input, job) = job(folder.path());
    let at = folder.path().join("out");
    let target = Target::new(&at, None, Some(SHARD_ROWS)).unwrap();
    go_on(&target, &job, 4, 12);
    let refusal = |target: &Target, job: &Job| numbered(target, job).err().unwrap().to_string();
    let settings = Job::new(&input, "model 2").unwrap();
    assert!(
        refusal(&target, &settings)
            .contains("holds another job: expected the settings model 1, found model 2")
    );
    let larger = Target::new(&at, None, Some(6)).unwrap();
    assert!(refusal(&larger, &job).contains("6 rows a shard"));
    std::fs::write(&input.path, "a\nb\nc\n").unwrap();
    let changed = Job::new(&input, "model 1").unwrap();
    assert!(refusal(&target, &changed).contains("expected the input of 4 bytes"));
    std::fs::remove_file(at.join("part-00001.parquet")).unwrap();
    assert!(refusal(&target, &job).contains("part-00001.parquet"));
    let used = Target::new(folder.path(), None, None).unwrap();
    assert!(refusal(&used, &job).contains("expected an empty folder"));
}

#[test]
fn paths_say_what_is_written() {
    let folder = folder();
    let file = |name: &str| Target::new(&folder.path().join(name), None, None);
    assert!(matches!(
        file("a.parquet"),
        Ok(Target::File {
            format: FileFormat::Parquet,
            ..
        })
    ));
    assert!(matches!(
        file("a/"),
        Ok(Target::Shards {
            rows: Target::SHARD_ROWS,
            ..
        })
    ));
    assert!(matches!(file(""), Ok(Target::Shards { .. })));
    assert!(file("a.xlsx").is_err());
    assert!(Target::new(folder.path(), None, Some(0)).is_err());
}

#[test]
fn planned_batches_keep_the_order_of_a_file() {
    let lengths = [5, 1, 4, 9, 2];
    let batches = records::length::batches(&lengths, 6);
    let results = batches.iter().flatten().map(|&index| lengths[index]);
    assert_eq!(records::length::in_order(&batches, results), lengths);
}

#[test]
fn formats_may_be_named() {
    let folder = folder();
    let file = write(folder.path(), "texts", "{\"text\": 5}\n");
    assert!(message(&Input::new(file.clone())).contains("found no extension"));
    let input = Input {
        format: Format::Jsonl,
        ..Input::new(file)
    };
    assert_eq!(read(&input, 0).unwrap().0[0].texts, ["5"]);
}
