//! The same purchases from every format, and one clear error for whatever is wrong.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array,
};
use cloze_data::source::{self, BadRows, Log, ReadReport};
use cloze_data::{Dataset, Error, dataset};
use cloze_spec::data::{
    Columns, Csv, Duplicates, Format, Interactions, LeaveOneOut, Split, TimeSplit, Titles,
};
use parquet::arrow::ArrowWriter;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.0.path().join(name);
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }
}

fn settings(time: Option<&str>) -> Interactions {
    Interactions {
        files: Vec::new(),
        titles: None,
        format: Format::Auto,
        columns: Columns {
            time: time.map(str::to_owned),
            ..Columns::default()
        },
        min_user_events: 1,
        min_item_events: 1,
        duplicates: Duplicates::Keep,
        split: Split::LeaveOneOut(LeaveOneOut::default()),
    }
}

fn read(path: &Path, settings: &Interactions) -> Result<(Log, ReadReport), Error> {
    source::read(&[path.to_owned()], settings, BadRows::Fail, &mut |_, _| {})
}

fn read_text(name: &str, text: impl AsRef<[u8]>, time: Option<&str>) -> Result<Log, String> {
    let folder = Folder::new();
    let path = folder.file(name, text);
    read(&path, &settings(time))
        .map_err(|error| error.to_string())
        .map(|read| read.0)
}

/// The message without the folder of the file.
fn message(name: &str, text: impl AsRef<[u8]>, time: Option<&str>) -> String {
    let folder = Folder::new();
    let path = folder.file(name, text);
    let error = read(&path, &settings(time)).unwrap_err().to_string();
    error.replace(path.to_str().unwrap(), name)
}

fn triples(log: &Log) -> Vec<(&str, &str, i64)> {
    log.events
        .iter()
        .map(|event| {
            (
                log.users[event.user as usize].as_str(),
                log.items[event.item as usize].as_str(),
                event.time,
            )
        })
        .collect()
}

const PURCHASES: &[(&str, &str, i64)] =
    &[("17850", "85123A", 3), ("bob", "a,b", 1), ("17850", "7", 2)];
const CSV: &str = "time,price,user,item\n3,2.5,17850,85123A\n1,,bob,\"a,b\"\n2,1,17850,7\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_format_gives_the_same_log() {
    let folder = Folder::new();
    let crlf = CSV.replace('\n', "\r\n");
    let json = concat!(
        r#"{"user": 17850, "item": "85123A", "time": 3, "tags": [{"user": 1}]}"#,
        "\n\n",
        r#"{"item": "a,b", "user": "b\u006fb", "time": "1"}"#,
        "\r\n",
        r#"{"item": 7.0, "user": 17850, "time": 2}"#,
    );
    let two_members = [gzip(&CSV.as_bytes()[..30]), gzip(&CSV.as_bytes()[30..])].concat();
    let strings = |values: [&str; 3]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let times: ArrayRef = Arc::new(Int64Array::from(vec![3, 1, 2]));
    let users = strings(["17850", "bob", "17850"]);
    let items = strings(["85123A", "a,b", "7"]);
    let files = [
        folder.file("a.csv", CSV),
        folder.file("b.CSV", format!("\u{feff}{crlf}")),
        folder.file("c.csv.gz", two_members),
        folder.file("d.csv.zst", zstd::encode_all(CSV.as_bytes(), 3).unwrap()),
        // What a file is compressed with is told by its content.
        folder.file("e.csv", gzip(CSV.as_bytes())),
        folder.file("f.jsonl", json),
        folder.file(
            "g.tsv",
            CSV.replace("a,b", "a;b")
                .replace(',', "\t")
                .replace("a;b", "a,b"),
        ),
        folder.parquet(
            "h.parquet",
            vec![("item", items), ("user", users), ("time", times)],
        ),
    ];
    for path in files {
        let (log, report) = read(&path, &settings(Some("time"))).unwrap();
        assert_eq!(triples(&log), PURCHASES, "{}", path.display());
        assert_eq!(log.users, ["17850", "bob"]);
        assert!(log.timed);
        assert_eq!((report.rows, report.skipped), (3, 0));
    }
}

