//! Tokenizers trained on texts: the same every time, the same in Python, and what their settings say.
//!
//! `tests/golden/trained` is made by `tools/golden/trained.py`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_data::text::train::{Counts, Language, Model, Settings, Trained, Trainer, Unify};
use cloze_data::text::{Encoding, Input, Limit, Long, Report, Tokenizer};
use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

const WHOLE: Limit = Limit {
    max_len: usize::MAX,
    long: Long::Error,
};
const MODELS: [Model; 4] = [
    Model::WordPiece,
    Model::BytePairs,
    Model::WordLevel,
    Model::Unigram,
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/trained")
        .join(name)
}

fn texts(language: &str) -> Vec<String> {
    let text = fs::read_to_string(golden("texts").join(language).with_extension("txt")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn settings(model: Model, vocabulary_len: usize) -> Settings {
    Settings {
        model,
        vocabulary_len,
        ..Settings::default()
    }
}

fn train(settings: &Settings, texts: &[String]) -> Result<Trained, cloze_data::Error> {
    let trainer = Trainer::new(settings.clone())?;
    trainer.train(&trainer.count(texts)?, &mut |_| ())
}

/// A folder's files by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries
        .map(|path| (name(&path), fs::read_to_string(path).unwrap()))
        .collect()
}

fn written(trained: &Trained) -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("tokenizer");
    trained.write(&folder).unwrap();
    files(&folder)
}

