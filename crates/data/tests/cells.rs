//! Whole columns come in from every format with the same values, and no damage makes their reader panic.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray};
use cloze_data::Error;
use cloze_data::records::{Cells, Format, Value};
use parquet::arrow::ArrowWriter;

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path, columns: &[&str]) -> Result<Vec<Vec<Value>>, Error> {
    let cells = Cells::read(path, &Format::Auto, columns)?;
    Ok(cells.into_iter().map(|cells| cells.values).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A text, a number, a list of numbers and a truth value in each of two rows.
fn parquet(folder: &Path) -> PathBuf {
    let lists = [Some(vec![Some(0.5), Some(2.0)]), None];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(StringArray::from(vec!["x", ""]))),
        ("b", Arc::new(Int64Array::from(vec![Some(7), None]))),
        (
            "c",
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists)),
        ),
        ("d", Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let path = folder.join("rows.parquet");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

const JSONL: &str =
    "{\"a\":\"x\",\"b\":7,\"c\":[0.5,2.0],\"d\":true}\n{\"d\":false,\"a\":\"\",\"b\":null}\n";

#[test]
fn every_format_gives_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = || Value::Other("nothing".to_owned());
    let truth = |word: &str| Value::Other(word.to_owned());
    let expected = vec![
        vec![truth("true"), truth("false")],
        vec![text("x"), text("")],
        vec![Value::Integer(7), nothing()],
        vec![
            Value::List(vec![Value::Float(0.5), Value::Float(2.0)]),
            nothing(),
        ],
    ];
    let columns = ["d", "a", "b", "c"];
    assert_eq!(read(&parquet(folder.path()), &columns).unwrap(), expected);
    let jsonl = write(folder.path(), "rows.jsonl", JSONL);
    assert_eq!(read(&jsonl, &columns).unwrap(), expected);
    let csv = write(folder.path(), "rows.csv", "a,b\n\"x, \",7\n,8\n");
    let csv = read(&csv, &["b", "a"]).unwrap();
    assert_eq!(csv, [[text("7"), text("8")], [text("x, "), text("")]]);
    assert_eq!(csv[0][0].number(), Some(7.0));
    assert_eq!(truth("true").text().as_deref(), Some("true"));
    assert_eq!(nothing().text(), None);
}

#[test]
fn blank_lines_count_and_keep_their_blanks() {
    let folder = tempfile::tempdir().unwrap();
    let lines = write(folder.path(), "lines.txt", " a \r\n\n\nb");
    assert_eq!(
        read(&lines, &["any"]).unwrap(),
        [[text(" a "), text(""), text(""), text("b")]]
    );
    let error = read(&lines, &["a", "b"]).unwrap_err().to_string();
    assert!(
        error.contains("expected the columns a, b, found plain lines"),
        "{error}"
    );
}

#[test]
fn lists_are_parted_at_blanks_or_where_it_is_said() {
    assert_eq!(
        text(" a  b;c ").list(None),
        Some(vec![text("a"), text("b;c")])
    );
    assert_eq!(
        text("a b; c;;").list(Some(';')),
        Some(vec![text("a b"), text("c")])
    );
    assert_eq!(Value::Integer(3).list(None), Some(vec![Value::Integer(3)]));
    assert_eq!(Value::Other("nothing".to_owned()).list(None), None);
    for number in ["NaN", "inf", "1e999", "x", ""] {
        assert_eq!(text(number).number(), None, "{number}");
    }
}

#[test]
fn damage_is_an_error_or_other_values() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(parquet(folder.path())).unwrap();
    for (name, bytes) in [
        ("a.parquet", whole.as_slice()),
        ("a.jsonl", JSONL.as_bytes()),
        ("a.csv", b"d,a,b,c\n\"x, \",7,1 2,\n,8,,\n"),
        ("a.txt", "ä b\n\nc\n".as_bytes()),
    ] {
        let columns: &[&str] = if name == "a.txt" {
            &["a"]
        } else {
            &["d", "a", "b", "c"]
        };
        let step = bytes.len().div_ceil(200);
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0xa5;
            for damaged in [&bytes[..at], &flipped] {
                let path = write(folder.path(), name, damaged);
                if let Err(error) = read(&path, columns) {
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
    }
}
