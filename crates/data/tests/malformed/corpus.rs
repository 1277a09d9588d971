//! Small valid files of every format, to be damaged.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::parser::Parser;

/// Valid input of `parser`, in several ways of writing it.
pub fn corpus(parser: Parser) -> Vec<Vec<u8>> {
    let plain: Vec<&str> = match parser {
        Parser::Csv => vec![
            "user,item,time\nann,cup,1\nbob,pot,2\nann,lamp,3\n",
            "\u{feff}price,time,item,user\r\n1.5,2011-12-09 12:50:00,\"cup, \"\"blue\"\"\",17850\r\n,2011-12-10,pot,17851\r\n",
            "item,user,time\n\"line\nbreak\",ä,1.5\n7,8,1e9\n",
        ],
        Parser::Jsonl => vec![
            "{\"user\": 1, \"item\": \"85123A\", \"time\": 1291191960}\n{\"item\": 2.0, \"user\": \"b\\u00e4\", \"time\": 1291191961, \"x\": [1, {\"y\": null}]}\n",
            "{\"time\":\"2011-12-09T12:50:00Z\",\"user\":18446744073709551615,\"item\":-1}\r\n\r\n{\"user\":true,\"item\":[],\"time\":{}}",
        ],
        Parser::Pairs => vec!["1 1193\n1 661\n2 1357\n", "  ann\tcup \r\n\r\nbob pot"],
        Parser::Titles => vec![
            "item,title\ncup,Blue cup\npot,\n",
            "title,item\r\n\"Lamp, \"\"red\"\"\",7\r\n",
        ],
        Parser::Histories => vec![
            "{\"user\": \"ann\", \"items\": [\"cup\", 7, \"pot\"]}\n{\"items\": []}\n",
            "{\"items\":[\"\\u0063up\",7.0,\"x\"],\"user\":17850,\"page\":{\"a\":[[[]]]}}\r\n",
        ],
        Parser::TextsCsv => vec![
            "id,text\n1,a cup\n2,\"a \"\"blue\"\" pot\"\n",
            "\u{feff}text,x,id\r\n\"two\r\nlines\",,ä\r\n,1,7\r\n",
        ],
        Parser::TextsJsonl => vec![
            "{\"id\": 1, \"text\": \"a \\\"blue\\\" cup\"}\n{\"text\": 2.5, \"id\": \"b\\u00e4\"}\n",
            "{\"text\":\"\",\"x\":[{}],\"id\":-1}\r\n\r\n{\"id\":\"z\",\"text\":\"\\ud83d\\ude00\"}",
        ],
        Parser::Times => vec![
            "1291191960",
            "-1.5e9",
            "2011-12-09",
            "2011-12-09 12:50:00.123456",
            "2011-12-09T12:50:00+05:30",
            "2011-12-09T12:50Z",
            "+002011-12-09T12:50:00-00:00[UTC]",
        ],
        Parser::Parquet => return tables(["user", "item", "time"]),
        Parser::ItemsParquet => return vocabularies(),
    };
    let mut files: Vec<Vec<u8>> = plain
        .into_iter()
        .map(|text| text.as_bytes().into())
        .collect();
    if parser != Parser::Times {
        for index in 0..files.len() {
            files.push(gzip(&files[index]));
            files.push(zstd::encode_all(&files[index][..], 3).unwrap());
        }
    }
    files
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn table(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn tables(names: [&str; 3]) -> Vec<Vec<u8>> {
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![17850, 8, 7, 7]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["cup", "pot", "cup", "lamp"]));
    let moments: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3, 4]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], b"b", b"\xff", b""]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(1.0),
        Some(f64::NAN),
        None,
        Some(0.5),
    ]));
    let wide = Decimal128Array::from(vec![1, 1 << 70, -1, 0]).with_precision_and_scale(38, 0);
    let wide: ArrayRef = Arc::new(wide.unwrap());
    let kinds = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ];
    let mut files = Vec::new();
    for (index, compression) in kinds.into_iter().enumerate() {
        let old = index % 2 == 0;
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(if old {
                WriterVersion::PARQUET_1_0
            } else {
                WriterVersion::PARQUET_2_0
            })
            .set_dictionary_enabled(index % 3 != 0)
            .set_max_row_group_row_count(Some(3))
            .build();
        let columns = if old {
            [&ids, &texts, &moments]
        } else {
            [&bytes, &wide, &floats]
        };
        let columns = names.into_iter().zip(columns.map(Arc::clone)).collect();
        files.push(table(columns, properties));
    }
    files
}

fn vocabularies() -> Vec<Vec<u8>> {
    let columns = || -> Vec<(&str, ArrayRef)> {
        vec![
            ("id", Arc::new(StringArray::from(vec!["85123A", "7", "ä"]))),
            (
                "title",
                Arc::new(StringArray::from(vec![Some("Blue cup"), None, Some("")])),
            ),
            ("count", Arc::new(UInt64Array::from(vec![5, 0, u64::MAX]))),
        ]
    };
    let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    vec![
        table(columns(), zstd.build()),
        table(columns(), WriterProperties::builder().build()),
    ]
}