fn open(trained: &Trained) -> Tokenizer {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("tokenizer");
    trained.write(&folder).unwrap();
    Tokenizer::open(&folder).unwrap()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Encoding {
    tokenizer.encode(text.into(), WHOLE).unwrap().remove(0)
}

/// The tokens of `text` without special ones, as they are spelled.
fn spelled(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let encoding = encode(tokenizer, text);
    let ids = &encoding.ids[encoding.first];
    ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect()
}

/// The texts and settings of each folder among the golden ones.
fn folders() -> Vec<(&'static str, &'static str, Settings)> {
    let of = |model, vocabulary_len, language, lowercase| Settings {
        language,
        lowercase,
        ..settings(model, vocabulary_len)
    };
    let unify = Unify {
        alef: true,
        ya: true,
        ta_marbuta: true,
    };
    let (arabic, turkish) = (Some(Language::Arabic(unify)), Some(Language::Turkish));
    let mut drug = of(Model::BytePairs, 330, None, false);
    drug.specials = vec!["[DRUG]".into()];
    vec![
        (
            "wordpiece",
            "english",
            of(Model::WordPiece, 130, None, true),
        ),
        (
            "wordpiece-turkish",
            "turkish",
            of(Model::WordPiece, 120, turkish, true),
        ),
        (
            "wordpiece-arabic",
            "arabic",
            of(Model::WordPiece, 105, arabic, false),
        ),
        (
            "wordpiece-japanese",
            "japanese",
            of(Model::WordPiece, 115, Some(Language::Japanese), false),
        ),
        ("byte-pairs", "english", drug),
        (
            "byte-pairs-turkish",
            "turkish",
            of(Model::BytePairs, 300, turkish, true),
        ),
        ("unigram", "english", of(Model::Unigram, 95, None, false)),
        (
            "unigram-serbian",
            "serbian",
            of(Model::Unigram, 95, Some(Language::Serbian), false),
        ),
    ]
}

#[derive(Deserialize)]
struct Case {
    folder: String,
    texts: Vec<String>,
    ids: Vec<u32>,
    segments: Vec<u32>,
    offsets: Vec<(u32, u32)>,
}

#[test]
fn tokens_are_those_of_the_python_packages() {
    let tokens = fs::read_to_string(golden("tokens.jsonl")).unwrap();
    let mut tokenizers = BTreeMap::new();
    for case in tokens.lines() {
        let case: Case = serde_json::from_str(case).unwrap();
        let open = || Tokenizer::open(&golden(&case.folder)).unwrap();
        let tokenizer = tokenizers.entry(case.folder.clone()).or_insert_with(open);
        let input = Input {
            first: &case.texts[0],
            second: case.texts.get(1).map(String::as_str),
            prompt: None,
        };
        let found = tokenizer.encode(input, WHOLE).unwrap().remove(0);
        let place = format!("{} {:?}", case.folder, case.texts);
        assert_eq!(found.ids, case.ids, "{place}");
        assert_eq!(found.segments, case.segments, "{place}");
        assert_eq!(found.offsets, case.offsets, "{place}");
    }
    assert_eq!(tokenizers.len(), folders().len());
}

#[test]
fn training_again_writes_the_same_bytes_on_any_number_of_threads() {
    for (name, language, settings) in folders() {
        let expected = files(&golden(name));
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let trained = pool.install(|| train(&settings, &texts(language))).unwrap();
            assert_eq!(written(&trained), expected, "{name}, {threads} threads");
        }
        let mut other_way = texts(language);
        other_way.reverse();
        assert_eq!(
            written(&train(&settings, &other_way).unwrap()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn merges_of_bytes_are_those_of_the_python_package() {
    let expected = fs::read_to_string(golden("byte-pairs-merges.txt")).unwrap();
    let found = fs::read_to_string(golden("byte-pairs/merges.txt")).unwrap();
    assert_eq!(found.split_once('\n').unwrap().1, expected);
}

#[test]
fn turkish_capitals_become_their_own_small_letters() {
    let tokenizer = Tokenizer::open(&golden("wordpiece-turkish")).unwrap();
    for (capital, small) in [
        ("IĞDIR İSTANBUL", "ığdır istanbul"),
        ("I\u{307}ZMİR", "izmir"),
    ] {
        assert_eq!(spelled(&tokenizer, capital), spelled(&tokenizer, small));
        assert!(
            !encode(&tokenizer, capital)
                .ids
                .contains(&tokenizer.unknown().unwrap())
        );
    }
    let plain = train(
        &Settings {
            lowercase: true,
            ..settings(Model::WordPiece, 160)
        },
        &texts("turkish"),
    );
    let plain = open(&plain.unwrap());
    assert_ne!(spelled(&plain, "IRMAK"), spelled(&plain, "ırmak"));
}

#[test]
fn arabic_letters_lose_marks_and_become_one_where_asked() {
    let unified = Tokenizer::open(&golden("wordpiece-arabic")).unwrap();
    assert_eq!(
        spelled(&unified, "كَتَبَتِ الشـــاي"),
        spelled(&unified, "كتبت الشاي")
    );
    assert_eq!(
        spelled(&unified, "أين إلى القهوة"),
        spelled(&unified, "اين الي القهوه")
    );
    let plain = Settings {
        language: Some(Language::Arabic(Unify::default())),
        ..settings(Model::WordPiece, 160)
    };
    let plain = open(&train(&plain, &texts("arabic")).unwrap());
    assert_eq!(spelled(&plain, "كَتَبَتِ"), spelled(&plain, "كتبت"));
    assert_ne!(spelled(&plain, "أين"), spelled(&plain, "اين"));
}

#[test]
fn serbian_is_the_same_in_both_scripts() {
    let tokenizer = Tokenizer::open(&golden("unigram-serbian")).unwrap();
    let alphabet = "АБВГДЂЕЖЗИЈКЛЉМНЊОПРСТЋУФХЦЧЏШ абвгдђежзијклљмнњопрстћуфхцчџш";
    let latin = "ABVGDĐEŽZIJKLLJMNNJOPRSTĆUFHCČDŽŠ abvgdđežzijklljmnnjoprstćufhcčdžš";
    for (cyrillic, latin) in [
        (alphabet, latin),
        ("Љубица и Његош", "Ljubica i Njegoš"),
        ("ЉУБЉАНА, ЊЕГОШ, КРАЉ", "LJUBLJANA, NJEGOŠ, KRALJ"),
        ("Џем, ЏЕМ, џем", "Džem, DŽEM, džem"),
    ] {
        assert_eq!(spelled(&tokenizer, cyrillic), spelled(&tokenizer, latin));
    }
    // Offsets are of the text as it was given.
    let encoding = encode(&tokenizer, "у Љубљани");
    assert_eq!(
        encoding.offsets[encoding.first]
            .iter()
            .map(|span| span.1)
            .max(),
        Some(9)
    );
}

#[test]
fn japanese_is_split_by_script_or_by_character() {
    let runs = Tokenizer::open(&golden("wordpiece-japanese")).unwrap();
    let encoding = encode(&runs, "古い手紙とコーヒー");
    let words = encoding.words[encoding.first].iter().flatten().max();
    assert_eq!(words, Some(&4), "古 い 手紙 と コーヒー");
    let characters = Settings {
        language: Some(Language::JapaneseCharacters),
        ..settings(Model::WordPiece, 250)
    };
    let characters = open(&train(&characters, &texts("japanese")).unwrap());
    assert_eq!(spelled(&characters, "手紙をＡ"), ["手", "紙", "を", "A"]);
}

#[test]
fn a_weight_counts_texts_as_repetition_does() {
    for model in MODELS {
        let settings = settings(model, 340);
        let trainer = Trainer::new(settings.clone()).unwrap();
        let (general, domain) = (texts("english"), texts("turkish"));
        let mut counts = trainer.count(&general).unwrap();
        counts.add(trainer.count(&domain).unwrap(), 3);
        let weighted = trainer.train(&counts, &mut |_| ()).unwrap();
        let repeated = [general, domain.clone(), domain.clone(), domain].concat();
        let repeated = train(&settings, &repeated).unwrap();
        assert_eq!(written(&weighted), written(&repeated), "{model:?}");
    }
}

#[test]
fn texts_that_weigh_more_are_kept_whole_more_often() {
    let settings = settings(Model::WordPiece, 200);
    let trainer = Trainer::new(settings).unwrap();
    let whole = |times| {
        let mut counts = trainer.count(&texts("english")).unwrap();
        counts.add(trainer.count(&texts("turkish")).unwrap(), times);
        let mut report = Report::default();
        let tokenizer = open(&trainer.train(&counts, &mut |_| ()).unwrap());
        report.add(&tokenizer, &texts("turkish")).unwrap();
        report.whole()
    };
    assert!(whole(20) > whole(1));
}

#[test]
fn extending_appends_tokens_and_changes_no_others() {
    for (name, language) in [
        ("wordpiece", "turkish"),
        ("byte-pairs", "turkish"),
        ("unigram", "turkish"),
    ] {
        let old = Tokenizer::open(&golden(name)).unwrap();
        let more = old.vocabulary_len() + 60;
        let trainer = Trainer::extend(&golden(name), more, 2).unwrap();
        let counts = trainer.count(&texts(language)).unwrap();
        let extended = trainer.train(&counts, &mut |_| ()).unwrap();
        assert!(extended.vocabulary_len() > old.vocabulary_len(), "{name}");
        assert!(extended.vocabulary_len() <= more, "{name}");
        let again = trainer.train(&counts, &mut |_| ()).unwrap();
        assert_eq!(written(&extended), written(&again), "{name}");
        let new = open(&extended);
        for id in 0..old.vocabulary_len() as u32 {
            assert_eq!(new.token(id), old.token(id), "{name}");
        }
        assert_eq!(new.max_len(), old.max_len());
        assert_eq!(new.mask(), old.mask());
        let measure = |tokenizer: &Tokenizer| {
            let mut report = Report::default();
            report.add(tokenizer, &texts(language)).unwrap();
            report
        };
        let (before, after) = (measure(&old), measure(&new));
        assert!(
            after.tokens < before.tokens || after.unknown < before.unknown,
            "{name}"
        );
        assert_eq!(
            encode(&new, "[MASK]<mask>").ids,
            encode(&old, "[MASK]<mask>").ids
        );
    }
}

#[test]
fn extended_byte_pairs_take_old_texts_apart_as_before() {
    let old = Tokenizer::open(&golden("byte-pairs")).unwrap();
    let trainer = Trainer::extend(&golden("byte-pairs"), 420, 2).unwrap();
    let counts = trainer.count(&texts("japanese")).unwrap();
    let new = open(&trainer.train(&counts, &mut |_| ()).unwrap());
    for text in texts("english") {
        assert_eq!(encode(&new, &text), encode(&old, &text));
    }
    assert!(spelled(&new, "手紙").len() < spelled(&old, "手紙").len());
}

#[test]
fn tokens_beside_the_vocabulary_keep_their_ids_when_it_grows() {
    let folder = TempDir::new().unwrap();
    for name in ["wordpiece", "byte-pairs", "unigram"] {
        let mut files = files(&golden(name));
        let mut json: serde_json::Value = serde_json::from_str(&files["tokenizer.json"]).unwrap();
        let id = Tokenizer::open(&golden(name)).unwrap().vocabulary_len();
        let added = serde_json::json!({
            "id": id, "content": "[GENE]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        });
        json["added_tokens"].as_array_mut().unwrap().push(added);
        files.insert("tokenizer.json".into(), json.to_string());
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        let trainer = Trainer::extend(&path, id + 40, 2).unwrap();
        let counts = trainer.count(&texts("turkish")).unwrap();
        let new = open(&trainer.train(&counts, &mut |_| ()).unwrap());
        assert_eq!(new.id("[GENE]"), Some(id as u32), "{name}");
        assert!(new.vocabulary_len() > id + 1, "{name}");
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    let message = |settings: Settings, texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        train(&settings, &texts).unwrap_err().to_string()
    };
    for model in MODELS {
        let found = message(settings(model, 300), &[]);
        assert!(
            found.contains("expected words to learn from, found none in 0 texts"),
            "{found}"
        );
    }
    for model in [Model::WordPiece, Model::Unigram] {
        let found = message(settings(model, 300), &["", " \t "]);
        assert!(found.contains("found none in 2 texts"), "{found}");
        let found = message(settings(model, 9), &["abcdefgh abcdefgh"]);
        assert!(
            found.contains("expected a vocabulary of at least"),
            "{found}"
        );
        assert!(found.contains("5 of them special"), "{found}");
    }
    let found = message(settings(Model::BytePairs, 260), &["abc"]);
    assert!(
        found.contains("at least 261 tokens, 5 of them special and 256 single characters"),
        "{found}"
    );
    let twice = Settings {
        specials: vec!["[UNK]".into()],
        ..Settings::default()
    };
    assert!(message(twice, &["a"]).contains("\"[UNK]\" is there twice"));
    let limited = Settings {
        alphabet_len: Some(3),
        ..settings(Model::BytePairs, 300)
    };
    assert!(message(limited, &["a"]).contains("leave one of them out"));
    let found = Trainer::extend(&golden("wordpiece"), 10, 2)
        .unwrap_err()
        .to_string();
    assert!(
        found.contains("expected a larger vocabulary than the 130 ids it has, found 10"),
        "{found}"
    );
    let taken = train(&settings(Model::WordPiece, 100), &texts("english")).unwrap();
    let found = taken.write(&golden("wordpiece")).unwrap_err().to_string();
    assert!(found.contains("does not exist yet"), "{found}");
}

#[test]
fn whole_words_are_symbols_however_they_are_spelled() {
    let text = "( [MIN 3 ( [MAX 9 ] [SEP] [MASK] once";
    let texts = [text, text, "( [MIN 3 twice"].map(str::to_owned);
    let trained = train(&settings(Model::WordLevel, 100), &texts).unwrap();
    // The five special ones, then words by how often they stand there; one seen once is not known.
    let tokenizer = open(&trained);
    let all: Vec<String> = (0..trained.vocabulary_len() as u32)
        .map(|id| tokenizer.token(id).unwrap())
        .collect();
    assert_eq!(
        all[5..],
        ["(", "3", "[MIN", "9", "[MAX", "]", "once"],
        "{all:?}"
    );
    assert_eq!(
        spelled(&tokenizer, "( [MIN 9 3 ] ) twice"),
        ["(", "[MIN", "9", "3", "]", "[UNK]", "[UNK]"]
    );
    let few = train(&settings(Model::WordLevel, 7), &texts).unwrap();
    assert_eq!(few.vocabulary_len(), 7);
    let spelling = Settings {
        alphabet_len: Some(3),
        ..settings(Model::WordLevel, 300)
    };
    let found = train(&spelling, &texts).unwrap_err().to_string();
    assert!(found.contains("leave one of them out"), "{found}");
}

#[test]
fn a_limited_alphabet_knows_the_most_frequent_characters() {
    for model in [Model::WordPiece, Model::Unigram] {
        let settings = Settings {
            alphabet_len: Some(2),
            ..settings(model, 20)
        };
        let tokenizer = open(&train(&settings, &["ab ab abc b".into(), "ab".into()]).unwrap());
        let unknown = tokenizer.unknown().unwrap();
        assert!(
            !encode(&tokenizer, "ab b").ids.contains(&unknown),
            "{model:?}"
        );
        assert!(encode(&tokenizer, "c").ids.contains(&unknown), "{model:?}");
    }
}

#[test]
fn reports_count_words_tokens_and_what_is_unknown() {
    let settings = Settings {
        alphabet_len: Some(2),
        ..settings(Model::WordPiece, 11)
    };
    // Pieces are a, b, ##a, ##b, and the one merge there is room for.
    let tokenizer = open(&train(&settings, &["ab ab ab ba".into()]).unwrap());
    let mut report = Report::default();
    report.add(&tokenizer, &["ab «ba», abba c", ""]).unwrap();
    assert_eq!((report.texts, report.words, report.chars), (2, 4, 15));
    // ab; «, ba, », and the comma; ab ##b ##a; c.
    assert_eq!(spelled(&tokenizer, "«ba»,").len(), 5);
    assert_eq!(report.tokens, 1 + 5 + 3 + 1);
    assert_eq!(report.unknown, 4);
    // Tokens of words: 1, 2, 3 and an unknown one.
    let shares = [report.fertility(), report.whole(), report.longer_than(11)];
    assert_eq!(
        shares.map(|share| share.to_string()),
        ["1.75", "0.25", "0.5"]
    );
    assert_eq!(report.percentile(100), 12);
    assert_eq!(report.percentile(50), 2);
    assert_eq!(
        report.longest().collect::<Vec<_>>(),
        [("abba", 3), ("ba", 2)]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn byte_pairs_spell_every_text(text in "\\PC{0,40}|(?s:.{0,20})|[a-zé ç\n\t]{0,40}") {
        prop_assume!(!["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[DRUG]"].iter().any(|token| text.contains(token)));
        let tokenizer = Tokenizer::open(&golden("byte-pairs")).unwrap();
        let ids = encode(&tokenizer, &text).ids;
        prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_len()));
        prop_assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }

    #[test]
    fn whatever_the_texts_are_training_ends_and_ids_are_in_the_vocabulary(
        texts in proptest::collection::vec("\\PC{0,30}|[ab ]{0,30}|(?s:.{0,10})", 0..8),
        vocabulary_len in 0..320_usize,
        model in proptest::sample::select(&MODELS),
        language in proptest::sample::select(&[
            None, Some(Language::Turkish), Some(Language::Serbian), Some(Language::Japanese),
            Some(Language::Arabic(Unify { alef: true, ya: true, ta_marbuta: true })),
        ]),
        lowercase in any::<bool>(),
    ) {
        let settings = Settings { language, lowercase, min_frequency: 1, ..settings(model, vocabulary_len) };
        let Ok(trained) = train(&settings, &texts) else { return Ok(()) };
        prop_assert!(trained.vocabulary_len() <= vocabulary_len);
        let tokenizer = open(&trained);
        for text in &texts {
            let ids = encode(&tokenizer, text).ids;
            prop_assert!(ids.iter().all(|&id| (id as usize) < trained.vocabulary_len()));
        }
    }

    #[test]
    fn damaged_tokenizers_are_extended_or_refused(
        name in proptest::sample::select(&["wordpiece", "byte-pairs", "unigram"]),
        place in 0.0..1.0_f64,
        len in 0..6_usize,
        new in "[0-9a-z\"\\[\\]{},:]{0,4}",
    ) {
        let folder = TempDir::new().unwrap();
        let mut json = fs::read(golden(name).join("tokenizer.json")).unwrap();
        let place = (json.len() as f64 * place) as usize;
        let end = (place + len).min(json.len());
        json.splice(place..end, new.bytes());
        fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        if let Ok(trainer) = Trainer::extend(folder.path(), 400, 1) {
            let counts = trainer.count(&texts("turkish")).unwrap_or_default();
            let _ = trainer.train(&counts, &mut |_| ());
        }
    }

    #[test]
    fn counts_do_not_depend_on_how_texts_are_shared_out(
        texts in proptest::collection::vec("[ab \\.]{0,12}", 0..200),
        cut in 0..200_usize,
    ) {
        let trainer = Trainer::new(Settings::default()).unwrap();
        let whole = trainer.count(&texts).unwrap();
        let (first, second) = texts.split_at(cut.min(texts.len()));
        let mut parts = Counts::default();
        parts.add(trainer.count(second).unwrap(), 1);
        parts.add(trainer.count(first).unwrap(), 1);
        prop_assert_eq!(parts, whole);
    }
}
