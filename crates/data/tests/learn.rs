//! From files of texts to examples: corpora mixed, parts held out.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use cloze_data::text::Tokenizer;
use cloze_data::text::examples::TextPlan;
use cloze_data::text::learn::{Ask, TextData};
use cloze_data::text::store::Place;
use cloze_data::text::train::{Settings, Trainer};
use cloze_spec::batch::Batch;
use cloze_spec::text::{Corpus, Mix, Objective, Texts};
use serde_json::json;
use tempfile::TempDir;

const LIMITS: Batch = Batch {
    max_tokens: 512,
    max_sequences: None,
};

/// A tokenizer that knows numbers.
fn tokenizer(folder: &Path) -> Tokenizer {
    let trainer = Trainer::new(Settings {
        vocabulary_len: 80,
        ..Settings::default()
    });
    let trainer = trainer.unwrap();
    let texts: Vec<String> = (0..400).map(|number| format!("text {number}")).collect();
    let counts = trainer.count(&texts).unwrap();
    let trained = trainer.train(&counts, &mut |_| ()).unwrap();
    trained.write(&folder.join("tokenizer")).unwrap();
    Tokenizer::open(&folder.join("tokenizer")).unwrap()
}

fn masked() -> Objective {
    let replace = json!({ "kind": "always" });
    let masked = json!({ "kind": "masked-token", "mask_prob": 0.15, "replace": replace });
    serde_json::from_value(masked).unwrap()
}

fn texts() -> Texts {
    serde_json::from_value(json!({ "kind": "text" })).unwrap()
}

fn prepare(
    folder: &Path,
    texts: &Texts,
    objective: &Objective,
    tokenizer: &Tokenizer,
) -> Result<TextData, cloze_data::Error> {
    TextData::prepare(&Ask {
        texts,
        objective,
        tokenizer,
        max_len: 32,
        seed: 5,
        place: Place {
            folder,
            tokenizer: &[folder.join("tokenizer/tokenizer.json")],
        },
    })
}

#[test]
fn a_corpus_of_long_texts_is_judged_by_all_their_windows() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let tokenizer = tokenizer(folder);
    let line = |number: u32| format!("{}\n", format!("text {number} ").repeat(30));
    let corpus = |name: &str, numbers: std::ops::Range<u32>| {
        let file = folder.join(name).with_extension("txt");
        fs::write(&file, numbers.map(line).collect::<String>()).unwrap();
        Corpus {
            name: name.to_owned(),
            files: vec![file],
            validation: Vec::new(),
            columns: None,
            weight: None,
        }
    };
    let texts = Texts {
        corpus: vec![corpus("large", 0..60), corpus("small", 60..80)],
        ..texts()
    };
    let position = json!({ "kind": "position", "hidden_share": 0.5 });
    for objective in [masked(), serde_json::from_value(position).unwrap()] {
        let data = prepare(folder, &texts, &objective, &tokenizer).unwrap();
        let [large, small] = &data.corpora[..] else {
            panic!("{:?}", data.corpora);
        };
        assert!(data.validation.len() > 16, "8 texts of several windows");
        assert_eq!(large.validation.start, 0);
        assert_eq!(large.validation.end, small.validation.start);
        assert_eq!(small.validation.end, data.validation.len());
    }
}

#[test]
fn a_small_corpus_is_taken_often_with_other_blanks_and_nothing_held_out_ever() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let tokenizer = tokenizer(folder);
    let lines = |numbers: std::ops::Range<u32>| {
        numbers.fold(String::new(), |mut all, number| {
            writeln!(all, "text {number} and {} more {number}", number * 7).unwrap();
            all
        })
    };
    fs::write(folder.join("large.txt"), lines(0..300)).unwrap();
    fs::write(folder.join("small.txt"), lines(300..340)).unwrap();
    let corpus = |name: &str| Corpus {
        name: name.to_owned(),
        files: vec![folder.join(name).with_extension("txt")],
        validation: Vec::new(),
        columns: None,
        weight: None,
    };
    let texts = Texts {
        corpus: vec![corpus("large"), corpus("small")],
        mix: Mix::Balanced,
        ..texts()
    };
    let data = prepare(folder, &texts, &masked(), &tokenizer).unwrap();
    let [large, small] = &data.corpora[..] else {
        panic!("{:?}", data.corpora);
    };
    assert_eq!(
        (large.train.clone(), small.train.clone()),
        (0..270, 270..306)
    );
    assert_eq!(
        (large.validation.clone(), small.validation.clone()),
        (0..30, 30..34)
    );
    assert_eq!(
        data.mixture.as_ref().unwrap().counts().collect::<Vec<_>>(),
        [270, 270]
    );
    let plan = |examples, mixture, epoch| {
        TextPlan::shuffled(
            examples,
            data.blanks.as_ref(),
            mixture,
            LIMITS,
            None,
            (5, epoch),
        )
    };
    // Each text as it is hidden, by the text that it was.
    let epoch = |epoch| {
        let plan = plan(&data.train, data.mixture.as_ref(), epoch);
        let batches = (0..plan.len()).map(|at| plan.build(at));
        let mut all = Vec::new();
        for batch in batches {
            let cloze_data::text::batch::Wanted::Tokens(hidden) = &batch.wanted else {
                panic!("tokens are hidden");
            };
            let mut whole = batch.tokens.clone();
            for (&row, &token) in batch.rows.iter().flatten().zip(hidden) {
                whole[row as usize] = token;
            }
            for ends in batch.offsets.windows(2) {
                let range = ends[0] as usize..ends[1] as usize;
                all.push((whole[range.clone()].to_vec(), batch.tokens[range].to_vec()));
            }
        }
        all
    };
    let first = epoch(0);
    assert_eq!(first.len(), 540);
    assert_eq!(first, epoch(0));
    assert_ne!(first, epoch(1));
    let distinct: BTreeSet<_> = first.iter().map(|(whole, _)| whole).collect();
    assert_eq!(distinct.len(), 306, "every text is taken");
    let hidden: BTreeSet<_> = first.iter().map(|(_, hidden)| hidden).collect();
    // Two of a text's about twelve tokens: some of seven or eight times must meet.
    assert!(hidden.len() > 480, "{} differ", hidden.len());
    let held = plan(&data.validation, None, 0);
    let held = (0..held.len()).map(|at| held.build(at));
    for batch in held {
        let mut whole = batch.tokens.clone();
        let cloze_data::text::batch::Wanted::Tokens(tokens) = &batch.wanted else {
            panic!("tokens are hidden");
        };
        for (&row, &token) in batch.rows.iter().flatten().zip(tokens) {
            whole[row as usize] = token;
        }
        for ends in batch.offsets.windows(2) {
            let text = whole[ends[0] as usize..ends[1] as usize].to_vec();
            assert!(
                !distinct.contains(&text),
                "a text that is held out is learned from"
            );
        }
    }
}