#[test]
fn pairs_and_headerless_tables_are_read() {
    let pairs = read_text("a.txt", "  1\t2 \n\n3 4\r\n1 4", None).unwrap();
    assert_eq!(
        triples(&pairs),
        [("1", "2", 0), ("3", "4", 0), ("1", "4", 0)]
    );
    assert!(!pairs.timed);

    let [user, item, time] = ["0", "1", "3"].map(str::to_owned);
    let headerless = Interactions {
        format: Format::Csv(Csv {
            delimiter: '\t',
            header: false,
            ..Csv::default()
        }),
        columns: Columns {
            user,
            item,
            time: Some(time),
        },
        ..settings(None)
    };
    let folder = Folder::new();
    let path = folder.file("u.data", "196\t242\t3\t881250949\n");
    let (log, _) = read(&path, &headerless).unwrap();
    assert_eq!(triples(&log), [("196", "242", 881_250_949)]);
}

#[test]
fn several_files_are_one_log_and_progress_reaches_the_end() {
    let folder = Folder::new();
    let files = [
        folder.file("a.txt", "u 1\n"),
        folder.file("b.csv", "user,item\nu,2\nv,1\n"),
    ];
    let mut last = (0, 0);
    let (log, _) = source::read(
        &files,
        &settings(None),
        BadRows::Fail,
        &mut |read, total| {
            last = (read, total);
        },
    )
    .unwrap();
    assert_eq!(triples(&log), [("u", "1", 0), ("u", "2", 0), ("v", "1", 0)]);
    assert_eq!(last, (22, 22));
}

#[test]
fn parquet_columns_of_any_plain_type_are_ids_or_times() {
    let ids: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(UInt8Array::from(vec![255])), "255"),
        (Arc::new(Float64Array::from(vec![17850.0])), "17850"),
        (Arc::new(BinaryArray::from(vec![&b"a\xc3\xa9"[..]])), "aé"),
        (
            Arc::new(DictionaryArray::<Int32Type>::from_iter(["x"])),
            "x",
        ),
        (Arc::new(Date32Array::from(vec![1])), "1970-01-02T00:00:00Z"),
        (
            Arc::new(
                Decimal128Array::from(vec![1 << 70])
                    .with_precision_and_scale(38, 0)
                    .unwrap(),
            ),
            "1180591620717411303424",
        ),
    ];
    for (column, id) in ids {
        let folder = Folder::new();
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let path = folder.parquet("a.parquet", vec![("user", column), ("item", one)]);
        let (log, _) = read(&path, &settings(None)).unwrap();
        assert_eq!(triples(&log), [(id, "1", 0)]);
    }
    let times: Vec<(ArrayRef, i64)> = vec![
        (
            Arc::new(TimestampMillisecondArray::from(vec![1500])),
            1_500_000,
        ),
        (Arc::new(Date32Array::from(vec![1])), 86_400_000_000),
        (
            Arc::new(StringArray::from(vec!["1970-01-01 00:00:01"])),
            1_000_000,
        ),
        (Arc::new(Float64Array::from(vec![0.5])), 500_000),
    ];
    for (column, time) in times {
        let folder = Folder::new();
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let columns = vec![("user", Arc::clone(&one)), ("item", one), ("time", column)];
        let path = folder.parquet("a.parquet", columns);
        let (log, _) = read(&path, &settings(Some("time"))).unwrap();
        assert_eq!(triples(&log), [("1", "1", time)]);
    }
}

