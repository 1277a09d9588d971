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

use crate::parser::{CUT, Parser};

/// A vocabulary of word pieces.
pub const WORD_PIECES: &str =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncafe\nun\n##believ\n##ably\n茶\n";

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
        Parser::TokenizerJson => return tokenizers(),
        Parser::WordPieces => {
            let words = WORD_PIECES.as_bytes();
            return vec![words.into(), [words, b"##s\r\nend"].concat()];
        }
        Parser::BytePairs => {
            let words = r#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "t": 5, "h": 6, "e": 7, "th": 8, "the": 9, "Ġ": 10}"#;
            let merges = "#version: 0.2\nt h\nth e\n";
            return vec![[words, CUT, merges].concat().into()];
        }
        Parser::TokenizerConfig => {
            let old = r#"{"do_lower_case": true, "unk_token": "[UNK]", "mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": true, "normalized": false, "rstrip": false, "single_word": false}, "tokenize_chinese_chars": true, "strip_accents": null, "tokenizer_class": "BertTokenizer", "model_max_length": 512}"#;
            let new = r#"{"added_tokens_decoder": {"0": {"content": "[PAD]", "special": true}, "2": {"content": "[CLS]", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true}, "11": {"content": "teapot", "special": false}}, "model_max_length": 1e30, "truncation_side": "left", "tokenizer_class": "DistilBertTokenizerFast"}"#;
            return vec![old.into(), new.into()];
        }
        Parser::Conll => vec![
            "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP B-PER\nBlackburn NNP I-NP I-PER\n",
            "# text = a\ttea\r\n1\ta\tO\r\n2\tgreen tea\tS-X\r\n\t\r\n1\tt\u{e4}\tB-X\r\n2\tu\tE-X\r\n",
            "a I-X\nb I-X\nc B-X\n\n\nd O",
            "one\ntwo\n\nthree\n",
            "# sent_id = 1\n1-2\tvámto\t_\t_\n1\tvám\t_\tPRON\n2\tto\t_\tDET\n2.1\tdal\t_\tVERB\n\n1\tI\t_\tI\n",
        ],
        Parser::Squad => vec![
            r#"{"version":"1.1","data":[{"title":"T","paragraphs":[{"context":"A cup\u00e9 of t\u00e4a","qas":[{"id":"q1","question":"What would anybody who has had enough of coffee, wine and water for a day or two ask for in a house where the fire is lit, the rain is at the window, and a kettle stands on the table beside a plate of biscuits?","answers":[{"text":"cup\u00e9","answer_start":2},{"answer_start":"10","text":"t\u00e4a"}]}]}]}]}"#,
            "\u{feff}{\"data\": [{\"paragraphs\": [{\"context\": \"tea\", \"qas\": [{\"id\": 7, \"question\": \"?\", \"answers\": [], \"is_impossible\": true}, {\"id\": 8.5, \"question\": \"\", \"is_impossible\": false, \"answers\": [{\"text\": \"tea\", \"answer_start\": 0}]}]}]}]}",
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

/// Every kind of normalizer, splitter, model and post-processing, if not in every combination.
fn tokenizers() -> Vec<Vec<u8>> {
    let replace = |from: &str| format!(r#"{{"type":"Replace","pattern":{from},"content":"_"}}"#);
    let [plain, regex] = [r#"{"String":" "}"#, r#"{"Regex":" {2,}|(?=[a-c])"}"#].map(replace);
    let bert = r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#;
    let many = format!(
        r#"{{"type":"Sequence","normalizers":[{{"type":"NFKC"}},{{"type":"Prepend","prepend":"_"}},{plain},{regex},{{"type":"Strip","strip_left":true,"strip_right":false}},{{"type":"StripAccents"}},{{"type":"Lowercase"}}]}}"#
    );
    let metaspace =
        r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#;
    let split = r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[0-9]{1,3}"},"behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]}"#;
    let plain_split = r#"{"type":"Sequence","pretokenizers":[{"type":"Whitespace"},{"type":"Punctuation","behavior":"Isolated"},{"type":"UnicodeScripts"}]}"#;
    let template = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}}}"#;
    let roberta = r#"{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],"trim_offsets":true,"add_prefix_space":false}"#;
    let bert_frame = r#"{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}"#;
    let words = r###"{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":1,"[CLS]":2,"[SEP]":3,"the":4,"un":5,"##believ":6,"##ably":7}}"###;
    let pairs = r#"{"type":"BPE","dropout":0.1,"unk_token":"<unk>","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":true,"vocab":{"<s>":0,"<unk>":1,"</s>":2,"t":3,"h":4,"th":5,"Ġ":6,"<0xC3>":7},"merges":[["t","h"]]}"#;
    let unigram = r#"{"type":"Unigram","unk_id":1,"vocab":[["<s>",0.0],["<unk>",0.0],["▁the",-2.5],["▁",-3.0],["t",-4.0],["e",-4.5]],"byte_fallback":false}"#;
    let level = r#"{"type":"WordLevel","vocab":{"[UNK]":0,"The":1},"unk_token":"[UNK]"}"#;
    let added = r#"[{"id":9,"content":"[MASK]","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":true}]"#;
    let length = r#"{"direction":"Right","max_length":128,"strategy":"LongestFirst","stride":0}"#;
    [
        [bert, r#"{"type":"BertPreTokenizer"}"#, template, words, length],
        [&many, split, roberta, pairs, "null"],
        ["null", metaspace, template, unigram, length],
        ["null", plain_split, bert_frame, level, "null"],
    ]
    .map(|[normalizer, splitter, frame, model, truncation]| {
        format!(
            r#"{{"version":"1.0","truncation":{truncation},"padding":null,"added_tokens":{added},"normalizer":{normalizer},"pre_tokenizer":{splitter},"post_processor":{frame},"decoder":null,"model":{model}}}"#
        )
        .into()
    })
    .to_vec()
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
