//! The parsers that take whatever users have.

use std::path::{Path, PathBuf};

use cloze_data::annotation::{Conll, Scheme, Squad};
use cloze_data::records::{self, Input};
use cloze_data::source::{self, BadRows, time};
use cloze_data::text::{Limit, Long, Tokenizer};
use cloze_data::{ItemVocabulary, read_histories, titles};
use cloze_spec::data::{Columns, Duplicates, Format, Interactions, LeaveOneOut, Split, Titles};

/// A parser of outside bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// Event logs as delimited text.
    Csv,
    /// Event logs as JSON Lines.
    Jsonl,
    /// Event logs as Parquet.
    Parquet,
    /// Event logs as pairs.
    Pairs,
    /// Tables of titles.
    Titles,
    /// Vocabularies of model folders.
    ItemsParquet,
    /// Histories to predict from.
    Histories,
    /// Texts as delimited text.
    TextsCsv,
    /// Texts as JSON Lines.
    TextsJsonl,
    /// Single times.
    Times,
    /// Tokenizers of model folders.
    TokenizerJson,
    /// Vocabularies of word pieces.
    WordPieces,
    /// Vocabularies and merges of byte-pair encoding, in one file with [`CUT`] between them.
    BytePairs,
    /// Settings of tokenizers.
    TokenizerConfig,
    /// Words with tags.
    Conll,
    /// Questions with answers.
    Squad,
}

/// What stands between files that are damaged together.
pub const CUT: &str = "\n====\n";

/// All of them.
pub const PARSERS: [Parser; 16] = [
    Parser::Csv,
    Parser::Jsonl,
    Parser::Parquet,
    Parser::Pairs,
    Parser::Titles,
    Parser::ItemsParquet,
    Parser::Histories,
    Parser::TextsCsv,
    Parser::TextsJsonl,
    Parser::Times,
    Parser::TokenizerJson,
    Parser::WordPieces,
    Parser::BytePairs,
    Parser::TokenizerConfig,
    Parser::Conll,
    Parser::Squad,
];

impl Parser {
    /// The name of its fuzz target.
    pub fn name(self) -> &'static str {
        match self {
            Parser::Csv => "csv",
            Parser::Jsonl => "jsonl",
            Parser::Parquet => "parquet",
            Parser::Pairs => "pairs",
            Parser::Titles => "titles",
            Parser::ItemsParquet => "items_parquet",
            Parser::Histories => "histories",
            Parser::TextsCsv => "texts_csv",
            Parser::TextsJsonl => "texts_jsonl",
            Parser::Times => "times",
            Parser::TokenizerJson => "tokenizer_json",
            Parser::WordPieces => "word_pieces",
            Parser::BytePairs => "byte_pairs",
            Parser::TokenizerConfig => "tokenizer_config",
            Parser::Conll => "conll",
            Parser::Squad => "squad",
        }
    }

    /// Parses `bytes` by way of a file in `folder`; whether they were accepted.
    ///
    /// # Panics
    /// If the parser does, or what it accepts is not what it promises.
    pub fn run(self, bytes: &[u8], folder: &Path) -> bool {
        let format = match self {
            Parser::Csv => Format::Csv(cloze_spec::data::Csv::default()),
            Parser::Jsonl => Format::Jsonl,
            Parser::Parquet => Format::Parquet,
            Parser::Pairs => Format::Pairs,
            Parser::Titles => return read_titles(bytes, folder),
            Parser::ItemsParquet => return read_vocabulary(bytes, folder),
            Parser::Histories => return read_lines(bytes, folder),
            Parser::TextsCsv => {
                let csv = cloze_spec::data::Csv::default();
                return read_texts(&records::Format::Csv(csv), bytes, folder);
            }
            Parser::TextsJsonl => return read_texts(&records::Format::Jsonl, bytes, folder),
            Parser::TokenizerJson => return open_tokenizer(&[("tokenizer.json", bytes)], folder),
            Parser::WordPieces => return open_tokenizer(&[("vocab.txt", bytes)], folder),
            Parser::BytePairs => {
                let cut = CUT.as_bytes();
                let at = bytes.windows(cut.len()).position(|window| window == cut);
                let Some(at) = at else { return false };
                let files = [
                    ("vocab.json", &bytes[..at]),
                    ("merges.txt", &bytes[at + cut.len()..]),
                ];
                return open_tokenizer(&files, folder);
            }
            Parser::TokenizerConfig => {
                let words = crate::corpus::WORD_PIECES.as_bytes();
                let files = [("vocab.txt", words), ("tokenizer_config.json", bytes)];
                return open_tokenizer(&files, folder);
            }
            Parser::Conll => return read_sentences(bytes, folder),
            Parser::Squad => return read_questions(bytes, folder),
            Parser::Times => {
                return str::from_utf8(bytes).is_ok_and(|text| time::parse(text).is_some());
            }
        };
        let file = write(folder, self.name(), bytes);
        let settings = Interactions {
            files: vec![file],
            titles: None,
            format,
            columns: Columns {
                time: Some("time".into()),
                ..Columns::default()
            },
            min_user_events: 1,
            min_item_events: 1,
            duplicates: Duplicates::Keep,
            split: Split::LeaveOneOut(LeaveOneOut::default()),
        };
        let mut results = [BadRows::Fail, BadRows::Skip].map(|bad_rows| {
            source::read(&settings.files, &settings, bad_rows, &mut |_, _| {}).ok()
        });
        if let Some((log, report)) = &results[1] {
            assert_eq!(log.events.len() as u64, report.rows - report.skipped);
            for event in &log.events {
                let ids = [
                    &log.users[event.user as usize],
                    &log.items[event.item as usize],
                ];
                assert!(ids.iter().all(|id| !id.trim().is_empty()));
            }
        }
        let strict = results[0].take();
        if strict.is_some() {
            assert_eq!(
                strict, results[1],
                "without bad rows nothing is to be skipped"
            );
        }
        strict.is_some()
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.join(name);
    // Some file systems flush a file that is overwritten, which takes longer than all the rest.
    if file.exists() {
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, bytes).unwrap();
    file
}