#[test]
fn a_bad_row_is_named_with_its_place() {
    let time = Some("time");
    for (name, text, time, expected) in [
        (
            "orders.csv",
            "user,item,time\n\na,b,1\nc,d,yesterday\n",
            time,
            "orders.csv: line 4, column \"time\": expected an integer, a float or ISO 8601, found \"yesterday\"; fix the row or pass --skip-bad-rows",
        ),
        (
            "orders.csv",
            "user,item,time\na,b,1\na,b,2011-12-09\n",
            time,
            "orders.csv: line 3, column \"time\": expected an integer like the times before it, found \"2011-12-09\"; fix the row or pass --skip-bad-rows",
        ),
        (
            "orders.csv",
            "user,item\n\"a\nb\",c\n,d\n",
            None,
            "orders.csv: line 2, column \"user\": expected an id, found \"a\\nb\" (a quote left open?); fix the row or pass --skip-bad-rows",
        ),
        (
            "orders.csv",
            "user,item\na\n",
            None,
            "orders.csv: line 2: expected 2 columns as in the first row, found 1; fix the row or pass --skip-bad-rows",
        ),
        (
            "orders.jsonl",
            "{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\": null}\n",
            None,
            "orders.jsonl: line 2, column \"item\": expected an id, found nothing; fix the row or pass --skip-bad-rows",
        ),
        (
            "orders.txt",
            "1 2\n1\n",
            None,
            "orders.txt: line 2: expected a user and an item separated by a blank, found \"1\"; fix the row or pass --skip-bad-rows",
        ),
    ] {
        assert_eq!(message(name, text, time), expected);
    }
    let not_utf8 = message("orders.csv", b"user,item\n\xff,1\n", None);
    assert!(
        not_utf8
            .contains("line 2, column \"user\": expected an id, found bytes that are not UTF-8")
    );

    let folder = Folder::new();
    let users: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let items: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let path = folder.parquet("a.parquet", vec![("user", users), ("item", items)]);
    let error = read(&path, &settings(None)).unwrap_err().to_string();
    assert!(
        error.contains("a.parquet: row 2, column \"user\": expected an id, found nothing"),
        "{error}"
    );
}

#[test]
fn bad_rows_can_be_skipped_and_leave_nothing_behind() {
    let folder = Folder::new();
    let path = folder.file(
        "a.csv",
        "user,item,time\na,b,1\nx,y,?\n,z,2\nq,,3\na,b\na,c,4\n,,\n,,\n,,\n",
    );
    let settings = settings(Some("time"));
    let (log, report) = source::read(&[path], &settings, BadRows::Skip, &mut |_, _| {}).unwrap();
    assert_eq!(triples(&log), [("a", "b", 1), ("a", "c", 4)]);
    assert_eq!((log.users.len(), log.items.len()), (1, 2));
    assert_eq!(
        (report.rows, report.skipped, report.first_skipped.len()),
        (9, 7, 5)
    );
    assert!(report.first_skipped[0].ends_with(
        "a.csv: line 3, column \"time\": expected an integer, a float or ISO 8601, found \"?\""
    ));
}

#[test]
fn a_missing_column_lists_what_there_is() {
    assert_eq!(
        message("orders.csv", "User_ID, item\na,b\n", None),
        "orders.csv: no column \"user\", did you mean \"User_ID\"?; the file has \"User_ID\", \"item\""
    );
    assert_eq!(
        message("orders.jsonl", "{\"user\": 1, \"sku\": 2}\n", None),
        "orders.jsonl: no column \"item\"; the file has \"sku\", \"user\""
    );
    assert_eq!(
        message("orders.csv", "", None),
        "orders.csv: no column \"user\"; the file has none, it is empty"
    );
}

#[test]
fn damaged_and_mistaken_files_are_one_error() {
    let (header, rows) = CSV.split_once('\n').unwrap();
    let packed = gzip(format!("{header}\n{}", rows.repeat(2000)).as_bytes());
    let cut = message("a.csv.gz", &packed[..packed.len() / 2], Some("time"));
    assert!(
        cut.starts_with("a.csv.gz: line ")
            && cut.ends_with("; the file is damaged or was cut short"),
        "{cut}"
    );
    let packed = zstd::encode_all(CSV.as_bytes(), 3).unwrap();
    let cut = message("a.csv.zst", &packed[..packed.len() - 4], Some("time"));
    assert!(cut.contains("damaged"), "{cut}");

    let folder = Folder::new();
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1; 100]));
    let path = folder.parquet("a.parquet", vec![("user", Arc::clone(&one)), ("item", one)]);
    let bytes = std::fs::read(path).unwrap();
    assert!(
        message("b.parquet", &bytes[..bytes.len() - 20], None)
            .starts_with("b.parquet: not a readable Parquet file: ")
    );
    assert!(
        message("b.parquet", "user,item\n", None)
            .starts_with("b.parquet: not a readable Parquet file: ")
    );
    assert!(message("b.csv", &bytes, None).contains("expected text, found a Parquet file"));
    assert!(
        message("b.xlsx", "", None)
            .contains("found .xlsx; rename the file, or say what it is in data.format")
    );
    let gone = read(Path::new("/nowhere/a.csv"), &settings(None))
        .unwrap_err()
        .to_string();
    assert!(gone.starts_with("/nowhere/a.csv: No such file"), "{gone}");
}