#[test]
fn texts_in_a_file_make_the_same_batches_as_texts_in_memory() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let tokenizer = tokenizer(folder);
    let mut lines = String::new();
    for number in 0..10_000 {
        // Blank lines, texts of several windows, and texts of different lengths.
        let times = if number % 11 == 0 { 40 } else { number % 5 };
        writeln!(lines, "{}", format!("text {number} ").repeat(times)).unwrap();
    }
    fs::write(folder.join("lines.txt"), &lines).unwrap();
    let table: String = lines
        .lines()
        .take(300)
        .fold("body\n".to_owned(), |table, line| table + line + "\n");
    fs::write(folder.join("table.csv"), table).unwrap();
    let corpus = |name: &str, column: &str| {
        let columns = json!({ "text": column });
        let corpus = json!({ "name": name, "files": [folder.join(name)], "columns": columns });
        serde_json::from_value(corpus).unwrap()
    };
    let lines = || Texts {
        files: vec![folder.join("lines.txt")],
        ..texts()
    };
    for (at, texts) in [
        lines(),
        Texts {
            documents: cloze_spec::text::Documents::Paragraphs,
            ..lines()
        },
        Texts {
            validation: vec![folder.join("lines.txt")],
            ..lines()
        },
        Texts {
            corpus: vec![corpus("lines.txt", "text"), corpus("table.csv", "body")],
            mix: Mix::Balanced,
            ..texts()
        },
    ]
    .into_iter()
    .enumerate()
    {
        let held = prepare(folder, &texts, &masked(), &tokenizer).unwrap();
        let stored = Texts {
            stored: true,
            ..texts
        };
        let written = prepare(folder, &stored, &masked(), &tokenizer).unwrap();
        let changed = |name: &str| fs::metadata(folder.join(name)).unwrap().modified().unwrap();
        let before = changed("tokens.train");
        let again = prepare(folder, &stored, &masked(), &tokenizer).unwrap();
        assert_eq!(changed("tokens.train"), before, "tokens are written once");
        let batches = |data: &TextData| {
            let (blanks, limits) = (data.blanks.as_ref(), LIMITS);
            let mixture = data.mixture.as_ref();
            [
                TextPlan::shuffled(&data.train, blanks, mixture, limits, None, (5, 3)),
                TextPlan::in_order(&data.validation, blanks, limits),
            ]
            .map(|plan| (0..plan.len()).map(|at| plan.build(at)).collect::<Vec<_>>())
        };
        for other in [&written, &again] {
            assert_eq!(other.fingerprint, held.fingerprint, "{at}");
            assert_eq!(other.corpora, held.corpora, "{at}");
            assert_eq!(other.mixture, held.mixture, "{at}");
            assert_eq!(other.train.tokens(), held.train.tokens(), "{at}");
            assert!(other.train.own_tokens().eq(held.train.own_tokens()), "{at}");
            assert!(batches(other) == batches(&held), "{at}");
        }
    }
    let stored = Texts {
        stored: true,
        ..lines()
    };
    prepare(folder, &stored, &masked(), &tokenizer).unwrap();
    fs::write(folder.join("tokens.train"), [255; 8]).unwrap();
    let damaged = prepare(folder, &stored, &masked(), &tokenizer);
    let damaged = damaged.unwrap_err().to_string();
    assert!(
        damaged.ends_with("tokens.train: expected tokens as they were written, found less or more; remove the file, and it is made anew"),
        "{damaged}"
    );
    // Files that changed are read anew.
    fs::write(folder.join("lines.txt"), "text 1\ntext 2\ntext 3\n").unwrap();
    let data = prepare(folder, &stored, &masked(), &tokenizer).unwrap();
    assert_eq!(data.train.len(), 2);
}