fn read_titles(bytes: &[u8], folder: &Path) -> bool {
    let file = write(folder, "titles.csv", bytes);
    let settings = Titles {
        file,
        item: "item".into(),
        title: "title".into(),
    };
    match titles::read(&settings, BadRows::Skip) {
        Ok((titles, report)) => {
            assert!(titles.len() as u64 <= report.rows);
            assert!(
                titles
                    .iter()
                    .all(|(id, title)| !id.is_empty() && !title.is_empty())
            );
            true
        }
        Err(_) => false,
    }
}

fn read_vocabulary(bytes: &[u8], folder: &Path) -> bool {
    let file = write(folder, "items.parquet", bytes);
    match ItemVocabulary::read(&file) {
        Ok(vocabulary) => {
            for token in 0..vocabulary.len() as u32 {
                assert_eq!(vocabulary.index(vocabulary.id(token)), Some(token));
            }
            true
        }
        Err(_) => false,
    }
}

fn read_lines(bytes: &[u8], folder: &Path) -> bool {
    let file = write(folder, "histories.jsonl", bytes);
    let ids = ["cup", "7"].map(str::to_owned).to_vec();
    let vocabulary = ItemVocabulary::new(ids, vec![None; 2], vec![1; 2]);
    let columns = Columns::default();
    let Ok(mut histories) =
        read_histories(&file, &vocabulary, &Format::Auto, &columns, BadRows::Skip)
    else {
        return false;
    };
    let read: Vec<_> = histories.by_ref().collect();
    let accepted = read.iter().all(Result::is_ok);
    let kept = histories.report().rows - histories.report().skipped;
    assert_eq!(read.iter().flatten().count() as u64, kept);
    assert!(
        read.iter()
            .flatten()
            .flat_map(|history| &history.items)
            .all(|&token| token < 2)
    );
    accepted
}