#[test]
fn a_parquet_column_of_lists_is_refused_by_type() {
    let folder = Folder::new();
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
        Some(1),
    ])]));
    assert_eq!(lists.len(), 1);
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let path = folder.parquet("a.parquet", vec![("user", lists), ("item", one)]);
    let error = read(&path, &settings(None)).unwrap_err().to_string();
    assert!(error.contains("expected numbers, strings, dates or timestamps in column \"user\", found the type List("), "{error}");
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let endless = gzip(&vec![b'x'; 64 << 20]);
    for name in ["a.txt", "a.jsonl", "a.csv"] {
        let error = message(name, &endless, None);
        assert!(
            error.contains("a record of more than 16 MiB"),
            "{name}: {error}"
        );
    }
}

/// Three users who bought early and one who came late; the lamp is rare.
fn shop(folder: &Folder) -> Interactions {
    let log = "user,item,time\nann,cup,1\nann,pot,2\nann,lamp,3\nbob,pot,2\nbob,cup,4\nann,cup,9\nbob,pot,8\nbob,cup,10\ncyd,cup,9\n";
    let names = "item,name\ncup,Blue cup\npot,\n";
    Interactions {
        files: vec![folder.file("log.csv", log)],
        titles: Some(Titles {
            file: folder.file("names.csv", names),
            item: "item".into(),
            title: "name".into(),
        }),
        min_user_events: 2,
        min_item_events: 2,
        ..settings(Some("time"))
    }
}

fn prepare(settings: &Interactions) -> Result<Dataset, Error> {
    dataset::prepare(settings, &[], BadRows::Fail, &mut |_, _| {})
}

#[test]
fn files_become_a_data_set() {
    let folder = Folder::new();
    let data = prepare(&shop(&folder)).unwrap();
    assert_eq!(data.user_ids, ["ann", "bob"]);
    let vocabulary = &data.vocabulary;
    assert_eq!(
        (vocabulary.id(0), vocabulary.id(1), vocabulary.len()),
        ("cup", "pot", 2)
    );
    assert_eq!(
        (vocabulary.title(0), vocabulary.title(1)),
        (Some("Blue cup"), None)
    );
    // ann: cup pot cup, bob: pot cup pot cup; the last two of each are held out.
    assert_eq!(
        data.split.train.iter().collect::<Vec<_>>(),
        [&[0][..], &[1, 0]]
    );
    assert_eq!(vocabulary.counts(), [2, 1]);
    assert_eq!((data.split.test.len(), data.split.validation.len()), (2, 2));
    let stats = data.stats;
    assert_eq!(
        (stats.events_read, stats.users_read, stats.items_read),
        (9, 3, 3)
    );
    assert_eq!((stats.events, stats.users, stats.items), (7, 2, 2));
    assert_eq!(
        (stats.titled_items, stats.rounds, data.report.rows),
        (1, 1, 9)
    );
}

#[test]
fn the_fingerprint_tells_data_apart_and_nothing_else() {
    let folder = Folder::new();
    let shop = shop(&folder);
    let data = prepare(&shop).unwrap();
    // Another split of the same events.
    let split = Split::Time(TimeSplit {
        validation_share: 0.2,
        test_share: 0.2,
    });
    let same = prepare(&Interactions {
        split,
        titles: None,
        ..shop.clone()
    })
    .unwrap();
    assert_eq!(data.fingerprint, same.fingerprint);
    let other = Interactions {
        min_user_events: 1,
        ..shop
    };
    assert_ne!(data.fingerprint, prepare(&other).unwrap().fingerprint);
    // A hash that changes between versions would make every stored one worthless.
    assert_eq!(data.fingerprint, 9_131_435_243_660_474_299);
}

#[test]
fn nothing_to_train_on_is_an_error_that_says_why() {
    let folder = Folder::new();
    let strict = Interactions {
        min_user_events: 50,
        ..shop(&folder)
    };
    assert_eq!(
        prepare(&strict).unwrap_err().to_string(),
        "no events left of 9 rows read (0 of them skipped as bad); lower data.min_user_events or data.min_item_events, now 50 and 2"
    );
    let none = Interactions {
        files: Vec::new(),
        ..shop(&folder)
    };
    assert!(
        prepare(&none)
            .unwrap_err()
            .to_string()
            .ends_with("pass --data FILE")
    );
}