fn read_texts(format: &records::Format, bytes: &[u8], folder: &Path) -> bool {
    let input = |bad_rows| Input {
        format: format.clone(),
        id: Some("id".to_owned()),
        bad_rows,
        ..Input::new(folder.join("texts"))
    };
    write(folder, "texts", bytes);
    let [strict, lenient] = [BadRows::Fail, BadRows::Skip].map(|bad_rows| {
        let mut reading = input(bad_rows).read(0);
        let chunks: Result<Vec<_>, _> = reading.by_ref().collect();
        let texts = chunks.ok()?.concat();
        let report = reading.report()?.clone();
        assert_eq!(texts.len() as u64, report.rows - report.skipped);
        assert!(
            texts
                .iter()
                .all(|text| text.id.is_some() && text.texts.len() == 1)
        );
        Some(texts)
    });
    if strict.is_some() {
        assert_eq!(strict, lenient, "without bad rows nothing is to be skipped");
    }
    strict.is_some()
}

fn read_sentences(bytes: &[u8], folder: &Path) -> bool {
    let path = write(folder, "words.conll", bytes);
    let universal = read_words(&Conll::universal(&path, 3));
    read_words(&Conll::new(&path)) || universal
}

fn read_words(conll: &Conll) -> bool {
    let [strict, lenient] = [BadRows::Fail, BadRows::Skip].map(|bad_rows| {
        let conll = Conll {
            bad_rows,
            ..conll.clone()
        };
        let mut reading = conll.read().ok()?;
        let sentences: Vec<_> = reading.by_ref().collect::<Result<_, _>>().ok()?;
        let report = reading.report();
        assert_eq!(sentences.len() as u64, report.rows - report.skipped);
        for sentence in &sentences {
            assert!(!sentence.words.is_empty());
            // Asserts that the stretches are in order and within the sentence.
            Scheme::Bioes.tags(sentence.words.len(), &sentence.spans);
            if reading.scheme() == Some(Scheme::Words) {
                assert_eq!(sentence.spans.len(), sentence.words.len());
            }
        }
        Some(sentences)
    });
    if strict.is_some() {
        assert_eq!(strict, lenient, "without bad rows nothing is to be skipped");
    }
    strict.is_some()
}

fn read_questions(bytes: &[u8], folder: &Path) -> bool {
    let path = write(folder, "squad.json", bytes);
    let [strict, lenient] = [BadRows::Fail, BadRows::Skip].map(|bad_rows| {
        let path = path.clone();
        let (questions, report) = Squad { path, bad_rows }.read().ok()?;
        assert_eq!(questions.len() as u64, report.rows - report.skipped);
        for question in &questions {
            for answer in &question.answers {
                let chars = answer.chars.start as usize..answer.chars.end as usize;
                let there = question.context.chars().skip(chars.start).take(chars.len());
                assert!(there.eq(answer.text.chars()));
            }
        }
        Some(questions)
    });
    if strict.is_some() {
        assert_eq!(strict, lenient, "without bad rows nothing is to be skipped");
    }
    strict.is_some()
}

/// What every kind of tokenizer has to say something to.
const TEXT: &str =
    "The  caf\u{e9} \u{130} \u{8336}\u{1f375} [MASK]<mask> unbelievably\r\n\0 e\u{301}";

fn open_tokenizer(files: &[(&str, &[u8])], folder: &Path) -> bool {
    let folder = folder.join("model");
    std::fs::create_dir_all(&folder).unwrap();
    for name in [
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
    ] {
        let old = folder.join(name);
        if old.exists() {
            std::fs::remove_file(old).unwrap();
        }
    }
    for (name, bytes) in files {
        write(&folder, name, bytes);
    }
    let Ok(tokenizer) = Tokenizer::open(&folder) else {
        return false;
    };
    let long = Long::Chunk {
        overlap: 2,
        whole_words: true,
    };
    for (input, max_len) in [
        (TEXT.into(), 1000),
        (TEXT.into(), 8),
        ((TEXT, TEXT).into(), 100),
    ] {
        let Ok(windows) = tokenizer.encode(input, Limit { max_len, long }) else {
            continue;
        };
        for window in windows {
            let n = window.ids.len();
            assert!(n <= max_len && window.body().end <= n);
            let lens = [
                window.segments.len(),
                window.offsets.len(),
                window.words.len(),
            ];
            assert_eq!((lens, window.is_special.len()), ([n; 3], n));
        }
    }
    true
}
